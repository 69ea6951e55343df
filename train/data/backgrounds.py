"""
What lies behind cells: pieces of smears, for training with cells that were cut out of theirs.

C-NMC's cells are segmented: black all around. A network that only ever sees that may lean on the
mask's edge, and knows nothing of the red cells and the glass that other centres leave in.
"""

from __future__ import annotations

import os
from hashlib import sha256
from typing import TYPE_CHECKING

import numpy as np
import torch
from PIL import Image

from engines.errors import SourceError
from engines.sources.names import is_image_name

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from numpy.typing import NDArray
    from torch import Tensor

__all__ = ["backgrounds_digest", "none", "open_backgrounds"]

PER_FIELD = 2  # pieces kept of a field
TRIES = 24
NUCLEUS = 40  # how much more blue than green: nuclei and platelets 60 to 120, red cells about 0
FREE = 0.004  # share of a piece that may be so


def none() -> Tensor:
    """Return no backgrounds, ``(0, 1, 1, 3)``."""
    return torch.zeros(0, 1, 1, 3, dtype=torch.uint8)


def open_backgrounds(folder: Path, native: int, stored: int) -> Tensor:
    """
    Cut pieces without nuclei, half a crop wide, out of the smear fields in *folder*.

    Args:
        folder: Images (PNG, JPEG, TIFF, BMP) at the crops' own magnification.
        native: Side of the crops' files, in pixels.
        stored: Side that training stores crops at.

    Returns:
        ``(M, T, T, 3)`` uint8, T half of *stored*. The same files give the same pieces.

    Raises:
        SourceError: If no image gives one.
    """
    rng, side = np.random.default_rng(0), native // 2
    pieces = [
        np.asarray(piece.resize((stored // 2, stored // 2), Image.Resampling.BICUBIC))
        for file in _fields(folder)
        for piece in _pieces(file, side, rng)
    ]
    if not pieces:
        raise SourceError(
            f"{folder} has no field with {side} x {side} pixels free of nuclei",
            hint="give a folder of smear fields, at the magnification of the crops",
        )
    return torch.from_numpy(np.stack(pieces))


def backgrounds_digest(folder: Path | None) -> str:
    """Hash names and contents of the fields; empty for None."""
    if folder is None:
        return ""
    digest = sha256()
    for file in _fields(folder):
        digest.update(os.fsencode(file.name) + b"\0" + sha256(file.read_bytes()).digest())
    return digest.hexdigest()[:16]


def _fields(folder: Path) -> list[Path]:
    """List the images of *folder*, in order of their names."""
    return sorted(
        file
        for file in folder.iterdir()
        if is_image_name(os.fsencode(file.name)) and file.is_file()
    )


def _pieces(file: Path, side: int, rng: np.random.Generator) -> Iterator[Image.Image]:
    """Cut up to ``PER_FIELD`` places free of nuclei out of a field."""
    try:
        with Image.open(file) as opened:
            field = opened.convert("RGB")
    except (OSError, Image.DecompressionBombError) as error:
        raise SourceError(f"cannot read the field {file}: {error}", hint="remove it") from error
    pixels = np.asarray(field, np.int16)
    dyed = pixels[:, :, 2] - pixels[:, :, 1] > NUCLEUS
    found = 0
    for _ in range(TRIES):
        if found == PER_FIELD or min(field.size) < side:
            return
        left, top = (int(rng.integers(0, length - side + 1)) for length in field.size)
        if _share(dyed, left, top, side) <= FREE:
            found += 1
            yield field.crop((left, top, left + side, top + side))


def _share(marked: NDArray[np.bool_], left: int, top: int, side: int) -> float:
    """Return how much of a square is marked."""
    return float(marked[top : top + side, left : left + side].mean())
