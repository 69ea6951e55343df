"""How plans are made: of a source that is listed, or of an older plan and what has changed."""

from __future__ import annotations

import itertools
from pathlib import Path
from shutil import rmtree
from tempfile import mkdtemp
from typing import TYPE_CHECKING, Any
from weakref import finalize

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from engines.errors import SourceError
from engines.files import native_file
from engines.sources.slide_rule import UNMATCHED
from screen.results.plan import GROUP_CELLS, SCHEMA, Plan, PlanDigest, PlanFacts, plan_writer

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Sequence

    from numpy.typing import NDArray

    from engines.sources import Entry, Source
    from engines.sources.base import Others
    from engines.sources.slide_rule import SlideRule
    from screen.results.changes import Difference

__all__ = ["plan_source", "revised_plan"]


def plan_source(source: Source, rule: SlideRule, shard_cells: int) -> Plan:
    """
    List the source and cut it into shards.

    Raises:
        SourceError: If it holds no cell, or cannot be listed.
    """
    listing, maker = source.list(), _PlanMaker(source, rule, 1)
    maker.append(listing, 0, shard_cells)
    if not maker.count:
        raise SourceError(
            f"there is no cell image in {source.location} ({listing.others.count} other files)",
            hint=_no_cells_hint(listing.others.examples),
        )
    return maker.plan(maker.shards, listing.others)


def revised_plan(
    plan: Plan, difference: Difference, source: Source, rule: SlideRule, shard_cells: int
) -> Plan:
    """
    Return the next revision of a plan: without what is gone, with what is new in further shards.

    Rows of cells that are as they were stay as they are, in the same shard and order.

    Raises:
        SourceError: If nothing would be left, the source says other things of its cells, or cells
            are gone because an archive is damaged.
    """
    _require_same_columns(plan, source)
    _require_whole(plan, difference)
    maker = _PlanMaker(source, rule, plan.facts.revision + 1)
    for rows in plan.groups():
        maker.keep(rows, difference)
    maker.append(difference.new.values(), plan.shard_count, shard_cells)
    if not maker.count:
        raise SourceError(
            f"all cells of {source.location} are gone",
            hint="check the path of the cells; to discard the results, pass --restart",
        )
    return maker.plan(max(plan.shard_count, maker.shards), difference.others)


def _require_same_columns(plan: Plan, source: Source) -> None:
    """Refuse a source that carries other columns into the results than the plan has."""
    before, now = plan.columns[len(SCHEMA) :], list(source.carried)
    if before != now:
        raise SourceError(
            f"{source.location} says {', '.join(now) or 'nothing'} of its cells, and said "
            f"{', '.join(before) or 'nothing'} when this run was begun",
            hint="give it the same columns, or choose a new --out",
        )


def _require_whole(plan: Plan, difference: Difference) -> None:
    """Refuse to take cells for gone that a damaged archive does not show any more."""
    problems = [each for each in difference.others.problems if each not in plan.facts.problems]
    if problems and difference.gone:
        raise SourceError(
            f"{problems[0]}, so {len(difference.gone):,} cells are missing",
            hint="put the whole archive back; to go on with what is there, choose a new --out",
        )


def _no_cells_hint(others: Iterable[str]) -> str:
    """Say what to do about a source without cells."""
    if any(name.lower().endswith((".tar", ".zip", ".parquet")) for name in others):
        return "to screen what is in the archives or tables there, name them: 'folder/*.tar'"
    return "cells are files named .bmp .jpg .png .tif .webp .jp2 and the like"


class _ScratchFolder:
    """A folder that is there for as long as this object."""

    def __init__(self) -> None:
        """Make it."""
        self.path = Path(mkdtemp(prefix="slidescreen-plan-"))
        finalize(self, rmtree, self.path, ignore_errors=True)


class _PlanMaker:
    """A plan that is being made, in a file, so that memory does not grow with it."""

    def __init__(self, source: Source, rule: SlideRule, revision: int) -> None:
        """Begin with no row."""
        self._source, self._slide_of, self._revision = source, rule.namer(source.name), revision
        self._schema = pa.schema(
            [*SCHEMA, *(pa.field(*column) for column in source.carried.items())]
        )
        self._digest = PlanDigest(self._schema.names)
        self._folder = _ScratchFolder()
        self._path = self._folder.path / "plan.parquet"
        self._file = native_file(self._path, "wb")
        self._writer = plan_writer(self._file, self._schema)
        self._unmatched = self.count = self.shards = 0

    def append(self, entries: Iterable[Entry], first_shard: int, shard_cells: int) -> None:
        """Add cells, in shards of their own; a group of rows ends with a shard."""
        group_cells = max(1, GROUP_CELLS // shard_cells) * shard_cells
        done = 0
        for chunk in _chunks(entries, group_cells):
            shards = first_shard + np.arange(done, done + len(chunk)) // shard_cells
            self._write(self._rows(chunk, shards, np.full(len(chunk), self._revision)))
            done += len(chunk)

    def keep(self, rows: pa.Table, difference: Difference) -> None:
        """Add rows of an older plan, but for those that are gone; others may have to be renewed."""
        paths = rows["path"].to_pylist()
        kept = [place for place, path in enumerate(paths) if path not in difference.gone]
        renewed = [place for place in kept if paths[place] in difference.found]
        if renewed:
            entries = [difference.found[paths[place]] for place in renewed]
            chosen = rows.take(pa.array(renewed))
            revisions = [
                before if path in difference.touched else self._revision
                for path, before in zip(
                    chosen["path"].to_pylist(), chosen["revision"].to_pylist(), strict=True
                )
            ]
            fresh = self._rows(entries, chosen["shard"].to_numpy(), np.array(revisions))
            order = np.arange(len(rows))
            order[renewed] = len(rows) + np.arange(len(renewed))
            rows = pa.concat_tables([rows.replace_schema_metadata(None), fresh])
            rows = rows.unify_dictionaries().take(pa.array(order[kept]))
        elif len(kept) < len(rows):
            rows = rows.take(pa.array(kept, pa.int64()))
        if len(rows):
            self._write(rows.combine_chunks())

    def plan(self, shards: int, others: Others) -> Plan:
        """Return the plan, once all rows have been added."""
        self._writer.close()
        self._file.close()
        facts = PlanFacts(
            revision=self._revision,
            shards=shards,
            location=self._source.location,
            digest=self._digest.hexdigest(),
            unmatched=self._unmatched,
            ignored=others.count,
            examples=tuple(others.examples),
            problems=tuple(others.problems),
        )
        return Plan(native_file(self._path), facts, self._folder)

    def _write(self, rows: pa.Table) -> None:
        """Add rows, and count them."""
        self._writer.write_table(rows)
        self._digest.update(rows)
        self._unmatched += pc.sum(pc.equal(rows["slide"], UNMATCHED)).as_py()
        self.count += len(rows)
        self.shards = max(self.shards, pc.max(rows["shard"]).as_py() + 1)

    def _rows(
        self, entries: Sequence[Entry], shards: NDArray[Any], revisions: NDArray[Any]
    ) -> pa.Table:
        """Lay out the rows of some cells of these *shards*, listed in these *revisions*."""
        paths, locators, sizes, times, said, carried = zip(*entries, strict=True)
        slides = [own or self._slide_of(path) for own, path in zip(said, paths, strict=True)]
        dictionary = pa.array(slides, pa.string()).dictionary_encode()
        numbers = [values.astype(np.int32) for values in (shards, revisions)]
        columns: list[Any] = [paths, dictionary, numbers[0], locators, sizes, times, numbers[1]]
        columns += zip(*carried, strict=True) if len(self._schema) > len(SCHEMA) else ()
        arrays = [
            pa.array(column, field.type)
            for column, field in zip(columns, self._schema, strict=True)
        ]
        return pa.Table.from_arrays(arrays, schema=self._schema)


def _chunks(listing: Iterable[Entry], size: int) -> Iterator[list[Entry]]:
    """Yield *size* entries at a time."""
    entries = iter(listing)
    return iter(lambda: list(itertools.islice(entries, size)), [])
