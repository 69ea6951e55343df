"""Means of the weights along a training: what is judged and kept in their place."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from timm.utils.model_ema import ModelEmaV3
from torch.optim.swa_utils import AveragedModel

if TYPE_CHECKING:
    from torch import Tensor, nn

    from train.recipe import Recipe

__all__ = ["WeightAverages"]


class WeightAverages:
    """
    The recipe's means of one network: over steps, and of those over the last phase's epochs.

    The first is an exponential moving average; the second, an even mean, is stochastic weight
    averaging (Izmailov et al., arXiv 1803.05407) of the first. Statistics of batch norms are
    averaged along: they stay those of augmented cells, which the weights were learned with. Taken
    anew from plain whole crops, mostly black, they cost 0.06 of AUC where training saw the middle.
    """

    def __init__(self, network: nn.Module, recipe: Recipe) -> None:
        """Begin both where *network* is, which goes on changing in place."""
        self._network = network
        self._first = recipe.epochs - recipe.phases[-1].epochs
        self._steps = (
            ModelEmaV3(network, decay=recipe.ema_decay, use_warmup=True)
            if recipe.ema_decay
            else None
        )
        self._epochs = _even_mean(network) if recipe.soup else None

    @property
    def judged(self) -> nn.Module:
        """The widest mean there is so far; the network itself if there is none."""
        return self._epochs.module if self._epochs and self.epochs else self._running

    @property
    def epochs(self) -> int:
        """How many epochs are averaged by now."""
        return int(self._epochs.n_averaged) if self._epochs else 0

    def step(self, number: int) -> None:
        """Take in the network after a step of the training, counted from 0."""
        if self._steps:
            self._steps.update(self._network, step=number)

    def epoch(self, number: int) -> None:
        """Take in an epoch that has ended, counted from 0."""
        if self._epochs and number >= self._first:
            self._epochs.update_parameters(self._running)

    def state(self) -> dict[str, Any]:
        """Return what ``resume`` needs."""
        return {
            "average": self._steps.module.state_dict() if self._steps else {},
            "soup": self._epochs.state_dict() if self._epochs else {},
        }

    def resume(self, state: dict[str, Any]) -> None:
        """Continue from what ``state`` returned."""
        if self._steps:
            self._steps.module.load_state_dict(state["average"])
        if self._epochs:
            self._epochs.load_state_dict(state["soup"])

    @property
    def _running(self) -> nn.Module:
        """The mean over steps, or the network."""
        return self._steps.module if self._steps else self._network


def _even_mean(network: nn.Module) -> AveragedModel:
    """Begin an even mean of weights and statistics."""
    return AveragedModel(network, avg_fn=_even, use_buffers=True)


def _even(mean: Tensor, new: Tensor, count: Tensor | int) -> Tensor:
    """Take *new* into the mean of *count*; of counters, which have no mean, it is the value."""
    return mean + (new - mean) / (count + 1) if mean.is_floating_point() else new
