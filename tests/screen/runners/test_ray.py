"""Runs on Ray: the rows of one process, whatever dies, leaves or joins meanwhile."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace

import pytest
from draw_cells import draw_cell

import screen
from engines.errors import BackendMissingError, ResultsError, SourceError, UserError
from screen.results.folder import ResultsFolder
from screen.results.parts import BatchScored, ShardDone
from screen.runners import ray_cluster
from screen.runners.events import Started
from screen.runners.ray_cluster import crew as crew_module
from screen.runners.ray_cluster.connection import connected, shares
from screen.runners.ray_cluster.crew import Crew, Needs
from screen.runners.ray_cluster.hand import Hand

ray = pytest.importorskip("ray", reason="the package ray is not installed: slidescreen[ray]")

pytestmark = pytest.mark.filterwarnings("ignore")  # of Ray's own making


# Without a Ray: who is handed which shard, and what becomes of it.


class Stream:
    """What a worker will say; an exception is raised in its place."""

    def __init__(self, *events):
        """Keep what is to be said."""
        self.events = list(events)

    def __next__(self):
        """Say the next."""
        return self.events.pop(0)


class Actor:
    """A worker that does each shard it is given, unless it is to fail."""

    def __init__(self, crew, number):
        """Have nothing to do."""
        self.crew, self.number = crew, number
        self.queue, self.alive = Stream(), 0
        self.prepare = SimpleNamespace(options=lambda **_: SimpleNamespace(remote=self._prepare))
        self.screen = SimpleNamespace(options=lambda **_: SimpleNamespace(remote=self._screen))
        self.give = SimpleNamespace(remote=self._give)

    def _prepare(self, **_):
        self.alive += 1
        refused = self.crew.refusing.get(self.number)
        return Stream(refused or "prepared")

    def _screen(self):
        self.queue = Stream()
        return self.queue

    def _give(self, shard):
        self.crew.given.append((self.number, shard.index))
        failure = self.crew.failing.get((self.number, shard.index), [])
        if failure:
            self.queue.events += [BatchScored(1, 0), failure.pop(0)]
        else:
            self.queue.events += [BatchScored(2, 0), ShardDone(shard.index, 2, 0)]


class FakeRay:
    """As much of Ray as a Crew calls, in one thread."""

    def __init__(self):
        """Let all go well."""
        self.refusing, self.failing, self.given, self.killed = {}, {}, [], []
        self.count = 0

    def remote(self, _kind):
        """Make actors."""
        return SimpleNamespace(options=lambda **_: SimpleNamespace(remote=self._hired))

    def _hired(self, _options):
        self.count += 1
        return Actor(self, self.count)

    def get(self, what):
        """Return or raise what was said."""
        event = what.__next__() if isinstance(what, Stream) else what
        if isinstance(event, BaseException):
            raise event
        return event if event != "prepared" else PREPARED

    def wait(self, dues, **_):
        """Name those who have something to say."""
        return [due for due in dues if due.events], []

    def kill(self, actor, *, no_restart=True):
        """Note it."""
        self.killed.append((actor.number, no_restart))


PREPARED = SimpleNamespace(machine=SimpleNamespace(node="here"), record=None)


@pytest.fixture
def crew(monkeypatch, tmp_path):
    """A crew of two workers of a pretended Ray."""
    monkeypatch.setattr(Hand, "record", lambda _: None)
    fake = FakeRay()
    options = screen.RunOptions(source=tmp_path, out=tmp_path / "out", workers=2)
    return fake, Crew(fake, options, Needs(2, 1, 0))


def session(shards):
    """As much of a session as a crew asks of it."""
    return SimpleNamespace(
        pending=lambda: iter([SimpleNamespace(index=index) for index in range(shards)]),
        mine=dict.fromkeys(range(shards)),
        parts={},
    )


def done(events):
    """Return which shards are on disk, in order."""
    return sorted(event.index for event in events if isinstance(event, ShardDone))


def test_a_shard_that_fails_twice_is_done_by_another_start(crew):
    """What was scored of it is counted back; the worker starts afresh each time."""
    fake, workers = crew
    crash = RuntimeError("the process died")
    fake.failing = {(1, 0): [crash, crash], (2, 0): [crash]}
    workers.begin()

    events = list(workers.screen(session(6)))

    assert done(events) == list(range(6))
    assert sum(event.scored for event in events if isinstance(event, BatchScored)) == 12
    assert all(not no_restart for _, no_restart in fake.killed)
    workers.require_all_done()


def test_a_shard_that_fails_three_times_is_left_out_and_named(crew):
    """The others are done, also those that were handed to a worker beside it."""
    fake, workers = crew
    fake.failing = {(n, 3): [RuntimeError("out of\nmemory")] * 3 for n in (1, 2)}
    workers.begin()

    assert done(workers.screen(session(8))) == [0, 1, 2, 4, 5, 6, 7]
    with pytest.raises(ResultsError, match="1 shard failed 3 times .*: 3; shard 3: RuntimeError"):
        workers.require_all_done()


def test_a_failed_shard_is_tried_by_itself(crew):
    """So that what it does is not laid to a neighbour's charge."""
    fake, workers = crew
    fake.failing = {(n, 0): [RuntimeError("dead")] for n in (1, 2)}
    workers.begin()
    list(workers.screen(session(2)))

    assert workers._lost == {}
    assert fake.given[:2] == [(1, 0), (1, 1)]


def test_a_worker_that_cannot_take_part_is_named_and_the_rest_go_on(crew, caplog):
    """Whether it refuses at the start, or loses the source later."""
    fake, workers = crew
    fake.refusing = {1: BackendMissingError("the runtime tensorrt does not work here")}
    fake.failing = {}
    workers.begin()

    assert done(workers.screen(session(4))) == [0, 1, 2, 3]
    assert "worker 1 takes no part: the runtime tensorrt does not work here" in caplog.text
    assert {number for number, _ in fake.given} == {2}


def test_a_worker_that_cannot_be_reached_is_waited_for(crew, monkeypatch):
    """Until Ray has noticed that its node is gone; but not for ever."""
    fake, workers = crew
    unreachable = type("ActorUnavailableError", (Exception,), {})("connection refused")
    monkeypatch.setattr(crew_module, "PAUSE_S", 0.0)
    fake.failing = {(1, 0): [RuntimeError("gone")]}
    workers.begin()
    first = workers._hands[0]
    once = iter([unreachable, unreachable])
    first.actor.prepare = SimpleNamespace(
        options=lambda **_: SimpleNamespace(
            remote=lambda **_: Stream(next(once, None) or "prepared")
        )
    )

    assert done(workers.screen(session(4))) == [0, 1, 2, 3]
    assert not workers._may_come_back(first, RuntimeError("dead"))
    monkeypatch.setattr(crew_module, "PATIENCE_S", -1.0)
    assert not workers._may_come_back(first, unreachable)


def test_no_worker_left_is_the_last_ones_error(crew):
    """As the run in one process would have raised it."""
    fake, workers = crew
    gone = SourceError("the source of the cells seems to be gone: unplugged")
    fake.failing = {(number, 0): [gone] for number in (1, 2)}
    workers.begin()

    with pytest.raises(SourceError, match="unplugged"):
        list(workers.screen(session(3)))

    fake, workers = crew[0], Crew(crew[0], workers._options, Needs(1, 1, 0))
    fake.refusing = {3: BackendMissingError("no")}
    with pytest.raises(BackendMissingError):
        workers.begin()


def test_a_cluster_is_divided(tmp_path):
    """A GPU each with its share of processors; processors alone where there is none."""
    options = screen.RunOptions(source=tmp_path, out=tmp_path / "out")

    def needs(*nodes, **asked):
        fake = SimpleNamespace(nodes=lambda: [{"Alive": True, "Resources": n} for n in nodes])
        return shares(fake, replace(options, **asked))

    big, small = {"CPU": 64.0, "GPU": 8.0}, {"CPU": 16.0}
    assert needs(big, big, small) == Needs(16, 8, 1)
    assert needs(big, workers=4) == Needs(4, 8, 1)
    assert needs(big, small, device="cpu") == Needs(2, 32, 0)
    assert needs({}, small, small) == Needs(2, 16, 0)
    assert needs(small, workers=3) == Needs(3, 5, 0)
    assert needs(small, workers=99) == Needs(99, 1, 0)


def test_what_does_not_go_together_is_refused(tmp_path):
    """Each with what to do."""
    base = {"source": tmp_path, "out": tmp_path / "out", "workers": 2}
    with pytest.raises(ValueError, match="no part, no cuda:N"):
        screen.RunOptions(**base, device="cuda:1")
    updating = SimpleNamespace(
        outdated=SimpleNamespace(records={0: None}), results=SimpleNamespace(path=tmp_path)
    )
    with pytest.raises(ResultsError, match="up to date with its source, which one process"):
        ray_cluster._require_no_update(updating)
    with pytest.raises(UserError, match="--update runs in one process"):
        list(screen.run(screen.RunOptions(**base, update=True)))


# With Ray.


@pytest.fixture
def options(bundle, tmp_path):
    """A run over 96 drawn cells in 48 shards."""
    for number in range(96):
        folder = tmp_path / "cells" / f"slide{number % 3}"
        folder.mkdir(parents=True, exist_ok=True)
        draw_cell(number % 8, (90, 70)).save(folder / f"{number:02d}.bmp")
    return screen.RunOptions(
        source=tmp_path / "cells",
        out=tmp_path / "results",
        model=bundle.folder,
        runtime="torch",
        decoder="pillow",
        shard_cells=2,
        batch=2,
        threads=1,
    )


def rows(options):
    """Return every row of the results."""
    return screen.open_results(options.out).to_table().to_pylist()


def alone(options, tmp_path):
    """Return the rows of one process."""
    whole = replace(options, out=tmp_path / "alone")
    list(screen.run(whole))
    return rows(whole)


def workers_here():
    """Name the processes of workers on this machine."""
    found = []
    for folder in Path("/proc").glob("[0-9]*"):
        try:
            if b"ray::Worker" in (folder / "cmdline").read_bytes():
                found.append(int(folder.name))
        except OSError:
            continue
    return found


@pytest.mark.long
def test_two_workers_make_the_rows_of_one_process_also_if_one_is_killed(options, tmp_path):
    """By SIGKILL, with shards in its hands; the driver's record says who did what."""
    expected = alone(options, tmp_path)
    killed = []
    for event in screen.run(replace(options, workers=2)):
        if isinstance(event, ShardDone) and not killed:
            killed = workers_here()[:1]
            os.kill(killed[0], signal.SIGKILL)
    record = ResultsFolder(options.out).read_run()

    assert killed
    assert rows(options) == expected
    assert sum(worker.cells for worker in record.workers) == 96
    assert all(worker.parity.verdict == "agrees" for worker in record.workers)


@pytest.mark.long
def test_a_killed_driver_goes_on_where_it_was(options, tmp_path):
    """The same command again; what was on disk is not screened again."""
    expected = alone(options, tmp_path)
    code = (
        "import os, signal, sys, screen\n"
        "from dataclasses import replace\n"
        "o = screen.RunOptions(source=sys.argv[1], out=sys.argv[2], model=sys.argv[3],\n"
        "    runtime='torch', decoder='pillow', shard_cells=2, batch=2, threads=1, workers=1)\n"
        "n = 0\n"
        "for event in screen.run(o):\n"
        "    n += type(event).__name__ == 'ShardDone'\n"
        "    if n == 5:\n"
        "        os.kill(os.getpid(), signal.SIGKILL)\n"
    )
    where = [str(options.source), str(options.out), str(options.model)]
    died = subprocess.run([sys.executable, "-c", code, *where], check=False)
    assert died.returncode == -signal.SIGKILL

    events = list(screen.run(replace(options, workers=1)))

    started = next(event for event in events if isinstance(event, Started))
    assert started.cells_done >= 10
    assert rows(options) == expected


@pytest.mark.long
def test_a_node_that_leaves_and_one_that_joins(options, tmp_path, monkeypatch):
    """Shards of the first go to the second, which had no room for a worker before it was there."""
    from ray.cluster_utils import Cluster

    expected = alone(options, tmp_path)
    monkeypatch.setenv("RAY_worker_niceness", "0")
    store = {"object_store_memory": 100 * 2**20}
    cluster = Cluster(initialize_head=True, head_node_args={"num_cpus": 0, **store})
    try:
        leaving = cluster.add_node(num_cpus=1, **store)
        swapped = False
        for event in screen.run(replace(options, workers=1, ray=cluster.address)):
            if isinstance(event, ShardDone) and not swapped:
                cluster.remove_node(leaving, allow_graceful=False)
                cluster.add_node(num_cpus=1, **store)
                swapped = True
    finally:
        cluster.shutdown()

    assert swapped
    assert rows(options) == expected


@pytest.mark.long
def test_storage_that_refuses_for_a_while(options, tmp_path, bucket, monkeypatch):
    """The server is down for ten seconds; parts are written in the end, and nothing twice."""
    from moto.server import ThreadedMotoServer

    expected = alone(options, tmp_path)
    server = ThreadedMotoServer("127.0.0.1", 0, verbose=False)
    server.start()
    host, port = server.get_host_and_port()
    monkeypatch.setenv("AWS_ENDPOINT_URL", f"http://{host}:{port}")
    there = replace(options, out=f"{bucket}/results", workers=1)
    down = False
    for event in screen.run(there):
        if isinstance(event, ShardDone) and not down:
            down = True
            server.stop()
            time.sleep(10)
            server = ThreadedMotoServer(host, port, verbose=False)
            server.start()
    server.stop()

    assert down
    assert rows(there) == expected


def test_a_run_that_is_done_needs_no_ray(options, monkeypatch):
    """Asked again it writes nothing anew, and starts no worker."""
    list(screen.run(options))
    monkeypatch.setattr(ray_cluster, "connected", lambda _: pytest.fail("Ray was started"))

    events = list(screen.run(replace(options, workers=2)))

    assert [type(event).__name__ for event in events] == ["Started", "Finished"]


def test_an_address_without_ray_is_named(monkeypatch, tmp_path):
    """And what to name instead; a package that is missing, likewise."""

    def init(**_):
        raise ConnectionError("nobody answers")

    options = screen.RunOptions(source=tmp_path, out=tmp_path / "x", ray="head:6379")
    monkeypatch.setitem(sys.modules, "ray", SimpleNamespace(init=init))
    with pytest.raises(BackendMissingError, match="no Ray at head:6379: .*nobody answers"):
        connected(options).__enter__()

    monkeypatch.setitem(sys.modules, "ray", None)
    with pytest.raises(BackendMissingError, match="need the package ray") as caught:
        connected(options).__enter__()
    assert "slidescreen[ray]" in caught.value.hint
