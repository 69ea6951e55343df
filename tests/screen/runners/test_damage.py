"""Results that were damaged, and runs killed between a table and its record."""

from __future__ import annotations

import json
import multiprocessing
import os
import shutil
import signal

import pyarrow.parquet as pq
import pytest

import screen
from engines import files
from engines.errors import ResultsError
from screen.report import ReportOptions, write_report
from screen.results.folder import ResultsFolder
from screen.runners.events import ShardDone


@pytest.fixture
def options(bundle, cells, tmp_path):
    """A run of the tiny bundle over eleven cells in shards of three."""
    return screen.RunOptions(
        source=cells, out=tmp_path / "results", model=bundle.folder, shard_cells=3, threads=2
    )


def ran(options):
    """Run to the end and return every table."""
    list(screen.run(options))
    results = ResultsFolder(options.out)
    cells = screen.open_results(options.out).to_table()
    return cells, *(pq.read_table(path) for path in (results.slides, results.duplicates))


def flipped(results):
    """Change one bit in the middle of a part."""
    whole = bytearray(results.part(1).read_bytes())
    whole[len(whole) // 2] ^= 4
    results.part(1).write_bytes(bytes(whole))


def swapped(results):
    """Copy a part over another: three cells lost, three doubled."""
    shutil.copy(results.part(0), results.part(1))


def gone(results):
    """Remove a part."""
    results.part(1).unlink()


def unrecorded(results):
    """Remove all records."""
    shutil.rmtree(results.records)


@pytest.mark.parametrize("damage", [flipped, swapped, gone, unrecorded])
def test_a_damaged_part_is_refused_and_screened_again(options, damage, caplog):
    """The report refuses it; the same command mends it, says so, and all rows are as before."""
    before = ran(options)
    results = ResultsFolder(options.out)
    damage(results)

    with pytest.raises(ResultsError) as caught:
        write_report(ReportOptions(results=options.out))
    after = ran(options)

    assert "run the same command again" in caught.value.hint
    assert all(one.equals(other) for one, other in zip(before, after, strict=True))
    assert "part-0000" in caplog.text
    assert write_report(ReportOptions(results=options.out)).size


def test_damage_while_it_runs_stops_the_end(options):
    """No slides are made of what is not what was written."""
    stream = screen.run(options)
    next(event for event in stream if isinstance(event, ShardDone))
    flipped_part = ResultsFolder(options.out).part(0)
    whole = bytearray(flipped_part.read_bytes())
    whole[len(whole) // 2] ^= 4
    flipped_part.write_bytes(bytes(whole))

    with pytest.raises(ResultsError, match="part-00000"):
        list(stream)

    assert json.loads((options.out / "run.json").read_text())["state"] == "running"


def test_restart_works_on_a_damaged_folder(options):
    """A part cut off beyond recognition, a run.json cut off."""
    before = ran(options)
    results = ResultsFolder(options.out)
    for path in (results.part(1), results.slides, results.run_json):
        path.write_bytes(path.read_bytes()[:-40])
    from dataclasses import replace

    after = ran(replace(options, restart=True))

    assert all(one.equals(other) for one, other in zip(before, after, strict=True))


def _killed_after(options, name):
    """Run, and be killed the moment the file *name* has its name."""
    sync = files._sync_folder

    def kill(folder):
        sync(folder)
        if (folder / name).exists():
            os.kill(os.getpid(), signal.SIGKILL)

    files._sync_folder = kill
    list(screen.run(options))


@pytest.mark.parametrize("name", ["part-00001.parquet", "part-00001.json", "slides.parquet"])
def test_killed_between_a_table_and_its_record(options, name, tmp_path):
    """Then resumed: equal to an undisturbed run, row for row."""
    from dataclasses import replace

    expected = ran(replace(options, out=tmp_path / "straight"))
    process = multiprocessing.get_context("spawn").Process(
        target=_killed_after, args=(options, name)
    )
    process.start()
    process.join()
    results = ResultsFolder(options.out)

    assert process.exitcode == -signal.SIGKILL
    assert (results.records / name).exists() or list(options.out.rglob(name))
    assert json.loads(results.run_json.read_text())["state"] == "running"
    found = ran(options)

    assert all(one.equals(other) for one, other in zip(expected, found, strict=True))
