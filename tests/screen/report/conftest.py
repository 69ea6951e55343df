"""A small results folder with pictures, and its report."""

from __future__ import annotations

import json
import re

import numpy as np
import pytest
from made_results import cell, draw, fault, make_results

from screen.report import ReportOptions, write_report


@pytest.fixture
def reported(tmp_path):
    """Make results of cells, write their report, and return the text of the page."""

    def call(cells, *, labels=None, source=None, **made):
        out = make_results(tmp_path / "results", cells, source=tmp_path / "cells", **made)
        done = write_report(ReportOptions(results=out, labels=labels, source=source))
        return done.path.read_text(encoding="utf-8")

    return call


@pytest.fixture
def drawn_cells(tmp_path):
    """Twelve cells of two slides, one of them undecodable, drawn."""
    cells = [cell(f"a/{n}.png", "a", p=0.05 + 0.08 * n) for n in range(11)]
    return draw(tmp_path / "cells", [*cells, fault("b/0.png", "b")])


@pytest.fixture
def data():
    """Read the JSON that a page's script draws from."""

    def read(page):
        return json.loads(re.search(r'id="data">(.*?)</script>', page, re.DOTALL)[1])

    return read


@pytest.fixture
def forty(tmp_path):
    """Forty cells of three slides in random order of probability, a few not scored."""
    random = np.random.default_rng(3)
    cells = [
        fault(f"s{n % 3}/{n}.png", f"s{n % 3}")
        if n % 11 == 0
        else cell(f"s{n % 3}/{n}.png", f"s{n % 3}", p=float(random.uniform(0.01, 0.99)))
        for n in range(40)
    ]
    return sorted(cells, key=lambda each: each["path"])
