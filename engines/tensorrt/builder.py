"""
ONNX -> TensorRT plan: one path for every variant, strongly typed, one static batch shape.

Types are read back from the parsed network before anything is built, and from the plan itself
where a GPU can load it (``engines.inspect``): a plan that is quietly float32 is an error.
"""

from __future__ import annotations

import json
import logging
import time
from collections import Counter
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import onnx

from engines.errors import EngineBuildError
from engines.models.onnx_export import OUTPUTS, TYPES_KEY
from engines.tensorrt.logger import errors_of, progress_monitor
from engines.tensorrt.versions import OTHER_RUNTIMES

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence
    from pathlib import Path

    from engines.tensorrt.versions import Installed

__all__ = [
    "PLAINLY",
    "RECIPE",
    "BuildOptions",
    "SearchOptions",
    "SerializedEngine",
    "Types",
    "build_engine",
    "exported_types",
    "parsed_types",
]

RECIPE = 3  # part of an engine's key: raise it when the settings below change
DEFAULT_LEVEL = 3
PRECISIONS = {"FLOAT": "fp32", "HALF": "fp16", "BF16": "bf16"}

log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True, kw_only=True)
class SearchOptions:
    """
    How long and among what TensorRT searches for the fastest kernels.

    Attributes:
        level: TensorRT's optimisation level, 0 to 5; 3 is its own default.
        aux_streams: CUDA streams beside the main one at most; None: as TensorRT finds best.
    """

    level: int = DEFAULT_LEVEL
    aux_streams: int | None = None

    def __str__(self) -> str:
        """Name it for a person."""
        streams = "" if self.aux_streams is None else f", {self.aux_streams} auxiliary streams"
        return f"optimisation level {self.level}{streams}"


PLAINLY = SearchOptions()


@dataclass(frozen=True, slots=True, kw_only=True)
class BuildOptions:
    """
    What a plan is built for.

    Attributes:
        batch: Cells per inference: the one batch size that it takes.
        targets: Build ahead of time for these GPUs (``sm_86``); none: for the GPU at hand.
        search: How TensorRT searches for kernels.
    """

    batch: int
    targets: tuple[str, ...] = ()
    search: SearchOptions = PLAINLY

    def __post_init__(self) -> None:
        """Refuse an empty batch."""
        if self.batch < 1:
            raise ValueError(f"batch must be at least 1, got {self.batch}")


@dataclass(frozen=True, slots=True, kw_only=True)
class Types:
    """
    What a parsed network computes in.

    Attributes:
        convolutions: How many, by precision.
        layers: Layers that give floating point numbers, by precision.
        inputs: Name, type and shape.
        outputs: Likewise.
    """

    convolutions: dict[str, int]
    layers: dict[str, int]
    inputs: list[dict[str, Any]]
    outputs: list[dict[str, Any]]

    @property
    def half_share(self) -> float:
        """The share of layers that compute in half."""
        return (self.layers.get("fp16", 0) + self.layers.get("bf16", 0)) / sum(self.layers.values())


@dataclass(frozen=True, slots=True, kw_only=True)
class SerializedEngine:
    """
    A built engine, as TensorRT serializes it: a plan.

    Attributes:
        serialized: Its bytes.
        types: What the parsed network computes in.
        timings: The timing cache after the build, empty where the variant keeps none.
        seconds: How long the build took.
    """

    serialized: bytes
    types: Types
    timings: bytes = field(repr=False)
    seconds: float


def build_engine(
    model: Path,
    installed: Installed,
    options: BuildOptions,
    *,
    timings: bytes = b"",
    progress: Callable[[float, str], None] | None = None,
) -> SerializedEngine:
    """
    Build a plan from an ONNX file of ours.

    Args:
        model: As ``engines.models.onnx_export.onnx_from_bundle`` wrote it; its types are obeyed.
        installed: The variant that builds.
        options: For what.
        timings: An earlier build's timing cache; one that does not fit is ignored.
        progress: Called with the share done, rising from 0 to 1, and what is being done.

    Raises:
        EngineBuildError: If TensorRT does not take the model or the GPU, or the parsed network
            computes in other types than the file says.
    """
    trt = installed.trt
    start = time.monotonic()
    with errors_of(installed) as logger:
        builder = trt.Builder(logger)
        network = builder.create_network(_creation_flags(installed))
        _parse(trt, network, logger, model)
        _fix_batch(network, options.batch)
        types = parsed_types(trt, network)
        _check_types(types, model)
        config = _config(installed, builder, options)
        cache = _attach_timings(installed, config, timings)
        with progress_monitor(trt, progress) as monitor:
            config.progress_monitor = monitor
            serialized = builder.build_serialized_network(network, config)
        if serialized is None:
            raise RuntimeError("no plan came out")
        return SerializedEngine(
            serialized=bytes(serialized),
            types=types,
            timings=bytes(cache.serialize()) if cache is not None else b"",
            seconds=time.monotonic() - start,
        )


def parsed_types(trt: Any, network: Any) -> Types:
    """Read the types of a parsed network, layer by layer."""
    layers: Counter[str] = Counter()
    convolutions: Counter[str] = Counter()
    for layer in map(network.get_layer, range(network.num_layers)):
        name = PRECISIONS.get(layer.get_output(0).dtype.name)
        if name is None or layer.type == trt.LayerType.CONSTANT:
            continue
        layers[name] += 1
        if layer.type == trt.LayerType.CONVOLUTION:
            convolutions[name] += 1
    return Types(
        convolutions=dict(convolutions),
        layers=dict(layers),
        inputs=_facts(map(network.get_input, range(network.num_inputs))),
        outputs=_facts(map(network.get_output, range(network.num_outputs))),
    )


def _creation_flags(installed: Installed) -> int:
    """Ask for strong typing where it is not the only way."""
    if not installed.variant.typing_flag:
        return 0
    return 1 << int(installed.trt.NetworkDefinitionCreationFlag.STRONGLY_TYPED)


def _parse(trt: Any, network: Any, logger: Any, model: Path) -> None:
    """Fill *network* from the file, naming what TensorRT cannot do."""
    parser = trt.OnnxParser(network, logger)
    if parser.parse_from_file(str(model)):
        return
    faults = [parser.get_error(index) for index in range(parser.num_errors)]
    operators = sorted({fault.node_operator() for fault in faults} - {""})
    if operators:
        raise EngineBuildError(
            f"TensorRT has no operator {', '.join(operators)}, which this model needs: "
            f"{faults[0].desc()}",
            hint=f"use --runtime {' or '.join(OTHER_RUNTIMES[:2])} for this model",
        )
    what = faults[0].desc() if faults else "no reason given"
    raise EngineBuildError(
        f"TensorRT cannot read the exported model {model.name}: {what}",
        hint=f"delete {model} and try again",
    )


def exported_types(model: Path) -> dict[str, Any]:
    """Return what the exporter wrote into the file: ``precision``, ``convolutions`` by type."""
    props = onnx.load(str(model), load_external_data=False).metadata_props
    types: dict[str, Any] = json.loads({prop.key: prop.value for prop in props}[TYPES_KEY])
    return types


def _check_types(types: Types, model: Path) -> None:
    """Refuse a network that computes in other types, or gives other outputs, than was exported."""
    exported = exported_types(model)
    if types.convolutions != exported["convolutions"]:
        raise EngineBuildError(
            f"the parsed network has convolutions {types.convolutions},"
            f" exported were {exported['convolutions']}",
            hint="use --precision fp32, and report this as a bug of slidescreen",
        )
    if exported["precision"] not in types.convolutions:
        raise EngineBuildError(
            f"no convolution of this model can be left in {exported['precision']}",
            hint="use --precision fp32",
        )
    if tuple(output["name"] for output in types.outputs) not in (OUTPUTS, OUTPUTS[:2]):
        raise EngineBuildError(f"the parsed network has outputs {types.outputs}, not {OUTPUTS}")


def _fix_batch(network: Any, batch: int) -> None:
    """
    Give the network's input its one shape.

    With a profile instead, even of a single shape, the inspector leaves types out ("N/A due to
    dynamic shapes"), so that float32 in a half engine could not be seen.
    """
    pixels = network.get_input(0)
    pixels.shape = (batch, *pixels.shape[1:])


def _config(installed: Installed, builder: Any, options: BuildOptions) -> Any:
    """Ask for float32 that is float32, and for a plan that can be inspected."""
    trt = installed.trt
    config = builder.create_builder_config()
    config.clear_flag(trt.BuilderFlag.TF32)  # ten bits of mantissa: not what fp32 promises
    config.profiling_verbosity = trt.ProfilingVerbosity.DETAILED
    if options.search.level != DEFAULT_LEVEL:
        config.builder_optimization_level = options.search.level
    if options.search.aux_streams is not None:
        config.max_aux_streams = options.search.aux_streams
    if installed.variant.compiles_on_device:
        config.set_flag(trt.BuilderFlag.REQUIRE_USER_ALLOCATION)  # or nothing can be captured
    if installed.variant.targets:
        _set_targets(trt, config, options.targets)
    return config


def _set_targets(trt: Any, config: Any, targets: Sequence[str]) -> None:
    """Name the GPUs to build for, or the one at hand."""
    names = [target.replace("sm_", "SM") for target in targets] or ["CURRENT"]
    config.num_compute_capabilities = len(names)
    for index, name in enumerate(names):
        config.set_compute_capability(getattr(trt.ComputeCapability, name), index)


def _attach_timings(installed: Installed, config: Any, timings: bytes) -> Any:
    """Reuse an earlier build's timings, or start to collect them; None where none are kept."""
    if not installed.variant.timing_cache:
        return None
    for blob in (timings, b""):
        cache = config.create_timing_cache(blob)
        if cache is not None and config.set_timing_cache(cache, ignore_mismatch=False):
            return cache
        log.info("an earlier build's timings do not fit this GPU; timing anew")
    return None


def _facts(tensors: Any) -> list[dict[str, Any]]:
    """Describe inputs or outputs."""
    return [
        {"name": tensor.name, "type": tensor.dtype.name.lower(), "shape": list(tensor.shape)}
        for tensor in tensors
    ]
