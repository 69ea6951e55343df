"""
Several batches in flight on a device, each in a slot of its own: one static shape, padded.

A slot owns its input, its outputs, their copies in pinned memory and its stream
(``engines.hardware.cuda_streams``): pixels up, model, scores down follow one another there and
share nothing with other slots. It keeps the batch until it is done, so the pixels of a decoder stay
while they are being read.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Protocol

import torch

from engines.hardware.cuda_streams import enough_memory, open_stream
from engines.runtime.in_flight import in_flight
from engines.runtime.padding import padded, scores_from_outputs

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator

    from torch import Tensor

    from engines.cells import Batch, Scores
    from engines.hardware.cuda_streams import Stream
    from engines.models.bundle import ModelBundle
    from engines.runtime.base import RuntimeOptions

__all__ = ["Bind", "Bound", "DeviceRuntime", "Slot"]

IN_FLIGHT = 3  # one computes, one waits behind it, one is being read or filled


@dataclass(frozen=True, slots=True)
class Bound:
    """
    A model tied to a slot's memory.

    Attributes:
        work: Called inside the slot's stream, enqueues what scores the slot's pixels.
        outputs: Where it leaves logits, features and evidence.
        capturable: Whether the work can be captured as a CUDA graph.
        keeps: What has to live for as long as the work is done, captured or not.
    """

    work: Callable[[], None]
    outputs: tuple[Tensor, ...]
    capturable: bool = True
    keeps: tuple[object, ...] = ()


class Bind(Protocol):
    """Ties a model to a slot's memory."""

    def __call__(self, pixels: Tensor, stream: Stream, /) -> Bound:
        """
        Tie it to *pixels* and *stream*; called inside the stream.

        Args:
            pixels: ``(batch, H, W, 3)`` uint8 on the stream's device; its contents change.
            stream: The only one that the work will be called in.
        """
        ...


class Slot:
    """Room for one batch."""

    def __init__(self, bind: Bind, shape: tuple[int, ...], stream: Stream) -> None:
        """Take the memory and tie the model to it."""
        self.batch: Batch | None = None
        self.stream = stream
        self.staged = stream.host_tensor(shape, torch.uint8)
        with stream:
            self.pixels = torch.zeros(shape, dtype=torch.uint8, device=stream.device)
            bound = bind(self.pixels, stream)
        stream.wait()
        self.outputs = bound.outputs
        self._bound = bound  # a captured graph replays what this holds, and does not hold it
        self._work = stream.captured(bound.work) if bound.capturable else bound.work
        self.landed = tuple(stream.host_tensor(each.shape, each.dtype) for each in self.outputs)

    def start(self, batch: Batch) -> None:
        """Enqueue a batch; one without cells only waits its turn."""
        self.batch = batch
        if not batch.refs:
            return
        with self.stream, torch.inference_mode():
            self._fill(batch)
            self._work()
            for landed, output in zip(self.landed, self.outputs, strict=True):
                landed.copy_(output, non_blocking=True)

    def finish(self) -> Scores:
        """Wait for the batch and copy its scores out."""
        self.stream.wait()
        batch, self.batch = self.batch, None
        assert batch is not None
        return scores_from_outputs(batch, [landed.numpy() for landed in self.landed])

    def wait(self) -> None:
        """Wait for whatever is enqueued."""
        self.stream.wait()

    def _fill(self, batch: Batch) -> None:
        """Bring n images to the front of the input and blacken the rest."""
        if isinstance(batch.pixels, torch.Tensor):
            padded(batch.pixels, into=self.pixels)
            return
        padded(batch.pixels, into=self.staged.numpy())
        self.pixels.copy_(self.staged, non_blocking=True)


class DeviceRuntime:
    """A Runtime (see ``engines.runtime.base``) around whatever can be bound to a slot."""

    name: str
    version: str
    device = torch.device("cuda", 0)
    slot_count = IN_FLIGHT

    def __init__(self, bundle: ModelBundle, options: RuntimeOptions, bind: Bind) -> None:
        """Open the slots."""
        self.options = options
        shape = (options.batch, bundle.input.height, bundle.input.width, 3)
        with enough_memory(f"a batch of {options.batch}", "a smaller --batch-size"):
            self.slots = [Slot(bind, shape, open_stream(self.device)) for _ in range(IN_FLIGHT)]

    def stream(self, batches: Iterable[Batch]) -> Iterator[Scores]:
        """Keep every slot busy; hand out results in order."""
        return in_flight(self.slots, batches)
