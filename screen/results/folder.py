"""
A results folder: its layout, its lock, and the mark that says a file is ours.

::

    results/
      run.json               what ran
      plan.parquet           path, slide, shard: one row per cell of the source
      cells/part-00000.parquet ...   one row per cell, a shard each; nothing else is in there
      parts/part-00000.json ...      what each table was when it was written: hash, rows, codecs
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
from screen.results.tables import read_table, writing

if TYPE_CHECKING:
    from collections.abc import Iterator

__all__ = [
    "REPORT_MARK",
    "ResultsFolder",
    "is_report",
    "open_results",
    "part_files",
]

CHECKED = ds.ParquetFileFormat(
    default_fragment_scan_options=ds.ParquetFragmentScanOptions(page_checksum_verification=True)
)
REPORT_MARK = b'<meta name="slidescreen-fingerprint" content="'

LOCK = ".lock"


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
    def records(self) -> Path:
        """The folder of what is known of every table; see ``screen.results.table_records``."""
        return self.path / "parts"

    @property
    def tables(self) -> list[Path]:
        """Every table that is there."""
        single = (self.slides, self.duplicates, self.plan)
        return [*sorted(self.cells.glob("*.parquet")), *(path for path in single if path.exists())]

    def record_of(self, table: Path) -> Path:
        """Return where the record of a table goes."""
        return self.records / f"{table.stem}.json"

    def part(self, index: int) -> Path:
        """Return where shard *index* goes."""
        return self.cells / f"part-{index:05d}.parquet"

    @contextmanager
    def locked(self) -> Iterator[None]:
        """
        Keep other runs out; the system drops the lock with the process, however that ends.

        A folder that was made for this and holds nothing in the end is removed again.

        Raises:
            ResultsError: If another run holds it, or the folder cannot be made.
        """
        _require_unicode(self.path)
        with writing(self.path):
            made = [folder for folder in (self.path, *self.path.parents) if not folder.exists()]
            self.path.mkdir(parents=True, exist_ok=True)
            lock = FileLock(self.path / LOCK, timeout=0)
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
            discard_scratch(self.records, r"(part-\d+|slides|duplicates|plan)\.json")
            yield
        finally:
            _remove_unused(made)
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


def open_results(path: Path | str) -> ds.Dataset:
    """
    Open the cells of a results folder as one dataset, a row per cell, in the order of the plan.

    Raises:
        ResultsError: If it holds none.
    """
    parts = part_files(ResultsFolder(Path(path).absolute()))
    # Said to be local files: a colon in a name would make it an address.
    return ds.dataset([str(part) for part in parts], format=CHECKED, filesystem=LocalFileSystem())


def part_files(results: ResultsFolder) -> list[Path]:
    """
    Return the parts that are there, in the order of the plan.

    Raises:
        ResultsError: If there is none.
    """
    parts = results.cells.glob("part-*.parquet")
    found = sorted(parts, key=lambda part: (len(part.name), part.name))
    if not found:
        raise ResultsError(
            f"{results.path} holds no results",
            hint="name a folder that slidescreen run has written to",
        )
    return found


def is_report(path: Path) -> bool:
    """Whether a file is a report of ours, by the mark near its beginning."""
    try:
        with path.open("rb") as file:
            return REPORT_MARK in file.read(4096)
    except OSError:
        return False


def _remove_unused(made: list[Path]) -> None:
    """Remove folders, the innermost first, if a run was to write to them and wrote nothing."""
    if made and [path.name for path in made[0].iterdir()] == [LOCK]:
        (made[0] / LOCK).unlink()
        for folder in made:
            if not any(folder.iterdir()):
                folder.rmdir()


def _require_unicode(path: Path) -> None:
    """Refuse a results folder whose name Parquet libraries could not open."""
    try:
        str(path).encode()
    except UnicodeEncodeError as error:
        raise ResultsError(
            f"the name {path!r} is not Unicode", hint="choose another --out"
        ) from error
