"""Which runtimes work here, and what keeps the others from it."""

from __future__ import annotations

from dataclasses import dataclass
from importlib.util import find_spec

from engines.errors import BackendMissingError
from engines.hardware.gpu import Device, has_driver, this_device
from engines.registry import Choice
from engines.tensorrt.versions import FLAVOUR_NAMES, open_flavour

__all__ = [
    "GPU_RUNTIMES",
    "RUNTIMES",
    "choose",
    "choose_precision",
    "gpu_or_why_not",
    "obstacle",
]

GPU_RUNTIMES = (*FLAVOUR_NAMES, "torch-cuda")
RUNTIMES = (*GPU_RUNTIMES, "openvino", "torch")  # as auto prefers them
NO_GPU_HINT = "use --runtime openvino, which needs no GPU"
BFLOAT16_CAPABILITY = 8  # Ampere and newer compute in it


@dataclass(frozen=True, slots=True)
class Obstacle:
    """Why something does not work here, and what to do about it."""

    reason: str
    hint: str


def gpu_or_why_not() -> Device | str:
    """Return the GPU at hand (CUDA_VISIBLE_DEVICES picks it), or why there is none."""
    device = this_device()
    if device is not None:
        return device
    if has_driver():
        return "PyTorch cannot use the GPU: it is built without CUDA, or the driver is too old"
    return "there is no NVIDIA driver here"


def obstacle(name: str) -> Obstacle | None:
    """Return what keeps a runtime from working here, or None."""
    if name in GPU_RUNTIMES:
        device = gpu_or_why_not()
        if isinstance(device, str):
            return Obstacle(f"no GPU: {device}", NO_GPU_HINT)
        return _flavour_obstacle(name, device) if name in FLAVOUR_NAMES else None
    if name == "openvino" and find_spec("openvino") is None:
        return Obstacle(
            "the package openvino is not installed", "pip install openvino, or use --runtime torch"
        )
    return None


def _flavour_obstacle(name: str, device: Device) -> Obstacle | None:
    """Return what keeps a flavour of TensorRT from running on this GPU."""
    try:
        targets = open_flavour(name).flavour.targets
    except BackendMissingError as error:
        return Obstacle(str(error), error.hint)
    if targets and device.target not in targets:
        return Obstacle(
            f"{name} does not take this GPU ({device.name}, {device.target})",
            "use --runtime tensorrt or torch-cuda",
        )
    return None


def choose(asked: str = "auto", *, without: frozenset[str] = frozenset()) -> Choice[str]:
    """
    Pick a runtime that works here.

    Args:
        asked: A runtime's name, or ``auto``.
        without: What auto is not to take, having been tried.

    Raises:
        BackendMissingError: If the one asked for by name does not work.
    """
    if asked == "auto":
        return _best(without)
    if asked not in RUNTIMES:
        raise BackendMissingError(
            f"there is no runtime {asked!r}", hint=f"choose auto, {' or '.join(RUNTIMES)}"
        )
    if (found := obstacle(asked)) is not None:
        raise BackendMissingError(
            f"the runtime {asked} does not work here: {found.reason}", hint=found.hint
        )
    return Choice(asked, "asked for")


def _best(without: frozenset[str]) -> Choice[str]:
    """Take the first that works, and say what kept those before it."""
    passed: dict[str, None] = {}
    for name in RUNTIMES:
        if name in without:
            continue
        found = obstacle(name)
        if found is None:
            why = "the fastest that works here"
            return Choice(name, "; ".join([why, *passed]))
        passed[found.reason] = None
    raise AssertionError("the reference needs nothing")


def choose_precision(runtime: str, asked: str = "auto") -> Choice[str]:
    """
    Pick a precision that *runtime* computes in on this machine.

    Raises:
        BackendMissingError: If the one asked for by name is not to be had.
    """
    usable, why = _precisions(runtime)
    if asked == "auto":
        return Choice(usable[0], why)
    if asked not in usable:
        raise BackendMissingError(
            f"precision {asked} is not usable with the runtime {runtime} here: {why}",
            hint=f"use --precision {usable[0]}, or auto",
        )
    return Choice(asked, "asked for")


def _precisions(runtime: str) -> tuple[tuple[str, ...], str]:
    """Return what a runtime computes in here, the preferred first, and why."""
    if runtime == "torch":
        return ("fp32",), "torch is the FP32 reference"
    if runtime == "openvino":
        from engines.runtime.openvino import precisions

        return precisions()
    device = this_device()
    assert device is not None
    if int(device.compute_capability.partition(".")[0]) >= BFLOAT16_CAPABILITY:
        return ("fp16", "bf16", "fp32"), "GPUs are fastest in half precision"
    return ("fp16", "fp32"), "GPUs are fastest in half precision; this one has no bfloat16"
