"""The reference runtime: PyTorch in float32."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
import torch

from engines.models.serving_graph import serving_graph
from engines.registry import Choice
from engines.runtime.padding import padded, scores_from_outputs

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator, Sequence

    from engines.cells import Batch, Scores
    from engines.models.bundle import ModelBundle
    from engines.runtime.base import Runtime, RuntimeOptions

__all__ = ["TorchRuntime", "open_runtime", "precisions"]


def precisions() -> Choice[tuple[str, ...]]:
    """Return float32: others are held against it."""
    return Choice(("fp32",), "torch is the FP32 reference")


def open_runtime(
    bundle: ModelBundle,
    options: RuntimeOptions,
    *,
    sample: Sequence[Batch] = (),  # noqa: ARG001  nothing is left to float32 where all is
    progress: Callable[[float, str], None] | None = None,  # noqa: ARG001  nothing is built here
) -> Runtime:
    """Open it."""
    return TorchRuntime(bundle, options)


class TorchRuntime:
    """A Runtime (see ``engines.runtime.base``) that computes what the bundle means."""

    name = "torch"
    version = f"torch {torch.__version__}"
    slot_count = 1  # a batch is done before the next begins

    def __init__(self, bundle: ModelBundle, options: RuntimeOptions) -> None:
        """Build the serving graph."""
        self.options = options
        self._expected = bundle.input
        torch.set_num_threads(options.threads)
        # channels_last: twice as fast here, and the same numbers to 1e-6
        self._graph = serving_graph(bundle).to(memory_format=torch.channels_last)

    def stream(self, batches: Iterable[Batch]) -> Iterator[Scores]:
        """Score one batch after another."""
        for batch in batches:
            yield scores_from_outputs(batch, self._outputs(batch))

    @torch.inference_mode()
    def _outputs(self, batch: Batch) -> list[np.ndarray]:
        """Run the graph on a copy, padded."""
        pixels = np.empty(
            (self.options.batch, self._expected.height, self._expected.width, 3), np.uint8
        )
        padded(batch.host_pixels, into=pixels)
        return [output.numpy() for output in self._graph(torch.from_numpy(pixels))]
