"""Decoding into host memory: read, check, decode and resize, cell by cell."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
import torch

from engines.cells import Batch, Fault
from engines.decode.checks import decoded_cell, opened_cell
from engines.decode.geometry import placement
from engines.decode.prefetch import PrefetchingDecoder
from engines.image_quality import quality

if TYPE_CHECKING:
    from engines.cells import CellFacts, CellRef, Read, Shard
    from engines.decode.base import Codec, DecodeOptions
    from engines.models.input import ModelInput

__all__ = ["HostDecoder"]


class HostDecoder(PrefetchingDecoder):
    """A Decoder (see ``engines.decode.base``) around any Codec, into host memory."""

    look_ahead_cells = 2048  # 300 MB at 224 x 224

    def __init__(
        self, codec: type[Codec], read: Read, expected: ModelInput, options: DecodeOptions
    ) -> None:
        """Bring what *read* returns to what the model expects, with a *codec* per thread."""
        super().__init__(read, expected, options)
        self.name = codec.name
        self.version = codec.version
        self._codec = codec

    def decode_batch(self, shard: Shard, refs: tuple[CellRef, ...]) -> Batch:
        """Decode cell by cell, in a thread of the pool."""
        if not hasattr(self.local, "codec"):
            torch.set_num_threads(1)  # of this thread: batches are what runs side by side
            self.local.codec = self._codec(self.expected)
        self.fetch_ahead(refs)
        good: list[tuple[CellRef, CellFacts]] = []
        faults: list[Fault] = []
        inputs = np.zeros((len(refs), self.expected.height, self.expected.width, 3), np.uint8)
        for ref in refs:
            opened = opened_cell(ref, self.local.codec, self.read, self.options.max_pixels)
            decoded = opened if isinstance(opened, Fault) else decoded_cell(opened)
            if isinstance(decoded, Fault):
                faults.append(decoded)
                continue
            image, facts = decoded
            place = placement(image.shape[0], image.shape[1], self.expected)
            shown = image[place.window.slices]
            resized = self.local.codec.resize(shown, place.height, place.width)
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
