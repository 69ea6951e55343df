"""Full disks, closed pipes, vanished folders, keyboards: everything around a run fails at times."""

from __future__ import annotations

import errno
import os
import shutil
import signal
import subprocess
import sys
import time
from dataclasses import replace
from itertools import count
from pathlib import Path

import pytest
from faults.conftest import rows

import screen
from engines.errors import ResultsError, UserError
from engines.mixed_precision.policy import Mixed, remember
from screen.report import ReportOptions, write_report
from screen.runners.events import ShardDone

MAIN = "from screen.cli.main import main; main()"
HEARD = "signal.signal(signal.SIGINT, signal.default_int_handler)\n"  # also in the background
posix = pytest.mark.skipif(os.name == "nt", reason="of POSIX systems")


def command(code, *arguments, **how):
    """Run Python in a process of its own."""
    return subprocess.run(
        [sys.executable, "-c", code, *map(str, arguments)],
        check=False,
        stderr=subprocess.PIPE,
        text=True,
        **how,
    )


@pytest.mark.skipif(not os.path.exists("/dev/full"), reason="there is no full device")
def test_a_full_stdout_is_an_error_to_mend(finished):
    """Not a traceback, also when Python flushes at its end."""
    results = finished()
    asked = {
        "verify": [results.path],
        "export": [results.path, "--to", "csv", "--out", "-"],
    }

    for name, arguments in asked.items():
        with open("/dev/full", "w") as full:
            ended = command(MAIN, name, *arguments, stdout=full)
        assert ended.returncode == 1, ended.stderr
        assert "Error: cannot write to standard output: No space left" in ended.stderr
        assert "Traceback" not in ended.stderr


@posix
def test_pipes_in_place_of_files_are_refused(options, finished):
    """Nobody writes to them: reading would wait for ever."""
    for name in ("run.json", "plan.parquet", "slides.parquet", "parts/slides.json"):
        results = finished()
        (results.path / name).unlink()
        os.mkfifo(results.path / name)

        with pytest.raises(ResultsError):
            write_report(ReportOptions(results=results.path))


def test_scratch_that_cannot_be_removed_is_said(options, monkeypatch):
    """Left by a killed run, and somebody else's now."""

    def refuse(_folder, _name):
        raise PermissionError(errno.EPERM, "Operation not permitted")

    monkeypatch.setattr("screen.results.folder.discard_scratch", refuse)

    with pytest.raises(ResultsError, match="cannot write .*: Operation not permitted"):
        list(screen.run(options))


def test_what_a_killed_report_left_is_removed(finished):
    """By the next report, and by the next run."""
    results = finished()
    left = results.path / ".report.html.01234567.scratch"
    left.write_text("half")

    write_report(ReportOptions(results=results.path))

    assert not left.exists()


def test_results_removed_while_it_runs_are_an_error_to_mend(options):
    """The folder is gone under its hands."""
    stream = screen.run(options)
    next(event for event in stream if isinstance(event, ShardDone))
    shutil.rmtree(options.out)

    with pytest.raises(ResultsError, match="cannot write"):
        list(stream)


def test_parts_that_are_gone_are_said_and_screened_again(kept, options, finished):
    """With a hint that is true: the run is there, and goes on."""
    shutil.rmtree(finished().cells)

    with pytest.raises(ResultsError, match="none of its parts") as caught:
        screen.open_results(options.out)
    list(screen.run(options))

    assert "give its slidescreen run again" in caught.value.hint
    assert rows(options) == rows(kept)


def test_two_runs_at_once_are_one(options):
    """The second is refused, and the first is not disturbed."""
    first = screen.run(options)
    next(first)

    with pytest.raises(ResultsError, match="another run is writing"):
        list(screen.run(options))
    list(first)

    assert len(rows(options)) == 11


@pytest.mark.skipif(not os.path.isdir("/proc/self"), reason="there is no read-only place")
def test_a_place_that_takes_no_files_is_said(options):
    """Whoever asks: the system refuses."""
    with pytest.raises(ResultsError, match="cannot write"):
        list(screen.run(replace(options, out="/proc/self/results")))


def test_a_cache_that_takes_no_files_costs_nothing_but_time(bundle, monkeypatch, caplog):
    """What was found out is used, and found out again next time."""
    monkeypatch.setenv("SLIDESCREEN_CACHE", "/proc/self/cache")
    found = Mixed(
        precision="bf16", overflowing={}, costly=(), peak=1.0, peak_module="x", cells=1,
        max_dp=0.0, flips=0, holds=True,
    )  # fmt: skip

    remember(bundle, found)

    assert "cannot keep" in caplog.text


def test_a_clock_that_stands_still_or_jumps_changes_no_row(kept, options, monkeypatch):
    """Times are for people; nothing is decided by them."""
    jumps = count(10**9, -3600)
    monkeypatch.setattr(time, "time", lambda: float(next(jumps)))
    monkeypatch.setattr(time, "perf_counter", lambda: 7.0)

    list(screen.run(options))

    assert rows(options) == rows(kept)


@posix
def test_an_early_interrupt_ends_at_once():
    """Before a run has started, nothing has to be put in order, and nothing may abort."""
    code = (
        f"import os, signal, sys; from engines.command import ended_at_once\n{HEARD}"
        "with ended_at_once():\n"
        "    os.kill(os.getpid(), signal.SIGINT)\n"
        "    print('went on')"
    )

    ended = command(code, stdout=subprocess.PIPE)

    assert (ended.returncode, ended.stdout) == (130, "")
    assert "Interrupted." in ended.stderr


@posix
def test_an_interrupt_after_the_start_unwinds():
    """Then files and locks are put in order."""
    code = (
        f"import os, signal, sys; from engines.command import ended_at_once\n{HEARD}"
        "with ended_at_once() as ready:\n"
        "    ready()\n"
        "    try: os.kill(os.getpid(), signal.SIGINT)\n"
        "    except KeyboardInterrupt: print('put in order')"
    )

    assert command(code, stdout=subprocess.PIPE).stdout == "put in order\n"


@posix
def test_a_process_in_the_background_stays_there():
    """A shell that starts one has it ignore Ctrl-C."""
    code = (
        "import os, signal; from engines.command import ended_at_once\n"
        "signal.signal(signal.SIGINT, signal.SIG_IGN)\n"
        "with ended_at_once() as ready:\n"
        "    os.kill(os.getpid(), signal.SIGINT); ready()\n"
        "    os.kill(os.getpid(), signal.SIGINT)\n"
        "print('went on')"
    )

    assert command(code, stdout=subprocess.PIPE).stdout == "went on\n"


def test_libraries_that_print_are_silent_and_we_are_not():
    """Libtiff and libpng write to the process's stderr themselves."""
    code = (
        "import os, sys; from engines.command import say, silent_libraries\n"
        "with silent_libraries():\n"
        "    os.write(2, b'TIFFReadDirectory: Warning\\n'); say('ours')\n"
        "os.write(2, b'after\\n')"
    )

    assert command(code).stderr.splitlines() == ["ours", "after"]


@pytest.mark.long
@posix
def test_interrupts_at_any_instant_are_no_abort(options, bundle, tmp_path):
    """Real processes, real signals: 130, 143 or done, never a traceback or a core."""
    asked = ["run", options.source, "--model", bundle.folder, "--decoder", "pillow"]
    for number in range(30):
        out = tmp_path / f"out{number}"
        process = subprocess.Popen(
            [sys.executable, "-c", MAIN, *map(str, asked), "--out", str(out)],
            stderr=subprocess.PIPE,
            stdout=subprocess.DEVNULL,
        )
        time.sleep(0.2 * number)
        process.send_signal(signal.SIGINT)
        said = process.communicate()[1].decode()
        assert process.returncode in (0, 130, -signal.SIGINT), said
        assert "Aborted" not in said


WRITES = [(Path, "write_bytes"), (Path, "write_text"), (Path, "replace"), (Path, "mkdir"),
          (os, "fsync")]  # fmt: skip


def failing(monkeypatch, at, code):
    """Let the write, sync or rename number *at* of this process fail; return the counter."""
    seen = [0]

    def spoilt(real, name):
        def call(*args, **kwargs):
            seen[0] += 1
            if seen[0] - 1 != at:
                return real(*args, **kwargs)
            if name == "write_bytes":
                real(args[0], args[1][: len(args[1]) // 2])
            raise OSError(code, os.strerror(code))

        return call

    for owner, name in WRITES:
        monkeypatch.setattr(owner, name, spoilt(getattr(owner, name), name))
    return seen


def test_an_error_at_any_write_is_said_and_mended_by_the_same_command(
    kept, options, how_many, monkeypatch
):
    """A full disk or a failing one, at each write, sync and rename in turn."""
    with monkeypatch.context() as patched:
        seen = failing(patched, -1, 0)
        list(screen.run(options))
    wanted = how_many(2, seen[0])

    for at in range(seen[0] // wanted // 2, seen[0], seen[0] // wanted):
        spoilt = replace(options, out=options.out.with_name(f"out{at}"))
        with monkeypatch.context() as patched:
            failing(patched, at, errno.ENOSPC if at % 2 else errno.EIO)
            with pytest.raises(UserError, match=r"cannot write|No space|Input/output"):
                list(screen.run(spoilt))

        list(screen.run(spoilt))

        assert rows(spoilt) == rows(kept), at
        assert not list(spoilt.out.rglob("*.scratch"))
