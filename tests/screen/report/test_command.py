"""The report from the command line."""

from __future__ import annotations

import json
import sys

import pytest
from made_results import make_results

from screen.cli import main as cli
from screen.results.folder import is_report


@pytest.fixture
def command(monkeypatch, capsys):
    """Run the command line; return exit status, stdout, stderr."""

    def call(*arguments):
        monkeypatch.setattr(sys, "argv", ["slidescreen", *map(str, arguments)])
        with pytest.raises(SystemExit) as caught:
            cli.main()
        return caught.value.code, *capsys.readouterr()

    return call


@pytest.fixture
def here(drawn_cells, tmp_path, monkeypatch):
    """Make results in the folder that the command runs in."""
    monkeypatch.chdir(tmp_path)
    make_results(tmp_path / "results", drawn_cells, source=tmp_path / "cells")


def test_run_writes_the_report_if_asked(command, bundle, cells, tmp_path):
    """And says where, last; not without being asked."""
    run = ("run", cells, "--out", tmp_path / "out", "--model", bundle.folder)
    command(*run)
    assert not (tmp_path / "out/report.html").exists()

    status, out, _ = command(*run, "--report")

    assert status == 0
    assert is_report(tmp_path / "out/report.html")
    assert out.splitlines()[-1].startswith(f"  {tmp_path}/out/report.html: ")
    assert out.endswith("chosen cells with a picture\n")


def test_json_stays_one_object(command, bundle, cells, tmp_path):
    """With --report, too."""
    run = ("run", cells, "--out", tmp_path / "out", "--model", bundle.folder)

    _, out, _ = command(*run, "--json", "--report", "--quiet")

    assert json.loads(out)["state"] == "done"


def test_report_is_made_of_results(command, drawn_cells, tmp_path):
    """To the file named, with labels from the names."""
    results = make_results(tmp_path / "results", drawn_cells, source=tmp_path / "cells")

    status, out, err = command(
        "report", results, "--out", tmp_path / "x.html", "--labels", r"(?P<label>all)?/"
    )

    assert (status, err) == (0, "")
    assert out.startswith(f"{tmp_path}/x.html: ")
    assert out.endswith(" MB, 11 of 11 chosen cells with a picture\n")
    assert not (results / "report.html").exists()
    assert "Against the labels" in (tmp_path / "x.html").read_text()


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (("nowhere",), "holds no results"),
        (("results", "--labels", "nothing.csv"), "cannot read the labels nothing.csv"),
        (("results", "--source", "nowhere"), "there is nothing at nowhere"),
    ],
)
@pytest.mark.usefixtures("here")
def test_what_is_missing_is_named(command, arguments, said):
    """Status 1, the problem, and what to do."""
    status, _, err = command("report", *arguments)

    assert status == 1
    assert said in err
    assert "Hint: " in err
