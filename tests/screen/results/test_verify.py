"""A look at every table finds whatever is not what was written."""

from __future__ import annotations

import shutil

import pytest
from click.testing import CliRunner
from made_results import cell, fingerprint, make_results

from engines.errors import ResultsError
from engines.sources import open_source
from engines.sources.slide_rule import SlideRule
from screen.cli.main import cli
from screen.results.folder import ResultsFolder
from screen.results.planning import plan_source
from screen.results.table_records import write_recorded
from screen.results.tables import read_table
from screen.results.verify import verify

MARK = fingerprint("/cells")
PATHS = [f"a/{n:02}.png" for n in range(10)]


@pytest.fixture
def results(tmp_path):
    """Results of ten cells in two parts, with their plan."""
    for path in PATHS:
        (tmp_path / "cells" / path).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / "cells" / path).touch()
    out = make_results(tmp_path / "results", [cell(path, "a") for path in PATHS], source="/cells")
    plan = plan_source(open_source(tmp_path / "cells"), SlideRule(), 7)
    plan.write(out / "plan.parquet", MARK.metadata)
    return ResultsFolder(out)


def test_a_whole_folder_is_whole(results):
    """Plan, two parts, slides, duplicates."""
    found = list(verify(results))

    assert [each.path.name for each in found if not each.fault] == [
        "plan.parquet",
        "part-00000.parquet",
        "part-00001.parquet",
        "slides.parquet",
        "duplicates.parquet",
    ]


@pytest.mark.parametrize("name", ["cells/part-00001.parquet", "slides.parquet"])
def test_a_damaged_table_is_named(results, name):
    """And the command exits 1."""
    path = results.path / name
    path.write_bytes(path.read_bytes()[:-1])

    done = CliRunner().invoke(cli, ["verify", str(results.path)], standalone_mode=False)

    assert done.return_value == 1
    assert f"{path} is damaged" in done.output
    assert "4 of 5 tables whole" in done.output


def test_a_part_of_other_cells_is_named(results):
    """Even with a record of its own that vouches for it: its paths are not those of the plan."""
    rows = read_table(results.part(1))
    write_recorded(results, results.part(1), rows.take([1, 0, 2]), MARK)

    assert [each.fault for each in verify(results) if each.fault] == [
        f"{results.part(1)} holds other cells than the plan says"
    ]


def test_a_part_that_is_gone_is_named(results):
    """Once the run is done, every shard has its part."""
    results.part(0).unlink()

    (fault,) = [each.fault for each in verify(results) if each.fault]

    assert "part-00000" in fault


def test_without_a_plan_nothing_can_be_told(results):
    """The command says so."""
    results.plan.unlink()

    with pytest.raises(ResultsError, match=r"plan\.parquet"):
        list(verify(results))


def test_a_folder_without_a_run_is_refused(results, tmp_path):
    """Nothing says what should be in it."""
    shutil.copytree(results.cells, tmp_path / "other" / "cells")

    with pytest.raises(ResultsError, match="holds no results"):
        list(verify(ResultsFolder(tmp_path / "other")))
