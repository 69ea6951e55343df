"""docs/results.md says what is written."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

import screen
from screen.results.folder import ResultsFolder
from screen.results.schema import CELLS, DUPLICATES, SLIDES
from screen.results.tables import read_table

ROOT = Path(__file__).parents[1]
SCRIPT = ROOT / "scripts" / "schema_docs"


def test_the_page_is_as_the_script_writes_it():
    """A column that was added or changed is in the page."""
    done = subprocess.run(
        [sys.executable, SCRIPT, "--check"], capture_output=True, text=True, check=False
    )

    assert (done.returncode, done.stderr) == (0, "")


@pytest.fixture(scope="module")
def results(bundle, tmp_path_factory):
    """Results of one cell."""
    from draw_cells import draw_cell

    folder = tmp_path_factory.mktemp("schema")
    (folder / "cells").mkdir()
    draw_cell(0, (60, 50)).save(folder / "cells" / "0.png")
    list(
        screen.run(
            screen.RunOptions(source=folder / "cells", out=folder / "results", model=bundle.folder)
        )
    )
    return ResultsFolder(folder / "results")


def test_the_columns_it_names_are_those_written(results):
    """No more and no fewer, in the same order, of the types it states."""
    for path, columns in (
        (results.part(0), CELLS),
        (results.slides, SLIDES),
        (results.duplicates, DUPLICATES),
    ):
        schema = read_table(path).schema
        assert schema.names == [name for each in columns for name in each.named(["hem", "all"])]
        for each in columns:
            for name in each.named(["hem", "all"]):
                kind = schema.field(name).type
                assert kind == each.type or kind.value_type == each.type.value_type
