"""
What a training does, as values: the two recipes and every number in them.

``PAPER`` follows "Transfer Learning with EfficientNet for Accurate Leukemia Cell Classification"
(arXiv 2508.06535) and its split by image; ``SUBJECT`` splits by subject, so that its figures say
something about people the model has not seen. Their figures are not comparable.
"""

from __future__ import annotations

from dataclasses import asdict, dataclass, field
from typing import TYPE_CHECKING, Any, Literal

from engines.models.input import ModelInput

if TYPE_CHECKING:
    from collections.abc import Mapping

__all__ = ["PAPER", "RECIPES", "SUBJECT", "Phase", "Protocol", "Recipe", "changes"]

Protocol = Literal["subject", "image"]
Augment = Literal["stain", "paper", "none"]
Sampling = Literal["subject", "class", "plain"]
Criterion = Literal["auc", "macro_f1", "last"]


@dataclass(frozen=True, slots=True)
class Phase:
    """
    A stretch of epochs at one view and one scale.

    Attributes:
        epochs: How many.
        view: Side in pixels of what the network sees: the middle of the augmented crop, cut at
            the model's own scale. Cells lie in the middle, so a smaller view costs margin and
            not detail. None is the whole crop.
        lr: The learning rate at the phase's start; it falls to zero over the phase by a cosine.
        scale: What is seen is reduced to this share of the model's own scale: the cost of a step
            falls with its square, and detail with it, so the last phase should not reduce.
    """

    epochs: int
    view: int | None
    lr: float
    scale: float = 1.0

    def __post_init__(self) -> None:
        """Refuse a phase that trains nothing."""
        if min(self.epochs, self.view or 1) < 1 or not self.lr > 0 or not 0 < self.scale <= 1:
            raise ValueError(
                f"a phase needs epochs, a view, an lr above 0, a scale up to 1, got {self}"
            )

    def side(self, size: int) -> int:
        """Return the side of what a network of inputs of *size* is shown, in pixels."""
        return round((self.view or size) * self.scale)


@dataclass(frozen=True, slots=True, kw_only=True)
class Recipe:
    """
    Everything that decides what is trained, and nothing that only decides how fast.

    Attributes:
        name: Goes into the bundle.
        protocol: ``subject`` keeps the cells of a person on one side of the split; ``image`` does
            not, as in the paper, and its figures are flattered by that.
        folds: One of this many parts is held out.
        architecture: timm's name.
        model_args: Further arguments of ``timm.create_model``, kept in the bundle.
        train_args: Likewise, but of the training network only (drop rates).
        img_size: Side of the model's input, in pixels.
        crop_pct: Centre crop: the share of a crop's sides that the model's input shows.
        mean: Of the model's input, per channel.
        std: Likewise.
        augment: Which family of augmentations.
        custom_augment: ``module:function``, the user's own, in its place; None takes the family.
        sampling: ``subject`` draws a class, then a subject with the square root of its cells as
            weight, then a cell; ``class`` shows every cell and fills the smaller classes up;
            ``plain`` shows every cell once.
        samples_per_class: Cells per epoch and class; None is the mean number of cells per class.
        max_repeats: ... but no more than this many times that mean, so that few cells make short
            epochs; None does not limit it.
        phases: In order.
        batch_size: Cells per step.
        optimizer: ``adamw`` with decay, or ``adam``.
        weight_decay: Of matrices and filters.
        constant_lr: Keep each phase's rate instead of letting it fall.
        smoothing: Of the labels.
        weighted_loss: Weigh classes by the inverse of their number of cells.
        ema_decay: Per step, of the exponential moving average of the weights that is judged and
            kept; 0 keeps the last weights.
        soup: Judge and keep the even mean, over the last phase's epochs so far, of the weights at
            their ends; held-out figures of single epochs swing, as the weights do.
        mixup: Parameter of the beta distribution that pairs of cells are blended by, labels and
            all (Zhang et al. 2018); 0: none are.
        mixstyle: Share of cells that take on another's style, half way into the network: see
            ``train.trainer.mixup``.
        freeze: The stem and this many stages stay as they came, statistics included.
        criterion: What the best epoch has most of, on the held-out part; ``last`` keeps the last
            epoch, so that the held-out part chooses nothing.
        patience: Stop after so many epochs without a better one; None never stops early.
    """

    name: str
    protocol: Protocol
    folds: int
    architecture: str = "efficientnet_b3"
    model_args: Mapping[str, Any] = field(default_factory=dict)
    train_args: Mapping[str, Any] = field(default_factory=dict)
    img_size: int = 224
    crop_pct: float = 1.0
    mean: tuple[float, float, float] = (0.485, 0.456, 0.406)
    std: tuple[float, float, float] = (0.229, 0.224, 0.225)
    augment: Augment
    custom_augment: str | None = None
    sampling: Sampling
    samples_per_class: int | None = None
    max_repeats: float | None = 4.0  # 3,500 of C-NMC's classes, 10,000 of the paper: both are fewer
    phases: tuple[Phase, ...]
    batch_size: int = 32
    optimizer: Literal["adam", "adamw"]
    weight_decay: float = 0.0
    constant_lr: bool = False
    smoothing: float = 0.0
    weighted_loss: bool = False
    ema_decay: float = 0.0
    soup: bool = False
    mixup: float = 0.0
    mixstyle: float = 0.0
    freeze: int = 0
    criterion: Criterion
    patience: int | None = None

    def __post_init__(self) -> None:
        """Refuse numbers that could only fail later."""
        if min(self.folds, self.batch_size) <= 1 or not self.phases:
            raise ValueError("a recipe needs two folds or more, a batch of two or more, a phase")
        if not (0 <= self.ema_decay < 1 and 0 <= self.smoothing < 1):
            raise ValueError("ema_decay and smoothing lie between 0 and 1")
        if not 0 < self.crop_pct <= 1:
            raise ValueError(f"crop_pct must be above 0 and at most 1, got {self.crop_pct}")

    @property
    def input(self) -> ModelInput:
        """What a network of this recipe expects of a crop."""
        return ModelInput(
            height=self.img_size,
            width=self.img_size,
            crop_pct=self.crop_pct,
            mean=self.mean,
            std=self.std,
        )

    @property
    def epochs(self) -> int:
        """Of all phases together."""
        return sum(phase.epochs for phase in self.phases)


# The paper leaves open: weight decay, batch size, the number of epochs, the strengths of its
# augmentations, and whether the 10,000 per class are drawn once or anew each epoch (here: anew).
PAPER = Recipe(
    name="paper",
    protocol="image",
    folds=10,
    augment="paper",
    sampling="class",
    samples_per_class=10_000,
    phases=(Phase(100, None, 1e-4),),
    optimizer="adam",
    constant_lr=True,
    criterion="macro_f1",
    patience=15,
)

SUBJECT = Recipe(
    name="subject",
    protocol="subject",
    folds=5,
    train_args={"drop_rate": 0.3, "drop_path_rate": 0.1},
    augment="stain",
    sampling="subject",
    samples_per_class=3500,
    phases=(
        Phase(3, 150, 5e-4, scale=0.64),
        Phase(8, 128, 3e-4),
        Phase(5, 144, 4e-4),
        Phase(2, None, 1e-4),
    ),
    optimizer="adamw",
    weight_decay=0.05,
    smoothing=0.1,
    ema_decay=0.995,
    soup=True,
    mixup=0.2,
    freeze=2,  # trained too, they cost robustness: see the default model's card
    criterion="last",
)

RECIPES = {recipe.name: recipe for recipe in (SUBJECT, PAPER)}


def changes(recipe: Recipe) -> dict[str, Any]:
    """Return what *recipe* has other than the one it is named after, as plain values."""
    asked, own = asdict(recipe), asdict(RECIPES[recipe.name])
    return {name: value for name, value in asked.items() if value != own[name]}
