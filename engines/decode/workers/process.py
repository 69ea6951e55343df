"""
A worker process: its entry point and what it does with a task.

It is started as a program of its own, not forked, so it shares no lock, thread or GPU context with
the process that started it, and does not run that process's script. It holds a decoder for each
work that it has been given a task of. It ends when the process that started it does.
"""

from __future__ import annotations

import os
import pickle
import signal
import socket
import threading
import time
import traceback
from contextlib import suppress
from dataclasses import replace
from importlib import import_module
from typing import TYPE_CHECKING

from engines.cells import CellRef, Shard
from engines.decode.cell_limits import enforced
from engines.decode.workers.messages import (
    Decoded,
    Opened,
    Opening,
    Raised,
    Spent,
    fact_rows,
    receive,
    send,
)
from engines.decode.workers.slab import Slab
from engines.errors import DeviceError
from engines.registry import followed

if TYPE_CHECKING:
    from engines.cells import Batch
    from engines.decode.prefetch import PrefetchingDecoder
    from engines.decode.workers.messages import Answer, Task, Work

__all__ = ["main"]

LOOKS = 0.5  # seconds between two looks at whether the parent lives


def main(descriptor: int, parent: int, module: str) -> None:
    """
    Work for another process until it closes the connection or ends.

    Args:
        descriptor: The socket to it.
        parent: It.
        module: What will be needed, loaded while it is still busy with something else.
    """
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # the main process decides
    threading.Thread(target=_end_with, args=(parent,), daemon=True).start()
    with suppress(ImportError):  # said where the decoder is opened
        import_module(module)
    nowhere = os.open(os.devnull, os.O_WRONLY)
    with socket.socket(fileno=descriptor) as connection:
        worker = _Worker()
        while True:
            try:
                task, descriptors = receive(connection)
                answer = worker.answer(task, descriptors)
                os.dup2(nowhere, 2)  # begun well: what native libraries say now is of cells
                send(connection, answer)
            except (EOFError, ConnectionError):
                os._exit(0)


class _Worker:
    """What a worker keeps between tasks."""

    def __init__(self) -> None:
        """Begin with nothing."""
        self._decoders: dict[int, PrefetchingDecoder] = {}
        self._slabs: dict[int, Slab] = {}

    def answer(self, asked: Opening | Task, descriptors: list[int]) -> Answer:
        """Open a decoder, or decode."""
        try:
            if isinstance(asked, Opening):
                return self._opened(asked)
            for descriptor in descriptors:
                self._slabs[asked.slab] = Slab(asked.slab, descriptor)
            return self._decoded(asked)
        except Exception as error:
            return _raised(error)

    def _opened(self, asked: Opening) -> Opened:
        """Open a decoder; here it decodes some cells when it is told to."""
        for number in asked.closed:
            self._decoders.pop(number, None)
        os.environ.update(asked.environment)
        work: Work = pickle.loads(asked.work)  # noqa: S301  (from our own process)
        options = replace(work.options, threads=1, workers=0)
        decoder = followed(work.opener)(work.read, work.expected, options)
        self._decoders[asked.number] = decoder
        return Opened(decoder.name, decoder.version)

    def _decoded(self, task: Task) -> Answer:
        """Decode the cells of a task within the limits."""
        decoder = self._decoders[task.work]
        refs = tuple(CellRef(*row) for row in task.refs)
        try:
            with enforced(decoder.options.cell_limits):
                batch = decoder.decode_batch(Shard(0, refs), refs)
        except (MemoryError, DeviceError):  # decoding on the processor needs no other device
            return Spent()
        return _handed_over(refs, batch, self._slabs[task.slab])


def _handed_over(refs: tuple[CellRef, ...], batch: Batch, slab: Slab) -> Decoded:
    """Lay the pixels in the slab and describe the rest."""
    pixels = batch.host_pixels
    slab.view(pixels.size)[: pixels.size] = pixels.reshape(-1)
    places = {id(ref): index for index, ref in enumerate(refs)}
    return Decoded(
        indices=[places[id(ref)] for ref in batch.refs],
        facts=fact_rows(batch.facts),
        shape=pixels.shape,
        bad=[(places[id(fault.ref)], fault) for fault in batch.faults],
        quality=batch.quality,
    )


def _raised(error: Exception) -> Raised:
    """Describe an error; one that cannot travel goes as its text."""
    text = traceback.format_exc()
    try:
        pickle.loads(pickle.dumps(error))  # noqa: S301
    except Exception:
        return Raised(RuntimeError(f"{type(error).__name__}: {error}"), text)
    return Raised(error, text)


def _end_with(parent: int) -> None:
    """End this process, whatever it is doing, when *parent* is no more."""
    while os.getppid() == parent:
        time.sleep(LOOKS)
    os._exit(1)
