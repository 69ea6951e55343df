"""Small pictures of cells, made from the bytes that were screened, and the evidence over them."""

from __future__ import annotations

import base64
import io
import os
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
import xxhash
from PIL import Image

from engines.cells import CellRef
from engines.decode.base import DecodeError
from engines.decode.geometry import placement
from engines.decode.pillow import PillowEncoded
from engines.errors import SourceError
from engines.hardware.machine import usable_cores
from engines.sources import AS_IT_IS, SourceOptions, open_source
from engines.sources.names import unescaped

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Sequence

    from numpy.typing import NDArray

    from engines.locations import Location
    from engines.models.input import ModelInput
    from engines.sources import Source
    from screen.report.content.columns import EvidenceGrid, Fields
    from screen.report.content.galleries import Cell

__all__ = [
    "PictureCounts",
    "Thumbnail",
    "evidence_scale",
    "find_source",
    "overlay_box",
    "packed_evidence",
    "thumbnails",
]

QUALITY = 76
EFFORT = 2  # of WebP's 0 to 6: 4 takes twice the time and saves 3%
EDGES = ((1_200, 192), (10**9, 128))  # up to so many cells: so many pixels wide
LEVELS = 127
BRIGHTEST = 0.995  # a single outlier must not leave the other maps pale


@dataclass(frozen=True, slots=True)
class Thumbnail:
    """
    A cell's picture, or why there is none.

    Attributes:
        uri: A ``data:`` address; empty if there is none.
        problem: ``gone``, ``changed`` or ``undecodable``; empty if there is a picture.
        box: Where the evidence map lies on the picture, as (left, top, width, height) in parts
            of the picture's sides; None without one.
        aspect: Width by height.
    """

    uri: str = ""
    problem: str = ""
    box: tuple[float, float, float, float] | None = None
    aspect: float = 1.0


@dataclass(frozen=True, slots=True)
class PictureCounts:
    """
    How the thumbnails went.

    Attributes:
        wanted: Cells that were to have one.
        gone: Files that are not there any more; all of them if the folder is gone.
        changed: Files that are not those that were screened.
        undecodable: Files that do not decode here.
        left_out: Pictures left out to keep the file small.
        folder_gone: Whether the whole source is gone.
    """

    wanted: int
    gone: int = 0
    changed: int = 0
    undecodable: int = 0
    left_out: int = 0
    folder_gone: bool = False

    @property
    def drawn(self) -> int:
        """How many there are."""
        return self.wanted - self.gone - self.changed - self.undecodable - self.left_out


def find_source(
    locations: Sequence[str], elsewhere: Location | None = None, options: SourceOptions = AS_IT_IS
) -> Source | None:
    """
    Open what was screened, or the folder it was moved to; None if it is gone.

    Raises:
        SourceError: If *elsewhere* is not there.
    """
    if elsewhere is not None:
        return open_source(elsewhere, options)
    try:
        return open_source([os.fsdecode(unescaped(each)) for each in locations], options)
    except (SourceError, OSError):
        return None


def thumbnails(source: Source, cells: Sequence[Cell], fields: Fields) -> Iterator[Thumbnail]:
    """Yield a thumbnail of each cell, in order."""
    edge = next(edge for most, edge in EDGES if len(cells) <= most)
    with ThreadPoolExecutor(usable_cores()) as pool:
        yield from pool.map(lambda cell: _thumbnail(source, cell, edge, fields), cells)


def _thumbnail(source: Source, cell: Cell, edge: int, fields: Fields) -> Thumbnail:
    """Read, compare, decode and shrink one cell."""
    try:
        data = source.read(CellRef(cell.values["path"], "", cell.values.get("locator", "")))
    except OSError:
        return Thumbnail(problem="gone")
    if xxhash.xxh3_128_hexdigest(data) != cell.values["content_hash"]:
        return Thumbnail(problem="changed")
    try:
        pixels, _ = PillowEncoded(data).decode()
    except DecodeError:
        return Thumbnail(problem="undecodable")
    height, width = pixels.shape[:2]
    grid = fields.evidence
    box = None if grid is None else overlay_box(height, width, fields.input, grid)
    return Thumbnail(uri=_uri(pixels, edge), box=box, aspect=width / height)


def overlay_box(
    height: int, width: int, expected: ModelInput, grid: EvidenceGrid
) -> tuple[float, float, float, float]:
    """
    Return where an evidence map lies on a crop, in parts of the crop's width and height.

    Args:
        height: Of the crop, in pixels, as it was decoded.
        width: Likewise.
        expected: How it became the model's input: as a whole, its middle, or with black around it.
        grid: The map's places, which may reach beyond the input, and so beyond the crop.

    Returns:
        Left, top, width, height.
    """
    place = placement(height, width, expected)
    across = place.window.width / place.width  # pixels of the crop to a pixel of the input
    down = place.window.height / place.height
    left, top, wide, high = grid.rectangle
    return (
        (place.window.left + (left - place.left) * across) / width,
        (place.window.top + (top - place.top) * down) / height,
        wide * across / width,
        high * down / height,
    )


def _uri(pixels: NDArray[np.uint8], edge: int) -> str:
    """Shrink and encode."""
    image = Image.fromarray(pixels)
    image.thumbnail((edge, edge), Image.Resampling.BICUBIC)
    file = io.BytesIO()
    image.save(file, "WEBP", quality=QUALITY, method=EFFORT)
    return "data:image/webp;base64," + base64.b64encode(file.getvalue()).decode("ascii")


def evidence_scale(maps: Iterable[NDArray[np.float32] | None]) -> float | None:
    """Return the evidence that gets the full colour: the 99.5th percentile of its size."""
    sizes = [np.abs(each[np.isfinite(each)]) for each in maps if each is not None]
    if not sizes or not sum(map(len, sizes)):
        return None
    return float(np.quantile(np.concatenate(sizes), BRIGHTEST)) or None


def packed_evidence(evidence: NDArray[np.float32], scale: float) -> str:
    """Return a map as base64 of int8, row by row; 127 is *scale* or more."""
    levels = np.nan_to_num(evidence.astype(np.float64) / scale) * LEVELS
    whole = np.rint(levels).clip(-LEVELS, LEVELS).astype(np.int8)
    return base64.b64encode(whole.tobytes()).decode("ascii")
