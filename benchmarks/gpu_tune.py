"""Which batch and which builder's settings are the fastest on this card: a row for each."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from engines.backends import obstacle
from engines.errors import DeviceError
from engines.registry import RUNTIMES
from engines.runtime.tensorrt import engine_rate
from engines.tensorrt.engine_cache import EngineOptions, engine_for
from engines.tensorrt.tuning import BATCHES, SEARCHES, tune

if TYPE_CHECKING:
    from collections.abc import Sequence

    from gpu_bench import Bench
    from gpu_report import Report

    from engines.tensorrt.tuning import Trial

__all__ = ["tuning"]

TINY_BATCHES = (4, 8)


def tuning(report: Report, benches: Sequence[Bench]) -> None:
    """Measure as ``slidescreen engine build --tune`` does; nothing is kept for later runs."""
    bench = benches[0]
    for row in RUNTIMES:
        if not row.tuned_batch:
            continue
        if bench.scale.on_gpu and (found := obstacle(row)) is not None:
            report.add("tune", row.name, skipped=found.reason)
            continue
        report.measured("tune", row.name, lambda name=row.name: _tuned(report, bench, name))


def _tuned(report: Report, bench: Bench, name: str) -> dict[str, Any]:
    """Measure one runtime; every trial is a row of its own."""

    def measure(trial: Trial) -> float:
        if report.seconds_left < 0:
            raise DeviceError("no time was left", hint="give a longer --max-seconds")
        rate = _rate(bench, name, trial)
        report.add("tune", f"{name}, {trial}", cells_per_s=rate)
        return rate

    found = tune(measure, batches=TINY_BATCHES if bench.scale.tiny else BATCHES, searches=SEARCHES)
    return {"best": str(found.best), "failed": "; ".join(found.failed.values()) or "none"}


def _rate(bench: Bench, name: str, trial: Trial) -> float:
    """Build an engine and time it; with no GPU, time PyTorch at that batch instead."""
    if not bench.scale.on_gpu:
        runtime, _ = bench.opened(name)
        return bench.rate(runtime.stream(bench.until(bench.pixels)))
    options = EngineOptions(
        precision=bench.precision, batch=trial.batch, variant=name, search=trial.search
    )
    return engine_rate(engine_for(bench.bundle, options), bench.bundle, bench.scale.seconds)
