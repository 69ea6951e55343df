"""PyTorch on a GPU: compiled, half precision, channels last, one CUDA graph a slot."""

from __future__ import annotations

from typing import TYPE_CHECKING

import torch

from engines.hardware.cuda_streams import enough_memory
from engines.mixed_precision.policy import kept_in_fp32, with_exceptions
from engines.models.serving_graph import serving_graph
from engines.runtime.compiled_graph import COMPILER, Executable, compiled_graph
from engines.runtime.gpu_slots import Bound, DeviceRuntime

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from torch import Tensor

    from engines.cells import Batch
    from engines.hardware.cuda_streams import Stream
    from engines.models.bundle import ModelBundle
    from engines.models.serving_graph import ServingGraph
    from engines.runtime.base import Runtime, RuntimeOptions

__all__ = ["TorchCudaRuntime", "open_runtime"]


def open_runtime(
    bundle: ModelBundle,
    options: RuntimeOptions,
    *,
    sample: Sequence[Batch] = (),
    progress: Callable[[float, str], None] | None = None,  # noqa: ARG001  nothing is told
) -> Runtime:
    """Open it; torch.compile does not tell how far it is, so *progress* hears nothing."""
    return TorchCudaRuntime(bundle, options, sample)


class TorchCudaRuntime(DeviceRuntime):
    """
    A Runtime (see ``engines.runtime.base``) that needs nothing but PyTorch.

    The graph is compiled by torch.compile for the batch's shape and captured in each slot; where
    it cannot be compiled it is captured as it is, and ``version`` says so and why.

    cuDNN may neither search for algorithms (what it finds differs from start to start, and so
    would the scores) nor round float32 to TF32.
    """

    name = "torch-cuda"
    compiler: str | None = COMPILER

    def __init__(
        self, bundle: ModelBundle, options: RuntimeOptions, sample: Sequence[Batch] = ()
    ) -> None:
        """Build the serving graph on the device and tie it to the slots."""
        kept = kept_in_fp32(bundle, options.precision, sample)
        shape = (options.batch, bundle.input.height, bundle.input.width, 3)
        with (
            torch.inference_mode(),
            torch.backends.cudnn.flags(
                enabled=True, benchmark=False, deterministic=True, allow_tf32=False
            ),
        ):
            with enough_memory("the model", "a smaller --batch-size"):
                graph = serving_graph(bundle, precision=options.precision, keep_fp32=kept)
                graph = graph.to(self.device).to(memory_format=torch.channels_last)
                self._executable = self._compiled(graph, options.precision, shape)
            version = f"torch {torch.__version__}, {self._executable.how}"
            self.version = with_exceptions(version, kept)
            super().__init__(bundle, options, self._bound)

    def _compiled(self, graph: ServingGraph, precision: str, shape: tuple[int, ...]) -> Executable:
        """Compile the graph, trying it out on noise, which is the same at every start."""
        if self.compiler is None:
            return Executable(graph, "eager")
        generator = torch.Generator().manual_seed(0)
        pixels = torch.randint(0, 256, shape, dtype=torch.uint8, generator=generator)
        return compiled_graph(
            graph, pixels.to(self.device), precision=precision, compiler=self.compiler
        )

    def _bound(self, pixels: Tensor, _: Stream) -> Bound:
        """Give the graph's outputs places that stay."""
        run = self._executable.run
        outputs = tuple(torch.empty_like(output) for output in run(pixels))

        def work() -> None:
            for place, output in zip(outputs, run(pixels), strict=True):
                place.copy_(output)

        return Bound(work, outputs)
