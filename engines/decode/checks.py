"""What a cell has to pass before and while it is decoded; the same for every decoder and device."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

import xxhash

from engines.cells import CellFacts, Fault, RefusedCellError
from engines.decode.base import DecodeError
from engines.decode.integrity import damage

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

    from engines.cells import CellRef, FaultStatus, Read
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
    """Read and check one cell; nothing is decoded yet."""
    facts = CellFacts()

    def fault(status: FaultStatus, reason: str) -> Fault:
        return Fault(ref, status, reason, facts)

    data = _read(ref, read)
    if isinstance(data, Fault):
        return data
    facts = _hashed(data)
    if not data:
        return fault("undecodable", "empty file")
    try:
        encoded = codec.open(data)
    except DecodeError as error:
        return fault("undecodable", str(error))
    facts = replace(facts, width=encoded.width, height=encoded.height)
    if encoded.width * encoded.height > max_pixels:
        return fault("oversized", f"{encoded.width} x {encoded.height} pixels")
    if reason := damage(data):
        return fault("undecodable", reason)
    return OpenedCell(ref, data, facts, encoded)


def _read(ref: CellRef, read: Read) -> bytes | Fault:
    """Read one cell."""
    try:
        return read(ref)
    except RefusedCellError as refused:
        facts = _hashed(refused.data) if refused.data else CellFacts()
        return Fault(ref, refused.status, str(refused.strerror), facts)
    except OSError as error:
        return Fault(ref, "unreadable", error.strerror or str(error))


def _hashed(data: bytes) -> CellFacts:
    """Return what is known of a cell that was read."""
    return CellFacts(content_hash=xxhash.xxh3_128_hexdigest(data))


def decoded_cell(opened: OpenedCell) -> tuple[NDArray[np.uint8], CellFacts] | Fault:
    """Decode a cell into host memory."""
    try:
        pixels, name = opened.encoded.decode()
    except DecodeError as error:
        return Fault(opened.ref, "undecodable", str(error), opened.facts)
    return pixels, replace(opened.facts, codec=name)
