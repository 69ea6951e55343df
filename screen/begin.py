"""Begin a run, or go on with one: settle, plan, check, and only then write the first file."""

from __future__ import annotations

import json
from collections import Counter
from dataclasses import asdict, dataclass
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any

import pyarrow as pa
import pyarrow.parquet as pq

from engines.cells import STATUSES
from engines.errors import ResultsError
from screen.parts import CODECS_KEY
from screen.plan import Fingerprint, Plan, plan_source, read_plan
from screen.prepare import Opener, Stages, machine
from screen.results import FINGERPRINT_KEY, ResultsFolder
from screen.settings import RunOptions, Settings, settle
from screen.slides import write_slides

if TYPE_CHECKING:
    from collections.abc import Iterator

    from engines.bundle import ModelBundle
    from engines.cells import Shard
    from screen.sources import Source

__all__ = ["Job", "begin"]

RESTART_HINT = "choose a new --out, or pass --restart to discard it"


@dataclass(frozen=True, slots=True, kw_only=True)
class Job:
    """
    A run that may start streaming.

    Attributes:
        results: Where it writes.
        bundle: The model.
        plan: Its cells.
        fingerprint: What marks its files.
        done: Indices of the shards that an earlier start committed.
        stages: Decoder and runtime; None if nothing is pending.
        settings: What was settled, as recorded.
        record: run.json so far.
    """

    results: ResultsFolder
    bundle: ModelBundle
    plan: Plan
    fingerprint: Fingerprint
    done: frozenset[int]
    stages: Stages | None
    settings: Settings
    record: dict[str, Any]

    @property
    def cells_done(self) -> int:
        """How many cells an earlier start committed."""
        return sum(len(shard.refs) for shard in self.plan.shards() if shard.index in self.done)

    def pending(self) -> Iterator[Shard]:
        """Yield the shards that have no part yet."""
        return (shard for shard in self.plan.shards() if shard.index not in self.done)

    def finish(self, cells: int, seconds: float) -> None:
        """
        Write the slides and complete run.json.

        Args:
            cells: Rows this start has added.
            seconds: How long that took.
        """
        slides = write_slides(self.results, self.fingerprint, self.bundle)
        rates = dict(self.record["rates"])
        if cells:
            rates["end_to_end"] = cells / seconds
        counts = {"cells": len(self.plan), "slides": len(slides)}
        counts |= {status: sum(slides[f"n_{status}"].to_pylist()) for status in STATUSES}
        self.record.update(
            state="done",
            finished=_now() if cells else self.record["finished"] or _now(),
            rates=rates,
            counts={**counts, "unmatched": self.plan.unmatched, "other_files": self.plan.ignored},
            decoded_by=_decoded_by(self.results, self.plan),
        )
        self.results.write_run(self.record)


def begin(options: RunOptions, bundle: ModelBundle, source: Source, results: ResultsFolder) -> Job:
    """
    Begin in an empty results folder, or go on with the same run; the caller holds the lock.

    Raises:
        ResultsError: If the folder belongs to another run.
    """
    earlier = results.read_run()
    if earlier is None:
        return _begin_new(options, bundle, source, results)
    return _go_on(options, bundle, source, results, earlier)


def _begin_new(
    options: RunOptions, bundle: ModelBundle, source: Source, results: ResultsFolder
) -> Job:
    """List the source, check what will run, and write plan and run.json."""
    results.refuse_strangers()
    settings = settle(options)
    plan = plan_source(source, options.slide, settings.shard_cells.value)
    stages = Opener(options, bundle, source, plan).open(settings, may_fall_back=True)
    fingerprint = _fingerprint(options, bundle, source, plan, stages.settings)
    record = {
        "state": "running",
        "fingerprint": {"digest": fingerprint.digest, **asdict(fingerprint)},
        "choices": stages.settings.record(),
        "model": _model_record(bundle),
        "parity": stages.verdict,
        "rates": {**stages.rates, "end_to_end": None},
        "source": {"other_files": plan.ignored, "examples": list(plan.examples)},
        "started": _now(),
        "finished": None,
        **machine(),
    }
    plan.write(results.plan, fingerprint.metadata)
    results.write_run(record)
    return Job(
        results=results,
        bundle=bundle,
        plan=plan,
        fingerprint=fingerprint,
        done=frozenset(),
        stages=stages,
        settings=stages.settings,
        record=record,
    )


def _go_on(
    options: RunOptions,
    bundle: ModelBundle,
    source: Source,
    results: ResultsFolder,
    earlier: dict[str, Any],
) -> Job:
    """Check that this is the same run, and find what is left of it."""
    settings = Settings.from_record(earlier["choices"])
    if contradiction := settings.contradiction(options):
        raise _other_run(results, *contradiction)
    plan = read_plan(results)
    fingerprint = _fingerprint(options, bundle, source, plan, settings)
    _refuse_difference(earlier["fingerprint"], fingerprint, results)
    done = _done(results, plan, fingerprint)
    stages = None
    if len(done) < plan.shard_count:
        settle(settings.asked_by_name(options))  # does all of it still work here?
        opener = Opener(options, bundle, source, plan)
        if all(earlier["parity"].get(key) == value for key, value in machine().items()):
            stages = opener.reopen(settings, earlier["parity"], earlier["rates"])
        else:
            stages = opener.open(settings, may_fall_back=False)
            earlier |= {"parity": stages.verdict, **machine()}
    return Job(
        results=results,
        bundle=bundle,
        plan=plan,
        fingerprint=fingerprint,
        done=done,
        stages=stages,
        settings=settings,
        record=earlier,
    )


def _fingerprint(
    options: RunOptions, bundle: ModelBundle, source: Source, plan: Plan, settings: Settings
) -> Fingerprint:
    """Put together what can change a row."""
    return Fingerprint(
        source=source.location,
        bundle=bundle.sha256,
        plan=plan.digest,
        slide_rule=options.slide.text,
        shard_cells=settings.shard_cells.value,
        decoder=settings.decoder.value,
        max_pixels=options.max_pixels,
        runtime=settings.runtime.value,
        precision=settings.precision.value,
        batch=settings.batch.value,
    )


def _refuse_difference(earlier: dict[str, Any], now: Fingerprint, results: ResultsFolder) -> None:
    """Raise ResultsError, naming what differs, unless this is the run that began here."""
    for name, value in asdict(now).items():
        if earlier.get(name) != value:
            raise _other_run(results, name, earlier.get(name), value)


def _other_run(results: ResultsFolder, name: str, begun: Any, asked: Any) -> ResultsError:
    """Name the field in which two runs differ."""
    message = f"{results.path} was begun with {name} {begun}, not {asked}"
    return ResultsError(message, hint=RESTART_HINT)


def _done(results: ResultsFolder, plan: Plan, fingerprint: Fingerprint) -> frozenset[int]:
    """Find the committed shards; any other table among the parts is refused."""
    expected = {results.part(index): index for index in range(plan.shard_count)}
    done = set()
    for path in sorted(results.cells.glob("*.parquet")):
        if (
            path not in expected
            or _metadata(path).get(FINGERPRINT_KEY) != fingerprint.digest.encode()
        ):
            raise ResultsError(f"{path} is not a part of this run", hint="move it away")
        done.add(expected[path])
    return frozenset(done)


def _decoded_by(results: ResultsFolder, plan: Plan) -> dict[str, int]:
    """Add up which codec decoded how many cells, over all parts."""
    total: Counter[str] = Counter()
    for index in range(plan.shard_count):
        total.update(json.loads(_metadata(results.part(index))[CODECS_KEY]))
    return dict(total)


def _metadata(path: Any) -> dict[bytes, bytes]:
    """Return what a table carries beside its columns."""
    try:
        return pq.read_schema(path).metadata or {}
    except (OSError, pa.ArrowException) as error:
        raise ResultsError(f"cannot read {path}: {error}", hint=RESTART_HINT) from error


def _model_record(bundle: ModelBundle) -> dict[str, Any]:
    """Say which model, in full."""
    return {
        "sha256": bundle.sha256,
        "folder": str(bundle.folder),
        "architecture": bundle.architecture,
        "classes": list(bundle.classes),
        "positive": bundle.positive,
        "threshold": bundle.threshold,
        "temperature": bundle.temperature,
        "data": dict(bundle.data),
    }


def _now() -> str:
    """Return the time, in UTC."""
    return datetime.now(UTC).isoformat(timespec="seconds")
