"""What engines and runs log while they work, handed to whoever shows it."""

from __future__ import annotations

import logging
from contextlib import contextmanager
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

__all__ = ["engines_announced"]


@contextmanager
def engines_announced(say: Callable[[str], None], *, quiet: bool = False) -> Iterator[None]:
    """
    Say so when a model is exported or an engine built, which takes a while, once.

    Of runs, warnings alone: that a part is damaged and its cells are screened again, for one.
    """
    handler = logging.Handler()
    handler.emit = lambda record: say(record.getMessage())  # type: ignore[method-assign]
    levels = {"engines": logging.WARNING if quiet else logging.INFO, "screen": logging.WARNING}
    for name, level in levels.items():
        logging.getLogger(name).setLevel(level)
        logging.getLogger(name).addHandler(handler)
    try:
        yield
    finally:
        for name in levels:
            logging.getLogger(name).removeHandler(handler)
