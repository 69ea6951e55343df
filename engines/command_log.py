"""Where a command line's log goes: warnings to stderr, all of it to a file if one is asked for."""

from __future__ import annotations

import logging
import time
from contextlib import ExitStack, contextmanager
from typing import TYPE_CHECKING

from engines.command import say
from engines.errors import SettingsError
from engines.sources.names import printable

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

__all__ = ["logged", "shown_log"]

LOGGERS = ("engines", "screen", "train")
ERRORS = "slidescreen"  # what stops a command: said on stderr by ``engines.command``, in a file too
FORMAT = "%(asctime)s %(levelname)s %(name)s: %(message)s"


class _Shown(logging.Handler):
    """Shows messages, each as a line in which nothing drives a terminal."""

    def __init__(self, level: int, show: Callable[[str], None]) -> None:
        """Give what is logged from *level* on to *show*."""
        super().__init__(level)
        self._show = show

    def emit(self, record: logging.LogRecord) -> None:
        """Show a message."""
        self._show(printable(record.getMessage()))


@contextmanager
def shown_log(name: str, level: int, show: Callable[[str], None] = say) -> Iterator[None]:
    """
    Show what is logged under *name* while the block runs, in place of what showed it before.

    Args:
        name: One of LOGGERS.
        level: From which level on.
        show: Is given each message as a line.
    """
    logger = logging.getLogger(name)
    outer = [handler for handler in logger.handlers if isinstance(handler, _Shown)]
    for each in outer:
        logger.removeHandler(each)
    try:
        with _handled(name, _Shown(level, show), level):
            yield
    finally:
        for each in outer:
            logger.addHandler(each)


@contextmanager
def logged(path: Path | None) -> Iterator[None]:
    """
    Show warnings on stderr while the block runs, and append all that is logged to a file.

    Args:
        path: The file; None for no file.

    Raises:
        SettingsError: If it cannot be written.
    """
    with ExitStack() as stack:
        for name in LOGGERS:
            stack.enter_context(shown_log(name, logging.WARNING))
        if path is not None:
            handler = stack.enter_context(_file_handler(path))
            for name in (*LOGGERS, ERRORS):
                stack.enter_context(_handled(name, handler, logging.INFO))
        yield


@contextmanager
def _file_handler(path: Path) -> Iterator[logging.Handler]:
    """Open a log file, times in UTC."""
    try:
        handler = logging.FileHandler(path, encoding="utf-8", errors="backslashreplace")
    except OSError as error:
        raise SettingsError(
            f"cannot write the log file {path}: {error.strerror}", hint="name another --log-file"
        ) from error
    formatter = logging.Formatter(FORMAT)
    formatter.converter = time.gmtime
    handler.setFormatter(formatter)
    try:
        yield handler
    finally:
        handler.close()


@contextmanager
def _handled(name: str, handler: logging.Handler, level: int) -> Iterator[None]:
    """Let a handler have what is logged under *name* from *level* on."""
    logger = logging.getLogger(name)
    before = logger.level
    logger.addHandler(handler)
    logger.setLevel(min(before or logging.WARNING, level))
    try:
        yield
    finally:
        logger.removeHandler(handler)
        logger.setLevel(before)
