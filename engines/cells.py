"""
The values that flow from a source to the results.

Shapes: n cells, H x W pixels, C classes, F features, h x w places of the last feature map, Q
numbers of image quality.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Literal, TypeAlias

import numpy as np

if TYPE_CHECKING:
    from collections.abc import Callable

    import pyarrow as pa
    from numpy.typing import NDArray
    from torch import Tensor

__all__ = [
    "OK",
    "OPTICAL",
    "QUALITY",
    "STATUSES",
    "Batch",
    "CellFacts",
    "CellRef",
    "Fault",
    "FaultStatus",
    "Read",
    "RefusedCellError",
    "Scores",
    "Shard",
]

OK = "ok"
FaultStatus = Literal["unreadable", "undecodable", "oversized"]
STATUSES = (OK, "unreadable", "undecodable", "oversized")
OPTICAL = ("od_red", "od_green", "od_blue", "od_spread_red", "od_spread_green", "od_spread_blue")
QUALITY = ("focus", "exposure", "clipped", "foreground", *OPTICAL)  # see engines.image_quality


@dataclass(frozen=True, slots=True)
class CellRef:
    """
    Which cell.

    Attributes:
        path: Relative to the source, ``/``-separated, valid Unicode; unique in the source.
        slide: The slide it belongs to.
        locator: Where in the source its bytes are, in the source's own words; empty where the path
            says it.
    """

    path: str
    slide: str
    locator: str = ""


Read: TypeAlias = "Callable[[CellRef], bytes]"
"""Returns a cell's encoded bytes, or raises OSError; RefusedCellError says which fault it is."""


class RefusedCellError(OSError):
    """
    A cell that its source found, and found at fault.

    Attributes:
        status: What the cell becomes.
        data: Its bytes; empty where they were not read.
    """

    def __init__(self, status: FaultStatus, reason: str, data: bytes = b"") -> None:
        """Refuse a cell; *reason* is for its row."""
        super().__init__(0, reason)
        self.status: FaultStatus = status
        self.data = data

    def __reduce__(self) -> tuple[type, tuple[FaultStatus, str, bytes]]:
        """Travel between processes."""
        return type(self), (self.status, str(self.strerror), self.data)


@dataclass(frozen=True, slots=True)
class Shard:
    """
    The unit of work, commit and resume.

    Attributes:
        index: Its number in the plan.
        refs: Its cells.
        carried: What the source says of them, a row each, for the results; None if nothing.
    """

    index: int
    refs: tuple[CellRef, ...]
    carried: pa.Table | None = field(default=None, compare=False, repr=False)


@dataclass(frozen=True, slots=True)
class CellFacts:
    """
    What is known of a cell's file, whether or not it decoded.

    Attributes:
        width: Pixels, as stored (before any EXIF rotation); None if no header could be read.
        height: Likewise.
        content_hash: xxh3-128 of the file's bytes in hex; None if they could not be read.
        codec: Which codec decoded it (``dali``, ``dali-gpu``, ``raw-bmp``, ``pillow``);
            None if none did.
        padded: Which share of the pixels lies outside of the field that the cell is a box on, and
            is black; None for a cell that is a file of its own, or was not decoded.
    """

    width: int | None = None
    height: int | None = None
    content_hash: str | None = None
    codec: str | None = None
    padded: float | None = None


@dataclass(frozen=True, slots=True)
class Fault:
    """
    A cell that cannot be scored, and why.

    Attributes:
        ref: Which cell.
        status: Of its row.
        reason: In words.
        facts: What is known of its file all the same.
        of_place: Whether it could not be read for a reason that is not its own: the disk or the
            server is gone, or this machine has run out of something.
    """

    ref: CellRef
    status: FaultStatus
    reason: str
    facts: CellFacts = CellFacts()
    of_place: bool = False


@dataclass(frozen=True, slots=True)
class Batch:
    """
    Decoded cells of one shard that travel together.

    Attributes:
        shard: Where they come from; a batch never crosses a shard.
        refs: The n cells whose pixels follow, in the same order.
        facts: One per ref.
        pixels: ``(n, H, W, 3)`` uint8 RGB at the model's size; an array in host memory, or a tensor
            where the decoder works, with nothing left to be done to it.
        faults: Cells that were due in this batch but did not decode.
        quality: ``(n, Q)`` float32, the columns of QUALITY; None if not measured.
    """

    shard: Shard
    refs: tuple[CellRef, ...]
    facts: tuple[CellFacts, ...]
    pixels: NDArray[np.uint8] | Tensor
    faults: tuple[Fault, ...] = ()
    quality: NDArray[np.float32] | None = None

    def __post_init__(self) -> None:
        """Refuse pixels that cannot be told apart."""
        if not len(self.refs) == len(self.facts) == len(self.pixels):
            raise ValueError(
                f"{len(self.refs)} refs and {len(self.facts)} facts for {len(self.pixels)} images"
            )
        if self.quality is not None and len(self.quality) != len(self.refs):
            raise ValueError(f"{len(self.quality)} qualities for {len(self.refs)} refs")

    @property
    def host_pixels(self) -> NDArray[np.uint8]:
        """The pixels in host memory, copied there if they are elsewhere."""
        if isinstance(self.pixels, np.ndarray):
            return self.pixels
        return np.asarray(self.pixels.cpu())


@dataclass(frozen=True, slots=True)
class Scores:
    """
    What the model says of a batch.

    Attributes:
        shard: Where the cells come from.
        refs: The n cells scored, in the order of the rows below.
        facts: One per ref.
        faults: Cells of the same batch that did not decode.
        logits: ``(n, C)`` float32.
        features: ``(n, F)`` float16, the pooled vector.
        evidence: ``(n, C, h, w)`` float16; its mean over places plus the bias is the logit. None
            where the model's head has none.
        quality: As the batch had it.
    """

    shard: Shard
    refs: tuple[CellRef, ...]
    facts: tuple[CellFacts, ...]
    faults: tuple[Fault, ...]
    logits: NDArray[np.float32]
    features: NDArray[np.float16]
    evidence: NDArray[np.float16] | None
    quality: NDArray[np.float32] | None = None

    def __post_init__(self) -> None:
        """Refuse scores that cannot be told apart."""
        counts = {len(self.facts), len(self.logits), len(self.features)}
        optional = (self.evidence, self.quality)
        counts |= {len(values) for values in optional if values is not None}
        if counts != {len(self.refs)}:
            raise ValueError(f"scores, features or evidence do not match {len(self.refs)} refs")
