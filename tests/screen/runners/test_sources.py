"""The laws over every kind of source: conservation, resume, identity."""

from __future__ import annotations

import logging
from dataclasses import replace
from itertools import islice

import pytest
import xxhash
from made_sources import made_source

import screen
from screen.runners.events import ShardDone


def folder(cells):
    """Return all of a folder."""
    return {"source": cells}, {_name(cells, path): path for path in _files(cells)}


def selected(cells):
    """Return what patterns leave of a folder."""
    wanted = {_name(cells, path): path for path in _files(cells) if path.suffix != ".bmp"}
    del wanted["second/lzw.tif"]
    return {"source": cells, "exclude": ["*.bmp", "second/lzw.*"]}, wanted


def several(cells):
    """Return two folders as one source."""
    return {"source": [cells / "second", cells / "first"]}, folder(cells)[1]


def images(cells):
    """Return single images of one folder, named in any order."""
    files = sorted((cells / "second").iterdir(), reverse=True)
    return {"source": files}, {path.name: path for path in files}


def pattern(cells):
    """Return what a pattern stands for."""
    return {"source": str(cells / "*")}, folder(cells)[1]


def manifest(cells):
    """Return a table that names every file of a folder."""
    files = {f"cells/{path}": file for path, file in folder(cells)[1].items()}
    return {"source": made_source("manifest", cells, cells.parent)}, files


def tar(cells):
    """Return a tar file of a folder."""
    return {"source": made_source("tar", cells, cells.parent)}, folder(cells)[1]


def zipped(cells):
    """Return a zip file of a folder."""
    return {"source": made_source("zip", cells, cells.parent)}, folder(cells)[1]


def parquet(cells):
    """Return a Parquet file of a folder's images."""
    return {"source": made_source("parquet", cells, cells.parent)}, folder(cells)[1]


FILES = [folder, selected, several, images, pattern, manifest]
KINDS = [*FILES, tar, zipped, parquet]


def _files(cells):
    """Return the files of the two slides."""
    return sorted(path for path in cells.rglob("*") if path.is_file())


def _name(cells, path):
    """Return the path of a cell."""
    return str(path.relative_to(cells))


@pytest.fixture(params=KINDS, ids=lambda kind: kind.__name__)
def kind(request, bundle, cells, tmp_path):
    """A run over a kind of source in shards of three, and the file of every cell by its path."""
    asked, files = request.param(cells)
    return screen.RunOptions(
        **asked, out=tmp_path / "results", model=bundle.folder, shard_cells=3, threads=2
    ), files


def ran(options):
    """Run to the end and return the rows by path."""
    list(screen.run(options))
    found = screen.open_results(options.out).to_table().to_pylist()
    assert len({row["path"] for row in found}) == len(found)
    return {row["path"]: row for row in found}


def test_every_cell_is_one_row_of_its_own_bytes(kind):
    """Once, under its own path."""
    options, files = kind

    found = ran(options)

    hashes = {path: xxhash.xxh3_128_hexdigest(file.read_bytes()) for path, file in files.items()}
    assert {path: row["content_hash"] for path, row in found.items()} == hashes


def test_a_cell_is_scored_the_same_wherever_it_comes_from(kind, cells, tmp_path):
    """Whatever stands beside it, and whatever it is called."""
    options, files = kind
    whole = ran(replace(options, source=cells, include=(), exclude=(), out=tmp_path / "whole"))

    found = ran(options)

    for path, file in files.items():
        same = {**whole[_name(cells, file)], "path": path, "slide": found[path]["slide"]}
        assert {name: found[path][name] for name in same} == same


def test_resuming_equals_never_stopping(kind, tmp_path):
    """Left after a shard, and gone on with."""
    options, _ = kind
    expected = ran(replace(options, out=tmp_path / "straight"))
    stream = screen.run(options)
    next(islice((event for event in stream if isinstance(event, ShardDone)), 0, None))
    stream.close()

    assert ran(options) == expected


@pytest.mark.parametrize("kind", FILES, indirect=True, ids=lambda kind: kind.__name__)
def test_a_finished_run_says_what_has_changed_since(kind, caplog):
    """Asked again, it lists its source; nothing is screened."""
    options, files = kind
    ran(options)
    gone = next(iter(files.values()))
    gone.unlink()

    with caplog.at_level(logging.WARNING, "screen"):
        *events, finished = screen.run(options)

    assert not [event for event in events if isinstance(event, ShardDone)]
    assert str(finished.changes) == "1 gone"
    assert "not as it was when it was listed: 1 gone; --update scores them." in caplog.text
