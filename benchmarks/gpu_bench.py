"""One input size of the GPU benchmark: cells, decoders, runtimes and reference, when asked for."""

from __future__ import annotations

import time
from dataclasses import dataclass, replace
from functools import cached_property
from itertools import count
from typing import TYPE_CHECKING, Any, TypeVar

import numpy as np
import torch
from gpu_bound import bandwidth, bytes_per_cell
from gpu_material import FORMATS_OF_CELLS, bundle_of_size

from engines import parity
from engines.backends import open_decoder, open_runtime
from engines.decode.base import DecodeOptions
from engines.registry import GPU, RUNTIMES
from engines.runtime.base import RuntimeOptions
from engines.runtime.torch_cuda import TorchCudaRuntime
from engines.sources import open_source
from engines.sources.slide_rule import SlideRule
from screen.results.planning import plan_source

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Sequence
    from pathlib import Path

    from engines.cells import Batch, Shard
    from engines.decode.base import Decoder
    from engines.models.bundle import ModelBundle
    from engines.runtime.base import Runtime
    from screen.results.plan import Plan

__all__ = ["CELLS", "Bench", "Scale", "logits_of", "on_host"]

CELLS = 64  # held against the reference
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

    @property
    def on_gpu(self) -> bool:
        """Whether this is the real thing."""
        return self.device.type == "cuda"


class _OnProcessor(TorchCudaRuntime):
    """The same code with no GPU, to try the script out."""

    device = torch.device("cpu")
    compiler = None  # it would take minutes


@dataclass(frozen=True)
class Bench:
    """One input size; everything is made when it is first asked for."""

    scale: Scale
    size: int
    scratch: Path

    @cached_property
    def bundle(self) -> ModelBundle:
        """The default model for this size, its numbers meaning nothing."""
        return bundle_of_size(self.size, self.scratch / f"bundle-{self.size}", tiny=self.scale.tiny)

    @cached_property
    def bound(self) -> float | None:
        """Cells/s that the card's memory allows, if its bandwidth is known."""
        speed = bandwidth(self.scale.device)
        return speed and speed / bytes_per_cell(self.bundle)

    @cached_property
    def plans(self) -> dict[str, Plan]:
        """The cells of each format."""
        return {
            name: plan_source(self._source(name), SlideRule(), self.scale.batch * 16)
            for name in FORMATS_OF_CELLS
        }

    def shards(self, form: str) -> list[Shard]:
        """All cells of a format."""
        return list(self.plans[form].shards())

    def decoder(
        self, form: str, name: str = "dali", device: str | None = None, **how: Any
    ) -> Decoder:
        """Open a decoder of one format's cells; where the model runs, unless told otherwise."""
        where = device or ("gpu" if self.scale.on_gpu else "cpu")
        options = DecodeOptions(batch=self.scale.batch, device=where, **how)
        return open_decoder(name, self._source(form).read, self.bundle.input, options)

    @cached_property
    def sample(self) -> list[Batch]:
        """Cells to compare on."""
        decoder = self.decoder("JPEG")
        return parity.sample(decoder, self.plans["JPEG"].spread(CELLS), CELLS)

    @cached_property
    def reference(self) -> np.ndarray:
        """Logits of the sample by FP32 PyTorch."""
        options = RuntimeOptions(batch=min(CELLS, self.scale.batch))
        return logits_of(open_runtime("torch", self.bundle, options), self.sample)

    @cached_property
    def pixels(self) -> list[Batch]:
        """Full batches of real pixels, on the device."""
        batches = list(self.decoder("BMP").stream(self.shards("BMP")[:1]))
        return [batch for batch in batches if len(batch.refs) == self.scale.batch] or batches

    @property
    def precision(self) -> str:
        """Half; the processor takes ages for it."""
        return "fp16" if self.scale.on_gpu else "fp32"

    def runtimes(self) -> list[str]:
        """Name the runtimes of a GPU, those that need no build first."""
        names = [row.name for row in reversed(RUNTIMES) if row.device == GPU]
        return names if self.scale.on_gpu else names[:1]

    def opened(self, name: str) -> tuple[Runtime, float]:
        """Open a runtime; return it and how many seconds that took, building included."""
        start = time.monotonic()
        options = RuntimeOptions(precision=self.precision, batch=self.scale.batch)
        if not self.scale.on_gpu:
            return _OnProcessor(self.bundle, options), time.monotonic() - start
        torch.cuda.empty_cache()
        runtime = open_runtime(name, self.bundle, options, sample=self.sample)
        return runtime, time.monotonic() - start

    def agreement(self, runtime: Runtime) -> dict[str, Any]:
        """Hold a runtime against the reference on the sample."""
        refs = [ref for batch in self.sample for ref in batch.refs]
        scores = parity.score_agreement(
            refs,
            logits_of(runtime, self.sample),
            self.reference,
            bundle=self.bundle,
            precision=runtime.options.precision,
        )
        return {"agrees": bool(scores.holds), "largest_dp": scores.max_dp, "flips": scores.flips}

    def until(self, items: Sequence[T], seconds: float | None = None) -> Iterator[T]:
        """Go round until the time is up, warm-up included."""
        end = time.perf_counter() + 1.5 * (seconds or self.scale.seconds)
        for number in count():
            if number >= LEAST and time.perf_counter() > end:
                return
            yield items[number % len(items)]

    def rate(self, stream: Iterable[Any]) -> float:
        """Return cells/s after a warm-up of a third of the time, and of two batches at least."""
        begin = warm = time.perf_counter()
        cells = 0
        for number, item in enumerate(stream):
            if number < 2 or time.perf_counter() - begin < self.scale.seconds / 2:
                warm, cells = time.perf_counter(), 0
            else:
                cells += len(item.refs)
        return cells / (time.perf_counter() - warm)

    def _source(self, form: str) -> Any:
        """Open the folder of a format."""
        return open_source(self.scratch / "cells" / form)


def logits_of(runtime: Runtime, batches: Iterable[Batch]) -> np.ndarray:
    """Score through the stream."""
    return np.concatenate([scores.logits for scores in runtime.stream(batches)])


def on_host(batch: Batch, cells: slice) -> Batch:
    """Return some cells of a batch as a batch in host memory."""
    return replace(
        batch,
        refs=batch.refs[cells],
        facts=batch.facts[cells],
        pixels=batch.host_pixels[cells].copy(),
        quality=None,
    )
