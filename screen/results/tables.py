"""Tables on disk: written whole, with their mark and with checksums that are checked when read."""

from __future__ import annotations

from contextlib import contextmanager
from typing import TYPE_CHECKING

import pyarrow as pa
import pyarrow.parquet as pq

from engines.errors import ResultsError
from engines.files import native_file, whole_file
from engines.locations import access_hint, is_url, storage_errors
from screen.results.schema import FINGERPRINT_KEY

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

    from engines.locations import Location

__all__ = [
    "AWAY_HINT",
    "carries_fingerprint",
    "read_footer",
    "read_table",
    "reading",
    "table_bytes",
    "write_table",
    "writing",
]

AWAY_HINT = "move it away, or choose another --out"


def write_table(table: pa.Table, path: Location, metadata: Mapping[bytes, bytes]) -> None:
    """Write a table, whole or not at all, with *metadata* in its schema."""
    with writing(path), whole_file(path) as scratch:
        scratch.write_bytes(table_bytes(table, metadata))


def table_bytes(table: pa.Table, metadata: Mapping[bytes, bytes]) -> bytes:
    """Return a table as a Parquet file with checksums, and with *metadata* in its schema."""
    marked = table.replace_schema_metadata({**(table.schema.metadata or {}), **metadata})
    buffer = pa.BufferOutputStream()
    pq.write_table(marked, buffer, compression="zstd", write_page_checksum=True)
    return bytes(buffer.getvalue())


def read_table(path: Location) -> pa.Table:
    """
    Return a whole table, its checksums checked.

    Raises:
        ResultsError: If it is damaged or cannot be read.
    """
    with reading(path), native_file(path) as file:
        return pq.read_table(file, page_checksum_verification=True)


def read_footer(path: Location) -> pq.FileMetaData:
    """
    Return a table's row count and metadata.

    Raises:
        ResultsError: If it cannot be read.
    """
    with reading(path), native_file(path) as file:
        return pq.read_metadata(file)


def carries_fingerprint(path: Location) -> bool:
    """Whether a Parquet file is one of ours, of whatever run."""
    try:
        return FINGERPRINT_KEY in (read_footer(path).metadata or {})
    except ResultsError:
        return False


@contextmanager
def reading(path: Location) -> Iterator[None]:
    """Raise ResultsError where a file cannot be read or is damaged."""
    try:
        with storage_errors():
            yield
    except (OSError, ValueError, pa.ArrowException) as error:
        hint = access_hint(path) if isinstance(error, PermissionError) else AWAY_HINT
        raise ResultsError(f"cannot read {path}: {error}", hint=hint) from error


@contextmanager
def writing(path: Location) -> Iterator[None]:
    """Raise ResultsError where the system refuses a write."""
    try:
        with storage_errors():
            yield
    except (OSError, pa.ArrowException) as error:
        reason = getattr(error, "strerror", None) or error
        raise ResultsError(f"cannot write {path}: {reason}", hint=_write_hint(path)) from error


def _write_hint(path: Location) -> str:
    """Say what to do where the system refuses a write."""
    if is_url(path):
        return f"{access_hint(path)}; the same command then goes on"
    return "see to space and permissions; the same command then goes on"
