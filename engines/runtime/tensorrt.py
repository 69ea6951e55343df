"""TensorRT and TensorRT-RTX on a GPU; torch owns the memory and the streams."""

from __future__ import annotations

from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING, Any

import torch

from engines.errors import EngineBuildError
from engines.mixed_precision.policy import with_exceptions
from engines.models.onnx_export import OUTPUTS
from engines.runtime.gpu_slots import Bound, DeviceRuntime
from engines.tensorrt.engine_cache import EngineOptions, discard, engine_for
from engines.tensorrt.inspector import loaded_plan
from engines.tensorrt.logger import errors_of
from engines.tensorrt.versions import open_variant

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from engines.cells import Batch
    from engines.hardware.cuda_streams import Stream
    from engines.models.bundle import ModelBundle
    from engines.runtime.base import RuntimeOptions
    from engines.tensorrt.engine_store import Engine
    from engines.tensorrt.versions import Installed

__all__ = ["TensorRTRuntime", "open_cached", "open_engine", "open_tensorrt", "open_tensorrt_rtx"]

INPUT = "pixels"
TYPES = {"FLOAT": torch.float32, "HALF": torch.float16}


@dataclass(frozen=True, slots=True)
class LoadedEngine:
    """
    An engine that TensorRT has loaded.

    Attributes:
        installed: The variant that loaded it.
        engine: Where it came from, with its record.
        plan: TensorRT's ``ICudaEngine``.
    """

    installed: Installed
    engine: Engine
    plan: Any


class TensorRTRuntime(DeviceRuntime):
    """
    A Runtime (see ``engines.runtime.base``) that runs a plan.

    Each slot has an execution context, and so activations, of its own.
    """

    def __init__(self, bundle: ModelBundle, options: RuntimeOptions, loaded: LoadedEngine) -> None:
        """Tie a context to each slot."""
        self._plan = loaded.plan
        self._installed = loaded.installed
        self.name = loaded.installed.variant.name
        version = f"{self.name} {loaded.installed.version}"
        self.version = with_exceptions(version, loaded.engine.record["keep_fp32"])
        super().__init__(bundle, options, self._bound)

    def _bound(self, pixels: torch.Tensor, stream: Stream) -> Bound:
        """Give a context its addresses."""
        with errors_of(self._installed):
            config = _runtime_config(self._installed, self._plan)
            context = _context(self._plan, config)
            _check(context is not None, "no execution context came out")
            _check(context.set_input_shape(INPUT, tuple(pixels.shape)), "the batch does not fit")
            names = _output_names(self._plan)
            outputs = tuple(_output(self._plan, context, name, stream) for name in names)
            addresses = zip((INPUT, *names), (pixels, *outputs), strict=True)
            for name, tensor in addresses:
                _check(context.set_tensor_address(name, tensor.data_ptr()), f"no place for {name}")

        def work() -> None:
            with errors_of(self._installed):
                _check(context.execute_async_v3(stream.handle), "the plan did not run")

        return Bound(
            work, outputs, capturable=_capturable(context, stream), keeps=(context, config)
        )


def open_cached(
    name: str,
    bundle: ModelBundle,
    options: RuntimeOptions,
    *,
    sample: Sequence[Batch] = (),
    progress: Callable[[float, str], None] | None = None,
) -> TensorRTRuntime:
    """
    Open a variant of TensorRT with the engine of the cache, which is built on first use.

    One that does not load is discarded and built anew, once; not if it is the GPU that failed or
    that has no memory left, and not if it was built ahead of time, for other GPUs too.

    Raises:
        EngineBuildError: If that one does not load either.
        DeviceError: If the GPU failed.
    """
    installed = open_variant(name)
    wanted = EngineOptions(precision=options.precision, batch=options.batch, variant=name)
    engine = engine_for(bundle, wanted, sample=sample, progress=progress)
    try:
        loaded = _loaded(engine, installed)
    except EngineBuildError as error:
        if engine.key.targets:
            raise
        discard(engine, str(error))
        engine = engine_for(bundle, wanted, sample=sample, progress=progress)
        loaded = _loaded(engine, installed)
    return TensorRTRuntime(bundle, options, loaded)


open_tensorrt = partial(open_cached, "tensorrt")
open_tensorrt_rtx = partial(open_cached, "tensorrt-rtx")


def open_engine(engine: Engine, bundle: ModelBundle, options: RuntimeOptions) -> TensorRTRuntime:
    """Open exactly this engine, or raise EngineBuildError."""
    installed = open_variant(engine.key.variant)
    return TensorRTRuntime(bundle, options, _loaded(engine, installed))


def _loaded(engine: Engine, installed: Installed) -> LoadedEngine:
    """Load an engine's plan, or raise EngineBuildError."""
    with errors_of(installed) as logger:
        plan = loaded_plan(installed.trt, logger, engine.path.read_bytes())
    return LoadedEngine(installed, engine, plan)


def _runtime_config(installed: Installed, plan: Any) -> Any:
    """
    Say that kernels never change, where they could; None where they cannot.

    TensorRT-RTX compiles them for the shape at hand, by default behind one's back: other kernels
    at first, and so other last bits.
    """
    strategies = getattr(installed.trt, "DynamicShapesKernelSpecializationStrategy", None)
    if strategies is None:
        return None
    config = plan.create_runtime_config()
    config.dynamic_shapes_kernel_specialization_strategy = strategies.EAGER
    return config


def _context(plan: Any, config: Any) -> Any:
    """Make an execution context; *config* has to live as long."""
    if config is None:
        return plan.create_execution_context()
    return plan.create_execution_context(config)


def _output_names(plan: Any) -> tuple[str, ...]:
    """Name the plan's outputs in our order; not every model has evidence."""
    there = {plan.get_tensor_name(number) for number in range(plan.num_io_tensors)}
    return tuple(name for name in OUTPUTS if name in there)


def _output(engine: Any, context: Any, name: str, stream: Stream) -> torch.Tensor:
    """Make room for an output."""
    shape = tuple(context.get_tensor_shape(name))
    return torch.empty(shape, dtype=TYPES[engine.get_tensor_dtype(name).name], device=stream.device)


def _capturable(context: Any, stream: Stream) -> bool:
    """Tell whether the plan can be captured as a CUDA graph; TensorRT 10 cannot say, and can."""
    ask = getattr(context, "is_stream_capturable", None)
    return ask is None or bool(ask(stream.handle))


def _check(holds: object, otherwise: str) -> None:
    """Raise what ``errors_of`` turns into ours, with what TensorRT logged."""
    if not holds:
        raise RuntimeError(otherwise)
