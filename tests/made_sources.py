"""The same cells as every kind of source."""

from __future__ import annotations

import csv
import hashlib
import io
import json
import os
import shutil
import tarfile
import zipfile

import pyarrow as pa
import pyarrow.parquet as pq

__all__ = ["KINDS", "made_source"]


def made_source(kind, cells, out):
    """Return what to open, made in the folder *out* from the folder *cells*."""
    return KINDS[kind](cells, out)


def folder(cells, _out):
    """The folder itself."""
    return cells


def images(cells, _out):
    """Each image of one folder by name."""
    return sorted((cells / "second").iterdir())


def several(cells, _out):
    """Two folders."""
    return [cells / "first", cells / "second"]


def manifest(cells, out):
    """A CSV file that names each cell, its slide and more."""
    files = sorted(path for path in cells.rglob("*") if path.is_file())
    out.mkdir(exist_ok=True)
    path = out / "cells.csv"
    with path.open("w", newline="", encoding="utf-8") as file:
        rows = csv.writer(file)
        rows.writerow(["path", "slide", "label", "sha256", "number"])
        for number, cell in enumerate(files):
            name = os.path.relpath(cell, out)
            digest = hashlib.sha256(cell.read_bytes()).hexdigest()
            rows.writerow([name, f"slide of {cell.parent.name}", "hem", digest, number])
    return path


def boxes(cells, out):
    """Boxes on some of the cells, as if they were fields; one is empty."""
    out.mkdir(exist_ok=True)
    path = out / "boxes.csv"
    lines = ["path,class,x,y,width,height"]
    for cell in sorted((cells / "second").glob("*.bmp")):
        name = os.path.relpath(cell, out)
        lines += [f"{name},a,{x},5,40,40" for x in (0, 10, 70)] + [f"{name},b,5,5,0,9"]
    path.write_text("\n".join(lines), encoding="utf-8")
    return path


def tar(cells, out):
    """A tar file."""
    out.mkdir(exist_ok=True)
    path = out / "cells.tar"
    with tarfile.open(path, "w") as archive:
        archive.add(cells, ".")
    return path


def webdataset(cells, out):
    """Two shards, each cell with its class; some names are in both."""
    out.mkdir(exist_ok=True)
    for number in range(2):
        with tarfile.open(out / f"cells-{number:05d}.tar", "w") as archive:
            for cell in sorted((cells / "second").glob("*.*"))[3 * number : 4 + 3 * number]:
                archive.add(cell, cell.name)
                label = tarfile.TarInfo(f"{cell.name.partition('.')[0]}.cls")
                label.size = 1
                archive.addfile(label, io.BytesIO(b"1"))
    return f"{out}/cells-*.tar"


def zipped(cells, out):
    """A zip file, half of it deflated."""
    out.mkdir(exist_ok=True)
    path = out / "cells.zip"
    with zipfile.ZipFile(path, "w") as archive:
        for number, cell in enumerate(sorted(cells.rglob("*.*"))):
            packed = zipfile.ZIP_DEFLATED if number % 2 else zipfile.ZIP_STORED
            archive.write(cell, cell.relative_to(cells), packed)
    return path


def parquet(cells, out):
    """A Parquet file with the images in it, as Hugging Face lays them out, in groups of three."""
    out.mkdir(exist_ok=True)
    files = sorted(path for path in cells.rglob("*") if path.is_file())
    images = [{"bytes": f.read_bytes(), "path": f.relative_to(cells).as_posix()} for f in files]
    table = pa.table({"image": images, "age": list(range(len(files)))})
    pq.write_table(table, out / "cells.parquet", row_group_size=3)
    return out / "cells.parquet"


def geojson(cells, out):
    """QuPath's GeoJSON of one image, called like it: a cell, one with no area, an annotation."""
    out.mkdir(exist_ok=True)
    image = min((cells / "second").glob("*.bmp"))
    shutil.copy(image, out / "field.bmp")
    shapes = [("cell", [[[10, 5], [50, 5], [30, 45]]]), ("cell", [[[3, 3], [3, 3]]])]
    shapes.append(("annotation", [[[0, 0], [99, 99]]]))
    features = [
        {
            "type": "Feature",
            "id": f"id-{number}",
            "geometry": {"type": "Polygon", "coordinates": shape},
            "properties": {"objectType": kind, "classification": {"name": "hem"}},
        }
        for number, (kind, shape) in enumerate(shapes)
    ]
    path = out / "field.geojson"
    path.write_text(json.dumps({"type": "FeatureCollection", "features": features}))
    return path


def coco(cells, out):
    """COCO's annotations of two images, which lie in the folder ``images`` beside the file."""
    (out / "images").mkdir(parents=True, exist_ok=True)
    for number, image in enumerate(sorted((cells / "second").glob("*.bmp"))[:2]):
        shutil.copy(image, out / "images" / f"{number}.bmp")
    boxes = [(0, [0, 5, 40, 40]), (1, [10.5, 5, 40, 40]), (1, [1, 1, 0, 0])]
    content = {
        "images": [{"id": number, "file_name": f"{number}.bmp"} for number in (0, 1)],
        "annotations": [
            {"id": number, "image_id": image, "bbox": box, "category_id": 7}
            for number, (image, box) in enumerate(boxes)
        ],
        "categories": [{"id": 7, "name": "all"}],
    }
    (out / "coco.json").write_text(json.dumps(content))
    return out / "coco.json"


KINDS = {
    "folder": folder,
    "images": images,
    "several": several,
    "manifest": manifest,
    "boxes": boxes,
    "tar": tar,
    "webdataset": webdataset,
    "zip": zipped,
    "parquet": parquet,
    "geojson": geojson,
    "coco": coco,
}
