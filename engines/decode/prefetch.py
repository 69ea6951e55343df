"""Batches decoded side by side, a batch per thread, handed out in order: every decoder's stream."""

from __future__ import annotations

import threading
from abc import ABC, abstractmethod
from collections import deque
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator
    from concurrent.futures import Future

    from engines.cells import Batch, CellRef, Read, Shard
    from engines.decode.base import DecodeOptions
    from engines.models.input import ModelInput

__all__ = ["PrefetchingDecoder"]


class PrefetchingDecoder(ABC):
    """
    A Decoder (see ``engines.decode.base``), but for how a single batch is decoded.

    Attributes:
        name: As asked for with ``--decoder``.
        version: Of the packages that decode.
        look_ahead_cells: So many are decoded ahead at most, however large a batch is.
        cells_at_once: So many are given to ``decode_batch`` where batches are smaller; what it
            returns is cut into batches.
        read: Returns a cell's encoded bytes.
        expected: What the model takes.
        options: How cells are decoded.
        local: What each thread keeps to itself, such as a codec.
    """

    name: str
    version: str
    look_ahead_cells: int
    cells_at_once: int = 1

    def __init__(self, read: Read, expected: ModelInput, options: DecodeOptions) -> None:
        """Keep what every batch needs."""
        self.read = read
        self.expected = expected
        self.options = options
        self.local = threading.local()

    @abstractmethod
    def decode_batch(self, shard: Shard, refs: tuple[CellRef, ...]) -> Batch:
        """Decode some cells of a shard, in a thread of the pool; a bad cell becomes a fault."""

    def fetch_ahead(self, refs: tuple[CellRef, ...]) -> None:
        """Have the source fetch the cells of a batch at once, if it is one that can."""
        if read_ahead := getattr(getattr(self.read, "__self__", None), "read_ahead", None):
            read_ahead(refs)

    def stream(self, shards: Iterable[Shard]) -> Iterator[Batch]:
        """
        Decode in order.

        At most two batches per thread, and about ``look_ahead_cells`` but at least a batch per
        thread, are ahead of whoever iterates.
        """
        size = self.options.batch * max(1, self.cells_at_once // self.options.batch)
        threads = self.options.threads
        ahead = min(2 * threads, max(threads, self.look_ahead_cells // size))
        waiting: deque[Future[Batch]] = deque()
        pool = ThreadPoolExecutor(threads, thread_name_prefix="decode")
        try:
            for shard, refs in _runs(shards, size):
                waiting.append(pool.submit(self.decode_batch, shard, refs))
                if len(waiting) > ahead:
                    yield from _cut(waiting.popleft().result(), self.options.batch)
            while waiting:
                yield from _cut(waiting.popleft().result(), self.options.batch)
        finally:
            pool.shutdown(cancel_futures=True)


def _runs(shards: Iterable[Shard], size: int) -> Iterator[tuple[Shard, tuple[CellRef, ...]]]:
    """Cut each shard into runs of *size* cells."""
    for shard in shards:
        for start in range(0, len(shard.refs), size):
            yield shard, shard.refs[start : start + size]


def _cut(batch: Batch, size: int) -> Iterator[Batch]:
    """Cut a batch into some of at most *size* decoded cells; faults go with the first."""
    for start in range(0, max(1, len(batch.refs)), size):
        part = slice(start, start + size)
        yield replace(
            batch,
            refs=batch.refs[part],
            facts=batch.facts[part],
            pixels=batch.pixels[part],
            faults=() if start else batch.faults,
            quality=None if batch.quality is None else batch.quality[part],
        )
