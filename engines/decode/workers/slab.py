"""Memory that two processes share: pixels and files' bytes travel in it, not in messages."""

from __future__ import annotations

import itertools
import mmap
import os
from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    from numpy.typing import NDArray

__all__ = ["Slab"]

KEPT = 2**26  # bytes: a slab that grew larger for once gives its memory back

_numbers = itertools.count()


class Slab:
    """
    A file in memory (memfd), mapped as far as it is needed; it grows, and is gone with its users.

    Not ``/dev/shm``, of which a container has 64 MB.

    Attributes:
        number: Its name, the same in both processes.
        descriptor: What the other process maps, too.
    """

    def __init__(self, number: int | None = None, descriptor: int | None = None) -> None:
        """Make one, or map what another process has made."""
        self.number = next(_numbers) if number is None else number
        self.descriptor = os.memfd_create("slidescreen") if descriptor is None else descriptor
        self._map: mmap.mmap | None = None

    def view(self, size: int) -> NDArray[np.uint8]:
        """Return its first *size* bytes; the memory stays mapped while any view of it lives."""
        size = max(1, size)
        if os.fstat(self.descriptor).st_size < size:
            os.ftruncate(self.descriptor, -(-size // mmap.PAGESIZE) * mmap.PAGESIZE)
        if self._map is None or len(self._map) < size:
            self._map = mmap.mmap(self.descriptor, os.fstat(self.descriptor).st_size)
        return np.frombuffer(self._map, np.uint8, size)

    def shrink(self) -> None:
        """Give back what is more than is usual; call when no view of it is in use."""
        if self._map is not None and len(self._map) > KEPT:
            self._map = None
            os.ftruncate(self.descriptor, 0)

    def __del__(self) -> None:
        """Close it."""
        os.close(self.descriptor)
