"""A recipe with what its start brings along and what was asked for by name."""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Any

from engines.errors import UserError
from engines.models.bundle import ModelBundle
from train.recipe import RECIPES, Phase, Recipe

if TYPE_CHECKING:
    from collections.abc import Mapping

__all__ = ["NORMS", "RecipeOverrides", "as_started", "recipe_from", "with_epochs"]

LITE2_ARGS = {"act_layer": "relu6", "bn_eps": 1e-3}
AS_ASKED = (  # fields that a recipe has, too
    "architecture", "batch_size", "samples_per_class", "img_size", "crop_pct", "freeze",
    "ema_decay", "mixup", "mixstyle", "folds", "custom_augment",
)  # fmt: skip
NORMS = {
    "imagenet": ((0.485, 0.456, 0.406), (0.229, 0.224, 0.225)),
    "half": ((0.5, 0.5, 0.5), (0.5, 0.5, 0.5)),
}


@dataclass(frozen=True, slots=True, kw_only=True)
class RecipeOverrides:
    """
    What is asked of a recipe; None asks for nothing. Fields not named here are as in ``Recipe``.

    Attributes:
        recipe: Name of the recipe that is changed.
        model_args: Go over those of the recipe or of its start.
        epochs: Of all phases together, which keep their shares.
        view: Of every phase that has one.
        lr: Of the first phase; later phases keep their ratio to it.
        norm: A key of NORMS: mean and standard deviation of the model's input.
        class_weights: Weigh the loss by class.
        no_aug: No augmentation, every cell once per epoch.
        limited: Only some of the cells are used, for a quick try, which shows no more than them.
    """

    recipe: str
    architecture: str | None = None
    model_args: Mapping[str, Any] = field(default_factory=dict)
    epochs: int | None = None
    batch_size: int | None = None
    samples_per_class: int | None = None
    img_size: int | None = None
    crop_pct: float | None = None
    view: int | None = None
    lr: float | None = None
    freeze: int | None = None
    ema_decay: float | None = None
    mixup: float | None = None
    mixstyle: float | None = None
    folds: int | None = None
    custom_augment: str | None = None
    norm: str | None = None
    class_weights: bool = False
    no_aug: bool = False
    limited: bool = False


def recipe_from(asked: RecipeOverrides, init: str) -> Recipe:
    """
    Return the recipe asked for, with what the start and the overrides change.

    Args:
        asked: The overrides.
        init: See ``train.trainer.init_weights.network_to_train``. What the weights were trained as
            comes first, and what is asked for by name goes over it.

    Raises:
        UserError: If the start is no bundle, or what is asked for contradicts itself.
    """
    if asked.no_aug and asked.custom_augment:
        raise UserError("--augment and --no-aug exclude each other", hint="leave out one of them")
    recipe = as_started(RECIPES[asked.recipe], init)
    named = {name: getattr(asked, name) for name in AS_ASKED}
    changed = {name: value for name, value in named.items() if value is not None}
    if asked.samples_per_class:
        changed["max_repeats"] = None  # asked for by name
    elif asked.limited:
        changed["samples_per_class"] = None
    if asked.no_aug:
        changed |= {"augment": "none", "sampling": "plain"}
    if asked.norm:
        changed["mean"], changed["std"] = NORMS[asked.norm]
    changed["model_args"] = {**recipe.model_args, **asked.model_args}
    changed["weighted_loss"] = asked.class_weights
    return _with_phases(replace(recipe, **changed), asked)


def as_started(recipe: Recipe, init: str) -> Recipe:
    """Take over from a known start what its weights were trained as: without it, they mislead."""
    if init == "lite2":
        mean, std = NORMS["half"]
        return replace(recipe, model_args=dict(LITE2_ARGS), mean=mean, std=std)
    from train.trainer.init_weights import sources_of

    sources = sources_of(init)
    taken = [_taken_over(ModelBundle.load(s)) for s in sources if s.is_dir()]
    if any(other != taken[0] for other in taken):
        raise UserError(
            f"the bundles in {init} differ in architecture, arguments or input: they have no mean",
            hint="--init takes several bundles only of one kind, of one start",
        )
    return replace(recipe, **taken[0]) if taken else recipe


def _taken_over(bundle: ModelBundle) -> dict[str, Any]:
    """Return what a recipe has to take over from a bundle whose weights it starts with."""
    return {
        "architecture": bundle.architecture,
        "model_args": dict(bundle.model_args),
        "img_size": bundle.input.height,
        "crop_pct": bundle.input.crop_pct,
        "mean": bundle.input.mean,
        "std": bundle.input.std,
    }


def with_epochs(phases: tuple[Phase, ...], epochs: int) -> tuple[Phase, ...]:
    """
    Share out *epochs* as the phases share theirs; the last phases are the last to go.

    A training too short for every phase leaves out the first.
    """
    kept = phases[-epochs:] if epochs < len(phases) else phases
    total, shared, given = sum(phase.epochs for phase in kept), [], 0
    for left, phase in enumerate(reversed(kept)):
        still = len(kept) - 1 - left
        count = max(1, round(epochs * phase.epochs / total)) if still else epochs - given
        count = min(count, epochs - given - still)
        given += count
        shared.append(replace(phase, epochs=count))
    return tuple(reversed(shared))


def _with_phases(recipe: Recipe, asked: RecipeOverrides) -> Recipe:
    """Change what the options change of the phases."""
    phases = recipe.phases
    if asked.view and asked.view > recipe.img_size:
        raise UserError(
            f"a view of {asked.view} pixels is larger than the model's input of {recipe.img_size}",
            hint="pass a smaller --view, or a larger --img-size",
        )
    if asked.lr:
        factor = asked.lr / phases[0].lr
        phases = tuple(replace(phase, lr=phase.lr * factor) for phase in phases)
    own = RECIPES[recipe.name]
    share = recipe.img_size / own.img_size * own.crop_pct / recipe.crop_pct
    phases = tuple(
        replace(phase, view=phase.view and (asked.view or _view(phase.view * share, recipe)))
        for phase in phases
    )
    if asked.epochs:
        phases = with_epochs(phases, asked.epochs)
    return replace(recipe, phases=phases)


def _view(side: float, recipe: Recipe) -> int | None:
    """Return a phase's view, or None where a centre crop shows no more than that anyway."""
    return round(side) if side < recipe.img_size else None
