"""Labelled cells: which there are, how they are split and decoded."""
