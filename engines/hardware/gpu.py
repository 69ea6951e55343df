"""The NVIDIA GPU at hand, as far as a plan depends on it."""

from __future__ import annotations

import ctypes
from dataclasses import dataclass
from functools import lru_cache

__all__ = ["Device", "driver_gpu_count", "gpu_or_why_not", "has_driver", "this_device"]

NVML_NAMES = ("libnvidia-ml.so.1", "nvml.dll")
CUDA_NAMES = ("libcuda.so.1", "nvcuda.dll")
VERSION_BYTES = 80  # NVML_SYSTEM_DRIVER_VERSION_BUFFER_SIZE


@dataclass(frozen=True, slots=True)
class Device:
    """
    A GPU.

    Attributes:
        name: As its maker calls it.
        compute_capability: As ``9.0``.
        driver: Version of its driver.
    """

    name: str
    compute_capability: str
    driver: str

    @property
    def target(self) -> str:
        """The same as a build target: ``sm_90``."""
        return "sm_" + self.compute_capability.replace(".", "")


@lru_cache(maxsize=1)
def this_device() -> Device | None:
    """Return torch's current GPU, or None if there is none that torch can use."""
    import torch

    if not has_driver() or not torch.cuda.is_available():
        return None
    facts = torch.cuda.get_device_properties(torch.cuda.current_device())
    return Device(facts.name, f"{facts.major}.{facts.minor}", _driver_version())


def gpu_or_why_not() -> Device | str:
    """Return the GPU at hand (CUDA_VISIBLE_DEVICES picks it), or why there is none."""
    device = this_device()
    if device is not None:
        return device
    if has_driver():
        return "PyTorch cannot use the GPU: it is built without CUDA, or the driver is too old"
    return "there is no NVIDIA driver here"


def has_driver() -> bool:
    """Tell whether NVIDIA's driver is installed, whatever its version."""
    return _library(CUDA_NAMES) is not None


def driver_gpu_count() -> int:
    """Count the GPUs that CUDA shows this process; from then on CUDA_VISIBLE_DEVICES is settled."""
    cuda = _library(CUDA_NAMES)
    number = ctypes.c_int()
    if cuda is not None and cuda.cuInit(0) == 0:
        cuda.cuDeviceGetCount(ctypes.byref(number))
    return number.value


def _driver_version() -> str:
    """Ask NVML; where it is absent, the CUDA version that the driver supports has to do."""
    nvml = _library(NVML_NAMES)
    text = ctypes.create_string_buffer(VERSION_BYTES)
    if nvml is not None and nvml.nvmlInit_v2() == 0:
        failed = nvml.nvmlSystemGetDriverVersion(text, VERSION_BYTES)
        nvml.nvmlShutdown()
        if not failed:
            return text.value.decode()
    cuda = _library(CUDA_NAMES)
    number = ctypes.c_int()
    assert cuda is not None
    cuda.cuDriverGetVersion(ctypes.byref(number))
    return f"CUDA {number.value}"


def _library(names: tuple[str, ...]) -> ctypes.CDLL | None:
    """Load the first of some libraries that is here."""
    for name in names:
        try:
            return ctypes.CDLL(name)
        except OSError:
            continue
    return None
