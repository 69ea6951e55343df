"""
Decoding with NVIDIA DALI on the CPU: nvImageCodec decodes, DALI resizes.

nvImageCodec, DALI's own codec, answers image by image; a DALI decoder would raise for a whole batch
without naming the bad image. What nvImageCodec cannot open (a WebP with EXIF, for one) goes to
the reference decoder, cell by cell, and is counted under that name.
"""

from __future__ import annotations

import os
from typing import TYPE_CHECKING, Any

import numpy as np

from engines.decode.geometry import placement
from engines.decode.host import RESIZE_CELLS, DecodeError
from engines.decode.pillow import PillowEncoded

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
SAMPLES = (np.dtype(np.uint8), np.dtype(np.uint16))
RGB_UPRIGHT = nvimgcodec.DecodeParams(
    apply_exif_orientation=True, color_spec=nvimgcodec.ColorSpec.SRGB
)


def version() -> str:
    """Return what decodes, for the record."""
    return f"dali {nvidia.dali.__version__}, nvimagecodec {nvimgcodec.__version__}"


class DaliEncoded:
    """An image whose header nvImageCodec has read."""

    def __init__(self, stream: Any, data: bytes, decoder: Any) -> None:
        """Read the header; RuntimeError if there is none."""
        self.samples: np.dtype[Any] = stream.dtype
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
        # One decoder per thread, working in that thread: a shared one breaks its promises.
        self._decoder = nvimgcodec.Decoder(
            device_id=nvimgcodec.NVIMGCODEC_DEVICE_CPU_ONLY,
            max_num_cpu_threads=1,
            backends=[nvimgcodec.Backend(nvimgcodec.CPU_ONLY)],
        )
        self._pipeline = _resize_pipeline(INTERPOLATION[expected.filter])

    def open(self, data: bytes) -> Encoded:
        """Read the header."""
        try:
            encoded = DaliEncoded(nvimgcodec.CodeStream(data), data, self._decoder)
        except RuntimeError:
            return PillowEncoded(data)
        if encoded.samples not in SAMPLES:
            raise DecodeError(f"{encoded.samples} samples have no agreed white")
        return encoded

    def resize(self, images: Sequence[NDArray[np.uint8]]) -> NDArray[np.uint8]:
        """Resize with DALI, antialiased, and place."""
        expected = self._expected
        out = np.zeros((len(images), expected.height, expected.width, 3), np.uint8)
        if not images:
            return out
        places = [placement(image.shape[0], image.shape[1], expected) for image in images]
        self._pipeline.feed_input("images", list(images))
        self._pipeline.feed_input(
            "sizes", [np.array([place.height, place.width], np.float32) for place in places]
        )
        (resized,) = self._pipeline.run()
        for index, place in enumerate(places):
            out[index][place.slices] = resized.at(index)
        return out


def _resize_pipeline(interpolation: Any) -> Any:
    """Build the DALI pipeline that resizes up to RESIZE_CELLS images, each to its own size."""
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
