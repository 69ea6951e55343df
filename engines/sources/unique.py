"""Names that come twice: each gets a number that stays the same however often it is listed."""

from __future__ import annotations

from array import array
from typing import TYPE_CHECKING, TypeAlias

import numpy as np
import xxhash

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

    from engines.sources.base import Entry

    Hashes: TypeAlias = np.ndarray[tuple[int], np.dtype[np.uint64]]

__all__ = ["numbered"]


def numbered(paths: Iterable[str], entries: Iterable[Entry]) -> Iterator[Entry]:
    """
    Yield entries; the second of the name ``a.png`` is called ``a.png#2``, and so on.

    The order of the source decides, so that what is added at its end changes no name before. A
    name with a number that the source has of its own is left to the cell that has it.

    Args:
        paths: Of all entries; they are named before, so that only 8 bytes a name are held in
            memory.
        entries: With these paths, in this order.
    """
    hashes = np.sort(np.frombuffer(array("Q", map(_hash, paths)), np.uint64))
    repeated = hashes[1:][hashes[1:] == hashes[:-1]]
    if not len(repeated):
        yield from entries
        return
    last: dict[str, int] = {}  # number by name
    for entry in entries:
        if not _holds(repeated, entry.path):
            yield entry
        elif entry.path not in last:
            last[entry.path] = 1
            yield entry
        else:
            number = last[entry.path] + 1
            while _holds(hashes, f"{entry.path}#{number}"):
                number += 1
            last[entry.path] = number
            yield entry._replace(path=f"{entry.path}#{number}", locator=entry.locator or entry.path)


def _holds(hashes: Hashes, path: str) -> bool:
    """Whether a name's hash is among these, which are sorted."""
    own = np.uint64(_hash(path))
    place = int(np.searchsorted(hashes, own))
    return place < len(hashes) and bool(hashes[place] == own)


def _hash(path: str) -> int:
    """Return 64 bits of a name."""
    return xxhash.xxh3_64_intdigest(path.encode())
