"""Labelled cells in, a model bundle out."""
