"""The workers of a run on Ray: who has which shard, and what becomes of it where one fails."""

from __future__ import annotations

import logging
import time
from collections import Counter, deque
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

from engines.errors import ResultsError, SourceError, UserError
from engines.registry import AUTO, CPU
from engines.sources.names import counted
from screen.results.parts import BatchScored, ShardDone
from screen.results.run_record import now
from screen.runners.ray_cluster.hand import Hand
from screen.runners.ray_cluster.worker import Worker

if TYPE_CHECKING:
    from collections.abc import Generator, Iterator

    from engines.cells import Shard
    from screen.options import RunOptions
    from screen.results.run_record import WorkerRecord
    from screen.runners.events import Event
    from screen.runners.ray_cluster.worker import Prepared
    from screen.runners.session import Session

__all__ = ["Crew", "Needs", "in_words"]

LOG = logging.getLogger(__name__)

TRIES = 3  # of a shard, before it is left out and reported
AHEAD = 2  # shards a worker has: one in work, and one so that it need not wait
WAIT_S = 30.0
PAUSE_S = 1.0
PATIENCE_S = 180.0  # with a worker that cannot be reached: Ray notices within a minute or so
UNREACHABLE = "ActorUnavailableError"  # of ray.exceptions, which says that it may pass


@dataclass(frozen=True, slots=True)
class Needs:
    """How many workers there are to be, and what each takes of a machine."""

    count: int
    cpus: int
    gpus: int


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
                f"{names}; shard {index}: {in_words(error)}",
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
        LOG.warning("%s failed and starts again: %s", self._where(hand), in_words(error))
        if (record := hand.record()) is not None and record.shards:
            self._former.append(record)
        self._ray.kill(hand.actor, no_restart=False)
        self._asked_to_prepare(hand, begin=False)

    def _retired(self, hand: Hand, error: BaseException) -> None:
        """Go on without a worker."""
        self._last_error = _cause(error)
        LOG.warning("%s takes no part: %s", self._where(hand), in_words(self._last_error))
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
            f"no worker could take part: {in_words(self._last_error)}",
            hint="see what the workers' machines lack; the same command goes on",
        )


def _cause(error: BaseException) -> BaseException:
    """Return what a worker raised, or what Ray says of its end."""
    cause = getattr(error, "cause", None)
    return cause if isinstance(cause, BaseException) else error


def in_words(error: BaseException) -> str:
    """Say an error in one line."""
    first = next((line for line in str(error).splitlines() if line.strip()), "")
    return first if isinstance(error, UserError) else f"{type(error).__name__}: {first}"
