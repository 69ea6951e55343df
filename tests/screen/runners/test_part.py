"""Runs that several processes share: the rows of one process, whoever begins, killed or not."""

from __future__ import annotations

import json
import multiprocessing
import os
import signal
from dataclasses import replace
from itertools import islice

import pytest
from click.testing import CliRunner

import screen
from engines.errors import ResultsError
from engines.locations import location
from screen.cli.main import cli
from screen.results.folder import ResultsFolder
from screen.results.worker_records import read_share_record
from screen.runners.events import PartDone, ShardDone, Started
from screen.runners.part import finish
from screen.share import Share


@pytest.fixture
def options(bundle, cells, tmp_path):
    """A run of the tiny bundle over eleven cells in shards of two: six shards."""
    return screen.RunOptions(
        source=cells,
        out=tmp_path / "results",
        model=bundle.folder,
        runtime="torch",
        shard_cells=2,
        threads=2,
    )


def part(options, number, of=3):
    """Ask for one part."""
    return replace(options, part=Share(number, of))


def rows(options):
    """Return every row of the results."""
    return screen.open_results(options.out).to_table().to_pylist()


def alone(options, tmp_path):
    """Return the rows of the same run in one process, and what it says of slides and counts."""
    whole = replace(options, out=tmp_path / "alone")
    list(screen.run(whole))
    folder = ResultsFolder(whole.out)
    return rows(whole), folder.read_slides(), folder.read_run().counts


@pytest.mark.parametrize("order", [(1, 2, 3), (3, 1, 2)])
def test_parts_make_the_rows_of_one_process(options, tmp_path, order):
    """Whichever begins; finish adds slides, duplicates and the last run.json."""
    expected = alone(options, tmp_path)

    for number in order:
        events = list(screen.run(part(options, number)))
        assert isinstance(events[-1], PartDone)
        assert sum(isinstance(event, ShardDone) for event in events) == 2
    record = finish(options.out)

    assert (rows(options), ResultsFolder(options.out).read_slides(), record.counts) == expected
    assert record.state == "done"
    assert [worker.name for worker in record.workers] == ["part 1/3", "part 2/3", "part 3/3"]
    assert sum(worker.cells for worker in record.workers) == 11
    assert sum(worker.bad for worker in record.workers) == record.counts.bad == 2
    assert all(worker.parity.verdict == "agrees" for worker in record.workers)


def test_a_part_knows_only_its_own_cells(options):
    """What it counts, and what it goes on with."""
    started = [event for event in screen.run(part(options, 3)) if isinstance(event, Started)]
    assert (started[0].cells, started[0].cells_done) == (3, 0)

    again = list(screen.run(part(options, 3)))
    assert (again[0].cells, again[0].cells_done) == (3, 3)
    assert isinstance(again[-1], PartDone)
    assert again[-1].worker.cells == 3


def begun_at_once(options, barrier):
    """Run a part whose start is held up until the others have come as far."""
    from screen.runners.start import Start

    proposed = Start.proposed

    def held_up(self):
        session = yield from proposed(self)
        barrier.wait(100)
        return session

    Start.proposed = held_up
    list(screen.run(options))


@pytest.mark.long
def test_parts_that_begin_at_once_agree_on_one_plan(options, tmp_path):
    """All of them list and check before any has written; one run.json and one plan come of it."""
    expected = alone(options, tmp_path)
    context = multiprocessing.get_context("spawn")
    barrier = context.Barrier(2)
    jobs = [
        context.Process(target=begun_at_once, args=(part(options, number, 2), barrier))
        for number in (1, 2)
    ]
    for job in jobs:
        job.start()
    for job in jobs:
        job.join(120)

    assert [job.exitcode for job in jobs] == [0, 0]
    assert finish(options.out).counts == expected[2]
    assert rows(options) == expected[0]


def killed_after(options, shards):
    """Run until so many shards are on disk, and then die as by the kernel's hand."""
    done = (event for event in screen.run(options) if isinstance(event, ShardDone))
    next(islice(done, shards - 1, None))
    os.kill(os.getpid(), signal.SIGKILL)


@pytest.mark.long
def test_a_killed_part_is_resumed(options, tmp_path):
    """By the same command; its first shard is not screened again."""
    expected = alone(options, tmp_path)
    context = multiprocessing.get_context("spawn")
    job = context.Process(target=killed_after, args=(part(options, 1, 2), 1))
    job.start()
    job.join(120)
    assert job.exitcode == -signal.SIGKILL
    list(screen.run(part(options, 2, 2)))

    with pytest.raises(ResultsError, match=r"of 6 shards 2 are missing, 1, 2") as caught:
        finish(options.out)
    assert caught.value.hint.endswith("run again --part 1/2")

    indices = [e.index for e in screen.run(part(options, 1, 2)) if isinstance(e, ShardDone)]
    assert indices == [1, 2]
    assert finish(options.out).counts == expected[2]
    assert rows(options) == expected[0]


def test_a_run_killed_between_run_json_and_plan_is_planned_by_the_next(options, tmp_path):
    """No part can be there without a plan, so nothing depends on the one that was never written."""
    expected = alone(options, tmp_path)
    list(screen.run(part(options, 1)))
    for path in [*options.out.glob("plan.parquet"), *options.out.glob("*/*")]:
        path.unlink()

    for number in (1, 2, 3):
        list(screen.run(part(options, number)))

    assert finish(options.out).counts == expected[2]
    assert rows(options) == expected[0]


def test_a_plan_that_is_lost_later_is_an_error(options):
    """Parts were written by it: another might name other cells."""
    list(screen.run(part(options, 1)))
    (options.out / "plan.parquet").unlink()

    with pytest.raises(ResultsError, match="plan.parquet"):
        list(screen.run(part(options, 2)))


def test_one_process_may_end_what_parts_began(options, tmp_path):
    """And the other way round: they are the same run."""
    expected = alone(options, tmp_path)
    list(screen.run(part(options, 2)))

    list(screen.run(options))

    assert rows(options) == expected[0]
    assert isinstance(list(screen.run(part(options, 1)))[-1], PartDone)


def test_a_part_of_another_run_is_refused(options):
    """The field that differs is named, as in one process."""
    list(screen.run(part(options, 1)))

    with pytest.raises(ResultsError, match="begun with coverage 0.95, not 0.9"):
        list(screen.run(replace(part(options, 2), coverage=0.9)))
    with pytest.raises(ResultsError, match="begun with decoder dali, not pillow"):
        list(screen.run(replace(part(options, 2), decoder="pillow")))


def test_more_parts_than_shards_are_no_error(options, tmp_path):
    """Some have nothing to do, and say so."""
    expected = alone(options, tmp_path)

    ends = [list(screen.run(part(options, number, 8)))[-1] for number in range(1, 9)]

    assert sorted(end.worker.cells for end in ends) == [0, 0, 1, 2, 2, 2, 2, 2]
    assert finish(options.out).counts == expected[2]
    assert rows(options) == expected[0]


def test_finish_without_a_run_or_with_another_model(options, three_classes, tmp_path):
    """Each says what to do."""
    with pytest.raises(ResultsError, match="holds no run"):
        finish(tmp_path)
    for number in (1, 2, 3):
        list(screen.run(part(options, number)))

    with pytest.raises(Exception, match="is not the one that this run began with"):
        finish(options.out, three_classes.folder)
    finish(options.out)
    again = finish(options.out)
    assert again == ResultsFolder(options.out).read_run()


def test_parts_in_a_bucket(options, bucket, tmp_path):
    """A conditional create is all that they ask of it."""
    expected = alone(options, tmp_path)
    there = replace(options, out=f"{bucket}/some/results")

    assert ResultsFolder(location(there.out)).read_run() is None
    list(screen.run(part(there, 2, 2)))
    record = ResultsFolder(location(there.out)).read_run()
    assert not ResultsFolder(location(there.out)).create_run(record)
    list(screen.run(part(there, 1, 2)))

    assert finish(location(there.out)).counts == expected[2]
    assert rows(there) == expected[0]


def test_on_the_command_line(options):
    """Run and finish, with the exit status of each, and the JSON that a job may read."""
    runner = CliRunner()
    base = ["run", str(options.source), "--out", str(options.out), "--model", str(options.model)]
    base += ["--shard-cells", "2", "--quiet", "--runtime", "torch"]

    done = runner.invoke(cli, [*base, "--part", "1/2", "--json"], standalone_mode=False)
    assert json.loads(done.output)["share"] == {"number": 1, "of": 2}
    early = runner.invoke(cli, ["finish", str(options.out)], standalone_mode=False)
    assert isinstance(early.exception, ResultsError)
    done = runner.invoke(cli, [*base, "--part", "2/2", "--fail-on-bad"], standalone_mode=False)
    bad = read_share_record(ResultsFolder(options.out), Share(2, 2)).worker.bad
    assert (done.return_value, bad) == (3, 1)
    ended = runner.invoke(cli, ["finish", str(options.out)], standalone_mode=False)

    assert ended.return_value == 0
    assert "11 cells, 2 bad" in ended.output
    assert (options.out / "report.html").exists()
    for wrong in (["--part", "3/2"], ["--part", "x"], ["--part", "1/2", "--restart"]):
        with pytest.raises(SystemExit) as caught:
            cli.main([*base, *wrong])
        assert caught.value.code == 2


@pytest.mark.parametrize("count", [0, 1, 5, 32, 33, 1000])
def test_shares_hold_every_shard_once(count):
    """And differ by one at most."""
    shares = [Share(number, 32).shards(count) for number in range(1, 33)]

    assert [index for share in shares for index in share] == list(range(count))
    assert max(map(len, shares)) - min(map(len, shares)) <= 1
