"""TensorRT and TensorRT-RTX on a GPU; torch owns the memory and the streams."""

from __future__ import annotations

import logging
import time
from dataclasses import dataclass
from functools import partial
from itertools import count
from typing import TYPE_CHECKING, Any

import torch

from engines.cells import Batch, CellFacts, CellRef, Shard
from engines.errors import EngineBuildError
from engines.mixed_precision.policy import with_exceptions
from engines.models.onnx_export import OUTPUTS
from engines.runtime.base import RuntimeOptions
from engines.runtime.gpu_slots import Bound, DeviceRuntime
from engines.tensorrt.builder import PLAINLY, SearchOptions
from engines.tensorrt.engine_cache import EngineOptions, discard, engine_for
from engines.tensorrt.inspector import loaded_plan
from engines.tensorrt.logger import errors_of
from engines.tensorrt.runtime_cache import RuntimeCache, runtime_cache_path
from engines.tensorrt.tuning import tuned_search
from engines.tensorrt.versions import open_variant

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence

    from engines.hardware.cuda_streams import Stream
    from engines.models.bundle import ModelBundle
    from engines.tensorrt.engine_store import Engine
    from engines.tensorrt.versions import Installed

__all__ = [
    "TensorRTRuntime",
    "engine_rate",
    "open_cached",
    "open_engine",
    "open_tensorrt",
    "open_tensorrt_rtx",
]

INPUT = "pixels"
WARM_UPS = 6  # batches that are not timed
TYPES = {"FLOAT": torch.float32, "HALF": torch.float16}

log = logging.getLogger(__name__)


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

    Each slot has an execution context, and so activations, of its own; kernels that are compiled
    on the device are shared by all slots, and kept for the next start.
    """

    def __init__(self, bundle: ModelBundle, options: RuntimeOptions, loaded: LoadedEngine) -> None:
        """Tie a context to each slot."""
        self._plan = loaded.plan
        self._installed = loaded.installed
        self._kernels_path = runtime_cache_path(loaded.engine.path)
        self._kernels: RuntimeCache | None = None
        self.name = loaded.installed.variant.name
        version = f"{self.name} {loaded.installed.version}{_search(loaded.engine)}"
        self.version = with_exceptions(version, loaded.engine.record["keep_fp32"])
        super().__init__(bundle, options, self._bound)
        if self._kernels is not None:
            with errors_of(self._installed):
                self._kernels.save()

    def _bound(self, pixels: torch.Tensor, stream: Stream) -> Bound:
        """Give a context its memory and its addresses."""
        with errors_of(self._installed):
            config = self._runtime_config()
            context = _context(self._plan, config)
            _check(context is not None, "no execution context came out")
            _check(context.set_input_shape(INPUT, tuple(pixels.shape)), "the batch does not fit")
            memory = None if config is None else _memory(context, stream)
            names = _output_names(self._plan)
            outputs = tuple(_output(self._plan, context, name, stream) for name in names)
            addresses = zip((INPUT, *names), (pixels, *outputs), strict=True)
            for name, tensor in addresses:
                _check(context.set_tensor_address(name, tensor.data_ptr()), f"no place for {name}")

        def work() -> None:
            with errors_of(self._installed):
                _check(context.execute_async_v3(stream.handle), "the plan did not run")

        keeps = (context, config, memory, self._kernels)
        return Bound(work, outputs, capturable=_capturable(context, stream), keeps=keeps)

    def _runtime_config(self) -> Any:
        """
        Return settings of a context where kernels are compiled on the device, otherwise None.

        Kernels never change: TensorRT-RTX would compile them for the shape at hand behind one's
        back, by default: other kernels at first, and so other last bits. All slots have one cache
        of kernels. A context's memory is ours, since the plan is built to require it.
        """
        if not self._installed.variant.compiles_on_device:
            return None
        trt, config = self._installed.trt, self._plan.create_runtime_config()
        eager = trt.DynamicShapesKernelSpecializationStrategy.EAGER
        config.dynamic_shapes_kernel_specialization_strategy = eager
        ours = trt.ExecutionContextAllocationStrategy.USER_MANAGED
        config.set_execution_context_allocation_strategy(ours)
        if self._kernels is None:
            self._kernels = RuntimeCache(self._kernels_path, config)
        self._kernels.attach(config)
        return config


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
    search = tuned_search(name, options.precision, bundle, options.batch)
    wanted = EngineOptions(
        precision=options.precision, batch=options.batch, variant=name, search=search
    )
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


def engine_rate(engine: Engine, bundle: ModelBundle, seconds: float) -> float:
    """Return how many cells/s an engine scores that lie on the GPU already."""
    options = RuntimeOptions(precision=engine.key.precision, batch=engine.key.batch)
    runtime = open_engine(engine, bundle, options)
    shape = (options.batch, bundle.input.height, bundle.input.width, 3)
    pixels = torch.randint(0, 256, shape, dtype=torch.uint8).to(runtime.device)
    refs = tuple(CellRef(f"noise {index}", "noise") for index in range(options.batch))
    batch = Batch(Shard(0, refs), refs, (CellFacts(),) * len(refs), pixels)
    end = time.perf_counter() + 1.5 * seconds
    begin, cells = 0.0, 0
    for number, scores in enumerate(runtime.stream(_until(batch, end))):
        if number < WARM_UPS or time.perf_counter() < end - seconds:
            begin, cells = time.perf_counter(), 0
        else:
            cells += len(scores.refs)
    return cells / (time.perf_counter() - begin)


def _until(batch: Batch, end: float) -> Iterator[Batch]:
    """Repeat a batch until the time is up, and a few times at least."""
    for number in count():
        if number > 2 * WARM_UPS and time.perf_counter() > end:
            return
        yield batch


def _search(engine: Engine) -> str:
    """Say how the builder searched, where not as by default: other kernels, other last bits."""
    search = SearchOptions(level=engine.key.level, aux_streams=engine.key.aux_streams)
    return "" if search == PLAINLY else f", {search}"


def _loaded(engine: Engine, installed: Installed) -> LoadedEngine:
    """Load an engine's plan, or raise EngineBuildError."""
    with errors_of(installed) as logger:
        plan = loaded_plan(installed.trt, logger, engine.path.read_bytes())
    return LoadedEngine(installed, engine, plan)


def _context(plan: Any, config: Any) -> Any:
    """Make an execution context; *config* has to live as long."""
    if config is None:
        return plan.create_execution_context()
    return plan.create_execution_context(config)


def _memory(context: Any, stream: Stream) -> torch.Tensor:
    """Give a context, whose shape is set, memory for its activations; it has to live as long."""
    size = max(1, int(context.update_device_memory_size_for_shapes()))
    memory = torch.empty(size, dtype=torch.uint8, device=stream.device)  # aligned to 512 bytes
    context.set_device_memory(memory.data_ptr(), size)
    return memory


def _output_names(plan: Any) -> tuple[str, ...]:
    """Name the plan's outputs in our order; not every model has evidence."""
    there = {plan.get_tensor_name(number) for number in range(plan.num_io_tensors)}
    return tuple(name for name in OUTPUTS if name in there)


def _output(plan: Any, context: Any, name: str, stream: Stream) -> torch.Tensor:
    """Make room for an output."""
    shape = tuple(context.get_tensor_shape(name))
    return torch.empty(shape, dtype=TYPES[plan.get_tensor_dtype(name).name], device=stream.device)


def _capturable(context: Any, stream: Stream) -> bool:
    """
    Tell whether the plan can be captured as a CUDA graph, and log it where it cannot.

    Only TensorRT-RTX can say; plans of the others can.
    """
    ask = getattr(context, "is_stream_capturable", None)
    if ask is None or ask(stream.handle):
        return True
    log.warning(
        "this plan cannot be captured as a CUDA graph: its kernels are launched one by one, "
        "which is slower"
    )
    return False


def _check(holds: object, otherwise: str) -> None:
    """Raise what ``errors_of`` turns into ours, with what TensorRT logged."""
    if not holds:
        raise RuntimeError(otherwise)
