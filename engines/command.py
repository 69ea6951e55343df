"""One ``main()`` and one set of exit codes for every command line; it prints every error."""

from __future__ import annotations

import json
import os
import signal
import sys
import threading
import traceback
from contextlib import contextmanager
from typing import TYPE_CHECKING, NoReturn

import click

from engines.errors import UserError
from engines.sources.names import printable

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

__all__ = [
    "BAD_CELLS",
    "BUG",
    "DONE",
    "INTERRUPTED",
    "MENDABLE",
    "USAGE",
    "ended_at_once",
    "run_command",
    "say",
    "silent_libraries",
]

DONE = 0
MENDABLE = 1  # a UserError: the person at the keyboard can mend it
USAGE = 2  # click's own, for options that make no sense
BAD_CELLS = 3  # asked for with --fail-on-bad
BUG = 70  # EX_SOFTWARE of sysexits.h
INTERRUPTED = 130  # 128 + SIGINT, as shells say it

SHOW_CURSOR = "\x1b[?25h"
INTERRUPTED_ADVICE = "Interrupted. What is finished is kept: the same command goes on from there."
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
        sys.stdout.flush()
    except click.ClickException as error:
        error.show()
        status = error.exit_code
        _print_json(error, status)
    except (KeyboardInterrupt, click.Abort):
        say(INTERRUPTED_ADVICE)
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
    """Turn what the user can mend into an error that says how: a missing package, a full stdout."""
    if isinstance(error, OSError) and _is_of_stdout(error):
        hint = "see to space, or write to another file"
        return UserError(f"cannot write to standard output: {error.strerror}", hint=hint)
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


def _is_of_stdout(error: OSError) -> bool:
    """Whether printing failed; what is left to print is thrown away, or Python would try again."""
    frames = [frame.f_code for frame, _ in traceback.walk_tb(error.__traceback__)]
    broken = click.echo.__code__ in frames
    try:
        sys.stdout.flush()
    except OSError:
        broken = True
    if broken:
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
    return broken


@contextmanager
def ended_at_once() -> Iterator[Callable[[], None]]:
    """
    Let Ctrl-C end the process there and then, until the function that is given is called.

    For the time in which packages are imported and models opened, and nothing has to be put in
    order: an exception raised there inside a package's native code can abort the process.
    """
    ours = threading.current_thread() is threading.main_thread()
    if not ours or signal.getsignal(signal.SIGINT) == signal.SIG_IGN:  # started in the background
        yield lambda: None
        return
    before = signal.signal(signal.SIGINT, _end)

    def put_back() -> None:
        signal.signal(signal.SIGINT, before)

    try:
        yield put_back
    finally:
        put_back()


def _end(_signal: int, _frame: object) -> None:
    """Say that the process was interrupted, and end it without taking anything down."""
    if sys.stderr.isatty():
        sys.stderr.write(SHOW_CURSOR)  # a progress bar hides it
    say(INTERRUPTED_ADVICE)
    sys.stderr.flush()
    os._exit(INTERRUPTED)


@contextmanager
def silent_libraries() -> Iterator[None]:
    """Keep off stderr what native libraries print (libtiff, libpng), not what we say."""
    try:
        ours = sys.stderr.fileno()
    except (AttributeError, OSError):  # it is no file: theirs is another
        yield
        return
    said = sys.stderr
    sys.stderr.flush()
    with os.fdopen(os.dup(ours), "w", encoding="utf-8", errors="backslashreplace") as kept:
        with open(os.devnull, "wb") as nothing:
            os.dup2(nothing.fileno(), ours)
        sys.stderr = kept
        try:
            yield
        finally:
            kept.flush()
            os.dup2(kept.fileno(), ours)
            sys.stderr = said
