"""Slides named like people whom the model was trained on: said on screen, in tables, in reports."""

from __future__ import annotations

import json
import shutil

import pyarrow.parquet as pq
import pytest
from draw_cells import draw_cell

import screen
from engines.models.bundle import DEFAULT_BUNDLE, ModelBundle
from screen.summary.trained_on import is_trained_on, trained_on_warning


@pytest.mark.parametrize(
    ("slide", "expected"),
    [("H3", True), ("h3", True), ("batch/H3", True), ("H33", False), ("H3/batch", False)],
)
def test_slides_are_known_by_their_last_name(slide, expected):
    """In any case of letters; a folder above the slide's own does not count."""
    assert is_trained_on(slide, {"H3", "14"}) is expected


def test_where_nobody_is_named_nothing_is_said():
    """A model that does not say whom it was trained on may have been trained on anyone."""
    assert is_trained_on("H3", frozenset()) is None
    assert trained_on_warning([]) == ""


def test_a_warning_names_slides_and_what_follows():
    """One or several; of many, the first."""
    assert "1 slide is named like a person whom the model was trained on (H3):" in (
        trained_on_warning(["H3"])
    )
    assert "9 slides are named like people whom the model was trained on (0, 1, 2, 3, 4, ...)" in (
        trained_on_warning([str(n) for n in range(9)])
    )


def test_the_shipped_model_names_whom_it_was_trained_on():
    """And the people whom it was held against are not among them."""
    bundle = ModelBundle.load(DEFAULT_BUNDLE)

    assert {"H3", "14"} <= bundle.training_subjects
    assert not bundle.training_subjects & set(bundle.data["held_out_subjects"])


def test_a_run_says_which_slides_the_model_knows(bundle, tmp_path):
    """In slides.parquet, and as a warning of the run."""
    folder = shutil.copytree(bundle.folder, tmp_path / "bundle")
    screening = json.loads((folder / "screening.json").read_text())
    screening["data"]["training_subjects"] = ["p1", "p3"]
    (folder / "screening.json").write_text(json.dumps(screening))
    for slide in ("P1", "p2"):
        (tmp_path / "cells" / slide).mkdir(parents=True)
        draw_cell(1, (60, 50)).save(tmp_path / "cells" / slide / "0.png")
    out = tmp_path / "out"

    list(
        screen.run(
            screen.RunOptions(source=tmp_path / "cells", out=out, model=folder, runtime="torch")
        )
    )

    slides = pq.read_table(out / "slides.parquet")
    assert slides["trained_on"].to_pylist() == [True, False]
    warnings = json.loads((out / "run.json").read_text())["warnings"]
    assert [text for text in warnings if "trained on (P1)" in text]
