"""PyTorch on a GPU: half precision, channels last, one CUDA graph a slot."""

from __future__ import annotations

from typing import TYPE_CHECKING

import torch

from engines.hardware.cuda_streams import enough_memory
from engines.mixed_precision.policy import kept_in_fp32, with_exceptions
from engines.models.serving_graph import serving_graph
from engines.runtime.gpu_slots import Bound, DeviceRuntime

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from torch import Tensor

    from engines.cells import Batch
    from engines.hardware.cuda_streams import Stream
    from engines.models.bundle import ModelBundle
    from engines.runtime.base import Runtime, RuntimeOptions

__all__ = ["TorchCudaRuntime", "open_runtime"]


def open_runtime(
    bundle: ModelBundle,
    options: RuntimeOptions,
    *,
    sample: Sequence[Batch] = (),
    progress: Callable[[float, str], None] | None = None,  # noqa: ARG001  nothing is built here
) -> Runtime:
    """Open it: nothing is compiled, so *progress* hears nothing."""
    return TorchCudaRuntime(bundle, options, sample)


class TorchCudaRuntime(DeviceRuntime):
    """
    A Runtime (see ``engines.runtime.base``) that needs nothing but PyTorch.

    cuDNN may neither search for algorithms (what it finds differs from start to start, and so
    would the scores) nor round float32 to TF32.
    """

    name = "torch-cuda"

    def __init__(
        self, bundle: ModelBundle, options: RuntimeOptions, sample: Sequence[Batch] = ()
    ) -> None:
        """Build the serving graph on the device and tie it to the slots."""
        kept = kept_in_fp32(bundle, options.precision, sample)
        self.version = with_exceptions(f"torch {torch.__version__}", kept)
        with enough_memory("the model", "another GPU"):
            graph = serving_graph(bundle, precision=options.precision, keep_fp32=kept)
            self._graph = graph.to(self.device).to(memory_format=torch.channels_last)
        with (
            torch.inference_mode(),
            torch.backends.cudnn.flags(
                enabled=True, benchmark=False, deterministic=True, allow_tf32=False
            ),
        ):
            super().__init__(bundle, options, self._bound)

    def _bound(self, pixels: Tensor, _: Stream) -> Bound:
        """Give the graph's outputs places that stay."""
        outputs = tuple(torch.empty_like(output) for output in self._graph(pixels))

        def work() -> None:
            for place, output in zip(outputs, self._graph(pixels), strict=True):
                place.copy_(output)

        return Bound(work, outputs)
