"""The examples run, and read what is there."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import numpy as np
import plot_results
import pytest
from made_results import cell, fault, make_results
from PIL import Image

EXAMPLES = Path(__file__).parents[1] / "examples"


@pytest.fixture
def results(tmp_path):
    """Results of two slides."""
    cells = [cell(f"b/{n}.png", "b", p=0.1 + 0.08 * n) for n in range(10)]
    cells += [cell(f"a/{n}.png", "a", p=0.9) for n in range(3)] + [fault("a/x.png", "a")]
    return make_results(tmp_path / "results", cells, source=tmp_path)


def test_sql_finds_the_slides_and_their_cells(results):
    """By rising share; cells that were not scored are left out."""
    rows = plot_results.slides(results)
    chances = plot_results.probabilities_by_slide(results, "all")

    assert [row[:2] for row in rows] == [("b", 10), ("a", 3)]
    assert [row[2] for row in rows] == [0.6, 1.0]
    assert chances["a"] == pytest.approx([0.9] * 3)
    assert chances["b"] == pytest.approx(0.1 + 0.08 * np.arange(10))


def test_the_figure_is_drawn_as_the_docstring_says(results, tmp_path):
    """A picture that is not empty."""
    command = [sys.executable, EXAMPLES / "plot_results.py", results, tmp_path / "figure.png"]

    said = subprocess.run(command, check=True, capture_output=True, text=True)

    pixels = np.asarray(Image.open(tmp_path / "figure.png").convert("L"))
    assert said.stdout.endswith("figure.png: 2 slides\n")
    assert pixels.std() > 5
