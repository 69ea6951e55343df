"""Which device a process is to use, as it is asked for: ``auto``, ``cpu``, ``cuda``, ``cuda:1``."""

from __future__ import annotations

import os
import re
from functools import lru_cache

from engines.errors import BackendMissingError, DeviceError
from engines.hardware.gpu import (
    driver_gpu_count,
    gpu_or_why_not,
    has_driver,
    this_device,
)
from engines.registry import AUTO, CPU, GPU

__all__ = ["DEVICE_FORM", "kind_of_device", "use_device"]

DEVICE_FORM = "auto, cpu, cuda or cuda:NUMBER"
DEVICE = re.compile(r"auto|cpu|cuda(:\d+)?")
VISIBLE = "CUDA_VISIBLE_DEVICES"


def kind_of_device(device: str) -> str:
    """
    Return ``auto``, ``cpu`` or ``gpu``: where the model has to run for this *device*.

    Raises:
        ValueError: If it is none of ``auto``, ``cpu``, ``cuda`` and ``cuda:NUMBER``.
    """
    if not DEVICE.fullmatch(device):
        raise ValueError(f"device must be {DEVICE_FORM}, got {device!r}")
    return {"auto": AUTO, "cpu": CPU}.get(device, GPU)


def use_device(device: str) -> None:
    """
    Let this process see the GPU that is asked for and no other; CUDA must not have been used yet.

    CUDA numbers the GPUs that are visible to a process, so what uses "the first" uses this one.

    Args:
        device: ``auto``, ``cpu`` and ``cuda`` leave it at the first; ``cuda:NUMBER`` counts from 0
            among those that CUDA_VISIBLE_DEVICES named when this was first called.

    Raises:
        BackendMissingError: If no GPU can be used here.
        DeviceError: If there is none of that number, or the process has used GPUs before.
    """
    if kind_of_device(device) != GPU:
        return
    if device != "cuda" and (visible := _visible_at_first()):
        _see_only(visible, int(device.partition(":")[2]))
    if isinstance(here := gpu_or_why_not(), str):
        raise BackendMissingError(
            f"the device {device} cannot be used: {here}",
            hint="use --device cpu, or auto; slidescreen doctor says what would bring a GPU",
        )


def _see_only(visible: tuple[str, ...], number: int) -> None:
    """Make one of the *visible* GPUs the only one."""
    import torch

    if number >= len(visible):
        there = ", ".join(f"cuda:{each}" for each in range(len(visible)))
        raise DeviceError(
            f"there is no GPU cuda:{number} here; there is {there}",
            hint="name one of these as --device; CUDA_VISIBLE_DEVICES may hide others",
        )
    if os.environ.get(VISIBLE) == visible[number]:
        return
    before = torch.cuda.is_initialized()  # type: ignore[no-untyped-call]
    if not before:
        os.environ[VISIBLE] = visible[number]
        this_device.cache_clear()
    if before or driver_gpu_count() != 1:
        raise DeviceError(
            f"this process has used GPUs before it was told to use cuda:{number}",
            hint=f"use a process for each GPU, or set {VISIBLE}={visible[number]} for it",
        )


@lru_cache(maxsize=1)
def _visible_at_first() -> tuple[str, ...]:
    """Name the GPUs that this process could see before one of them was picked."""
    import torch

    count = torch.cuda.device_count() if has_driver() else 0
    named = [name.strip() for name in os.environ.get(VISIBLE, "").split(",") if name.strip()]
    return tuple((named or [str(number) for number in range(count)])[:count])
