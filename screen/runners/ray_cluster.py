"""
A run on Ray: several workers, here or on a cluster, are handed shards by this process.

Ray places the workers (an actor each), starts them again where one dies, and places those that
found no room once a node joins. What is here decides what is screened: each worker has a shard in
work and one waiting; what a dead worker had goes to others. Workers write the parts; this process
counts, and in the end summarises.
"""

from __future__ import annotations

import logging
import os
import time
from collections import Counter, deque
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from importlib import import_module
from typing import TYPE_CHECKING, Any

from engines.errors import BackendMissingError, ResultsError, SourceError, UserError
from engines.hardware.device_choice import kind_of_device
from engines.hardware.machine import usable_cores
from engines.registry import AUTO, CPU
from engines.sources.names import counted
from screen.results.parts import BatchScored, ShardDone
from screen.results.run_record import WorkerRecord, now
from screen.runners.opening import opened
from screen.runners.ray_worker import Worker

if TYPE_CHECKING:
    from collections.abc import Generator, Iterator

    from engines.cells import Shard
    from screen.options import RunOptions
    from screen.runners.events import Event
    from screen.runners.ray_worker import Prepared
    from screen.runners.session import Session
    from screen.runners.start import Start

__all__ = ["run"]

LOG = logging.getLogger(__name__)

TRIES = 3  # of a shard, before it is left out and reported
AHEAD = 2  # shards a worker has: one in work, and one so that it need not wait
STORE_BYTES = 100 * 2**20  # of a Ray of our own: it carries lists of cells, never pixels
WAIT_S = 30.0
PAUSE_S = 1.0
PATIENCE_S = 180.0  # with a worker that cannot be reached: Ray notices within a minute or so
UNREACHABLE = "ActorUnavailableError"  # of ray.exceptions, which says that it may pass
SURROUNDINGS = {  # of a Ray of our own, as far as the user has not set them
    "RAY_USAGE_STATS_ENABLED": "0",  # nothing is reported to anybody
    "RAY_worker_niceness": "0",  # workers are the run: not 15, as Ray would have it
}


def run(options: RunOptions) -> Iterator[Event]:
    """Screen a source by several workers; see ``screen.runners.run``."""
    if options.update:
        raise UserError(
            "--update runs in one process", hint="leave out --workers and --ray; go on with them"
        )
    start = opened(replace(options, device=AUTO))
    with start.results.locked():
        earlier = None if options.restart else start.results.read_run()
        if earlier is not None and not _left(session := start.planned(earlier)):
            yield session.started()
            yield session.finish(start.source, 0, 0)
            return
        with _ray(options) as ray:
            yield from _screened(start, Crew(ray, options, _needs(ray, options)))


def _screened(start: Start, crew: Crew) -> Iterator[Event]:
    """Have a crew screen what is left, and finish the run."""
    crew.begin()
    record = start.results.read_run()
    assert record is not None
    session = start.planned(replace(record, state="running"))
    _require_no_update(session)
    start.results.write_run(session.record)
    yield session.started()
    since = time.perf_counter()
    yield from crew.screen(session)
    crew.require_all_done()
    yield _finished(session, start, crew, time.perf_counter() - since)


def _left(session: Session) -> bool:
    """Whether any shard has no part yet."""
    return bool(session.mine.keys() - session.parts.keys())


def _require_no_update(session: Session) -> None:
    """Refuse parts of which only some rows are to be scored anew: these are one process's work."""
    if session.outdated is not None and session.outdated.records:
        raise ResultsError(
            f"{session.results.path} is being brought up to date with its source, which one "
            "process has to end",
            hint="give slidescreen run without --workers and --ray",
        )


def _finished(session: Session, start: Start, crew: Crew, seconds: float) -> Event:
    """Write what needs every part, and who screened them."""
    workers = crew.records() or session.record.workers
    session = replace(session, record=replace(session.record, workers=tuple(workers)))
    return session.finish(start.source, crew.cells, seconds)


@dataclass(frozen=True, slots=True)
class Needs:
    """How many workers there are to be, and what each takes of a machine."""

    count: int
    cpus: int
    gpus: int


@dataclass(slots=True)
class Hand:
    """
    A worker, as this process sees it.

    Attributes:
        name: For people.
        actor: Ray's handle of it.
        due: What Ray will answer next: that it is prepared, or its events.
        prepared: What it said when it was; None before.
        given: The shards that it has, the one in work first.
        unsaved: Cells and faults scored of shards that are not on disk yet.
        shards, cells, bad: What it has written.
        started: When it was ready, UTC; *since*: likewise, by the clock of this process.
        lost_since: Since when it cannot be reached; 0 if it can.
    """

    name: str
    actor: Any
    due: Any
    prepared: Prepared | None = None
    given: dict[int, Shard] = field(default_factory=dict)
    unsaved: tuple[int, int] = (0, 0)
    shards: int = 0
    cells: int = 0
    bad: int = 0
    started: str = ""
    since: float = 0.0
    lost_since: float = 0.0

    def record(self) -> WorkerRecord | None:
        """Say what it has done; None if it never came to work."""
        if self.prepared is None:
            return None
        record, seconds = self.prepared.record, time.monotonic() - self.since
        return WorkerRecord(
            name=self.name,
            machine=self.prepared.machine,
            threads=record.choices.threads.value,
            versions=self.prepared.versions,
            parity=record.parity,
            rates=replace(record.rates, end_to_end=self.cells / seconds if self.cells else None),
            shards=self.shards,
            cells=self.cells,
            bad=self.bad,
            started=self.started,
            finished=now(),
        )


class Crew:
    """The workers of one start, and the shards that they have, had, and lost."""

    def __init__(self, ray: Any, options: RunOptions, needs: Needs) -> None:
        """Ask Ray for the workers; it places them when it can."""
        self._ray = ray
        self._needs = needs
        self._options = replace(
            options,
            threads=options.threads or needs.cpus,
            device=options.device if needs.gpus or options.device != AUTO else CPU,
            workers=None,
            ray=None,
        )
        self._hands: list[Hand] = []
        self._former: list[WorkerRecord] = []
        self._again: deque[Shard] = deque()
        self._failures: Counter[int] = Counter()
        self._lost: dict[int, BaseException] = {}
        self._last_error: BaseException | None = None
        self.cells = 0

    def begin(self) -> None:
        """
        Have one worker begin the run, or join it, and ask the others to join.

        Raises:
            UserError: If none can.
        """
        numbers = iter(range(1, self._needs.count + 1))
        for number in numbers:
            hand = self._hired(number, begin=True)
            try:
                self._set_to_work(hand, self._ray.get(hand.due))
            except Exception as error:
                self._retired(hand, error)
                continue
            break
        self._require_hands()
        self._options = replace(self._options, restart=False)
        for number in numbers:
            self._hired(number, begin=False)

    def screen(self, session: Session) -> Iterator[Event]:
        """
        Hand out every shard that has no part yet, until each is on disk or failed three times.

        Raises:
            UserError: If no worker is left.
        """
        fresh = session.pending()
        left = len(session.mine.keys() - session.parts.keys())
        while left > len(self._lost):
            for hand in self._hands:
                self._fill(hand, fresh)
            self._require_hands()
            for hand in self._answering():
                for event in self._answer(hand):
                    left -= isinstance(event, ShardDone)
                    yield event

    def require_all_done(self) -> None:
        """
        Refuse to finish a run that lacks shards.

        Raises:
            ResultsError: If there are any that failed three times.
        """
        if self._lost:
            index, error = next(iter(sorted(self._lost.items())))
            names = ", ".join(str(each) for each in sorted(self._lost)[:20])
            raise ResultsError(
                f"{counted(len(self._lost), 'shard')} failed {TRIES} times and are missing: "
                f"{names}; shard {index}: {_words(error)}",
                hint="everything else is on disk; the same command tries these alone",
            )

    def records(self) -> list[WorkerRecord]:
        """Say what each worker has done."""
        here = (hand.record() for hand in self._hands)
        return [*self._former, *(record for record in here if record is not None)]

    def _hired(self, number: int, *, begin: bool) -> Hand:
        """Ask for a worker."""
        needs = self._needs
        kind = self._ray.remote(Worker).options(
            num_cpus=needs.cpus, num_gpus=needs.gpus, max_concurrency=3, max_restarts=-1
        )
        actor = kind.remote(self._options)
        hand = Hand(f"worker {number}", actor, None)
        self._asked_to_prepare(hand, begin=begin)
        self._hands.append(hand)
        return hand

    def _asked_to_prepare(self, hand: Hand, *, begin: bool) -> None:
        """Let a worker open and check what will run; Ray asks again where it dies meanwhile."""
        hand.prepared = None
        hand.due = hand.actor.prepare.options(max_task_retries=TRIES - 1).remote(begin=begin)

    def _set_to_work(self, hand: Hand, prepared: Prepared) -> None:
        """Begin to listen to a worker that is ready."""
        hand.prepared = prepared
        hand.started, hand.since, hand.lost_since = now(), time.monotonic(), 0.0
        hand.shards = hand.cells = hand.bad = 0
        hand.due = hand.actor.screen.options(num_returns="streaming", max_task_retries=0).remote()

    def _fill(self, hand: Hand, fresh: Iterator[Shard]) -> None:
        """Keep a shard in work and one waiting; one that has failed is tried by itself."""
        while hand.prepared is not None and len(hand.given) < AHEAD:
            if any(self._failures[index] for index in hand.given):
                return
            if self._again and hand.given:
                return
            shard = self._again.popleft() if self._again else next(fresh, None)
            if shard is None:
                return
            hand.given[shard.index] = shard
            hand.actor.give.remote(shard)

    def _answering(self) -> list[Hand]:
        """Wait until workers say something."""
        dues = {hand.due: hand for hand in self._hands}
        ready, _ = self._ray.wait(list(dues), timeout=WAIT_S, fetch_local=False)
        if not ready and not any(hand.prepared for hand in self._hands):
            LOG.warning(
                "no worker has room yet: each needs %d processors and %d GPUs of one node",
                self._needs.cpus,
                self._needs.gpus,
            )
        return [dues[due] for due in ready]

    def _answer(self, hand: Hand) -> Generator[Event, None, None]:
        """Take what a worker says."""
        try:
            if hand.prepared is None:
                self._set_to_work(hand, self._ray.get(hand.due))
                return
            event = self._ray.get(next(hand.due))
        except Exception as error:
            if hand.prepared is None and self._may_come_back(hand, error):
                self._asked_to_prepare(hand, begin=False)
            else:
                yield from self._failed(hand, _cause(error))
            return
        if isinstance(event, BatchScored):
            scored, faults = hand.unsaved
            hand.unsaved = scored + event.scored, faults + event.faults
            yield replace(event, worker=hand.name)
        else:
            del hand.given[event.index]
            hand.unsaved = (0, 0)
            hand.shards, hand.bad = hand.shards + 1, hand.bad + event.faults
            hand.cells += event.scored + event.faults
            self.cells += event.scored + event.faults
            yield event

    def _may_come_back(self, hand: Hand, error: BaseException) -> bool:
        """Whether a worker cannot be reached only until Ray has noticed that its node is gone."""
        if type(error).__name__ != UNREACHABLE:
            return False
        hand.lost_since = hand.lost_since or time.monotonic()
        time.sleep(PAUSE_S)
        return time.monotonic() - hand.lost_since < PATIENCE_S

    def _failed(self, hand: Hand, error: BaseException) -> Generator[Event, None, None]:
        """Take back what a worker had, and let it start afresh, unless it cannot take part."""
        scored, faults = hand.unsaved
        if scored or faults:
            yield BatchScored(-scored, -faults, hand.name)
        hand.unsaved = (0, 0)
        cannot = hand.prepared is None or isinstance(error, SourceError)
        for shard in hand.given.values():
            self._failures[shard.index] += not cannot
            if self._failures[shard.index] < TRIES:
                self._again.append(shard)
            else:
                self._lost[shard.index] = error
        hand.given = {}
        if cannot:
            self._retired(hand, error)
            return
        LOG.warning("%s failed and starts again: %s", self._where(hand), _words(error))
        if (record := hand.record()) is not None and record.shards:
            self._former.append(record)
        self._ray.kill(hand.actor, no_restart=False)
        self._asked_to_prepare(hand, begin=False)

    def _retired(self, hand: Hand, error: BaseException) -> None:
        """Go on without a worker."""
        self._last_error = _cause(error)
        LOG.warning("%s takes no part: %s", self._where(hand), _words(self._last_error))
        if (record := hand.record()) is not None and record.shards:
            self._former.append(record)
        self._hands.remove(hand)
        self._ray.kill(hand.actor)

    def _where(self, hand: Hand) -> str:
        """Name a worker and, where it is known, its machine."""
        if hand.prepared is None:
            return hand.name
        return f"{hand.name} on {hand.prepared.machine.node}"

    def _require_hands(self) -> None:
        """Raise what kept the last worker from taking part, if none is left."""
        if self._hands:
            return
        assert self._last_error is not None
        if isinstance(self._last_error, UserError):
            raise self._last_error
        raise ResultsError(
            f"no worker could take part: {_words(self._last_error)}",
            hint="see what the workers' machines lack; the same command goes on",
        )


def _cause(error: BaseException) -> BaseException:
    """Return what a worker raised, or what Ray says of its end."""
    cause = getattr(error, "cause", None)
    return cause if isinstance(cause, BaseException) else error


def _words(error: BaseException) -> str:
    """Say an error in one line."""
    first = next((line for line in str(error).splitlines() if line.strip()), "")
    return first if isinstance(error, UserError) else f"{type(error).__name__}: {first}"


@contextmanager
def _ray(options: RunOptions) -> Iterator[Any]:
    """Connect to the cluster that is named, or start one on this machine for this run."""
    for name, value in SURROUNDINGS.items():
        os.environ.setdefault(name, value)
    try:
        ray: Any = import_module("ray")
    except ModuleNotFoundError as error:
        raise BackendMissingError(
            "several workers need the package ray", hint="pip install 'slidescreen[ray]'"
        ) from error
    quiet = {"log_to_driver": False, "logging_level": logging.ERROR}
    if options.ray is None:
        ray.init(
            num_cpus=usable_cores(),
            num_gpus=_gpus_here(options),
            object_store_memory=STORE_BYTES,
            include_dashboard=False,
            **quiet,
        )
    else:
        try:
            ray.init(address=options.ray, **quiet)
        except (ConnectionError, ValueError, RuntimeError) as error:
            raise BackendMissingError(
                f"there is no Ray at {options.ray}: {_words(error)}",
                hint="name a head node as HOST:PORT, or auto for the cluster of this machine",
            ) from error
    try:
        yield ray
    finally:
        ray.shutdown()


def _gpus_here(options: RunOptions) -> int:
    """Count the GPUs of this machine that workers may use."""
    import torch

    return 0 if kind_of_device(options.device) == CPU else torch.cuda.device_count()


def _needs(ray: Any, options: RunOptions) -> Needs:
    """Divide the cluster: a GPU and its share of the processors each, or processors alone."""
    nodes = [node["Resources"] for node in ray.nodes() if node["Alive"]]
    with_gpus = [node for node in nodes if node.get("GPU")]
    if with_gpus and kind_of_device(options.device) != CPU:
        cpus = min(int(node.get("CPU", 1) // node["GPU"]) for node in with_gpus)
        count = options.workers or int(sum(node["GPU"] for node in with_gpus))
        return Needs(count, max(1, cpus), 1)
    largest = max((int(node.get("CPU", 1)) for node in nodes), default=1)
    count = options.workers or len(nodes)
    together = int(sum(node.get("CPU", 1) for node in nodes))
    return Needs(count, max(1, min(largest, together // count)), 0)
