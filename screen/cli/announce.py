"""What the engines log while they work, handed to whoever shows it."""

from __future__ import annotations

import logging
from contextlib import contextmanager
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

__all__ = ["engines_announced"]


@contextmanager
def engines_announced(say: Callable[[str], None], *, quiet: bool = False) -> Iterator[None]:
    """Say so when a model is exported or an engine built, which takes a while, once."""
    handler = logging.Handler()
    handler.emit = lambda record: say(record.getMessage())  # type: ignore[method-assign]
    log = logging.getLogger("engines")
    log.setLevel(logging.WARNING if quiet else logging.INFO)
    log.addHandler(handler)
    try:
        yield
    finally:
        log.removeHandler(handler)
