"""What a person sees while a run goes on."""

from __future__ import annotations

import io
import logging
from types import SimpleNamespace

import pytest
from rich.console import Console

from engines.sources.names import counted
from screen import RunOptions, run
from screen.cli import progress
from screen.cli.progress import show_building, show_events, show_logs
from screen.cli.summary import print_summary
from screen.results.folder import ResultsFolder
from screen.runners.events import BatchScored, Building, Started


@pytest.fixture
def options(bundle, cells, tmp_path):
    """A run of eleven cells."""
    return RunOptions(source=cells, out=tmp_path / "results", model=bundle.folder, threads=2)


def console(*, terminal):
    """A console that keeps what is drawn."""
    return Console(file=io.StringIO(), force_terminal=terminal, width=120)


def test_on_a_terminal_a_bar_is_drawn(options):
    """With the choices above it, and the engine's build before."""
    screen = console(terminal=True)

    def events():
        yield Building(0.5, "timing")
        yield from run(options)

    record = show_events(events(), screen, quiet=False)

    drawn = screen.file.getvalue()
    assert "parity: agrees" in drawn
    assert "11/11" in drawn
    assert "2 bad" in drawn
    assert record == ResultsFolder(options.out).read_run()


def test_elsewhere_lines_are_printed(options, capsys):
    """The build at every tenth, the choices, and how far it is."""

    def events():
        yield from (Building(share / 20, "timing") for share in range(1, 20))
        yield from run(options)

    show_events(events(), console(terminal=False), quiet=False)

    said = capsys.readouterr().err
    assert said.count("building an engine") == 9
    assert "11 of 11 cells" in said


@pytest.mark.parametrize(
    ("count", "said"),
    [(2, "; worker 1 10/s, worker 2 20/s"), (5, "; 5 workers, 10/s (worker 1) to 50/s")],
)
def test_several_workers_are_shown_with_their_rates(options, capsys, monkeypatch, count, said):
    """Each of a few, the slowest and the fastest of many; one bar over all of them."""
    started = next(event for event in run(options) if isinstance(event, Started))
    monkeypatch.setattr(progress, "time", SimpleNamespace(monotonic=lambda: 0.0))

    def events():
        yield started
        for number in range(1, count + 1):
            yield BatchScored(10 * number, 0, f"worker {number}")

    show_events(events(), console(terminal=False), quiet=False)
    assert said in capsys.readouterr().err

    show_events(events(), console(terminal=True), quiet=False)


def test_quiet_is_quiet(options, capsys):
    """The record is returned all the same."""
    assert show_events(run(options), console(terminal=False), quiet=True).state == "done"
    assert capsys.readouterr() == ("", "")


@pytest.mark.parametrize("terminal", [True, False])
def test_a_build_alone_is_shown(terminal):
    """Its result is returned."""

    def events():
        yield Building(0.5, "timing \x1b[31m")
        return "engine"

    screen = console(terminal=terminal)

    assert show_building(events(), screen) == "engine"
    assert "\x1b[31m" not in screen.file.getvalue()


@pytest.mark.parametrize(("quiet", "shown"), [(False, True), (True, False)])
def test_what_is_logged_is_shown(capsys, quiet, shown):
    """By the engines and by the runners, while it is asked for."""
    with show_logs(console(terminal=False), quiet=quiet):
        logging.getLogger("engines.x").info("exporting")
        logging.getLogger("screen.runners.x").warning("not taken: no memory")
    logging.getLogger("engines.x").info("later")

    said = capsys.readouterr().err
    assert said == ("exporting\n" if shown else "") + "not taken: no memory\n"


@pytest.mark.parametrize(
    ("count", "words"), [(0, "0 slides"), (1, "1 slide"), (2000, "2,000 slides")]
)
def test_one_is_singular(count, words):
    """Nobody writes 1 slides."""
    assert counted(count, "slide") == words


def test_one_slide_of_one_cell_is_said_so(options, cells, tmp_path, capsys):
    """In the table's title and in the counts."""
    one = tmp_path / "one"
    one.mkdir()
    (one / "cell.bmp").write_bytes((cells / "first" / "plain.bmp").read_bytes())
    asked = RunOptions(source=one, out=tmp_path / "of-one", model=options.model)
    record = show_events(run(asked), console(terminal=False), quiet=True)

    print_summary(tmp_path / "of-one", record, ResultsFolder(tmp_path / "of-one").read_slides())

    said = capsys.readouterr().out
    assert said.split("\n")[0].strip() == "1 slide"
    assert "1 cell, 0 bad" in said
