"""One ``main()`` and one set of exit codes for every command line; it prints every error."""

from __future__ import annotations

import json
import sys
import traceback
from typing import NoReturn

import click

from engines.errors import UserError
from engines.sources.names import printable

__all__ = [
    "BAD_CELLS",
    "BUG",
    "DONE",
    "INTERRUPTED",
    "MENDABLE",
    "USAGE",
    "run_command",
    "say",
]

DONE = 0
MENDABLE = 1  # a UserError: the person at the keyboard can mend it
USAGE = 2  # click's own, for options that make no sense
BAD_CELLS = 3  # asked for with --fail-on-bad
BUG = 70  # EX_SOFTWARE of sysexits.h
INTERRUPTED = 130  # 128 + SIGINT, as shells say it

BUG_ADVICE = (
    "This is a bug of slidescreen. Please report it on the project's issue tracker, with the text "
    "above, the output of `slidescreen doctor`, and run.json if there is one."
)


def run_command(command: click.Command, name: str, *, extra: str | None = None) -> NoReturn:
    """
    Run a command line and exit with its status; every error is printed here.

    Args:
        command: What it does; a number that it returns is the status.
        name: What the user typed.
        extra: The optional part of slidescreen that brings the packages this command line needs;
            with none, a missing package is a bug.
    """
    try:
        status = command.main(prog_name=name, standalone_mode=False) or DONE
    except click.ClickException as error:
        error.show()
        status = error.exit_code
        _print_json(error, status)
    except (KeyboardInterrupt, click.Abort):
        say("Interrupted. What is finished is kept: the same command goes on from there.")
        status = INTERRUPTED
    except Exception as error:
        error = _with_remedy(error, extra)
        status = _status_of(error)
        _print_json(error, status)
    sys.exit(status)


def say(line: str) -> None:
    """Print a line for the person, on stderr; what is not printable is escaped."""
    click.echo(printable(line), err=True)


def _with_remedy(error: Exception, extra: str | None) -> Exception:
    """Turn a package that is missing into what the user can mend, if an extra brings it."""
    if not isinstance(error, ModuleNotFoundError) or extra is None:
        return error
    hint = f"pip install 'slidescreen[{extra}]'"
    return UserError(f"the package {error.name} is missing", hint=hint)


def _status_of(error: Exception) -> int:
    """Print an error, with what to do about it, and return the exit status."""
    if not isinstance(error, UserError):
        traceback.print_exception(error)
        say(BUG_ADVICE)
        return BUG
    say(f"Error: {error}")
    if error.hint:
        say(f"Hint: {error.hint}")
    return MENDABLE


def _print_json(error: Exception, status: int) -> None:
    """Print an error on stdout as one JSON object where ``--json`` is on the command line."""
    if "--json" not in sys.argv[1:]:
        return
    message = error.format_message() if isinstance(error, click.ClickException) else str(error)
    told = {
        "type": type(error).__name__,
        "message": message,
        "hint": getattr(error, "hint", ""),
        "status": status,
    }
    click.echo(json.dumps({"error": told}, ensure_ascii=False))
