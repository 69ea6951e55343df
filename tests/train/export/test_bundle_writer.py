"""A bundle given another input: same weights, everything else judged and fitted anew."""

from __future__ import annotations

import json
import shutil

import pytest
from safetensors.torch import load_file

from engines.errors import SourceError
from engines.models.bundle import ModelBundle


@pytest.fixture
def copy(bundle, tmp_path):
    """A copy of the trained bundle."""
    return shutil.copytree(bundle, tmp_path / "copy")


def test_another_input_is_judged_calibrated_and_stated_anew(command, cells, bundle, copy):
    """Input, figures, trust and card are of the new input; weights and training stay."""
    before = ModelBundle.load(copy)

    result = command(
        "calibrate", copy, cells, "--img-size", "40", "--crop-pct", "0.75",
        "--decoder", "pillow", "--precision", "fp32",
    )  # fmt: skip

    after = ModelBundle.load(copy)
    assert result.exit_code == 0, result.output
    assert after.sha256 != before.sha256
    assert (after.input.height, after.input.width, after.input.crop_pct) == (40, 40, 0.75)
    assert after.data["trained_at"] == {"img_size": 32, "crop_pct": 1.0}
    assert after.data["training_subjects"] == before.data["training_subjects"]
    assert after.data["evaluation"] != before.data["evaluation"]
    assert (after.trust.held_out.distances != before.trust.held_out.distances).any()
    weights, theirs = load_file(after.weights), load_file(bundle / "model.safetensors")
    assert all((weights[name] == theirs[name]).all() for name in theirs)
    card = (copy / "README.md").read_text()
    assert "the middle 0.750 of the crop's sides, cut out first, squashed to 40 x 40" in card
    assert "Trained on the whole crop, at 32 x 32" in card


def test_what_half_precision_left_to_float32_is_tried_first(command, cells, copy):
    """Exceptions that still serve are kept, measured on the new input."""
    screening = json.loads((copy / "screening.json").read_text())
    kept = {"precision": "fp16", "overflowing": {}, "costly": ["conv1"], "peak": 1.0,
            "peak_module": "fc", "cells": 1, "max_dp": 0.04, "flips": 1, "holds": True}  # fmt: skip
    screening["half"]["fp16"] = kept
    (copy / "screening.json").write_text(json.dumps(screening))

    command(
        "calibrate", copy, cells, "--crop-pct", "0.75", "--decoder", "pillow",
        "--precision", "fp32",
    )  # fmt: skip

    found = ModelBundle.load(copy).half["fp16"]
    assert found["costly"] == ["conv1"]
    assert (found["cells"], found["max_dp"]) != (1, 0.04)


def test_another_input_needs_cells_of_both_kinds(command, cells, copy):
    """Those it was trained on say where training lies."""
    known = ModelBundle.load(copy).data["training_subjects"]
    unseen = [f for f in cells.rglob("*.png") if f.name.split("_")[1] not in known]
    apart = copy.parent / "apart"
    for file in unseen:
        (apart / file.parent.name).mkdir(parents=True, exist_ok=True)
        shutil.copy(file, apart / file.parent.name)

    with pytest.raises(SourceError, match="trained on"):
        command("calibrate", copy, apart, "--crop-pct", "0.75", "--decoder", "pillow")
