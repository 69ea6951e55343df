"""
How much processor time and memory one cell may take: armed in worker processes, nowhere else.

The time is that of the process (``ITIMER_PROF``), so a busy machine changes no row; the signal
ends the process even inside a native library. Memory is that of its address space, beyond what it
had when the task began.
"""

from __future__ import annotations

import signal
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from engines.decode.header_limits import header_limits

if TYPE_CHECKING:
    from collections.abc import Iterator

__all__ = ["CellLimits", "cell_begins", "enforced", "limits_of"]

USUAL_PIXELS = 25_000_000  # the most that are decoded by default; the slowest codec takes 10 s
SECONDS, MEMORY = 30.0, 2 * 2**30

_seconds = 0.0  # of this process, set while limits are enforced


@dataclass(frozen=True, slots=True)
class CellLimits:
    """
    What one cell may take.

    Attributes:
        seconds: Of processor time, to read, check and decode it.
        memory: Bytes, beyond what the process has anyway.
    """

    seconds: float
    memory: int

    @classmethod
    def for_pixels(cls, most: int) -> CellLimits:
        """Return limits that the largest image allowed, of *most* pixels, is well within."""
        times = max(1.0, most / USUAL_PIXELS)
        return cls(SECONDS * times, int(MEMORY * times))

    def __str__(self) -> str:
        """Say what they are."""
        return f"{self.seconds:g} s, {self.memory / 2**20:.0f} MiB"


def limits_of(max_pixels: int, *, in_workers: bool) -> str:
    """Say which limits hold for a cell, for the fingerprint of a run."""
    if not in_workers:
        return header_limits()
    return f"{header_limits()}, {CellLimits.for_pixels(max_pixels)}"


@contextmanager
def enforced(limits: CellLimits) -> Iterator[None]:
    """
    Hold this process to limits while it works on some cells, one after another.

    A cell that takes too long ends the process by SIGPROF; one that takes too much memory makes
    whatever allocates fail.
    """
    import resource  # not on every system; workers are only used where it is

    global _seconds  # noqa: PLW0603
    unlimited = resource.getrlimit(resource.RLIMIT_AS)
    most = _address_space() + limits.memory
    if unlimited[1] != resource.RLIM_INFINITY:
        most = min(most, unlimited[1])
    resource.setrlimit(resource.RLIMIT_AS, (most, unlimited[1]))
    _seconds = limits.seconds
    cell_begins()
    try:
        yield
    finally:
        _seconds = 0.0
        signal.setitimer(signal.ITIMER_PROF, 0)
        resource.setrlimit(resource.RLIMIT_AS, unlimited)


def cell_begins() -> None:
    """Give the next cell, or the next few that are decoded together, the whole of the time."""
    if _seconds:
        signal.setitimer(signal.ITIMER_PROF, _seconds)


def _address_space() -> int:
    """Return how many bytes of address space this process has."""
    pages = int(Path("/proc/self/statm").read_bytes().split()[0])
    import resource

    return pages * resource.getpagesize()
