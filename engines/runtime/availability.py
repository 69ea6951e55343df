"""What the runtimes of a GPU need on this machine beyond their packages."""

from __future__ import annotations

from engines.errors import BackendMissingError
from engines.hardware.gpu import this_device
from engines.registry import Choice, Obstacle
from engines.tensorrt.versions import open_variant

__all__ = ["gpu_precisions", "tensorrt_obstacle"]

BFLOAT16_CAPABILITY = 8  # Ampere and newer compute in it


def tensorrt_obstacle(name: str) -> Obstacle | None:
    """Return what keeps *name*, a variant of TensorRT, from running on the GPU at hand, or None."""
    try:
        targets = open_variant(name).variant.targets
    except BackendMissingError as error:
        return Obstacle(str(error), error.hint)
    device = this_device()
    assert device is not None
    if targets and device.target not in targets:
        return Obstacle(
            f"{name} does not take this GPU ({device.name}, {device.target})",
            "use --runtime auto, which takes one that does",
            f"a GPU of {', '.join(targets)} would bring it",
        )
    return None


def gpu_precisions() -> Choice[tuple[str, ...]]:
    """Return the precisions that the GPU at hand computes in, the preferred first, and why."""
    device = this_device()
    assert device is not None
    if int(device.compute_capability.partition(".")[0]) >= BFLOAT16_CAPABILITY:
        return Choice(("fp16", "bf16", "fp32"), "GPUs are fastest in half precision")
    return Choice(("fp16", "fp32"), "GPUs are fastest in half precision; this one has no bfloat16")
