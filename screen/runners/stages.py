"""What a start has opened and compared: a decoder, a runtime, and how they agree and how fast."""

from __future__ import annotations

import time
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from engines.cells import Shard
from engines.hardware.machine import package_versions, this_machine
from screen.results.run_record import ParityRecord

if TYPE_CHECKING:
    from collections.abc import Sequence

    from numpy.typing import NDArray

    from engines.cells import Batch, CellRef
    from engines.decode.base import Decoder
    from engines.parity import PixelAgreement, ScoreAgreement
    from engines.runtime.base import Runtime
    from screen.options import Settings
    from screen.results.run_record import Rates

__all__ = [
    "CheckedRuntime",
    "SampledDecoder",
    "Stages",
    "decode_rate",
    "parity_record",
    "refs_of",
    "timed_logits",
]


@dataclass(frozen=True, slots=True, kw_only=True)
class Stages:
    """
    A decoder and a runtime that agree with the reference.

    Attributes:
        decoder: Ready to stream.
        runtime: Likewise.
        settings: What was taken, each choice with its reason.
        parity: How they agree.
        rates: Cells per second of each stage alone, on the sample.
    """

    decoder: Decoder
    runtime: Runtime
    settings: Settings
    parity: ParityRecord
    rates: Rates


@dataclass(frozen=True, slots=True)
class SampledDecoder:
    """
    A decoder that agrees with Pillow, and the cells on which it does.

    Attributes:
        decoder: It.
        settings: Which decoder, where, and why.
        batches: The sample, decoded; none if no cell could be.
        pixels: How it agrees; None where Pillow decoded none of the cells.
        expected: ``(n, C)``: the sample's logits by FP32 PyTorch.
    """

    decoder: Decoder
    settings: Settings
    batches: Sequence[Batch]
    pixels: PixelAgreement | None
    expected: NDArray[np.float32]


@dataclass(frozen=True, slots=True)
class CheckedRuntime:
    """A runtime that agrees with FP32 PyTorch, if there were cells to tell; and how fast it is."""

    runtime: Runtime
    scores: ScoreAgreement | None
    rate: float | None


def parity_record(sampled: SampledDecoder, checked: CheckedRuntime) -> ParityRecord:
    """Say how what was taken agrees with the reference."""
    return ParityRecord(
        verdict="not measured" if checked.scores is None else "agrees",
        why="no cell could be decoded" if checked.scores is None else "",
        pixels=sampled.pixels,
        scores=checked.scores,
        machine=this_machine(),
        versions=package_versions(),
    )


def refs_of(batches: Sequence[Batch]) -> list[CellRef]:
    """Name the cells of some batches, in order."""
    return [ref for batch in batches for ref in batch.refs]


def timed_logits(
    runtime: Runtime, batches: Sequence[Batch]
) -> tuple[NDArray[np.float32], float | None]:
    """Score through the stream, as the run will; also cells/s after the first, slower, batch."""
    stream = runtime.stream(batches)
    logits = [next(stream).logits]
    start = time.perf_counter()
    logits += [scores.logits for scores in stream]
    seconds = time.perf_counter() - start
    later = sum(map(len, logits[1:]))
    return np.concatenate(logits), rate_of(later, seconds)


def rate_of(cells: int, seconds: float) -> float | None:
    """Return cells/s; None without cells, or where the clock stood still meanwhile."""
    return cells / seconds if cells and seconds > 0 else None


def decode_rate(decoder: Decoder, batches: Sequence[Batch]) -> float | None:
    """Decode the sample again, files and codecs being warm now; return cells/s, as `rate_of`."""
    refs = tuple(refs_of(batches))
    start = time.perf_counter()
    list(decoder.stream([Shard(0, refs)]))
    return rate_of(len(refs), time.perf_counter() - start)
