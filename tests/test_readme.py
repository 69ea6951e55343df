"""What the README says is what happens."""

from __future__ import annotations

import json
import re
import shlex
import subprocess
import sys
from pathlib import Path

import pyarrow.parquet
import pytest

from screen.cli.main import cli
from screen.cli.run import run

ROOT = Path(__file__).parents[1]
README = (ROOT / "README.md").read_text(encoding="utf-8")


def test_every_option_it_names_exists():
    """And every option of run that exists is named."""
    section = README.partition("## Use it")[2].partition("From Python")[0]
    named = set(re.findall(r"--[a-z][a-z-]+", section))
    exist = {name for parameter in run.params for name in parameter.opts if name[:2] == "--"}

    assert exist <= named <= exist | {"--csv", "--slides"}


def test_every_command_it_names_exists():
    """Each is in the group."""
    for name in re.findall(r"(?:\$ |`|bin/)slidescreen ([a-z]+)", README):
        assert name in cli.commands


@pytest.fixture(scope="module")
def tried(tmp_path_factory):
    """Run the commands of scripts/demo as written, but for the installation."""
    folder = tmp_path_factory.mktemp("newcomer")
    demo = (ROOT / "scripts" / "demo").read_text(encoding="utf-8").partition("<<")[0]
    programs = {
        ".venv/bin/python": [sys.executable],
        ".venv/bin/slidescreen": [sys.executable, "-m", "screen.cli"],
    }
    said = []
    for line in demo.splitlines():
        program, *arguments = shlex.split(line, comments=True) or [""]
        if program not in programs:
            continue
        arguments = [str(ROOT / part) if (ROOT / part).is_file() else part for part in arguments]
        done = subprocess.run(
            [*programs[program], *arguments], cwd=folder, capture_output=True, text=True, check=True
        )
        said.append(done.stdout)
    return folder, said


def test_the_first_command_screens_example_cells(tried):
    """With the shipped model: 240 cells of four slides, one of them bad."""
    folder, (_, out) = tried
    record = json.loads((folder / "results" / "run.json").read_text())

    assert "240 cells, 1 bad" in out
    assert record["counts"]["slides"] == 4
    assert record["parity"]["verdict"] == "agrees"
    assert record["model"]["architecture"] == "efficientnet_b3"


def test_the_model_is_not_out_of_its_depth_on_drawn_cells(tried):
    """So that intervals and flags mean something: no drift, and suspicious slides stand out."""
    folder, _ = tried
    drift = json.loads((folder / "results" / "run.json").read_text())["drift"]
    slides = pyarrow.parquet.read_table(folder / "results" / "slides.parquet").to_pylist()
    shares = {row["slide"]: row["fraction_positive"] for row in slides}

    assert drift["value"] < 0.7
    assert max(shares["healthy-1"], shares["healthy-2"]) < 0.35
    assert min(shares["suspicious-1"], shares["suspicious-2"]) > 0.6
    assert (folder / "results" / "report.html").stat().st_size > 100_000


def test_the_python_example_runs(tried):
    """The block runs as it stands, on the results that are there."""
    folder, _ = tried
    block = README.partition("```python\n")[2].partition("```")[0]

    done = subprocess.run(
        [sys.executable, "-c", block + "\nprint(len(cells))"],
        cwd=folder,
        capture_output=True,
        text=True,
        check=True,
    )

    assert done.stdout.strip() == "240"


def test_the_columns_it_names_are_those_written(tried):
    """No more and no fewer."""
    import screen

    folder, _ = tried
    table = README.partition("| cells | |")[2].partition("`slides.parquet` has")[0]
    named = set(
        re.findall(
            r"`([a-z_<>]+)`",
            "\n".join(row.split("|")[1] for row in table.splitlines() if row.startswith("| `")),
        )
    )
    written = {
        re.sub(r"^(logit|prob)_.*", r"\1_<class>", name)
        for name in screen.open_results(folder / "results").schema.names
    }

    assert named == written
