"""The kernel that resizes bytes on a GPU, in Triton's interpreter on the processor."""

from __future__ import annotations

import os
import subprocess
import sys

import pytest
import torch

from engines.decode import resize

CODE = """
import numpy as np, torch
from PIL import Image
from engines.decode.triton_resize import resized

random = np.random.default_rng(0)
sizes = [((35, 31), (12, 14)), ((7, 5), (16, 20)), ((40, 33), (9, 33)), ((1, 5), (16, 10))]
for mode in ("bicubic", "bilinear"):
    for (height, width), (rows, columns) in sizes:
        images = random.integers(0, 256, (2, height, width, 3), dtype=np.uint8)
        images[1] = np.where(images[1] > 127, 255, 0)  # overshoots
        ours = resized(torch.from_numpy(images), (rows, columns), mode).numpy()
        for mine, image in zip(ours, images):
            how = Image.Resampling[mode.upper()]
            theirs = np.asarray(Image.fromarray(image).resize((columns, rows), how))
            assert np.array_equal(mine, theirs), (mode, height, width, rows, columns)
print("equal")
"""


def test_the_kernels_pixels_are_pillows_to_the_last_bit():
    """Odd sizes, larger and smaller, both filters; in a process of its own: Triton decides once."""
    pytest.importorskip("triton")

    done = subprocess.run(
        [sys.executable, "-c", CODE],
        capture_output=True, text=True, check=False, env={**os.environ, "TRITON_INTERPRET": "1"},
    )  # fmt: skip

    assert done.stdout.strip() == "equal", done.stderr


@pytest.mark.skipif(torch.cuda.is_available(), reason="there is a GPU")
def test_where_the_kernel_does_not_work_torch_resizes_and_a_line_says_so(caplog):
    """Whatever keeps it from being compiled."""
    resize.bytes_kernel.cache_clear()

    with caplog.at_level("WARNING"):
        assert resize.bytes_kernel() is None

    assert "resized by torch in float32" in caplog.text
    resize.bytes_kernel.cache_clear()
