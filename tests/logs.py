"""What is logged, in a list."""

from __future__ import annotations

import logging
from contextlib import contextmanager


@contextmanager
def logged(name="engines", hear=None):
    """Collect the messages below a logger, from INFO on; *hear* is called with each."""
    lines = []
    handler = logging.Handler()

    def emit(record):
        lines.append(record.getMessage())
        if hear is not None:
            hear(lines[-1])

    handler.emit = emit
    log = logging.getLogger(name)
    level = log.level
    log.setLevel(logging.INFO)
    log.addHandler(handler)
    try:
        yield lines
    finally:
        log.removeHandler(handler)
        log.setLevel(level)
