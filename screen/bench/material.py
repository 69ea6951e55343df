"""Cells to measure with: some of a source's, spread over it, or drawn ones."""

from __future__ import annotations

import time
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from engines.errors import SourceError
from engines.sources import open_source
from engines.sources.slide_rule import SlideRule
from screen.results.planning import plan_source

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence
    from pathlib import Path

    from engines.cells import CellRef
    from engines.locations import Location
    from engines.sources import Source

__all__ = ["Material", "copied_cells", "drawn_cells"]

SIDE = 450  # pixels: of a crop as in C-NMC 2019
CELL_RADIUS = (110, 190)  # pixels
ROUGH_SIDE = 30  # random values along a side, which are made smooth
QUALITY = 90  # of JPEG
IN_A_SHARD = 4096  # cells; of no weight here


@dataclass(frozen=True, slots=True)
class Material:
    """
    Cells in a folder of this machine.

    Attributes:
        cells: How many.
        size: Their bytes, in all.
        seconds: How long reading them from their source took; None if they were drawn.
    """

    cells: int
    size: int
    seconds: float | None


def copied_cells(places: Sequence[Location], count: int, folder: Path, threads: int) -> Material:
    """
    Copy up to *count* cells, spread evenly over a source, and see how long reading them takes.

    Cells that cannot be read are left out.

    Raises:
        SourceError: If none can be read.
    """
    source = open_source(places if len(places) > 1 else places[0])
    refs = next(plan_source(source, SlideRule(), IN_A_SHARD).spread(count)).refs
    start = time.perf_counter()
    with ThreadPoolExecutor(threads) as pool:
        found = [data for data in pool.map(lambda ref: _read(source, ref), refs) if data]
    seconds = time.perf_counter() - start
    if not found:
        raise SourceError(f"no cell of {source.location} can be read", hint="see to the source")
    return Material(len(found), _written(found, folder), seconds)


def drawn_cells(count: int, folder: Path) -> Material:
    """Draw *count* JPEG crops of about the size and the detail of stained cells on black."""
    import simplejpeg

    rng = np.random.default_rng(0)
    found = (simplejpeg.encode_jpeg(_drawn(rng), quality=QUALITY) for _ in range(count))
    return Material(count, _written(found, folder), None)


def _read(source: Source, ref: CellRef) -> bytes:
    """Read a cell; nothing if that fails."""
    try:
        return source.read(ref)
    except OSError:
        return b""


def _written(found: Iterable[bytes], folder: Path) -> int:
    """Write cells as files, whose content says what they are; return their bytes."""
    folder.mkdir(parents=True)
    return sum((folder / f"{n:06}.png").write_bytes(data) for n, data in enumerate(found))


def _drawn(rng: np.random.Generator) -> np.ndarray:
    """Draw one: a disc of smooth noise on black."""
    rough = rng.uniform(60, 220, (ROUGH_SIDE, ROUGH_SIDE, 3))
    step = SIDE // ROUGH_SIDE
    smooth = rough.repeat(step, axis=0).repeat(step, axis=1) + rng.normal(0, 6, (SIDE, SIDE, 3))
    rows, columns = (axis - SIDE / 2 for axis in np.ogrid[:SIDE, :SIDE])
    inside = np.hypot(rows, columns) < rng.integers(*CELL_RADIUS)
    return np.ascontiguousarray((smooth.clip(0, 255) * inside[..., None]).astype(np.uint8))
