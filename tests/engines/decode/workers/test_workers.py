"""Decoding in worker processes: the same batches, and nothing that a cell does ends the run."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest
import zoo
from hostile_codec import Broken, Files, Named

from engines.backends import open_decoder
from engines.cells import CellRef, Shard
from engines.decode.base import DecodeOptions
from engines.decode.cell_limits import CellLimits
from engines.decode.workers.decoder import WorkerDecoder
from engines.decode.workers.pool import MOST_KILLED, processes_usable
from engines.decode.workers.slab import Slab
from engines.errors import DeviceError
from engines.models.input import ModelInput
from engines.registry import decoder_names

HALF = (0.5, 0.5, 0.5)
EXPECTED = ModelInput(height=48, width=64, mean=HALF, std=HALF)
FILES = {**zoo.good(), **zoo.bad(), "huge.png": zoo.huge_png()}
GOOD = ["plain.bmp", "rgb.png", "baseline.jpg", "lzw.tif", "lossy.webp"]
HOSTILE = {
    "kill": "decoding it ends the process that does (SIGKILL)",
    "abort": "decoding it ends the process that does (SIGABRT)",
    "exit": "decoding it ends the process that does (exit status 3)",
    "spin": "it takes more than 0.5 s of processor time",
    "hold": "it takes more than 2048 MiB of memory",
}
pytestmark = pytest.mark.skipif(not processes_usable(), reason="workers need Linux")


def shard_of(paths, index=0):
    """Name some cells."""
    return Shard(index, tuple(CellRef(path, "slide") for path in paths))


def decoded(decoder, *shards):
    """Decode; return path -> pixels, path -> (status, reason), and the batches."""
    batches = list(decoder.stream(shards))
    pixels = {
        ref.path: np.array(image)
        for batch in batches
        for ref, image in zip(batch.refs, batch.pixels, strict=True)
    }
    faults = {f.ref.path: (f.status, f.reason) for batch in batches for f in batch.faults}
    return pixels, faults, batches


def hostile(files=FILES, batch=8, seconds=0.5):
    """Open the hostile codec in two workers, with little time for a cell."""
    limits = CellLimits(seconds, 2**31)
    options = DecodeOptions(threads=1, batch=batch, workers=2, limits=limits)
    files = {**files, **{deed: deed.encode() for deed in [*HOSTILE, "sleep"]}}
    return WorkerDecoder("hostile_codec:open_decoder", Files(files), EXPECTED, options)


@pytest.mark.filterwarnings("ignore")  # as in a worker, where Pillow's warnings are no errors
@pytest.mark.parametrize("name", decoder_names())
@pytest.mark.parametrize("batch", [1, 5, 200])
def test_batches_are_those_of_threads(name, batch):
    """Every good and bad file: same refs, facts, pixels, faults and quality, in the same order."""
    shards = [shard_of([*FILES, "gone.bmp"]), shard_of(GOOD, 1)]
    ours, theirs = (
        open_decoder(
            name, Files(FILES), EXPECTED, DecodeOptions(threads=1, batch=batch, workers=workers)
        )
        for workers in (1, 0)
    )
    found, expected = list(ours.stream(shards)), list(theirs.stream(shards))

    assert ours.name == theirs.name
    for field in ("refs", "facts", "faults"):
        assert [each for batch in found for each in getattr(batch, field)] == [
            each for batch in expected for each in getattr(batch, field)
        ]
    for field in ("pixels", "quality"):
        one, other = (
            np.concatenate([getattr(batch, field) for batch in batches])
            for batches in (found, expected)
        )
        assert np.array_equal(one, other, equal_nan=True)


@pytest.mark.parametrize("deed", HOSTILE)
def test_a_cell_that_ends_its_process_costs_itself(deed):
    """Its neighbours are decoded as ever, in their places, and it is named with the reason."""
    expected, _, _ = decoded(hostile(), shard_of(GOOD))

    pixels, faults, batches = decoded(hostile(), shard_of([*GOOD[:2], deed, *GOOD[2:]]))

    assert faults == {deed: ("undecodable", HOSTILE[deed])}
    assert [ref.path for batch in batches for ref in batch.refs] == GOOD
    assert all(np.array_equal(pixels[path], expected[path]) for path in GOOD)


def test_a_cell_is_set_aside_alike_in_every_company():
    """Alone, in a batch of two, or between others that do the same."""
    companies = [["abort"], ["abort", "rgb.png"], ["exit", "abort"]]

    found = [
        decoded(hostile(batch=batch), shard_of(paths))[1]["abort"]
        for paths, batch in zip(companies, (1, 2, 8), strict=True)
    ]

    assert set(found) == {("undecodable", HOSTILE["abort"])}


def test_time_is_counted_for_each_cell():
    """A batch may take longer than one cell may."""
    refs = tuple(CellRef(f"{number}.bmp", "slide") for number in range(64))
    decoder = hostile({ref.path: FILES["600.bmp"] for ref in refs}, batch=64, seconds=0.15)

    assert decoded(decoder, Shard(0, refs))[1] == {}


def test_workers_that_are_killed_again_and_again_stop_the_run():
    """Twenty in a row are no fault of the cells: nothing is written off for want of memory."""
    files = {f"{number}.png": b"kill" for number in range(MOST_KILLED)}

    with pytest.raises(DeviceError, match="killed again and again") as caught:
        decoded(hostile(files, batch=1), shard_of(files))

    assert "--threads" in caught.value.hint


def test_a_bug_in_reading_is_raised_with_where_it_was():
    """As in this process; the worker's own traceback comes along."""
    options = DecodeOptions(threads=1, workers=1)
    decoder = open_decoder("pillow", Broken(), EXPECTED, options)

    with pytest.raises(ZeroDivisionError) as caught:
        decoded(decoder, shard_of(["plain.bmp"]))

    assert "hostile_codec.py" in caught.value.__notes__[0]


def test_a_worker_has_the_environment_of_now(monkeypatch):
    """Credentials that a program sets after the workers began reach them."""
    options = DecodeOptions(threads=1, workers=1)
    before = open_decoder("pillow", Named(), EXPECTED, options)
    monkeypatch.setenv("SLIDESCREEN_TEST_CELL", "a new one")
    decoder = open_decoder("pillow", Named(), EXPECTED, options)

    assert before.process_ids == decoder.process_ids
    assert decoded(decoder, shard_of(["x"]))[1] == {"x": ("unreadable", "a new one")}


def test_a_batch_keeps_its_pixels_while_it_is_looked_at():
    """Memory is used again only when nobody holds a batch, or any view of one."""
    decoder = hostile(batch=2)
    expected, _, _ = decoded(decoder, shard_of(GOOD))

    kept = [batch.pixels[:1] for batch in decoder.stream([shard_of(GOOD)] * 4)]
    names = [GOOD[0], GOOD[2], GOOD[4]] * 4

    assert all(
        np.array_equal(one[0], expected[name]) for one, name in zip(kept, names, strict=True)
    )


def test_a_slab_that_grew_gives_its_memory_back():
    """One large batch does not keep its memory for ever."""
    slab = Slab()
    slab.view(2**27)[:] = 1

    slab.shrink()

    assert os.fstat(slab.descriptor).st_size == 0
    assert slab.view(10).tolist() == [0] * 10


def test_a_worker_that_cannot_start_says_why(monkeypatch):
    """A decoder that does not open in a worker is an error of the start, not of cells."""
    options = DecodeOptions(threads=1, workers=1)

    with pytest.raises(ModuleNotFoundError, match="no_such_module"):
        WorkerDecoder("no_such_module:open_decoder", Files({}), EXPECTED, options)


SCRIPT = """
import json, sys
sys.path[:0] = json.loads(sys.argv[1])
from engines.backends import open_decoder
from test_workers import hostile, shard_of
assert __name__ == "__main__"
print("began", flush=True)
decoder = hostile(batch=1)
print(json.dumps([worker.process.pid for worker in decoder._pool._all]), flush=True)
list(decoder.stream([shard_of([sys.argv[2]])]))
sys.stdin.read()
"""


@pytest.mark.parametrize("doing", ["plain.bmp", "sleep"])
def test_no_process_is_left_when_the_main_one_is_killed(doing):
    """SIGKILL at the main process ends its workers, idle or at work; its script ran once only."""
    folders = [str(Path(__file__).parent), str(Path(__file__).parents[3]), *sys.path]
    process = subprocess.Popen(
        [sys.executable, "-c", SCRIPT, json.dumps(folders), doing],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    )
    with process:
        assert process.stdout.readline() == "began\n"
        workers = json.loads(process.stdout.readline())
        time.sleep(0.3)
        assert all(map(alive, workers))
        process.kill()

    deadline = time.monotonic() + 20
    while any(map(alive, workers)) and time.monotonic() < deadline:
        time.sleep(0.05)
    assert not any(map(alive, workers))


def alive(pid):
    """Whether a process exists and is not just waiting to be collected."""
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except FileNotFoundError:
        return False


def test_workers_end_when_nobody_uses_them():
    """A pool of a size that only one decoder asked for ends with it."""
    options = DecodeOptions(threads=1, workers=3)
    decoder = WorkerDecoder("hostile_codec:open_decoder", Files(FILES), EXPECTED, options)
    workers = [worker.process.pid for worker in decoder._pool._all]

    del decoder

    assert not any(map(alive, workers))
