"""Open what will run, and hold it against the reference on the user's own cells."""

from __future__ import annotations

import platform
import time
from dataclasses import asdict, dataclass, replace
from importlib.metadata import version
from pathlib import Path
from typing import TYPE_CHECKING, Any

from engines import parity
from engines.choice import Choice
from engines.decode import DecodeOptions, open_decoder
from engines.errors import ParityError
from engines.runtime import RuntimeOptions, open_runtime

if TYPE_CHECKING:
    from collections.abc import Sequence

    from engines.bundle import ModelBundle
    from engines.cells import Batch
    from engines.decode import Decoder
    from engines.runtime import Runtime
    from screen.plan import Plan
    from screen.settings import RunOptions, Settings
    from screen.sources import Source

__all__ = ["Opener", "Stages", "machine"]

PARITY_CELLS = 64
PACKAGES = ("slidescreen", "torch", "timm", "openvino", "nvidia-dali-cuda130", "pillow", "numpy")


@dataclass(frozen=True, slots=True, kw_only=True)
class Stages:
    """
    A decoder and a runtime that were held against the reference.

    Attributes:
        decoder: Ready to stream.
        runtime: Likewise.
        settings: As settled, with the precision that holds.
        verdict: What run.json says of parity.
        rates: Cells per second of each stage alone, on the sample.
    """

    decoder: Decoder
    runtime: Runtime
    settings: Settings
    verdict: dict[str, Any]
    rates: dict[str, float | None]


@dataclass(frozen=True, slots=True)
class Opener:
    """Opens stages for one run."""

    options: RunOptions
    bundle: ModelBundle
    source: Source
    plan: Plan

    def open(self, settings: Settings, *, may_fall_back: bool) -> Stages:
        """
        Open and check a decoder and a runtime.

        Args:
            settings: What to open.
            may_fall_back: Whether a precision that was not asked for may give way to float32.

        Raises:
            ParityError: If what was asked for, or float32, is not within its limits.
        """
        decoder = self._decoder(settings.decoder.value, settings)
        start = time.perf_counter()
        batches = parity.sample(decoder, self.plan.spread(PARITY_CELLS))
        seconds = time.perf_counter() - start
        if not batches:
            runtime = self._runtime(settings)
            verdict = {"verdict": "not measured", "why": "no cell could be decoded", **machine()}
            return Stages(
                decoder=decoder,
                runtime=runtime,
                settings=settings,
                verdict=verdict,
                rates={"decode": None, "engine": None},
            )
        cells = sum(len(batch.refs) for batch in batches)
        pixels = parity.compare_decoder(decoder, self._decoder("pillow", settings), batches)
        runtime, settings, scores, engine_rate = self._agreeing_runtime(
            settings, batches, may_fall_back=may_fall_back and self.options.precision == "auto"
        )
        return Stages(
            decoder=decoder,
            runtime=runtime,
            settings=settings,
            verdict={
                "verdict": "agrees",
                "cells": cells,
                "pixels": asdict(pixels) if pixels else None,
                "scores": asdict(scores),
                **machine(),
            },
            rates={"decode": cells / seconds, "engine": engine_rate},
        )

    def reopen(self, settings: Settings, verdict: dict[str, Any], rates: dict[str, Any]) -> Stages:
        """Open stages whose verdict an earlier start of this run measured on this machine."""
        return Stages(
            decoder=self._decoder(settings.decoder.value, settings),
            runtime=self._runtime(settings),
            settings=settings,
            verdict=verdict,
            rates=rates,
        )

    def _agreeing_runtime(
        self, settings: Settings, batches: Sequence[Batch], *, may_fall_back: bool
    ) -> tuple[Runtime, Settings, parity.ScoreAgreement, float]:
        """Open the runtime; where the precision was ours to choose, fall back to float32."""
        reference = open_runtime("torch", self.bundle, RuntimeOptions(threads=self.options.threads))
        expected = parity.logits(reference, batches)
        refs = [ref for batch in batches for ref in batch.refs]
        while True:
            runtime = self._runtime(settings)
            start = time.perf_counter()
            logits = parity.logits(runtime, batches)
            rate = len(refs) / (time.perf_counter() - start)
            agreement = parity.score_agreement(
                refs, logits, expected, bundle=self.bundle, precision=settings.precision.value
            )
            if agreement.holds:
                return runtime, settings, agreement, rate
            settings = _in_float32(settings, agreement, may_fall_back=may_fall_back)

    def _decoder(self, name: str, settings: Settings) -> Decoder:
        """Open a decoder that makes batches of the runtime's size."""
        options = DecodeOptions(
            batch=settings.batch.value,
            threads=self.options.threads,
            max_pixels=self.options.max_pixels,
        )
        return open_decoder(name, self.source.read, self.bundle.input, options)

    def _runtime(self, settings: Settings) -> Runtime:
        """Open the runtime."""
        options = RuntimeOptions(
            precision=settings.precision.value,
            batch=settings.batch.value,
            threads=self.options.threads,
        )
        return open_runtime(settings.runtime.value, self.bundle, options)


def machine() -> dict[str, Any]:
    """Say where and with what: a verdict holds for exactly this."""
    return {
        "machine": {"node": platform.node(), "system": platform.platform(), "cpu": _cpu_name()},
        "versions": {name: _installed(name) for name in PACKAGES},
    }


def _in_float32(
    settings: Settings, missed: parity.ScoreAgreement, *, may_fall_back: bool
) -> Settings:
    """Return the same settings in float32, or raise where there is nothing to fall back to."""
    if settings.precision.value == "fp32":
        hint = "it computes something else than the bundle's network; try --runtime torch"
    elif not may_fall_back:
        hint = "pass --precision fp32 and a new --out"
    else:
        return replace(settings, precision=Choice("fp32", f"fell back: {missed}"))
    raise ParityError(
        f"the runtime {settings.runtime.value} disagrees with PyTorch; {missed}", hint=hint
    )


def _installed(package: str) -> str | None:
    """Return a package's version, if it is installed."""
    try:
        return version(package)
    except ModuleNotFoundError:
        return None


def _cpu_name() -> str:
    """Return the processor's name."""
    try:
        lines = Path("/proc/cpuinfo").read_text(encoding="utf-8").splitlines()
    except OSError:
        return platform.processor()
    names = (line.partition(":")[2].strip() for line in lines if line.startswith("model name"))
    return next(names, platform.processor())
