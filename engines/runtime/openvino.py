"""OpenVINO on the processor: several requests in flight, one static batch shape."""

from __future__ import annotations

from collections import deque
from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING, Any

import numpy as np
import openvino

from engines.mixed_precision.policy import kept_in_fp32, with_exceptions
from engines.models.onnx_export import onnx_from_bundle
from engines.registry import Choice
from engines.runtime.padding import padded, scores_from_outputs

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator, Sequence
    from pathlib import Path

    from engines.cells import Batch, Scores
    from engines.models.bundle import ModelBundle
    from engines.runtime.base import BuildProgress, Runtime, RuntimeOptions

__all__ = ["OpenVINORuntime", "open_runtime", "precisions"]


def precisions() -> Choice[tuple[str, ...]]:
    """Return what this processor computes in, fastest first, and why."""
    capabilities = openvino.Core().get_property("CPU", "OPTIMIZATION_CAPABILITIES")
    if "BF16" in capabilities:
        return Choice(("bf16", "fp32"), "this processor computes in bfloat16")
    return Choice(("fp32",), "this processor does not compute in bfloat16")


@dataclass(slots=True)
class _Slot:
    """A request with an input of its own, and the batch that is in it."""

    request: Any
    pixels: np.ndarray[Any, np.dtype[np.uint8]]
    batch: Batch | None = None


class OpenVINORuntime:
    """
    A Runtime (see ``engines.runtime.base``).

    Types are those of the exported graph, so that bfloat16 has its exceptions here as on a GPU:
    OpenVINO's own hint would compute everything in it, and no faster.

    The compiled model is never called directly and never has a dynamic batch: sharing its input
    with numpy, it then overwrote other cells' pixels. Each request owns its input; pixels are
    copied in. Results are taken from the oldest request, so order holds.
    """

    name = "openvino"

    def __init__(
        self, bundle: ModelBundle, options: RuntimeOptions, sample: Sequence[Batch] = ()
    ) -> None:
        """Compile for one static batch shape."""
        self.options = options
        kept = kept_in_fp32(bundle, options.precision, sample)
        self.version = with_exceptions(f"openvino {openvino.__version__}", kept)
        shape = [options.batch, bundle.input.height, bundle.input.width, 3]
        core = openvino.Core()
        precision = options.precision
        model = _model(core, partial(onnx_from_bundle, bundle, precision=precision, keep_fp32=kept))
        model.reshape(shape)
        compiled = core.compile_model(model, "CPU", _properties(options))
        in_flight = compiled.get_property("OPTIMAL_NUMBER_OF_INFER_REQUESTS") + 1
        self._slots = [_slot(compiled, shape) for _ in range(in_flight)]

    def stream(self, batches: Iterable[Batch]) -> Iterator[Scores]:
        """Keep every request busy; hand out results in order."""
        free = deque(self._slots)
        running: deque[_Slot] = deque()
        try:
            for batch in batches:
                if not free:
                    yield self._finished(running, free)
                running.append(self._started(free.popleft(), batch))
            while running:
                yield self._finished(running, free)
        finally:
            for slot in running:
                slot.request.wait()

    def _started(self, slot: _Slot, batch: Batch) -> _Slot:
        """Start scoring a batch; one without cells only waits its turn."""
        slot.batch = batch
        padded(batch.host_pixels, into=slot.pixels)
        if batch.refs:
            slot.request.start_async()
        return slot

    def _finished(self, running: deque[_Slot], free: deque[_Slot]) -> Scores:
        """Wait for the oldest batch and copy its outputs out."""
        slot = running.popleft()
        slot.request.wait()
        batch, slot.batch = slot.batch, None
        assert batch is not None
        scores = scores_from_outputs(batch, [tensor.data for tensor in slot.request.output_tensors])
        free.append(slot)
        return scores


def open_runtime(
    bundle: ModelBundle,
    options: RuntimeOptions,
    *,
    sample: Sequence[Batch] = (),
    progress: BuildProgress | None = None,  # noqa: ARG001  nothing is built here
) -> Runtime:
    """Open it: compiling takes seconds, so *progress* hears nothing."""
    return OpenVINORuntime(bundle, options, sample)


def _model(core: openvino.Core, exported: Callable[[], Path]) -> openvino.Model:
    """Read the exported model; one that was damaged on disk is exported again."""
    path = exported()
    try:
        return core.read_model(path)
    except RuntimeError:
        path.unlink(missing_ok=True)
        return core.read_model(exported())


def _slot(compiled: Any, shape: list[int]) -> _Slot:
    """Make a request whose input is memory of ours that nothing else uses."""
    pixels = np.zeros(shape, np.uint8)
    request = compiled.create_infer_request()
    request.set_input_tensor(openvino.Tensor(pixels, shared_memory=True))
    return _Slot(request, pixels)


def _properties(options: RuntimeOptions) -> dict[str, Any]:
    """Ask for throughput, in the graph's own types: nothing of float32 is narrowed."""
    return {
        "PERFORMANCE_HINT": "THROUGHPUT",
        "INFERENCE_PRECISION_HINT": "f32",
        "INFERENCE_NUM_THREADS": options.threads,
    }
