"""Which cells an epoch shows, in which order and batches, and how much each class weighs."""

from __future__ import annotations

from typing import TYPE_CHECKING

import torch
from torch import Tensor

if TYPE_CHECKING:
    from train.recipe import Recipe

__all__ = ["class_weights", "epoch_order", "samples_per_class", "whole_batches"]


def epoch_order(
    recipe: Recipe, classes_N: Tensor, subjects_N: Tensor, generator: torch.Generator
) -> Tensor:
    """
    Return indices of cells, shuffled, as the recipe's ``sampling`` and ``samples_per_class`` say.

    Args:
        recipe: See ``Recipe.sampling``.
        classes_N: Class number of each cell.
        subjects_N: Subject number of each cell.
        generator: Decides everything random.
    """
    if recipe.sampling == "plain":
        return torch.randperm(len(classes_N), generator=generator)
    present = torch.unique(classes_N)
    draws = samples_per_class(recipe, len(classes_N) / len(present))
    drawn = []
    for number in present:
        members = (classes_N == number).nonzero()[:, 0]
        if recipe.sampling == "class":
            drawn.append(_topped_up(members, draws, generator))
        else:
            drawn.append(_by_subject(members, subjects_N[members], draws, generator))
    together = torch.cat(drawn)
    return together[torch.randperm(len(together), generator=generator)]


def samples_per_class(recipe: Recipe, mean_cells: float) -> int:
    """Return how many cells an epoch shows of each class, which have *mean_cells* on average."""
    if recipe.samples_per_class is None:
        return round(mean_cells)
    if recipe.max_repeats is None:
        return recipe.samples_per_class
    return min(recipe.samples_per_class, round(mean_cells * recipe.max_repeats))


def _topped_up(members: Tensor, draws: int, generator: torch.Generator) -> Tensor:
    """Every member equally often, give or take one."""
    rounds = -(-draws // len(members))
    orders = [torch.randperm(len(members), generator=generator) for _ in range(rounds)]
    return members[torch.cat(orders)[:draws]]


def _by_subject(
    members: Tensor, subjects: Tensor, draws: int, generator: torch.Generator
) -> Tensor:
    """
    Members drawn with replacement, a subject with the square root of its cells as its weight.

    Evenly by subject would show the one cell of a tiny subject hundreds of times; evenly by cell
    would learn the largest subject.
    """
    _, position, counts = torch.unique(subjects, return_inverse=True, return_counts=True)
    weights = counts[position].double().rsqrt()
    return members[torch.multinomial(weights, draws, replacement=True, generator=generator)]


def whole_batches(order: Tensor, batch: int) -> list[Tensor]:
    """Cut an order into batches of one size, leaving out a remainder unless it is all there is."""
    whole = len(order) // batch * batch
    return list(torch.split(order[: whole or len(order)], batch))


def class_weights(classes_N: Tensor) -> Tensor:
    """Weigh each class by the inverse of its number of cells; the mean weight is 1."""
    counts = torch.bincount(classes_N).clamp_min(1).float()
    return counts.sum() / (len(counts) * counts)
