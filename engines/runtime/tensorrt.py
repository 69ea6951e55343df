"""TensorRT and TensorRT-RTX on a GPU; torch owns the memory and the streams."""

from __future__ import annotations

import logging
from typing import TYPE_CHECKING, Any

import torch

from engines.cache import EngineOptions, discard, engine_for
from engines.errors import EngineBuildError
from engines.export import OUTPUTS
from engines.flavours import open_flavour
from engines.runtime.device import CUDA, Bound, DeviceRuntime
from engines.tensorrt_log import errors_of

if TYPE_CHECKING:
    from engines.bundle import ModelBundle
    from engines.engine_store import Engine
    from engines.flavours import Installed
    from engines.lanes import Lane
    from engines.runtime import BuildProgress, RuntimeOptions

__all__ = ["TensorRTRuntime", "loaded_engine"]

INPUT = "pixels"
TYPES = {"FLOAT": torch.float32, "HALF": torch.float16}

log = logging.getLogger(__name__)


class TensorRTRuntime(DeviceRuntime):
    """
    A Runtime (see ``engines.runtime``) that runs a plan from the cache, built on first use.

    Each slot has an execution context, and so activations, of its own.
    """

    def __init__(  # noqa: PLR0913, PLR0917  (which plan, and where)
        self,
        name: str,
        bundle: ModelBundle,
        options: RuntimeOptions,
        progress: BuildProgress | None = None,
        device: torch.device = CUDA,
        engine: Engine | None = None,
    ) -> None:
        """Load the plan (that of *engine*, or one from the cache); tie a context to each slot."""
        self.name = name
        self._installed = open_flavour(name)
        self.version = f"{name} {self._installed.version}"
        wanted = EngineOptions(precision=options.precision, batch=options.batch, flavour=name)
        self._engine = (
            _deserialised(engine, self._installed)
            if engine is not None
            else loaded_engine(bundle, wanted, self._installed, progress)
        )
        super().__init__(bundle, options, self._bound, device)

    def _bound(self, pixels: torch.Tensor, lane: Lane) -> Bound:
        """Give a context its addresses."""
        with errors_of(self._installed):
            context = self._engine.create_execution_context()
            _check(context is not None, "no execution context came out")
            _check(context.set_input_shape(INPUT, tuple(pixels.shape)), "the batch does not fit")
            outputs = tuple(_output(self._engine, context, name, lane) for name in OUTPUTS)
            addresses = zip((INPUT, *OUTPUTS), (pixels, *outputs), strict=True)
            for name, tensor in addresses:
                _check(context.set_tensor_address(name, tensor.data_ptr()), f"no place for {name}")

        def work() -> None:
            with errors_of(self._installed):
                _check(context.execute_async_v3(lane.handle), "the plan did not run")

        return Bound(work, outputs, capturable=_capturable(context, lane))


def loaded_engine(
    bundle: ModelBundle,
    wanted: EngineOptions,
    installed: Installed,
    progress: BuildProgress | None = None,
) -> Any:
    """
    Return a deserialised engine; one from the cache that does not load is built anew, once.

    Raises:
        EngineBuildError: If the new one does not load either.
    """
    engine = engine_for(bundle, wanted, progress=progress)
    try:
        return _deserialised(engine, installed)
    except EngineBuildError as error:
        discard(engine, str(error))
    return _deserialised(engine_for(bundle, wanted, progress=progress), installed)


def _deserialised(engine: Engine, installed: Installed) -> Any:
    """Load a plan."""
    with errors_of(installed) as logger:
        runtime = installed.trt.Runtime(logger)
        loaded = runtime.deserialize_cuda_engine(engine.path.read_bytes())
        _check(loaded is not None, "the plan does not load")
        return loaded


def _output(engine: Any, context: Any, name: str, lane: Lane) -> torch.Tensor:
    """Make room for an output."""
    shape = tuple(context.get_tensor_shape(name))
    return torch.empty(shape, dtype=TYPES[engine.get_tensor_dtype(name).name], device=lane.device)


def _capturable(context: Any, lane: Lane) -> bool:
    """Tell whether the plan can be captured as a CUDA graph; TensorRT 10 cannot say, and can."""
    ask = getattr(context, "is_stream_capturable", None)
    return ask is None or bool(ask(lane.handle))


def _check(holds: object, otherwise: str) -> None:
    """Raise what ``errors_of`` turns into ours, with what TensorRT logged."""
    if not holds:
        raise RuntimeError(otherwise)
