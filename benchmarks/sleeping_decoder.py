"""A decoder and a runtime that only take time, for benchmarks of what lies around them."""

from __future__ import annotations

import time
from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING

import numpy as np

from engines.cells import QUALITY, Batch, CellFacts, Scores
from engines.decode.prefetch import PrefetchingDecoder

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

    from engines.cells import CellRef, Read, Shard
    from engines.decode.base import DecodeOptions
    from engines.models.bundle import ModelBundle
    from engines.models.input import ModelInput

__all__ = ["FreeRuntime", "Pause", "SleepingDecoder", "open_decoder"]

SIDE = 450  # pixels, what a cell is said to have had
FACTS = CellFacts(SIDE, SIDE, "0" * 32, "none")


@dataclass(frozen=True, slots=True)
class Pause:
    """In the place of what reads a cell: how long it takes."""

    seconds: float

    def __call__(self, ref: CellRef) -> bytes:
        """Read nothing: the decoder sleeps, for many cells at once."""
        raise FileNotFoundError(ref.path)


class SleepingDecoder(PrefetchingDecoder):
    """Sleeps for every cell instead of decoding it, and hands on black pixels."""

    name, version = "sleeping", "1"
    look_ahead_cells = 2048
    cells_at_once = 32

    def decode_batch(self, shard: Shard, refs: tuple[CellRef, ...]) -> Batch:
        """Sleep as long as all of them take, once: a sleep is never short."""
        time.sleep(self.read.seconds * len(refs))  # type: ignore[attr-defined]
        size = (len(refs), self.expected.height, self.expected.width, 3)
        quality = np.ones((len(refs), len(QUALITY)), np.float32)
        return Batch(shard, refs, (FACTS,) * len(refs), np.zeros(size, np.uint8), (), quality)


def open_decoder(read: Read, expected: ModelInput, options: DecodeOptions) -> SleepingDecoder:
    """Open it, in a worker process."""
    return SleepingDecoder(read, expected, options)


@dataclass(frozen=True)
class FreeRuntime:
    """Scores batches at no cost: the same numbers for every cell."""

    bundle: ModelBundle
    batch: int

    def stream(self, batches: Iterable[Batch]) -> Iterator[Scores]:
        """Score in order."""
        for each in batches:
            n = len(each.refs)
            logits, features, evidence = (values[:n] for values in self._values)
            yield Scores(
                each.shard,
                each.refs,
                each.facts,
                each.faults,
                logits,
                features,
                evidence,
                each.quality,
            )

    @cached_property
    def _values(self) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """Logits, features and evidence of a whole batch."""
        classes, trust = len(self.bundle.classes), self.bundle.trust
        width = 1536 if trust is None else trust.features.centres.shape[1]
        return (
            np.zeros((self.batch, classes), np.float32),
            np.ones((self.batch, width), np.float16),
            np.zeros((self.batch, classes, 7, 7), np.float16),
        )
