"""``slidescreen-train adapt``: another centre's operating point, and what it changes."""

from __future__ import annotations

import json
import shutil
from dataclasses import replace
from types import SimpleNamespace

import numpy as np
import pytest
from tiny import trust

from engines.cells import CellRef
from engines.errors import SourceError, UserError
from engines.metrics import Scored, comparison, figures, intervals
from engines.models.bundle import ModelBundle
from engines.uncertainty import probabilities
from train.data.labelled_cells import LabelledCell
from train.evaluation import adaptation as adaptation_module
from train.evaluation.adaptation import adaptation

OPTIONS = ["--threads", "2", "--decoder", "pillow", "--precision", "fp32"]


@pytest.fixture(autouse=True, scope="module")
def few_resamples():
    """Intervals need not be fine here."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(adaptation_module, "RESAMPLES", 100)
        yield


def another_centre(draw, folder):
    """Draw cells of people of another centre: nine of each class."""
    draw(folder, subjects=9, each=3, seed=5)
    for file in folder.rglob("*.png"):
        file.rename(file.with_name(file.name.replace("UID_", "UID_N")))
    return folder


@pytest.fixture
def centre(draw, tmp_path):
    """Such cells."""
    return another_centre(draw, tmp_path / "centre")


@pytest.fixture(scope="module")
def unsure(bundle, tmp_path_factory):
    """A bundle whose probabilities are far too close to a half."""
    copy = shutil.copytree(bundle, tmp_path_factory.mktemp("unsure") / "bundle")
    record = json.loads((copy / "screening.json").read_text())
    (copy / "screening.json").write_text(json.dumps({**record, "temperature": 50.0}))
    return copy


@pytest.fixture(scope="module")
def adapted(unsure, draw, command, tmp_path_factory):
    """It, adapted to another centre: its folder, and what was printed."""
    folder = tmp_path_factory.mktemp("adapted") / "bundle"
    cells = another_centre(draw, tmp_path_factory.mktemp("centre"))
    result = command("adapt", unsure, cells, "--out", folder, *OPTIONS)
    assert result.exit_code == 0, result.output
    return SimpleNamespace(folder=folder, output=result.output)


def made_cells(logits_shift, people=12, each=20, seed=0):
    """Make up cells whose logits of the positive class are shifted: labels, people, logits."""
    rng = np.random.default_rng(seed)
    truth = np.repeat(np.arange(people) % 2, each)
    logits = rng.normal(size=(len(truth), 2)) + 2 * np.eye(2)[truth]
    logits[:, 0] += logits_shift
    cells = [
        LabelledCell(CellRef(f"{i}.png", f"p{i // each}"), ("all", "hem")[t], None)
        for i, t in enumerate(truth)
    ]
    return cells, logits.astype(np.float32)


@pytest.fixture
def home(bundle):
    """A bundle whose held-out cells are called rightly at its point."""
    made = trust(2, 8, subjects=12)
    return replace(ModelBundle.load(bundle), temperature=0.5, threshold=0.5, trust=made)


def test_a_shift_is_found_and_its_price_at_home_is_told(home):
    """Calls get better on the shifted cells, and worse on the held-out ones."""
    cells, logits = made_cells(2.5)

    found = adaptation(home, cells, logits)

    assert "threshold" in found.moved
    assert found.point.threshold > 0.7
    assert found.here.verdict("balanced_accuracy") == "better"
    assert found.here.named("worse") == ()
    assert found.here.verdict("auc") == "the same"
    assert "balanced_accuracy" in found.home.named("worse")
    assert (found.here.cells, found.here.people, found.home.people) == (240, 12, 12)


def test_what_is_said_of_home_is_what_the_new_point_does_to_its_cells(home):
    """The figures are those of the bundle's own held-out cells at the fitted point."""
    cells, logits = made_cells(2.0)

    found = adaptation(home, cells, logits)

    held = home.trust.held_out
    shown = probabilities(held.logits, found.point.temperature)
    scored = Scored(home.classes, held.truth, shown, shown, held.subjects.astype(str), 0,
                    found.point.threshold)  # fmt: skip
    assert found.home.after["balanced_accuracy"].value == figures(scored)["balanced_accuracy"]
    before = found.home.before["balanced_accuracy"].value
    change = found.home.difference["balanced_accuracy"].value
    assert change == pytest.approx(figures(scored)["balanced_accuracy"] - before)


def test_a_difference_is_paired():
    """Of the same calls it is nothing, whatever is drawn; its interval is narrower than theirs."""
    rng = np.random.default_rng(0)
    truth, people = np.arange(80) % 2, np.array([str(i // 8) for i in range(80)])
    truth = np.repeat(np.arange(10) % 2, 8)
    chance = np.clip(truth * 0.4 + rng.random(80) * 0.6, 0, 1).astype(np.float32)
    shown = np.stack([1 - chance, chance], 1)
    one, two = (Scored(("a", "b"), truth, shown, shown, people, 1, t) for t in (0.5, 0.52))

    same = comparison(one, one, resamples=50)[2]
    before, after, moved = comparison(one, two, resamples=50)

    assert all(f.value == f.low == f.high == 0 for f in same.values())
    assert moved["accuracy"].value == figures(two)["accuracy"] - figures(one)["accuracy"]
    assert moved["auc"].high == 0
    assert before == intervals(one, resamples=50)
    assert after == intervals(two, resamples=50)


def test_too_few_people_are_refused(home):
    """With one person of a class nobody is left to judge by."""
    cells, logits = made_cells(0, people=3)

    with pytest.raises(SourceError, match="people by class: all 2, hem 1"):
        adaptation(home, cells, logits)


def test_a_new_bundle_is_written_and_says_all(unsure, adapted):
    """Weights stay; point, held-out cells, card and plots are the new centre's."""
    before, after = ModelBundle.load(unsure), ModelBundle.load(adapted.folder)

    assert after.weights.read_bytes() == before.weights.read_bytes()
    assert (after.temperature, after.threshold) != (before.temperature, before.threshold)
    assert len(after.trust.held_out.truth) == 54
    assert np.array_equal(after.trust.features.centres, before.trust.features.centres)
    told = after.data["adapted"]
    assert told["from"] == before.sha256
    assert "temperature" in told["moved"]
    assert (told["here"]["cells"], told["home"]["cells"]) == (54, len(before.trust.held_out.truth))
    card = (after.folder / "README.md").read_text()
    assert before.sha256 in card
    assert "| where it came from | balanced accuracy |" in card
    assert (after.folder / "plots" / "roc.png").exists()
    assert "Held-out cells of where the bundle came from" in adapted.output
    assert [file.name for file in adapted.folder.parent.iterdir()] == [adapted.folder.name]


def test_an_adapted_bundle_is_not_adapted_again(adapted, centre, command, tmp_path):
    """It no longer carries the cells of home, so nobody could say what it costs there."""
    with pytest.raises(UserError, match="adapted before"):
        command("adapt", adapted.folder, centre, "--out", tmp_path / "twice", *OPTIONS)
    assert not (tmp_path / "twice").exists()


def test_without_held_out_cells_it_is_refused(bundle, centre, command, tmp_path):
    """The hint names what measures them."""
    copy = shutil.copytree(bundle, tmp_path / "copy")
    record = json.loads((copy / "screening.json").read_text())
    del record["trust_sha256"]
    (copy / "screening.json").write_text(json.dumps(record))

    with pytest.raises(UserError, match="does not hold the scores") as caught:
        command("adapt", copy, centre, "--out", tmp_path / "out", *OPTIONS)

    assert "slidescreen-train calibrate" in caught.value.hint


def test_what_does_not_clearly_help_is_not_moved(home):
    """Cells like those at home: nothing is fitted to them, and the error says what was tried."""
    cells, logits = made_cells(0)

    with pytest.raises(UserError, match="another threshold changes balanced accuracy by") as caught:
        adaptation(home, cells, logits)

    assert "the model's AUC on these cells is" in str(caught.value)
    assert "use the bundle as it is" in caught.value.hint


def test_a_temperature_alone_changes_no_call(home):
    """Logits four times too large: other probabilities, the same calls."""
    cells, logits = made_cells(0)

    found = adaptation(home, cells, 4 * logits)

    assert found.moved == ("temperature",)
    assert found.point.temperature > 1.5
    assert found.here.verdict("balanced_accuracy") == "the same"
    assert found.home.verdict("balanced_accuracy") == "the same"
    assert found.here.verdict("log_loss") == "better"
    assert found.home.verdict("log_loss") == "worse"


def test_the_folder_must_be_new(bundle, centre, command, tmp_path):
    """Nothing is written over."""
    with pytest.raises(UserError, match="is there already"):
        command("adapt", bundle, centre, "--out", bundle, *OPTIONS)
