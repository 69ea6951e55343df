"""The same cells as every kind of source."""

from __future__ import annotations

__all__ = ["KINDS", "made_source"]


def made_source(kind, cells, out):
    """Return what to open, made in the folder *out* from the folder *cells*."""
    return KINDS[kind](cells, out)


def folder(cells, _out):
    """The folder itself."""
    return cells


def images(cells, _out):
    """Each image of one folder by name."""
    return sorted((cells / "second").iterdir())


def several(cells, _out):
    """Two folders."""
    return [cells / "first", cells / "second"]


KINDS = {"folder": folder, "images": images, "several": several}
