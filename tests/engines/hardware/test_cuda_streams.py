"""Streams: what is asked of CUDA, in which order; and that errors of memory say what to do."""

from __future__ import annotations

import threading
from contextlib import contextmanager
from types import SimpleNamespace

import pytest
import torch

from engines.errors import DeviceError
from engines.hardware.cuda_streams import (
    WARM_UPS,
    CudaStream,
    HostStream,
    enough_memory,
    open_stream,
)

GPU = torch.device("cuda", 0)


@pytest.fixture
def asked(monkeypatch):
    """Stand in for torch.cuda, and keep what is asked of it, with the stream it is asked on."""
    log, current = [], ["default"]
    streams = iter(["stream 1", "stream 2"])

    @contextmanager
    def stream(which):
        current.append(which.name)
        try:
            yield
        finally:
            current.pop()

    @contextmanager
    def graph(graph, *, stream, capture_error_mode):
        log.append(f"capture on {stream.name}, {capture_error_mode}")
        current.append(stream.name)
        try:
            yield
        finally:
            current.pop()

    class Event:
        def __init__(self, *, blocking):
            log.append("sleeping event" if blocking else "spinning event")

        def record(self, stream):
            log.append(f"record on {stream.name}")

        def synchronize(self):
            log.append("synchronize")

    def new_stream(device):
        return SimpleNamespace(name=next(streams), cuda_stream=77, device=device)

    def new_graph():
        return SimpleNamespace(replay=lambda: log.append(f"replay on {current[-1]}"))

    for name, fake in {
        "Stream": new_stream,
        "Event": Event,
        "CUDAGraph": new_graph,
        "stream": stream,
        "graph": graph,
    }.items():
        monkeypatch.setattr(torch.cuda, name, fake)
    return log, current


def test_work_is_enqueued_on_a_stream_of_its_own(asked):
    """Two of ours, two of CUDA's; outside, nothing is on either."""
    _, current = asked
    first, second = CudaStream(GPU), CudaStream(GPU)

    with first:
        assert current[-1] == "stream 1"
        with second:
            assert current[-1] == "stream 2"
        with first:
            assert current[-1] == "stream 1"
        assert current[-1] == "stream 1"

    assert current == ["default"]
    assert first.handle == 77


def test_a_stream_is_left_when_work_fails(asked):
    """An error inside does not leave the thread on the stream."""
    _, current = asked

    with pytest.raises(ZeroDivisionError), CudaStream(GPU):
        raise ZeroDivisionError

    assert current == ["default"]


def test_waiting_sleeps_until_the_stream_is_done(asked):
    """It spares the processor, which decodes."""
    log, _ = asked

    CudaStream(GPU).wait()

    assert log == ["sleeping event", "record on stream 1", "synchronize"]


def test_a_capture_is_warmed_up_waited_for_and_replayed_in_the_stream(asked):
    """On its own CUDA stream all of it, and other threads may go on using the device."""
    log, current = asked
    stream = CudaStream(GPU)
    log.clear()

    again = stream.captured(lambda: log.append(f"work on {current[-1]}"))
    with stream:
        again()

    assert log == [
        *["work on stream 1"] * WARM_UPS,
        "record on stream 1",
        "synchronize",
        "capture on stream 1, thread_local",
        "work on stream 1",
        "replay on stream 1",
    ]


def test_the_processors_stream_does_everything_at_once():
    """The same code needs no stream there."""
    stream = open_stream(torch.device("cpu"))
    done = []

    with stream:
        stream.captured(lambda: done.append(threading.get_ident()))()
    stream.wait()

    assert isinstance(stream, HostStream)
    assert done == [threading.get_ident()]
    assert stream.host_tensor([2, 3], torch.float16).tolist() == [[0.0] * 3] * 2


def test_memory_that_runs_out_says_for_what_and_what_to_do():
    """The GPU's own words, their first sentence, and a way out."""
    with (
        pytest.raises(DeviceError, match="for decoding: CUDA out of memory$") as caught,
        enough_memory("decoding", "fewer --threads"),
    ):
        raise torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 2 GiB.")

    assert caught.value.hint == "use fewer --threads, or free the GPU"


def failing():
    """Fail as torch does after a kernel failed."""
    raise torch.AcceleratorError("CUDA error: an illegal memory access was encountered\nmore")


@pytest.mark.parametrize("where", ["inside a stream", "while waiting", "while memory is taken"])
def test_a_gpu_that_fails_is_no_bug_of_ours(asked, monkeypatch, where):
    """Whenever it is told, it is an error with a way out, in the GPU's own first line."""
    stream = CudaStream(GPU)

    with pytest.raises(DeviceError, match="an illegal memory access was encountered$") as caught:
        if where == "inside a stream":
            with stream:
                failing()
        elif where == "while waiting":
            monkeypatch.setattr(stream._done, "synchronize", failing)
            stream.wait()
        else:
            with enough_memory("decoding", "fewer --threads"):
                failing()

    assert "--runtime openvino" in caught.value.hint


@pytest.mark.gpu
def test_streams_do_not_see_each_others_unfinished_work():
    """Many at once, each filling, copying and reading its own memory, a thousand times."""
    streams = [open_stream(GPU) for _ in range(8)]
    for value in range(1000):
        stream = streams[value % 8]
        landed = stream.host_tensor([1 << 16], torch.float32)
        with stream:
            filled = torch.full((1 << 16,), float(value), device=GPU)
            landed.copy_(filled.mul_(2), non_blocking=True)
        stream.wait()
        assert bool((landed == 2 * value).all())
