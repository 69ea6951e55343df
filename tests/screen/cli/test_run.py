"""What a person at a terminal meets."""

from __future__ import annotations

import csv
import json
import signal
import subprocess
import sys
import time

import click
import pytest

from engines.sources.names import printable
from screen.cli import main as cli


def ran(monkeypatch, capsys, *arguments):
    """Run the command line; return exit status, stdout, stderr."""
    monkeypatch.setattr(sys, "argv", ["slidescreen", *map(str, arguments)])
    with pytest.raises(SystemExit) as caught:
        cli.main()
    out, err = capsys.readouterr()
    return caught.value.code, out, err


@pytest.fixture
def run(monkeypatch, capsys, bundle, cells, tmp_path):
    """Run ``slidescreen run`` on the drawn cells with the tiny bundle."""

    def call(*arguments, source=cells):
        model = () if "--model" in arguments else ("--model", bundle.folder)
        out = () if "--out" in arguments else ("--out", tmp_path / "results")
        return ran(monkeypatch, capsys, "run", source, *out, *model, *arguments)

    return call


def test_a_run_prints_slides_and_where_the_files_are(run, tmp_path, monkeypatch):
    """Results on stdout; choices, with reasons, and progress on stderr."""
    monkeypatch.delenv("SLIDESCREEN_RUN_DECODE_WORKERS")
    status, out, err = run()

    assert status == 0
    assert "share of “all” (95%," in out
    assert "11 cells, 2 bad" in out
    assert f"{tmp_path / 'results' / 'slides.parquet'}" in out.replace("\n", "")
    assert "decoder: " in err
    assert "(asked for)" not in err
    assert "parity: agrees" in err
    assert "11 of 11 cells" in err
    assert "2 bad" in err


def test_a_device_is_used_or_the_run_fails(run):
    """The processor by name; a GPU that is not here is an error with a hint."""
    status, _, err = run("--device", "cpu")
    assert status == 0
    assert "runtime: openvino (the fastest that works here)" in err

    assert run("--device", "cuda:x")[0] == 2
    status, _, err = run("--device", "cuda:99", "--restart")
    assert status == 1
    assert "cuda:99" in err
    assert "Hint: " in err


def test_json_is_one_object_on_stdout(run, tmp_path):
    """The content of run.json plus the slides."""
    status, out, _ = run("--json")

    said = json.loads(out)

    assert status == 0
    assert [row["slide"] for row in said.pop("slides")] == ["first", "second"]
    assert said == json.loads((tmp_path / "results" / "run.json").read_text())


def test_quiet_says_nothing(run):
    """Neither on stdout nor on stderr."""
    assert run("--quiet") == (0, "", "")


def test_bad_cells_fail_only_when_asked(run):
    """Exit 3 with --fail-on-bad, and the results are complete all the same."""
    status, out, _ = run("--fail-on-bad")

    assert status == 3
    assert "11 cells, 2 bad" in out


def test_a_mendable_error_has_a_hint_and_status_1(run, tmp_path):
    """What, which, and what to do next; no traceback."""
    status, out, err = run(source=tmp_path / "nowhere")

    assert (status, out) == (1, "")
    assert err.splitlines() == [
        f"Error: there is nothing at {tmp_path / 'nowhere'}",
        "Hint: check the path of the cells",
    ]


def test_an_address_as_out_is_a_mendable_error(run, monkeypatch, tmp_path):
    """It is named as it was typed, and no folder called https: appears."""
    monkeypatch.chdir(tmp_path)

    status, out, err = run("--out", "https://host/x")

    assert (status, out) == (1, "")
    assert err.splitlines()[0] == "Error: results cannot be written to https://host/x"
    assert not (tmp_path / "https:").exists()


def test_an_empty_source_is_a_mendable_error(run, tmp_path):
    """A folder without cells is no success."""
    (tmp_path / "empty").mkdir()

    status, _, err = run(source=tmp_path / "empty")

    assert status == 1
    assert "no cell image" in err


@pytest.mark.parametrize(
    "arguments", [("--slide", "("), ("--batch-size", "0"), ("--runtime", "cuda"), ("--nonsense",)]
)
def test_a_wrong_option_is_a_usage_error(run, arguments):
    """Exit 2, and the option is named."""
    status, _, err = run(*arguments)

    assert status == 2
    assert arguments[0] in err


def test_a_bug_keeps_its_traceback(run, monkeypatch):
    """Exit 70, with where to report it."""

    def broken(*_):
        raise ZeroDivisionError("a bug")

    monkeypatch.setattr("screen.runners.start.Start.session", broken)

    status, _, err = run()

    assert status == 70
    assert "ZeroDivisionError: a bug" in err
    assert "Please report it" in err


def test_an_interrupt_keeps_what_is_finished(run, monkeypatch):
    """Exit 130."""

    def interrupted(*_):
        raise KeyboardInterrupt

    monkeypatch.setattr("screen.runners.start.Start.session", interrupted)

    status, _, err = run()

    assert status == 130
    assert "the same command goes on" in err


def test_control_c_ends_a_run_at_once(bundle, cells, tmp_path):
    """A real SIGINT to a real process: 130, no traceback, and the lock is free."""
    command = [sys.executable, "-m", "screen.cli", "run", cells, "--out", tmp_path / "out"]
    process = subprocess.Popen(
        [*map(str, command), "--model", str(bundle.folder)], stderr=subprocess.PIPE, text=True
    )
    while not (tmp_path / "out").exists():
        time.sleep(0.01)
    process.send_signal(signal.SIGINT)

    _, err = process.communicate(timeout=60)

    assert process.returncode == 130
    assert "Traceback" not in err


def test_cells_and_slides_are_exported_as_csv(run, monkeypatch, capsys, tmp_path):
    """All rows, with a header, and missing values empty."""
    run("--quiet")

    for name, options, count in (("cells", (), 11), ("slides", ("--slides",), 2)):
        path = tmp_path / f"{name}.csv"
        status, _, err = ran(
            monkeypatch, capsys, "export", tmp_path / "results", "--out", path, *options
        )
        with path.open(encoding="utf-8", newline="") as file:
            rows = list(csv.DictReader(file))
        assert status == 0
        assert f"{count} rows" in err
        assert len(rows) == count
    assert {row["n_ok"] for row in rows} == {"3", "6"}


def test_exporting_nothing_is_a_mendable_error(monkeypatch, capsys, tmp_path):
    """The hint says what a results folder is."""
    status, _, err = ran(monkeypatch, capsys, "export", tmp_path, "--out", tmp_path / "x.csv")

    assert status == 1
    assert "holds no results" in err
    assert "Hint:" in err


def test_every_command_has_help_and_an_example():
    """Help says what a command does and shows one."""
    for name, command in cli.cli.commands.items():
        text = command.get_help(click.Context(command, info_name=name))
        assert "Example:" in text
        assert f"slidescreen {name}" in text


@pytest.mark.parametrize(
    "name", ["x\ny", "\x1b[31mred", "tab\t", "\u202egnp.exe", "ok \u7ec6\u80de"]
)
def test_hostile_names_cannot_drive_a_terminal(name):
    """Everything shown is printable, and what is plain stays as it is."""
    shown = printable(name)

    assert shown.isprintable()
    assert (shown == name) == name.startswith("ok")


def test_markup_in_a_slides_name_is_text(run, cells):
    """A folder called [bold] is shown as [bold]."""
    (cells / "first").rename(cells / "[bold]x")

    _, out, _ = run()

    assert "[bold]x" in out
