"""A finished run and a source that goes on changing: what is said of it, and what --update does."""

from __future__ import annotations

import json
import logging
import os
import shutil
from dataclasses import replace

import pyarrow.parquet as pq
import pytest
import zoo
from click.testing import CliRunner
from draw_cells import draw_cell
from made_sources import made_source

import screen
from engines.errors import ResultsError, SourceError
from screen.cli.main import cli
from screen.results.folder import ResultsFolder
from screen.results.verify import verify
from screen.runners.events import BatchScored, ShardDone

SOME = (1, 5, 9)  # of the writes of an update: where it is killed without --long
WRITES = 16


@pytest.fixture(scope="module")
def done(bundle, tmp_path_factory):
    """A run that is done: two slides, shards of three; the last two shards are of one slide."""
    folder = tmp_path_factory.mktemp("update")
    for slide, seeds in (("first", range(4)), ("second", range(4, 11))):
        (folder / "cells" / slide).mkdir(parents=True)
        for seed in seeds:
            draw_cell(seed, (90, 70)).save(folder / "cells" / slide / f"{seed:02}.bmp")
    (folder / "cells" / "second" / "05.bmp").write_bytes(zoo.bad()["empty.jpg"])
    options = screen.RunOptions(
        source=folder / "cells",
        out=folder / "results",
        model=bundle.folder,
        shard_cells=3,
        threads=2,
    )
    list(screen.run(options))
    return options


@pytest.fixture
def options(done, tmp_path):
    """A copy of it, with its cells."""
    shutil.copytree(done.source, tmp_path / "cells")
    shutil.copytree(done.out, tmp_path / "results")
    return replace(done, source=tmp_path / "cells", out=tmp_path / "results")


def changed(folder):
    """Add two cells, rewrite one, touch one, and remove four, among them all of a shard."""
    draw_cell(20, (90, 70)).save(folder / "first" / "00a.bmp")
    draw_cell(21, (90, 70)).save(folder / "second" / "99.bmp")
    draw_cell(22, (80, 80)).save(folder / "first" / "01.bmp")
    os.utime(folder / "first" / "03.bmp", ns=(1, 1))
    for name in ("02.bmp", "../second/06.bmp", "../second/07.bmp", "../second/08.bmp"):
        (folder / "first" / name).unlink()


def by_path(options):
    """Return the rows by path."""
    found = screen.open_results(options.out).to_table().to_pylist()
    assert len({row["path"] for row in found}) == len(found)
    return {row["path"]: row for row in found}


def files(out):
    """Return the bytes of every file but run.json, which holds times."""
    return {
        str(path.relative_to(out)): path.read_bytes()
        for path in sorted(out.rglob("*"))
        if path.is_file() and path.name not in ("run.json", ".lock")
    }


def test_a_finished_run_says_what_has_changed_and_what_scores_it(options, caplog):
    """Nothing is screened."""
    before = files(options.out)
    changed(options.source)

    with caplog.at_level(logging.WARNING, "screen"):
        *events, finished = screen.run(options)

    assert "2 new, 1 changed, 4 gone; --update scores them." in caplog.text
    assert str(finished.changes) == "2 new, 1 changed, 4 gone"
    assert not [event for event in events if isinstance(event, ShardDone)]
    assert files(options.out) == before


def test_an_updated_run_has_the_rows_of_a_new_one(options, tmp_path):
    """Row for row, and slide for slide; what is gone is kept apart; once more changes nothing."""
    old = by_path(options)
    old_files = files(options.out)
    changed(options.source)

    *events, finished = screen.run(replace(options, update=True))

    scored = sum(event.scored + event.faults for event in events if isinstance(event, BatchScored))
    assert scored == 3
    assert not finished.changes
    fresh = replace(options, out=tmp_path / "fresh")
    list(screen.run(fresh))
    assert by_path(options) == by_path(fresh)
    slides = [ResultsFolder(each.out).read_slides() for each in (options, fresh)]
    assert slides[0] == slides[1]
    gone = pq.read_table(options.out / "gone.parquet").to_pylist()
    assert {row["path"]: row for row in gone} == {
        path: {**old[path], "revision": 2}
        for path in ("first/02.bmp", "second/06.bmp", "second/07.bmp", "second/08.bmp")
    }
    new_files = files(options.out)
    assert new_files["cells/part-00003.parquet"] == old_files["cells/part-00003.parquet"]
    assert "cells/part-00004.parquet" in new_files
    assert [each.fault for each in verify(ResultsFolder(options.out)) if each.fault] == []

    list(screen.run(replace(options, update=True)))

    assert files(options.out) == new_files


def test_updates_follow_one_another(options, tmp_path):
    """A shard that is gone is no other shard's number; what comes back is new."""
    changed(options.source)
    list(screen.run(replace(options, update=True)))
    draw_cell(7, (90, 70)).save(options.source / "second" / "07.bmp")
    (options.source / "second" / "99.bmp").unlink()
    draw_cell(30, (90, 70)).save(options.source / "second" / "zz.bmp")

    *_, finished = screen.run(replace(options, update=True))

    assert not finished.changes
    fresh = replace(options, out=tmp_path / "fresh")
    list(screen.run(fresh))
    assert by_path(options) == by_path(fresh)
    gone = pq.read_table(options.out / "gone.parquet").to_pylist()
    assert [(row["path"], row["revision"]) for row in gone][-1] == ("second/99.bmp", 3)
    assert len(gone) == 5


class Killed(BaseException):
    """As SIGKILL: nothing cleans up after it but the system."""


@pytest.mark.parametrize(
    "writes",
    [pytest.param(n, marks=[] if n in SOME else pytest.mark.long) for n in range(WRITES)],
)
def test_killed_before_any_write_and_run_again_it_ends_the_same(options, monkeypatch, writes):
    """Byte for byte."""
    straight = replace(options, out=options.out.with_name("straight"), update=True)
    shutil.copytree(options.out, straight.out)
    changed(options.source)
    list(screen.run(straight))
    left = [writes]

    def flush(path):
        left[0] -= 1
        if left[0] < 0:
            raise Killed

    monkeypatch.setattr("engines.files._flush", flush)
    with pytest.raises(Killed):
        list(screen.run(replace(options, update=True)))
    monkeypatch.undo()

    list(screen.run(replace(options, update=True)))

    assert files(options.out) == files(straight.out)
    assert json.loads((options.out / "run.json").read_text())["state"] == "done"


def test_another_model_or_setting_is_refused_by_name(options, three_classes):
    """Nothing is written."""
    changed(options.source)
    before = files(options.out)

    with pytest.raises(ResultsError, match="begun with max_pixels 25000000, not 5"):
        list(screen.run(replace(options, update=True, max_pixels=5)))
    with pytest.raises(ResultsError, match="begun with bundle"):
        list(screen.run(replace(options, update=True, model=three_classes.folder)))
    with pytest.raises(ValueError, match="not both"):
        replace(options, update=True, restart=True)

    assert files(options.out) == before


def test_a_source_without_any_of_its_cells_is_no_update(options):
    """It is another one, or a disk is not there."""
    before = files(options.out)
    for path in options.source.rglob("*.bmp"):
        path.rename(path.with_suffix(".png"))

    with pytest.raises((ResultsError, SourceError), match="another source"):
        list(screen.run(replace(options, update=True)))

    assert files(options.out) == before


def test_a_manifest_and_its_report_are_brought_up_to_date(bundle, cells, tmp_path):
    """On the command line; a row taken out, a row added, a file replaced."""
    table, out = made_source("manifest", cells, tmp_path / "lab"), tmp_path / "results"
    command = ["run", str(table), "--out", str(out), "--model", str(bundle.folder)]
    assert CliRunner().invoke(cli, [*command, "--report", "--quiet"]).exit_code == 0
    first = (out / "report.html").read_bytes()
    header, gone, *rows = table.read_text().splitlines()
    draw_cell(30, (90, 70)).save(tmp_path / "lab" / "new.bmp")
    table.write_text("\n".join([header, *rows, "new.bmp,slide of first,all,,99"]))
    draw_cell(31, (90, 70)).save(cells / "second" / "drawn0.bmp")

    asked = CliRunner().invoke(cli, command)
    updated = CliRunner().invoke(cli, [*command, "--update"])

    assert (asked.exit_code, updated.exit_code) == (0, 0)
    assert "1 new, 1 changed, 1 gone; --update scores them." in " ".join(asked.output.split())
    assert (out / "report.html").read_bytes() != first
    found = {row["path"]: row for row in screen.open_results(out).to_table().to_pylist()}
    assert found["new.bmp"]["meta_number"] == "99"
    assert gone.partition(",")[0] not in found
    assert found["../cells/second/drawn0.bmp"]["error"].startswith("its SHA-256 is")
