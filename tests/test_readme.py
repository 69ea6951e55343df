"""What README and docs say is what happens."""

from __future__ import annotations

import json
import re
import shlex
import subprocess
import sys
from dataclasses import fields
from pathlib import Path

import duckdb
import pyarrow as pa
import pyarrow.parquet
import pytest
import write_docs

from engines.models.bundle_records import Screening
from engines.models.input import ModelInput
from screen.cli.main import cli
from screen.cli.run import run
from train.cli.commands import cli as train_cli

ROOT = Path(__file__).parents[1]
README = (ROOT / "README.md").read_text(encoding="utf-8")
PAGES = {
    str(path.relative_to(ROOT)): path.read_text(encoding="utf-8")
    for path in [*ROOT.glob("*.md"), *ROOT.glob("docs/*.md")]
}
GROUPS = {"slidescreen": cli, "slidescreen-train": train_cli}
ELSEWHERE = {"--review", "--slides", "--labels", "--source", "--require-gpu", "--version"}


def options_of(command):
    """Return a command's long options."""
    return {name for parameter in command.params for name in parameter.opts if name[:2] == "--"}


def test_every_option_of_run_is_documented():
    """In the table of docs/running.md, and none that does not exist."""
    page = PAGES["docs/running.md"]
    table = set(re.findall(r"^\| `(--[a-z-]+)`", page, re.MULTILINE))
    exist = options_of(run)

    assert table == exist
    assert set(re.findall(r"--[a-z][a-z-]+", page)) <= exist | ELSEWHERE


def commands_in(text):
    """Yield program and arguments of every command that a page shows at a prompt or in a table."""
    text = re.sub(r"\\\n\s*", "", text)  # a line that goes on
    for line in re.findall(r"(?:\$ |`|bin/)(slidescreen(?:-train)? [a-z][^`\n]*)", text):
        program, *arguments = shlex.split(line, comments=True)
        yield program, arguments


def test_every_command_shown_exists_with_its_options():
    """In README and docs alike."""
    shown = [found for text in PAGES.values() for found in commands_in(text)]

    assert len(shown) > 20
    for program, (name, *arguments) in shown:
        command = GROUPS[program].commands[name]
        if hasattr(command, "commands") and arguments:
            command = command.commands[arguments.pop(0)]
        given = {word.partition("=")[0] for word in arguments if word[:2] == "--"}
        assert given <= options_of(command) | {"--help"}, (program, name)


@pytest.mark.parametrize(("program", "group"), GROUPS.items(), ids=GROUPS)
def test_every_command_is_shown(program, group):
    """Somewhere in README or docs."""
    shown = {found[1][0] for text in PAGES.values() for found in commands_in(text)}

    assert set(group.commands) <= shown, program


def test_pages_are_short_and_narrow():
    """README at most 150 lines; no line above 100 characters but rows written from the schema."""
    wide = [
        f"{name}:{number}"
        for name, text in PAGES.items()
        for number, line in enumerate(text.splitlines(), 1)
        if len(line) > 100 and not (name == "docs/results.md" and line.startswith("|"))
    ]

    assert len(README.splitlines()) <= 150
    assert not wide


@pytest.mark.parametrize("name", PAGES)
def test_links_lead_somewhere(name):
    """To a file of the project, and to a heading that it has."""
    here = (ROOT / name).parent
    for link in re.findall(r"\]\(([^)\s]+)\)", PAGES[name]):
        if "://" in link:
            continue
        file, _, heading = link.partition("#")
        target = here / file if file else ROOT / name
        assert target.exists(), link
        if heading:
            headings = re.findall(r"^#+ (.+)$", target.read_text("utf-8"), re.MULTILINE)
            assert heading in {
                re.sub(r"[^\w\- ]", "", text).replace(" ", "-").lower() for text in headings
            }


def test_the_query_for_thresholds_counts_rightly(tmp_path, monkeypatch):
    """Of docs/thresholds.md: a cell at the threshold is positive, as in ``positive``."""
    query = PAGES["docs/thresholds.md"].partition("```sql\n")[2].partition("```")[0]
    (tmp_path / "results" / "cells").mkdir(parents=True)
    cells = {"path": list("abcd"), "status": ["ok"] * 3 + ["undecodable"]}
    scores = pa.array([0.9, 0.5, 0.1, None], pa.float32())
    table = pa.table({**cells, "prob_all": scores})
    pyarrow.parquet.write_table(table, tmp_path / "results" / "cells" / "part-00000.parquet")
    (tmp_path / "labels.csv").write_text("path,label\na,all\nb,all\nc,hem\nd,all\n")
    monkeypatch.chdir(tmp_path)

    rows = {row[0]: row[1:] for row in duckdb.sql(query).fetchall()}

    assert rows[0.5] == (1.0, 1.0)
    assert rows[0.55] == (0.5, 1.0)
    assert rows[0.05] == (1.0, 0.0)


def test_what_comes_from_the_code_is_up_to_date():
    """The map of modules, error messages and commands: python scripts/write_docs.py writes them."""
    assert [str(path.relative_to(ROOT)) for path, _ in write_docs.changed_files()] == []


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

    assert done.stdout.splitlines()[-1] == "240"


def test_the_columns_in_the_sample_rows_are_written(tried):
    """Of cells and of slides."""
    import screen

    folder, _ = tried
    heads = re.findall(r"^\| (.+) \|\n\|---.*\n\| suspicious", README, re.MULTILINE)
    cells, slides = (set(head.split(" | ")) - {"95%"} for head in heads)

    assert cells <= set(screen.open_results(folder / "results").schema.names)
    assert slides <= set(pyarrow.parquet.read_schema(folder / "results" / "slides.parquet").names)


def test_every_field_of_screening_json_is_documented():
    """In the table of docs/models.md, and none that is neither read nor written."""
    table = re.search(r"## screening.json.*?## ", PAGES["docs/models.md"], re.DOTALL)[0]
    named = set(re.findall(r"^\| `(\w+)`", table, re.MULTILINE))

    assert named == {field.name for field in fields(Screening)} | {"format", "versions"}
    assert all(f"`{field.name}`" in table for field in fields(ModelInput))
