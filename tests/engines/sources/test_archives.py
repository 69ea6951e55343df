"""Tar files, WebDataset shards and zip files."""

from __future__ import annotations

import gc
import io
import json
import tarfile
import zipfile
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from engines.cells import CellRef, RefusedCellError
from engines.errors import SourceError
from engines.sources import SourceOptions, open_source

CELLS = {f"s/{number}.png": bytes([number]) * 3_000 for number in range(5)}


def tar(folder, members, name="cells.tar", **kind):
    """Write a tar file: contents by name, or TarInfo for what has none."""
    with tarfile.open(folder / name, "w", **kind) as archive:
        for member, content in members.items():
            info = content if isinstance(content, tarfile.TarInfo) else tarfile.TarInfo(member)
            if isinstance(content, bytes):
                info.size = len(content)
            archive.addfile(info, io.BytesIO(content) if isinstance(content, bytes) else None)
    return folder / name


def zipped(folder, members, name="cells.zip", packed=zipfile.ZIP_DEFLATED):
    """Write a zip file."""
    with zipfile.ZipFile(folder / name, "w", packed) as archive:
        for member, content in members.items():
            archive.writestr(member, content)
    return folder / name


WRITERS = pytest.mark.parametrize("write", [tar, zipped])


def listed(path, **options):
    """Return the listing of an archive, and its cells by path."""
    listing = open_source(path, SourceOptions(**options)).list()
    return listing, {entry.path: entry for entry in listing}


def read(path, entry, **options):
    """Read a cell, as another process would."""
    source = open_source(path, SourceOptions(**options))
    return source.read(CellRef(entry.path, "", entry.locator))


@WRITERS
def test_members_are_read_from_their_places(write, tmp_path):
    """Under their own names, in the order of the archive."""
    path = write(tmp_path, CELLS)

    _, found = listed(path)

    assert {name: read(path, entry) for name, entry in found.items()} == CELLS
    assert [entry.size for entry in found.values()] == [3_000] * 5
    assert open_source(path).name == "cells"


@pytest.mark.parametrize("form", [tarfile.PAX_FORMAT, tarfile.GNU_FORMAT])
def test_long_names_and_other_alphabets_are_kept(form, tmp_path):
    """Whatever dialect of tar writes them."""
    names = ["d" * 120 + "/" + "n" * 150 + ".png", "зъб/ж.png", "./a.png"]
    path = tar(tmp_path, dict.fromkeys(names, b"x" * 600), format=form)

    _, found = listed(path)

    assert list(found) == [names[0], names[1], "a.png"]
    assert [read(path, entry) for entry in found.values()] == [b"x" * 600] * 3


@WRITERS
def test_what_is_no_cell_is_counted(write, tmp_path):
    """Among it what macOS puts beside files."""
    members = {"a.png": b"1", "._a.png": b"2", "__MACOSX/a.png": b"3", ".x/b.png": b"4", "n": b""}

    listing, found = listed(write(tmp_path, members))

    assert list(found) == ["a.png"]
    assert listing.others.count == 4


@WRITERS
def test_a_name_that_leads_out_of_the_archive_is_refused(write, tmp_path):
    """It is a row with that reason, and is not read."""
    path = write(tmp_path, {"../out.png": b"1", "/etc/x.png": b"2", "a/../../y.png": b"3"})

    for entry in listed(path)[1].values():
        with pytest.raises(RefusedCellError, match="leads out of the archive"):
            read(path, entry)


def test_links_inside_an_archive_are_followed(tmp_path):
    """Others are refused."""
    members = dict(CELLS)
    for name, kind, target in (
        ("s/hard.png", tarfile.LNKTYPE, "s/1.png"),
        ("s/soft.png", tarfile.SYMTYPE, "2.png"),
        ("s/out.png", tarfile.SYMTYPE, "../../etc/passwd"),
    ):
        members[name] = tarfile.TarInfo(name)
        members[name].type, members[name].linkname = kind, target
    path = tar(tmp_path, members)

    _, found = listed(path)

    assert read(path, found["s/hard.png"]) == CELLS["s/1.png"]
    assert read(path, found["s/soft.png"]) == CELLS["s/2.png"]
    with pytest.raises(RefusedCellError, match="a link to"):
        read(path, found["s/out.png"])


@WRITERS
def test_names_that_come_twice_get_a_number(write, tmp_path):
    """Both are cells."""
    path = _twice(write, tmp_path)

    _, found = listed(path)

    assert {name: read(path, entry) for name, entry in found.items()} == {
        "a.png": b"one", "a.png#2": b"two"
    }  # fmt: skip


def _twice(write, folder):
    """Write two members of one name."""
    if write is tar:
        with tarfile.open(folder / "cells.tar", "w") as archive:
            for content in (b"one", b"two"):
                info = tarfile.TarInfo("a.png")
                info.size = 3
                archive.addfile(info, io.BytesIO(content))
        return folder / "cells.tar"
    with zipfile.ZipFile(folder / "cells.zip", "w") as archive:
        archive.writestr("a.png", b"one")
        with pytest.warns(UserWarning, match="Duplicate name"):
            archive.writestr("a.png", b"two")
    return folder / "cells.zip"


@WRITERS
@pytest.mark.parametrize("kept", [0.3, 0.55, 0.9])
def test_a_truncated_archive_gives_what_it_holds(write, kept, tmp_path):
    """And says where it broke; a cell that is cut off cannot be read."""
    path = tar(tmp_path, CELLS)
    if write is zipped:
        path = zipped(tmp_path, CELLS, packed=zipfile.ZIP_STORED)
    whole = path.read_bytes() if write is zipped else path.read_bytes()[: 5 * 3_584]
    path.write_bytes(whole[: int(len(whole) * kept)])

    listing, found = listed(path)

    assert listing.others.problems
    assert "it ends at byte" in listing.others.problems[0]
    contents = {}
    for name, entry in found.items():
        try:
            contents[name] = read(path, entry)
        except OSError as error:
            assert "ends within it" in str(error)  # noqa: PT017 - only where it is cut off
    assert contents
    assert contents.items() <= CELLS.items()
    assert len(found) - len(contents) <= 1


def test_damage_in_the_middle_of_a_tar_file_is_said(tmp_path):
    """What stands before it is there."""
    path = tar(tmp_path, CELLS)
    data = bytearray(path.read_bytes())
    place = data.index(b"s/2.png")
    data[place : place + 4] = b"XXXX"
    path.write_bytes(data)

    listing, found = listed(path)

    assert list(found) == ["s/0.png", "s/1.png"]
    assert f"damaged at byte {place:,}" in listing.others.problems[0]


def test_damage_within_a_zip_member_is_undecodable(tmp_path):
    """Its checksum tells."""
    path = zipped(tmp_path, CELLS, packed=zipfile.ZIP_STORED)
    data = bytearray(path.read_bytes())
    data[data.index(b"\x02" * 100) + 50] ^= 1
    path.write_bytes(data)
    _, found = listed(path)

    with pytest.raises(RefusedCellError, match="CRC") as caught:
        read(path, found["s/2.png"])

    assert caught.value.status == "undecodable"
    assert read(path, found["s/3.png"]) == CELLS["s/3.png"]


def test_a_zip_bomb_is_oversized(tmp_path):
    """It is never unpacked."""
    path = zipped(tmp_path, {"bomb.png": bytes(10_000_000)})
    _, found = listed(path)

    with pytest.raises(RefusedCellError, match="10,000,000 bytes when it is unpacked") as caught:
        read(path, found["bomb.png"], max_pixels=1_000_000)

    assert caught.value.status == "oversized"


@WRITERS
def test_an_archive_that_was_written_anew_is_noticed(write, tmp_path):
    """A run that goes on never takes another cell's bytes for its own."""
    path = write(tmp_path, CELLS)
    _, before = listed(path)
    source = open_source(path)
    write(tmp_path, {"t/x.png": b"y" * 3_000, **CELLS})

    for entry in before.values():
        ref = CellRef(entry.path, "", entry.locator)
        with pytest.raises(OSError, match="changed|damaged"):
            source.read(ref)
        assert source.size(ref) is None


def test_an_index_is_made_once(tmp_path, monkeypatch, caplog):
    """And again when the archive is another."""
    monkeypatch.setenv("SLIDESCREEN_CACHE", str(tmp_path / "cache"))
    path = tar(tmp_path, CELLS)
    with caplog.at_level("INFO", "engines"):
        listed(path)
        listed(path)
        moved = path.rename(tmp_path / "moved.tar")
        listed(moved)
        tar(tmp_path, {"z.png": b"", **CELLS}, name="moved.tar")
        assert len(listed(moved)[1]) == 6

    assert caplog.text.count("this is done once") == 2


def test_a_packed_tar_file_is_refused(tmp_path):
    """With what to do."""
    with tarfile.open(tmp_path / "cells.tar.gz", "w:gz"):
        pass

    with pytest.raises(SourceError, match="packed as a whole"):
        listed(tmp_path / "cells.tar.gz")


def test_shards_of_one_set_are_one_source(tmp_path):
    """Their cells keep their names; one that comes twice gets a number; the class is a label."""
    for number in range(2):
        members = {f"{number}.png": b"%d" % number, f"{number}.cls": b"all", "both.png": b"b"}
        tar(tmp_path, members, name=f"set-{number:03d}.tar")

    source = open_source(f"{tmp_path}/set-*.tar")
    found = {entry.path: entry for entry in source.list()}

    assert list(found) == ["0.png", "both.png", "1.png", "both.png#2"]
    assert found["1.png"].carried == ("all",)
    assert found["both.png"].carried == (None,)
    assert source.name == "set"
    assert source.read(CellRef("1.png", "", found["1.png"].locator)) == b"1"


@WRITERS
def test_what_json_says_of_a_cell_is_what_a_manifest_would_say(tmp_path, write, caplog):
    """Slide, cell_id and label under their own names, other values as text, in any sample."""
    members = {
        "0.png": b"0",
        "0.json": b'{"slide": "s", "label": "hem", "cell_id": "a", "age": 7, "of": null}',
        "1.png": b"1",
        "1.cls": b"all",
        "1.json": b'{"label": "hem", "boxes": [1, 2], "age": "x"}',
        "2.png": b"2",
        "2.json": b"[1]",
    }
    path = write(tmp_path, members)

    source = open_source(path)
    found = {entry.path: entry for entry in source.list()}

    assert list(source.carried) == ["label", "cell_id", "meta_age", "meta_boxes"]
    assert found["0.png"].carried == ("hem", "a", "7", None)
    assert found["1.png"].carried == ("all", None, "x", "[1, 2]")
    assert found["2.png"].carried == (None,) * 4
    assert [found[name].slide for name in found] == ["s", "", ""]
    assert "2.json holds no JSON object" in caplog.text


def test_names_in_json_that_a_database_could_not_tell_apart_are_refused(tmp_path):
    """As in a manifest."""
    path = tar(tmp_path, {"0.png": b"0", "0.json": b'{"Age": 1, "age": 2}'})

    with pytest.raises(SourceError, match="upper and lower case"):
        listed(path)


def test_each_thread_has_the_archive_open_once_and_closes_it(tmp_path):
    """So threads read at the same time, and none leaves a file open."""
    path = tar(tmp_path, CELLS)
    source = open_source(path)
    entries = list(source.list())

    def all_read(_):
        return {each.path: source.read(CellRef(each.path, "", each.locator)) for each in entries}

    with ThreadPoolExecutor(4) as threads:
        assert list(threads.map(all_read, range(32))) == [CELLS] * 32
        assert open_files(path) <= 5
    gc.collect()

    assert open_files(path) <= 1


def open_files(path):
    """Count how often this process has a file open."""
    return sum(each.samefile(path) for each in Path("/proc/self/fd").iterdir() if each.exists())


def test_a_file_given_twice_is_refused(tmp_path):
    """Its cells would be counted twice."""
    path = tar(tmp_path, CELLS)

    with pytest.raises(SourceError, match="given twice"):
        open_source([path, path])


def test_archives_of_other_names_are_several_sources(tmp_path):
    """The name of each stands before its cells."""
    for name in ("one.tar", "two.tar"):
        tar(tmp_path, {"a.png": name.encode()}, name=name)

    found = [entry.path for entry in open_source(f"{tmp_path}/*.tar").list()]

    assert found == ["one/a.png", "two/a.png"]


def test_a_cache_that_cannot_be_written_is_named(tmp_path, monkeypatch):
    """With what to do."""
    (tmp_path / "file").write_bytes(b"")
    monkeypatch.setenv("SLIDESCREEN_CACHE", str(tmp_path / "file"))

    with pytest.raises(SourceError, match="cannot write the index") as caught:
        listed(tar(tmp_path, CELLS))

    assert "SLIDESCREEN_CACHE" in caught.value.hint


def test_what_a_zip_file_is_packed_by_does_not_matter(tmp_path):
    """Of the methods that are read; another is refused by its number."""
    for method in (zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED, zipfile.ZIP_BZIP2):
        path = zipped(tmp_path, CELLS, packed=method)
        assert {name: read(path, entry) for name, entry in listed(path)[1].items()} == CELLS

    path = zipped(tmp_path, CELLS, packed=zipfile.ZIP_LZMA)
    for entry in listed(path)[1].values():
        with pytest.raises(RefusedCellError, match="method 14"):
            read(path, entry)


def test_a_zip_member_that_is_larger_than_it_says_is_refused(tmp_path):
    """However much it would unpack to."""
    path = zipped(tmp_path, {"a.png": bytes(5_000_000)})
    _, found = listed(path)
    kind, place = json.loads(found["a.png"].locator)
    offset, packed, _, *rest = json.loads(place)
    lying = json.dumps([kind, json.dumps([offset, packed, 10, *rest])])

    with pytest.raises(RefusedCellError, match="its size or its CRC-32"):
        open_source(path).read(CellRef("a.png", "", lying))
