"""What has changed in a source since a run planned it: listed again, and held against the plan."""

from __future__ import annotations

from collections import ChainMap
from dataclasses import dataclass, field
from itertools import zip_longest
from typing import TYPE_CHECKING

import pyarrow.dataset as ds
import xxhash

from engines.cells import CellRef
from engines.errors import SourceError
from engines.sources.base import Others

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Sequence

    from engines.sources import Entry, Source
    from screen.results.plan import Plan

__all__ = ["Changes", "Difference", "changes_since", "difference"]

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


@dataclass(frozen=True, slots=True)
class Difference:
    """
    How a source differs from the plan of a run, cell by cell.

    Attributes:
        new: Cells that the plan does not have, by path. Likewise the next five.
        changed: Cells of another size, or of another content and another time or place.
        lost: Cells that the source still names, but that are not there any more.
        touched: Cells of the same content with another time of last change, or at another place.
        gone: Cells that the source does not name any more, as they were planned.
        others: What else the source holds.
    """

    new: dict[str, Entry] = field(default_factory=dict)
    changed: dict[str, Entry] = field(default_factory=dict)
    lost: dict[str, Entry] = field(default_factory=dict)
    touched: dict[str, Entry] = field(default_factory=dict)
    gone: dict[str, Entry] = field(default_factory=dict)
    others: Others = field(default_factory=Others)

    @property
    def found(self) -> ChainMap[str, Entry]:
        """The cells whose rows of the plan are to be written anew, as they are now."""
        return ChainMap(self.changed, self.lost, self.touched)

    @property
    def changes(self) -> Changes:
        """The same in numbers."""
        return Changes(len(self.new), len(self.changed), len(self.gone) + len(self.lost))


def changes_since(plan: Plan, source: Source, cells: ds.Dataset) -> Changes:
    """
    List the source again, and count what is different.

    Args:
        plan: Of a run that is done.
        source: Its source, as it is now; a problem with listing it is in what is returned.
        cells: The rows of the run.
    """
    try:
        return difference(plan, source, cells).changes
    except SourceError as error:
        return Changes(problem=str(error))


def difference(plan: Plan, source: Source, cells: ds.Dataset) -> Difference:
    """
    List the source again, and compare.

    A cell of the same size with another time, or at another place in an archive or a table, is
    read, and its content compared: so a source that was copied without its times is read whole.

    Raises:
        SourceError: If the source cannot be listed.
    """
    listing, pairs = source.list(), _Pairs()
    apart = Difference(new=pairs.new, gone=pairs.gone, others=listing.others)
    unsure: list[Entry] = []
    for planned, found in pairs.of(plan.entries(), listing):
        if planned.size is not None and found.size is None:
            apart.lost[found.path] = found
        elif planned.size != found.size:
            apart.changed[found.path] = found
        elif (planned.modified, planned.locator) != (found.modified, found.locator):
            unsure.append(found)
        if len(unsure) == LOOKED_UP:
            _tell_apart(apart, source, cells, unsure)
            unsure = []
    _tell_apart(apart, source, cells, unsure)
    return apart


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


def _tell_apart(
    apart: Difference, source: Source, cells: ds.Dataset, unsure: Sequence[Entry]
) -> None:
    """Note which cells have another content than when they were screened, and which do not."""
    if not unsure:
        return
    entries = {entry.path: entry for entry in unsure}
    named = ds.field("path").isin(list(entries))
    rows = cells.to_table(columns=["path", "content_hash"], filter=named).to_pydict()
    for path, known in zip(rows["path"], rows["content_hash"], strict=True):
        same = _content_hash(source, entries[path]) == known
        (apart.touched if same else apart.changed)[path] = entries[path]


def _content_hash(source: Source, entry: Entry) -> str | None:
    """Hash a cell's bytes as they are now; None if they cannot be read."""
    try:
        return xxhash.xxh3_128_hexdigest(source.read(CellRef(entry.path, "", entry.locator)))
    except OSError:
        return None
