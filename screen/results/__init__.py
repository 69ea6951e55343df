"""The results folder: its files, tables and columns."""
