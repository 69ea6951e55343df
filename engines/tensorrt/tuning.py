"""
Which batch and which builder's settings are the fastest on this card, measured once, on demand.

``slidescreen engine build --tune`` measures; runs read the result, and never measure themselves.
It is kept per card, driver, version of TensorRT, network, input size and precision, not per
weights: they change no kernel's speed.
"""

from __future__ import annotations

import hashlib
import json
import logging
from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING, Any

from engines.errors import DeviceError, EngineBuildError
from engines.files import cache_folder, whole_file
from engines.hardware.gpu import this_device
from engines.tensorrt.builder import PLAINLY, SearchOptions
from engines.tensorrt.versions import open_variant

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence
    from pathlib import Path

    from engines.models.bundle import ModelBundle

__all__ = [
    "BATCHES",
    "Trial",
    "Tuned",
    "remember_tuned",
    "trials_of",
    "tune",
    "tuned",
    "tuned_batch",
    "tuned_search",
]

BATCHES = (16, 32, 64, 128, 256, 512)
FIRST_BATCH = 256  # where the builder's settings are compared
SEARCHES = (PLAINLY, SearchOptions(level=5), SearchOptions(level=5, aux_streams=0))
AS_FAST = 0.99  # of the fastest rate: among such batches the smallest is taken, for its memory

log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class Trial:
    """What is tried: a batch and how the builder searches."""

    batch: int
    search: SearchOptions

    def __str__(self) -> str:
        """Name it for a person."""
        return f"batch {self.batch}, {self.search}"


@dataclass(frozen=True, slots=True)
class Tuned:
    """
    The fastest trial, and all that were measured.

    Attributes:
        best: The one to use.
        rates: Cells/s of each, by its name.
        failed: Why the others could not be measured, by name.
    """

    best: Trial
    rates: dict[str, float]
    failed: dict[str, str]


def tune(
    measure: Callable[[Trial], float],
    *,
    batches: Sequence[int] = BATCHES,
    searches: Sequence[SearchOptions] = SEARCHES,
) -> Tuned:
    """
    Find the fastest settings of the builder at one batch, and then the fastest batch with them.

    Args:
        measure: Returns a trial's cells/s; an error of it is recorded, and the trial left out.
        batches: To choose from.
        searches: The builder's settings to choose from.

    Raises:
        UserError: What kept the first trial from being measured, if none could be.
    """
    first = FIRST_BATCH if FIRST_BATCH in batches else batches[-1]
    rates: dict[Trial, float] = {}
    failed: dict[Trial, EngineBuildError | DeviceError] = {}
    for trial in (Trial(first, search) for search in searches):
        _try(measure, trial, rates, failed)
    if not rates:
        raise next(iter(failed.values()))
    search = max(rates, key=rates.__getitem__).search
    for trial in (Trial(batch, search) for batch in batches if batch != first):
        _try(measure, trial, rates, failed)
    enough = AS_FAST * max(rates.values())
    best = min((trial for trial, rate in rates.items() if rate >= enough),
               key=lambda trial: (trial.batch, -rates[trial]))  # fmt: skip
    return Tuned(
        best,
        {str(trial): rate for trial, rate in rates.items()},
        {str(trial): str(error) for trial, error in failed.items()},
    )


def trials_of(batches: Sequence[int], searches: Sequence[SearchOptions]) -> int:
    """Return how many trials ``tune`` makes."""
    return len(searches) + len(batches) - 1


def remember_tuned(name: str, precision: str, bundle: ModelBundle, found: Tuned) -> None:
    """Keep a result for later runs on this card."""
    key = _key(name, precision, bundle)
    path = _path(key)
    path.parent.mkdir(parents=True, exist_ok=True)
    with whole_file(path) as scratch:
        scratch.write_text(json.dumps({"key": key, **asdict(found)}, indent=1), encoding="utf-8")


def tuned(name: str, precision: str, bundle: ModelBundle) -> Tuned | None:
    """Return what was measured for this network on this card, or None if nothing was."""
    if this_device() is None:
        return None
    key = _key(name, precision, bundle)
    path = _path(key)
    if not path.exists():
        return None
    try:
        record = json.loads(path.read_text(encoding="utf-8"))
        _ = {json.dumps(key): "this card's"}[json.dumps(record["key"])]
        best = Trial(int(record["best"]["batch"]), SearchOptions(**record["best"]["search"]))
        return Tuned(best, record["rates"], record["failed"])
    except (OSError, ValueError, KeyError, TypeError) as error:
        log.warning("what was tuned for this card cannot be used (%s): tune again", error)
        return None


def tuned_batch(name: str, precision: str, bundle: ModelBundle) -> int | None:
    """Return the fastest batch on this card, if it was measured."""
    found = tuned(name, precision, bundle)
    return found.best.batch if found else None


def tuned_search(name: str, precision: str, bundle: ModelBundle, batch: int) -> SearchOptions:
    """Return how the builder is to search for a batch: as tuned if it is that one, or plainly."""
    found = tuned(name, precision, bundle)
    return found.best.search if found and found.best.batch == batch else PLAINLY


def _try(
    measure: Callable[[Trial], float],
    trial: Trial,
    rates: dict[Trial, float],
    failed: dict[Trial, EngineBuildError | DeviceError],
) -> None:
    """Measure one trial, or note why it cannot be."""
    try:
        rates[trial] = measure(trial)
    except (DeviceError, EngineBuildError) as error:
        failed[trial] = error
        log.warning("%s: %s", trial, error)
    else:
        log.info("%s: %s cells/s", trial, f"{rates[trial]:,.0f}")


def _key(name: str, precision: str, bundle: ModelBundle) -> dict[str, Any]:
    """Return all that a speed depends on."""
    device = this_device()
    assert device is not None
    return {
        **asdict(device),
        "variant": name,
        "version": open_variant(name).version,
        "architecture": bundle.architecture,
        "model_args": bundle.model_args,
        "size": [bundle.input.height, bundle.input.width],
        "precision": precision,
    }


def _path(key: dict[str, Any]) -> Path:
    """Name the file after the key."""
    digest = hashlib.sha256(json.dumps(key, sort_keys=True).encode()).hexdigest()
    return cache_folder() / "tuned" / f"{digest}.json"
