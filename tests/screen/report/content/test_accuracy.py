"""How right the model is on labelled cells, held against scikit-learn and simulation."""

from __future__ import annotations

import numpy as np
import pytest
from made_results import overview
from sklearn.metrics import accuracy_score, confusion_matrix, recall_score

from screen.report.content.accuracy import LabelledAccuracy, slide_rate
from screen.report.content.columns import Fields

CLASSES = ("hem", "all")


@pytest.fixture
def labels_file(tmp_path):
    """Write a table of labels."""

    def write(text, name="labels.csv"):
        (tmp_path / name).write_text(text, encoding="utf-8")
        return str(tmp_path / name)

    return write


def test_accuracy_is_scikit_learns(tmp_path, forty, labels_file):
    """Accuracy, confusion, sensitivity and specificity; whatever has no label is counted."""
    random = np.random.default_rng(5)
    truth = {each["path"]: str(random.choice(CLASSES)) for each in forty[2:]}
    table = "".join(f"{path},{label}\n" for path, label in truth.items())

    found, _, _ = overview(tmp_path, forty, labels_file("path,label\n" + table + "no.png,all\n"))

    accuracy = found.accuracy
    known = [each for each in forty if each["path"] in truth and each["status"] == "ok"]
    labels = [truth[each["path"]] for each in known]
    predicted = [each["predicted"] for each in known]
    called = [each["positive"] for each in known]
    is_all = [label == "all" for label in labels]
    calls = accuracy.calls
    assert slide_rate(accuracy.right, accuracy.scored)[0] == accuracy_score(labels, predicted)
    assert (accuracy.confusion == confusion_matrix(labels, predicted, labels=CLASSES)).all()
    rate, *_ = slide_rate(calls[:, 1, 1], calls[:, 1].sum(axis=1))
    assert rate == recall_score(is_all, called)
    rate, *_ = slide_rate(calls[:, 0, 0], calls[:, 0].sum(axis=1))
    assert rate == recall_score(is_all, called, pos_label=False)
    assert (accuracy.cells, accuracy.unlabelled) == (len(known), 2)
    assert accuracy.unscored == len(truth) - len(known)


def labelled_slides(random, slides, cells):
    """Judge made cells of slides, each with an accuracy of its own; return all right and all."""
    fields = Fields(
        classes=CLASSES,
        display_names={},
        positive="all",
        threshold=0.5,
        present=frozenset(),
        evidence=None,
        input=None,
        ood_level=None,
    )
    accuracy = LabelledAccuracy(fields, slides)
    slide = np.repeat(np.arange(slides), cells)
    right = random.random(slides * cells) < random.beta(4, 2, slides)[slide]
    label = np.ones(len(slide), np.int64)
    accuracy.add(slide, label, right.astype(np.int64), right, right * 0.9)
    return accuracy


def test_the_interval_of_accuracy_holds_over_new_slides():
    """95% intervals cover the true accuracy of slides drawn anew, 4/6, in most of 200 trials."""
    random = np.random.default_rng(0)
    covered = 0
    for _ in range(200):
        accuracy = labelled_slides(random, slides=40, cells=30)
        _, low, high = slide_rate(accuracy.right, accuracy.scored)
        covered += low <= 4 / 6 <= high

    assert 0.88 <= covered / 200 <= 1  # a bootstrap over 40 slides is a little short of 95%


def test_few_slides_give_no_interval():
    """And no cell gives no rate."""
    accuracy = labelled_slides(np.random.default_rng(0), slides=4, cells=10)
    _, low, high = slide_rate(accuracy.right, accuracy.scored)

    assert np.isnan([low, high]).all()
    assert slide_rate(accuracy.right[:0], accuracy.scored[:0]) is None


def test_probabilities_that_mean_what_they_say_lie_on_the_diagonal():
    """Cells that are positive as often as said: each bin's interval covers, the error is small."""
    random = np.random.default_rng(1)
    accuracy = labelled_slides(random, slides=5, cells=0)
    chance = random.random(50_000)
    positive = random.random(50_000) < chance
    slide = np.zeros(50_000, np.int64)

    accuracy.add(slide, positive.astype(np.int64), positive.astype(np.int64), positive, chance)

    bins = accuracy.reliability()
    assert [each.mean for each in bins] == pytest.approx(np.arange(0.05, 1, 0.1), abs=0.01)
    assert sum(each.low <= each.mean <= each.high for each in bins) >= 8
    assert accuracy.calibration_error() < 0.01
