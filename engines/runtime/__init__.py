"""From pixels to scores: one contract, several runtimes."""

from __future__ import annotations

from dataclasses import dataclass, field
from importlib.util import find_spec
from typing import TYPE_CHECKING, Literal, Protocol

from engines.choice import Choice
from engines.decode import usable_cores
from engines.errors import BackendMissingError

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

    from engines.bundle import ModelBundle
    from engines.cells import Batch, Scores

__all__ = [
    "DEFAULT_BATCH",
    "PRECISIONS",
    "RUNTIMES",
    "Runtime",
    "RuntimeOptions",
    "choose",
    "choose_precision",
    "open_runtime",
]

Precision = Literal["bf16", "fp32"]
RUNTIMES = ("openvino", "torch")
PRECISIONS = ("bf16", "fp32")
DEFAULT_BATCH = 4  # cells; 8 and 16 are 14% and 20% slower on two cores, benchmarks/README.md


@dataclass(frozen=True, slots=True, kw_only=True)
class RuntimeOptions:
    """
    How the model runs.

    Attributes:
        precision: ``bf16`` or ``fp32``.
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


def choose(asked: str = "auto") -> Choice[str]:
    """
    Pick a runtime that works here.

    Raises:
        BackendMissingError: If the one asked for by name does not.
    """
    if asked not in (*RUNTIMES, "auto"):
        raise BackendMissingError(
            f"there is no runtime {asked!r}", hint=f"choose auto, {' or '.join(RUNTIMES)}"
        )
    has_openvino = find_spec("openvino") is not None
    if asked == "auto":
        if has_openvino:
            return Choice("openvino", "the fastest here: no GPU runtime, OpenVINO is installed")
        return Choice("torch", "OpenVINO is not installed")
    if asked == "openvino" and not has_openvino:
        raise BackendMissingError(
            "the runtime openvino needs the package openvino",
            hint="pip install openvino, or use --runtime torch",
        )
    return Choice(asked, "asked for")


def choose_precision(runtime: str, asked: str = "auto") -> Choice[str]:
    """
    Pick a precision that *runtime* computes in on this machine.

    Raises:
        BackendMissingError: If the one asked for by name is not to be had.
    """
    usable: tuple[str, ...] = ("fp32",)
    if runtime == "torch":
        why = "torch is the FP32 reference"
    else:
        from engines.runtime.openvino import precisions

        usable, why = precisions()
    if asked == "auto":
        return Choice(usable[0], why)
    if asked not in usable:
        raise BackendMissingError(
            f"precision {asked} is not usable with the runtime {runtime} here: {why}",
            hint=f"use --precision {usable[0]}, or auto",
        )
    return Choice(asked, "asked for")


def open_runtime(name: str, bundle: ModelBundle, options: RuntimeOptions) -> Runtime:
    """Open the runtime called *name* for *bundle*; the first time, this may export the model."""
    if name == "openvino":
        from engines.runtime.openvino import OpenVINORuntime

        return OpenVINORuntime(bundle, options)
    from engines.runtime.torch import TorchRuntime

    return TorchRuntime(bundle, options)
