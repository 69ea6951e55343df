"""
Cells mixed with one another while training, so that no subject can be learned by heart.

Legend: N cells, C classes or channels.
"""

from __future__ import annotations

from contextlib import contextmanager
from typing import TYPE_CHECKING

import torch
from torch import Tensor, nn

from engines.errors import UserError
from train.trainer.init_weights import stages_of

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

__all__ = ["MixStyle", "open_mixup"]

STYLE_SHAPE = 0.1  # of the beta distribution, as published: mostly one style or the other
EPSILON = 1e-6
IMAGES = 4  # dimensions of a batch of feature maps
WITHOUT = "leave out --mixstyle, or take an EfficientNet or a ResNet"


def open_mixup(alpha: float, classes: int) -> Callable[[Tensor, Tensor], tuple[Tensor, Tensor]]:
    """Return what blends ``(N, 3, V, V)`` pixels and ``(N,)`` truth; *alpha* 0 leaves them be."""
    if not alpha:
        return lambda pixels, truth: (pixels, truth)
    from torchvision.transforms import v2

    blend: Callable[[Tensor, Tensor], tuple[Tensor, Tensor]] = v2.MixUp(
        alpha=alpha, num_classes=classes
    )
    return blend


class MixStyle:
    """
    Lets cells take on the style of others: mean and spread of each channel, after two stages.

    "Domain Generalization with MixStyle" (Zhou et al., 2021), where a subject is a domain: what
    stays when one cell's statistics are given to another is not what tells subjects apart. The
    second and the third stage's output is mixed, between random pairs.
    """

    def __init__(self, network: nn.Module, share: float) -> None:
        """Hook into *network*; *share* of the cells of a batch are mixed, with 0 nothing is."""
        self._share = share
        self._active = False
        self._partner = self._weight = torch.empty(0)
        if not share:
            return
        stages = stages_of(network)[1:3]
        if not stages:
            raise UserError("the network has no stages to mix styles after", hint=WITHOUT)
        for stage in stages:
            stage.register_forward_hook(self._hook)

    @contextmanager
    def of(self, cells: int, device: str) -> Iterator[None]:
        """Mix in the forward pass of a batch of *cells*, drawing from torch's own generator."""
        if not self._share:
            yield
            return
        beta = torch.distributions.Beta(STYLE_SHAPE, STYLE_SHAPE).sample((cells,))
        mixed = torch.rand(cells) < self._share
        self._weight = torch.where(mixed, beta, 1.0).view(-1, 1, 1, 1).to(device)
        self._partner = torch.randperm(cells).to(device)
        self._active = True
        try:
            yield
        finally:
            self._active = False

    def _hook(self, _module: nn.Module, _given: tuple[Tensor, ...], output: Tensor) -> Tensor:
        """Exchange styles, in float32."""
        if not self._active:
            return output
        if output.dim() != IMAGES:
            raise UserError("the network's stages give no images to mix styles of", hint=WITHOUT)
        features = output.float()
        mean = features.mean((2, 3), keepdim=True).detach()
        spread = (features.var((2, 3), keepdim=True) + EPSILON).sqrt().detach()
        own, other = self._weight, 1 - self._weight
        new_mean = own * mean + other * mean[self._partner]
        new_spread = own * spread + other * spread[self._partner]
        return ((features - mean) / spread * new_spread + new_mean).to(output.dtype)
