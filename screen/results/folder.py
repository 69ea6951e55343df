"""
A results folder: its layout, its lock, and the mark that says a file is ours.

::

    results/
      run.json               what ran
      plan.parquet           path, slide, shard: one row per cell of the source
      cells/part-00000.parquet ...   one row per cell, a shard each
      slides.parquet         one row per slide
      duplicates.parquet     cells whose file is the same as an earlier cell's
      report.html            for people; made when asked for
"""

from __future__ import annotations

import json
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pyarrow.dataset as ds
from filelock import FileLock, Timeout
from pyarrow.fs import LocalFileSystem

from engines.errors import ResultsError
from engines.files import discard_scratch, whole_file
from screen.results.run_record import RunRecord, read_run_json
from screen.results.tables import AWAY_HINT, carries_fingerprint, read_table, writing

if TYPE_CHECKING:
    from collections.abc import Iterator

__all__ = [
    "REPORT_MARK",
    "ResultsFolder",
    "is_report",
    "open_results",
]

CHECKED = ds.ParquetFileFormat(
    default_fragment_scan_options=ds.ParquetFragmentScanOptions(page_checksum_verification=True)
)
REPORT_MARK = b'<meta name="slidescreen-fingerprint" content="'


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

    @property
    def duplicates(self) -> Path:
        """Cells whose content an earlier cell has."""
        return self.path / "duplicates.parquet"

    @property
    def report(self) -> Path:
        """All of it in words and pictures."""
        return self.path / "report.html"

    @property
    def _tables(self) -> list[Path]:
        """Every table that is there."""
        single = (self.slides, self.duplicates, self.plan)
        return [*sorted(self.cells.glob("*.parquet")), *(path for path in single if path.exists())]

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
        _require_unicode(self.path)
        with writing(self.path):
            self.path.mkdir(parents=True, exist_ok=True)
            lock = FileLock(self.path / ".lock", timeout=0)
            try:
                lock.acquire()
            except Timeout as error:
                raise ResultsError(
                    f"another run is writing to {self.path}",
                    hint="wait for it, or choose another --out",
                ) from error
        try:
            discard_scratch(self.path, r"(run\.json|(plan|slides|duplicates)\.parquet)")
            discard_scratch(self.cells, r"part-\d+\.parquet")
            yield
        finally:
            lock.release()

    def read_run(self) -> RunRecord | None:
        """
        Return run.json, or None if there is none.

        Raises:
            ResultsError: If there is one that is damaged or not ours.
        """
        return read_run_json(self.run_json)

    def read_slides(self) -> list[dict[str, Any]]:
        """Return slides.parquet, a dictionary per row."""
        rows: list[dict[str, Any]] = read_table(self.slides).to_pylist()
        return rows

    def write_run(self, record: RunRecord) -> None:
        """Replace run.json."""
        with writing(self.run_json), whole_file(self.run_json) as scratch:
            text = json.dumps(record.to_json(), indent=2, ensure_ascii=False)
            scratch.write_text(text + "\n", encoding="utf-8")

    def drop_report(self) -> None:
        """Remove a report of ours: what it says is no longer so."""
        if is_report(self.report):
            with writing(self.report):
                self.report.unlink()

    def discardable(self) -> list[Path]:
        """
        Name the files of an earlier run: those that carry its mark.

        Raises:
            ResultsError: If a file in the way does not.
        """
        tables = self._tables
        for table in tables:
            if not carries_fingerprint(table):
                raise ResultsError(
                    f"{table} is damaged or was not written by slidescreen: it is left alone",
                    hint=AWAY_HINT,
                )
        if is_report(self.report):
            tables.append(self.report)
        return tables if self.read_run() is None else [self.run_json, *tables]

    def leftovers(self) -> list[Path]:
        """
        Name what a run killed before its run.json left: at most a plan of ours.

        Raises:
            ResultsError: If there are other tables, but no run that they belong to.
        """
        tables = self._tables
        if not tables or (tables == [self.plan] and carries_fingerprint(self.plan)):
            return tables
        raise ResultsError(
            f"{self.path} holds tables, such as {tables[0].name}, but no run.json",
            hint="choose another --out, or pass --restart to discard them",
        )


def open_results(path: Path | str) -> ds.Dataset:
    """
    Open the cells of a results folder as one dataset, a row per cell, in the order of the plan.

    Raises:
        ResultsError: If it holds none.
    """
    cells = ResultsFolder(Path(path).absolute()).cells
    parts = sorted(cells.glob("part-*.parquet"), key=lambda part: (len(part.name), part.name))
    if not parts:
        raise ResultsError(
            f"{path} holds no results", hint="name a folder that slidescreen run has written to"
        )
    # Said to be local files: a colon in a name would make it an address.
    return ds.dataset([str(part) for part in parts], format=CHECKED, filesystem=LocalFileSystem())


def is_report(path: Path) -> bool:
    """Whether a file is a report of ours, by the mark near its beginning."""
    try:
        with path.open("rb") as file:
            return REPORT_MARK in file.read(4096)
    except OSError:
        return False


def _require_unicode(path: Path) -> None:
    """Refuse a results folder whose name Parquet libraries could not open."""
    try:
        str(path).encode()
    except UnicodeEncodeError as error:
        raise ResultsError(
            f"the name {path!r} is not Unicode", hint="choose another --out"
        ) from error
