"""One training from labelled cells to a bundle: prepare, train (resumable), publish."""

from __future__ import annotations

import logging
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
import torch

from engines.backends import decoder_candidates
from engines.errors import UserError
from engines.metrics import Scored, figures
from engines.uncertainty import probabilities
from train.data.backgrounds import backgrounds_digest
from train.evaluation.evaluate import predictions, truth_of
from train.export.bundle_files import NetworkSpec
from train.export.bundle_writer import TrainedNetwork, write_bundle
from train.export.half_precision import round_for_shipping
from train.recipe import changes
from train.trainer.checkpoint import Identity, load_state, save_state
from train.trainer.custom_augmentation import augmentation_digest
from train.trainer.distributed import ALONE, Processes
from train.trainer.events import EpochDone
from train.trainer.init_weights import network_to_train, sources_of, subjects_behind
from train.trainer.servable import servable_recipe
from train.trainer.trainer import Training
from train.trainer.training_cells import decoded_parts

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

    from torch import nn

    from engines.models.bundle import ModelBundle
    from train.compute import Compute
    from train.data.decoded import DecodedCells
    from train.data.holdout import Parts
    from train.evaluation.evaluate import Evaluation
    from train.recipe import Recipe
    from train.trainer.events import StepDone
    from train.trainer.training_cells import TrainingCells

__all__ = ["FitOptions", "Run", "prepared_run"]

log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True, kw_only=True)
class FitOptions:
    """
    How one training is run.

    Attributes:
        out: The bundle's folder; the training's state lies beside it, in ``<out>.training``.
        init: See ``start.network_to_train``.
        compute: Where the arithmetic happens.
        fold: Which part is held out.
        seed: Of everything random but the split.
        split_seed: Which split: see ``train.data.splits.Fold``.
        positive: Name of the class a screen looks for, or None.
        decoder: ``auto``, or one of ``engines.registry.decoder_names()``.
        data: What the card says of the data: name, source, licence.
        backgrounds: Folder of smear fields to put behind segmented cells, or None.
        processes: That train it together.
    """

    out: Path
    init: str
    compute: Compute
    fold: int = 0
    seed: int = 0
    split_seed: int = 0
    positive: str | None = None
    decoder: str = "auto"
    data: str = ""
    backgrounds: Path | None = None
    processes: Processes = ALONE

    @property
    def state(self) -> Path:
        """The folder of the training's state."""
        out = self.out.absolute()  # the name of "." is empty
        return out.with_name(out.name + ".training")


@dataclass(slots=True)
class Run:
    """
    A training, ready to go on from wherever it was left.

    Attributes:
        parts: The cells.
        held_out: The held-out cells, decoded at the model's size.
        faults: Training cells that did not decode, by path, with the reason.
        training: The loop and its state.
    """

    recipe: Recipe
    options: FitOptions
    parts: Parts
    held_out: DecodedCells
    faults: dict[str, str]
    training: Training
    _identity: Identity
    _cells: TrainingCells

    @property
    def is_done(self) -> bool:
        """Whether nothing is left to train."""
        return self.training.is_done

    def epochs(self) -> Iterator[StepDone | EpochDone]:
        """Train what is left, keeping the state after every epoch."""
        for done in self.training.epochs(self._cells, self._judge()):
            if isinstance(done, EpochDone) and self.options.processes.is_first:
                save_state(self.options.state / "state.pt", self.training, self._identity)
                log.info("epoch %d: loss %.4f, %s", done.epoch, done.loss, dict(done.metrics))
            yield done

    def publish(self) -> tuple[ModelBundle, Evaluation]:
        """
        Write the best epoch's weights as a bundle, judged as they are shipped.

        Raises:
            UserError: If no epoch is finished.
        """
        if not self.training.best_weights:
            raise UserError(
                "no epoch is finished, so there is nothing to keep", hint="run it again"
            )
        recipe, options = self.recipe, self.options
        trained = TrainedNetwork(
            network=self._best_network(),
            spec=NetworkSpec(recipe.architecture, recipe.model_args, recipe.input),
            classes=self.parts.classes,
            positive=options.positive,
            training=self.parts.training,
            held_out=self.held_out,
            compute=options.compute,
            decoder=options.decoder,
            provenance=self._provenance(),
        )
        return write_bundle(trained, options.out)

    def _judge(self) -> Callable[[nn.Module], dict[str, float]]:
        """Return what scores the held-out cells after each epoch."""
        truth = truth_of(self.held_out.cells, self.parts.classes)
        expected = self.recipe.input
        subjects = np.array([cell.subject for cell in self.held_out.cells])

        def judge(network: nn.Module) -> dict[str, float]:
            logits = predictions(
                network, self.held_out.pixels, expected, self.options.compute
            ).logits
            shown = probabilities(logits, 1.0)
            return figures(Scored(self.parts.classes, truth, shown, shown, subjects, None, None))

        return judge

    def _best_network(self) -> nn.Module:
        """Return the network with the best weights, rounded as they will be shipped."""
        network = self.training.judged
        network.load_state_dict(self.training.best_weights)
        round_for_shipping(network.eval(), self.recipe.img_size)
        return network.eval()

    @property
    def _held_out_fold(self) -> str:
        """Say which part of which split is held out."""
        options = self.options
        return f"{options.fold} of {self.recipe.folds}, split seed {options.split_seed}"

    def _provenance(self) -> dict[str, Any]:
        """Collect what the bundle says of its own making."""
        history, options = self.training.history, self.options
        return {
            "name": self.options.data,
            "recipe": self.recipe.name,
            "changes": changes(self.recipe),
            "protocol": self.recipe.protocol,
            "held_out_fold": self._held_out_fold,
            "training_cells": len(self.parts.training),
            "training_subjects": sorted(_trained_on(self.parts, options.init)),
            "held_out_subjects": sorted({cell.subject for cell in self.parts.held_out}),
            "subjects_on_both_sides": len(self.parts.shared.subjects),
            "epochs": len(history),
            "averaged_epochs": self.training.averaged,
            "criterion": self.recipe.criterion,
            "best_epoch": max(done.epoch for done in history if done.best) + 1,
            "init": ", ".join(source.name for source in sources_of(options.init)),
            "backgrounds": self.options.backgrounds and self.options.backgrounds.name,
            "backgrounds_digest": self._identity.backgrounds,
        }


def prepared_run(parts: Parts, recipe: Recipe, options: FitOptions) -> Run:
    """
    Decode the cells, build the network, and resume where a former run of the same training ended.

    Raises:
        UserError: If the start weights cannot be had, what would be trained could not be screened
            with, or the state is another training's.
    """
    _check_positive(options.positive, parts.classes)
    _check_start(parts, recipe, options.init)
    _check_backgrounds(recipe, options.backgrounds)
    torch.manual_seed(options.seed)
    network = network_to_train(recipe, len(parts.classes), options.init)
    recipe = servable_recipe(recipe, network)
    identity = _identity(parts, recipe, options)
    options.state.mkdir(parents=True, exist_ok=True)
    state = load_state(options.state / "state.pt", identity)
    training = Training(recipe, network, options.compute, options.seed, options.processes)
    if state:
        training.resume(state)
    cells, held_out, faults = decoded_parts(parts, recipe, options.decoder, options.backgrounds)
    return Run(recipe, options, parts, held_out, faults, training, identity, cells)


def _identity(parts: Parts, recipe: Recipe, options: FitOptions) -> Identity:
    """Collect what makes a training the one it is: a state of another one is refused."""
    return Identity(
        recipe=recipe,
        init=options.init,
        seed=options.seed,
        fold=options.fold,
        training=parts.digests[0],
        held_out=parts.digests[1],
        backgrounds=backgrounds_digest(options.backgrounds),
        processes=options.processes.count,
        augmentation=augmentation_digest(recipe.custom_augment),
        decoder=next(decoder_candidates(options.decoder)).decoder.value,
    )


def _check_backgrounds(recipe: Recipe, backgrounds: Path | None) -> None:
    """Refuse backgrounds that no augmentation would show."""
    if backgrounds and (recipe.augment != "stain" or recipe.custom_augment):
        raise UserError(
            f"nothing is put behind cells where the augmentation is "
            f"{recipe.custom_augment or recipe.augment!r}",
            hint="leave out --backgrounds, or take --recipe subject",
        )


def _check_positive(positive: str | None, classes: tuple[str, ...]) -> None:
    """Refuse a positive class that no cell has."""
    if positive is not None and positive not in classes:
        raise UserError(
            f"the positive class {positive!r} is not among {', '.join(classes)}",
            hint="name one of them with --positive, or none",
        )


def _check_start(parts: Parts, recipe: Recipe, init: str) -> None:
    """Refuse to judge by people whom a bundle that the weights come from was trained on."""
    held_out = {cell.subject for cell in parts.held_out} - {""}
    known = held_out & subjects_behind(init)
    if recipe.protocol == "subject" and known:
        raise UserError(
            f"{init} was trained on {len(known)} of the held-out subjects, {min(known)} first",
            hint="hold out others (--fold, --held-out), or start from weights that know none",
        )


def _trained_on(parts: Parts, init: str) -> set[str]:
    """Name everyone that the weights have learned from, the start's subjects included."""
    return {cell.subject for cell in parts.training} | subjects_behind(init)
