"""Which files of a results folder are ours, and so may be removed to begin anew."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

from engines.errors import ResultsError
from engines.files import MOST_JSON_BYTES, files_in, read_regular
from screen.results.folder import RECORD_NAME, is_report
from screen.results.table_records import read_record
from screen.results.tables import AWAY_HINT, carries_fingerprint

if TYPE_CHECKING:
    from engines.locations import Location
    from screen.results.folder import ResultsFolder

__all__ = ["discardable", "leftovers"]

RECORD = re.compile(rf"{RECORD_NAME}\.json")


def discardable(results: ResultsFolder) -> list[Location]:
    """
    Name the files of an earlier run: those that carry its mark, or that its records list.

    Raises:
        ResultsError: If a file in the way is neither.
    """
    found = results.tables
    for table in found:
        _require_ours(table, ours=carries_fingerprint(table) or _is_listed(results, table))
    records = _records(results)
    if is_report(results.report):
        found.append(results.report)
    if results.run_json.exists():
        if not _mentions_fingerprint(results.run_json):
            results.read_run()  # says what is wrong with it
        found.insert(0, results.run_json)
    return [*found, *records]


def leftovers(results: ResultsFolder) -> list[Location]:
    """
    Name what a run killed before its run.json left: at most a plan of ours, and records.

    Raises:
        ResultsError: If there are other tables, but no run that they belong to.
    """
    tables = results.tables
    if not tables or (tables == [results.plan] and carries_fingerprint(results.plan)):
        return [*tables, *_records(results)]
    raise ResultsError(
        f"{results.path} holds tables, such as {tables[0].name}, but no run.json",
        hint="choose another --out, or pass --restart to discard them",
    )


def _records(results: ResultsFolder) -> list[Location]:
    """
    Name the records of tables.

    Raises:
        ResultsError: If a file with the name of one is none.
    """
    files = files_in(results.records, "*.json")
    records = [path for path in files if RECORD.fullmatch(path.name)]
    for record in records:
        _require_ours(record, ours=_mentions_fingerprint(record))
    return records


def _require_ours(path: Location, *, ours: bool) -> None:
    """Raise ResultsError about a file that somebody else may have put there."""
    if not ours:
        raise ResultsError(
            f"{path} is damaged or was not written by slidescreen: it is left alone",
            hint=AWAY_HINT,
        )


def _is_listed(results: ResultsFolder, table: Location) -> bool:
    """Whether a record lists a table, which may be too damaged to carry its mark."""
    try:
        return read_record(results, table) is not None
    except ResultsError:
        return False


def _mentions_fingerprint(path: Location) -> bool:
    """Whether a JSON file says which run it is of, damaged as it may be."""
    try:
        return b'"fingerprint"' in read_regular(path, MOST_JSON_BYTES)
    except OSError:
        return False
