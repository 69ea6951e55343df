"""An engine held against what it should be: its plan, its types, its arithmetic, its scores."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal

import numpy as np

from engines import parity
from engines.backends import decoder_candidates, obstacle, open_decoder, open_runtime
from engines.decode.base import DecodeOptions
from engines.errors import BackendMissingError, BundleError, SourceError, UserError
from engines.files import sha256_of_file
from engines.mixed_precision.activation_range import half_limit
from engines.mixed_precision.policy import settled
from engines.mixed_precision.sensitivity import Trial
from engines.models.casting import DTYPES
from engines.models.onnx_export import onnx_from_bundle
from engines.registry import REFERENCE_RUNTIME, runtime_row
from engines.runtime.base import RuntimeOptions
from engines.sources import open_source
from engines.sources.slide_rule import SlideRule
from engines.tensorrt.builder import exported_types
from engines.tensorrt.inspector import malformed
from engines.tensorrt.versions import open_variant
from screen.results.planning import plan_source

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence
    from pathlib import Path

    from numpy.typing import NDArray

    from engines.cells import Batch, CellRef
    from engines.models.bundle import ModelBundle
    from engines.runtime.base import Runtime
    from engines.tensorrt.engine_store import Engine

__all__ = ["Finding", "cells_of", "exceptions_from", "held_against"]

SAMPLE = 64  # cells
SAMPLE_BATCH = 8  # cells
ONE_SHARD = 1 << 30  # cells: the plan is only listed, never cut

Outcome = Literal["ok", "failed", "not checked"]


@dataclass(frozen=True, slots=True)
class Finding:
    """
    One thing that was checked, or could not be.

    Attributes:
        name: What.
        outcome: How it went.
        detail: The numbers, or why it could not be checked.
    """

    name: str
    outcome: Outcome
    detail: str


def cells_of(folder: Path, bundle: ModelBundle, count: int, batch: int) -> list[Batch]:
    """
    Decode up to *count* cells, spread over a folder.

    Raises:
        SourceError: If none can be decoded.
    """
    source = open_source(folder)
    plan = plan_source(source, SlideRule("parent"), ONE_SHARD)
    options = DecodeOptions(batch=min(SAMPLE_BATCH, batch))
    decoder = open_decoder(
        next(decoder_candidates()).decoder.value, source.read, bundle.input, options
    )
    batches = parity.sample(decoder, plan.spread(count), count)
    if not batches:
        raise SourceError(f"no cell in {folder} can be decoded", hint="name a folder of real cells")
    return batches


def exceptions_from(folder: Path, bundle: ModelBundle, precision: str) -> None:
    """Find anew, on real cells, what a half precision leaves to float32; later engines know it."""
    if precision != "fp32":
        sample = cells_of(folder, bundle, SAMPLE, SAMPLE_BATCH)
        settled(bundle, precision, sample, again=True)


def held_against(
    engine: Engine, bundle: ModelBundle, batches: Sequence[Batch]
) -> Iterator[Finding]:
    """
    Check an engine, the cheap things first; stop where the rest would mean nothing.

    Raises:
        BundleError: If the engine was not built from *bundle*.
    """
    if sha256_of_file(bundle.weights) != engine.key.weights_sha256:
        raise BundleError(
            f"the engine {engine.key.short} was not built from {bundle.folder}",
            hint="name the bundle that it was built from with --model",
        )
    plan = _plan(engine)
    yield plan
    yield _types(engine, bundle)
    yield _arithmetic(engine, bundle, batches)
    if plan.outcome == "ok":
        yield _scores(engine, bundle, batches)


def _plan(engine: Engine) -> Finding:
    """Check the plan's bytes against its record, and its form where the variant can tell."""
    if (fault := engine.fault) is not None:
        return Finding("plan", "failed", fault)
    size = f"{engine.record['plan']['bytes'] / 1e6:.1f} MB, SHA-256 as recorded"
    try:
        installed = open_variant(engine.key.variant)
    except BackendMissingError as error:
        return Finding("plan", "ok", f"{size}; its form was not checked: {error}")
    if malformed(installed, engine.path.read_bytes()):
        return Finding("plan", "failed", f"{engine.key.variant} says that it is malformed")
    return Finding("plan", "ok", size)


def _types(engine: Engine, bundle: ModelBundle) -> Finding:
    """Check that the recorded types are those of this very model, exported again."""
    kept = tuple(engine.record["keep_fp32"])
    model = onnx_from_bundle(bundle, precision=engine.key.precision, keep_fp32=kept)
    parsed = engine.record["types"]["convolutions"]
    if sha256_of_file(model) != engine.key.onnx_sha256:
        return Finding("types", "failed", "the model exports to another ONNX file than it did then")
    if parsed != exported_types(model)["convolutions"]:
        return Finding("types", "failed", f"the plan's convolutions are {parsed}")
    own, total = parsed[engine.key.precision], sum(parsed.values())
    inspected = engine.record["inspected"]
    read_back = f", read back as {inspected['convolutions']}" if inspected else ""
    detail = f"{own} of {total} convolutions in {engine.key.precision}{read_back}"
    return Finding("types", "ok", f"{detail}; kept in fp32: {', '.join(kept) or 'none'}")


def _arithmetic(engine: Engine, bundle: ModelBundle, batches: Sequence[Batch]) -> Finding:
    """Compute in PyTorch with the engine's casts, and hold it against float32."""
    if engine.key.precision == "fp32":
        return Finding("arithmetic", "ok", "float32: the reference's own")
    pixels = np.concatenate([batch.host_pixels for batch in batches])
    trial = Trial.of(bundle, _refs(batches), pixels, engine.key.precision)
    agreement, peaks = trial.watched(engine.record["keep_fp32"])
    limit = half_limit(DTYPES[engine.key.precision])
    near = peaks.above(limit)
    highest = max(peaks.of.values(), default=0.0)
    detail = f"PyTorch with the same casts: {agreement}; largest activation {highest:.4g}"
    if near:
        detail += f", above {limit:.4g} in {', '.join(near)}"
    return Finding("arithmetic", "ok" if agreement.holds and not near else "failed", detail)


def _scores(engine: Engine, bundle: ModelBundle, batches: Sequence[Batch]) -> Finding:
    """Run the plan itself against FP32 PyTorch, where a GPU can."""
    from engines.runtime.tensorrt import open_engine

    found = obstacle(runtime_row(engine.key.variant))
    if found is not None:
        return Finding("scores", "not checked", f"the plan itself was not run: {found.reason}")
    key = engine.key
    options = RuntimeOptions(precision=key.precision, batch=key.batch)
    try:
        ours = _logits(open_engine(engine, bundle, options), batches)
    except UserError as error:
        return Finding("scores", "failed", str(error))
    reference = open_runtime(REFERENCE_RUNTIME, bundle, RuntimeOptions(batch=SAMPLE_BATCH))
    agreement = parity.score_agreement(
        _refs(batches), ours, _logits(reference, batches), bundle=bundle, precision=key.precision
    )
    return Finding("scores", "ok" if agreement.holds else "failed", str(agreement))


def _refs(batches: Sequence[Batch]) -> list[CellRef]:
    """Name the cells of some batches, in order."""
    return [ref for batch in batches for ref in batch.refs]


def _logits(runtime: Runtime, batches: Sequence[Batch]) -> NDArray[np.float32]:
    """Score batches through the stream, as a run does."""
    return np.concatenate([scores.logits for scores in runtime.stream(batches)])
