"""Decoding into host memory: read, check, decode and resize, a batch per thread, in order."""

from __future__ import annotations

import threading
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

import numpy as np
import torch
import xxhash

from engines.cells import Batch, CellFacts, Fault
from engines.decode.base import DecodeError
from engines.decode.geometry import placement
from engines.decode.integrity import damage
from engines.decode.prefetch import in_order
from engines.image_quality import quality

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

    from numpy.typing import NDArray

    from engines.cells import CellRef, FaultStatus, Read, Shard
    from engines.decode.base import Codec, DecodeOptions, Encoded, Opens
    from engines.models.bundle import ModelInput

__all__ = [
    "HostDecoder",
    "OpenedCell",
    "decoded_cell",
    "opened_cell",
]

LOOK_AHEAD_CELLS = 2048  # decoded ahead at most, 300 MB at 224 x 224, however large a batch is


class HostDecoder:
    """A Decoder (see ``engines.decode.base``) around any Codec."""

    def __init__(
        self,
        codec: type[Codec],
        read: Read,
        expected: ModelInput,
        options: DecodeOptions,
    ) -> None:
        """Bring what *read* returns to what the model expects, with a *codec* per thread."""
        self.name = codec.name
        self.version = codec.version
        self._codec = codec
        self._read = read
        self._expected = expected
        self._options = options
        self._local = threading.local()

    def stream(self, shards: Iterable[Shard]) -> Iterator[Batch]:
        """Decode in order; at most two batches per thread are ahead of whoever iterates."""
        return in_order(
            shards, self._options, self._decode_batch, look_ahead_cells=LOOK_AHEAD_CELLS
        )

    def _decode_batch(self, shard: Shard, refs: tuple[CellRef, ...]) -> Batch:
        """Decode cell by cell, in a thread of the pool."""
        if not hasattr(self._local, "codec"):
            torch.set_num_threads(1)  # of this thread: batches are what runs side by side
            self._local.codec = self._codec(self._expected)
        good: list[tuple[CellRef, CellFacts]] = []
        faults: list[Fault] = []
        inputs = np.zeros((len(refs), self._expected.height, self._expected.width, 3), np.uint8)
        for ref in refs:
            opened = opened_cell(ref, self._local.codec, self._read, self._options.max_pixels)
            decoded = opened if isinstance(opened, Fault) else decoded_cell(opened)
            if isinstance(decoded, Fault):
                faults.append(decoded)
                continue
            image, facts = decoded
            place = placement(image.shape[0], image.shape[1], self._expected)
            resized = self._local.codec.resize(image, place.height, place.width)
            inputs[len(good)][place.slices] = resized
            good.append((ref, facts))
        pixels = inputs[: len(good)]
        return Batch(
            shard=shard,
            refs=tuple(ref for ref, _ in good),
            facts=tuple(facts for _, facts in good),
            pixels=pixels,
            faults=tuple(faults),
            quality=quality(torch.from_numpy(pixels)).numpy(),
        )


@dataclass(frozen=True, slots=True)
class OpenedCell:
    """A cell that was read, whose header makes sense and whose bytes show no damage."""

    ref: CellRef
    data: bytes
    facts: CellFacts
    encoded: Encoded


def opened_cell(ref: CellRef, codec: Opens, read: Read, max_pixels: int) -> OpenedCell | Fault:
    """Read and check one cell; nothing is decoded yet."""
    facts = CellFacts()

    def fault(status: FaultStatus, reason: str) -> Fault:
        return Fault(ref, status, reason, facts)

    try:
        data = read(ref)
    except OSError as error:
        return fault("unreadable", error.strerror or str(error))
    facts = CellFacts(content_hash=xxhash.xxh3_128_hexdigest(data))
    if not data:
        return fault("undecodable", "empty file")
    try:
        encoded = codec.open(data)
    except DecodeError as error:
        return fault("undecodable", str(error))
    facts = replace(facts, width=encoded.width, height=encoded.height)
    if encoded.width * encoded.height > max_pixels:
        return fault("oversized", f"{encoded.width} x {encoded.height} pixels")
    if reason := damage(data):
        return fault("undecodable", reason)
    return OpenedCell(ref, data, facts, encoded)


def decoded_cell(opened: OpenedCell) -> tuple[NDArray[np.uint8], CellFacts] | Fault:
    """Decode a cell into host memory."""
    try:
        pixels, name = opened.encoded.decode()
    except DecodeError as error:
        return Fault(opened.ref, "undecodable", str(error), opened.facts)
    return pixels, replace(opened.facts, codec=name)
