"""Whether a network can be trained and then screened with: known before the first epoch."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

import torch
from torch import nn

from engines.errors import UserError
from engines.models.architecture import refusal
from engines.models.head import head_of

if TYPE_CHECKING:
    from torch import Tensor

    from train.recipe import Phase, Recipe

__all__ = ["noise_images", "servable_recipe"]


def servable_recipe(recipe: Recipe, network: nn.Module) -> Recipe:
    """
    Return the recipe as *network* can do it.

    Where a network takes images of its own size only (most with attention do), phases that show it
    smaller ones show it the whole.

    Args:
        recipe: What is to be done.
        network: Built for it; put into evaluation mode.

    Raises:
        UserError: With the reason, if what would be trained could not be screened with.
    """
    if reason := refusal(recipe.architecture, recipe.model_args):
        raise UserError(
            f"{recipe.architecture} cannot be screened with: {reason}",
            hint="see timm.list_models() for names, docs/models.md for arguments",
        )
    try:
        head_of(network, noise_images(recipe.img_size))
    except ValueError as error:
        raise UserError(
            f"{recipe.architecture} cannot be screened with: {error}",
            hint="pass the --img-size that it is made for, tell it yours (--model-kwargs "
            "img_size=N, for those that know it), or take another --model",
        ) from error
    phases = tuple(_taken(phase, recipe.img_size, network) for phase in recipe.phases)
    return replace(recipe, phases=phases)


def _taken(phase: Phase, img_size: int, network: nn.Module) -> Phase:
    """Let a phase show the whole input where the network does not run on less."""
    try:
        with torch.no_grad():
            network(noise_images(phase.side(img_size)))
    except (AssertionError, RuntimeError):
        return replace(phase, view=None, scale=1.0)
    return phase


def noise_images(side: int) -> Tensor:
    """Return two images of noise, always the same, ``(2, 3, side, side)``."""
    return torch.randn(2, 3, side, side, generator=torch.Generator().manual_seed(0))
