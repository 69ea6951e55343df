"""The stream, joined up."""

from __future__ import annotations

import time
from dataclasses import dataclass
from typing import TYPE_CHECKING, Protocol

from engines.models.bundle import ModelBundle
from engines.sources import open_source
from screen.results.folder import ResultsFolder
from screen.results.parts import Commit, ShardDone
from screen.results.schema import class_columns
from screen.runners.start import begin

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

    from engines.cells import Scores
    from screen.options import RunOptions
    from screen.runners.session import Job

__all__ = ["Watch", "run"]


class Watch(Protocol):
    """Is told what happens between shards; a progress display, for one."""

    def building(self, share: float, phase: str) -> None:
        """An engine is being built: the share done, 0 to 1, and what is being done."""
        ...

    def begun(self, job: Job) -> None:
        """Everything is settled and checked; screening starts."""
        ...

    def scored(self, scores: Scores) -> None:
        """Another batch is scored, not yet committed."""
        ...


@dataclass(frozen=True, slots=True)
class Silent:
    """A Watch that keeps it to itself."""

    def building(self, share: float, phase: str) -> None:
        """Say nothing."""

    def begun(self, job: Job) -> None:
        """Say nothing."""

    def scored(self, scores: Scores) -> None:
        """Say nothing."""


def run(options: RunOptions, watch: Watch | None = None) -> Iterator[ShardDone]:
    """
    Screen a folder, or go on where an earlier run of the same kind stopped.

    A generator: a shard is on disk when it is yielded, and the slides and the final run.json are
    when the generator ends. Left early, it may be run again.

    Args:
        options: What to screen, where to, and how.
        watch: Told of the beginning and of every batch.

    Raises:
        UserError: Any of ``engines.errors``; the message and its hint say what to do.
    """
    watch = watch or Silent()
    bundle = ModelBundle.load(options.model)
    class_columns(bundle.classes)
    source = open_source(options.source)
    results = ResultsFolder(options.out)
    with results.locked():
        job = begin(options, bundle, source, results, watch.building)
        watch.begun(job)
        start = time.perf_counter()
        cells = 0
        for done in _screened(job, watch):
            cells += done.scored + done.faults
            yield done
        job.finish(cells, time.perf_counter() - start)


def _screened(job: Job, watch: Watch) -> Iterator[ShardDone]:
    """Decode, score and commit what is pending."""
    if job.stages is None:
        return
    batches = job.stages.decoder.stream(job.pending())
    scores = _watched(job.stages.runtime.stream(batches), watch)
    for event in Commit(job.results, job.fingerprint, job.uncertainty).stream(scores):
        if isinstance(event, ShardDone):
            yield event


def _watched(stream: Iterable[Scores], watch: Watch) -> Iterator[Scores]:
    """Pass scores on, telling *watch*."""
    for scores in stream:
        watch.scored(scores)
        yield scores
