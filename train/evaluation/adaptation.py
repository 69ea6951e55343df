"""
A bundle's operating point fitted to labelled cells of another centre, and what that changes.

Temperature (Guo et al., "On Calibration of Modern Neural Networks", ICML 2017) and threshold
(Youden's index) each move only where people who were not fitted on are clearly better off: fitted
to a few cells of a centre that is like home, they make calls worse (``benchmarks/adapt.py``).

Legend: N cells, C classes.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from functools import cached_property
from typing import TYPE_CHECKING, Any

import numpy as np
from scipy.special import expit, logit

from engines.errors import SourceError, UserError
from engines.metrics import Interval, Scored, comparison
from engines.uncertainty import probabilities
from train.evaluation.calibration import (
    OperatingPoint,
    cross_fitted,
    fitted_temperature,
    fitted_threshold,
)
from train.evaluation.evaluate import truth_of

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from numpy.typing import NDArray

    from engines.models.bundle import ModelBundle
    from train.data.labelled_cells import LabelledCell

__all__ = [
    "FIGURES",
    "Adaptation",
    "Change",
    "Refit",
    "adaptation",
    "require_adaptable",
]

FIGURES = {  # by name: whether more of it is better
    "auc": True,
    "balanced_accuracy": True,
    "weighted_f1": True,
    "log_loss": False,
    "ece": False,
}
JUDGED_BY = {"temperature": "log_loss", "threshold": "balanced_accuracy"}
TWO, TINY = 2, 1e-6
RESAMPLES = 500  # of people, for each interval
FEWEST_PEOPLE = 2  # of each class: one is judged by what the other gives


@dataclass(frozen=True, slots=True)
class Change:
    """
    How good calls and probabilities are before and after, on the same cells.

    Attributes:
        cells: How many.
        people: Of how many.
        before: The figures of ``FIGURES``, each with its 95% interval over people.
        after: Likewise.
        difference: After less before, with its interval over the same people.
    """

    cells: int
    people: int
    before: Mapping[str, Interval]
    after: Mapping[str, Interval]
    difference: Mapping[str, Interval]

    @classmethod
    def between(cls, before: Scored, after: Scored) -> Change:
        """Compare two ways to call the same cells."""
        found = comparison(before, after, resamples=RESAMPLES)
        shown = [{name: every[name] for name in FIGURES} for every in found]
        return cls(len(before.truth), len(np.unique(before.subjects)), *shown)

    def verdict(self, name: str) -> str:
        """Say whether a figure is better, worse, the same, or not clearly different."""
        change = self.difference[name]
        if change.value == 0 and not change.is_estimable:
            return "the same"
        if change.low <= 0 <= change.high:
            return "no clear difference"
        return "better" if (change.value > 0) is FIGURES[name] else "worse"

    def named(self, verdict: str) -> tuple[str, ...]:
        """Name the figures of a verdict: ``better``, ``worse``."""
        return tuple(name for name in FIGURES if self.verdict(name) == verdict)

    def record(self) -> dict[str, Any]:
        """Return plain values, ready for JSON: each figure with the bounds of its interval."""
        parts = {"before": self.before, "after": self.after, "difference": self.difference}
        return {"cells": self.cells, "subjects": self.people} | {
            part: {name: [f.value, f.low, f.high] for name, f in found.items()}
            for part, found in parts.items()
        }


@dataclass(frozen=True, slots=True)
class Adaptation:
    """
    An operating point for another centre, and what it changes.

    Attributes:
        point: Fitted on all of its cells.
        moved: What of it moved: ``temperature``, ``threshold``, or both.
        here: On its cells; after: each person called at the point that the others give.
        home: On the held-out cells that the bundle carries.
        scored: The centre's cells as they are judged after.
    """

    point: OperatingPoint
    moved: tuple[str, ...]
    here: Change
    home: Change
    scored: Scored


@dataclass(frozen=True, slots=True)
class Refit:
    """
    Fits an operating point, or the part of it that is to move.

    Attributes:
        bundle: Whose point is kept otherwise.
        moving: ``temperature``, ``threshold``, both or none.
    """

    bundle: ModelBundle
    moving: tuple[str, ...]

    def __call__(
        self, logits_NC: NDArray[np.float32], truth_N: NDArray[np.int64], positive: int | None
    ) -> OperatingPoint:
        """Fit it to cells; a temperature alone changes no call of two classes."""
        temperature = self.bundle.temperature
        if "temperature" in self.moving:
            temperature = fitted_temperature(logits_NC, truth_N)
        if positive is None or "threshold" not in self.moving:
            return OperatingPoint(temperature, self._kept(temperature))
        score = probabilities(logits_NC, temperature)[:, positive]
        return OperatingPoint(temperature, fitted_threshold(score, truth_N == positive))

    def _kept(self, temperature: float) -> float | None:
        """Return the bundle's threshold, moved along with the temperature."""
        threshold = self.bundle.threshold
        if threshold is None or len(self.bundle.classes) != TWO:
            return threshold
        moved = expit(logit(threshold) * self.bundle.temperature / temperature)
        return float(np.clip(moved, TINY, 1 - TINY))


def adaptation(
    bundle: ModelBundle, cells: Sequence[LabelledCell], logits_NC: NDArray[np.float32]
) -> Adaptation:
    """
    Fit what of the operating point is worth it to some cells, and measure what that changes.

    Args:
        bundle: The model; it carries the held-out cells that it was calibrated on.
        cells: Of the other centre.
        logits_NC: Of these cells.

    Raises:
        UserError: If the bundle carries no held-out cells, was adapted before, or serves these
            cells as well as can be shown.
        SourceError: If the cells are not of two people of each class at least.
    """
    require_adaptable(bundle)
    truth = truth_of(cells, bundle.classes)
    people = np.array([cell.subject or f"cell {i}" for i, cell in enumerate(cells)])
    _require_people(bundle, truth, people)
    centre = _Centre(bundle, logits_NC, truth, people)
    moved = centre.worth_moving()
    point = Refit(bundle, moved)(logits_NC, truth, centre.positive)
    after = centre.cross_called(moved)
    here = Change.between(centre.called, after)
    return Adaptation(point, moved, here, _at_home(bundle, point), after)


def require_adaptable(bundle: ModelBundle) -> None:
    """
    Refuse a bundle of which nobody could say what adapting costs at home.

    Raises:
        UserError: If it carries no held-out cells, or another centre's.
    """
    if bundle.trust is None:
        raise UserError(
            f"the bundle {bundle.folder} does not hold the scores of the cells that it was "
            "calibrated on, so nobody could say what adapting costs there",
            hint="measure its limits first: slidescreen-train calibrate",
        )
    if "adapted" in bundle.data:
        raise UserError(
            f"the bundle {bundle.folder} was adapted before",
            hint="adapt the bundle that it was made from, to all cells of the new centre at once",
        )


@dataclass(frozen=True)
class _Centre:
    """A centre's cells, and ways to call them."""

    bundle: ModelBundle
    logits: NDArray[np.float32]
    truth: NDArray[np.int64]
    people: NDArray[np.str_]

    @property
    def positive(self) -> int | None:
        """Number of the positive class."""
        return self.bundle.classes.index(self.bundle.positive) if self.bundle.positive else None

    @cached_property
    def called(self) -> Scored:
        """As the bundle calls them."""
        return _scored(self.bundle, self.logits, self.truth, self.people)

    def cross_called(self, moving: tuple[str, ...]) -> Scored:
        """Call each person at the point that the others give."""
        meaning, fit = (self.bundle.classes, self.positive), Refit(self.bundle, moving)
        return cross_fitted(self.logits, self.truth, self.people, meaning, fit)

    def worth_moving(self) -> tuple[str, ...]:
        """Name what makes people who were not fitted on clearly better off."""
        tried = {
            part: Change.between(self.called, self.cross_called((part,)))
            for part in JUDGED_BY
            if part != "threshold" or self.positive is not None
        }
        worth = tuple(p for p, change in tried.items() if change.verdict(JUDGED_BY[p]) == "better")
        if worth:
            return worth
        said = "; ".join(
            f"another {part} changes {JUDGED_BY[part].replace('_', ' ')} by "
            f"{change.difference[JUDGED_BY[part]]}"
            for part, change in tried.items()
        )
        auc = next(iter(tried.values())).before["auc"]
        raise UserError(
            f"nothing fitted to these cells is clearly better for people it was not fitted to: "
            f"{said}; the model's AUC on these cells is {auc}",
            hint="use the bundle as it is, or label cells of more people; a low AUC needs training "
            "(fit --init), which adapting does not replace",
        )


def _require_people(
    bundle: ModelBundle, truth_N: NDArray[np.int64], people_N: NDArray[np.str_]
) -> None:
    """Refuse cells that could be fitted on, but not judged."""
    found = {name: len(set(people_N[truth_N == i])) for i, name in enumerate(bundle.classes)}
    few = [name for name, count in found.items() if count < FEWEST_PEOPLE]
    if few:
        counted = ", ".join(f"{name} {count}" for name, count in found.items())
        raise SourceError(
            f"cells of {FEWEST_PEOPLE} people of each class are needed at least, so that each "
            f"person can be judged by the others; people by class: {counted}",
            hint="label cells of more people; --subject says whose they are",
        )


def _at_home(bundle: ModelBundle, point: OperatingPoint) -> Change:
    """Compare the held-out cells that the bundle carries."""
    assert bundle.trust is not None
    held = bundle.trust.held_out
    cells = (held.logits, held.truth.astype(np.int64), held.subjects.astype(str))
    moved = replace(bundle, temperature=point.temperature, threshold=point.threshold)
    return Change.between(_scored(bundle, *cells), _scored(moved, *cells))


def _scored(
    bundle: ModelBundle,
    logits_NC: NDArray[np.float32],
    truth_N: NDArray[np.int64],
    people_N: NDArray[np.str_],
) -> Scored:
    """Call cells as a bundle does."""
    positive = bundle.classes.index(bundle.positive) if bundle.positive else None
    shown = probabilities(logits_NC, bundle.temperature)
    ranking = probabilities(logits_NC, 1.0)
    return Scored(bundle.classes, truth_N, shown, ranking, people_N, positive, bundle.threshold)
