"""Results as one Parquet file, all columns as they are."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pyarrow.parquet as pq

from engines.errors import ResultsError
from engines.files import native_file
from screen.export.tables import Written
from screen.results.schema import FINGERPRINT_KEY
from screen.results.tables import read_footer

if TYPE_CHECKING:
    from pathlib import Path

    from screen.export.tables import Exported

__all__ = ["is_ours", "write"]

EXPORT_KEY = b"slidescreen.export"  # not the tables' own mark, which says "belongs to a run"


def write(exported: Exported, path: Path) -> Written:
    """Write every column, evidence maps and embeddings too; the run is named in the metadata."""
    told = dict(exported.schema.metadata or {})
    told.pop(FINGERPRINT_KEY, None)
    told[EXPORT_KEY] = exported.record.fingerprint.digest.encode()
    schema = exported.schema.with_metadata(told)
    rows = 0
    with (
        native_file(path, "wb") as file,
        pq.ParquetWriter(file, schema, compression="zstd", write_page_checksum=True) as writer,
    ):
        for batch in exported.batches():
            writer.write_batch(batch.replace_schema_metadata(told))
            rows += len(batch)
    return Written(rows)


def is_ours(path: Path) -> bool:
    """Whether a file is marked as an export; a table of a results folder is not."""
    try:
        return EXPORT_KEY in (read_footer(path).metadata or {})
    except ResultsError:
        return False
