"""
The training loop: a generator whose state is on disk after every epoch.

Every random number of an epoch comes from the seed and the epoch's number, so a training that was
killed and run again gives the numbers of one that was not.
"""

from __future__ import annotations

import math
import time
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import torch
from timm.optim import param_groups_weight_decay  # type: ignore[attr-defined]
from torch import Tensor, nn
from torch.nn import functional

from engines.errors import UserError
from train.trainer.augmentation import reduced
from train.trainer.custom_augmentation import recipe_augmentation
from train.trainer.distributed import ALONE, Processes
from train.trainer.events import EpochDone, StepDone
from train.trainer.init_weights import freeze_stages
from train.trainer.mixup import MixStyle, open_mixup
from train.trainer.sampler import class_weights, epoch_order, whole_batches
from train.trainer.weight_averaging import WeightAverages

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from train.compute import Compute
    from train.recipe import Phase, Recipe
    from train.trainer.augmentation import Augmentation
    from train.trainer.training_cells import TrainingCells

__all__ = ["Training"]

WARM_UP = 100  # steps over which the first phase's learning rate rises


@dataclass(slots=True)
class Training:
    """
    A training under way.

    Attributes:
        recipe: What to do.
        network: Being trained, in place.
        compute: Where.
        seed: Of everything random after the network was built.
        processes: That train it together.
        history: One per epoch done.
        best_weights: Of the best epoch, on the CPU; empty before the first.
    """

    recipe: Recipe
    network: nn.Module
    compute: Compute
    seed: int
    processes: Processes = ALONE
    history: list[EpochDone] = field(default_factory=list)
    best_weights: dict[str, Tensor] = field(default_factory=dict)
    _frozen: list[nn.Module] = field(init=False)
    _forward: Callable[[Tensor], Tensor] = field(init=False)
    _averages: WeightAverages = field(init=False)
    _optimizer: torch.optim.Optimizer = field(init=False)
    _augmentation: Augmentation = field(init=False)
    _styles: MixStyle = field(init=False)
    _blend: Callable[[Tensor, Tensor], tuple[Tensor, Tensor]] = field(init=False)

    def __post_init__(self) -> None:
        """Set up what goes with the network."""
        recipe = self.recipe
        self.network.to(self.compute.device, memory_format=torch.channels_last)  # type: ignore[call-overload]
        self._frozen = freeze_stages(self.network, recipe.freeze)
        compiled = self.compute.compiled
        forward = self.processes.parallel(self.network)
        self._forward = torch.compile(forward, dynamic=False) if compiled else forward
        self._averages = WeightAverages(self.network, recipe)
        self._styles = MixStyle(self.network, recipe.mixstyle)  # not of the averages: they judge
        self._blend = open_mixup(recipe.mixup, self.network.num_classes)  # type: ignore[arg-type]
        self._optimizer = _optimizer(self.network, recipe)

    @property
    def is_done(self) -> bool:
        """Whether no epoch is left, or the recipe's patience is at its end."""
        return len(self.history) >= self.recipe.epochs or self._exhausted()

    @property
    def judged(self) -> nn.Module:
        """The network whose weights are kept: an average if there is one."""
        return self._averages.judged

    @property
    def averaged(self) -> int:
        """How many epochs' weights the kept ones are the mean of; 0 if of none."""
        return self._averages.epochs

    def epochs(
        self, cells: TrainingCells, judge: Callable[[nn.Module], dict[str, float]]
    ) -> Iterator[StepDone | EpochDone]:
        """
        Train what is left of the recipe's epochs.

        After an ``EpochDone`` the state is that of an epoch's end: the moment to save it.

        Raises:
            UserError: If the loss is no longer a number.
        """
        while not self.is_done:
            losses: list[float] = []
            for done in self._steps(cells):
                _refuse_divergence(done)
                losses.append(done.loss)
                yield done
            self._averages.epoch(len(self.history))
            network = self.judged.eval()
            found = self.processes.from_first(judge, network)
            yield self._closed(sum(losses) / len(losses), done.cells_per_s, found, network)

    def state(self) -> dict[str, Any]:
        """Return everything that ``resume`` needs, as tensors and plain values."""
        return {
            "network": self.network.state_dict(),
            **self._averages.state(),
            "optimizer": self._optimizer.state_dict(),
            "history": [done.record() for done in self.history],
            "best": self.best_weights,
        }

    def resume(self, state: dict[str, Any]) -> None:
        """Continue from what ``state`` returned."""
        self.network.load_state_dict(state["network"])
        self._averages.resume(state)
        self._optimizer.load_state_dict(state["optimizer"])
        self.history = [EpochDone(**record) for record in state["history"]]
        self.best_weights = state["best"]

    def _steps(self, cells: TrainingCells) -> Iterator[StepDone]:
        """Train one epoch."""
        recipe, epoch = self.recipe, len(self.history)
        generator = torch.Generator().manual_seed(self.seed * 1_000_003 + epoch)
        torch.manual_seed(self.seed * 1_000_003 + epoch)  # dropout draws from the global one
        phase, phase_epoch = _phase_of(recipe, epoch)
        order = epoch_order(recipe, cells.classes, cells.subjects, generator)
        generator = self.processes.seeded(generator)
        batches = whole_batches(order, recipe.batch_size)
        weights = class_weights(cells.classes) if recipe.weighted_loss else None
        began = time.perf_counter()
        self._augmentation = recipe_augmentation(recipe, phase.scale, cells.backgrounds)
        self.network.train()
        for module in self._frozen:
            module.eval()
        for step, chosen in enumerate(batches):
            done, steps = phase_epoch * len(batches) + step, phase.epochs * len(batches)
            self._set_lr(phase, done, steps, first=epoch == phase_epoch)
            loss = self._step(cells, chosen, phase, generator, weights)
            self._averages.step(epoch * len(batches) + step)
            rate = (step + 1) * recipe.batch_size / (time.perf_counter() - began)
            yield StepDone(epoch, step + 1, len(batches), loss, recipe.batch_size, rate)

    def _step(
        self,
        cells: TrainingCells,
        chosen: Tensor,
        phase: Phase,
        generator: torch.Generator,
        weights: Tensor | None,
    ) -> float:
        """Learn from one batch; return its loss."""
        device, chosen = self.compute.device, self.processes.share(chosen)
        stored = reduced(cells.pixels[chosen].to(device), phase.scale)
        pixels = self._augmentation(stored, phase.side(self.recipe.img_size), generator)
        pixels, truth = self._blend(pixels, cells.classes[chosen].to(device))
        normal = _normalised(pixels, self.recipe)
        with self.compute.autocast(), self._styles.of(len(normal), device):
            logits = self._forward(normal)
        loss = functional.cross_entropy(
            logits.float(),
            truth,
            weight=weights.to(device) if weights is not None else None,
            label_smoothing=self.recipe.smoothing,
        )
        self._optimizer.zero_grad()
        torch.autograd.backward(loss)
        nn.utils.clip_grad_norm_(self.network.parameters(), 5.0)
        self._optimizer.step()
        return float(self.processes.mean(loss.detach()))

    def _set_lr(self, phase: Phase, step: int, steps: int, *, first: bool) -> None:
        """Set the learning rate of a step of a phase."""
        rate = phase.lr
        if not self.recipe.constant_lr:
            rate *= (1 + math.cos(math.pi * step / steps)) / 2
            rate *= min(1.0, (step + 1) / WARM_UP) if first else 1.0
        for group in self._optimizer.param_groups:
            group["lr"] = rate

    def _closed(
        self, loss: float, rate: float, metrics: dict[str, float], judged: nn.Module
    ) -> EpochDone:
        """Enter an epoch into the history, keeping its weights if they are the best."""
        criterion = self.recipe.criterion
        best = criterion == "last" or all(
            metrics[criterion] > past.metrics[criterion] for past in self.history
        )
        if best:
            self.best_weights = {
                name: tensor.detach().cpu().clone() for name, tensor in judged.state_dict().items()
            }
        done = EpochDone(len(self.history), loss, rate, metrics, best)
        self.history.append(done)
        return done

    def _exhausted(self) -> bool:
        """Tell whether the recipe's patience is at its end."""
        if self.recipe.patience is None or not self.history:
            return False
        last_best = max(done.epoch for done in self.history if done.best)
        return len(self.history) - 1 - last_best >= self.recipe.patience


def _normalised(pixels: Tensor, recipe: Recipe) -> Tensor:
    """Bring pixels in 0..1 to what the recipe's network takes, channels last."""
    mean, std = (
        torch.tensor(v, device=pixels.device).view(1, 3, 1, 1) for v in (recipe.mean, recipe.std)
    )
    return ((pixels - mean) / std).contiguous(memory_format=torch.channels_last)


def _refuse_divergence(done: StepDone) -> None:
    """Stop before weights that are not numbers are averaged, judged and kept."""
    if not math.isfinite(done.loss):
        raise UserError(
            f"the loss is {done.loss} at step {done.step} of epoch {done.epoch + 1}",
            hint="pass a lower --lr or --precision fp32; what is finished is kept",
        )


def _optimizer(network: nn.Module, recipe: Recipe) -> torch.optim.Optimizer:
    """Build the optimizer; vectors (norms, biases) do not decay."""
    kind = torch.optim.Adam if recipe.optimizer == "adam" else torch.optim.AdamW
    groups = param_groups_weight_decay(network, recipe.weight_decay)
    return kind(groups, lr=recipe.phases[0].lr)


def _phase_of(recipe: Recipe, epoch: int) -> tuple[Phase, int]:
    """Return the phase an epoch belongs to and its number within it."""
    for phase in recipe.phases:
        if epoch < phase.epochs:
            return phase, epoch
        epoch -= phase.epochs
    raise ValueError(f"the recipe has no epoch {epoch}")
