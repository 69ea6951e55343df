"""
Where work on a device queues: the one place that knows of streams, events and pinned memory.

What is enqueued inside ``with stream:`` runs in that order, and on no other CUDA stream; ``wait``
returns when all of it is done. Whoever makes something in one stream waits before handing it on, so
that no other stream ever sees it unfinished. On the processor a stream does everything at once: the
same code runs there, and is tested there.
"""

from __future__ import annotations

from contextlib import AbstractContextManager, contextmanager
from typing import TYPE_CHECKING, Any, Protocol

import torch

from engines.errors import DeviceError
from engines.registry import CPU, runtimes_on

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence
    from types import TracebackType

    from torch import Tensor

__all__ = ["Stream", "enough_memory", "open_stream"]

# A kernel that failed is told at some later call; torch 2.11 and later have a class of its own.
ACCELERATOR_ERRORS: tuple[type[BaseException], ...] = (
    (torch.AcceleratorError,) if hasattr(torch, "AcceleratorError") else ()
)
WARM_UPS = 3  # runs before a capture: libraries choose and load their kernels in the first


class Stream(AbstractContextManager[None], Protocol):
    """
    Work in order on one device.

    Attributes:
        device: Which.
        handle: The CUDA stream as a number, for libraries; 0 on the processor.
    """

    device: torch.device
    handle: int

    def wait(self) -> None:
        """Return when everything enqueued in this stream is done."""
        ...

    def captured(self, work: Callable[[], None]) -> Callable[[], None]:
        """Return what does *work* again, on the same memory, as one CUDA graph where there are."""
        ...

    def host_tensor(self, shape: Sequence[int], dtype: torch.dtype) -> Tensor:
        """Return zeros in host memory that the device copies to and from while we go on."""
        ...


class HostStream:
    """A Stream on the processor: done when enqueued."""

    def __init__(self) -> None:
        """Name the device."""
        self.device = torch.device("cpu")
        self.handle = 0

    def __enter__(self) -> None:
        """Do nothing."""

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        """Do nothing."""

    def wait(self) -> None:
        """Everything is done."""

    def captured(self, work: Callable[[], None]) -> Callable[[], None]:
        """Return *work* itself."""
        return work

    def host_tensor(self, shape: Sequence[int], dtype: torch.dtype) -> Tensor:
        """Return zeros."""
        return torch.zeros(tuple(shape), dtype=dtype)


class CudaStream:
    """A Stream on a GPU: a CUDA stream of its own."""

    def __init__(self, device: torch.device) -> None:
        """Make the stream; an event that sleeps spares the processor that decodes."""
        self.device = device
        self._torch_stream: Any = torch.cuda.Stream(device)  # type: ignore[no-untyped-call]
        self._done: Any = torch.cuda.Event(blocking=True)  # type: ignore[no-untyped-call]
        self.handle = self._torch_stream.cuda_stream
        self._inside: list[Any] = []

    def __enter__(self) -> None:
        """Enqueue here from now on, in this thread."""
        inside: Any = torch.cuda.stream(self._torch_stream)
        inside.__enter__()
        self._inside.append(inside)

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        """Enqueue where it was before; a failure of the device becomes a DeviceError."""
        self._inside.pop().__exit__(kind, error, trace)
        if isinstance(error, ACCELERATOR_ERRORS):
            raise _device_failed(error) from error

    def wait(self) -> None:
        """Sleep until the stream is empty; what went wrong on the device is a DeviceError."""
        try:
            self._done.record(self._torch_stream)
            self._done.synchronize()
        except ACCELERATOR_ERRORS as error:
            raise _device_failed(error) from error

    def captured(self, work: Callable[[], None]) -> Callable[[], None]:
        """Warm up, then capture; other threads may use the device meanwhile."""
        with self:
            for _ in range(WARM_UPS):
                work()
        self.wait()
        graph = torch.cuda.CUDAGraph()
        with torch.cuda.graph(graph, stream=self._torch_stream, capture_error_mode="thread_local"):
            work()
        return graph.replay

    def host_tensor(self, shape: Sequence[int], dtype: torch.dtype) -> Tensor:
        """Return zeros in pinned memory."""
        return torch.zeros(tuple(shape), dtype=dtype, pin_memory=True)


def open_stream(device: torch.device) -> Stream:
    """Open a stream on *device*."""
    return CudaStream(device) if device.type == "cuda" else HostStream()


@contextmanager
def enough_memory(what: str, instead: str) -> Iterator[None]:
    """
    Raise DeviceError where memory runs out, saying for *what* and what to do *instead*.

    Any other failure of the device becomes a DeviceError, too.
    """
    try:
        yield
    except ACCELERATOR_ERRORS as error:
        raise _device_failed(error) from error
    except torch.OutOfMemoryError as error:
        raise DeviceError(
            f"the GPU's memory does not suffice for {what}: {str(error).partition('. ')[0]}",
            hint=f"use {instead}, or free the GPU",
        ) from error


def _device_failed(error: BaseException) -> DeviceError:
    """Say that the GPU failed, in its own first line."""
    return DeviceError(
        f"the GPU failed: {str(error).partition(chr(10))[0]}",
        hint="run the same command again, which goes on from what is finished; if it fails again, "
        f"use --runtime {runtimes_on(CPU)[0]} and a new --out",
    )
