"""
Fit slides' labels on what the model saw and what is known of the person, and judge it by person.

Each slide is judged by a model that was fitted and calibrated on other people. Beside it the same
is done with the image alone: only the difference says whether patient data add anything.
"""

from __future__ import annotations

import json
from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
from scipy.special import xlogy
from scipy.stats import rankdata

from engines.errors import SourceError
from engines.files import whole_file
from engines.metrics import Interval
from train.fusion.model import SlideModel, fitted_model, folds

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence
    from pathlib import Path

    from numpy.typing import NDArray

    from train.fusion.slides import Labels, Slides

__all__ = ["Fusion", "fused", "read_fusion", "save_fusion"]

FORMAT = 1
LEAST_PEOPLE = 5  # of each kind: fewer can be neither fitted nor judged by person
RESAMPLES = 1000
FIGURES = ("auc", "log_loss", "brier")


@dataclass(frozen=True, slots=True, kw_only=True)
class Fusion:
    """
    A model of slides, and how good it was on people left out.

    Attributes:
        model: Fitted on all slides.
        bundle: SHA-256 of the model that saw the cells: another one's features mean other things.
        positive: The label whose probability it gives.
        slides: How many it was fitted on.
        people: Of how many people.
        figures: Of the fused model, by name, over people left out.
        image_alone: The same of the image's features alone.
        gain: How much better the fused model is (AUC: more; losses: less), by resampled people.
    """

    model: SlideModel
    bundle: str
    positive: str
    slides: int
    people: int
    figures: Mapping[str, Interval]
    image_alone: Mapping[str, Interval]
    gain: Mapping[str, Interval]

    def record(self) -> dict[str, Any]:
        """Return plain values, ready for JSON."""
        return {"format": FORMAT, **asdict(self), "model": self.model.record()}


def fused(slides: Slides, labels: Labels, positive: str) -> Fusion:
    """
    Fit and judge.

    Args:
        slides: At least five people of each kind are labelled.
        labels: Of these slides; slides without a label are left out.
        positive: The label that ``labels`` calls positive.

    Raises:
        SourceError: If there are too few people, or a person is labelled both ways.
    """
    known = [row for row, name in enumerate(slides.names) if name in labels.positive]
    chosen = slides.chosen(known)
    truth = np.array([labels.positive[name] for name in chosen.names], bool)
    people = [labels.person[name] for name in chosen.names]
    _require_people(truth, people)
    if not chosen.patient:
        raise SourceError(
            "the cells of this run carry nothing beside their images",
            hint="screen a manifest with further columns, such as age: they become meta_ columns",
        )
    both, image = {**chosen.image, **chosen.patient}, dict(chosen.image)
    with_all, alone = (_left_out(some, truth, people) for some in (both, image))
    rows = _resampled(truth, people)
    return Fusion(
        model=fitted_model(both, truth, people),
        bundle=slides.bundle,
        positive=positive,
        slides=len(truth),
        people=len(set(people)),
        figures={name: _interval(name, truth, rows, with_all) for name in FIGURES},
        image_alone={name: _interval(name, truth, rows, alone) for name in FIGURES},
        gain={name: _interval(name, truth, rows, with_all, alone) for name in FIGURES},
    )


def save_fusion(path: Path, fusion: Fusion) -> None:
    """Write it as JSON, whole or not at all."""
    with whole_file(path) as scratch:
        scratch.write_text(json.dumps(fusion.record(), indent=1) + "\n", encoding="utf-8")


def read_fusion(path: Path, slides: Slides) -> tuple[SlideModel, str]:
    """
    Read a model for these slides, and the label whose probability it gives.

    Raises:
        SourceError: If it cannot be read, or is for what another model saw, or the slides lack
            what it needs.
    """
    try:
        record = json.loads(path.read_text(encoding="utf-8"))
        model, bundle = SlideModel.from_record(record["model"]), record["bundle"]
        positive = str(record["positive"])
    except (OSError, ValueError, KeyError, TypeError, AttributeError) as error:
        raise SourceError(f"cannot read the slide model {path}: {error}") from error
    if record.get("format") != FORMAT:
        raise SourceError(
            f"the slide model {path} has format {record.get('format')!r}, not {FORMAT}",
            hint="use the slidescreen version it was written with, or fit it again",
        )
    if bundle != slides.bundle:
        raise SourceError(
            f"{path} was fitted on what another model saw ({bundle[:12]}, not "
            f"{slides.bundle[:12]})",
            hint="fit it anew on a run of this model",
        )
    known = {**slides.image, **slides.patient}
    needed = [*model.encoder.numbers, *model.encoder.words]
    if missing := [name for name in needed if name not in known]:
        raise SourceError(
            f"these slides have no {missing[0]}, which {path} needs",
            hint="screen a manifest with the same columns as the model was fitted on",
        )
    _require_same_kinds(model, known)
    return model, positive


def _require_same_kinds(model: SlideModel, known: Mapping[str, NDArray[Any]]) -> None:
    """Refuse words where the model was fitted on numbers, and numbers where it was on words."""
    for name in [*model.encoder.numbers, *model.encoder.words]:
        are_words = known[name].dtype == object
        empty = not are_words and bool(np.isnan(known[name]).all())
        if are_words != (name in model.encoder.words) and not empty:
            kinds = ("words", "numbers") if are_words else ("numbers", "words")
            raise SourceError(
                f"{name} holds {kinds[0]} here, and held {kinds[1]} where the model was fitted",
                hint="write the column in both manifests alike; leave a cell empty where a value "
                "is not known",
            )


def _require_people(truth_S: NDArray[np.bool_], people_S: Sequence[str]) -> None:
    """Refuse what can be neither fitted nor judged."""
    sides = [set(np.asarray(people_S)[truth_S == kind]) for kind in (True, False)]
    if both := sorted(sides[0] & sides[1]):
        raise SourceError(
            f"slides of {both[0]} are labelled both ways",
            hint="a person is one or the other: mend the labels",
        )
    if min(map(len, sides)) < LEAST_PEOPLE:
        raise SourceError(
            f"{len(sides[0])} people are positive and {len(sides[1])} are not: at least "
            f"{LEAST_PEOPLE} of each are needed",
            hint="label slides of more people",
        )


def _left_out(
    features: Mapping[str, NDArray[Any]], truth_S: NDArray[np.bool_], people_S: Sequence[str]
) -> NDArray[np.float64]:
    """Return ``(S,)``: each slide's probability by a model that knows none of its person."""
    found = np.empty(len(truth_S))
    people = np.asarray(people_S)
    for others, own in folds(truth_S, people_S):
        some = {name: values[others] for name, values in features.items()}
        model = fitted_model(some, truth_S[others], people[others].tolist())
        found[own] = model.probabilities({name: v[own] for name, v in features.items()})
    return found


def _resampled(truth_S: NDArray[np.bool_], people_S: Sequence[str]) -> list[NDArray[np.intp]]:
    """Draw people, within each kind, as many as there are; return the rows of each draw."""
    rng = np.random.default_rng(0)
    people = np.asarray(people_S)
    rows = {who: np.flatnonzero(people == who) for who in set(people_S)}
    sides = [sorted({w for w, t in zip(people_S, truth_S, strict=True) if t == k}) for k in (1, 0)]
    return [
        np.concatenate([rows[who] for side in sides for who in rng.choice(side, len(side))])
        for _ in range(RESAMPLES)
    ]


def _interval(
    name: str,
    truth_S: NDArray[np.bool_],
    draws: Sequence[NDArray[np.intp]],
    judged_S: NDArray[np.float64],
    against_S: NDArray[np.float64] | None = None,
) -> Interval:
    """Return a figure with its 95% interval; with *against*, how much better *judged* is."""
    sign = 1 if name == "auc" else -1

    def value(rows: NDArray[np.intp]) -> float:
        own = _figure(name, truth_S[rows], judged_S[rows])
        if against_S is None:
            return own
        return sign * (own - _figure(name, truth_S[rows], against_S[rows]))

    low, high = np.percentile([value(rows) for rows in draws], [2.5, 97.5])
    return Interval(value(np.arange(len(truth_S))), float(low), float(high))


def _figure(name: str, truth_S: NDArray[np.bool_], chance_S: NDArray[np.float64]) -> float:
    """Compute AUC, log loss or Brier score; a test holds them to scikit-learn's, which are slow."""
    if name == "brier":
        return float(np.square(chance_S - truth_S).mean())
    if name == "log_loss":
        return float(-(xlogy(truth_S, chance_S) + xlogy(~truth_S, 1 - chance_S)).mean())
    positives = truth_S.sum()
    above = rankdata(chance_S)[truth_S].sum() - positives * (positives + 1) / 2  # Mann-Whitney's U
    return float(above / (positives * (len(truth_S) - positives)))
