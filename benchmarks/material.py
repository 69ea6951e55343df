"""Cells to measure on: real ones, brought into other formats and multiplied by hard links."""

from __future__ import annotations

import argparse
import os
import shutil
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

from PIL import Image

if TYPE_CHECKING:
    from collections.abc import Sequence

__all__ = ["FORMATS", "REPOSITORY", "Format", "converted", "linked", "parser", "pictures", "spread"]

REPOSITORY = Path(__file__).resolve().parent.parent
CELLS = REPOSITORY.parent / "shared" / "cells"
FOLDER_CELLS = 1000


@dataclass(frozen=True, slots=True)
class Format:
    """A file format and how Pillow is to write it."""

    name: str
    suffix: str
    save: dict[str, Any] = field(default_factory=dict)


FORMATS = {
    "JPEG": Format("JPEG", ".jpg", {"quality": 95}),
    "JPEG progressive": Format("JPEG", ".jpg", {"quality": 95, "progressive": True}),
    "PNG": Format("PNG", ".png"),
    "BMP": Format("BMP", ".bmp"),
    "TIFF raw": Format("TIFF", ".tif"),
    "TIFF LZW": Format("TIFF", ".tif", {"compression": "tiff_lzw"}),
    "WebP lossless": Format("WEBP", ".webp", {"lossless": True}),
    "WebP lossy": Format("WEBP", ".webp", {"quality": 90}),
    "JPEG 2000": Format("JPEG2000", ".jp2"),
}


def parser(description: str | None) -> argparse.ArgumentParser:
    """Begin a benchmark's command line; its module's docstring is its help."""
    arguments = argparse.ArgumentParser(
        description=description, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    arguments.add_argument("--cells", type=Path, default=CELLS, help="folder of the real cells")
    arguments.add_argument(
        "--small", action="store_true", help="a short try-out; its numbers mean nothing"
    )
    return arguments


def pictures(cells: Path, name: str) -> list[Path]:
    """Return the crops of one size that come in a format: cnmc-jpeg, cnmc-bmp or cnmc-fold0."""
    paths = sorted((cells / name).rglob("UID_*"))
    if not paths:
        raise SystemExit(f"no cells in {cells / name}: name their folder with --cells")
    return paths


def spread(paths: Sequence[Path], count: int) -> list[Path]:
    """Pick *count* of them at even distances, or all where there are fewer."""
    count = min(count, len(paths))
    return [paths[index * len(paths) // count] for index in range(count)]


def converted(paths: Sequence[Path], folder: Path, form: Format) -> list[Path]:
    """Write the same pictures in another format into *folder*."""
    folder.mkdir(parents=True)
    made = []
    for path in paths:
        made.append(folder / f"{path.stem}{form.suffix}")
        with Image.open(path) as image:
            image.convert("RGB").save(made[-1], form.name, **form.save)
    return made


def linked(paths: Sequence[Path], folder: Path, count: int) -> Path:
    """
    Make *folder* a source of *count* cells, each a file of its own name.

    The pictures are copied beside it once, so that they lie on one disk and can be hard-linked.
    """
    originals = folder.with_name(f"{folder.name}-originals")
    originals.mkdir(parents=True)
    copies = [Path(shutil.copyfile(path, originals / path.name)) for path in paths]
    for index in range(count):
        copy = copies[index % len(copies)]
        home = folder / f"{index // FOLDER_CELLS:04d}"
        if index % FOLDER_CELLS == 0:
            home.mkdir(parents=True)
        os.link(copy, home / f"{copy.stem}_{index:07d}{copy.suffix}")
    return folder
