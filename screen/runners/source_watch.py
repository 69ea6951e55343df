"""
Whether the cells that cannot be read are gone one by one, or their source is.

A file that vanished is a row of its own. A disk that was unplugged, a server that does not answer
or a folder that was moved would make such rows of all the cells that are left, and nobody would
notice before reading the table. So a run stops instead, before it writes the part.
"""

from __future__ import annotations

from itertools import islice
from typing import TYPE_CHECKING

from engines.errors import ResultsError, SourceError

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Sequence

    from engines.cells import CellRef, Fault, Scores
    from engines.sources import Source
    from screen.results.plan import Plan

__all__ = ["in_a_row", "watched"]

IN_A_ROW = 32  # cells that cannot be read: no accident any more
LOOKED_FOR = 32  # cells of a shard that were read, and are looked for again
HINT = (
    "see to it that the cells can be read, and give the same command again: it goes on from here; "
    "if they are gone for good, --allow-unreadable makes rows of them"
)


def watched(scores: Iterable[Scores], plan: Plan, source: Source) -> Iterator[Scores]:
    """
    Hand on the scores of a run, unless the source is gone.

    Args:
        scores: In the order of the plan; a shard ends where its last cells are.
        plan: All cells of the run.
        source: Where they are read.

    Raises:
        SourceError: If a cell failed for a reason that is not its own, if 32 in a row cannot be
            read, or if, at the end of a shard in which some cannot, most cells are not there.
    """
    row = 0
    read: list[CellRef] = []
    failed: list[Fault] = []
    due = 0
    for item in scores:
        due = due or len(item.shard.refs)
        unreadable = [fault for fault in item.faults if fault.status == "unreadable"]
        row = in_a_row(row, item, unreadable)
        _require_readable(unreadable, row)
        failed += unreadable
        read += item.refs
        due -= len(item.refs) + len(item.faults)
        if not due:
            if failed:
                _require_there(failed[-1], read, plan, source)
            read, failed = [], []
        yield item


def in_a_row(before: int, item: Scores, unreadable: Sequence[Fault]) -> int:
    """Count the cells up to the end of a batch that could not be read, one after the other."""
    if len(unreadable) == len(item.refs) + len(item.faults):
        return before + len(unreadable)
    lost = {fault.ref.path for fault in unreadable}
    cells = {ref.path for ref in item.refs} | {fault.ref.path for fault in item.faults}
    ordered = [ref.path for ref in item.shard.refs if ref.path in cells]
    return next((n for n, path in enumerate(reversed(ordered)) if path not in lost), 0)


def _require_readable(unreadable: Sequence[Fault], row: int) -> None:
    """Raise SourceError for an error of the place, or too many errors in a row."""
    for fault in unreadable:
        if fault.of_place:
            raise _gone(f"{fault.ref.path} cannot be read: {fault.reason}")
    if row >= IN_A_ROW:
        last = unreadable[-1]
        raise _gone(f"{row} cells in a row cannot be read, such as {last.ref.path}: {last.reason}")


def _require_there(fault: Fault, read: Sequence[CellRef], plan: Plan, source: Source) -> None:
    """Raise SourceError if most cells of the plan, or most of those just read, are not there."""
    some = list(islice(read, LOOKED_FOR))
    lost = sum(source.size(ref) is None for ref in some)
    if 2 * lost > len(some):
        raise _gone(f"cells that were read a moment ago are not there, nor is {fault.ref.path}")
    try:
        plan.require_same_source(source)
    except ResultsError as error:
        raise _gone(f"{fault.ref.path} cannot be read ({fault.reason}), and {error}") from error


def _gone(what: str) -> SourceError:
    """Say that the source is gone."""
    return SourceError(f"the source of the cells seems to be gone: {what}", hint=HINT)
