"""One training from labelled cells to a bundle: prepare, train (resumable), publish."""

from __future__ import annotations

import logging
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from PIL import Image

from engines.backends import decoder_candidates
from engines.decode.geometry import placement
from engines.errors import SourceError, UserError
from engines.files import whole_file
from engines.metrics import Scored, figures
from engines.uncertainty import probabilities
from train.compute import Compute
from train.data.backgrounds import backgrounds_digest, none, open_backgrounds
from train.data.decoded import decoded_cells, enlarged
from train.evaluation.calibration import THRESHOLD_RULE, OperatingPoint, cross_fitted, fitted_point
from train.evaluation.evaluate import evaluation, predictions, truth_of
from train.evaluation.plots import draw_plots
from train.evaluation.uncertainty import fitted_trust, limits, spread, strangers
from train.export.bundle_writer import Meaning, as_shipped, model_input, publish_bundle
from train.export.half_precision import measured_half, settle_in_bfloat16
from train.export.model_card import card_text
from train.recipe import changes
from train.trainer.augmentation import ROOM, stored_window
from train.trainer.checkpoint import Identity, load_state, save_state
from train.trainer.events import EpochDone
from train.trainer.init_weights import network_to_train, sources_of, subjects_behind
from train.trainer.trainer import Training, TrainingCells

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

    from numpy.typing import NDArray
    from torch import Tensor, nn

    from engines.models.bundle import ModelBundle
    from engines.models.input import ModelInput
    from engines.uncertainty.fitted import Trust
    from train.data.decoded import DecodedCells
    from train.data.holdout import Parts
    from train.evaluation.evaluate import Evaluation, Predictions
    from train.recipe import Recipe
    from train.trainer.events import StepDone

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
        classes: In the order of the logits.
        held_out: The held-out cells, decoded at the model's size.
        faults: Training cells that did not decode, by path, with the reason.
        training: The loop and its state.
    """

    recipe: Recipe
    options: FitOptions
    parts: Parts
    classes: tuple[str, ...]
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
            if isinstance(done, EpochDone):
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
        network = self._best_network()
        predicted = self._predicted(network)
        judged, point = self._judged(predicted.logits)
        data = self._provenance(judged)
        trust, data["trust"] = self._trust(network, predicted, point)
        meaning = Meaning(self.classes, self.options.positive, point, data)
        weights = network.state_dict()
        bundle = publish_bundle(self.options.out, self.recipe, weights, meaning, trust)
        bundle = measured_half(bundle, self.held_out)
        draw_plots(self.options.out / "plots", judged)
        with whole_file(self.options.out / "README.md") as scratch:
            scratch.write_text(card_text(bundle, judged), encoding="utf-8")
        return bundle, judged

    def _judge(self) -> Callable[[nn.Module], dict[str, float]]:
        """Return what scores the held-out cells after each epoch."""
        truth = truth_of(self.held_out.cells, self.classes)
        expected = model_input(self.recipe)
        subjects = np.array([cell.subject for cell in self.held_out.cells])

        def judge(network: nn.Module) -> dict[str, float]:
            logits = predictions(
                network, self.held_out.pixels, expected, self.options.compute
            ).logits
            shown = probabilities(logits, 1.0)
            return figures(Scored(self.classes, truth, shown, shown, subjects, None, None))

        return judge

    def _best_network(self) -> nn.Module:
        """Return the network with the best weights, rounded as they will be shipped."""
        network = self.training.judged
        network.load_state_dict(self.training.best_weights)
        settle_in_bfloat16(network.eval(), self.recipe.img_size)
        shipped = as_shipped(network.state_dict())
        network.load_state_dict(
            {n: t.float() if t.is_floating_point() else t for n, t in shipped.items()}
        )
        return network.eval()

    @property
    def _exact(self) -> Compute:
        """Where final figures are computed: in float32."""
        return Compute(self.options.compute.device, half=False)

    def _predicted(self, network: nn.Module) -> Predictions:
        """Run the held-out cells."""
        return predictions(network, self.held_out.pixels, model_input(self.recipe), self._exact)

    def _judged(self, logits: NDArray[np.float32]) -> tuple[Evaluation, OperatingPoint]:
        """Fit the operating point, and judge by cross-fitting it."""
        truth = truth_of(self.held_out.cells, self.classes)
        positive = self.options.positive
        number = self.classes.index(positive) if positive else None
        subjects = np.array([cell.subject for cell in self.held_out.cells])
        point = fitted_point(logits, truth, number)
        scored = cross_fitted(logits, truth, subjects, self.classes, number)
        return evaluation(scored, faults=len(self.held_out.faults)), point

    def _trust(
        self, network: nn.Module, predicted: Predictions, point: OperatingPoint
    ) -> tuple[Trust, dict[str, Any]]:
        """Fit how far to trust the scores, with some training cells, and measure how well."""
        expected = model_input(self.recipe)
        decoded = decoded_cells(spread(self.parts.training), expected, self.options.decoder)
        learned = predictions(network, decoded.pixels, expected, self.options.compute)
        trust = fitted_trust((learned, decoded), (predicted, self.held_out), self.classes)
        auroc = strangers(network, trust, self.held_out.pixels, expected, self._exact)
        meaning = (self.classes, point.temperature)
        return trust, limits(trust, meaning, len(decoded.cells), auroc).record()

    @property
    def _held_out_fold(self) -> str:
        """Say which part of which split is held out."""
        options = self.options
        return f"{options.fold} of {self.recipe.folds}, split seed {options.split_seed}"

    def _provenance(self, judged: Evaluation) -> dict[str, Any]:
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
            "threshold_rule": THRESHOLD_RULE if self.options.positive else None,
            "evaluation": judged.record(),
        }


def prepared_run(parts: Parts, recipe: Recipe, options: FitOptions) -> Run:
    """
    Decode the cells, build the network, and resume where a former run of the same training ended.

    Raises:
        UserError: If the start weights cannot be had or the state is another training's.
    """
    classes = tuple(sorted({cell.label for cell in parts.training}))
    _check_positive(options.positive, classes)
    _check_start(parts, recipe, options.init)
    if options.backgrounds and recipe.augment != "stain":
        raise UserError(
            f"nothing is put behind cells where the augmentation is {recipe.augment!r}",
            hint="leave out --backgrounds, or take --recipe subject",
        )
    options.state.mkdir(parents=True, exist_ok=True)
    identity = Identity(
        recipe=recipe,
        init=options.init,
        seed=options.seed,
        fold=options.fold,
        training=parts.digests[0],
        held_out=parts.digests[1],
        backgrounds=backgrounds_digest(options.backgrounds),
        decoder=next(decoder_candidates(options.decoder)).decoder.value,
    )
    state = load_state(options.state / "state.pt", identity)
    torch.manual_seed(options.seed)
    training = Training(
        recipe, network_to_train(recipe, len(classes), options.init), options.compute, options.seed
    )
    if state:
        training.resume(state)
    expected = model_input(recipe)
    held_out = decoded_cells(parts.held_out, expected, options.decoder)
    stored = enlarged(expected, ROOM, stored_window(recipe))
    learned = decoded_cells(parts.training, stored, options.decoder)
    faults = {fault.ref.path: fault.reason for fault in (*learned.faults, *held_out.faults)}
    _check_decoded(learned, held_out, classes)
    cells = _training_cells(learned, classes, _backgrounds(learned, stored, options))
    return Run(recipe, options, parts, classes, held_out, faults, training, identity, cells)


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


def _check_decoded(learned: DecodedCells, held_out: DecodedCells, classes: tuple[str, ...]) -> None:
    """Refuse a part that has lost a class to files that do not decode."""
    for part, name in ((learned, "training"), (held_out, "held-out")):
        missing = sorted(set(classes) - {cell.label for cell in part.cells})
        if missing:
            raise SourceError(
                f"the {name} part has no decodable cells of class {', '.join(missing)}",
                hint="slidescreen-train check names the bad files; give more cells",
            )


def _backgrounds(learned: DecodedCells, stored: ModelInput, options: FitOptions) -> Tensor:
    """Cut backgrounds that fit the crops, taking the first crop's size for everyone's."""
    if options.backgrounds is None:
        return none()
    with Image.open(learned.cells[0].file) as crop:
        native = placement(crop.height, crop.width, stored).window.width
    return open_backgrounds(options.backgrounds, native, stored.width)


def _training_cells(
    decoded: DecodedCells, classes: tuple[str, ...], backgrounds: Tensor
) -> TrainingCells:
    """Bring decoded cells into the loop's form."""
    _, subjects = np.unique([cell.subject for cell in decoded.cells], return_inverse=True)
    return TrainingCells(
        torch.from_numpy(decoded.pixels),
        torch.from_numpy(truth_of(decoded.cells, classes)),
        torch.from_numpy(subjects),
        backgrounds,
    )
