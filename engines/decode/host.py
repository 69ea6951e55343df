"""Decoding into host memory: read, check, decode and resize, a batch per thread, in order."""

from __future__ import annotations

import threading
from collections import deque
from concurrent.futures import ThreadPoolExecutor
from typing import TYPE_CHECKING, Protocol

import numpy as np
import xxhash

from engines.cells import Batch, CellFacts, Fault
from engines.decode.integrity import damage

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator, Sequence
    from concurrent.futures import Future

    from numpy.typing import NDArray

    from engines.cells import CellRef, FaultStatus, Read, Shard
    from engines.decode import DecodeOptions

__all__ = ["Codec", "DecodeError", "Encoded", "HostDecoder"]

RESIZE_CELLS = 8  # images resized in one call: 8 gained 1.5 times over 1, 16 gained nothing more
LOOK_AHEAD_CELLS = 2048  # decoded ahead at most, 300 MB at 224 x 224, however large a batch is
RESIZE_PIXELS = 8_000_000  # ... and fewer where they are large, to bound memory


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


class Codec(Protocol):
    """Decodes and resizes single images; each thread has its own."""

    def open(self, data: bytes) -> Encoded:
        """
        Read the header only.

        Raises:
            DecodeError: If there is none that makes sense.
        """
        ...

    def resize(self, images: Sequence[NDArray[np.uint8]]) -> NDArray[np.uint8]:
        """Bring n images ``(height, width, 3)`` to the model's input, ``(n, H, W, 3)``."""
        ...


class HostDecoder:
    """A Decoder (see ``engines.decode``) around any Codec."""

    def __init__(
        self,
        name: str,
        version: str,
        make_codec: Callable[[], Codec],
        read: Read,
        options: DecodeOptions,
    ) -> None:
        """Decode with codecs from *make_codec* what *read* returns."""
        self.name = name
        self.version = version
        self._read = read
        self._options = options
        self._make_codec = make_codec
        self._local = threading.local()

    def stream(self, shards: Iterable[Shard]) -> Iterator[Batch]:
        """Decode in order; at most two batches per thread are ahead of whoever iterates."""
        ahead = min(2 * self._options.threads, LOOK_AHEAD_CELLS // self._options.batch)
        waiting: deque[Future[Batch]] = deque()
        pool = ThreadPoolExecutor(self._options.threads, thread_name_prefix="decode")
        try:
            for shard, refs in self._chunks(shards):
                waiting.append(pool.submit(self._decode_chunk, shard, refs))
                if len(waiting) > ahead:
                    yield waiting.popleft().result()
            while waiting:
                yield waiting.popleft().result()
        finally:
            pool.shutdown(cancel_futures=True)

    def _chunks(self, shards: Iterable[Shard]) -> Iterator[tuple[Shard, tuple[CellRef, ...]]]:
        """Cut each shard into batches."""
        for shard in shards:
            for start in range(0, len(shard.refs), self._options.batch):
                yield shard, shard.refs[start : start + self._options.batch]

    def _decode_chunk(self, shard: Shard, refs: tuple[CellRef, ...]) -> Batch:
        """Decode one batch in a thread of the pool."""
        if not hasattr(self._local, "codec"):
            self._local.codec = self._make_codec()
        return _decode_batch(shard, refs, self._local.codec, self._read, self._options.max_pixels)


def _decode_batch(
    shard: Shard, refs: tuple[CellRef, ...], codec: Codec, read: Read, max_pixels: int
) -> Batch:
    """Decode cell by cell, resizing whenever a group is full."""
    good: list[tuple[CellRef, CellFacts]] = []
    faults: list[Fault] = []
    group: list[NDArray[np.uint8]] = []
    resized: list[NDArray[np.uint8]] = []
    for ref in refs:
        decoded = _decode_cell(ref, codec, read, max_pixels)
        if isinstance(decoded, Fault):
            faults.append(decoded)
            continue
        pixels, facts = decoded
        good.append((ref, facts))
        group.append(pixels)
        if len(group) == RESIZE_CELLS or sum(image.size for image in group) > 3 * RESIZE_PIXELS:
            resized.append(codec.resize(group))
            group.clear()
    resized.append(codec.resize(group))
    return Batch(
        shard=shard,
        refs=tuple(ref for ref, _ in good),
        facts=tuple(facts for _, facts in good),
        pixels=np.concatenate(resized),
        faults=tuple(faults),
    )


def _decode_cell(
    ref: CellRef, codec: Codec, read: Read, max_pixels: int
) -> tuple[NDArray[np.uint8], CellFacts] | Fault:
    """Read, check and decode one cell."""
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
        facts = CellFacts(encoded.width, encoded.height, facts.content_hash)
        if encoded.width * encoded.height > max_pixels:
            return fault("oversized", f"{encoded.width} x {encoded.height} pixels")
        if reason := damage(data):
            return fault("undecodable", reason)
        pixels, name = encoded.decode()
    except DecodeError as error:
        return fault("undecodable", str(error))
    return pixels, CellFacts(facts.width, facts.height, facts.content_hash, name)
