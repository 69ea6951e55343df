"""
Pillow's resize of bytes as a Triton kernel: a pass along each axis, all of it in integers.

As Pillow's ``ImagingResample`` (src/libImaging/Resample.c): weights in double precision,
normalised, rounded to 22 bits after the point; along a row first, its result rounded to bytes, then
along a column. So pixels are Pillow's to the last bit, and no float32 copy of a crop is made.
"""

from __future__ import annotations

import math
from functools import lru_cache
from typing import TYPE_CHECKING

import numpy as np
import torch
import triton  # type: ignore[import-untyped]
import triton.language as tl  # type: ignore[import-untyped]

if TYPE_CHECKING:
    from collections.abc import Callable

    from numpy.typing import NDArray
    from torch import Tensor

__all__ = ["resized", "weights"]

BITS = 32 - 8 - 2  # Pillow's PRECISION_BITS
BLOCK = 256


def _bilinear(x: NDArray[np.float64]) -> NDArray[np.float64]:
    """Return the triangle's height."""
    return np.maximum(0.0, 1.0 - np.abs(x))


def _bicubic(x: NDArray[np.float64]) -> NDArray[np.float64]:
    """Return the height of Keys' cubic with a = -0.5."""
    a, reach, x = -0.5, 2.0, np.abs(x)
    near = ((a + 2.0) * x - (a + 3.0)) * x * x + 1
    far = (((x - 5) * x + 8) * x - 4) * a
    return np.where(x < 1.0, near, np.where(x < reach, far, 0.0))


FILTERS: dict[str, tuple[Callable[[NDArray[np.float64]], NDArray[np.float64]], float]] = {
    "bilinear": (_bilinear, 1.0),
    "bicubic": (_bicubic, 2.0),
}


@lru_cache(maxsize=2048)
def weights(size: int, target: int, mode: str) -> tuple[NDArray[np.int32], NDArray[np.int32]]:
    """
    Return the first pixel of each output pixel, ``(target,)``, and weights, ``(target, taps)``.

    Pillow's ``precompute_coeffs`` and ``normalize_coeffs_8bpc``; missing taps are 0.
    """
    shape, reach = FILTERS[mode]
    scale = size / target
    stretch = max(scale, 1.0)
    support = reach * stretch
    centres = (np.arange(target) + 0.5) * scale
    firsts = np.maximum(0, (centres - support + 0.5).astype(np.int64))
    lasts = np.minimum(size, (centres + support + 0.5).astype(np.int64))
    places = np.arange(math.ceil(support) * 2 + 1)
    taps = shape((places + firsts[:, None] - centres[:, None] + 0.5) * (1.0 / stretch))
    taps[places >= (lasts - firsts)[:, None]] = 0.0
    taps *= 1.0 / np.cumsum(taps, axis=1)[:, -1:]  # added up one by one, as Pillow does
    table = (np.copysign(0.5, taps) + taps * (1 << BITS)).astype(np.int32)
    return firsts.astype(np.int32), table


# Triton reads a kernel's annotations itself, and a kernel takes pointers and sizes one by one.
@triton.jit  # type: ignore[untyped-decorator]
def _along(  # type: ignore[no-untyped-def]  # noqa: ANN202, PLR0913, PLR0917
    source,  # noqa: ANN001
    out,  # noqa: ANN001
    firsts,  # noqa: ANN001
    table,  # noqa: ANN001
    count,  # noqa: ANN001
    size,  # noqa: ANN001
    target,  # noqa: ANN001
    inner,  # noqa: ANN001
    taps,  # noqa: ANN001
    BITS: tl.constexpr,
    BLOCK: tl.constexpr,
):
    """Resize the middle axis of ``(outer, size, inner)`` bytes to *target*."""
    index = tl.program_id(0).to(tl.int64) * BLOCK + tl.arange(0, BLOCK)
    there = index < count
    rest = index % inner
    place = (index // inner) % target
    start = (index // inner // target) * size * inner + rest
    first = tl.load(firsts + place, mask=there, other=0)
    total = tl.full((BLOCK,), 1 << (BITS - 1), tl.int32)
    for tap in range(taps):
        weight = tl.load(table + place * taps + tap, mask=there, other=0)
        row = tl.minimum(first + tap, size - 1)
        pixel = tl.load(source + start + row * inner, mask=there, other=0).to(tl.int32)
        total += pixel * weight
    value = tl.minimum(tl.maximum(total >> BITS, 0), 255)
    tl.store(out + index, value.to(tl.uint8), mask=there)


def resized(stacked_NHWC: Tensor, size: tuple[int, int], mode: str) -> Tensor:
    """Return ``(n, *size, 3)`` uint8 of ``(n, h, w, 3)`` uint8, on its device, as Pillow would."""
    across = _axis(stacked_NHWC.contiguous(), 2, size[1], mode)
    return _axis(across, 1, size[0], mode)


def _axis(pixels: Tensor, axis: int, target: int, mode: str) -> Tensor:
    """Resize one axis; Pillow leaves one alone that has its size already."""
    size = pixels.shape[axis]
    if size == target:
        return pixels
    shape = (*pixels.shape[:axis], target, *pixels.shape[axis + 1 :])
    out = torch.empty(shape, dtype=torch.uint8, device=pixels.device)
    firsts, table = (torch.from_numpy(each).to(pixels.device) for each in
                     weights(size, target, mode))  # fmt: skip
    inner = math.prod(pixels.shape[axis + 1 :])
    _along[(triton.cdiv(out.numel(), BLOCK),)](
        pixels, out, firsts, table, out.numel(), size, target, inner, table.shape[1],
        BITS=BITS, BLOCK=BLOCK,
    )  # fmt: skip
    return out
