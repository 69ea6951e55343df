"""
Resizing many crops at once, on any device: torch's antialiased filters.

On a GPU, where torch takes no bytes, the kernel of ``engines.decode.triton_resize`` does it; where
that cannot be compiled, torch's filter on a float32 copy.
"""

from __future__ import annotations

import logging
from collections import defaultdict
from functools import cache
from typing import TYPE_CHECKING

import torch
from torch.nn import functional

from engines.decode.geometry import placement

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from torch import Tensor

    from engines.models.input import ModelInput

__all__ = ["resize_into", "too_steep_for_cuda"]

# Reduction, added up over both axes; bicubic fails from about 94 on, which is some 20,000 pixels
# to 224 on one axis. Such a cell is resized on the processor: rare, so any safe limit will do.
STEEPEST = 60
TALL = 100  # times as high as wide: resized along the height first

log = logging.getLogger(__name__)


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
    if stacked_NCHW.is_cuda and not too_steep_for_cuda(stacked_NHWC.shape[1:3], size):
        if (kernel := bytes_kernel()) is not None:
            return kernel(stacked_NHWC, size, mode)
        resized_NCHW = functional.interpolate(stacked_NCHW.float(), size, mode=mode, antialias=True)
        resized_NCHW = resized_NCHW.round_().clamp_(0, 255).to(torch.uint8)
    else:
        resized_NCHW = _on_processor(stacked_NCHW.cpu(), size, mode)
    return resized_NCHW.to(stacked_NHWC.device).permute(0, 2, 3, 1)


def _on_processor(stacked_NCHW: Tensor, size: tuple[int, int], mode: str) -> Tensor:
    """
    Resize bytes: along the width first, but a tall strip along its height.

    The width first would make 14 GB of a strip of 21 million rows of one pixel.
    """
    height, width = stacked_NCHW.shape[2:]
    if height > TALL * width and size[0] < height:
        lower = size[0], width
        stacked_NCHW = functional.interpolate(stacked_NCHW, lower, mode=mode, antialias=True)
    return functional.interpolate(stacked_NCHW, size, mode=mode, antialias=True)


@cache
def bytes_kernel() -> Callable[[Tensor, tuple[int, int], str], Tensor] | None:
    """Return the kernel that resizes bytes on a GPU, tried out; None where it does not work."""
    try:
        from engines.decode.triton_resize import resized

        resized(torch.zeros((1, 4, 4, 3), dtype=torch.uint8, device="cuda"), (2, 2), "bilinear")
    except torch.OutOfMemoryError:
        raise
    except Exception as error:
        log.warning("cells are resized by torch in float32, with no kernel for bytes: %s", error)
        return None
    return resized


def too_steep_for_cuda(size: Sequence[int], target: Sequence[int]) -> bool:
    """
    Tell whether torch's CUDA kernel would refuse to resize (height, width) to *target*.

    It keeps the filter's weights in 48 KB of shared memory, which an extreme reduction overfills.
    """
    return size[0] / target[0] + size[1] / target[1] > STEEPEST
