"""
Which cells, in which shards; written once, and from then on the only list of the source.

``plan.parquet`` has a row per cell: its path, slide and shard; its locator, where in the source its
bytes are; its size in bytes and time of last change (ns since 1970) when it was listed; and what
the source says of it that goes into the results, such as a label.
"""

from __future__ import annotations

import hashlib
import itertools
import json
import math
from dataclasses import asdict, dataclass, fields
from types import MappingProxyType
from typing import TYPE_CHECKING, Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from engines.cells import CellRef, Shard
from engines.errors import ResultsError
from engines.files import native_file, new_file, whole_file
from engines.sources.base import Entry
from screen.results.tables import AWAY_HINT, reading, writing

if TYPE_CHECKING:
    from collections.abc import Container, Iterable, Iterator, Mapping
    from pathlib import Path

    from numpy.typing import NDArray

    from engines.locations import Location
    from engines.sources import Source
    from screen.results.folder import ResultsFolder

__all__ = [
    "GROUP_CELLS",
    "SCHEMA",
    "Plan",
    "PlanDigest",
    "PlanFacts",
    "ShardState",
    "plan_writer",
    "read_plan",
]

FACTS_KEY = b"slidescreen.plan"
SCHEMA = pa.schema(
    [
        ("path", pa.string()),
        ("slide", pa.dictionary(pa.int32(), pa.string())),
        ("shard", pa.int32()),
        ("locator", pa.string()),
        ("size", pa.int64()),
        ("modified", pa.int64()),
        ("revision", pa.int32()),
    ]
)
SHARD = SCHEMA.get_field_index("shard")
GROUP_CELLS = 65_536  # cells read at a time; a larger shard is read whole
GOLDEN_RATIO = 0.6180339887498949
SAMPLE = 64  # cells that are looked for in a source, to tell it from another


@dataclass(frozen=True, slots=True, kw_only=True)
class PlanFacts:
    """
    What plan.parquet says of itself, in its metadata.

    Attributes:
        revision: 1, and one more each time the plan is brought up to date with its source.
        shards: How many shards were ever planned; some may have lost all of their cells.
        location: Where the source was when it was listed.
        digest: SHA-256 of the rows.
        unmatched: How many cells the slide rule did not match.
        ignored: How many other files the source holds.
        examples: Some of those.
        problems: What was wrong with the source as a whole.
    """

    revision: int
    shards: int
    location: str
    digest: str
    unmatched: int
    ignored: int
    examples: tuple[str, ...]
    problems: tuple[str, ...]

    @classmethod
    def of(cls, metadata: Mapping[bytes, bytes]) -> PlanFacts:
        """
        Read them back.

        Raises:
            ValueError: If they are not there, or not all of them.
        """
        values: dict[str, Any] = json.loads(metadata.get(FACTS_KEY, b"{}"))
        if values.keys() != {field.name for field in fields(cls)}:
            raise ValueError("it was not written by this version of slidescreen")
        lists = {name: tuple(values[name]) for name in ("examples", "problems")}
        return cls(**values | lists)

    @property
    def metadata(self) -> dict[bytes, bytes]:
        """The same, for a table's schema."""
        return {FACTS_KEY: json.dumps(asdict(self)).encode()}


@dataclass(frozen=True, slots=True)
class ShardState:
    """What a shard's part has to hold: how many cells, and as of which revision of the plan."""

    cells: int
    revision: int


class Plan:
    """
    The cells of a run, in the order of their source: a Parquet file, on disk or in memory.

    Its first columns are those of SCHEMA, the others are the source's own.

    Rows are read when they are asked for, a group at a time, so that a plan of any length takes
    little memory: in memory, some 10 to 20 bytes a cell.
    """

    def __init__(self, file: pa.NativeFile, facts: PlanFacts, keep: object = None) -> None:
        """Read rows from *file*, which is there for as long as *keep*."""
        self._keep = keep
        self._file = pq.ParquetFile(file, read_dictionary=["slide"])
        self._schema = self._file.schema_arrow.remove_metadata()
        self.facts = facts
        groups = [self._file.metadata.row_group(i) for i in range(self._file.num_row_groups)]
        self._first_row = np.cumsum([0, *(group.num_rows for group in groups)])
        self._last_shard = [group.column(SHARD).statistics.max for group in groups]

    def __len__(self) -> int:
        """Count the cells."""
        return int(self._first_row[-1])

    @property
    def columns(self) -> list[str]:
        """Name all columns."""
        return list(self._schema.names)

    @property
    def shard_count(self) -> int:
        """How many shards were ever planned."""
        return self.facts.shards

    def states(self) -> dict[int, ShardState]:
        """Return what the part of each shard has to hold, by index; only of those with cells."""
        counts = np.zeros(self.shard_count, np.int64)
        revisions = np.zeros(self.shard_count, np.int64)
        for group in range(len(self._last_shard)):
            rows = self._file.read_row_group(group, columns=["shard", "revision"])
            shards = rows["shard"].to_numpy()
            counts += np.bincount(shards, minlength=self.shard_count)
            np.maximum.at(revisions, shards, rows["revision"].to_numpy())
        pairs = zip(counts.tolist(), revisions.tolist(), strict=True)
        return {index: ShardState(*state) for index, state in enumerate(pairs) if state[0]}

    def shards(
        self, done: Container[int] = (), known: Mapping[int, int] = MappingProxyType({})
    ) -> Iterator[Shard]:
        """
        Yield the shards but those *done*, in order; a group is read when it is reached.

        Args:
            done: Of these nothing is needed.
            known: Of these, by index, only the cells listed since a revision.
        """
        first = 0
        for group, last in enumerate(self._last_shard):
            indices = np.arange(first, last + 2)
            first = last + 1
            if all(index in done for index in indices[:-1]):
                continue
            rows = self._read(group)
            bounds = np.searchsorted(rows["shard"].to_numpy(), indices)
            for index, (start, stop) in zip(indices, itertools.pairwise(bounds), strict=False):
                if index in done or start == stop:
                    continue
                cells = rows.slice(start, stop - start)
                if index in known:
                    cells = cells.filter(pc.greater(cells["revision"], known[index]))
                yield _shard(int(index), cells)

    def paths(self, index: int, revision: int | None = None) -> list[str]:
        """Return the paths of a shard's cells, in order; only those listed up to a *revision*."""
        group = int(np.searchsorted(self._last_shard, index))
        if group == len(self._last_shard):
            return []
        rows = self._file.read_row_group(group, columns=["path", "shard", "revision"])
        wanted = pc.equal(rows["shard"], index)
        if revision is not None:
            wanted = pc.and_(wanted, pc.less_equal(rows["revision"], revision))
        found: list[str] = rows.filter(wanted)["path"].to_pylist()
        return found

    def spread(self, count: int) -> Iterator[Shard]:
        """
        Yield handfuls of up to *count* cells, each spread over the plan, in all every cell once.

        Rows are taken in steps of the golden ratio, modulo the plan's length: any stretch of that
        order is nearly even (three-distance theorem), and it resonates with no pattern of names.
        """
        for index, start in enumerate(range(0, len(self), count)):
            yield _shard(index, self.take(np.sort(self._spread_rows(start, count))))

    def take(self, rows: NDArray[np.int64]) -> pa.Table:
        """Return some rows, in any order, each as often as it is asked for."""
        wanted, place = np.unique(rows, return_inverse=True)
        bounds = np.searchsorted(wanted, self._first_row)
        found = [self._schema.empty_table()]
        for group, (start, stop) in enumerate(itertools.pairwise(bounds)):
            if start < stop:
                inside = pa.array(wanted[start:stop] - self._first_row[group])
                found.append(self._read(group).take(inside))
        return pa.concat_tables(found).unify_dictionaries().take(pa.array(place))

    def entries(self) -> Iterator[Entry]:
        """Yield the cells as their source listed them."""
        columns = ["path", "locator", "size", "modified"]
        for group in range(len(self._last_shard)):
            values = self._file.read_row_group(group, columns=columns).to_pydict()
            yield from map(Entry, *(values[name] for name in columns))

    def require_same_source(self, source: Source) -> None:
        """
        Refuse a source that most of the planned cells are not in, with the size they had.

        A sample of them is looked for; where the source lies does not matter.

        Raises:
            ResultsError: If fewer than half of the sample is there.
        """
        sample = self.take(np.sort(self._spread_rows(0, SAMPLE)))
        known = sample.filter(pc.is_valid(sample["size"]))
        pairs = zip(_refs(known), known["size"].to_pylist(), strict=True)
        same = sum(source.size(ref) == size for ref, size in pairs)
        if 2 * same < len(known):
            raise ResultsError(
                f"{source.location} is another source than this run was begun with: of "
                f"{len(known)} of its cells that were looked for, {len(known) - same} are not "
                "there or have another size",
                hint=f"name the cells of this run (they were in {self.facts.location}), choose "
                "a new --out, or pass --restart to discard what is there",
            )

    def write(self, path: Location, metadata: Mapping[bytes, bytes]) -> None:
        """Write plan.parquet, whole or not at all."""
        with writing(path), whole_file(path) as scratch:
            self._write_rows(scratch, metadata)

    def create(self, path: Location, metadata: Mapping[bytes, bytes]) -> bool:
        """Write it if there is none, even if others do the same now; return whether it did."""
        with writing(path):
            try:
                with new_file(path) as scratch:
                    self._write_rows(scratch, metadata)
            except FileExistsError:
                return False
        return True

    def _write_rows(self, file: Path, metadata: Mapping[bytes, bytes]) -> None:
        """Write all rows to a file of this machine."""
        schema = self._schema.with_metadata({**metadata, **self.facts.metadata})
        with native_file(file, "wb") as sink, plan_writer(sink, schema) as writer:
            for rows in self.groups():
                writer.write_table(rows.replace_schema_metadata(schema.metadata))

    def _spread_rows(self, start: int, count: int) -> NDArray[np.int64]:
        """Return the rows of one handful, which begins after *start* others."""
        step = round(len(self) * GOLDEN_RATIO) or 1
        while math.gcd(step, len(self)) > 1:
            step += 1
        return np.arange(start, min(start + count, len(self))) * step % len(self)

    def groups(self) -> Iterator[pa.Table]:
        """Read all rows, a group at a time."""
        return map(self._read, range(len(self._last_shard)))

    def _read(self, group: int) -> pa.Table:
        """Read one group of rows."""
        return self._file.read_row_group(group)


class PlanDigest:
    """SHA-256 of a plan's rows, whatever groups they come in."""

    def __init__(self, columns: Iterable[str]) -> None:
        """Begin with no row of these columns."""
        self._columns = {name: hashlib.sha256() for name in columns}

    def update(self, rows: pa.Table) -> None:
        """Add rows."""
        for name, digest in self._columns.items():
            for column in rows[name].chunks:
                for part in _bytes_of(column):
                    digest.update(part)

    def hexdigest(self) -> str:
        """Return the digest of all columns."""
        return hashlib.sha256(b"".join(d.digest() for d in self._columns.values())).hexdigest()


def _bytes_of(column: pa.Array) -> Iterator[Any]:
    """Yield a column's whole numbers, -1 for none, or its values as text, each with its end."""
    if pa.types.is_integer(column.type):
        yield column.fill_null(-1).to_numpy().tobytes()
    elif len(column):
        none, end = (pa.scalar(text, pa.large_string()) for text in ("", "\0"))
        text = column.cast(pa.large_string()).fill_null(none)
        ended = pc.binary_join_element_wise(text, none, end)
        _, ends, values = ended.buffers()
        used = int(np.frombuffer(ends, np.int64)[len(ended)])
        yield values.slice(0, used) if used else b""


def read_plan(results: ResultsFolder) -> Plan:
    """
    Read the plan that an earlier run wrote.

    Raises:
        ResultsError: If it is missing or was changed.
    """
    with reading(results.plan):
        file = native_file(results.plan)
        plan = Plan(file, PlanFacts.of(pq.read_metadata(file).metadata or {}))
        digest = PlanDigest(plan.columns)
        for rows in plan.groups():
            digest.update(rows)
    if digest.hexdigest() != plan.facts.digest:
        raise ResultsError(f"{results.plan} was changed", hint=AWAY_HINT)
    return plan


def plan_writer(file: Any, schema: pa.Schema) -> pq.ParquetWriter:
    """Open a file of a plan for writing."""
    return pq.ParquetWriter(file, schema, compression="zstd", use_dictionary=["slide"])


def _shard(index: int, rows: pa.Table) -> Shard:
    """Return some rows as a shard."""
    carried = rows.select(range(len(SCHEMA), rows.num_columns))
    return Shard(index, _refs(rows), carried if carried.num_columns else None)


def _refs(rows: pa.Table) -> tuple[CellRef, ...]:
    """Return the cells of some rows."""
    columns = (rows[name].to_pylist() for name in ("path", "slide", "locator"))
    return tuple(map(CellRef, *columns))
