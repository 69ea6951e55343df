"""
One row per decoder and per runtime, best first: the one place where all of them are named.

The choices of the command line, ``slidescreen doctor``, the order in which a run tries what there
is, and the versions that run.json records all read these rows. What a row refers to is an import
string (``module:function``), followed when it is needed: reading the registry loads no package.

To add a decoder or a runtime, write its file (``engines.decode.base`` and ``engines.runtime.base``
state what it has to do) and add its row here. ``engines.backends`` says which rows work on this
machine.
"""

from __future__ import annotations

from dataclasses import dataclass
from importlib import import_module
from typing import TYPE_CHECKING, Any, Generic, TypeVar

from engines.errors import BackendMissingError

if TYPE_CHECKING:
    from collections.abc import Sequence

__all__ = [
    "AUTO",
    "CPU",
    "DECODERS",
    "GPU",
    "REFERENCE_DECODER",
    "REFERENCE_RUNTIME",
    "RUNTIMES",
    "Backend",
    "Choice",
    "DecoderRow",
    "Obstacle",
    "RuntimeRow",
    "decoder_names",
    "decoder_row",
    "followed",
    "recorded_packages",
    "runtime_names",
    "runtime_row",
    "runtimes_on",
]

AUTO = "auto"
CPU, GPU = "cpu", "gpu"
OTHER_PACKAGES = ("slidescreen", "numpy", "onnx", "simplejpeg", "timm", "torch", "xxhash")

T = TypeVar("T")


@dataclass(frozen=True, slots=True)
class Choice(Generic[T]):
    """What was taken, and why: ``asked for``, or what made it the best of what works here."""

    value: T
    reason: str


@dataclass(frozen=True, slots=True)
class Obstacle:
    """
    Why something does not work on this machine.

    Attributes:
        reason: What is missing.
        hint: What to do now, where it was asked for by name.
        remedy: What would make it work; empty where that is the hint.
    """

    reason: str
    hint: str
    remedy: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class Backend:
    """
    What decoders and runtimes have in common.

    Attributes:
        name: As it is asked for on the command line.
        package: The pip package behind it; results record its version.
        install: What ``pip install`` has to be given to bring it.
        module: The importable module of *package*. Where it is empty, ``why_not`` looks for the
            package itself.
        opener: Import string of the function that opens it.
        why_not: Import string of a function that is given *name* and returns an Obstacle, or None
            if it works here. Empty where only the package or a GPU can be missing.
    """

    name: str
    package: str
    install: str
    module: str = ""
    opener: str
    why_not: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class DecoderRow(Backend):
    """
    A decoder. Its opener takes what ``engines.backends.open_decoder`` hands on.

    Attributes:
        devices: Where it can decode, ``gpu`` and ``cpu``, the faster first.
    """

    devices: tuple[str, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class RuntimeRow(Backend):
    """
    A runtime. Its opener takes ``(bundle, options, sample=..., progress=...)``.

    Attributes:
        device: Where the model runs: ``gpu`` or ``cpu``.
        precisions: Import string of a function without arguments. It returns a Choice whose value
            lists the precisions that the runtime computes in on this machine, the preferred first.
        builds_engine: Whether opening it may build an engine first, which takes minutes. It is then
            opened in a thread of its own, and calls *progress* from there.
        tuned_batch: Import string of a function of name, precision and bundle. It returns the batch
            that was measured to be the fastest on this machine, or None. Empty where none is.
    """

    device: str
    precisions: str
    builds_engine: bool = False
    tuned_batch: str = ""


DECODERS = (
    DecoderRow(
        name="dali",
        package="nvidia-dali-cuda130",
        install="'nvidia-dali-cuda130>=2.4,<2.5'",
        module="nvidia.dali",
        opener="engines.decode.dali:open_decoder",
        devices=(GPU, CPU),
    ),
    DecoderRow(
        name="pillow",
        package="pillow",
        install="pillow",
        module="PIL",
        opener="engines.decode.pillow:open_decoder",
        devices=(CPU,),
    ),
)

RUNTIMES = (
    RuntimeRow(
        name="tensorrt",
        package="tensorrt-cu13",
        install="'slidescreen[tensorrt]'",
        opener="engines.runtime.tensorrt:open_tensorrt",
        why_not="engines.runtime.availability:tensorrt_obstacle",
        device=GPU,
        precisions="engines.runtime.availability:gpu_precisions",
        builds_engine=True,
        tuned_batch="engines.tensorrt.tuning:tuned_batch",
    ),
    RuntimeRow(
        name="tensorrt-rtx",
        package="tensorrt-rtx",
        install="'slidescreen[rtx]'",
        opener="engines.runtime.tensorrt:open_tensorrt_rtx",
        why_not="engines.runtime.availability:tensorrt_obstacle",
        device=GPU,
        precisions="engines.runtime.availability:gpu_precisions",
        builds_engine=True,
        tuned_batch="engines.tensorrt.tuning:tuned_batch",
    ),
    RuntimeRow(
        name="torch-cuda",
        package="torch",
        install="torch",
        module="torch",
        opener="engines.runtime.torch_cuda:open_runtime",
        device=GPU,
        precisions="engines.runtime.availability:gpu_precisions",
    ),
    RuntimeRow(
        name="openvino",
        package="openvino",
        install="openvino",
        module="openvino",
        opener="engines.runtime.openvino:open_runtime",
        device=CPU,
        precisions="engines.runtime.openvino:precisions",
    ),
    RuntimeRow(
        name="torch",
        package="torch",
        install="torch",
        module="torch",
        opener="engines.runtime.torch_cpu:open_runtime",
        device=CPU,
        precisions="engines.runtime.torch_cpu:precisions",
    ),
)

REFERENCE_DECODER = DECODERS[-1].name  # what every other decoder's pixels are held against
REFERENCE_RUNTIME = RUNTIMES[-1].name  # what every other runtime's scores are held against


def decoder_names() -> tuple[str, ...]:
    """Name the decoders, best first."""
    return tuple(row.name for row in DECODERS)


def runtime_names() -> tuple[str, ...]:
    """Name the runtimes, best first."""
    return tuple(row.name for row in RUNTIMES)


def runtimes_on(device: str) -> tuple[str, ...]:
    """Name the runtimes of a device (``gpu`` or ``cpu``), best first."""
    return tuple(row.name for row in RUNTIMES if row.device == device)


def decoder_row(name: str) -> DecoderRow:
    """
    Return the row of a decoder.

    Raises:
        BackendMissingError: If there is none of that name.
    """
    return _row(DECODERS, "decoder", name)


def runtime_row(name: str) -> RuntimeRow:
    """
    Return the row of a runtime.

    Raises:
        BackendMissingError: If there is none of that name.
    """
    return _row(RUNTIMES, "runtime", name)


def recorded_packages() -> tuple[str, ...]:
    """Name the pip packages whose versions belong to a result, sorted."""
    return tuple(sorted({*OTHER_PACKAGES, *(row.package for row in (*DECODERS, *RUNTIMES))}))


Row = TypeVar("Row", DecoderRow, RuntimeRow)


def _row(rows: Sequence[Row], kind: str, name: str) -> Row:
    """Find a row by name."""
    for row in rows:
        if row.name == name:
            return row
    names = " or ".join(row.name for row in rows)
    raise BackendMissingError(f"there is no {kind} {name!r}", hint=f"choose auto, {names}")


def followed(where: str) -> Any:
    """Follow an import string."""
    module, _, name = where.partition(":")
    return getattr(import_module(module), name)
