"""What people would write: the same network in PyTorch, half precision, eager and compiled."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING, Any

import torch

from engines.models.serving_graph import network_from_bundle

if TYPE_CHECKING:
    from collections.abc import Callable

    from engines.models.bundle import ModelBundle

__all__ = ["peers"]

WARM_UPS = 3


def peers(
    bundle: ModelBundle, batch: int, device: torch.device, seconds: float, *, compiled: bool
) -> list[dict[str, Any]]:
    """
    Measure both on pixels that lie on the device.

    Args:
        bundle: The model, its batch norms as they are.
        batch: Cells per inference.
        device: Where; on the processor torch.compile only traces.
        seconds: How long each is measured.
        compiled: Whether there is time to compile.
    """
    network = network_from_bundle(bundle).half().to(device).to(memory_format=torch.channels_last)
    shape = (batch, 3, bundle.input.height, bundle.input.width)
    pixels = torch.randn(shape, device=device, dtype=torch.half)
    pixels = pixels.contiguous(memory_format=torch.channels_last)
    row = {"size": bundle.input.height}
    eager = {**row, "peer": "PyTorch, half, eager", "cells_per_s": _rate(network, pixels, seconds)}
    name = "PyTorch, half, torch.compile"
    if not compiled:
        return [eager, {**row, "peer": name, "cells_per_s": None, "why": "no time was left"}]
    backend = "inductor" if device.type == "cuda" else "eager"
    faster = torch.compile(network, backend=backend)
    return [eager, {**row, "peer": name, "cells_per_s": _rate(faster, pixels, seconds)}]


@torch.inference_mode()
def _rate(network: Callable[..., Any], pixels: torch.Tensor, seconds: float) -> float:
    """Return cells/s after a warm-up, the device's queue empty at both ends."""
    for _ in range(WARM_UPS):
        network(pixels)
    _finish(pixels.device)
    start, cells = time.perf_counter(), 0
    while time.perf_counter() - start < seconds:
        for _ in range(WARM_UPS):
            network(pixels)
            cells += len(pixels)
        _finish(pixels.device)
    return cells / (time.perf_counter() - start)


def _finish(device: torch.device) -> None:
    """Wait for the device."""
    if device.type == "cuda":
        torch.cuda.synchronize(device)
