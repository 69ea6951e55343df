"""The laws, over whole runs on drawn cells."""

from __future__ import annotations

import json
import multiprocessing
import os
import shutil
import signal
import subprocess
import sys
import time
from itertools import islice

import pyarrow.parquet as pq
import pytest
import torch
import zoo

import screen
from engines import parity
from engines.errors import (
    BackendMissingError,
    BundleError,
    ParityError,
    ResultsError,
    SourceError,
)
from engines.registry import Obstacle
from engines.sources.folder import FolderSource
from screen.results.folder import ResultsFolder
from screen.results.schema import FINGERPRINT_KEY
from screen.runners.events import BatchScored, Finished, ShardDone, Started

MANY = 40


@pytest.fixture
def options(bundle, cells, tmp_path, worker_pool):
    """A run of the tiny bundle over eleven cells in shards of three, in this process."""
    return screen.RunOptions(
        source=cells,
        out=tmp_path / "results",
        model=bundle.folder,
        shard_cells=3,
        threads=2,
        decode_workers=0,
    )


def changed(options, **changes):
    """Ask for something else."""
    from dataclasses import replace

    return replace(options, **changes)


def ran(options):
    """Run to the end and return the rows."""
    list(screen.run(options))
    return rows(options)


def ran_until(options, shards):
    """Leave a run once so many shards are on disk; none: before the first."""
    stream = screen.run(options)
    done = (event for event in stream if isinstance(event, ShardDone))
    if shards:
        next(islice(done, shards - 1, None), None)
    else:
        next(stream)
    stream.close()


def rows(options):
    """Return every row of the results."""
    return screen.open_results(options.out).to_table().to_pylist()


def run_json(options):
    """Return run.json."""
    return json.loads((options.out / "run.json").read_text())


@pytest.mark.parametrize(
    ("decoder", "runtime", "workers"),
    [
        ("dali", "openvino", 0),
        ("dali", "openvino", 1),
        ("dali", "torch", 0),
        ("pillow", "openvino", 1),
        ("pillow", "torch", 0),
    ],
)
def test_conservation(options, decoder, runtime, workers):
    """Every cell of the source is exactly one row, once, under its own path."""
    asked = changed(options, decoder=decoder, runtime=runtime, decode_workers=workers)
    try:
        found = ran(asked)
    except BackendMissingError as error:
        pytest.skip(str(error))

    source = sorted(str(path.relative_to(options.source)) for path in options.source.rglob("*.*"))
    assert [row["path"] for row in found] == source
    assert {row["path"] for row in found if row["status"] != "ok"} == {
        "first/empty.jpg",
        "second/flipped.png",
    }


@pytest.mark.parametrize("workers", [0, 1])
def test_a_bad_file_changes_no_neighbour(options, tmp_path, workers):
    """Without the bad files, every other row is the same, bit for bit."""
    options = changed(options, decode_workers=workers)
    with_bad = ran(options)
    clean = shutil.copytree(options.source, tmp_path / "clean")
    for name in ("first/empty.jpg", "second/flipped.png"):
        (clean / name).unlink()

    without = ran(changed(options, source=clean, out=tmp_path / "clean-results"))

    assert without == [row for row in with_bad if row["status"] == "ok"]


@pytest.mark.parametrize(("stop", "workers"), [(0, 0), (1, 1), (2, 0), (3, 1), (4, 0)])
def test_resuming_equals_never_stopping(options, tmp_path, stop, workers):
    """Left after any shard, the second run completes the same table and slides."""
    options = changed(options, decode_workers=workers)
    straight = changed(options, out=tmp_path / "straight")
    expected = ran(straight)

    ran_until(options, stop)

    assert ran(options) == expected
    for name in ("slides.parquet", "duplicates.parquet"):
        assert pq.read_table(options.out / name).equals(pq.read_table(straight.out / name))
    assert run_json(options)["drift"] == run_json(straight)["drift"]


def _run_forever(options):
    """Run in a process of its own, to be killed."""
    list(screen.run(options))


@pytest.mark.parametrize(("parts", "workers"), [(1, 1), (4, 0)])
def test_killed_anywhere_and_run_again_is_never_killed(options, tmp_path, parts, workers):
    """SIGKILL in mid-run, then resumed: equal to an undisturbed run, row for row."""
    options = changed(options, decode_workers=workers)
    for number in range(MANY):
        shutil.copy(options.source / "first" / "plain.bmp", options.source / f"more{number}.bmp")
    expected = ran(changed(options, out=tmp_path / "straight"))
    process = multiprocessing.get_context("spawn").Process(target=_run_forever, args=(options,))
    process.start()
    while process.is_alive() and len(list(options.out.glob("cells/part-*"))) < parts:
        time.sleep(0.001)
    os.kill(process.pid, signal.SIGKILL)
    process.join()

    assert run_json(options)["state"] == "running"
    assert ran(options) == expected
    assert run_json(options)["state"] == "done"
    assert not list(options.out.rglob("*.scratch"))


def test_killed_before_run_json_begins_anew(options):
    """A plan of ours without a run.json is what such a kill leaves."""
    expected = ran(options)
    shutil.rmtree(options.out / "cells")
    (options.out / "run.json").unlink()
    (options.out / "slides.parquet").unlink()
    (options.out / "duplicates.parquet").unlink()

    assert ran(options) == expected


def test_a_file_that_vanished_since_is_its_own_row(options):
    """A resumed run reads the plan and never lists the source again."""
    ran_until(options, 1)
    (options.source / "second" / "lzw.tif").unlink()
    (options.source / "second" / "new.bmp").write_bytes(zoo.good()["plain.bmp"])

    finished = list(screen.run(options))[-1]

    found = {row["path"]: row for row in rows(options)}
    assert len(found) == 11
    assert str(finished.changes) == "1 new, 1 gone"
    assert found["second/lzw.tif"]["status"] == "unreadable"
    assert found["second/lzw.tif"]["content_hash"] is None


@pytest.mark.skipif(os.name == "nt", reason="no such permissions")
def test_a_file_without_permission_is_its_own_row(options):
    """As another user, a cell that may not be read is unreadable, and nothing else is."""
    closed = options.source / "first" / "plain.bmp"
    closed.chmod(0)
    code = (
        "import os, sys; sys.path.insert(0, os.getcwd());"
        "from pathlib import Path; from engines.cells import CellRef;"
        "from engines.sources import open_source;"
        "source = open_source(Path(sys.argv[1])); paths = list(source.list());"
        "os.setuid(65534) if os.getuid() == 0 else None\n"
        "try: source.read(CellRef('first/plain.bmp', ''))\n"
        "except OSError as error: print(len(paths), error.strerror)"
    )
    for folder in (options.source, *options.source.parents):
        if folder.stat().st_uid == os.getuid() and "pytest" in str(folder):
            folder.chmod(0o755)

    said = subprocess.run(
        [sys.executable, "-c", code, options.source], capture_output=True, text=True, check=True
    )

    assert said.stdout.strip() == "11 Permission denied"


@pytest.mark.parametrize("batch", [1, 3, 16])
def test_any_batch_gives_the_same_labels(options, batch):
    """A batch changes how, not what."""
    found = ran(changed(options, batch=batch, out=options.out / str(batch)))
    usual = ran(options)

    assert [row["predicted"] for row in found] == [row["predicted"] for row in usual]


def test_a_header_with_absurd_sizes_is_a_row(options):
    """Whatever a header claims fits the tables."""
    (options.source / "first" / "wide.bmp").write_bytes(zoo.wide_bmp())

    found = {row["path"]: row for row in ran(changed(options, decoder="pillow"))}

    assert found["first/wide.bmp"]["status"] != "ok"


@pytest.mark.parametrize("name", ["decoder", "runtime"])
def test_an_unknown_name_runs_nothing(options, name):
    """Nothing else is run in its place."""
    with pytest.raises(BackendMissingError, match="there is no"):
        ran(changed(options, **{name: "tensorrt"}))


def test_a_restart_that_cannot_begin_discards_nothing(options):
    """What was there stays until what replaces it is checked."""
    before = ran(options)

    with pytest.raises(BackendMissingError):
        ran(changed(options, restart=True, runtime="torch", precision="bf16"))

    assert rows(options) == before


def test_what_was_not_measured_is_measured_on_resume(options, monkeypatch):
    """A start without a decodable cell gives no verdict to rely on."""
    with monkeypatch.context() as broken:
        broken.setattr(FolderSource, "read", _unreachable)
        ran_until(options, 1)
    assert run_json(options)["parity"]["verdict"] == "not measured"

    ran(options)

    assert run_json(options)["parity"]["verdict"] == "agrees"


def _unreachable(*_):
    """Fail as a lost network folder does."""
    raise OSError(5, "Input/output error")


def test_a_full_disk_is_a_mendable_error(options, monkeypatch):
    """It is no bug; once there is space, the same command goes on."""
    expected = ran(changed(options, out=options.out.with_name("straight")))
    stream = screen.run(options)
    next(event for event in stream if isinstance(event, ShardDone))
    with monkeypatch.context() as full:
        full.setattr("os.fsync", _full)
        with pytest.raises(ResultsError, match="No space left"):
            list(stream)

    assert ran(options) == expected


def _full(_):
    """Fail as a full disk does."""
    raise OSError(28, "No space left on device")


@pytest.mark.parametrize("name", ["a:b", "s3:x", "\u7ec6 \u80de"])
def test_results_may_be_called_anything(options, name):
    """A colon in a name is no address."""
    assert len(ran(changed(options, out=options.out / name))) == 11


def test_another_programs_run_json_is_left_alone(options):
    """Even with --restart."""
    options.out.mkdir()
    (options.out / "run.json").write_text('{"format": 1}')

    for restart in (False, True):
        with pytest.raises(ResultsError, match="was not written by"):
            ran(changed(options, restart=restart))
    assert (options.out / "run.json").exists()


def test_pixels_that_miss_by_auto_fall_back_to_the_reference(options, monkeypatch):
    """The decoder gives way to Pillow, with the measurement as the reason."""
    monkeypatch.setattr(parity, "PIXEL_MEAN_LIMIT", 1e-9)
    ran(options)
    chosen = run_json(options)["choices"]["decoder"]
    if "fell back" not in chosen["reason"]:
        pytest.skip("no other decoder is installed")

    assert chosen["value"] == "pillow"


CHANGES = {
    "shard_cells": 4,
    "max_pixels": 10**6,
    "slide": screen.SlideRule("cnmc"),
    "decoder": "pillow",
    "runtime": "torch",
    "batch": 5,
    "coverage": 0.9,
    "exclude": ("*.tif",),
}


@pytest.mark.parametrize("name", CHANGES)
def test_another_fingerprint_is_refused_by_the_field_that_differs(options, name):
    """The results are untouched, and the hint offers --restart."""
    before = ran(options)
    field = {"slide": "slide_rule", "exclude": "selection"}.get(name, name)

    with pytest.raises(ResultsError, match=field) as caught:
        list(screen.run(changed(options, **{name: CHANGES[name]})))

    assert "--restart" in caught.value.hint
    assert rows(options) == before


def test_another_model_is_refused(options, three_classes):
    """Rows of two models never share a table."""
    ran(options)

    with pytest.raises(ResultsError, match="bundle"):
        list(screen.run(changed(options, model=three_classes.folder)))


def test_another_source_is_refused(options, tmp_path):
    """Nor do cells of two folders, even if they are called the same."""
    ran(options)
    other = shutil.copytree(options.source, tmp_path / "other")
    for path in other.rglob("*.*"):
        path.write_bytes(path.read_bytes() + b"more")

    with pytest.raises(ResultsError, match="another source") as caught:
        list(screen.run(changed(options, source=other)))
    assert str(options.source) in caught.value.hint


def test_a_source_that_was_moved_goes_on(options, tmp_path):
    """Where the same cells lie does not matter: a folder mounted elsewhere is the same run."""
    expected = ran(changed(options, out=tmp_path / "straight"))
    stream = screen.run(options)
    next(stream)
    stream.close()
    moved = changed(options, source=options.source.rename(tmp_path / "moved"))

    assert ran(moved) == expected
    assert run_json(moved)["source"]["locations"] == [str(moved.source)]


def test_a_source_that_is_not_there_any_more_costs_no_rows(options, tmp_path):
    """An empty mount point is another source: nothing becomes unreadable by mistake."""
    stream = screen.run(options)
    next(stream)
    stream.close()
    options.source.rename(tmp_path / "unmounted")
    options.source.mkdir()

    with pytest.raises(ResultsError, match="11 are not there"):
        ran(options)


def test_threads_may_change_on_resume(options):
    """What cannot change a row does not stop a resume."""
    before = ran(options)

    assert ran(changed(options, threads=1)) == before


def test_restart_discards_the_earlier_run(options):
    """And only that."""
    ran(options)
    (options.out / "notes.txt").write_text("mine")

    ran(changed(options, batch=5, restart=True))

    assert run_json(options)["choices"]["batch"]["value"] == 5
    assert (options.out / "notes.txt").read_text() == "mine"


def test_restart_leaves_a_file_that_is_not_ours(options):
    """A table without our mark stops the restart before anything is removed."""
    before = ran(options)
    foreign = options.out / "cells" / "part-99999.parquet"
    pq.write_table(
        pq.read_table(options.out / "plan.parquet").replace_schema_metadata(None), foreign
    )

    with pytest.raises(ResultsError, match="left alone"):
        list(screen.run(changed(options, restart=True)))

    foreign.unlink()
    assert rows(options) == before


def test_a_stranger_among_the_parts_is_refused(options):
    """A part of another run would be rows that nobody screened."""
    ran(options)
    shutil.copy(
        options.out / "cells" / "part-00000.parquet", options.out / "cells" / "copy.parquet"
    )

    with pytest.raises(ResultsError, match="not a part of this run"):
        list(screen.run(options))


def test_tables_without_a_run_are_left_alone(options):
    """A folder that holds somebody's tables is not written into."""
    ran(options)
    (options.out / "run.json").unlink()

    with pytest.raises(ResultsError, match="no run.json"):
        list(screen.run(options))


def test_every_table_carries_the_fingerprint(options):
    """Plan, parts, duplicates and slides."""
    ran(options)
    digest = run_json(options)["fingerprint"]["digest"].encode()

    tables = list(options.out.rglob("*.parquet"))

    assert len(tables) == 7
    assert all(pq.read_schema(path).metadata[FINGERPRINT_KEY] == digest for path in tables)


def test_two_runs_never_write_to_one_folder(options):
    """The second is refused while the first holds the lock."""
    with (
        ResultsFolder(options.out).locked(),
        pytest.raises(ResultsError, match="another run is writing"),
    ):
        list(screen.run(options))


def test_the_lock_goes_with_the_run(options):
    """Ended, failed or left early: the folder is free at once, in the same process too."""
    held = ResultsFolder(options.out)
    for _ in range(2):
        with held.locked():
            pass
    with pytest.raises(ZeroDivisionError), held.locked():
        raise ZeroDivisionError
    keep = [held.locked() for _ in range(2)]

    for lock in keep:
        with lock:
            pass


def test_a_source_of_nothing_but_bad_cells_has_rows_and_no_parity(options):
    """Parity is not measured, and says so."""
    for path in options.source.rglob("*.*"):
        path.write_bytes(b"nothing")

    found = ran(options)

    assert {row["status"] for row in found} == {"undecodable"}
    assert run_json(options)["parity"]["verdict"] == "not measured"


def test_run_json_says_what_ran(options):
    """Choices with reasons, parity, versions, rates, counts."""
    ran(options)

    record = run_json(options)

    assert (
        record["counts"]["cells"] == 11 == record["counts"]["ok"] + record["counts"]["undecodable"]
    )
    assert all(choice["reason"] for choice in record["choices"].values())
    assert record["choices"]["shard_cells"] == {"value": 3, "reason": "asked for"}
    assert record["parity"]["scores"]["max_dp"] <= 0.05
    assert all(record["rates"][name] > 0 for name in ("decode", "runtime", "end_to_end"))
    assert sum(record["decoded_by"].values()) == 9
    assert record["choices"]["decoder"]["value"] == "dali"
    # BMP as raw bytes; JPEG and PNG by DALI; Exif, WebP and TIFF by the reference.
    assert record["decoded_by"] == {"dali": 3, "pillow": 3, "raw-bmp": 3}


def test_a_precision_that_misses_by_auto_falls_back_and_says_so(options, monkeypatch):
    """bf16 gives way to float32, with the measurement as the reason."""
    monkeypatch.setitem(parity.DP_LIMIT, "bf16", 0.0)
    ran(options)
    chosen = run_json(options)["choices"]["precision"]
    if "fell back" not in chosen["reason"]:
        pytest.skip("this processor has no bf16")

    assert chosen["value"] == "fp32"
    assert "bf16: largest difference" in chosen["reason"]


def test_a_resume_keeps_the_precision_it_fell_back_to(options, monkeypatch):
    """On resume, auto means: as this run began."""
    monkeypatch.setitem(parity.DP_LIMIT, "bf16", 0.0)
    ran_until(options, 1)
    monkeypatch.undo()

    ran(options)

    assert run_json(options)["choices"]["precision"]["value"] == "fp32"


def test_a_precision_asked_for_that_misses_stops(options, monkeypatch):
    """No silent second best; nothing is written."""
    monkeypatch.setitem(parity.DP_LIMIT, "bf16", 0.0)

    with pytest.raises((ParityError, BackendMissingError)):
        ran(changed(options, precision="bf16"))

    assert not (options.out / "run.json").exists()


def test_float32_that_misses_stops(options, monkeypatch):
    """There is nothing left to fall back to."""
    monkeypatch.setitem(parity.DP_LIMIT, "bf16", 0.0)
    monkeypatch.setitem(parity.DP_LIMIT, "fp32", -1.0)

    with pytest.raises(ParityError, match="disagrees with PyTorch"):
        ran(options)


def test_pixels_that_are_not_the_references_stop(options, monkeypatch):
    """A decoder that differs from Pillow does not run."""
    monkeypatch.setattr(parity, "PIXEL_MEAN_LIMIT", -1.0)

    with pytest.raises(ParityError, match="disagrees with Pillow"):
        ran(options)


def test_a_resume_measures_parity_again(options, monkeypatch):
    """What was cached may have changed since: the same machine and versions are no proof."""
    ran_until(options, 1)
    measured = []
    real = parity.score_agreement
    monkeypatch.setattr(
        parity, "score_agreement", lambda *a, **k: measured.append(1) or real(*a, **k)
    )

    assert len(ran(options)) == 11
    assert measured == [1]


def test_a_resume_that_disagrees_stops(options, monkeypatch):
    """Nothing falls back in the middle of a run."""
    ran_until(options, 1)
    monkeypatch.setitem(parity.DP_LIMIT, "fp32", -1.0)
    monkeypatch.setitem(parity.DP_LIMIT, "bf16", -1.0)

    with pytest.raises(ParityError, match="disagrees with PyTorch"):
        ran(options)


def test_a_resume_without_its_runtime_says_what_it_was_begun_with(options, monkeypatch):
    """Another runtime would be another run."""
    ran_until(options, 1)
    runtime = run_json(options)["choices"]["runtime"]["value"]
    monkeypatch.setattr("engines.backends.obstacle", lambda _: Obstacle("it is gone", "install it"))

    with pytest.raises(ResultsError, match=f"begun with .*runtime {runtime}.*it is gone"):
        ran(options)


def test_a_resume_with_other_versions_measures_again(options):
    """A verdict holds for the machine and versions it was measured with."""
    ran_until(options, 1)
    record = run_json(options)
    record["parity"]["versions"]["openvino"] = record["parity"]["scores"] = None
    (options.out / "run.json").write_text(json.dumps(record))

    ran(options)

    assert run_json(options)["parity"]["scores"]["cells"] == 9


def test_nothing_is_made_for_a_source_that_is_not_there(options, tmp_path):
    """A wrong path leaves no results folder behind."""
    with pytest.raises(SourceError):
        ran(changed(options, source=tmp_path / "nowhere"))

    assert not options.out.exists()


def test_a_model_that_is_none_is_refused(options, tmp_path):
    """The hint says what a bundle is."""
    with pytest.raises(BundleError, match="not a model bundle") as caught:
        ran(changed(options, model=tmp_path))

    assert "config.json" in caught.value.hint


def test_any_number_of_classes_can_be_screened(options, three_classes):
    """Nothing assumes two classes or a positive one."""
    found = ran(changed(options, model=three_classes.folder))

    assert {row["predicted"] for row in found} <= {"a", "b c", "d", None}
    assert {row["positive"] for row in found} == {None}
    assert {"prob_a", "prob_b_c", "prob_d"} <= found[0].keys()


def test_a_run_is_events(options):
    """Started, then batches and shards, every cell once, then Finished with run.json as it is."""
    started, *events, finished = screen.run(options)

    assert isinstance(started, Started)
    assert (started.cells, started.cells_done, started.record.state) == (11, 0, "running")
    assert isinstance(finished, Finished)
    assert finished.record == ResultsFolder(options.out).read_run()
    batches = [event for event in events if isinstance(event, BatchScored)]
    shards = [event for event in events if isinstance(event, ShardDone)]
    assert [shard.index for shard in shards] == [0, 1, 2, 3]
    assert len(batches) + len(shards) == len(events)
    for kind in (batches, shards):
        assert sum(event.scored for event in kind) == 9
        assert sum(event.faults for event in kind) == 2


def test_a_resume_starts_with_what_is_done(options):
    """And so may a display."""
    ran_until(options, 2)

    started = next(screen.run(options))

    assert (started.cells, started.cells_done) == (11, 6)


def test_places_are_strings_or_paths(options):
    """What a user types first works."""
    typed = screen.RunOptions(
        source=str(options.source), out=str(options.out), model=str(options.model)
    )

    assert len(ran(typed)) == 11


def test_pytorchs_threads_are_put_back(options):
    """The number is the whole process's, and the process is the user's."""
    before = torch.get_num_threads()
    torch.set_num_threads(3)

    ran(changed(options, runtime="torch", threads=1))

    assert torch.get_num_threads() == 3
    torch.set_num_threads(before)


@pytest.mark.parametrize("inside", [".", "results", "deep/er"])
def test_results_among_the_cells_are_refused(options, inside):
    """The next run would list what this one wrote."""
    with pytest.raises(ResultsError, match="lies in the folder of the cells") as caught:
        ran(changed(options, out=options.source / inside))

    assert "outside" in caught.value.hint
    assert not (options.source / "results").exists()
    assert not (options.source / ".lock").exists()


def test_the_address_of_a_file_is_a_path(options, tmp_path):
    """Not a folder called file: in the current one."""
    assert changed(options, out=f"file://{tmp_path}/x").out == tmp_path / "x"


def test_a_failed_start_leaves_no_folder(options, tmp_path):
    """Nor the folders above it; one that was there stays."""
    for path in options.source.rglob("*.*"):
        path.unlink()
    kept = tmp_path / "kept"
    kept.mkdir()

    for out in (tmp_path / "new" / "results", kept):
        with pytest.raises(SourceError):
            ran(changed(options, out=out))

    assert not (tmp_path / "new").exists()
    assert kept.exists()
