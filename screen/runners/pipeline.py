"""Decode, score, watch, commit: the stages of every run, whoever runs it."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator
    from typing import TypeAlias

    from engines.cells import Scores, Shard
    from engines.decode.base import Decoder
    from engines.runtime.base import Runtime
    from screen.results.parts import BatchScored, Commit, ShardDone

    Watch: TypeAlias = Callable[[Iterable[Scores]], Iterable[Scores]]

__all__ = ["screened"]


def screened(
    shards: Iterable[Shard], decoder: Decoder, runtime: Runtime, watch: Watch, parts: Commit
) -> Iterator[BatchScored | ShardDone]:
    """
    Screen shards: a batch is scored when its event comes, a shard is on disk when its event does.

    Every stage is a generator over the stage before it and keeps order. Batches are decoded ahead
    inside the decoder and are in flight inside the runtime, on from shard to shard. *watch* hands
    scores on, and raises before a part is written that would say something untrue.
    """
    batches = decoder.stream(shards)
    scores = watch(runtime.stream(batches))
    yield from parts.stream(scores)
