"""Batches decoded side by side, a batch per thread, handed out in order."""

from __future__ import annotations

from collections import deque
from concurrent.futures import ThreadPoolExecutor
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator
    from concurrent.futures import Future

    from engines.cells import Batch, CellRef, Shard
    from engines.decode.base import DecodeOptions

__all__ = ["in_order"]


def in_order(
    shards: Iterable[Shard],
    options: DecodeOptions,
    decode: Callable[[Shard, tuple[CellRef, ...]], Batch],
    *,
    look_ahead_cells: int,
) -> Iterator[Batch]:
    """
    Yield what *decode*, called in a thread of a pool, makes of each batch of refs, in order.

    At most two batches per thread, and about *look_ahead_cells*, are ahead of whoever iterates.
    """
    ahead = min(2 * options.threads, look_ahead_cells // options.batch)
    waiting: deque[Future[Batch]] = deque()
    pool = ThreadPoolExecutor(options.threads, thread_name_prefix="decode")
    try:
        for shard, refs in _chunks(shards, options.batch):
            waiting.append(pool.submit(decode, shard, refs))
            if len(waiting) > ahead:
                yield waiting.popleft().result()
        while waiting:
            yield waiting.popleft().result()
    finally:
        pool.shutdown(cancel_futures=True)


def _chunks(shards: Iterable[Shard], size: int) -> Iterator[tuple[Shard, tuple[CellRef, ...]]]:
    """Cut each shard into batches."""
    for shard in shards:
        for start in range(0, len(shard.refs), size):
            yield shard, shard.refs[start : start + size]
