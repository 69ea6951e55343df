"""Work that blocks while an engine is built, with its progress as events."""

from __future__ import annotations

import threading
from concurrent.futures import ThreadPoolExecutor
from queue import SimpleQueue
from typing import TYPE_CHECKING, TypeVar

from screen.runners.events import Building

if TYPE_CHECKING:
    from collections.abc import Callable, Generator

__all__ = ["building_events", "without_events"]

T = TypeVar("T")


class BuildStopped(BaseException):
    """Raised in the builder's thread when nobody waits for the engine any more."""


def building_events(
    build: Callable[[Callable[[float, str], None]], T],
) -> Generator[Building, None, T]:
    """
    Call *build* in a thread; yield its progress, and return what it returns or raise its error.

    Left early (Ctrl-C), it stops the build at the builder's next step and waits until it has
    stopped: a process that ends while TensorRT works in a thread is aborted.

    Args:
        build: Is given a function to call with the share done (0 to 1) and the phase.
    """
    steps: SimpleQueue[Building | None] = SimpleQueue()
    stopped = threading.Event()

    def progress(share: float, phase: str) -> None:
        if stopped.is_set():
            raise BuildStopped
        steps.put(Building(share, phase))

    with ThreadPoolExecutor(1, thread_name_prefix="build") as pool:
        done = pool.submit(build, progress)
        done.add_done_callback(lambda _: steps.put(None))
        try:
            while (step := steps.get()) is not None:
                yield step
        finally:
            stopped.set()
    return done.result()


def without_events(work: Generator[Building, None, T]) -> T:
    """Run *work* to its end, which is known to build nothing, and return what it returns."""
    while True:
        try:
            next(work)
        except StopIteration as end:
            value: T = end.value
            return value
