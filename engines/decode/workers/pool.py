"""The worker processes, as the main process sees them: started when needed, replaced when dead."""

from __future__ import annotations

import itertools
import json
import os
import signal
import socket
import subprocess
import sys
import tempfile
import threading
import weakref
from collections import deque
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from engines.decode.workers.messages import Raised, receive, send
from engines.decode.workers.slab import Slab
from engines.errors import DeviceError

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence
    from typing import Any

    from engines.decode.workers.messages import Answer, Decoded, Opened, Opening, Spent, Task

__all__ = ["Pool", "Worker", "WorkerDiedError", "processes_usable", "shared_pool"]

# The search path is handed on, so that a worker finds what this process finds.
BEGIN = (
    "import json, sys; sys.path[:] = json.loads(sys.argv[1]); "
    "from engines.decode.workers.process import main; "
    "main(int(sys.argv[2]), int(sys.argv[3]), sys.argv[4])"
)
GRACE = 5  # seconds for a worker to end by itself
MOST_KILLED = 20  # in a row, with nothing decoded in between: that is no cell's fault

_pools: weakref.WeakValueDictionary[int, Pool] = weakref.WeakValueDictionary()


def processes_usable() -> bool:
    """Tell whether this system has what workers need: Linux has."""
    return hasattr(os, "memfd_create") and hasattr(socket, "send_fds")


class WorkerDiedError(Exception):
    """
    A worker ended while it had a task.

    Attributes:
        code: Its exit status; negative for a signal.
    """

    def __init__(self, code: int) -> None:
        """Keep the exit status."""
        super().__init__(code)
        self.code = code

    @property
    def out_of_time(self) -> bool:
        """Whether it ended because a cell took more processor time than it may."""
        return self.code == -signal.SIGPROF

    def __str__(self) -> str:
        """Say how it ended."""
        if self.code >= 0:
            return f"exit status {self.code}"
        return signal.Signals(-self.code).name


@dataclass(slots=True, weakref_slot=True)
class Worker:
    """
    A worker process.

    Attributes:
        process: It.
        connection: To it.
        said: What it prints before it answers for the first time.
        seen: Numbers of the work that it has a decoder for.
        known: Numbers of the slabs that it has.
        free: Slabs that nobody uses now.
    """

    process: subprocess.Popen[bytes]
    connection: socket.socket
    said: Any
    seen: set[int] = field(default_factory=set)
    known: set[int] = field(default_factory=set)
    free: deque[Slab] = field(default_factory=deque)

    @classmethod
    def started(cls, module: str) -> Worker:
        """Start one, which loads *module* first."""
        ours, theirs = socket.socketpair()
        said = tempfile.TemporaryFile()  # noqa: SIM115  (closed with the worker)
        with theirs:
            path = json.dumps(sys.path)
            process = subprocess.Popen(  # noqa: S603  (our own interpreter)
                [sys.executable, "-c", BEGIN, path, str(theirs.fileno()), str(os.getpid()), module],
                pass_fds=[theirs.fileno()],
                stdin=subprocess.DEVNULL,
                stdout=subprocess.DEVNULL,
                stderr=said,
                start_new_session=True,  # Ctrl-C is for the main process
                env={**os.environ, "OMP_NUM_THREADS": "1"},
            )
        return cls(process, ours, said)

    def open(self, opening: Opening) -> Opened:
        """
        Have a decoder opened.

        Raises:
            DeviceError: If the process ends instead, as one does that cannot start.
            Exception: What opening it raises.
        """
        try:
            answer: Opened = self._answered(opening)
        except WorkerDiedError as died:
            raise self._unable(died) from died
        self.seen.add(opening.number)
        self.seen.difference_update(opening.closed)
        return answer

    def decode(self, task: Task, slab: Slab) -> Decoded | Spent:
        """
        Have cells decoded; their pixels are in *slab* then.

        Raises:
            WorkerDiedError: If the process ends instead.
            Exception: What is no cell's fault.
        """
        answer: Decoded | Spent = self._answered(
            task, [] if slab.number in self.known else [slab.descriptor]
        )
        self.known.add(slab.number)
        return answer

    def _answered(self, asked: Opening | Task, descriptors: Sequence[int] = ()) -> Any:
        """Send something and wait for the answer."""
        try:
            send(self.connection, asked, descriptors)
            answer: Answer = receive(self.connection)[0]
        except (EOFError, ConnectionError) as error:
            raise WorkerDiedError(self.process.wait()) from error
        if isinstance(answer, Raised):
            answer.error.add_note(f"In a worker process:\n{answer.traceback}")
            raise answer.error
        return answer

    def slab(self) -> Slab:
        """Return a slab that is not in use."""
        try:
            return self.free.popleft()
        except IndexError:
            return Slab()

    def close(self) -> None:
        """Let the process end, or end it."""
        self.connection.close()
        self.said.close()
        try:
            self.process.wait(GRACE)
        except subprocess.TimeoutExpired:
            self.process.kill()
            self.process.wait()

    def _unable(self, died: WorkerDiedError) -> DeviceError:
        """Say why it could not start."""
        self.said.seek(0)
        lines = self.said.read().decode(errors="replace").strip().splitlines()
        return DeviceError(
            f"a worker process cannot start ({died}): {lines[-1] if lines else 'it says nothing'}",
            hint="use --decode-workers 0 to decode in the main process",
        )


class Pool:
    """
    At most so many workers, each lent to one thread at a time.

    They end when the pool is let go of, and when this process ends.

    Attributes:
        size: How many.
    """

    def __init__(self, size: int, module: str) -> None:
        """Start all: each loads *module* while this process goes on."""
        self.size = size
        self._module = module
        self._turns = threading.Semaphore(size)
        self._all = [Worker.started(module) for _ in range(size)]
        self._idle = list(self._all)
        self._killed = itertools.count(1)
        weakref.finalize(self, _close, self._all)

    @contextmanager
    def worker(self) -> Iterator[Worker]:
        """
        Lend a worker; the one that was used last, if one is idle.

        Raises:
            DeviceError: If workers are killed again and again.
        """
        with self._turns:
            worker = self._idle.pop() if self._idle else self._started()
            try:
                yield worker
            except WorkerDiedError as died:
                self._buried(worker, died)
                raise
            except DeviceError:
                self._ended(worker)
                raise
            self._killed = itertools.count(1)
            self._idle.append(worker)

    @property
    def process_ids(self) -> list[int]:
        """The workers that run now."""
        return [worker.process.pid for worker in self._all]

    def _started(self) -> Worker:
        """Start a worker."""
        worker = Worker.started(self._module)
        self._all.append(worker)
        return worker

    def _buried(self, worker: Worker, died: WorkerDiedError) -> None:
        """Let a dead worker go."""
        self._ended(worker)
        if died.code == -signal.SIGKILL and next(self._killed) >= MOST_KILLED:
            raise DeviceError(
                "the worker processes that decode are killed again and again",
                hint="if the machine's memory does not suffice, use fewer --threads",
            ) from died

    def _ended(self, worker: Worker) -> None:
        """Forget a worker that has ended."""
        self._all.remove(worker)
        worker.close()


def shared_pool(size: int, module: str) -> Pool:
    """
    Return the pool of so many workers, the same for all of this process while one is in use.

    Args:
        size: How many workers.
        module: What a new one is going to need.
    """
    pool = _pools.get(size)
    if pool is None:
        pool = _pools[size] = Pool(size, module)
    return pool


def _close(workers: Sequence[Worker]) -> None:
    """Let all workers end, then wait for them."""
    for worker in workers:
        worker.connection.close()
    for worker in workers:
        worker.close()
