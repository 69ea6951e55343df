"""A model made ready for half precision: its weights settled, its exceptions found."""

from __future__ import annotations

from dataclasses import asdict
from typing import TYPE_CHECKING, Any

import numpy as np
import torch

from engines.mixed_precision.policy import Mixed, checked_mixed, find_mixed
from engines.models.bundle import with_half
from engines.models.casting import folding_pairs
from train.export.bundle_files import as_shipped

if TYPE_CHECKING:
    from collections.abc import Mapping

    from torch import nn

    from engines.models.bundle import ModelBundle
    from train.data.decoded import DecodedCells

__all__ = ["measured_half", "round_for_shipping", "round_to_bfloat16"]

PRECISIONS = ("fp16", "bf16")
CELLS = 256  # at most; the largest difference is what counts, so few would flatter


@torch.no_grad()
def round_to_bfloat16(network: nn.Module, size: int) -> None:
    """
    Move convolutions' weights to where they are exact in bfloat16 once batch norms are folded.

    That is half a step of bfloat16 at most. The network is then judged and calibrated as it runs
    in bfloat16, where rounding the folded weights would otherwise be half of what it loses.

    Args:
        network: In evaluation mode; changed in place.
        size: Side of its input, in pixels.
    """
    place = next(network.parameters()).device
    trial = torch.zeros(1, 3, size, size, device=place)
    for convolution, norm in folding_pairs(network, lambda: network(trial)).values():
        assert norm.running_var is not None
        scale = torch.rsqrt(norm.running_var + norm.eps) * norm.weight
        scale = scale.view(-1, *[1] * (convolution.weight.dim() - 1))
        exact = (convolution.weight * scale).bfloat16().float() / scale
        convolution.weight.copy_(torch.where(scale == 0, convolution.weight, exact))


def round_for_shipping(network: nn.Module, size: int) -> None:
    """Round a network's weights to what its bundle will hold, so that it is judged as shipped."""
    round_to_bfloat16(network, size)
    shipped = as_shipped(network.state_dict())
    network.load_state_dict(
        {n: t.float() if t.is_floating_point() else t for n, t in shipped.items()}
    )


def measured_half(
    bundle: ModelBundle,
    held_out: DecodedCells,
    known: Mapping[str, Mapping[str, Any]] | None = None,
) -> ModelBundle:
    """
    Find which modules fp16 and bf16 leave to float32, and write it into the bundle.

    Args:
        bundle: Its folder is written to; its hash changes.
        held_out: At least one cell, at the model's size; some, evenly spread, are taken.
        known: What served the same weights at another input, by precision: kept where it still
            does, and measured anew.

    Returns:
        The bundle, loaded again. Whoever runs it need not look (see
        ``engines.mixed_precision.policy``), and is held against float32 all the same.
    """
    rows = np.unique(np.linspace(0, len(held_out.cells) - 1, CELLS).round().astype(int))
    refs = [held_out.cells[row].ref for row in rows]
    pixels = held_out.pixels[rows]
    found: dict[str, dict[str, Any]] = {}
    for precision in PRECISIONS:
        mixed = None
        if known and precision in known:
            mixed = checked_mixed(bundle, refs, pixels, Mixed.from_record(known[precision]))
        if mixed is None:
            mixed = find_mixed(bundle, refs, pixels, precision=precision)
        found[precision] = asdict(mixed)
    return with_half(bundle, found)
