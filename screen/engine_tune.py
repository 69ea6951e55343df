"""Build engines of a model in several ways, measure each on the GPU at hand, keep the fastest."""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING

from engines.errors import BackendMissingError
from engines.hardware.gpu import gpu_or_why_not, this_device
from engines.tensorrt.builder import PLAINLY
from engines.tensorrt.engine_cache import EngineOptions, engine_for
from engines.tensorrt.engine_store import list_engines, remove_engine
from engines.tensorrt.tuning import BATCHES, SEARCHES, Trial, remember_tuned, trials_of, tune
from engines.tensorrt.versions import choose_variant

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence
    from pathlib import Path

    from engines.models.bundle import ModelBundle
    from engines.tensorrt.engine_store import Engine

__all__ = ["tuned_engine"]

SECONDS = 3.0  # that each engine is measured


def tuned_engine(
    bundle: ModelBundle,
    options: EngineOptions,
    *,
    batches: Sequence[int] = BATCHES,
    progress: Callable[[float, str], None] | None = None,
) -> Engine:
    """
    Return the fastest engine on this GPU; later runs that do not name a batch take it.

    Args:
        bundle: The model.
        options: Its precision and the variant of TensorRT; batch and search are what is tried.
        batches: To choose from.
        progress: Called with the share of all trials that is done, and the phase.

    Raises:
        BackendMissingError: If there is no GPU to measure on.
        EngineBuildError: If no engine can be built.
    """
    if isinstance(why := gpu_or_why_not(), str):
        raise BackendMissingError(
            f"engines are tuned by running them on a GPU: {why}",
            hint="leave --tune out, or run this on the machine with the GPU",
        )
    variant = choose_variant(options.variant, this_device()).value.variant
    options = replace(options, variant=variant.name)
    # Where kernels are compiled when a plan is opened, the builder has nothing to search among.
    searches = SEARCHES if not variant.compiles_on_device else (PLAINLY,)
    trials = _Trials(bundle, options, trials_of(batches, searches), progress)
    found = tune(trials.rate, batches=batches, searches=searches)
    remember_tuned(variant.name, options.precision, bundle, found)
    trials.remove_others(found.best)
    return trials.engines[found.best]


@dataclass
class _Trials:
    """
    Engines that are built to be measured.

    Attributes:
        bundle: The model.
        options: What they have in common.
        count: How many there will be.
        progress: Told how far all of them are.
        engines: Those that there are.
    """

    bundle: ModelBundle
    options: EngineOptions
    count: int
    progress: Callable[[float, str], None] | None
    engines: dict[Trial, Engine] = field(default_factory=dict)
    _before: frozenset[Path] = frozenset()

    def __post_init__(self) -> None:
        """Note what was built before: that is kept."""
        self._before = frozenset(engine.path for engine in list_engines())

    def rate(self, trial: Trial) -> float:
        """Build an engine and return its cells/s."""
        from engines.runtime.tensorrt import engine_rate

        wanted = replace(self.options, batch=trial.batch, search=trial.search)
        done = len(self.engines)

        def told(share: float, phase: str) -> None:
            if self.progress is not None:
                self.progress((done + share) / self.count, f"{trial}: {phase}")

        engine = engine_for(self.bundle, wanted, progress=told)
        rate = engine_rate(engine, self.bundle, SECONDS)
        self.engines[trial] = engine
        return rate

    def remove_others(self, best: Trial) -> None:
        """Remove what was built to be measured only."""
        for trial, engine in self.engines.items():
            if trial != best and engine.path not in self._before:
                remove_engine(engine)
