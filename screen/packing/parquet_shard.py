"""Shards as Parquet files with the images in them, as Hugging Face's ``datasets`` has them."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING

import pyarrow as pa
import pyarrow.parquet as pq

from engines.files import native_file
from screen.packing.shard import Cell, Columns, Shard

if TYPE_CHECKING:
    from pathlib import Path

__all__ = ["ParquetShard"]

IMAGE = pa.struct([("bytes", pa.binary()), ("path", pa.string())])
GROUP_BYTES, GROUP_ROWS = 32 << 20, 1000  # a reader has to hold a group of rows
PACKED = "image.bytes"  # images are packed already, or wanted fast


class ParquetShard(Shard):
    """
    A Parquet file with the columns ``image`` {bytes, path}, ``slide``, and what the source says.

    The bytes are stored as they are, in small groups of rows, each page with a checksum.
    """

    def __init__(self, path: Path, columns: Columns) -> None:
        """Begin a file."""
        super().__init__(path, columns)
        fields = [("image", IMAGE), ("slide", pa.string()), *columns.types.items()]
        self._schema = pa.schema(fields, {b"huggingface": _features(columns)})
        self._file = native_file(path, "wb")
        plain = [f"image.{field.name}" for field in IMAGE] + self._schema.names[1:]
        self._writer = pq.ParquetWriter(
            self._file,
            self._schema,
            compression={name: "none" if name == PACKED else "zstd" for name in plain},
            use_dictionary=[name for name in plain if name != PACKED],
            write_statistics=[name for name in plain if name != PACKED],
            write_page_checksum=True,
        )
        self._cells: list[Cell] = []
        self._size = self._waiting = 0

    @property
    def size(self) -> int:
        """How many bytes its images have."""
        return self._size

    def add(self, cell: Cell) -> None:
        """Add a cell."""
        self._cells.append(cell)
        self._size += len(cell.data)
        self._waiting += len(cell.data)
        if self._waiting >= GROUP_BYTES or len(self._cells) == GROUP_ROWS:
            self._flush()

    def __exit__(self, *raised: object) -> None:
        """Write the last rows and the index, and close it."""
        if not any(raised):
            self._flush()
        self._writer.close()
        self._file.close()

    def _flush(self) -> None:
        """Write a group of rows."""
        if self._cells:
            rows = [
                {
                    "image": {"bytes": cell.data, "path": cell.entry.path},
                    **self.columns.said(cell.entry),
                }
                for cell in self._cells
            ]
            self._writer.write_table(pa.Table.from_pylist(rows, schema=self._schema))
        self._cells, self._waiting = [], 0


def _features(columns: Columns) -> bytes:
    """Say in the words of ``datasets`` that the column ``image`` is to be decoded."""
    values = {name: {"dtype": str(kind), "_type": "Value"} for name, kind in columns.types.items()}
    slide = {"dtype": "string", "_type": "Value"}
    features = {"image": {"_type": "Image"}, "slide": slide, **values}
    return json.dumps({"info": {"features": features}}).encode()
