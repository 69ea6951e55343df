"""
A results folder: its layout, its lock, and the mark that says a file is ours.

::

    results/
      run.json               what ran
      plan.parquet           path, slide, shard: one row per cell of the source
      cells/part-00000.parquet ...   one row per cell, a shard each
      slides.parquet         one row per slide
"""

from __future__ import annotations

import json
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pyarrow as pa
import pyarrow.dataset as ds
import pyarrow.parquet as pq
from filelock import FileLock, Timeout

from engines.errors import ResultsError
from engines.files import discard_scratch, whole_file

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping


__all__ = ["FINGERPRINT_KEY", "ResultsFolder", "open_results", "write_table"]

FINGERPRINT_KEY = b"slidescreen.fingerprint"
RUN_FORMAT = 1


@dataclass(frozen=True, slots=True)
class ResultsFolder:
    """Paths of a results folder, and what is done to it as a whole."""

    path: Path

    @property
    def run_json(self) -> Path:
        """What ran."""
        return self.path / "run.json"

    @property
    def plan(self) -> Path:
        """Every cell, its slide and its shard."""
        return self.path / "plan.parquet"

    @property
    def cells(self) -> Path:
        """The folder of part files."""
        return self.path / "cells"

    @property
    def slides(self) -> Path:
        """One row per slide."""
        return self.path / "slides.parquet"

    def part(self, index: int) -> Path:
        """Return where shard *index* goes."""
        return self.cells / f"part-{index:05d}.parquet"

    @contextmanager
    def locked(self) -> Iterator[None]:
        """
        Keep other runs out; the system drops the lock with the process, however that ends.

        Raises:
            ResultsError: If another run holds it, or the folder cannot be made.
        """
        try:
            self.cells.mkdir(parents=True, exist_ok=True)
        except OSError as error:
            raise ResultsError(f"cannot make {self.path}: {error.strerror}") from error
        try:
            with FileLock(self.path / ".lock", timeout=0):
                discard_scratch(self.path)
                discard_scratch(self.cells)
                yield
        except Timeout as error:
            raise ResultsError(
                f"another run is writing to {self.path}",
                hint="wait for it, or choose another --out",
            ) from error

    def read_run(self) -> dict[str, Any] | None:
        """
        Return run.json, or None if there is none.

        Raises:
            ResultsError: If there is one that is not ours.
        """
        try:
            record = json.loads(self.run_json.read_text(encoding="utf-8"))
        except FileNotFoundError:
            return None
        except (OSError, ValueError) as error:
            raise ResultsError(f"cannot read {self.run_json}: {error}") from error
        if not isinstance(record, dict) or record.get("format") != RUN_FORMAT:
            raise ResultsError(
                f"{self.run_json} was not written by this version of slidescreen",
                hint="choose another --out",
            )
        return record

    def read_slides(self) -> list[dict[str, Any]]:
        """Return slides.parquet, a dictionary per row."""
        rows: list[dict[str, Any]] = pq.read_table(self.slides).to_pylist()
        return rows

    def write_run(self, record: Mapping[str, Any]) -> None:
        """Replace run.json."""
        with whole_file(self.run_json) as scratch:
            text = json.dumps({"format": RUN_FORMAT, **record}, indent=2, ensure_ascii=False)
            scratch.write_text(text + "\n", encoding="utf-8")

    def discard(self) -> None:
        """
        Remove an earlier run, file by file, and only what carries its mark.

        Raises:
            ResultsError: Before anything is removed, if a file in the way is not ours.
        """
        tables = [self.slides, self.plan, *sorted(self.cells.glob("*.parquet"))]
        tables = [table for table in tables if table.exists()]
        for table in tables:
            if not _carries_fingerprint(table):
                raise ResultsError(
                    f"{table} was not written by slidescreen, so it is left alone",
                    hint="move it away, or choose another --out",
                )
        self.read_run()
        for path in (self.run_json, *tables):
            path.unlink(missing_ok=True)

    def refuse_strangers(self) -> None:
        """
        Make sure there is nothing here, as far as this tool goes.

        A run killed before its run.json has left a plan of ours at most, which is removed.

        Raises:
            ResultsError: If there are tables here but no run that they belong to.
        """
        tables = [
            *self.cells.glob("*.parquet"),
            *(path for path in (self.slides, self.plan) if path.exists()),
        ]
        if tables == [self.plan] and _carries_fingerprint(self.plan):
            self.plan.unlink()
        elif tables:
            raise ResultsError(
                f"{self.path} holds tables, such as {tables[0].name}, but no run.json",
                hint="choose another --out, or pass --restart to remove what slidescreen wrote",
            )


def open_results(path: Path | str) -> ds.Dataset:
    """
    Open the cells of a results folder as one dataset, a row per cell.

    Raises:
        ResultsError: If it holds none.
    """
    cells = ResultsFolder(Path(path)).cells
    parts = sorted(cells.glob("part-*.parquet"))
    if not parts:
        raise ResultsError(
            f"{path} holds no results", hint="name a folder that slidescreen run has written to"
        )
    return ds.dataset(parts, format="parquet")


def write_table(table: pa.Table, path: Path, metadata: Mapping[bytes, bytes]) -> None:
    """Write a table, whole or not at all, with *metadata* in its schema."""
    marked = table.replace_schema_metadata({**(table.schema.metadata or {}), **metadata})
    with whole_file(path) as scratch:
        pq.write_table(marked, scratch, compression="zstd")


def _carries_fingerprint(path: Path) -> bool:
    """Whether a Parquet file is one of ours."""
    try:
        metadata = pq.read_schema(path).metadata or {}
    except (OSError, pa.ArrowException):
        return False
    return FINGERPRINT_KEY in metadata
