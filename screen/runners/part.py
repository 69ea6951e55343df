"""
One part of a run that several processes share (``--part 3/32``), and how such a run is finished.

Nothing coordinates the parts but the results folder, in which nothing is locked or renamed that a
bucket could not: run.json is created by the first part to get so far, and by nobody else (a
conditional create); then plan.parquet, likewise. What the others find there is what they do. Each
writes the tables of its own shards, and in the end a record of what screened them.
"""

from __future__ import annotations

import time
from dataclasses import replace
from datetime import datetime
from os import fsdecode
from pathlib import Path
from typing import TYPE_CHECKING

from engines.errors import BundleError, ResultsError
from engines.hardware.machine import package_versions, this_machine
from engines.models.bundle import ModelBundle
from engines.sources.names import unescaped
from screen.results.cell_uncertainty import Uncertainty
from screen.results.discard import leftovers
from screen.results.folder import ResultsFolder
from screen.results.parts import committed_parts
from screen.results.plan import read_plan
from screen.results.run_record import WorkerRecord, now
from screen.results.update import outdated_parts
from screen.results.worker_records import (
    ShareRecord,
    read_share_record,
    share_records,
    write_share_record,
)
from screen.runners.events import PartDone
from screen.runners.local import streamed
from screen.runners.opening import opened, torch_threads_put_back
from screen.runners.session import Session
from screen.share import Share

if TYPE_CHECKING:
    from collections.abc import Generator, Iterator, Sequence

    from engines.locations import Location
    from screen.options import RunOptions
    from screen.results.plan import Plan
    from screen.results.run_record import RunRecord
    from screen.runners.events import Building, Event
    from screen.runners.start import Start

__all__ = ["finish", "joined", "run", "worker_record"]

MOST_NAMED = 20


def run(options: RunOptions) -> Iterator[Event]:
    """Screen one part of a source; the last event is PartDone. See ``screen.runners.run``."""
    assert options.part is not None
    start = opened(options)
    start.results.require_writable()
    with torch_threads_put_back():
        session = yield from joined(start)
        begun, since = now(), time.perf_counter()
        cells = yield from streamed(session, start)
        record = read_share_record(start.results, options.part)
        if cells or record is None:
            rate = cells / (time.perf_counter() - since) if cells else None
            worker = worker_record(session, f"part {options.part}", begun, rate)
            digest = session.fingerprint.digest
            record = ShareRecord(fingerprint=digest, share=options.part, worker=worker)
            write_share_record(start.results, record)
        yield PartDone(session.record, record.worker)


def joined(start: Start) -> Generator[Building, None, Session]:
    """
    Begin a run that others may be beginning, too, or join the one that is in the results folder.

    Raises:
        ResultsError: If the folder belongs to another run, or what that began with does not work
            here.
        UserError: If nothing that was asked for can run.
    """
    if (record := start.results.read_run()) is not None:
        return (yield from start.resumed(record))
    if leftovers(start.results) and start.results.read_run() is None:
        raise ResultsError(
            f"{start.results.path} holds what a killed run left, but no run.json",
            hint="choose another --out, or remove that; slidescreen run --restart does so, too",
        )
    begun = yield from start.proposed()
    if not start.results.create_run(begun.record):
        record = start.results.read_run()
        assert record is not None
        return (yield from start.resumed(record, begun))
    return replace(begun, plan=start.plan_of_all(begun.plan, begun.fingerprint))


def worker_record(session: Session, name: str, begun: str, rate: float | None) -> WorkerRecord:
    """Say what screened a session's share, which is done."""
    record, mine = session.record, session.mine
    count = session.plan.shard_count
    tables = committed_parts(session.results, count, session.fingerprint, mine)
    return WorkerRecord(
        name=name,
        machine=this_machine(),
        threads=record.choices.threads.value,
        versions=package_versions(),
        parity=record.parity,
        rates=replace(record.rates, end_to_end=rate),
        shards=len(mine),
        cells=sum(table.rows for table in tables.values()),
        bad=sum(table.bad for table in tables.values()),
        started=begun,
        finished=now(),
    )


def finish(out: Location, model: Path | None = None) -> RunRecord:
    """
    Write slides, duplicates and the final run.json of a run whose parts are all there.

    The source is not looked at.

    Args:
        out: The results.
        model: Folder of the model's bundle; None for where it was when the run began.

    Returns:
        run.json.

    Raises:
        ResultsError: If there is no run, or parts are missing: the message names them.
        BundleError: If the bundle is not the one that the run began with.
    """
    results = ResultsFolder(out)
    record = results.read_run()
    if record is None:
        raise ResultsError(
            f"{out} holds no run", hint="start one: slidescreen run CELLS --out ... --part 1/N"
        )
    bundle = _bundle(record, model)
    shares = share_records(results, record.fingerprint.digest)
    _require_every_part(results, record, [each.share for each in shares])
    uncertainty = Uncertainty(bundle, record.fingerprint.coverage, record.fingerprint.embeddings)
    with results.locked():
        session = Session(
            results=results,
            uncertainty=uncertainty,
            thresholds=record.flags,
            plan=read_plan(results),
            fingerprint=record.fingerprint,
            parts={},
            stages=None,
            record=_with_workers(record, [each.worker for each in shares]),
        )
        return session.summarised()


def _bundle(record: RunRecord, model: Path | None) -> ModelBundle:
    """Load the model that a run began with."""
    folder = Path(fsdecode(unescaped(record.model.folder))) if model is None else model
    bundle = ModelBundle.load(folder)
    if bundle.sha256 != record.fingerprint.bundle:
        raise BundleError(
            f"the bundle in {folder} is not the one that this run began with",
            hint="name that one as --model",
        )
    return bundle


def _require_every_part(results: ResultsFolder, record: RunRecord, shares: Sequence[Share]) -> None:
    """Raise ResultsError, naming what is missing, unless every shard has its part."""
    plan = read_plan(results)
    tables = committed_parts(results, plan.shard_count, record.fingerprint)
    stale = outdated_parts(plan, tables) if plan.facts.revision > 1 else {}
    shards = plan.states().keys()
    missing = sorted(shards - (tables.keys() - stale.keys()))
    if missing:
        raise ResultsError(
            f"{results.path} is not complete: of {len(shards):,} shards {len(missing):,} are "
            f"missing, {_few(missing)}",
            hint=f"wait for what still runs, or run again {_parts_of(missing, plan, shares)}",
        )


def _parts_of(missing: Sequence[int], plan: Plan, shares: Sequence[Share]) -> str:
    """Name the parts that have the missing shards, as far as that can be told from the others."""
    of = max((share.of for share in shares), default=0)
    parts = [Share(number, of) for number in range(1, of + 1)]
    lost = {*missing}
    lacking = [share for share in parts if not lost.isdisjoint(share.shards(plan.shard_count))]
    return f"--part {_few(lacking)}" if lacking else "the parts that have them"


def _few(things: Sequence[object]) -> str:
    """Name some things, and how many more there are."""
    more = f" and {len(things) - MOST_NAMED:,} more" if len(things) > MOST_NAMED else ""
    return ", ".join(map(str, things[:MOST_NAMED])) + more


def _with_workers(record: RunRecord, workers: Sequence[WorkerRecord]) -> RunRecord:
    """Return run.json with what screened the parts, and how fast they were together."""
    if not workers:
        return record
    first = min(datetime.fromisoformat(each.started) for each in workers)
    last = max(datetime.fromisoformat(each.finished) for each in workers)
    seconds = (last - first).total_seconds()
    rate = sum(each.cells for each in workers) / seconds if seconds else None
    rates = replace(record.rates, end_to_end=rate)
    return replace(record, workers=tuple(workers), rates=rates)
