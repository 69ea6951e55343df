"""Labelled cells decoded once, with the decoders that screening uses, and held in memory."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

import numpy as np

from engines.backends import decoder_candidates, open_decoder
from engines.cells import Fault, Shard
from engines.decode.base import DecodeOptions

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from numpy.typing import NDArray

    from engines.cells import Batch, CellRef
    from engines.models.input import ModelInput
    from train.data.labelled_cells import LabelledCell

__all__ = ["DecodedCells", "decoded_cells", "enlarged"]

SHARD = 1024  # cells


@dataclass(frozen=True, slots=True)
class DecodedCells:
    """
    Cells and their pixels.

    Attributes:
        cells: Those that decoded, in the order they were given.
        pixels: ``(n, H, W, 3)`` uint8 RGB, one image per cell.
        faults: The others, each with its reason.
    """

    cells: tuple[LabelledCell, ...]
    pixels: NDArray[np.uint8]
    faults: tuple[Fault, ...]

    def __post_init__(self) -> None:
        """Refuse pixels that cannot be told apart."""
        if len(self.cells) != len(self.pixels):
            raise ValueError(f"{len(self.cells)} cells for {len(self.pixels)} images")


def decoded_cells(
    cells: Sequence[LabelledCell], expected: ModelInput, decoder: str = "auto"
) -> DecodedCells:
    """
    Decode *cells* to what *expected* says, in ``3 * H * W`` bytes of memory each.

    A file that does not decode becomes a fault under its own name; it is never replaced.
    """
    by_path = {cell.ref.path: cell for cell in cells}
    kept: list[LabelledCell] = []
    faults: list[Fault] = []
    pixels = np.empty((len(cells), expected.height, expected.width, 3), np.uint8)
    for batch in _batches(by_path, expected, decoder):
        pixels[len(kept) : len(kept) + len(batch.refs)] = batch.host_pixels
        kept.extend(by_path[ref.path] for ref in batch.refs)
        faults.extend(batch.faults)
    return DecodedCells(tuple(kept), pixels[: len(kept)], tuple(faults))


def enlarged(expected: ModelInput, room: float, window: float = 1.0) -> ModelInput:
    """
    Return an input for augmentation to cut *expected* from.

    Args:
        expected: The model's.
        room: As many times as fine.
        window: The model's input shows this share of the larger one's sides, from 1 down to the
            model's ``crop_pct``: there has to be something around it.
    """
    height, width = (round(side * room / window) for side in (expected.height, expected.width))
    return replace(expected, height=height, width=width, crop_pct=expected.crop_pct / window)


def _batches(
    by_path: dict[str, LabelledCell], expected: ModelInput, decoder: str
) -> Iterator[Batch]:
    """Decode in order."""

    def read(ref: CellRef) -> bytes:
        return by_path[ref.path].read()

    refs = tuple(cell.ref for cell in by_path.values())
    shards = (Shard(i, refs[i * SHARD : (i + 1) * SHARD]) for i in range(-(-len(refs) // SHARD)))
    chosen = next(decoder_candidates(decoder)).decoder.value
    return iter(open_decoder(chosen, read, expected, DecodeOptions()).stream(shards))
