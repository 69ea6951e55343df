"""
What decoders and codecs have to do: the contracts, which cost nothing to import.

A decoder turns shards into batches; a codec decodes a single image inside one.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Protocol

from engines.decode.cell_limits import CellLimits
from engines.hardware.machine import usable_cores

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

    import numpy as np
    from numpy.typing import NDArray

    from engines.cells import Batch, Shard
    from engines.models.input import ModelInput

__all__ = ["DEVICES", "Codec", "DecodeError", "DecodeOptions", "Decoder", "Encoded", "HeaderReader"]

DEVICES = ("cpu", "gpu")


@dataclass(frozen=True, slots=True, kw_only=True)
class DecodeOptions:
    """
    How cells are read and decoded.

    Attributes:
        device: Where, and where the pixels stay: ``cpu`` or ``gpu``.
        batch: Cells decoded together, at most; a batch never crosses a shard.
        threads: Threads that read and decode, each a batch at a time.
        workers: Processes that do instead (``engines.decode.workers``); none: this one does, with
            no limit of time or memory for a cell, and it ends with a codec that crashes.
        limits: What one cell may take in a worker; None for what suits ``max_pixels``.
        max_pixels: An image of more is ``oversized`` and never decoded.
    """

    device: str = "cpu"
    batch: int = 8
    threads: int = field(default_factory=usable_cores)
    max_pixels: int = 25_000_000
    workers: int = 0
    limits: CellLimits | None = None

    @property
    def cell_limits(self) -> CellLimits:
        """What one cell may take in a worker."""
        return self.limits or CellLimits.for_pixels(self.max_pixels)

    def __post_init__(self) -> None:
        """Refuse values that could only stall."""
        if min(self.batch, self.threads, self.max_pixels) < 1:
            raise ValueError(f"batch, threads and max_pixels must be at least 1, got {self}")
        if self.workers < 0:
            raise ValueError(f"workers must be at least 0, got {self.workers}")
        if self.device not in DEVICES:
            raise ValueError(f"device must be cpu or gpu, got {self.device!r}")


class Decoder(Protocol):
    """
    Turns shards into batches; a bad image becomes a fault, never a raise.

    Attributes:
        name: As asked for with ``--decoder``.
        version: Of the packages that decode.
    """

    name: str
    version: str

    def stream(self, shards: Iterable[Shard]) -> Iterator[Batch]:
        """
        Decode in order, some batches ahead of whoever iterates.

        Every ref of every shard comes out exactly once: in a batch's ``refs`` or its ``faults``.
        """
        ...


class DecodeError(Exception):
    """The bytes are not an image that this codec can decode; the message says why."""


class Encoded(Protocol):
    """
    An image whose header has been read.

    Attributes:
        height: In pixels, as stored.
        width: Likewise.
    """

    height: int
    width: int

    def decode(self) -> tuple[NDArray[np.uint8], str]:
        """
        Return ``(height, width, 3)`` RGB, upright, and the name of the codec that made it.

        Raises:
            DecodeError: If the image cannot be decoded, whole.
        """
        ...


class HeaderReader(Protocol):
    """Reads headers."""

    def open(self, data: bytes) -> Encoded:
        """
        Read the header only.

        Raises:
            DecodeError: If there is none that makes sense.
        """
        ...


class Codec(HeaderReader, Protocol):
    """
    Decodes and resizes single images; each thread has its own.

    Attributes:
        name: Of the decoder it makes.
        version: Of the packages behind it.
    """

    name: str
    version: str

    def __init__(self, expected: ModelInput) -> None:
        """Resize as the model expects."""
        ...

    def resize(self, image: NDArray[np.uint8], height: int, width: int) -> NDArray[np.uint8]:
        """Resize ``(h, w, 3)`` to ``(height, width, 3)`` with the model's filter, antialiased."""
        ...
