"""Two runs over the same cells: what changes is found, and how far they agree is said."""

from __future__ import annotations

import json

import numpy as np
import pytest
from click.testing import CliRunner
from hypothesis import given
from hypothesis import strategies as st
from made_results import cell, fault, make_results
from sklearn.metrics import cohen_kappa_score

from engines.errors import ResultsError
from screen.cli.main import cli
from screen.comparison.agreement import agreement, kappa
from screen.comparison.compare import compared

CHANCES = {"a/0": 0.9, "a/1": 0.1, "b/0": 0.8, "b/1": 0.2, "b/2": 0.3}


def cells(chances, **hashes):
    """Return scored cells with a hash each."""
    return [
        cell(path, path[0], chance, content_hash=hashes.get(path, f"hash of {path}"))
        for path, chance in chances.items()
    ]


@pytest.fixture
def made(tmp_path):
    """Make a run of some cells."""

    def make(name, rows, **options):
        return make_results(tmp_path / name, rows, source="/cells", part_cells=2, **options)

    return make


def test_a_run_agrees_with_itself(made):
    """With everything; the interval still says that there are few cells."""
    first, second = made("first", cells(CHANCES)), made("second", cells(CHANCES))

    found = compared(first, second)

    assert (found.common, found.compared, found.only_first, found.only_second) == (5, 5, 0, 0)
    assert found.agreement.value == found.kappa.value == 1
    assert 0.5 < found.agreement.low < 0.9
    assert found.cells == []
    assert found.slides == []
    assert found.settings == []
    assert found.most_change == 0


def test_what_changes_is_named(made):
    """Cells by how much, the largest first; slides by their flags."""
    first = made("first", cells(CHANCES))
    second = made(
        "second", cells({**CHANCES, "a/1": 0.5, "b/0": 0.1}), flags={"b": ["too_few_cells"]}
    )

    found = compared(first, second)

    assert [(each.path, each.before, each.after) for each in found.cells] == [
        ("b/0", "all", "hem"),
        ("a/1", "hem", "all"),
    ]
    assert [each.change for each in found.cells] == pytest.approx([-0.7, 0.4])
    assert found.agreement.value == pytest.approx(3 / 5)
    assert found.agreement.low < 3 / 5 < found.agreement.high
    assert found.most_change == pytest.approx(0.7)
    assert found.mean_change == pytest.approx(1.1 / 5)
    assert ["b", ["too_few_cells"]] in [[each.slide, each.after] for each in found.slides]


def test_only_the_same_cells_are_compared(made):
    """A cell of one run, another file under a name, and a cell not scored are no agreement."""
    first = made("first", [*cells(CHANCES), fault("c/0", "c")])
    rows = [*cells({**CHANCES, "d/0": 0.5}, **{"b/2": "another"}), cell("c/0", "c", 0.9)]
    second = made("second", [row for row in rows if row["path"] != "a/0"])

    found = compared(first, second)

    assert (found.only_first, found.only_second, found.other_file) == (1, 1, 1)
    assert found.compared == 3
    assert [(each.path, each.before, each.after) for each in found.cells] == [("c/0", None, "all")]


def test_runs_without_a_common_cell_are_refused(made):
    """By path, or by content."""
    first = made("first", cells(CHANCES))

    for name, rows in (
        ("other", cells({"x/0": 0.5})),
        ("same-names", cells(CHANCES, **dict.fromkeys(CHANCES, "x"))),
    ):
        with pytest.raises(ResultsError, match="no cell in common"):
            compared(first, made(name, rows))


def test_a_run_that_is_not_done_is_refused(made, tmp_path):
    """And a folder without one."""
    with pytest.raises(ResultsError, match="no run that is done"):
        compared(made("first", cells(CHANCES)), tmp_path)


def test_the_command_says_it(made):
    """For a person, and as JSON with every cell."""
    first = made("first", cells(CHANCES))
    second = made("second", cells({**CHANCES, "a/1": 0.5}))

    said = CliRunner().invoke(cli, ["compare", str(first), str(second)], catch_exceptions=False)
    told = CliRunner().invoke(cli, ["compare", str(first), str(second), "--json"])

    assert "5 cells scored in both" in said.output
    assert "called the same: 0.800 (" in said.output
    assert "1 cell called otherwise" in said.output
    assert json.loads(told.output)["cells"][0]["path"] == "a/1"


@given(st.lists(st.tuples(st.integers(0, 2), st.integers(0, 2)), min_size=1, max_size=40))
def test_kappa_is_scikit_learns(pairs):
    """Where it is defined."""
    counts = np.zeros((1, 3, 3), np.int64)
    for before, after in pairs:
        counts[0, before, after] += 1
    first, second = zip(*pairs, strict=True)

    found = kappa(counts)

    if found is None:
        assert len(set(first + second)) == 1
    else:
        assert found.value == pytest.approx(cohen_kappa_score(first, second, labels=[0, 1, 2]))


def test_the_interval_holds_the_truth_where_slides_differ():
    """In at least nine of ten simulated pairs of runs of 20 slides as unlike as people are."""
    rng = np.random.default_rng(0)
    truth, held = 0.9, 0
    for _ in range(60):
        rates = rng.beta(9, 1, 20)
        counts = np.zeros((20, 2, 2), np.int64)
        counts[:, 0, 0] = rng.binomial(100, rates)
        counts[:, 0, 1] = 100 - counts[:, 0, 0]
        found = agreement(counts)
        held += found.low <= truth <= found.high

    assert held >= 52
