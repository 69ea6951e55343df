"""What a cell has to pass before and while it is decoded; the same for every decoder and device."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

import xxhash

from engines.cells import CellFacts, Fault, RefusedCellError
from engines.decode.base import DecodeError
from engines.decode.cell_limits import cell_begins
from engines.decode.header_limits import overclaim, webp_size
from engines.decode.integrity import damage
from engines.decode.regions import padded_share
from engines.errors import UserError
from engines.locations import is_of_the_place

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

    from engines.cells import CellRef, Read
    from engines.decode.base import Encoded, HeaderReader

__all__ = ["OpenedCell", "decoded_cell", "opened_cell"]


@dataclass(frozen=True, slots=True)
class OpenedCell:
    """A cell that was read, whose header makes sense and whose bytes show no damage."""

    ref: CellRef
    data: bytes
    facts: CellFacts
    encoded: Encoded


def opened_cell(
    ref: CellRef, codec: HeaderReader, read: Read, max_pixels: int
) -> OpenedCell | Fault:
    """
    Read and check one cell; nothing is decoded yet.

    Whatever a file makes the checks raise is the fault of this cell alone. What *read* raises
    besides OSError is a bug of the source, and goes on.
    """
    cell_begins()
    data = _read(ref, read)
    if isinstance(data, Fault):
        return data
    facts = _hashed(data)
    try:
        _require(overclaim(data) if data else "empty file")
        height, width = webp_size(data) or (0, 0)
        if height * width <= max_pixels:
            encoded = codec.open(data)
            height, width = encoded.height, encoded.width
        facts = replace(facts, width=width, height=height)
        if height * width > max_pixels:
            return Fault(ref, "oversized", f"{width} x {height} pixels", facts)
        _require(damage(data))
    except Exception as error:
        return _fault(ref, facts, error)
    return OpenedCell(ref, data, facts, encoded)


def _read(ref: CellRef, read: Read) -> bytes | Fault:
    """Read one cell."""
    try:
        data = read(ref)
    except RefusedCellError as refused:
        facts = _hashed(refused.data) if refused.data else CellFacts()
        return Fault(ref, refused.status, str(refused.strerror), facts)
    except OSError as error:
        reason = error.strerror or str(error) or type(error).__name__
        return Fault(ref, "unreadable", reason, of_place=is_of_the_place(error))
    return data if isinstance(data, bytes) else Fault(ref, "unreadable", "it reads as nothing")


def _hashed(data: bytes) -> CellFacts:
    """Return what is known of a cell that was read."""
    return CellFacts(content_hash=xxhash.xxh3_128_hexdigest(data), padded=padded_share(data))


def decoded_cell(opened: OpenedCell) -> tuple[NDArray[np.uint8], CellFacts] | Fault:
    """Decode a cell into host memory; whatever that raises is the fault of this cell alone."""
    try:
        pixels, name = opened.encoded.decode()
    except Exception as error:
        return _fault(opened.ref, opened.facts, error)
    return pixels, replace(opened.facts, codec=name)


def _require(reason: str | None) -> None:
    """Raise DecodeError if there is a reason to."""
    if reason:
        raise DecodeError(reason)


def _fault(ref: CellRef, facts: CellFacts, error: Exception) -> Fault:
    """Turn what a cell raised into its fault; what is no cell's fault is raised again."""
    if isinstance(error, MemoryError | UserError):
        raise error
    reason = str(error) if isinstance(error, DecodeError) else f"{type(error).__name__}: {error}"
    return Fault(ref, "undecodable", reason, facts)
