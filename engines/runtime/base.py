"""What every runtime has to do: the contract, its options, and what is the same for all."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Protocol

from engines.hardware.machine import usable_cores

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

    from engines.cells import Batch, Scores

__all__ = [
    "DEFAULT_BATCH",
    "GPU_BATCH",
    "PRECISIONS",
    "Runtime",
    "RuntimeOptions",
    "default_batch",
]

PRECISIONS = ("fp16", "bf16", "fp32")
DEFAULT_BATCH = 4  # cells; 8 and 16 are 14% and 20% slower on two cores, benchmarks/README.md
GPU_BATCH = 256  # cells


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
        slot_count: How many batches are in flight at once, each in memory of its own (a slot);
            batches take the slots in turn.
    """

    name: str
    version: str
    options: RuntimeOptions
    slot_count: int

    def stream(self, batches: Iterable[Batch]) -> Iterator[Scores]:
        """
        Score in order, several batches in flight.

        Every batch comes out exactly once, also one without a decoded cell. Its pixels are
        read, never written.

        Raises:
            ValueError: If a batch holds more than ``options.batch`` cells.
        """
        ...


def default_batch(device: str) -> int:
    """Return how many cells an inference takes where the user does not say; ``gpu`` or ``cpu``."""
    return GPU_BATCH if device == "gpu" else DEFAULT_BATCH
