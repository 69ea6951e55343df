"""Resizing many crops at once, on any device: torch's antialiased filters."""

from __future__ import annotations

from collections import defaultdict
from typing import TYPE_CHECKING

import torch
from torch.nn import functional

from engines.decode.geometry import placement

if TYPE_CHECKING:
    from collections.abc import Sequence

    from torch import Tensor

    from engines.models.input import ModelInput

__all__ = ["resize_into"]


def resize_into(inputs: Tensor, images: Sequence[Tensor], expected: ModelInput) -> None:
    """
    Bring each image to where it belongs in its input; images of one size go together.

    Args:
        inputs: ``(n, H, W, 3)`` uint8, black.
        images: n of ``(h, w, 3)`` uint8 RGB, on the same device.
        expected: Says how.
    """
    by_size: dict[tuple[int, int], list[int]] = defaultdict(list)
    for index, image in enumerate(images):
        by_size[image.shape[0], image.shape[1]].append(index)
    for (height, width), indices in by_size.items():
        place = placement(height, width, expected)
        stacked_NHWC = torch.stack([images[index][place.window.slices] for index in indices])
        resized = _resized(stacked_NHWC, (place.height, place.width), expected.filter)
        rows, columns = place.slices
        if len(by_size) == 1:
            inputs[:, rows, columns] = resized
        else:
            inputs[torch.tensor(indices, device=inputs.device), rows, columns] = resized


def _resized(stacked_NHWC: Tensor, size: tuple[int, int], mode: str) -> Tensor:
    """Resize uint8: as bytes on the processor, through float32 on a GPU, which takes no bytes."""
    if stacked_NHWC.shape[1:3] == size:
        return stacked_NHWC
    stacked_NCHW = stacked_NHWC.permute(0, 3, 1, 2)
    on_gpu = stacked_NCHW.is_cuda
    wide_NCHW = stacked_NCHW.float() if on_gpu else stacked_NCHW
    resized_NCHW = functional.interpolate(wide_NCHW, size, mode=mode, antialias=True)
    if on_gpu:
        resized_NCHW = resized_NCHW.round_().clamp_(0, 255).to(torch.uint8)
    return resized_NCHW.permute(0, 2, 3, 1)
