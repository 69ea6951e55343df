"""
A calibrated logistic regression over features of slides, and its JSON form.

scikit-learn fits: numbers are filled by their median and standardised, words become indicators,
the regression is L2-regularised, and its scores are calibrated by Platt's method on scores of
people left out (Platt 1999; scikit-learn's ``CalibratedClassifierCV``, not an ensemble). What is
kept is numbers, so that a model can be read, and applied without scikit-learn.
Legend: S slides, D columns.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
from scipy.special import expit
from sklearn.calibration import CalibratedClassifierCV
from sklearn.linear_model import LogisticRegression
from sklearn.model_selection import StratifiedGroupKFold

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from numpy.typing import NDArray

__all__ = ["Encoder", "SlideModel", "fitted_model", "folds"]

FOLDS = 5
STRENGTH = 1.0  # of scikit-learn's C, its default: few people must not give large weights


@dataclass(frozen=True, slots=True)
class Encoder:
    """
    Turns features into columns of numbers.

    Attributes:
        numbers: By feature, its median, mean and standard deviation (after filling).
        words: By feature, the words that were seen; another word is none of them.
    """

    numbers: Mapping[str, tuple[float, float, float]]
    words: Mapping[str, tuple[str, ...]]

    @classmethod
    def fitted(cls, features: Mapping[str, NDArray[Any]]) -> Encoder:
        """Learn medians, scales and words; a feature without any value is left out."""
        numbers, words = {}, {}
        for name, values in features.items():
            if values.dtype == object:
                words[name] = tuple(sorted({value for value in values if value is not None}))
            elif not np.isnan(values).all():
                median = float(np.nanmedian(values))
                filled = np.where(np.isnan(values), median, values)
                spread = float(filled.std())
                numbers[name] = (median, float(filled.mean()), spread or 1.0)
        return cls(numbers, words)

    @property
    def columns(self) -> list[str]:
        """Name the D columns."""
        shown = [f"{name}={word}" for name, words in self.words.items() for word in words]
        return [*self.numbers, *shown]

    def columns_of(self, features: Mapping[str, NDArray[Any]]) -> NDArray[np.float64]:
        """Return ``(S, D)``."""
        found = []
        for name, (median, mean, spread) in self.numbers.items():
            values = features[name].astype(np.float64)
            found.append((np.where(np.isnan(values), median, values) - mean) / spread)
        for name, words in self.words.items():
            found += [(features[name] == word).astype(np.float64) for word in words]
        return np.stack(found, 1)


@dataclass(frozen=True, slots=True)
class SlideModel:
    """
    A fitted regression.

    Attributes:
        encoder: Makes its columns.
        weights: ``(D,)``.
        bias: Of the regression.
        slope: Of the calibration: probability = expit(slope * score + shift).
        shift: Likewise.
    """

    encoder: Encoder
    weights: tuple[float, ...]
    bias: float
    slope: float
    shift: float

    def probabilities(self, features: Mapping[str, NDArray[Any]]) -> NDArray[np.float64]:
        """Return ``(S,)``: calibrated probabilities that a slide is positive."""
        score = self.encoder.columns_of(features) @ np.array(self.weights) + self.bias
        return np.asarray(expit(self.slope * score + self.shift), np.float64)

    def record(self) -> dict[str, Any]:
        """Return plain values, ready for JSON."""
        return {
            "numbers": {name: list(values) for name, values in self.encoder.numbers.items()},
            "words": {name: list(words) for name, words in self.encoder.words.items()},
            "columns": self.encoder.columns,
            "weights": list(self.weights),
            "bias": self.bias,
            "slope": self.slope,
            "shift": self.shift,
        }

    @classmethod
    def from_record(cls, record: Mapping[str, Any]) -> SlideModel:
        """Read it back."""
        encoder = Encoder(
            {name: tuple(values) for name, values in record["numbers"].items()},
            {name: tuple(words) for name, words in record["words"].items()},
        )
        weights = tuple(map(float, record["weights"]))
        if len(weights) != len(encoder.columns):
            raise ValueError(f"{len(weights)} weights for {len(encoder.columns)} columns")
        scale = {name: float(record[name]) for name in ("bias", "slope", "shift")}
        return cls(encoder, weights, **scale)


def folds(
    positive_S: NDArray[np.bool_], people_S: Sequence[str]
) -> list[tuple[NDArray[np.intp], NDArray[np.intp]]]:
    """Split slides into training and judging, no person on both sides, both classes in each."""
    people = np.asarray(people_S)
    fewest = min(len(set(people[positive_S == kind])) for kind in (True, False))
    split = StratifiedGroupKFold(min(FOLDS, fewest), shuffle=True, random_state=0)
    return list(split.split(np.zeros(len(people)), positive_S, people))


def fitted_model(
    features: Mapping[str, NDArray[Any]], positive_S: NDArray[np.bool_], people_S: Sequence[str]
) -> SlideModel:
    """
    Fit and calibrate.

    Args:
        features: At least one with a value.
        positive_S: What each slide is; both kinds, of at least two people each.
        people_S: Whose it is.
    """
    encoder = Encoder.fitted(features)
    columns_SD = encoder.columns_of(features)
    calibrated = CalibratedClassifierCV(
        LogisticRegression(C=STRENGTH),
        method="sigmoid",
        cv=folds(positive_S, people_S),
        ensemble=False,
    ).fit(columns_SD, positive_S)
    (whole,) = calibrated.calibrated_classifiers_
    (sigmoid,) = whole.calibrators
    # scikit-learn's sigmoid is 1 / (1 + exp(a * score + b)).
    return SlideModel(
        encoder,
        tuple(whole.estimator.coef_[0].tolist()),
        float(whole.estimator.intercept_[0]),
        -float(sigmoid.a_),
        -float(sigmoid.b_),
    )
