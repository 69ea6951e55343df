"""Pictures of cells, whole or small, made from the bytes that were screened."""

from __future__ import annotations

import base64
import io
import os
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from functools import partial
from typing import TYPE_CHECKING

import xxhash
from PIL import Image

from engines.cells import CellRef
from engines.decode.base import DecodeError
from engines.decode.pillow import PillowEncoded
from engines.errors import SourceError
from engines.hardware.machine import usable_cores
from engines.sources import AS_IT_IS, SourceOptions, open_source
from engines.sources.names import unescaped
from screen.report.content.evidence_maps import overlay_box

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    import numpy as np
    from numpy.typing import NDArray

    from engines.locations import Location
    from engines.sources import Source
    from screen.report.content.columns import Fields
    from screen.report.content.galleries import Cell

__all__ = [
    "LARGEST",
    "MOST_BYTES",
    "Picture",
    "PictureCounts",
    "find_source",
    "pictures",
]

QUALITY, SMALL_QUALITY = 85, 76
EFFORT = 2  # of WebP's 0 to 6: 4 takes twice the time and saves 3%
EDGES = ((1_200, 192), (10**9, 128))  # up to so many cells: so many pixels wide
LARGEST = 1_024  # pixels: a larger crop is reduced even where pictures are whole
MOST_BYTES = 14_500_000  # of the page
LEAST_WHOLE = 1 / 4  # of the room goes to whole pictures in any case
SPARE = 1.3  # small pictures may be so much larger than the first of them
CHUNK = 64  # cells between two looks at what room is left
AROUND_A_PICTURE = 110  # bytes: its place and shape


@dataclass(frozen=True, slots=True)
class Picture:
    """
    A cell's picture, or why there is none.

    Attributes:
        uri: A ``data:`` address; empty if there is none.
        problem: ``gone``, ``changed``, ``undecodable`` or ``left_out``; empty if there is a
            picture.
        box: Where the evidence map lies on the picture, as (left, top, width, height) in parts
            of the picture's sides; None without one.
        size: Width and height of the crop in pixels, the right way up.
        whole: Whether the picture has as many pixels as the crop.
    """

    uri: str = ""
    problem: str = ""
    box: tuple[float, float, float, float] | None = None
    size: tuple[int, int] = (1, 1)
    whole: bool = False


@dataclass(frozen=True, slots=True)
class PictureCounts:
    """
    How the pictures went.

    Attributes:
        wanted: Cells that were to have one.
        gone: Files that are not there any more; all of them if the folder is gone.
        changed: Files that are not those that were screened.
        undecodable: Files that do not decode here.
        left_out: Pictures left out to keep the file small.
        whole: Pictures at the crop's own resolution.
        folder_gone: Whether the whole source is gone.
    """

    wanted: int
    gone: int = 0
    changed: int = 0
    undecodable: int = 0
    left_out: int = 0
    whole: int = 0
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


def pictures(source: Source, cells: Sequence[Cell], fields: Fields, room: int) -> Iterator[Picture]:
    """
    Yield a picture of each cell, in order, of *room* bytes in all.

    The first are whole: they have the crop's own resolution, up to ``LARGEST`` pixels a side. They
    are whole for as long as all cells after them still get a small picture, or the whole ones take
    no more than a quarter of the room. The others are small, for as long as there is room at all.
    """
    room -= AROUND_A_PICTURE * len(cells)
    edge = next(edge for most, edge in EDGES if len(cells) <= most)
    small = partial(_picture, source, fields, edge)
    with ThreadPoolExecutor(usable_cores()) as pool:
        tried = [len(each.uri) for each in pool.map(small, cells[:CHUNK])]
        allowance = _Allowance(room, len(cells), SPARE * sum(tried) / max(1, len(tried)))
        for start in range(0, len(cells), CHUNK):
            chunk = cells[start : start + CHUNK]
            large = allowance.whole
            make = partial(_picture, source, fields, LARGEST) if large else small
            for cell, picture in zip(chunk, pool.map(make, chunk), strict=True):
                keep = not large or allowance.takes_whole(picture)
                yield allowance.spent(picture if keep else small(cell))


@dataclass(slots=True)
class _Allowance:
    """
    What is left for pictures.

    Attributes:
        room: Bytes that are left.
        cells: How many cells are still to come.
        typical: Bytes of a small picture.
        whole: Whether pictures are still whole.
    """

    room: float
    cells: int
    typical: float
    whole: bool = True
    _first: float = field(init=False)

    def __post_init__(self) -> None:
        """Set aside what whole pictures may take in any case."""
        self._first = self.room * LEAST_WHOLE

    def takes_whole(self, picture: Picture) -> bool:
        """Say whether a picture may stay whole; after the first that may not, none may."""
        size = len(picture.uri)
        others = (self.cells - 1) * self.typical
        self.whole &= self.room - size >= others or size <= self._first
        self._first -= size
        return self.whole

    def spent(self, picture: Picture) -> Picture:
        """Count a picture, or leave it out."""
        self.cells -= 1
        if len(picture.uri) > self.room:
            return Picture(problem="left_out")
        self.room -= len(picture.uri)
        return picture


def _picture(source: Source, fields: Fields, edge: int, cell: Cell) -> Picture:
    """Read, compare and decode one cell, and make it at most *edge* pixels wide and high."""
    try:
        data = source.read(CellRef(cell.values["path"], "", cell.values.get("locator", "")))
    except OSError:
        return Picture(problem="gone")
    if xxhash.xxh3_128_hexdigest(data) != cell.values["content_hash"]:
        return Picture(problem="changed")
    try:
        pixels, _ = PillowEncoded(data).decode()
    except DecodeError:
        return Picture(problem="undecodable")
    height, width = pixels.shape[:2]
    grid = fields.evidence
    box = None if grid is None else overlay_box(height, width, fields.input, grid)
    whole = max(height, width) <= edge
    return Picture(uri=_uri(pixels, edge), box=box, size=(width, height), whole=whole)


def _uri(pixels: NDArray[np.uint8], edge: int) -> str:
    """Shrink and encode."""
    image = Image.fromarray(pixels)
    image.thumbnail((edge, edge), Image.Resampling.BICUBIC)
    file = io.BytesIO()
    quality = QUALITY if edge == LARGEST else SMALL_QUALITY
    image.save(file, "WEBP", quality=quality, method=EFFORT)
    return "data:image/webp;base64," + base64.b64encode(file.getvalue()).decode("ascii")
