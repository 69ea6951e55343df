"""Cells packed into shards keep their names, their bytes and what is known of them."""

from __future__ import annotations

import csv
import json
import os
import shutil
import tarfile
from itertools import islice

import pyarrow.parquet as pq
import pytest
from click.testing import CliRunner
from made_sources import made_source

from engines.cells import CellRef
from engines.errors import ResultsError, SourceError
from engines.locations import location
from engines.sources import open_source
from screen.cli.main import cli
from screen.packing.pack import PackOptions, pack


def packed(asked, out, **options):
    """Pack a source, and return what was said at the end."""
    *_, last = pack(open_source(asked), PackOptions(out=location(out), **options))
    return last


def members(path):
    """Return the bytes of a tar file's members by name."""
    with tarfile.open(path) as archive:
        return {each.name: archive.extractfile(each).read() for each in archive}


def files(folder):
    """Return the bytes of every file below a folder, by path."""
    return {
        str(path.relative_to(folder)): path.read_bytes()
        for path in sorted(folder.rglob("*"))
        if path.is_file()
    }


def test_tar_shards_hold_every_cell_under_its_own_path(cells, tmp_path):
    """In the order of the source, so many to a shard, with their times."""
    (cells / "first" / ".hidden.png").write_bytes(b"")
    (cells / "notes.txt").write_text("no cell")

    last = packed(cells, tmp_path / "out" / "cells-%05d.tar", shard_cells=4)

    assert (last.cells, last.shards, last.left_out) == (11, 3, 0)
    shards = sorted((tmp_path / "out").iterdir())
    assert [path.name for path in shards] == [f"cells-{n:05d}.tar" for n in range(3)]
    found = [members(path) for path in shards]
    assert [len(each) for each in found] == [4, 4, 3]
    expected = files(cells)
    del expected["first/.hidden.png"], expected["notes.txt"]
    assert {name: data for each in found for name, data in each.items()} == expected
    with tarfile.open(shards[0]) as archive:
        times = {each.name: each.mtime for each in archive}
    assert times == {name: int((cells / name).stat().st_mtime) for name in found[0]}


def test_a_shard_of_so_many_bytes_takes_no_more(cells, tmp_path):
    """Whatever the number of its cells."""
    last = packed(cells, tmp_path / "cells-%d.tar", shard_bytes=1)

    assert last.shards == last.cells == 11


def test_parquet_holds_every_cell_as_datasets_expects_it(cells, tmp_path):
    """A column image with bytes and path, which is said to be one."""
    packed(cells, tmp_path / "cells.parquet")

    table = pq.read_table(tmp_path / "cells.parquet", page_checksum_verification=True)
    assert {row["path"]: row["bytes"] for row in table["image"].to_pylist()} == files(cells)
    said = json.loads(table.schema.metadata[b"huggingface"])
    assert said["info"]["features"]["image"] == {"_type": "Image"}


def test_rows_stand_in_small_groups(cells, tmp_path, monkeypatch):
    """A reader holds one group in memory."""
    monkeypatch.setattr("screen.packing.parquet_shard.GROUP_BYTES", 3_000)

    packed(cells, tmp_path / "cells.parquet")

    footer = pq.read_metadata(tmp_path / "cells.parquet")
    assert footer.num_rows == 11
    assert footer.num_row_groups > 3


@pytest.fixture
def manifest(cells):
    """A manifest beside its cells: slide, label, sha256 and a number of each."""
    inside = made_source("manifest", cells, cells.parent / "lab")
    return inside.replace(cells.parent / "cells.csv")


def rows_of(manifest):
    """Read a manifest; make its paths those of its own folder."""
    text = manifest.read_text().replace("../cells/", "cells/")
    manifest.write_text(text)
    return list(csv.DictReader(text.splitlines()))


def test_what_a_manifest_says_goes_along_in_parquet(manifest, tmp_path):
    """As columns, under their own names."""
    rows = rows_of(manifest)

    packed(manifest, tmp_path / "out.parquet")

    table = pq.read_table(tmp_path / "out.parquet")
    assert table.column_names == ["image", "slide", "label", "number"]
    assert table.drop(["image"]).to_pylist() == [
        {name: row[name] for name in ("slide", "label", "number")} for row in rows
    ]


def test_what_a_manifest_says_goes_along_in_tar(manifest, tmp_path):
    """Labels as WebDataset has them, the rest as JSON."""
    rows = rows_of(manifest)

    packed(manifest, tmp_path / "out.tar")

    found = members(tmp_path / "out.tar")
    assert len(found) == 3 * len(rows)
    key = rows[0]["path"].rpartition(".")[0]
    assert found[f"{key}.cls"] == b"hem"
    assert json.loads(found[f"{key}.json"]) == {"slide": rows[0]["slide"], "number": "0"}


def test_a_cell_that_cannot_be_read_is_an_error_or_is_named(cells, tmp_path, caplog):
    """Nothing is left out in silence."""
    (cells / "first" / "dangling.png").symlink_to("nowhere")

    with pytest.raises(SourceError, match=r"cannot read first/dangling.png: No such file"):
        packed(cells, tmp_path / "a.tar")
    last = packed(cells, tmp_path / "b.tar", skip_unreadable=True)

    assert not (tmp_path / "a.tar").exists()
    assert (last.cells, last.left_out) == (11, 1)
    assert "left out: first/dangling.png: No such file or directory" in caplog.text


def test_a_pack_that_is_left_leaves_whole_shards_only(cells, tmp_path):
    """And the next one does not mix with them."""
    out = tmp_path / "out" / "cells-%05d.tar"
    progress = pack(open_source(cells), PackOptions(out=out, shard_cells=4))
    list(islice(progress, 6))
    progress.close()

    assert [path.name for path in out.parent.iterdir()] == ["cells-00000.tar"]
    with pytest.raises(ResultsError, match=r"there is a .*cells-00000.tar already"):
        packed(cells, out)


def test_what_has_no_place_in_a_shard_is_refused(cells, tmp_path):
    """With what would take it."""
    with pytest.raises(SourceError, match="boxes on field images"):
        packed(made_source("boxes", cells, tmp_path / "boxes"), tmp_path / "a.tar")
    outside = made_source("manifest", cells, tmp_path / "lab")
    with pytest.raises(SourceError, match="cannot be called so in a tar file") as caught:
        packed(outside, tmp_path / "a.tar")
    assert ".parquet" in caught.value.hint
    assert packed(outside, tmp_path / "a.parquet").cells == 11
    for name in ("cells.zip", "cells", "cells-%05d-%d.tar", "cells-%s.tar"):
        with pytest.raises(ResultsError, match="no name for shards"):
            PackOptions(out=tmp_path / name)


def test_cells_that_webdataset_takes_for_one_sample_may_not_differ(cells, tmp_path):
    """Or one would get the other's label."""
    table = tmp_path / "cells.csv"
    names = sorted(path.name for path in (cells / "second").glob("drawn*"))
    for number, name in enumerate(names):
        (cells / "second" / name).rename(cells / "second" / f"same.{number}.bmp")
    for labels in (("a", "a"), ("a", "b")):
        rows = [f"cells/second/same.{n}.bmp,{label}" for n, label in enumerate(labels)]
        table.write_text("\n".join(["path,label", *rows]))
        if labels == ("a", "a"):
            assert packed(table, tmp_path / "same.tar").cells == 2
        else:
            with pytest.raises(SourceError, match=r"same.1.bmp and the cell before it"):
                packed(table, tmp_path / "other.tar")


def test_shards_go_to_a_bucket(cells, bucket):
    """Whole, too."""
    last = packed(cells, f"{bucket}/shards/cells-%05d.parquet", shard_cells=6)

    place = location(f"{bucket}/shards")
    assert last.shards == 2
    assert sorted(path.name for path in place.iterdir()) == [
        "cells-00000.parquet",
        "cells-00001.parquet",
    ]
    with pytest.raises(ResultsError, match="already"):
        packed(cells, f"{bucket}/shards/cells-%05d.parquet")


def test_the_command_packs_and_says_how_much(cells, tmp_path):
    """Patterns leave cells out."""
    out = tmp_path / "cells-%02d.tar"

    done = CliRunner().invoke(
        cli, ["pack", str(cells), "--out", str(out), "--exclude", "*.bmp", "--shard-cells", "5"]
    )

    assert done.exit_code == 0, done.output
    assert "8 cells, 0 MB in 2 shards" in done.output
    assert len(members(tmp_path / "cells-01.tar")) == 3


def listed(asked):
    """Return path, slide, what is carried, and the bytes of every cell of a source."""
    source = open_source(asked)
    names = list(source.carried)
    return [
        (
            entry.path,
            entry.slide,
            dict(zip(names, entry.carried, strict=True)),
            source.read(CellRef(entry.path, "", entry.locator)),
        )
        for entry in source.list()
    ]


@pytest.mark.parametrize("kind", ["tar", "parquet"])
def test_shards_read_back_as_they_were(cells, tmp_path, kind):
    """Odd names too: bytes that are no Unicode, long ones, and names that come twice."""
    for name in (b"a\xff.bmp", b"b\\c.bmp", b"%s/%s.bmp" % (b"d" * 120, b"e" * 120)):
        path = os.fsencode(cells) + b"/" + name
        os.makedirs(os.path.dirname(path), exist_ok=True)
        shutil.copy(cells / "first" / "plain.bmp", path)
    twice = tmp_path / "twice.csv"
    twice.write_text("path\ncells/first/plain.bmp\ncells/first/rgb.png\ncells/first/plain.bmp\n")

    for number, source in enumerate((cells, twice)):
        packed(source, tmp_path / f"{number}-%05d.{kind}", shard_cells=2)
        assert listed(str(tmp_path / f"{number}-*.{kind}")) == listed(source)


@pytest.mark.parametrize("kind", ["tar", "parquet"])
def test_what_a_manifest_says_reads_back_from_shards(manifest, tmp_path, kind):
    """Slides, labels and columns of its own, one of which is not always there."""
    rows = rows_of(manifest)
    lines = [
        f"{row['path']},{row['slide']},{row['label']},{n % 2 or ''}" for n, row in enumerate(rows)
    ]
    manifest.write_text("\n".join(["path,slide,label,odd", *lines]))

    packed(manifest, tmp_path / f"out-%05d.{kind}", shard_cells=4)

    assert listed(str(tmp_path / f"out-*.{kind}")) == listed(manifest)
