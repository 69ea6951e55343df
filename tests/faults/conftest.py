"""A finished run to be spoilt, and what is done with it afterwards."""

from __future__ import annotations

import shutil
from dataclasses import replace

import pytest

import screen
from engines.errors import UserError
from screen.export.formats import ExportOptions
from screen.export.write import write_export
from screen.report import ReportOptions, write_report
from screen.results.folder import ResultsFolder
from screen.results.verify import verify


@pytest.fixture
def how_many(request):
    """How many mutants of a kind: few by default, many with --long."""
    return lambda few, many: many if request.config.getoption("--long") else few


@pytest.fixture(scope="session")
def kept(bundle, lasting_cells, tmp_path_factory):
    """A run of the tiny bundle over eleven cells in shards of three, the same on any machine."""
    options = screen.RunOptions(
        source=lasting_cells,
        out=tmp_path_factory.mktemp("kept") / "results",
        model=bundle.folder,
        shard_cells=3,
        threads=1,
        decoder="pillow",
        runtime="torch",
        precision="fp32",
    )
    list(screen.run(options))
    return options


@pytest.fixture
def options(kept, tmp_path):
    """The same run to another place, not yet begun."""
    return replace(kept, out=tmp_path / "results")


@pytest.fixture
def finished(kept, options):
    """Put a finished run to where the options say, in place of what is there."""

    def again():
        shutil.rmtree(options.out, ignore_errors=True)
        shutil.copytree(kept.out, options.out)
        return ResultsFolder(options.out)

    return again


def rows(options):
    """Return every row of the results, in the order of the plan."""
    return screen.open_results(options.out).to_table().to_pylist()


def only_user_errors(work):
    """Do something; what the person at the keyboard can mend is returned, all else is raised."""
    try:
        work()
    except UserError as error:
        return error
    return None


def every_command(options):
    """Yield everything that reads a results folder, by name."""
    csv = options.out.parent / "out.csv"
    yield "report", lambda: write_report(ReportOptions(results=options.out))
    for slides in (False, True):
        asked = ExportOptions(to="csv", slides=slides, force=True)
        yield f"export {slides}", lambda asked=asked: write_export(options.out, csv, asked)
    yield "verify", lambda: list(verify(ResultsFolder(options.out)))
    yield "run", lambda: list(screen.run(options))
