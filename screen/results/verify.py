"""Whether a results folder is what the run that wrote it left: every table, and every path."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import pyarrow.parquet as pq

from engines.errors import ResultsError
from engines.files import native_file
from screen.results.plan import read_plan
from screen.results.table_records import check_table, read_record
from screen.results.tables import reading
from screen.results.update import outdated_parts

if TYPE_CHECKING:
    from collections.abc import Container, Iterator

    from engines.cells import Shard
    from engines.locations import Location
    from screen.results.folder import ResultsFolder
    from screen.results.plan import Plan

__all__ = ["Verified", "verify"]


@dataclass(frozen=True, slots=True)
class Verified:
    """A file that was looked at, and what is wrong with it; empty if nothing is."""

    path: Location
    fault: str = ""


def verify(results: ResultsFolder) -> Iterator[Verified]:
    """
    Look at every table of a run: the plan, each part with its paths, and, once done, the others.

    Raises:
        ResultsError: If there is no run, or its run.json or its plan cannot be read: without these
            nothing says what the tables should be.
    """
    record = results.read_run()
    if record is None:
        raise ResultsError(
            f"{results.path} holds no results",
            hint="name a folder that slidescreen run has written to",
        )
    plan, digest = read_plan(results), record.fingerprint.digest
    yield Verified(results.plan)
    outdated = _outdated(results, plan) if record.state == "running" else {}
    for shard in plan.shards():
        path = results.part(shard.index)
        if record.state == "done" or (path.exists() and shard.index not in outdated):
            yield Verified(path, _part_fault(results, shard, digest))
    if record.state == "done":
        singles = [results.slides, results.duplicates]
        for path in [*singles, *([results.gone] if results.gone.exists() else [])]:
            yield Verified(path, _table_fault(results, path, digest))


def _outdated(results: ResultsFolder, plan: Plan) -> Container[int]:
    """Name the parts that an update has still to rewrite, going by their records."""
    found = {}
    for index in range(plan.shard_count):
        try:
            record = read_record(results, results.part(index))
        except ResultsError:
            continue  # said of the part itself
        if record is not None:
            found[index] = record
    return outdated_parts(plan, found)


def _part_fault(results: ResultsFolder, shard: Shard, digest: str) -> str:
    """Say what is wrong with a part: its bytes, or cells that are not those of the plan."""
    path = results.part(shard.index)
    if fault := _table_fault(results, path, digest):
        return fault
    try:
        with reading(path), native_file(path) as file:
            paths = pq.read_table(file, columns=["path"])["path"].to_pylist()
    except ResultsError as error:
        return str(error)
    expected = [ref.path for ref in shard.refs]
    return "" if paths == expected else f"{path} holds other cells than the plan says"


def _table_fault(results: ResultsFolder, path: Location, digest: str) -> str:
    """Say what is wrong with a table's bytes."""
    try:
        check_table(results, path, digest)
    except ResultsError as error:
        return str(error)
    return ""
