"""``slidescreen-train calibrate``: what ``fit`` writes, fitted afterwards or on other cells."""

from __future__ import annotations

import json
import shutil

import numpy as np
import pytest

from engines.errors import BundleError, SourceError, UserError
from engines.models.bundle import ModelBundle

OPTIONS = ["--threads", "2", "--decoder", "pillow", "--precision", "fp32"]


@pytest.fixture
def copy(bundle, tmp_path):
    """A bundle of one's own."""
    return shutil.copytree(bundle, tmp_path / "copy")


def cells_of(bundle, cells, folder, which):
    """Copy the cells of the bundle's training or held-out subjects."""
    subjects = set(ModelBundle.load(bundle).data[f"{which}_subjects"])
    for file in cells.rglob("*.png"):
        if file.name.split("_")[1] in subjects:
            (folder / file.parent.name).mkdir(parents=True, exist_ok=True)
            shutil.copy(file, folder / file.parent.name)
    return folder


def test_fitted_afterwards_it_is_what_fit_wrote(bundle, copy, cells, command):
    """Byte for byte, on the same cells; the card says it once."""
    result = command("calibrate", copy, cells, *OPTIONS)

    assert result.exit_code == 0, result.output
    for name in ("trust.safetensors", "screening.json", "README.md"):
        assert (copy / name).read_bytes() == (bundle / name).read_bytes()
    assert (copy / "README.md").read_text().count("## How far to trust it") == 1


def test_other_peoples_cells_move_what_is_usual_and_not_training(
    copy, cells, command, draw, tmp_path
):
    """Nothing of the training is needed; the model is another one by name."""
    before = ModelBundle.load(copy)
    other = draw(tmp_path / "other", subjects=9, each=3, seed=5)
    for file in other.rglob("*.png"):
        file.rename(file.with_name(file.name.replace("UID_", "UID_N")))

    command("calibrate", copy, other, *OPTIONS)

    after = ModelBundle.load(copy)
    assert after.sha256 != before.sha256
    assert len(after.trust.held_out.truth) == 54
    assert np.array_equal(after.trust.features.centres, before.trust.features.centres)
    assert after.data["trust"]["held_out_subjects"] == 18
    assert after.data["trust"]["training_cells"] == before.data["trust"]["training_cells"]


def test_cells_it_was_trained_on_are_never_held_out(bundle, copy, cells, command, tmp_path):
    """With nothing but them there is nothing to fit on."""
    known = cells_of(bundle, cells, tmp_path / "known", "training")

    with pytest.raises(SourceError, match="trained on every one"):
        command("calibrate", copy, known, *OPTIONS)


def test_somebody_must_say_where_training_lies(bundle, copy, cells, command, tmp_path):
    """A bundle without trust data needs training cells, too."""
    record = json.loads((copy / "screening.json").read_text())
    del record["trust_sha256"]
    (copy / "screening.json").write_text(json.dumps(record))
    unseen = cells_of(bundle, cells, tmp_path / "unseen", "held_out")
    known = cells_of(bundle, cells, tmp_path / "known", "training")

    with pytest.raises(UserError, match="none of these cells") as caught:
        command("calibrate", copy, unseen, *OPTIONS)
    assert "--training" in caught.value.hint
    command("calibrate", copy, unseen, "--training", known, *OPTIONS)

    assert ModelBundle.load(copy).trust.to_bytes() == ModelBundle.load(bundle).trust.to_bytes()


def test_damaged_trust_data_is_refused(copy):
    """The bundle's record names its hash; so the bundle's hash covers it."""
    with (copy / "trust.safetensors").open("r+b") as file:
        file.seek(-1, 2)
        last = file.read(1)
        file.seek(-1, 2)
        file.write(bytes([last[0] ^ 1]))

    with pytest.raises(BundleError, match=r"trust\.safetensors is not the file"):
        ModelBundle.load(copy)


def test_a_review_gives_cells_their_classes(copy, cells, command, draw, tmp_path):
    """What a person called a cell counts, not its folder; what has no class is left out."""
    drawn = draw(tmp_path / "drawn", subjects=9, each=3, seed=5)
    flat = tmp_path / "screened"
    flat.mkdir()
    rows = []
    for file in sorted(drawn.rglob("*.png")):
        name = file.name.replace("UID_", "UID_N")
        shutil.copy(file, flat / name)
        rows.append(f"{name},agree,{file.parent.name},,{file.parent.name}")
    rows[0] = rows[0].replace("agree,all", "disagree,hem")
    rows[1] = rows[1].replace("agree,all", "artefact,")
    review = tmp_path / "review.csv"
    review.write_text("\n".join(["path,verdict,label,note,predicted", *rows]) + "\n")

    command("calibrate", copy, flat, "--review", review, *OPTIONS)

    held_out = ModelBundle.load(copy).trust.held_out
    assert len(held_out.truth) == 53
    assert np.bincount(held_out.truth).tolist() == [25, 28]


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("a.png,artefact,\n", "gives no cell a class"),
        ("a.png,agree,all\na.png,agree,all\n", "reviews a.png twice"),
        ("b.png,agree,all\n", "which is not in"),
    ],
)
def test_a_review_that_does_not_fit_is_refused(copy, command, tmp_path, text, said):
    """With the row that does not."""
    (tmp_path / "screened").mkdir()
    (tmp_path / "screened/a.png").write_bytes(b"")
    review = tmp_path / "review.csv"
    review.write_text("path,verdict,label\n" + text)

    with pytest.raises(SourceError, match=said):
        command("calibrate", copy, tmp_path / "screened", "--review", review, *OPTIONS)
