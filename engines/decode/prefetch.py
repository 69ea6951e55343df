"""Batches decoded side by side, a batch per thread, handed out in order: every decoder's stream."""

from __future__ import annotations

import threading
from abc import ABC, abstractmethod
from collections import deque
from concurrent.futures import ThreadPoolExecutor
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
        read: Returns a cell's encoded bytes.
        expected: What the model takes.
        options: How cells are decoded.
        local: What each thread keeps to itself, such as a codec.
    """

    name: str
    version: str
    look_ahead_cells: int

    def __init__(self, read: Read, expected: ModelInput, options: DecodeOptions) -> None:
        """Keep what every batch needs."""
        self.read = read
        self.expected = expected
        self.options = options
        self.local = threading.local()

    @abstractmethod
    def decode_batch(self, shard: Shard, refs: tuple[CellRef, ...]) -> Batch:
        """Decode some cells of a shard, in a thread of the pool; a bad cell becomes a fault."""

    def stream(self, shards: Iterable[Shard]) -> Iterator[Batch]:
        """
        Decode in order.

        At most two batches per thread, and about ``look_ahead_cells``, are ahead of whoever
        iterates.
        """
        ahead = min(2 * self.options.threads, self.look_ahead_cells // self.options.batch)
        waiting: deque[Future[Batch]] = deque()
        pool = ThreadPoolExecutor(self.options.threads, thread_name_prefix="decode")
        try:
            for shard, refs in _batches(shards, self.options.batch):
                waiting.append(pool.submit(self.decode_batch, shard, refs))
                if len(waiting) > ahead:
                    yield waiting.popleft().result()
            while waiting:
                yield waiting.popleft().result()
        finally:
            pool.shutdown(cancel_futures=True)


def _batches(shards: Iterable[Shard], size: int) -> Iterator[tuple[Shard, tuple[CellRef, ...]]]:
    """Cut each shard into batches."""
    for shard in shards:
        for start in range(0, len(shard.refs), size):
            yield shard, shard.refs[start : start + size]
