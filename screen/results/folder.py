"""
A results folder: its layout, its lock, and the mark that says a file is ours.

It is a folder of this machine or a URL (``engines.locations``), such as s3://bucket/results. Behind
a URL there is no lock: two runs of the same kind write the same rows.

::

    results/
      run.json               what ran
      plan.parquet           path, slide, shard: one row per cell of the source
      cells/part-00000.parquet ...   one row per cell, a shard each; nothing else is in there
      parts/part-00000.json ...      what each table was when it was written: hash, rows, codecs
      parts/share-00003-of-00032.json    what screened one part of a run (--part)
      slides.parquet         one row per slide
      duplicates.parquet     cells whose file is the same as an earlier cell's
      gone.parquet           rows of cells that an update no longer found
      report.html            for people; made when asked for
"""

from __future__ import annotations

import json
import logging
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any
from uuid import uuid4

import pyarrow.dataset as ds
from filelock import FileLock, Timeout
from pyarrow.fs import FSSpecHandler, LocalFileSystem, PyFileSystem

from engines.errors import ResultsError
from engines.files import discard_scratch, files_in, make_folder, new_file, whole_file
from engines.locations import location, storage_errors
from screen.results.run_record import RunRecord, read_run_json
from screen.results.tables import read_table, writing

if TYPE_CHECKING:
    import os
    from collections.abc import Iterator

    from engines.locations import Location

__all__ = [
    "RECORD_NAME",
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

LOG = logging.getLogger(__name__)
LOCK = ".lock"
RECORD_NAME = r"(part-\d+|slides|duplicates|gone|plan|share-\d+-of-\d+)"
SCRATCH = {
    "": r"(run\.json|report\.html|(plan|slides|duplicates|gone)\.parquet)",
    "cells": r"part-\d+\.parquet",
    "parts": rf"{RECORD_NAME}\.json",
}


@dataclass(frozen=True, slots=True)
class ResultsFolder:
    """Paths of a results folder, and what is done to it as a whole."""

    path: Location

    @property
    def run_json(self) -> Location:
        """What ran."""
        return self.path / "run.json"

    @property
    def plan(self) -> Location:
        """Every cell, its slide and its shard."""
        return self.path / "plan.parquet"

    @property
    def cells(self) -> Location:
        """The folder of part files."""
        return self.path / "cells"

    @property
    def slides(self) -> Location:
        """One row per slide."""
        return self.path / "slides.parquet"

    @property
    def duplicates(self) -> Location:
        """Cells whose content an earlier cell has."""
        return self.path / "duplicates.parquet"

    @property
    def gone(self) -> Location:
        """Rows of cells that were in the source once; there is none before an update."""
        return self.path / "gone.parquet"

    @property
    def report(self) -> Location:
        """All of it in words and pictures."""
        return self.path / "report.html"

    @property
    def records(self) -> Location:
        """The folder of what is known of every table; see ``screen.results.table_records``."""
        return self.path / "parts"

    @property
    def tables(self) -> list[Location]:
        """Every table that is there."""
        single = (self.slides, self.duplicates, self.gone, self.plan)
        return [*files_in(self.cells, "*.parquet"), *(path for path in single if path.exists())]

    def record_of(self, table: Location) -> Location:
        """Return where the record of a table goes."""
        return self.records / f"{table.stem}.json"

    def name_of(self, file: Location) -> str:
        """Return a file's path in this folder, ``/``-separated."""
        return file.name if file.parent == self.path else f"{file.parent.name}/{file.name}"

    def part(self, index: int) -> Location:
        """Return where shard *index* goes."""
        return self.cells / f"part-{index:05d}.parquet"

    @contextmanager
    def locked(self) -> Iterator[None]:
        """
        Keep other runs out; the system drops the lock with the process, however that ends.

        A folder that was made for this and holds nothing in the end is removed again. Behind a URL
        nothing is locked; it is made sure that it can be written to.

        Raises:
            ResultsError: If another run holds it, or the folder cannot be made.
        """
        _require_unicode(self.path)
        if not isinstance(self.path, Path):
            _require_writable(self.path)
            yield
            return
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
            with writing(self.path):
                self._discard_scratch()
            yield
        finally:
            _remove_unused(made)
            lock.release()

    def _discard_scratch(self) -> None:
        """Remove what killed runs and reports left half written."""
        for folder, names in SCRATCH.items():
            discard_scratch(Path(str(self.path), folder), names)

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
            scratch.write_text(_json(record), encoding="utf-8")

    def create_run(self, record: RunRecord) -> bool:
        """Write run.json if there is none, even if others do so now; return whether it did."""
        with writing(self.run_json):
            try:
                with new_file(self.run_json) as scratch:
                    scratch.write_text(_json(record), encoding="utf-8")
            except FileExistsError:
                return False
        return True

    def require_writable(self) -> None:
        """
        Make the folder, without locking it.

        Raises:
            ResultsError: If it cannot be made or written to.
        """
        _require_unicode(self.path)
        with writing(self.path):
            make_folder(self.path)
        _require_writable(self.path)

    def drop_report(self) -> None:
        """Remove a report of ours: what it says is no longer so."""
        if is_report(self.report):
            with writing(self.report), storage_errors():
                self.report.unlink()


def open_results(path: os.PathLike[str] | str | Location) -> ds.Dataset:
    """
    Open the cells of a results folder as one dataset, a row per cell, in the order of the plan.

    Raises:
        ResultsError: If it holds none.
    """
    parts = part_files(ResultsFolder(_absolute(location(path))))
    # Said to be local files: a colon in a name would make it an address.
    names, system = [str(part) for part in parts], LocalFileSystem()
    if not isinstance(parts[0], Path):
        names = [part.path for part in parts if not isinstance(part, Path)]
        system = PyFileSystem(FSSpecHandler(parts[0].fs))
    return ds.dataset(names, format=CHECKED, filesystem=system)


def part_files(results: ResultsFolder) -> list[Location]:
    """
    Return the parts that are there, in the order of the plan.

    Raises:
        ResultsError: If there is none.
    """
    parts = files_in(results.cells, "part-*.parquet")
    found = sorted(parts, key=lambda part: (len(part.name), part.name))
    if not found and results.run_json.exists():
        raise ResultsError(
            f"{results.path} holds a run, but none of its parts",
            hint="give its slidescreen run again: it screens what is missing",
        )
    if not found:
        raise ResultsError(
            f"{results.path} holds no results",
            hint="name a folder that slidescreen run has written to",
        )
    return found


def is_report(path: Location) -> bool:
    """Whether a file is a report of ours, by the mark near its beginning."""
    try:
        with storage_errors(), path.open("rb") as file:
            return REPORT_MARK in file.read(4096)
    except OSError:
        return False


def _json(record: RunRecord) -> str:
    """Return the text of run.json."""
    return json.dumps(record.to_json(), indent=2, ensure_ascii=False) + "\n"


def _absolute(path: Location) -> Location:
    """Return a path that stays what it is when the working folder changes."""
    return path.absolute() if isinstance(path, Path) else path


def _require_writable(path: Location) -> None:
    """Write a small file behind a URL and remove it, before anything takes time."""
    probe = path / f".probe-{uuid4().hex}"
    with writing(path):
        with whole_file(probe) as scratch:
            scratch.write_bytes(b"")
        with storage_errors():
            probe.unlink()


def _remove_unused(made: list[Path]) -> None:
    """Remove folders, the innermost first, if a run was to write to them and wrote nothing."""
    try:
        if made and [path.name for path in made[0].iterdir()] == [LOCK]:
            (made[0] / LOCK).unlink()
            for folder in made:
                if not any(folder.iterdir()):
                    folder.rmdir()
    except OSError as error:  # somebody removed the folder meanwhile, or it cannot be written to
        LOG.warning("cannot remove the unused folder %s: %s", made[0], error.strerror)


def _require_unicode(path: Location) -> None:
    """Refuse a results folder whose name Parquet libraries could not open."""
    try:
        str(path).encode()
    except UnicodeEncodeError as error:
        raise ResultsError(
            f"the name {path!r} is not Unicode", hint="choose another --out"
        ) from error
