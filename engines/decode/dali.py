"""
Decoding with NVIDIA DALI on the CPU: nvImageCodec decodes, DALI resizes.

nvImageCodec, DALI's own codec, answers image by image; a DALI decoder would raise for a whole batch
without naming the bad image. What it cannot be trusted with goes to the reference decoder, cell by
cell, and is counted under that name: TIFF (it reads several kinds differently, and prints),
JPEG 2000 (a damaged header kills the process), BMP that is not plain, whole 24-bit (it
shears a short one and says nothing), and whatever it fails to open or decode.
"""

from __future__ import annotations

import os
import struct
from typing import TYPE_CHECKING, Any

import numpy as np

from engines.decode.geometry import placement
from engines.decode.host import RESIZE_CELLS
from engines.decode.pillow import PillowCodec, PillowEncoded

# Read once, when the libraries load: what they would print is in each cell's row instead.
os.environ.setdefault("PYNVIMGCODEC_VERBOSITY", "0")
os.environ.setdefault("OPENCV_LOG_LEVEL", "OFF")

import nvidia.dali
from nvidia import nvimgcodec
from nvidia.dali import Pipeline, fn, types

if TYPE_CHECKING:
    from collections.abc import Sequence

    from numpy.typing import NDArray

    from engines.bundle import ModelInput
    from engines.decode.host import Encoded

__all__ = ["DaliCodec", "version"]

INTERPOLATION = {"bilinear": types.INTERP_LINEAR, "bicubic": types.INTERP_CUBIC}
TRUSTED = (b"\xff\xd8\xff", b"\x89PNG", b"RIFF", b"P")  # JPEG, PNG, WebP, PNM
BMP_HEADER = struct.Struct("<2s8xIIiiHHI")
BMP_FILE_HEADER = 14  # bytes
BITMAPINFOHEADER = 40  # bytes; older headers are shorter
RGB_UPRIGHT = nvimgcodec.DecodeParams(
    apply_exif_orientation=True, color_spec=nvimgcodec.ColorSpec.SRGB
)


def version() -> str:
    """Return what decodes, for the record."""
    return f"dali {nvidia.dali.__version__}, nvimagecodec {nvimgcodec.__version__}"


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
    """DALI as a Codec."""

    def __init__(self, expected: ModelInput) -> None:
        """Resize to what the model expects."""
        self._expected = expected
        self._reference = PillowCodec(expected)
        # One decoder per thread, working in that thread: a shared one breaks its promises.
        self._decoder = nvimgcodec.Decoder(
            device_id=nvimgcodec.NVIMGCODEC_DEVICE_CPU_ONLY,
            max_num_cpu_threads=1,
            backends=[nvimgcodec.Backend(nvimgcodec.CPU_ONLY)],
        )
        self._pipeline = _resize_pipeline(INTERPOLATION[expected.filter])

    def open(self, data: bytes) -> Encoded:
        """Read the header."""
        if not (data.startswith(TRUSTED) or _is_plain_bmp(data)):
            return PillowEncoded(data)
        try:
            return DaliEncoded(nvimgcodec.CodeStream(data), data, self._decoder)
        except Exception:  # it raises RuntimeError, TypeError, ...: the reference decides
            return PillowEncoded(data)

    def resize(self, images: Sequence[NDArray[np.uint8]]) -> NDArray[np.uint8]:
        """Shrink with DALI, antialiased; enlarge with the reference, whose kernel is another."""
        shrinks = np.array([_shrinks(image, self._expected) for image in images], bool)
        out = np.empty((len(images), self._expected.height, self._expected.width, 3), np.uint8)
        for resize, chosen in ((self._shrink, shrinks), (self._reference.resize, ~shrinks)):
            picked = np.flatnonzero(chosen)
            if picked.size:
                out[picked] = resize([images[index] for index in picked.tolist()])
        return out

    def _shrink(self, images: Sequence[NDArray[np.uint8]]) -> NDArray[np.uint8]:
        """Resize n > 0 images in one DALI call."""
        expected = self._expected
        out = np.zeros((len(images), expected.height, expected.width, 3), np.uint8)
        places = [placement(image.shape[0], image.shape[1], expected) for image in images]
        self._pipeline.feed_input("images", list(images))
        self._pipeline.feed_input(
            "sizes", [np.array([place.height, place.width], np.float32) for place in places]
        )
        (resized,) = self._pipeline.run()
        for index, place in enumerate(places):
            out[index][place.slices] = resized.at(index)
        return out


def _is_plain_bmp(data: bytes) -> bool:
    """Whether the file is an uncompressed 24-bit BMP with every row there, padding and all."""
    if len(data) < BMP_HEADER.size:
        return False
    magic, offset, header, width, height, planes, bits, compression = BMP_HEADER.unpack_from(data)
    if (magic, planes, bits, compression) != (b"BM", 1, 24, 0) or header < BITMAPINFOHEADER:
        return False
    row = (width * 3 + 3) // 4 * 4
    return bool(
        width > 0 and offset >= BMP_FILE_HEADER + header and offset + row * abs(height) <= len(data)
    )


def _shrinks(image: NDArray[np.uint8], expected: ModelInput) -> bool:
    """Whether neither side is enlarged."""
    height, width = image.shape[:2]
    place = placement(height, width, expected)
    return bool(place.height <= height and place.width <= width)


def _resize_pipeline(interpolation: Any) -> Any:
    """Build the DALI pipeline that shrinks up to RESIZE_CELLS images, each to its own size."""
    pipeline = Pipeline(
        batch_size=RESIZE_CELLS,
        num_threads=1,
        device_id=None,
        prefetch_queue_depth=1,
        exec_async=False,
        exec_pipelined=False,
        exec_dynamic=False,
    )
    with pipeline:
        images = fn.external_source(name="images", layout="HWC", no_copy=True)
        sizes = fn.external_source(name="sizes")
        resized = fn.resize(images, size=sizes, interp_type=interpolation, antialias=True)
        pipeline.set_outputs(resized)
    pipeline.build()
    return pipeline
