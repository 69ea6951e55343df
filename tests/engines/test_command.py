"""How every command line ends."""

from __future__ import annotations

import click
import pytest

from engines.command import BUG, DONE, INTERRUPTED, MENDABLE, USAGE, run_command, say
from engines.errors import SourceError


def ended(raised, monkeypatch, **options):
    """Run a command that raises, or returns, something; return its exit status."""

    @click.command()
    def command():
        if isinstance(raised, BaseException):
            raise raised
        return raised

    monkeypatch.setattr("sys.argv", ["slidescreen"])
    with pytest.raises(SystemExit) as caught:
        run_command(command, "slidescreen", **options)
    return caught.value.code


@pytest.mark.parametrize(
    ("raised", "status"),
    [
        (None, DONE),
        (3, 3),
        (SourceError("no cells"), MENDABLE),
        (click.UsageError("no such option"), USAGE),
        (ZeroDivisionError(), BUG),
        (ModuleNotFoundError("x", name="x"), BUG),
        (KeyboardInterrupt(), INTERRUPTED),
    ],
)
def test_every_end_has_its_status(raised, status, monkeypatch):
    """A script can tell them apart."""
    assert ended(raised, monkeypatch) == status


def test_an_error_is_printed_with_its_hint(monkeypatch, capsys):
    """On stderr, a line each, with nothing that a terminal would obey."""
    ended(SourceError("no cells in \x1b[31m", hint="check the path"), monkeypatch)

    assert capsys.readouterr().err.splitlines() == [
        "Error: no cells in \\x1b[31m",
        "Hint: check the path",
    ]


def test_a_package_that_an_extra_brings_is_mendable(monkeypatch, capsys):
    """The hint is the command that installs it."""
    missing = ModuleNotFoundError("x", name="sklearn")

    assert ended(missing, monkeypatch, extra="train") == MENDABLE
    assert "pip install 'slidescreen[train]'" in capsys.readouterr().err


def test_what_is_said_goes_to_stderr(capsys):
    """Stdout is for results."""
    say("exporting")

    assert capsys.readouterr() == ("", "exporting\n")
