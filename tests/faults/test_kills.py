"""Real processes killed at any instant: the same command goes on, to the same rows."""

from __future__ import annotations

import os
import random
import shutil
import signal
import subprocess
import sys
import time
from dataclasses import replace

import pytest
from faults.conftest import only_user_errors, rows

import screen
from screen.results.folder import ResultsFolder
from screen.results.verify import verify

pytestmark = pytest.mark.skipif(os.name == "nt", reason="of POSIX systems")

MAIN = "from screen.cli.main import main; main()"


def started(options):
    """Start a process that makes the run."""
    asked = [
        "run", options.source, "--out", options.out, "--model", options.model, "--decoder",
        "pillow", "--runtime", "torch", "--precision", "fp32", "--threads", 1, "--shard-cells", 3,
    ]  # fmt: skip
    quiet = {"stdout": subprocess.DEVNULL, "stderr": subprocess.DEVNULL}
    return subprocess.Popen([sys.executable, "-c", MAIN, *map(str, asked)], **quiet)


def killed(options, after, number):
    """Kill the process so many seconds after its results folder appeared, or at its end."""
    process = started(options)
    while process.poll() is None and not options.out.exists():
        time.sleep(0.005)
    time.sleep(after)
    process.send_signal(number)
    return process.wait()


def length(options):
    """Return how long a run takes from where its results folder appears to its end, in seconds."""
    process = started(options)
    while process.poll() is None and not options.out.exists():
        time.sleep(0.005)
    start = time.monotonic()
    assert process.wait() == 0
    return time.monotonic() - start


def test_a_killed_run_ends_with_the_rows_of_one_that_was_not(kept, options, how_many):
    """By SIGKILL or SIGTERM; also when it is killed again while it goes on."""
    rng = random.Random(0)
    kills = how_many(1, 100)
    longest = 1 if kills == 1 else length(replace(options, out=options.out.with_name("timed")))
    for number in range(kills):
        asked = replace(options, out=options.out.with_name(f"out{number}"))
        for _ in range(1 + number % 2):
            killed(asked, rng.uniform(0, longest), rng.choice([signal.SIGKILL, signal.SIGTERM]))

        list(screen.run(asked))

        assert rows(asked) == rows(kept), number
        assert not any(found.fault for found in verify(ResultsFolder(asked.out)))
        assert not list(asked.out.rglob("*.scratch"))


@pytest.mark.long
def test_the_source_or_the_results_taken_away_is_said(kept, options, tmp_path):
    """While a process writes; then put back, the same command ends with the same rows."""
    source = shutil.copytree(options.source, tmp_path / "source")
    asked = replace(options, source=source)
    for taken in (source, asked.out):
        process = started(asked)
        while process.poll() is None and not (asked.out / "cells").exists():
            time.sleep(0.005)
        taken.rename(tmp_path / "away")
        assert process.wait() in (0, 1)
        shutil.rmtree(taken, ignore_errors=True)
        (tmp_path / "away").rename(taken)

        only_user_errors(lambda: list(screen.run(replace(asked, retry_unreadable=True))))

        assert rows(asked) == rows(kept)
        shutil.rmtree(asked.out)
