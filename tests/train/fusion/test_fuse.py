"""Slides by image and patient data: simulated people whose truth is known, as there are no real."""

from __future__ import annotations

import csv
import io
import json
from dataclasses import replace

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from scipy.special import expit
from sklearn.linear_model import LogisticRegression
from sklearn.metrics import brier_score_loss, log_loss, roc_auc_score
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler

from engines.errors import SourceError
from train.fusion.fuse import _figure, fused, read_fusion, save_fusion
from train.fusion.model import SlideModel, fitted_model
from train.fusion.slides import Labels, Slides, read_labels, read_slides


def simulated(count=200, *, age=2.0, seed=0, slides_each=1):
    """Simulate people: leukaemic or not by what the image shows and, by *age*, by their age."""
    rng = np.random.default_rng(seed)
    image, years = rng.normal(size=count), rng.normal(size=count)
    truth = rng.random(count) < expit(1.5 * image + age * years)
    who = np.repeat(np.arange(count), slides_each)
    names = [f"person {w}, slide {number}" for number, w in enumerate(who)]
    noise = rng.normal(0, 0.1, len(who))
    slides = Slides(
        tuple(names),
        {"fraction_positive": expit(image[who] + noise)},
        {"meta_age": 40 + 20 * years[who]},
        "b" * 64,
    )
    labels = Labels(
        dict(zip(names, truth[who].tolist(), strict=True)),
        {name: f"person {w}" for name, w in zip(names, who, strict=True)},
    )
    return slides, labels


def test_patient_data_that_matter_are_worth_it():
    """In AUC, log loss and Brier score, with intervals above zero."""
    found = fused(*simulated(), "leukaemia")

    for name, gain in found.gain.items():
        assert gain.low > 0, name
    assert found.figures["auc"].value > found.image_alone["auc"].value > 0.7


@pytest.mark.long
def test_patient_data_that_do_not_matter_are_not():
    """The interval of the gain holds zero, or the data are worse, in most of ten simulations."""
    clear = sum(
        fused(*simulated(age=0.0, seed=seed, count=80), "x").gain["log_loss"].low > 0
        for seed in range(10)
    )

    assert clear <= 1


def test_probabilities_are_calibrated():
    """Of new people, about as many are leukaemic as is said."""
    known, labels = simulated(400)
    model = fitted_model(
        {**known.image, **known.patient},
        np.array([labels.positive[name] for name in known.names]),
        list(known.names),
    )
    slides, labels = simulated(4000, seed=9)

    chances = model.probabilities({**slides.image, **slides.patient})
    truth = np.array([labels.positive[name] for name in slides.names])

    for low in (0.0, 0.25, 0.5, 0.75):
        some = (chances >= low) & (chances < low + 0.25)
        assert chances[some].mean() == pytest.approx(truth[some].mean(), abs=0.06)


def test_figures_are_scikit_learns():
    """Which takes ten times as long, for a bootstrap."""
    rng = np.random.default_rng(0)
    truth, chance = rng.random(50) < 0.4, rng.random(50).round(1).clip(0.05, 0.95)

    assert _figure("auc", truth, chance) == pytest.approx(roc_auc_score(truth, chance))
    assert _figure("log_loss", truth, chance) == pytest.approx(log_loss(truth, chance))
    assert _figure("brier", truth, chance) == pytest.approx(brier_score_loss(truth, chance))


def test_a_person_is_never_on_both_sides():
    """What only names the person does not help with people left out."""
    slides, labels = simulated(40, age=0.0, slides_each=5)
    people = [labels.person[name] for name in slides.names]
    names = Slides(
        slides.names, {"fraction_positive": np.zeros(len(people))},
        {"meta_name": np.array(people, object)}, slides.bundle,
    )  # fmt: skip

    found = fused(names, labels, "leukaemia")

    assert found.figures["auc"].value < 0.65
    assert found.people == 40


def test_it_is_scikit_learns_regression():
    """Where nothing is missing, its ranking is that of a standardised logistic regression."""
    slides, labels = simulated()
    features = {**slides.image, **slides.patient}
    truth = np.array([labels.positive[name] for name in slides.names])
    matrix = np.stack(list(features.values()), 1)
    reference = make_pipeline(StandardScaler(), LogisticRegression()).fit(matrix, truth)

    model = fitted_model(features, truth, [labels.person[name] for name in slides.names])

    assert np.argsort(model.probabilities(features)).tolist() == (
        np.argsort(reference.decision_function(matrix)).tolist()
    )
    again = SlideModel.from_record(json.loads(json.dumps(model.record())))
    assert again == model


def test_what_is_missing_or_unseen_has_no_effect():
    """A missing number is the median, a word that was never seen is none of those that were."""
    features = {
        "a": np.array([0.0, 1, 2, np.nan] * 10),
        "b": np.array(["x", "y", None, "x"] * 10, object),
        "empty": np.full(40, np.nan),
    }
    model = fitted_model(features, np.arange(40) % 4 > 1, [str(n) for n in range(40)])

    found = model.probabilities(
        {"a": np.array([np.nan, 1.0]), "b": np.array(["z", None], object), "empty": np.zeros(2)}
    )

    assert found[0] == found[1]


@pytest.mark.parametrize(
    ("change", "said"),
    [
        (lambda s, p: (dict.fromkeys(s, True), p), "at least 5 of each"),
        (lambda s, p: (s, dict.fromkeys(p, "one")), "labelled both ways"),
    ],
)
def test_too_few_people_are_refused(change, said):
    """And people who are both."""
    slides, labels = simulated(20)

    with pytest.raises(SourceError, match=said):
        fused(slides, Labels(*change(labels.positive, labels.person)), "leukaemia")


@pytest.fixture
def results(tmp_path):
    """A results folder of 40 slides of two cells each, as a run over a manifest leaves it."""
    slides, labels = simulated(40)
    folder = tmp_path / "results"
    (folder / "cells").mkdir(parents=True)
    (folder / "run.json").write_text(json.dumps({"model": {"sha256": "b" * 64}}))
    count = len(slides.names)
    share = slides.image["fraction_positive"]
    table = pa.table({
        "slide": slides.names, "n_ok": [2] * count, "fraction_positive": share,
        "mean_prob_all": share, "n_abstained": [None] * count, "n_out_of_distribution": [0] * count,
    })  # fmt: skip
    pq.write_table(table, folder / "slides.parquet")
    twice = np.repeat(np.arange(count), 2)
    cells = pa.table({
        "slide": [slides.names[row] for row in twice],
        "meta_age": [f"{slides.patient['meta_age'][row]:.6f}" for row in twice],
        "meta_sex": [("f", "m")[row % 2] for row in twice],
        "meta_file": [str(number) for number in range(len(twice))],
    })  # fmt: skip
    pq.write_table(cells, folder / "cells" / "part-00000.parquet")
    with (tmp_path / "labels.csv").open("w", newline="") as file:
        writer = csv.writer(file)
        writer.writerow(["slide", "label"])
        writer.writerows(
            (name, "leukaemia" if yes else "healthy") for name, yes in labels.positive.items()
        )
    return folder


def test_slides_are_read_with_what_their_cells_carry(results):
    """Numbers as numbers, words as words; a column in which a slide's cells differ is named."""
    with pytest.raises(SourceError, match="meta_file"):
        read_slides(results)

    slides = read_slides(results, ["file"])

    assert set(slides.patient) == {"meta_age", "meta_sex"}
    assert slides.patient["meta_age"].dtype == float
    assert set(slides.patient["meta_sex"]) == {"f", "m"}
    assert np.isnan(slides.image["share_abstained"]).all()
    with pytest.raises(SourceError, match="labelled all"):
        read_labels(results.parent / "labels.csv", "all")


def test_words_for_numbers_are_refused(results, tmp_path):
    """An age that is a word would be no age that was ever seen; a column without values may be."""
    slides = read_slides(results, ["file"])
    fusion = fused(slides, read_labels(results.parent / "labels.csv", "leukaemia"), "leukaemia")
    save_fusion(tmp_path / "fusion.json", fusion)
    count = len(slides.names)

    def having(**columns):
        return replace(slides, patient={**slides.patient, **columns})

    for other in (
        having(meta_age=np.array(["old"] * count, object)),
        having(meta_sex=np.arange(count, dtype=float)),
    ):
        with pytest.raises(SourceError, match="where the model was fitted"):
            read_fusion(tmp_path / "fusion.json", other)
    read_fusion(tmp_path / "fusion.json", having(meta_sex=np.full(count, np.nan)))


def test_the_commands_fit_and_apply(results, command, tmp_path):
    """A file of numbers, a probability for each slide, and another model's run is refused."""
    out = tmp_path / "fusion.json"
    done = command(
        "fuse", "fit", results, tmp_path / "labels.csv", "--positive", "leukaemia",
        "--out", out, "--without", "file",
    )  # fmt: skip
    said = command("fuse", "apply", results, out, "--without", "meta_file")

    rows = list(csv.DictReader(io.StringIO(said.stdout)))
    assert done.exit_code == said.exit_code == 0
    assert "40 slides of 40 people" in done.output
    assert "meta_age (numbers), meta_sex (2 different words)" in done.output
    assert len(rows) == 40
    assert all(0 < float(row["prob_leukaemia"]) < 1 for row in rows)
    (results / "run.json").write_text(json.dumps({"model": {"sha256": "c" * 64}}))
    with pytest.raises(SourceError, match="another model"):
        command("fuse", "apply", results, out, "--without", "file")
