"""
Which modules half precision must leave to float32, found on real cells against FP32 PyTorch.

First those whose activations come too near the type's maximum. Then, while parity still misses,
the ones that cost it most (``engines.mixed_precision.sensitivity``). What training found travels
in the bundle; what is found later is kept on this machine, for every later engine.
"""

from __future__ import annotations

import json
import logging
from collections.abc import Mapping  # noqa: TC003  evaluated when a record is read
from dataclasses import asdict, dataclass, replace
from typing import TYPE_CHECKING, Any, Self

import numpy as np

from engines.errors import BundleError
from engines.files import cache_folder, read_json, whole_file
from engines.json_records import record_from_json
from engines.mixed_precision.activation_range import half_limit
from engines.mixed_precision.sensitivity import Trial, agrees, costly_modules, overflowing_modules
from engines.models.casting import DTYPES, within
from engines.models.onnx_export import GRAPH_VERSION

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

    from numpy.typing import NDArray

    from engines.cells import Batch, CellRef
    from engines.mixed_precision.activation_range import Peaks
    from engines.models.bundle import ModelBundle
    from engines.parity import ScoreAgreement

__all__ = [
    "Mixed",
    "checked_mixed",
    "find_mixed",
    "kept_in_fp32",
    "remember",
    "remembered",
    "settled",
    "with_exceptions",
]

log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True, kw_only=True)
class Mixed:
    """
    A half precision with exceptions, and how it agrees with FP32 PyTorch.

    Attributes:
        precision: ``fp16`` or ``bf16``.
        overflowing: Modules kept in float32 because of their activations, largest value each.
        costly: Modules kept in float32 because parity missed without.
        peak: The largest activation of a module that computes in half.
        peak_module: Which.
        cells: How many cells this was found on.
        max_dp: Largest absolute difference of a calibrated probability.
        flips: Cells whose label differs.
        holds: Whether parity holds with these exceptions.
    """

    precision: str
    overflowing: Mapping[str, float]
    costly: tuple[str, ...]
    peak: float
    peak_module: str
    cells: int
    max_dp: float
    flips: int
    holds: bool

    @property
    def keep_fp32(self) -> tuple[str, ...]:
        """Every module that stays in float32."""
        return _smallest({*self.overflowing, *self.costly})

    @classmethod
    def from_record(cls, record: Mapping[str, Any]) -> Self:
        """
        Read it back from JSON.

        Raises:
            ValueError: If something is missing or of another type.
        """
        return record_from_json(cls, record)


def checked_mixed(
    bundle: ModelBundle,
    refs: Sequence[CellRef],
    pixels: NDArray[np.uint8],
    known: Mixed,
) -> Mixed | None:
    """
    Measure exceptions that served the same weights before, at another input, say.

    Args:
        bundle: The model.
        refs: n > 0 cells, real ones.
        pixels: ``(n, H, W, 3)``, at the model's size.
        known: What was found then.

    Returns:
        The same exceptions with what they come to now; None if they no longer serve.
    """
    trial = Trial.of(bundle, refs, pixels, known.precision)
    agreement, peaks = trial.watched(known.keep_fp32)
    if peaks.above(half_limit(DTYPES[known.precision])) or not agrees(agreement):
        return None
    return _measured(replace(known, cells=len(refs)), agreement, peaks)


def find_mixed(
    bundle: ModelBundle,
    refs: Sequence[CellRef],
    pixels: NDArray[np.uint8],
    *,
    precision: str,
) -> Mixed:
    """
    Find the modules that must stay in float32.

    Args:
        bundle: The model.
        refs: n > 0 cells, real ones.
        pixels: ``(n, H, W, 3)``, at the model's size.
        precision: ``fp16`` or ``bf16``.

    Returns:
        What was found; ``holds`` is False if parity misses even with everything in float32.
    """
    trial = Trial.of(bundle, refs, pixels, precision)
    overflowing, agreement, peaks = overflowing_modules(trial)
    costly: list[str] = []
    if not agrees(agreement):
        log.info("%s; looking for what has to stay in float32", agreement)
        costly = costly_modules(trial, set(overflowing))
        agreement, peaks = trial.watched({*overflowing, *costly})
    found = Mixed(
        precision=precision,
        overflowing=overflowing,
        costly=tuple(costly),
        peak=0.0,
        peak_module="",
        cells=len(refs),
        max_dp=0.0,
        flips=0,
        holds=False,
    )
    return _measured(found, agreement, peaks)


def _measured(mixed: Mixed, agreement: ScoreAgreement, peaks: Peaks) -> Mixed:
    """Enter what a trial of these exceptions has shown."""
    peak_module = max(peaks.of, key=lambda name: peaks.of[name], default="")
    return replace(
        mixed,
        peak=peaks.of.get(peak_module, 0.0),
        peak_module=peak_module,
        max_dp=agreement.max_dp,
        flips=agreement.flips,
        holds=agreement.holds,
    )


def settled(
    bundle: ModelBundle,
    precision: str,
    sample: Sequence[Batch] = (),
    *,
    again: bool = False,
) -> Mixed | None:
    """
    Return what is known of a model at a precision; if nothing is, find it on *sample* and keep it.

    Args:
        bundle: The model.
        precision: None is returned for ``fp32``, which needs no exceptions.
        sample: Decoded cells, real ones; without any nothing is looked for.
        again: Whether to look even if something is known.
    """
    known = None if again or precision == "fp32" else remembered(bundle, precision)
    refs = [ref for batch in sample for ref in batch.refs]
    if known is not None or precision == "fp32" or not refs:
        return known
    log.info("looking for what %s must leave to float32, on %d cells, once", precision, len(refs))
    pixels = np.concatenate([batch.host_pixels for batch in sample])
    found = find_mixed(bundle, refs, pixels, precision=precision)
    remember(bundle, found)
    kept = _names(found.keep_fp32)
    log.info("%s agrees to %.2g; kept in float32: %s", precision, found.max_dp, kept)
    return found


def kept_in_fp32(
    bundle: ModelBundle, precision: str, sample: Sequence[Batch] = ()
) -> tuple[str, ...]:
    """Return the modules that stay in float32 by what ``settled`` returns; none if nothing does."""
    mixed = settled(bundle, precision, sample)
    return mixed.keep_fp32 if mixed else ()


def _names(modules: Sequence[str]) -> str:
    """List modules."""
    return ", ".join(modules) or "nothing"


def remembered(bundle: ModelBundle, precision: str) -> Mixed | None:
    """
    Return what was found for a model before: on this machine, or when it was made.

    Raises:
        BundleError: If the bundle's own record cannot be read.
    """
    try:
        return Mixed.from_record(read_json(_memory(bundle, precision)))
    except (OSError, ValueError):
        return _made_with(bundle, precision)


def _made_with(bundle: ModelBundle, precision: str) -> Mixed | None:
    """Return what training found, if it looked."""
    try:
        return Mixed.from_record(bundle.half[precision]) if precision in bundle.half else None
    except ValueError as error:
        raise BundleError(
            f"what {bundle.folder} says of {precision} cannot be read: {error}",
            hint="copy the whole bundle again, or take half out of its screening.json",
        ) from error


def remember(bundle: ModelBundle, mixed: Mixed) -> None:
    """Keep what was found, for every later engine of this model."""
    path = _memory(bundle, mixed.precision)
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        with whole_file(path) as scratch:
            scratch.write_text(json.dumps(asdict(mixed), indent=1), encoding="utf-8")
    except OSError as error:
        log.warning("cannot keep in %s what %s needs: %s", path, mixed.precision, error.strerror)


def with_exceptions(version: str, keep_fp32: Sequence[str]) -> str:
    """Return a version that says which modules stay in float32: other exceptions, other scores."""
    return f"{version}, in float32 {' '.join(keep_fp32)}" if keep_fp32 else version


def _memory(bundle: ModelBundle, precision: str) -> Path:
    """Name the file after what the finding depends on."""
    return cache_folder() / "mixed" / f"{bundle.sha256}-{GRAPH_VERSION}-{precision}.json"


def _smallest(names: set[str]) -> tuple[str, ...]:
    """Leave out names that lie within others."""
    return tuple(sorted(name for name in names if not within(name, names - {name})))
