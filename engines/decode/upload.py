"""Bytes of many images to the device in one copy, and what they are made into there."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
import torch

if TYPE_CHECKING:
    from collections.abc import Sequence

    from numpy.typing import NDArray
    from torch import Tensor

    from engines.decode.file_formats import BmpBody
    from engines.hardware.cuda_streams import Stream

__all__ = ["Uploader", "rgb_from_bmp"]

ALIGNMENT = 16  # bytes: where each piece begins


class Uploader:
    """
    Copies pieces of bytes to a stream's device through one pinned buffer, which grows as needed.

    The copy is under way when ``upload`` returns: wait for the stream before the next.
    """

    def __init__(self, stream: Stream) -> None:
        """Begin with no buffer."""
        self._stream = stream
        self._staged = stream.host_tensor([0], torch.uint8)

    def upload(self, pieces: Sequence[NDArray[np.uint8]]) -> list[Tensor]:
        """Return each piece, flat, on the device; call inside the stream."""
        starts = np.cumsum([0, *(-(-len(piece) // ALIGNMENT) * ALIGNMENT for piece in pieces)])
        total = int(starts[-1])
        if total > len(self._staged):
            self._staged = self._stream.host_tensor([total], torch.uint8)
        staged = self._staged.numpy()
        for start, piece in zip(starts, pieces, strict=False):
            staged[start : start + len(piece)] = piece
        uploaded = self._staged[:total].to(self._stream.device, non_blocking=True, copy=True)
        return [
            uploaded[start : start + len(piece)]
            for start, piece in zip(starts.tolist(), pieces, strict=False)
        ]


def rgb_from_bmp(rows: Tensor, body: BmpBody) -> Tensor:
    """
    Return ``(height, width, 3)`` RGB, a plain BMP's rows put upright and their colours in order.

    Args:
        rows: ``body.size`` bytes, as in the file, on any device.
        body: How they lie.
    """
    packed = rows.view(body.height, body.row)[:, : body.width * 3]
    bgr = packed.view(body.height, body.width, 3)
    return bgr.flip((0, 2) if body.bottom_up else (2,))
