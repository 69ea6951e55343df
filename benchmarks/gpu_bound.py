"""
How fast a card's memory lets a network be, whatever computes it.

Formula: bandwidth / bytes, where bytes is what one cell moves if every convolution (batch norm and
activation fused into it) reads its input once and writes its output once, and every squeeze-and-
excite block reads and writes its map once to gate it (its mean taken in passing), two bytes an
element in half precision, plus the input's pixels. Weights are read once a batch and not counted.
For EfficientNet-B3 that is 72 MB a cell at 224 x 224: some 68,000 cells/s on an H200.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import torch
from torch import Tensor, nn

from engines.models.serving_graph import network_from_bundle

if TYPE_CHECKING:
    from engines.models.bundle import ModelBundle

__all__ = ["bandwidth", "bytes_per_cell"]

GATES = {"EffectiveSEModule", "SEModule", "SqueezeExcite"}  # timm has several of each name
TRANSFERS_A_CLOCK = 2  # double data rate
BITS, HERTZ_IN_KILOHERTZ = 8, 1000


@torch.inference_mode()
def bytes_per_cell(bundle: ModelBundle, element: int = 2) -> int:
    """Trace one cell through the network; *element* is the size of an activation in bytes."""
    moved = 0

    def count(_: nn.Module, given: tuple[Tensor, ...], output: Tensor) -> None:
        nonlocal moved
        moved += (given[0].numel() + output.numel()) * element

    network = network_from_bundle(bundle)
    for module in network.modules():
        if isinstance(module, nn.Conv2d) or type(module).__name__ in GATES:
            module.register_forward_hook(count)
    shape = (1, 3, bundle.input.height, bundle.input.width)
    network(torch.zeros(shape))
    return moved + shape[1] * shape[2] * shape[3]


def bandwidth(device: torch.device) -> float | None:
    """Return the card's memory bandwidth in bytes/s, from its clock and bus; None if not known."""
    if device.type != "cuda":
        return None
    card = torch.cuda.get_device_properties(device)  # releases differ in what it tells
    clock = getattr(card, "memory_clock_rate", 0) * HERTZ_IN_KILOHERTZ
    return clock * TRANSFERS_A_CLOCK * getattr(card, "memory_bus_width", 0) / BITS or None
