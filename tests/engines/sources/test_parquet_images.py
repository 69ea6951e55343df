"""Parquet files with images in them."""

from __future__ import annotations

import hashlib
import json
from concurrent.futures import ThreadPoolExecutor

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from engines.cells import CellRef, RefusedCellError
from engines.errors import SourceError
from engines.sources import SourceOptions, open_source
from engines.sources.tables.manifest import ManifestSource
from engines.sources.tables.parquet_images import ParquetImagesSource

IMAGES = [bytes([number]) * 3_000 for number in range(100)]
HUGGING_FACE = {
    "info": {"features": {"label": {"names": ["all", "hem"], "_type": "ClassLabel"}}}
}  # fmt: skip


def written(folder, columns, name="cells.parquet", metadata=None, **options):
    """Write a table."""
    table = pa.table(columns)
    pq.write_table(table.replace_schema_metadata(metadata), folder / name, **options)
    return folder / name


def listed(path, **options):
    """Open a file, and list it."""
    source = open_source(path, SourceOptions(**options))
    return source, {entry.path: entry for entry in source.list()}


def read(source, entry):
    """Read a cell."""
    return source.read(CellRef(entry.path, "", entry.locator))


@pytest.mark.parametrize("group", [1, 7, 100])
@pytest.mark.parametrize("kind", [pa.binary(), pa.large_binary()])
def test_images_are_read_from_their_rows(kind, group, tmp_path):
    """In any order, whatever the groups."""
    path = written(tmp_path, {"data": pa.array(IMAGES, kind)}, row_group_size=group)

    source, found = listed(path)

    assert list(found) == [f"row-{number}" for number in range(100)]
    backwards = [read(source, entry) for entry in reversed(found.values())]
    assert backwards[::-1] == IMAGES


def test_threads_read_side_by_side(tmp_path):
    """Each its own cells."""
    path = written(tmp_path, {"image": IMAGES}, row_group_size=30)
    source, found = listed(path)

    with ThreadPoolExecutor(4) as threads:
        assert list(threads.map(lambda entry: read(source, entry), found.values())) == IMAGES


def test_hugging_face_columns_are_known(tmp_path):
    """Names beside the bytes, class names for class numbers; -1 is no class."""
    columns = {
        "image": [{"bytes": each, "path": f"{n}.png"} for n, each in enumerate(IMAGES[:3])],
        "label": [1, -1, 0],
        "age": [5, 6, 7],
    }
    path = written(tmp_path, columns, metadata={"huggingface": json.dumps(HUGGING_FACE)})

    source, found = listed(path)

    assert list(found) == ["0.png", "1.png", "2.png"]
    assert source.carried == {"label": pa.string(), "meta_age": pa.int64()}
    assert [each.carried for each in found.values()] == [("hem", 5), (None, 6), ("all", 7)]


def test_other_columns_name_and_check_cells(tmp_path):
    """As in a manifest: path, slide, sha256; two of a name are told apart; text stays text."""
    digests = [hashlib.sha256(each).hexdigest() for each in IMAGES[:3]]
    columns = {
        "path": ["a", "a", "b"],
        "slide": ["s", "t", None],
        "sha256": [digests[0], digests[1].upper(), digests[0]],
        "image": IMAGES[:3],
    }
    source, found = listed(written(tmp_path, columns))

    assert [(each.path, each.slide) for each in found.values()] == [
        ("a", "s"), ("a#2", "t"), ("b", "")
    ]  # fmt: skip
    assert read(source, found["a#2"]) == IMAGES[1]
    with pytest.raises(RefusedCellError, match="its SHA-256 is") as caught:
        read(source, found["b"])
    assert (caught.value.status, caught.value.data) == ("undecodable", IMAGES[2])


def test_a_row_without_bytes_is_unreadable(tmp_path):
    """It is a row of the results with that reason."""
    images = [{"bytes": None, "path": "a.png"}, None, {"bytes": b"x", "path": None}]
    source, found = listed(written(tmp_path, {"image": images}))

    assert list(found) == ["a.png", "row-1", "row-2"]
    for name in ("a.png", "row-1"):
        with pytest.raises(RefusedCellError, match="no image bytes"):
            read(source, found[name])
    assert read(source, found["row-2"]) == b"x"


def test_content_tells_images_from_a_manifest(tmp_path):
    """A column of bytes is images, one of paths alone a manifest; an option says otherwise."""
    paths = {"path": ["a.png"]}
    images = written(tmp_path, paths | {"thumbnail": [b"x"]}, "images.parquet")
    manifest = written(tmp_path, paths, "manifest.parquet")

    assert isinstance(open_source(images), ParquetImagesSource)
    assert isinstance(open_source(manifest), ManifestSource)
    assert isinstance(open_source(images, SourceOptions(columns=("image=",))), ManifestSource)


def test_which_column_is_meant_has_to_be_clear(tmp_path):
    """One is called as images are, or it is said."""
    path = written(tmp_path, {"front": [b"1"], "back": [b"2"], "n": [1]})

    with pytest.raises(SourceError, match="several columns of bytes: front, back"):
        open_source(path)
    with pytest.raises(SourceError, match="no column n of image bytes"):
        open_source(path, SourceOptions(columns=("image=n",)))
    source, found = listed(path, columns=("image=back",))
    assert read(source, found["row-0"]) == b"2"
    assert source.carried == {"meta_n": pa.int64()}


def test_a_file_that_was_written_anew_is_noticed(tmp_path):
    """A cell is never read from another's row."""
    _, found = listed(written(tmp_path, {"image": IMAGES}))
    source, _ = listed(written(tmp_path, {"image": [b"new", *IMAGES]}))

    with pytest.raises(OSError, match="changed since it was listed"):
        read(source, found["row-0"])


def test_damage_is_of_the_cells_that_it_hits(tmp_path):
    """A group that cannot be read leaves the others."""
    path = written(tmp_path, {"image": IMAGES}, row_group_size=50, compression="zstd")
    start = pq.read_metadata(path).row_group(0).column(0).dictionary_page_offset or 4
    data = bytearray(path.read_bytes())
    data[start : start + 200] = bytes(200)
    path.write_bytes(data)
    source, found = listed(path)

    with pytest.raises(OSError, match="cannot be read"):
        read(source, found["row-3"])
    assert read(source, found["row-70"]) == IMAGES[70]


def test_a_file_that_is_cut_off_says_so(tmp_path):
    """Its columns stand at its end."""
    path = written(tmp_path, {"image": IMAGES})
    path.write_bytes(path.read_bytes()[:-100])

    with pytest.raises(SourceError, match="cannot read the table") as caught:
        open_source(path)

    assert "cut off" in caught.value.hint


def test_numbered_files_are_one_source(tmp_path):
    """As Hugging Face names them."""
    for number in range(2):
        name = f"train-{number:05d}-of-00002.parquet"
        written(tmp_path, {"image": [IMAGES[number]], "path": [f"{number}.png"]}, name)

    source, found = listed(f"{tmp_path}/*.parquet")

    assert source.name == "train"
    assert {name: read(source, entry) for name, entry in found.items()} == {
        "0.png": IMAGES[0], "1.png": IMAGES[1]
    }  # fmt: skip
