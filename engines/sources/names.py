"""Names of cells: which files are images, bytes as Unicode and back, and how they are shown."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Mapping

__all__ = [
    "CNMC_NAME",
    "EXTENSIONS",
    "class_words",
    "counted",
    "escaped",
    "is_image_name",
    "printable",
    "unescaped",
]

EXTENSIONS = frozenset(b"bmp dib jpg jpeg jpe png tif tiff webp jp2 j2k pgm ppm".split())
CNMC_NAME = re.compile(r"UID_(?P<subject>[^_]+)_\d+_\d+_(?P<label>[A-Za-z]+)", re.ASCII)
"""C-NMC's ``UID_<subject>_<image>_<cell>_<label>``, without the extension."""
ESCAPE = re.compile(rb"\\(\\|x[0-9a-f]{2})")


def is_image_name(name: bytes) -> bool:
    """Whether a file's name, without its folders, has an image extension and is not hidden."""
    stem, _, extension = name.rpartition(b".")
    return bool(stem) and not stem.startswith(b".") and extension.lower() in EXTENSIONS


def escaped(name: bytes) -> str:
    r"""Turn any bytes into valid Unicode, reversibly: ``\\xNN`` for a byte that is not UTF-8."""
    return name.replace(b"\\", b"\\\\").decode("utf-8", "backslashreplace")


def unescaped(name: str) -> bytes:
    """Undo ``escaped``."""
    return ESCAPE.sub(
        lambda match: b"\\" if match[1] == b"\\" else bytes([int(match[1][1:], 16)]), name.encode()
    )


def printable(text: str) -> str:
    """Show what a terminal would obey, or could not show, as an escape."""
    return "".join(
        char if char.isprintable() else char.encode("unicode_escape").decode() for char in text
    )


def counted(count: int, noun: str) -> str:
    """Write a count with its noun, which takes an s in the plural: 1 slide, 1,200 slides."""
    return f"{count:,} {noun}{'' if count == 1 else 's'}"


def class_words(name: str, display_names: Mapping[str, str]) -> str:
    """
    Return what people read for a class: its display name, or the bare name in quotes.

    Without quotes a class that is called ``all`` would read as English.
    """
    words = printable(display_names.get(name, name))
    return f"“{words}”" if words == name else words
