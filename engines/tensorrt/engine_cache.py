"""
EngineKey -> engine: taken from the cache where it is whole and fits, built where it is not.

One process builds at a time per key; a second waits and takes the result.
"""

from __future__ import annotations

import logging
from contextlib import contextmanager
from dataclasses import asdict, dataclass, replace
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any

from filelock import FileLock, Timeout

from engines.errors import EngineBuildError
from engines.files import sha256_of_file, whole_file
from engines.hardware.gpu import this_device
from engines.mixed_precision.policy import settled
from engines.models.onnx_export import GRAPH_VERSION, onnx_from_bundle
from engines.runtime.base import GPU_BATCH
from engines.tensorrt.builder import PLAINLY, RECIPE, BuildOptions, SearchOptions, build_engine
from engines.tensorrt.engine_store import (
    Engine,
    EngineKey,
    engines_folder,
    list_engines,
    read_engine,
    remove_engine,
    write_engine,
)
from engines.tensorrt.inspector import check_inspected, inspected_types
from engines.tensorrt.versions import VARIANT_NAMES, choose_variant

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence
    from pathlib import Path

    from engines.cells import Batch
    from engines.hardware.gpu import Device
    from engines.mixed_precision.policy import Mixed
    from engines.models.bundle import ModelBundle
    from engines.tensorrt.builder import SerializedEngine
    from engines.tensorrt.versions import Installed, Variant

__all__ = ["Engine", "EngineKey", "EngineOptions", "discard", "engine_for"]

log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True, kw_only=True)
class EngineOptions:
    """
    Which engine is wanted.

    Attributes:
        precision: ``fp16``, ``bf16`` or ``fp32``.
        batch: Cells per inference.
        variant: Of TensorRT, or ``auto``.
        targets: Build ahead of time for these GPUs (``sm_86``); none: for the GPU at hand, or
            for all that the variant knows where there is none.
        keep_fp32: Modules that stay in float32 in a half engine; None: those that
            ``engines.mixed_precision.policy`` has found, or finds on the sample.
        search: How TensorRT searches for kernels; ``engines.tensorrt.tuning`` may have measured
            what is best.
    """

    precision: str = "fp16"
    batch: int = GPU_BATCH
    variant: str = "auto"
    targets: tuple[str, ...] = ()
    keep_fp32: tuple[str, ...] | None = None
    search: SearchOptions = PLAINLY


@dataclass(frozen=True, slots=True)
class _Wanted:
    """An engine that is wanted, and what it would be built from."""

    bundle: ModelBundle
    mixed: Mixed | None
    keep_fp32: tuple[str, ...]
    key: EngineKey
    model: Path
    installed: Installed
    device: Device | None


def engine_for(
    bundle: ModelBundle,
    options: EngineOptions,
    *,
    sample: Sequence[Batch] = (),
    progress: Callable[[float, str], None] | None = None,
) -> Engine:
    """
    Return an engine for *bundle* that fits, building it if the cache has none.

    Args:
        bundle: The model.
        options: Which engine.
        sample: Decoded cells: a half engine's exceptions are found on them if none are known.
        progress: Called while it builds, with the share done (0 to 1) and the phase.

    Raises:
        BackendMissingError: If no variant of TensorRT will do.
        EngineBuildError: If the build fails.
    """
    wanted = _wanted(bundle, options, settled(bundle, options.precision, sample))
    if (ready := _ahead_of_time(wanted)) is not None:
        return ready
    with _locked(wanted.key):
        ready, why = _ready(wanted.key)
        if ready is not None:
            return ready
        log.info("building an engine, once (%s): %s", _label(wanted.key), why)
        return _built(wanted, progress)


def discard(engine: Engine, why: str) -> None:
    """Remove an engine that did not load, so that the next ``engine_for`` builds it anew."""
    log.info("the engine %s is discarded: %s", engine.key.short, why)
    with _locked(engine.key):
        remove_engine(engine)


def _wanted(bundle: ModelBundle, options: EngineOptions, mixed: Mixed | None) -> _Wanted:
    """Settle variant and place, export the model, and make the key."""
    device = this_device()
    installed = choose_variant(options.variant, device, ahead_of_time=bool(options.targets)).value
    targets = _targets(installed.variant, options.targets, device)
    keep_fp32 = options.keep_fp32
    if keep_fp32 is None:
        keep_fp32 = mixed.keep_fp32 if mixed else ()
    model = onnx_from_bundle(bundle, precision=options.precision, keep_fp32=keep_fp32)
    here = device if not targets else None
    key = EngineKey(
        weights_sha256=sha256_of_file(bundle.weights),
        onnx_sha256=sha256_of_file(model),
        graph_version=GRAPH_VERSION,
        recipe=RECIPE,
        precision=options.precision,
        batch=options.batch,
        level=options.search.level,
        aux_streams=options.search.aux_streams,
        variant=installed.variant.name,
        variant_version=installed.version,
        gpu=here.name if here else None,
        compute_capability=here.compute_capability if here else None,
        driver=here.driver if here else None,
        targets=targets,
    )
    return _Wanted(bundle, mixed, keep_fp32, key, model, installed, device)


def _targets(variant: Variant, asked: tuple[str, ...], device: Device | None) -> tuple[str, ...]:
    """Order the GPUs to build for; with none asked for and none here, all that there can be."""
    if unknown := sorted(set(asked) - set(variant.targets)):
        able = f"it can for {', '.join(variant.targets)}" if variant.targets else "it never can"
        raise EngineBuildError(
            f"{variant.name} cannot build ahead of time for {', '.join(unknown)}: {able}",
            hint="leave --for out on the machine with that GPU, and use "
            f"--runtime {VARIANT_NAMES[0]} there",
        )
    wanted = asked or (variant.targets if device is None else ())
    return tuple(target for target in variant.targets if target in wanted)


def _ahead_of_time(wanted: _Wanted) -> Engine | None:
    """Return a whole engine built ahead of time for GPUs that this one is among."""
    if wanted.device is None or wanted.key.targets:
        return None
    for engine in list_engines():
        if engine.key.takes(wanted.key, wanted.device) and engine.fault is None:
            return engine
    return None


def _ready(key: EngineKey) -> tuple[Engine | None, str]:
    """Return the cached engine if it is whole and this very key's, else why there is none."""
    record = engines_folder() / f"{key.digest}.json"
    if not record.exists():
        return None, _nearest(key)
    try:
        engine = read_engine(record)
    except ValueError as error:
        return None, str(error)
    if differences := key.differences(engine.key):
        return None, f"the record under its name is another's: {'; '.join(differences)}"
    if (fault := engine.fault) is not None:
        return None, fault
    return engine, ""


def _nearest(key: EngineKey) -> str:
    """Say what keeps the most similar engine of this model from being used."""
    others = [
        engine.key
        for engine in list_engines()
        if (engine.key.weights_sha256, engine.key.precision) == (key.weights_sha256, key.precision)
    ]
    if not others:
        return f"there is none in {key.precision} for this model yet"
    return min(("; ".join(key.differences(other)) for other in others), key=len)


def _built(wanted: _Wanted, progress: Callable[[float, str], None] | None) -> Engine:
    """Build, keep the timings, read the plan back if it can be, and write plan and record."""
    timings = _timings_path(wanted.key)
    built = build_engine(
        wanted.model,
        wanted.installed,
        BuildOptions(
            batch=wanted.key.batch,
            targets=wanted.key.targets,
            search=SearchOptions(level=wanted.key.level, aux_streams=wanted.key.aux_streams),
        ),
        timings=timings.read_bytes() if timings.exists() else b"",
        progress=progress,
    )
    if built.timings:
        with whole_file(timings) as scratch:
            scratch.write_bytes(built.timings)
    return write_engine(wanted.key, built.serialized, _facts(wanted, built))


def _facts(wanted: _Wanted, built: SerializedEngine) -> dict[str, Any]:
    """Say of a plan what its key does not."""
    device, inspected = wanted.device, None
    if device is not None and (not wanted.key.targets or device.target in wanted.key.targets):
        inspected = inspected_types(wanted.installed, built.serialized)
        if inspected["layers"] or not wanted.installed.variant.compiles_on_device:
            check_inspected(inspected, built.types.convolutions)
    return {
        "built": datetime.now(UTC).isoformat(timespec="seconds"),
        "seconds": round(built.seconds, 3),
        "bundle": {"sha256": wanted.bundle.sha256, "architecture": wanted.bundle.architecture},
        "keep_fp32": list(wanted.keep_fp32),
        "mixed": asdict(wanted.mixed) if wanted.mixed else None,
        "types": {**asdict(built.types), "half_share": round(built.types.half_share, 4)},
        "inspected": inspected if inspected and inspected["layers"] else None,
    }


def _timings_path(key: EngineKey) -> Path:
    """Name the timing cache after what timings depend on, shared by all models."""
    of = replace(
        key,
        weights_sha256="",
        onnx_sha256="",
        graph_version=0,
        recipe=0,
        precision="",
        batch=0,
        level=0,
        aux_streams=None,
    )
    return engines_folder() / f"{of.digest}.timings"


@contextmanager
def _locked(key: EngineKey) -> Iterator[None]:
    """Hold the key's lock; it is let go when the process ends, however it ends."""
    lock = FileLock(engines_folder() / f"{key.digest}.lock")
    try:
        lock.acquire(timeout=0)
    except Timeout:
        log.info("another process is building this engine; waiting for it")
        lock.acquire()
    try:
        yield
    finally:
        lock.release()


def _label(key: EngineKey) -> str:
    """Name an engine for a person."""
    return (
        f"{key.precision}, batch {key.batch}, {key.variant} {key.variant_version}, {key.made_for}"
    )
