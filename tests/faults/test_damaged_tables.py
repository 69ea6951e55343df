"""Tables of labels and manifests that are damaged, or were never what their names say."""

from __future__ import annotations

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from faults.conftest import only_user_errors
from faults.mutants import mutants, regions

from engines.errors import SourceError
from engines.sources.labels import open_labels
from engines.sources.tables.manifest import ManifestSource

CSV = b"path,label,slide,age\na/1.png,all,s,1\nb/2.png,hem,t,2\n3.png,x,u,3\n"
ODD_CSV = [
    b"\0",
    b"path,label\n1.png\0,all\n",
    b'"',
    b"path,label\n\xff\xfe,all\n",
    b"path,path,label\na,b,c\n",
    b'path,label\n"' + b"x" * 300_000 + b'",all\n',
    b'"' + b"x" * 200_000 + b'",label\n',
    b"PAR1",
    b"PAR1" + bytes(100) + b"PAR1",
    "path,label\n1.png,all\n".encode("utf-16"),
]
ODD_COLUMNS = [
    ([[1], [2]], ["a", "b"]),
    ([b"\xff", b"a"], ["a", "b"]),
    ([None, None], ["a", "b"]),
    ([1.5, 2.0], [True, False]),
    ([{"a": 1}, {"a": 2}], ["a", "b"]),
]


def as_parquet(columns, names=("path", "label")):
    """Return a Parquet file of some columns."""
    buffer = pa.BufferOutputStream()
    pq.write_table(pa.table([pa.array(each) for each in columns], names=list(names)), buffer)
    return bytes(buffer.getvalue())


def tables(how_many):
    """Yield the name of a file and its bytes."""
    parquet = as_parquet([["a/1.png", "2.png"], ["all", "hem"], [1, 2]], ("path", "label", "age"))
    odd = [as_parquet(columns) for columns in ODD_COLUMNS]
    odd.append(as_parquet([["a"], ["b"], ["c"]], ("path", "path", "label")))
    for data in ODD_CSV:
        yield "odd.csv", data
    for data in odd:
        yield "odd.parquet", data
    for name, data in mutants(CSV, how_many(40, 1000), 1, ODD_CSV):
        yield f"{name}.csv", data
    for name, data in mutants(parquet, how_many(60, 1000), 2, odd):
        yield f"{name}.parquet", data
    for name, data in regions(parquet, how_many(40, len(parquet))):
        yield f"{name}.parquet", data


def test_a_table_is_read_or_refused(tmp_path, how_many):
    """As labels and as a manifest: never a traceback."""
    for name, data in tables(how_many):
        file = tmp_path / name
        file.write_bytes(data)
        for work in (
            lambda file=file: open_labels(str(file), ("hem", "all")).codes(["a/1.png", "2.png"]),
            lambda file=file: list(ManifestSource(file).list()),
        ):
            try:
                only_user_errors(work)
            except Exception as bug:
                pytest.fail(f"{name}, {data[:200]!r}: {bug!r}")


def test_a_field_without_an_end_is_said_to_be_unreadable(tmp_path):
    """Python's reader gives up on more than 131,072 characters."""
    file = tmp_path / "labels.csv"
    file.write_bytes(b'"' + b"x" * 200_000)

    with pytest.raises(SourceError, match=r"cannot read the labels .*field larger"):
        open_labels(str(file), ("hem", "all"))
