"""
What every table was when it was written: a small JSON file each, in the folder ``parts``.

A table is trusted only while its bytes are those that its record lists. So one that was damaged,
swapped or copied over another is noticed, whatever Parquet thinks of it. The record is written
after the table: a kill in between leaves a table without a record, which counts as not written.
"""

from __future__ import annotations

import hashlib
import json
from collections import Counter
from collections.abc import Mapping  # noqa: TC003  (the hint is evaluated when a record is read)
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from engines.errors import ResultsError
from engines.files import make_folder, read_json, sha256_of_file, whole_file
from engines.json_records import record_from_json, record_to_json
from screen.results.schema import FINGERPRINT_KEY
from screen.results.tables import read_footer, reading, table_bytes, writing

if TYPE_CHECKING:
    import pyarrow as pa

    from engines.locations import Location
    from screen.results.fingerprint import Fingerprint
    from screen.results.folder import ResultsFolder

__all__ = ["AGAIN_HINT", "TableRecord", "check_table", "read_record", "write_recorded"]

AGAIN_HINT = "run the same command again: it screens what is damaged or missing once more"


@dataclass(frozen=True, slots=True, kw_only=True)
class TableRecord:
    """
    What a table was when it was written.

    Attributes:
        table: Its path in the results folder, ``/``-separated.
        fingerprint: Digest of the run that wrote it.
        sha256: Of its bytes, in hex.
        size: In bytes.
        rows: How many.
        revision: Of the plan that a part was written by.
        codecs: For a part, how many of its cells each codec decoded; the others are at fault.
    """

    table: str
    fingerprint: str
    sha256: str
    size: int
    rows: int
    revision: int = 1
    codecs: Mapping[str, int] = field(default_factory=dict)

    @property
    def scored(self) -> int:
        """How many cells of a part were scored."""
        return sum(self.codecs.values())

    @property
    def bad(self) -> int:
        """How many cells of a part could not be scored."""
        return self.rows - self.scored


def write_recorded(
    results: ResultsFolder,
    path: Location,
    table: pa.Table,
    fingerprint: Fingerprint,
    revision: int = 1,
) -> TableRecord:
    """
    Write a table and then its record, each whole or not at all.

    Args:
        results: Where.
        path: The table's own place in it.
        table: A part tells by its column ``codec`` how many cells were scored.
        fingerprint: Of the run.
        revision: Of the plan that a part is written by.

    Raises:
        ResultsError: If the system refuses.
    """
    data = table_bytes(table, fingerprint.metadata)
    with writing(path), whole_file(path) as scratch:
        scratch.write_bytes(data)
    record = TableRecord(
        table=results.name_of(path),
        fingerprint=fingerprint.digest,
        sha256=hashlib.sha256(data).hexdigest(),
        size=len(data),
        rows=len(table),
        revision=revision,
        codecs=_codecs(table),
    )
    beside = results.record_of(path)
    with writing(beside):
        make_folder(beside.parent)
        with whole_file(beside) as scratch:
            scratch.write_text(json.dumps(record_to_json(record), indent=2) + "\n")
    return record


def _codecs(table: pa.Table) -> dict[str, int]:
    """Count the cells that each codec decoded, if it is a table of cells."""
    if "codec" not in table.column_names:
        return {}
    return dict(Counter(name for name in table["codec"].to_pylist() if name is not None))


def read_record(results: ResultsFolder, path: Location) -> TableRecord | None:
    """
    Return the record of a table, or None if there is none.

    Raises:
        ResultsError: If it is damaged or is another table's.
    """
    beside = results.record_of(path)
    try:
        with reading(beside):
            record = record_from_json(TableRecord, read_json(beside))
    except ResultsError as error:
        if isinstance(error.__cause__, FileNotFoundError):
            return None
        raise ResultsError(f"{beside} is damaged: {error.__cause__}", hint=AGAIN_HINT) from error
    if record.table != results.name_of(path):
        raise ResultsError(f"{beside} is the record of {record.table}", hint=AGAIN_HINT)
    return record


def check_table(results: ResultsFolder, path: Location, digest: str) -> TableRecord:
    """
    Return the record of a table that is what it was when the run with this *digest* wrote it.

    Raises:
        ResultsError: If it is missing, damaged, of another run, or has no record.
    """
    record = read_record(results, path)
    if record is None:
        raise ResultsError(f"{path} has no record that vouches for it", hint=AGAIN_HINT)
    with reading(path):
        same = path.stat().st_size == record.size and sha256_of_file(path) == record.sha256
    if record.fingerprint != digest or (not same and _is_of_another_run(path, digest)):
        raise ResultsError(
            f"{path} does not belong to the run that run.json speaks of", hint=AGAIN_HINT
        )
    if not same:
        raise ResultsError(f"{path} is damaged, or another file is in its place", hint=AGAIN_HINT)
    return record


def _is_of_another_run(path: Location, digest: str) -> bool:
    """Whether a table can be read and is marked as another run's."""
    try:
        mark = (read_footer(path).metadata or {}).get(FINGERPRINT_KEY)
    except ResultsError:
        return False
    return mark is not None and mark != digest.encode()
