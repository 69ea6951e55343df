"""Training from whatever screening reads: the same cells as from the folder."""

from __future__ import annotations

import io
import json
import tarfile

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from PIL import Image

from engines.errors import SourceError
from engines.models.input import ModelInput
from engines.sources.options import SourceOptions
from train.data.decoded import decoded_cells
from train.data.labelled_cells import content_hashes, open_labelled

HALF = (0.5, 0.5, 0.5)
INPUT = ModelInput(height=32, width=32, mean=HALF, std=HALF)


def files_of(cells):
    """Return the images of class folders."""
    return sorted(cells.rglob("*.png"))


def tar(cells, out):
    """A tar file of class folders."""
    with tarfile.open(out / "cells.tar", "w") as archive:
        archive.add(cells, ".")
    return out / "cells.tar"


def flat(cells, out):
    """A tar file without folders: C-NMC's names say the class."""
    with tarfile.open(out / "flat.tar", "w") as archive:
        for file in files_of(cells):
            archive.add(file, file.name)
    return out / "flat.tar"


def webdataset(cells, out):
    """Two shards without folders, a ``.cls`` member beside each image."""
    for number in range(2):
        with tarfile.open(out / f"set-{number}.tar", "w") as archive:
            for file in files_of(cells)[number::2]:
                archive.add(file, file.name)
                info = tarfile.TarInfo(f"{file.stem}.cls")
                info.size = len(file.parent.name)
                archive.addfile(info, io.BytesIO(file.parent.name.encode()))
    return out / "set-*.tar"


def parquet(cells, out):
    """A Parquet file as Hugging Face writes it, classes being numbers with names."""
    files = files_of(cells)
    names = ["all", "hem"]
    table = pa.table({
        "image": [{"bytes": each.read_bytes(), "path": each.name} for each in files],
        "label": [names.index(each.parent.name) for each in files],
    })  # fmt: skip
    about = {"info": {"features": {"label": {"names": names, "_type": "ClassLabel"}}}}
    table = table.replace_schema_metadata({"huggingface": json.dumps(about)})
    pq.write_table(table, out / "cells.parquet", row_group_size=10)
    return out / "cells.parquet"


@pytest.mark.parametrize("made", [tar, flat, webdataset, parquet], ids=lambda made: made.__name__)
def test_cells_are_those_of_the_folder(made, cells, tmp_path):
    """Class, subject, content and pixels of every cell."""
    expected, found = open_labelled([cells]), open_labelled([made(cells, tmp_path)])

    assert _facts(found) == _facts(expected)
    pixels = [_pixels(each) for each in (expected, found)]
    assert pixels[0].keys() == pixels[1].keys()
    assert all(np.array_equal(pixels[0][name], pixels[1][name]) for name in pixels[0])


def _facts(cells):
    """Return what is known of each cell, by its name."""
    contents = content_hashes(cells)
    assert all(contents)
    return {
        cell.ref.path.rpartition("/")[2]: (cell.label, cell.subject, content)
        for cell, content in zip(cells, contents, strict=True)
    }


def _pixels(cells):
    """Return the pixels of each cell, by its name."""
    decoded = decoded_cells(cells, INPUT, "pillow")
    assert not decoded.faults
    names = [cell.ref.path.rpartition("/")[2] for cell in decoded.cells]
    return dict(zip(names, decoded.pixels, strict=True))


def test_boxes_are_cut_out_of_their_fields(tmp_path):
    """And not taken for the fields; a column may have another name."""
    field = Image.new("RGB", (100, 100), (200, 0, 0))
    field.paste((0, 0, 200), (50, 0, 100, 100))
    field.save(tmp_path / "field.png")
    rows = ["image,class,x,y,width,height", "field.png,red,0,0,40,40", "field.png,blue,55,0,40,40"]
    (tmp_path / "boxes.csv").write_text("\n".join(rows))

    found = open_labelled([tmp_path / "boxes.csv"], options=SourceOptions(columns=("label=class",)))

    assert [cell.label for cell in found] == ["red", "blue"]
    colours = decoded_cells(found, INPUT, "pillow").pixels[:, 16, 16]
    assert colours.tolist() == [[200, 0, 0], [0, 0, 200]]


def test_a_cell_without_a_class_is_an_error(cells, tmp_path):
    """It is named, with what to do."""
    with tarfile.open(tmp_path / "cells.tar", "w") as archive:
        archive.add(files_of(cells)[0], "nobody.png")

    with pytest.raises(SourceError, match=r"of which class nobody\.png is") as caught:
        open_labelled([tmp_path / "cells.tar"])

    assert "--column label=NAME" in caught.value.hint


def test_a_column_says_whose_cells_they_are(cells, tmp_path):
    """In Parquet as in a manifest."""
    data = files_of(cells)[0].read_bytes()
    table = pa.table({"image": [data] * 2, "label": ["a", "b"], "subject": ["007", None]})
    pq.write_table(table, tmp_path / "cells.parquet")

    found = open_labelled([tmp_path / "cells.parquet"])

    assert [(cell.label, cell.subject) for cell in found] == [("a", "007"), ("b", "")]


def test_commands_take_archives(cells, bundle, command, tmp_path):
    """Check and evaluate say of a tar file what they say of the folder."""
    archive = tar(cells, tmp_path)

    for arguments in (["check"], ["evaluate", bundle]):
        options = ["--decoder", "pillow", "--json"]
        of_folder, of_archive = (
            json.loads(command(*arguments, each, *options).stdout) for each in (cells, archive)
        )
        assert of_archive == of_folder


@pytest.mark.long
def test_a_training_from_a_tar_file_is_that_from_the_folder(
    cells, bundle, small, command, tmp_path
):
    """Bit for bit."""
    command("fit", tar(cells, tmp_path), "--out", tmp_path / "again", *small)

    weights = "model.safetensors"
    assert (tmp_path / "again" / weights).read_bytes() == (bundle / weights).read_bytes()
