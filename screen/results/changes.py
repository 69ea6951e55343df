"""What has changed in a source since a run planned it: listed again, and held against the plan."""

from __future__ import annotations

from dataclasses import dataclass
from itertools import zip_longest
from typing import TYPE_CHECKING

import pyarrow.dataset as ds
import xxhash

from engines.cells import CellRef
from engines.errors import SourceError

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Sequence

    from engines.sources import Entry, Source
    from screen.results.plan import Plan

__all__ = ["Changes", "changes_since"]

LOOKED_UP = 65_536  # content hashes that are looked up in the results at a time


@dataclass(frozen=True, slots=True)
class Changes:
    """
    How a source differs from the plan of a run.

    Attributes:
        new: Cells that the plan does not have.
        changed: Cells of another size, or of another time of last change and another content.
        gone: Cells that are not there any more.
        problem: Why the source could not be listed; empty if it could, else the rest is 0.
    """

    new: int = 0
    changed: int = 0
    gone: int = 0
    problem: str = ""

    def __bool__(self) -> bool:
        """Whether there is anything to say."""
        return bool(self.new or self.changed or self.gone or self.problem)

    def __str__(self) -> str:
        """The numbers that are not 0, in words."""
        if self.problem:
            return f"what has changed since is not known: {self.problem}"
        counts = {"new": self.new, "changed": self.changed, "gone": self.gone}
        return ", ".join(f"{count:,} {name}" for name, count in counts.items() if count)


def changes_since(plan: Plan, source: Source, cells: ds.Dataset) -> Changes:
    """
    List the source again, and compare.

    A cell of the same size with another time is read, and its content compared: so a source that
    was copied without its times is read as a whole.

    Args:
        plan: Of a run that is done.
        source: Its source, as it is now.
        cells: The rows of the run.
    """
    pairs, changed, gone = _Pairs(), 0, 0
    touched: list[Entry] = []
    try:
        for planned, found in pairs.of(plan.entries(), source.list()):
            if planned.size is not None and found.size is None:
                gone += 1
            elif planned.size != found.size:
                changed += 1
            elif planned.modified != found.modified:
                touched.append(found)
            if len(touched) == LOOKED_UP:
                changed += _rewritten(source, cells, touched)
                touched = []
    except SourceError as error:
        return Changes(problem=str(error))
    changed += _rewritten(source, cells, touched)
    return Changes(len(pairs.new), changed, gone + len(pairs.gone))


class _Pairs:
    """
    Pairs the entries of two listings by path, whatever their order.

    What has no partner yet is kept; where both are in the same order, that is about as much as
    there are differences.

    Attributes:
        gone: Entries of the first listing alone, once all pairs have been taken. Likewise new.
    """

    def __init__(self) -> None:
        """Begin with nothing."""
        self.gone: dict[str, Entry] = {}
        self.new: dict[str, Entry] = {}

    def of(self, before: Iterable[Entry], now: Iterable[Entry]) -> Iterator[tuple[Entry, Entry]]:
        """Yield what both have."""
        for planned, found in zip_longest(before, now):
            if planned is not None:
                self.gone[planned.path] = planned
            if found is not None:
                self.new[found.path] = found
            for path in {entry.path for entry in (planned, found) if entry is not None}:
                if path in self.gone and path in self.new:
                    yield self.gone.pop(path), self.new.pop(path)


def _rewritten(source: Source, cells: ds.Dataset, touched: Sequence[Entry]) -> int:
    """Count the cells whose content is another than when they were screened."""
    if not touched:
        return 0
    entries = {entry.path: entry for entry in touched}
    named = ds.field("path").isin(list(entries))
    rows = cells.to_table(columns=["path", "content_hash"], filter=named).to_pydict()
    pairs = zip(rows["path"], rows["content_hash"], strict=True)
    return sum(_content_hash(source, entries[path]) != known for path, known in pairs)


def _content_hash(source: Source, entry: Entry) -> str | None:
    """Hash a cell's bytes as they are now; None if they cannot be read."""
    try:
        return xxhash.xxh3_128_hexdigest(source.read(CellRef(entry.path, "", entry.locator)))
    except OSError:
        return None
