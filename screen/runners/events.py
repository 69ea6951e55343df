"""
What a run tells while it goes on: events, in this order, for whoever iterates.

::

    (Building*  Started  (BatchScored+ ShardDone)*)+  Finished

A part of a run ends with PartDone. There is a second round where a run is brought up to date with
its source.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, TypeAlias

from screen.results.parts import BatchScored, ShardDone

if TYPE_CHECKING:
    from screen.results.changes import Changes
    from screen.results.run_record import RunRecord, WorkerRecord

__all__ = ["BatchScored", "Building", "Event", "Finished", "PartDone", "ShardDone", "Started"]


@dataclass(frozen=True, slots=True)
class Building:
    """
    An engine is being built, which can take minutes; this happens once for a model and a GPU.

    Attributes:
        share: How much of it is done, from 0 to 1; it only rises.
        phase: What the builder is doing, in its own words.
    """

    share: float
    phase: str


@dataclass(frozen=True, slots=True)
class Started:
    """
    Everything is settled and agrees with the reference; plan.parquet and run.json are written.

    Attributes:
        record: run.json as it is now: what runs, each choice with its reason, and parity.
        cells: How many cells the source holds.
        cells_done: How many of them an earlier start of this run has written.
        bad_done: How many of those could not be scored.
    """

    record: RunRecord
    cells: int
    cells_done: int
    bad_done: int


@dataclass(frozen=True, slots=True)
class Finished:
    """
    Every table is written.

    Attributes:
        record: run.json in its final state, with counts and rates.
        changes: How the source differs now from what was planned and screened.
    """

    record: RunRecord
    changes: Changes


@dataclass(frozen=True, slots=True)
class PartDone:
    """
    One part of a run that several processes share is on disk; ``slidescreen finish`` does the rest.

    Attributes:
        record: run.json as it is now.
        worker: What screened this part.
    """

    record: RunRecord
    worker: WorkerRecord


Event: TypeAlias = Building | Started | BatchScored | ShardDone | PartDone | Finished
