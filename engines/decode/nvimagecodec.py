"""
Decoding with nvImageCodec, the codec of NVIDIA DALI, on the CPU.

It answers image by image; a DALI pipeline would raise for a whole batch without naming the bad
image. Resizing is torch's, for bytes: Pillow's pixels to within 2 of 255, at a fifth of the time
that DALI's resize (0.2 of 255 in the mean) or Pillow's own takes; benchmarks/README.md.

What nvImageCodec cannot be trusted with goes to the reference decoder, cell by cell, and is counted
under that name: TIFF (it reads several kinds differently, and prints), JPEG 2000 (a damaged header
kills the process), BMP that is not plain, whole 24-bit (it shears a short one and says nothing),
and whatever it fails to open or decode.
"""

from __future__ import annotations

import os
from typing import TYPE_CHECKING, Any

import numpy as np

from engines.decode.file_formats import plain_bmp
from engines.decode.pillow import PillowEncoded

# Read once, when the libraries load: what they would print is in each cell's row instead.
os.environ.setdefault("PYNVIMGCODEC_VERBOSITY", "0")
os.environ.setdefault("OPENCV_LOG_LEVEL", "OFF")

import torch
from nvidia import nvimgcodec
from torch.nn import functional

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from engines.decode.base import Encoded
    from engines.models.bundle import ModelInput

__all__ = ["RGB_UPRIGHT", "DaliCodec", "DaliEncoded", "nvimgcodec"]

TRUSTED = (b"\xff\xd8\xff", b"\x89PNG", b"RIFF", b"P")  # JPEG, PNG, WebP, PNM
RGB_UPRIGHT = nvimgcodec.DecodeParams(
    apply_exif_orientation=True, color_spec=nvimgcodec.ColorSpec.SRGB
)


class DaliEncoded:
    """An image whose header nvImageCodec has read."""

    def __init__(self, stream: Any, data: bytes, decoder: Any) -> None:
        """Read the header, or raise what nvImageCodec raises."""
        self.height: int = stream.height
        self.width: int = stream.width
        self._stream = stream
        self._data = data
        self._decoder = decoder

    def decode(self) -> tuple[NDArray[np.uint8], str]:
        """Decode; where nvImageCodec fails, the reference decides and gives the reason."""
        image = self._decoder.decode(self._stream, params=RGB_UPRIGHT)
        if image is None:
            return PillowEncoded(self._data).decode()
        return np.asarray(image), "nvimagecodec"


class DaliCodec:
    """nvImageCodec as a Codec."""

    name = "dali"
    version = f"nvimagecodec {nvimgcodec.__version__}, torch {torch.__version__}"

    def __init__(self, expected: ModelInput) -> None:
        """Resize as the model expects."""
        self._filter = expected.filter
        torch.set_num_threads(1)  # of this thread: cells are what runs side by side
        # One decoder per thread, working in that thread: a shared one breaks its promises.
        self._decoder = nvimgcodec.Decoder(
            device_id=nvimgcodec.NVIMGCODEC_DEVICE_CPU_ONLY,
            max_num_cpu_threads=1,
            backends=[nvimgcodec.Backend(nvimgcodec.CPU_ONLY)],
        )

    def open(self, data: bytes) -> Encoded:
        """Read the header."""
        if not (data.startswith(TRUSTED) or plain_bmp(data)):
            return PillowEncoded(data)
        try:
            return DaliEncoded(nvimgcodec.CodeStream(data), data, self._decoder)
        except Exception:  # it raises RuntimeError, TypeError, ...: the reference decides
            return PillowEncoded(data)

    def resize(self, image: NDArray[np.uint8], height: int, width: int) -> NDArray[np.uint8]:
        """Resize bytes with torch, in the layout they come in."""
        image_1CHW = torch.from_numpy(np.require(image, requirements="W")).permute(2, 0, 1)[None]
        resized_1CHW = functional.interpolate(
            image_1CHW, (height, width), mode=self._filter, antialias=True
        )
        return np.asarray(resized_1CHW[0].permute(1, 2, 0).numpy())
