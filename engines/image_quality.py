"""
How good a crop is as an image: cheap numbers on the pixels that the model saw.

Legend: N cells, H x W pixels, Q numbers.
"""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

import torch

if TYPE_CHECKING:
    from torch import Tensor

__all__ = ["quality"]

DARK = 24  # no channel above it: masked out, or padding
STAINED = 180  # no channel below it: bright background; optical density 0.15 (Macenko et al. 2009)
SATURATED = 254
SHORTEST = 3  # a pixel and its neighbours


@torch.inference_mode()
def quality(pixels_NHWC: Tensor) -> Tensor:
    """
    Measure each crop, on every other pixel of every other row.

    The foreground is what absorbs light (optical density above 0.15 in some channel, as Macenko
    et al., "A method for normalizing histology slides", ISBI 2009, choose tissue) and was not
    masked out.

    Args:
        pixels_NHWC: uint8 RGB at the model's size, on any device.

    Returns:
        ``(N, 10)`` float32, the columns of ``engines.cells.QUALITY``; NaN where there is no
        foreground to measure, or a side is shorter than 3 pixels.
    """
    if min(pixels_NHWC.shape[:3]) < 1 or min(pixels_NHWC.shape[1:3]) < SHORTEST:
        return torch.full((len(pixels_NHWC), 10), torch.nan, device=pixels_NHWC.device)
    colours_3Nhw = _thinned(pixels_NHWC).permute(3, 0, 1, 2).contiguous()
    highest, lowest = colours_3Nhw.amax(0), colours_3Nhw.amin(0)
    stained = (highest > DARK) & (lowest < STAINED)
    weight = stained.flatten(1).float()
    colours_N3P = colours_3Nhw.flatten(2).float().transpose(0, 1)
    count = weight.sum(1)
    saturated = (highest >= SATURATED).flatten(1) * weight
    single = [
        _focus(pixels_NHWC[..., 1], stained),
        (colours_N3P.mean(1) * weight).sum(1) / count / 255,
        saturated.sum(1) / count,
        count / weight.shape[1],
    ]
    return torch.cat([torch.stack(single, 1), _optical_density(colours_N3P, weight)], 1)


def _thinned(pixels: Tensor, down: int = 0, right: int = 0) -> Tensor:
    """Return every other pixel of every other row, away from the rim; or its neighbour."""
    height, width = pixels.shape[1:3]
    return pixels[:, 1 + down : height - 1 + down : 2, 1 + right : width - 1 + right : 2]


def _focus(green_NHW: Tensor, stained_Nhw: Tensor) -> Tensor:
    """
    Return ``(N,)``: the Laplacian's energy inside the foreground over the brightness's variance.

    The energy of the Laplacian is the autofocus measure of Subbarao et al. (1993); divided by the
    variance it does not depend on how dark or contrasty the stain is. Taken from green, where
    stains absorb most. The foreground's rim is left out, or the edge of a mask would be sharp.
    """
    middle = _thinned(green_NHW).float()
    laplacian = 4 * middle
    for step in ((-1, 0), (1, 0), (0, -1), (0, 1)):
        laplacian -= _thinned(green_NHW, *step)
    inside = torch.zeros_like(stained_Nhw)
    inside[:, 1:-1, 1:-1] = (
        stained_Nhw[:, 1:-1, 1:-1]
        & (stained_Nhw[:, :-2, 1:-1] & stained_Nhw[:, 2:, 1:-1])
        & (stained_Nhw[:, 1:-1, :-2] & stained_Nhw[:, 1:-1, 2:])
    )
    weight = inside.flatten(1).float()
    count = weight.sum(1)
    bright = middle.flatten(1) * weight
    variance = bright.square().sum(1) / count - (bright.sum(1) / count).square()
    edges = laplacian.flatten(1) * weight
    return edges.square().sum(1) / count / variance.clamp(min=1)


def _optical_density(colours_N3P: Tensor, weight_NP: Tensor) -> Tensor:
    """Return ``(N, 6)``: mean, then spread, of each channel's optical density in the foreground."""
    count = weight_NP.sum(1, keepdim=True)
    density = (math.log10(256) - torch.log10(colours_N3P + 1)) * weight_NP[:, None]
    mean = density.sum(2) / count
    variance = density.square().sum(2) / count - mean.square()
    return torch.cat([mean, variance.clamp(min=0).sqrt()], 1)
