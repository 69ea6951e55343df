"""Which cells, in which shards; written once, and from then on the only list of the source."""

from __future__ import annotations

import hashlib
import itertools
import json
from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING, Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from engines.cells import CellRef, Shard
from engines.errors import ResultsError, SourceError
from engines.files import native_file
from engines.sources.slide_rule import UNMATCHED
from screen.results.tables import AWAY_HINT, write_table

if TYPE_CHECKING:
    from collections.abc import Container, Iterator, Mapping
    from pathlib import Path

    from engines.sources import Source
    from engines.sources.slide_rule import SlideRule
    from screen.results.folder import ResultsFolder

__all__ = ["Plan", "plan_source", "read_plan"]

DIGEST_KEY = b"slidescreen.plan"
IGNORED_KEY = b"slidescreen.ignored"
GOLDEN_RATIO = 0.6180339887498949


@dataclass(frozen=True)  # no slots: the digest is kept
class Plan:
    """
    The cells of a run.

    Attributes:
        table: path, slide (dictionary-encoded), shard (int32, ascending), a row per cell.
        ignored: How many other files the source holds.
        examples: Some of those.
    """

    table: pa.Table
    ignored: int
    examples: tuple[str, ...]

    def __len__(self) -> int:
        """Count the cells."""
        return int(self.table.num_rows)

    @cached_property
    def digest(self) -> str:
        """SHA-256 over the rows: seconds for a million, so taken once."""
        digest = hashlib.sha256()
        for batch in self.table.to_batches(max_chunksize=65536):
            rows = zip(*(column.to_pylist() for column in batch.columns), strict=True)
            digest.update(json.dumps(list(rows)).encode())
        return digest.hexdigest()

    @property
    def shard_count(self) -> int:
        """How many shards."""
        return int(self.table["shard"][-1].as_py()) + 1

    @property
    def unmatched(self) -> int:
        """How many cells the slide rule did not match."""
        return int(pc.sum(pc.equal(self.table["slide"], UNMATCHED)).as_py())

    def shards(self, done: Container[int] = ()) -> Iterator[Shard]:
        """Yield the shards but those *done*, in order, each made when asked for."""
        bounds = np.searchsorted(self.table["shard"].to_numpy(), np.arange(self.shard_count + 1))
        for index, (start, stop) in enumerate(itertools.pairwise(bounds)):
            if index not in done:
                yield Shard(index, _refs(self.table.slice(start, stop - start)))

    def spread(self, count: int) -> Iterator[Shard]:
        """
        Yield handfuls of up to *count* cells, each spread over the plan, in all every cell once.

        Rows are taken in the order of the golden ratio's multiples modulo 1: any stretch of that
        order is nearly even (three-distance theorem), and it resonates with no pattern of names.
        """
        rows = np.argsort(np.arange(len(self)) * GOLDEN_RATIO % 1)
        for index, start in enumerate(range(0, len(rows), count)):
            handful = pa.array(np.sort(rows[start : start + count]))
            yield Shard(index, _refs(self.table.take(handful)))

    def write(self, path: Path, metadata: Mapping[bytes, bytes]) -> None:
        """Write plan.parquet."""
        ignored = json.dumps({"count": self.ignored, "examples": self.examples})
        extra = {DIGEST_KEY: self.digest.encode(), IGNORED_KEY: ignored.encode()}
        write_table(self.table, path, {**metadata, **extra})


def _refs(rows: pa.Table) -> tuple[CellRef, ...]:
    """Return the cells of some rows."""
    paths, slides = rows["path"].to_pylist(), rows["slide"].to_pylist()
    return tuple(CellRef(path, slide) for path, slide in zip(paths, slides, strict=True))


def plan_source(source: Source, rule: SlideRule, shard_cells: int) -> Plan:
    """
    List the source and cut it into shards.

    Raises:
        SourceError: If it holds no cell.
    """
    listing = source.list()
    if not listing.paths:
        raise SourceError(
            f"there is no cell image in {source.location} ({listing.ignored} other files)",
            hint="cells are files named .bmp .jpg .png .tif .webp .jp2 and the like",
        )
    slides = pa.array(rule.slides(listing.paths, source.name)).dictionary_encode()
    shards = np.arange(len(listing.paths), dtype=np.int32) // shard_cells
    table = pa.table({"path": pa.array(listing.paths), "slide": slides, "shard": shards})
    return Plan(table, listing.ignored, tuple(listing.examples))


def read_plan(results: ResultsFolder) -> Plan:
    """
    Read the plan that an earlier run wrote.

    Raises:
        ResultsError: If it is missing or was changed.
    """
    try:
        with native_file(results.plan) as file:
            table = pq.read_table(file, read_dictionary=["slide"])
    except (OSError, pa.ArrowException) as error:
        raise ResultsError(f"cannot read {results.plan}: {error}", hint=AWAY_HINT) from error
    metadata: dict[bytes, bytes] = table.schema.metadata or {}
    ignored: dict[str, Any] = json.loads(metadata.get(IGNORED_KEY, b'{"count": 0, "examples": []}'))
    plan = Plan(table.replace_schema_metadata(None), ignored["count"], tuple(ignored["examples"]))
    if metadata.get(DIGEST_KEY) != plan.digest.encode():
        raise ResultsError(f"{results.plan} was changed", hint=AWAY_HINT)
    return plan
