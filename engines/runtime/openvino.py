"""OpenVINO on the processor: several requests in flight, one static batch shape."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
import openvino

from engines.mixed_precision.policy import kept_in_fp32, with_exceptions
from engines.models.onnx_export import onnx_from_bundle
from engines.registry import Choice
from engines.runtime.in_flight import in_flight
from engines.runtime.padding import padded, scores_from_outputs

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator, Sequence

    from engines.cells import Batch, Scores
    from engines.models.bundle import ModelBundle
    from engines.runtime.base import Runtime, RuntimeOptions

__all__ = ["OpenVINORuntime", "open_runtime", "precisions"]


def precisions() -> Choice[tuple[str, ...]]:
    """Return what this processor computes in, fastest first, and why."""
    capabilities = openvino.Core().get_property("CPU", "OPTIMIZATION_CAPABILITIES")
    if "BF16" in capabilities:
        return Choice(("bf16", "fp32"), "this processor computes in bfloat16")
    return Choice(("fp32",), "this processor does not compute in bfloat16")


class Request:
    """
    An inference request of OpenVINO's, and the batch that is in it.

    Its input is memory of ours that nothing else uses: pixels are copied in.
    """

    def __init__(self, compiled: Any, shape: list[int]) -> None:
        """Make a request of a compiled model for ``shape``, ``(batch, H, W, 3)``."""
        self._pixels = np.zeros(shape, np.uint8)
        self._request = compiled.create_infer_request()
        self._request.set_input_tensor(openvino.Tensor(self._pixels, shared_memory=True))
        self._batch: Batch | None = None

    def start(self, batch: Batch) -> None:
        """Start scoring a batch; one without cells only waits its turn."""
        padded(batch.host_pixels, into=self._pixels)
        self._batch = batch
        if batch.refs:
            self._request.start_async()

    def finish(self) -> Scores:
        """Wait for the batch and copy its outputs out."""
        self.wait()
        batch, self._batch = self._batch, None
        assert batch is not None
        return scores_from_outputs(batch, [out.data for out in self._request.output_tensors])

    def wait(self) -> None:
        """Wait until the request is done."""
        self._request.wait()


class OpenVINORuntime:
    """
    A Runtime (see ``engines.runtime.base``).

    Types are those of the exported graph, so that bfloat16 has its exceptions here as on a GPU:
    OpenVINO's own hint would compute everything in it, and no faster.

    The compiled model is never called directly and never has a dynamic batch: sharing its input
    with numpy, it then overwrote other cells' pixels.
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
        model = core.read_model(
            onnx_from_bundle(bundle, precision=options.precision, keep_fp32=kept)
        )
        model.reshape(shape)
        compiled = core.compile_model(model, "CPU", _properties(options))
        count = compiled.get_property("OPTIMAL_NUMBER_OF_INFER_REQUESTS") + 1
        self.slot_count = count
        self._requests = [Request(compiled, shape) for _ in range(count)]

    def stream(self, batches: Iterable[Batch]) -> Iterator[Scores]:
        """Keep every request busy; hand out results in order."""
        return in_flight(self._requests, batches)


def open_runtime(
    bundle: ModelBundle,
    options: RuntimeOptions,
    *,
    sample: Sequence[Batch] = (),
    progress: Callable[[float, str], None] | None = None,  # noqa: ARG001  nothing is built here
) -> Runtime:
    """Open it: compiling takes seconds, so *progress* hears nothing."""
    return OpenVINORuntime(bundle, options, sample)


def _properties(options: RuntimeOptions) -> dict[str, Any]:
    """Ask for throughput, in the graph's own types: nothing of float32 is narrowed."""
    return {
        "PERFORMANCE_HINT": "THROUGHPUT",
        "INFERENCE_PRECISION_HINT": "f32",
        "INFERENCE_NUM_THREADS": options.threads,
    }
