"""One input size of the GPU benchmark: any runtime checked against the reference, then measured."""

from __future__ import annotations

import time
from dataclasses import dataclass, replace
from itertools import count
from typing import TYPE_CHECKING, Any, TypeVar

import numpy as np
import torch

from engines import parity
from engines.backends import obstacle, open_decoder, open_runtime
from engines.decode.base import DecodeOptions
from engines.decode.batched import BatchDecoder
from engines.decode.dali import DaliCodec
from engines.errors import UserError
from engines.registry import RUNTIMES
from engines.runtime.base import RuntimeOptions
from engines.runtime.torch_cuda import TorchCudaRuntime
from engines.sources import open_source
from engines.sources.slide_rule import SlideRule
from screen.results.plan import plan_source

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Sequence
    from pathlib import Path

    from engines.cells import Batch
    from engines.decode.base import Decoder
    from engines.models.bundle import ModelBundle
    from engines.runtime.base import Runtime
    from screen.results.plan import Plan

__all__ = ["Bench", "Scale"]

CELLS = 64  # held against the reference
MIB = 2**20
LEAST = 8  # batches or shards that a measurement takes, however short its time
T = TypeVar("T")


@dataclass(frozen=True, slots=True, kw_only=True)
class Scale:
    """How large everything is."""

    device: torch.device
    sizes: tuple[int, ...]
    cells: int
    batch: int
    seconds: float
    tiny: bool


class _OnProcessor(TorchCudaRuntime):
    """The same code with no GPU, to try the script out."""

    device = torch.device("cpu")
    compiler = "eager"  # traced, not compiled, which would take minutes


class Bench:
    """One input size: cells, decoder and reference, ready for any runtime."""

    def __init__(self, scale: Scale, bundle: ModelBundle, folders: dict[str, Path]) -> None:
        """Plan the folders, and decode the sample that everything is held against."""
        self.scale = scale
        self.bundle = bundle
        sources = {name: open_source(folder) for name, folder in folders.items()}
        self.plans = {
            name: plan_source(source, SlideRule(), scale.batch * 16)
            for name, source in sources.items()
        }
        self.decoders = {name: self._decoder(source.read) for name, source in sources.items()}
        self.shards = {name: list(plan.shards()) for name, plan in self.plans.items()}
        self.pixels = {
            name: self._pixel_agreement(plan, self.decoders[name], sources[name].read)
            for name, plan in self.plans.items()
        }
        self.sample = parity.sample(self.decoders["JPEG"], self.plans["JPEG"].spread(CELLS), CELLS)
        self.reference = _logits(
            open_runtime("torch", bundle, RuntimeOptions(batch=CELLS)), self.sample
        )
        self.decode = {
            name: self._rate(self.decoders[name].stream(self._until(self.shards[name])))
            for name in self.plans
        }

    def runtimes(self) -> Iterator[str]:
        """Name what can run here."""
        if self.scale.device.type == "cpu":
            return iter(["torch-cuda"])
        return (row.name for row in RUNTIMES if row.device == "gpu" and obstacle(row) is None)

    def row(self, name: str) -> dict[str, Any]:
        """Check and measure one runtime."""
        row: dict[str, Any] = {"runtime": name, "size": self.bundle.input.height, "agrees": False}
        if self.scale.device.type == "cuda":
            torch.cuda.empty_cache()
        try:
            runtime = self._runtime(name)
        except UserError as error:
            return {**row, "why": str(error)}
        row |= {"version": runtime.version, **self._checks(runtime)}
        if not row["agrees"]:
            return row
        row["engine"] = self._rate(runtime.stream(self._until(self._on_device())))
        for form in self.plans:
            row[f"decode {form}"] = self.decode[form]
            batches = self.decoders[form].stream(self._until(self.shards[form]))
            row[f"end to end {form}"] = self._rate(runtime.stream(batches))
        return {**row, "gpu_mib": _held_mib(self.scale.device)}

    def _checks(self, runtime: Runtime) -> dict[str, Any]:
        """Hold a runtime against the reference, and against itself."""
        refs = [ref for batch in self.sample for ref in batch.refs]
        logits = _logits(runtime, self.sample)
        scores = parity.score_agreement(
            refs, logits, self.reference, bundle=self.bundle, precision=runtime.options.precision
        )
        repeats = all(np.array_equal(_logits(runtime, self.sample), logits) for _ in range(3))
        alone = all(
            np.array_equal(_logits(runtime, [_cell(batch, 0)])[0], _logits(runtime, [batch])[0])
            for batch in self.sample
        )
        pixels = all(each["holds"] for each in self.pixels.values())
        return {
            "agrees": bool(scores.holds and repeats and alone and pixels),
            "largest_dp": scores.max_dp,
            "flips": scores.flips,
            "repeats_bit_for_bit": repeats,
            "alone_bit_for_bit": alone,
            "pixels": self.pixels,
        }

    def _decoder(self, read: Any) -> Decoder:
        """Open the decoder that works on the device."""
        options = DecodeOptions(batch=self.scale.batch)
        return BatchDecoder(DaliCodec, read, self.bundle.input, options, self.scale.device)

    def _runtime(self, name: str) -> Runtime:
        """Open a runtime in half precision."""
        options = RuntimeOptions(precision="fp16", batch=self.scale.batch)
        if self.scale.device.type == "cpu":
            return _OnProcessor(self.bundle, options)
        return open_runtime(name, self.bundle, options, sample=self.sample)

    def _pixel_agreement(self, plan: Plan, decoder: Decoder, read: Any) -> dict[str, Any]:
        """Hold the decoder against Pillow."""
        batches = parity.sample(decoder, plan.spread(CELLS), CELLS)
        pillow = open_decoder(
            "pillow", read, self.bundle.input, DecodeOptions(batch=self.scale.batch)
        )
        found = parity.compare_decoder(pillow, batches)
        assert found is not None
        codecs = sorted({str(facts.codec) for batch in batches for facts in batch.facts})
        return {"holds": found.holds, "mean": found.mean, "p999": found.p999, "codecs": codecs}

    def _on_device(self) -> list[Batch]:
        """Return full batches of real pixels on the device."""
        batches = list(self.decoders["BMP"].stream(self.shards["BMP"][:1]))
        return [batch for batch in batches if len(batch.refs) == self.scale.batch] or batches

    def _until(self, items: Sequence[T]) -> Iterator[T]:
        """Go round until the time is up, warm-up included."""
        end = time.perf_counter() + 1.5 * self.scale.seconds
        for number in count():
            if number >= LEAST and time.perf_counter() > end:
                return
            yield items[number % len(items)]

    def _rate(self, stream: Iterable[Any]) -> float:
        """Return cells/s after a warm-up of a third of the time, and of two batches at least."""
        begin = warm = time.perf_counter()
        cells = 0
        for number, item in enumerate(stream):
            if number < 2 or time.perf_counter() - begin < self.scale.seconds / 2:
                warm, cells = time.perf_counter(), 0
            else:
                cells += len(item.refs)
        return cells / (time.perf_counter() - warm)


def _logits(runtime: Runtime, batches: Iterable[Batch]) -> np.ndarray:
    """Score through the stream."""
    return np.concatenate([scores.logits for scores in runtime.stream(batches)])


def _cell(batch: Batch, index: int) -> Batch:
    """Return one cell of a batch as a batch."""
    one = slice(index, index + 1)
    return replace(
        batch, refs=batch.refs[one], facts=batch.facts[one], pixels=batch.pixels[one], quality=None
    )


def _held_mib(device: torch.device) -> float | None:
    """Return what the GPU holds now, all libraries together: torch's peak misses TensorRT's."""
    if device.type != "cuda":
        return None
    free, total = torch.cuda.mem_get_info(device)
    return (total - free) / MIB
