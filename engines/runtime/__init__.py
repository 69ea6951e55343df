"""From pixels to scores: one contract, several runtimes."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Protocol, TypeAlias

from engines.decode import usable_cores
from engines.runtime.availability import GPU_RUNTIMES, RUNTIMES, choose, choose_precision

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator, Sequence

    from engines.cells import Batch, Scores
    from engines.models.bundle import ModelBundle

__all__ = [
    "DEFAULT_BATCH",
    "GPU_RUNTIMES",
    "PRECISIONS",
    "RUNTIMES",
    "BuildProgress",
    "Runtime",
    "RuntimeOptions",
    "choose",
    "choose_precision",
    "default_batch",
    "open_runtime",
]

PRECISIONS = ("fp16", "bf16", "fp32")
DEFAULT_BATCH = 4  # cells; 8 and 16 are 14% and 20% slower on two cores, benchmarks/README.md
GPU_BATCH = 256  # cells

BuildProgress: TypeAlias = "Callable[[float, str], None]"
"""Is told the share done (0 to 1) and the phase while an engine is built."""


@dataclass(frozen=True, slots=True, kw_only=True)
class RuntimeOptions:
    """
    How the model runs.

    Attributes:
        precision: One of PRECISIONS.
        batch: Cells per inference; the model is compiled for exactly this many, and padded to it.
        threads: Processor threads it may use.
    """

    precision: str = "fp32"
    batch: int = DEFAULT_BATCH
    threads: int = field(default_factory=usable_cores)

    def __post_init__(self) -> None:
        """Refuse values that could only stall."""
        if min(self.batch, self.threads) < 1:
            raise ValueError(f"batch and threads must be at least 1, got {self}")


class Runtime(Protocol):
    """
    Scores batches in order; a cell's scores do not depend on its neighbours, bit for bit.

    Attributes:
        name: As asked for with ``--runtime``.
        version: Of the package that runs.
        options: What it was opened with.
    """

    name: str
    version: str
    options: RuntimeOptions

    def stream(self, batches: Iterable[Batch]) -> Iterator[Scores]:
        """
        Score in order, several batches in flight.

        Every batch comes out exactly once, also one without a decoded cell. Its pixels are
        read, never written.

        Raises:
            ValueError: If a batch holds more than ``options.batch`` cells.
        """
        ...


def default_batch(runtime: str) -> int:
    """Return how many cells an inference takes where the user does not say."""
    return GPU_BATCH if runtime in GPU_RUNTIMES else DEFAULT_BATCH


def open_runtime(
    name: str,
    bundle: ModelBundle,
    options: RuntimeOptions,
    progress: BuildProgress | None = None,
    sample: Sequence[Batch] = (),
) -> Runtime:
    """
    Open the runtime called *name* for *bundle*.

    The first time, this may export the model and build an engine.

    Args:
        name: One of RUNTIMES.
        bundle: The model.
        options: How it runs.
        progress: Is told how far the engine is.
        sample: Decoded cells, to find what a half precision must leave to float32.
    """
    if name == "openvino":
        from engines.runtime.openvino import OpenVINORuntime

        return OpenVINORuntime(bundle, options, sample)
    if name == "torch-cuda":
        from engines.runtime.torch_cuda import TorchCudaRuntime

        return TorchCudaRuntime(bundle, options, sample=sample)
    if name in GPU_RUNTIMES:
        from engines.runtime.tensorrt import open_cached

        return open_cached(name, bundle, options, progress, sample)
    from engines.runtime.torch_cpu import TorchRuntime

    return TorchRuntime(bundle, options)
