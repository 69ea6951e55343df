"""Boxes on field images: a field is decoded once, and all of its boxes are cut out of it."""

from __future__ import annotations

import math
import threading
from collections import OrderedDict
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, TypeAlias

import xxhash

from engines.cells import CellRef, Fault, RefusedCellError
from engines.decode.checks import decoded_cell, opened_cell
from engines.decode.pillow import PillowEncoded
from engines.decode.regions import Region, region_file

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    import numpy as np
    from numpy.typing import NDArray

    from engines.cells import FaultStatus

    Key: TypeAlias = tuple[bytes, int, int]

__all__ = ["FieldCache", "box_words", "parsed_box"]

MOST_BYTES = 256_000_000  # of decoded fields kept in memory
SIDES = 4


def parsed_box(values: Sequence[str | None]) -> tuple[float, float, float, float] | None:
    """Return x, y, width and height in pixels; None if they are not four finite numbers."""
    try:
        numbers = [float(value or "nan") for value in values]
    except ValueError:
        return None
    if len(numbers) != SIDES or not all(map(math.isfinite, numbers)):
        return None
    return numbers[0], numbers[1], numbers[2], numbers[3]


def box_words(values: Sequence[str | None]) -> str:
    """Write a box as it stands in the path of a cell: ``x,y,width,height``."""
    box = parsed_box(values)
    if box is None:
        return ",".join(value or "" for value in values)
    return ",".join(str(int(side)) if side.is_integer() else str(side) for side in box)


@dataclass(slots=True)
class _Field:
    """A field image; decoded by the first who asks, the others wait."""

    lock: threading.Lock = field(default_factory=threading.Lock)
    digest: bytes = b""
    pixels: NDArray[np.uint8] | None = None
    fault: tuple[FaultStatus, str] | None = None

    @property
    def nbytes(self) -> int:
        """Bytes in memory."""
        return 0 if self.pixels is None else self.pixels.nbytes


class FieldCache:
    """
    The fields that boxes were cut out of lately, decoded; each process has its own.

    Safe for any number of threads.
    """

    def __init__(self, max_pixels: int) -> None:
        """Refuse fields of more than *max_pixels*."""
        self._max_pixels = max_pixels
        self._lock = threading.Lock()
        self._fields: OrderedDict[Key, _Field] = OrderedDict()

    def __reduce__(self) -> tuple[type, tuple[int]]:
        """Travel between processes, empty."""
        return type(self), (self._max_pixels,)

    def cut(self, key: Key, read: Callable[[], bytes], box: str, margin: int) -> bytes:
        """
        Cut a box out of a field, as an image file of its own.

        Args:
            key: Of the field's file: its name, size and time of last change.
            read: Returns the field's bytes.
            box: As ``box_words`` wrote it.
            margin: Pixels around it that are shown, too.

        Raises:
            OSError: If the field cannot be read.
            RefusedCellError: If it does not decode or is too large, or the box holds nothing.
        """
        found = self._field(key, read)
        identity = found.digest + f" {box} {margin}".encode()
        if found.fault is not None:
            status, reason = found.fault
            raise RefusedCellError(status, f"its field: {reason}", identity)
        assert found.pixels is not None
        sides = parsed_box(box.split(","))
        region = sides and Region.around(*sides, margin)
        if not region or not region.meets(*found.pixels.shape[:2]):
            raise RefusedCellError("undecodable", _nothing(box, region), identity)
        if region.width * region.height > self._max_pixels:
            size = f"{region.width} x {region.height}"
            raise RefusedCellError("oversized", f"a box of {size} pixels", identity)
        return region_file(found.pixels, region, identity)

    def _field(self, key: Key, read: Callable[[], bytes]) -> _Field:
        """Return a field, decoded; the oldest are let go of."""
        with self._lock:
            found = self._fields.setdefault(key, _Field())
            self._fields.move_to_end(key)
        with found.lock:
            if not found.digest:
                try:
                    self._decode(found, read())
                except RefusedCellError as refused:
                    found.fault = refused.status, str(refused.strerror)
                    found.digest = xxhash.xxh3_128_digest(refused.data)
        with self._lock:
            while len(self._fields) > 1 and self._nbytes() > MOST_BYTES:
                self._fields.popitem(last=False)
        return found

    def _nbytes(self) -> int:
        """Bytes of all fields."""
        return sum(each.nbytes for each in self._fields.values())

    def _decode(self, found: _Field, data: bytes) -> None:
        """Check and decode a field as any cell, with the reference decoder, or note why not."""
        opened = opened_cell(CellRef("", ""), _Header(), lambda _: data, self._max_pixels)
        decoded = opened if isinstance(opened, Fault) else decoded_cell(opened)
        if isinstance(decoded, Fault):
            found.fault = decoded.status, decoded.reason
        else:
            found.pixels, _ = decoded
        found.digest = xxhash.xxh3_128_digest(data)


class _Header:
    """The reference decoder's HeaderReader."""

    def open(self, data: bytes) -> PillowEncoded:
        """Read the header only."""
        return PillowEncoded(data)


def _nothing(box: str, region: Region | None) -> str:
    """Say why a box holds nothing."""
    if region is None:
        return f"the box {box} has no width or no height"
    return f"the box {box} lies outside of its field"
