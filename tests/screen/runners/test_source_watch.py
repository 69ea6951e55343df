"""A source that goes away stops the run; what could not be read may be tried again."""

from __future__ import annotations

import errno
from dataclasses import replace
from itertools import islice

import numpy as np
import pyarrow.parquet as pq
import pytest

import screen
from engines.cells import CellFacts, CellRef, Fault, Scores, Shard
from engines.errors import SourceError
from engines.locations import is_of_the_place
from engines.sources.folder import FolderSource
from screen.results.folder import ResultsFolder
from screen.runners.events import ShardDone
from screen.runners.source_watch import IN_A_ROW, in_a_row, watched


@pytest.fixture
def options(bundle, cells, tmp_path):
    """A run of the tiny bundle over eleven cells in shards of three."""
    return screen.RunOptions(
        source=cells,
        out=tmp_path / "results",
        model=bundle.folder,
        shard_cells=3,
        batch=1,
        threads=1,
        runtime="torch",
        precision="fp32",
        decoder="pillow",
    )


def rows(options):
    """Run to the end and return every row."""
    list(screen.run(options))
    return screen.open_results(options.out).to_table().to_pylist()


def test_a_source_that_goes_away_stops_the_run_and_costs_no_row(options, tmp_path, monkeypatch):
    """What is committed stays; once it is back, the run ends as if nothing had been."""
    expected = rows(replace(options, out=tmp_path / "straight"))
    away = tmp_path / "unmounted"
    read = FolderSource.read
    count = iter(range(100))

    def unplugged(self, ref):
        if options.source.exists() and next(count) == 11 + 7:  # the sample was read before
            options.source.rename(away)
            options.source.mkdir()
        return read(self, ref)

    monkeypatch.setattr(FolderSource, "read", unplugged)
    with pytest.raises(SourceError, match="seems to be gone") as raised:
        list(screen.run(options))
    options.source.rmdir()
    away.rename(options.source)

    assert "--allow-unreadable" in raised.value.hint
    assert ResultsFolder(options.out).read_run().state == "running"
    assert rows(options) == expected


def test_an_error_of_the_place_is_no_row(options, monkeypatch):
    """One cell that fails with "not connected" says that the others will, too."""
    read = FolderSource.read
    broken = iter([False] * 28 + [True] * 100)

    def disconnected(self, ref):
        if next(broken):
            raise OSError(errno.ENOTCONN, "Transport endpoint is not connected")
        return read(self, ref)

    monkeypatch.setattr(FolderSource, "read", disconnected)

    with pytest.raises(SourceError, match="not connected"):
        list(screen.run(options))
    parts = ResultsFolder(options.out).cells.iterdir()
    assert not any("unreadable" in pq.read_table(part)["status"].to_pylist() for part in parts)


def test_a_source_that_is_gone_for_good_can_be_rows(options, tmp_path):
    """Asked for by name."""
    stream = screen.run(replace(options, allow_unreadable=True))
    done = (event for event in stream if isinstance(event, ShardDone))
    next(islice(done, 0, None))
    for slide in options.source.iterdir():
        slide.rename(tmp_path / slide.name)
    list(done)

    found = screen.open_results(options.out).to_table().to_pylist()

    assert len(found) == 11
    assert found[-1]["status"] == "unreadable"


@pytest.mark.parametrize("finished", [True, False])
def test_cells_that_could_not_be_read_are_tried_again_when_asked(options, tmp_path, finished):
    """The rows are then those of a run in which they could be read; unasked, nothing changes."""
    expected = rows(replace(options, out=tmp_path / "straight"))
    cell, away = options.source / "first" / "plain.bmp", tmp_path / "away.bmp"
    stream = screen.run(options)
    next(stream)
    cell.rename(away)
    events = (event for event in stream if isinstance(event, ShardDone))
    list(events if finished else islice(events, 2))
    stream.close()
    away.rename(cell)

    unasked = rows(options)
    asked = rows(replace(options, retry_unreadable=True))

    assert [row["status"] for row in unasked].count("unreadable") == 1
    assert asked == expected
    assert ResultsFolder(options.out).read_run().counts.bad == len(
        [row for row in expected if row["status"] != "ok"]
    )


SHARD = Shard(0, tuple(CellRef(f"{n}.png", "s") for n in range(100)))


def batch(first, count, lost=(), status="unreadable", *, of_place=False):
    """Scores of some cells of the shard, of which some are lost."""
    refs = SHARD.refs[first : first + count]
    kept = tuple(ref for n, ref in enumerate(refs, first) if n not in lost)
    faults = tuple(
        Fault(ref, status, "gone", of_place=of_place)
        for n, ref in enumerate(refs, first)
        if n in lost
    )
    return Scores(
        shard=SHARD,
        refs=kept,
        facts=(CellFacts(),) * len(kept),
        faults=faults,
        logits=np.zeros((len(kept), 2), np.float32),
        features=np.zeros((len(kept), 4), np.float16),
        evidence=None,
    )


def test_cells_in_a_row_are_counted_over_batches():
    """From the last cell that could be read."""
    one, two = batch(0, 4, {1, 3}), batch(4, 2, {4, 5})

    first = in_a_row(7, one, one.faults)
    second = in_a_row(first, two, two.faults)

    assert (first, second) == (1, 3)
    assert in_a_row(3, batch(6, 2), ()) == 0


def test_a_bulk_of_cells_that_cannot_be_read_stops_the_run():
    """Thirty-two in a row, whatever the error."""
    stream = watched((batch(n, 4, range(n, n + 4)) for n in range(0, 100, 4)), None, None)

    handed_on = []
    with pytest.raises(SourceError, match=f"{IN_A_ROW} cells in a row cannot be read"):
        handed_on.extend(stream)
    assert len(handed_on) == IN_A_ROW // 4 - 1


def test_cells_that_cannot_be_decoded_stop_nothing():
    """Damage is of the file, however much of it there is."""
    batches = [batch(n, 4, range(n, n + 4), "undecodable") for n in range(0, 100, 4)]

    assert list(watched(batches, None, None)) == batches


@pytest.mark.parametrize("name", ["ENOTCONN", "ESTALE", "ENODEV", "ETIMEDOUT", "EMFILE"])
def test_errors_of_the_place_are_told_from_those_of_a_file(name):
    """A stale handle is the server's; a missing file, one without permission, the file's own."""
    assert is_of_the_place(OSError(getattr(errno, name), "x"))
    assert is_of_the_place(ConnectionResetError())
    for own in ("ENOENT", "EACCES", "EIO", "EISDIR"):
        assert not is_of_the_place(OSError(getattr(errno, own), "x"))
