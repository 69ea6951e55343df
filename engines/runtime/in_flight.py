"""Several batches in flight at once, handed out in order: the one loop of every such runtime."""

from __future__ import annotations

from collections import deque
from typing import TYPE_CHECKING, Protocol

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Sequence

    from engines.cells import Batch, Scores

__all__ = ["InFlight", "in_flight"]


class InFlight(Protocol):
    """
    Room for one batch that is being scored.

    Every batch that is started is finished or waited for; between the two calls the room keeps
    the batch, whose pixels may still be read.
    """

    def start(self, batch: Batch) -> None:
        """
        Begin to score a batch and return at once; one without cells only waits its turn.

        Raises:
            ValueError: If it holds more cells than the model was opened for.
        """
        ...

    def finish(self) -> Scores:
        """Wait for the batch, let go of it, and return its scores in memory of their own."""
        ...

    def wait(self) -> None:
        """Return when nothing is being read or written here any more."""
        ...


def in_flight(rooms: Sequence[InFlight], batches: Iterable[Batch]) -> Iterator[Scores]:
    """
    Keep every room busy; yield the scores of each batch once, in order.

    Left early, or by an error, it waits for what is still running.
    """
    free = deque(rooms)
    running: deque[InFlight] = deque()
    try:
        for batch in batches:
            if not free:
                yield running[0].finish()
                free.append(running.popleft())
            running.append(free.popleft())
            running[-1].start(batch)
        while running:
            yield running[0].finish()
            running.popleft()
    finally:
        for room in running:
            room.wait()
