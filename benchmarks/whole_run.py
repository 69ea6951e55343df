"""``slidescreen run`` as a user starts it: a process of its own."""

from __future__ import annotations

import subprocess
import sys
import time
from dataclasses import dataclass
from typing import TYPE_CHECKING

from material import REPOSITORY

from screen.results.folder import ResultsFolder

if TYPE_CHECKING:
    from pathlib import Path

    from screen.results.run_record import RunRecord

__all__ = ["WholeRun", "run_command", "slidescreen"]


@dataclass(frozen=True, slots=True)
class WholeRun:
    """Seconds from start to exit, and the run.json it left."""

    seconds: float
    record: RunRecord


def run_command(source: Path, out: Path) -> list[str]:
    """Return the command line; in Python's words, so that this environment's copy runs."""
    command = [sys.executable, "-m", "screen.cli", "run", str(source), "--out", str(out)]
    return [*command, "--quiet"]


def slidescreen(source: Path, out: Path) -> WholeRun:
    """Screen *source* into *out*, which must not exist yet."""
    start = time.perf_counter()
    subprocess.run(run_command(source, out), check=True, cwd=REPOSITORY)
    seconds = time.perf_counter() - start
    record = ResultsFolder(out).read_run()
    assert record is not None
    return WholeRun(seconds, record)
