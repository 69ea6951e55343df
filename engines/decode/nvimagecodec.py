"""
Decoding with nvImageCodec, the codec of NVIDIA DALI, on the CPU and on the GPU.

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

from engines.decode.cpu import HostDecoder
from engines.decode.file_formats import plain_bmp
from engines.decode.gpu import DeviceCodec, DeviceDecoder
from engines.decode.pillow import PillowEncoded
from engines.errors import DeviceError

# Read once, when the libraries load: what they would print is in each cell's row instead.
os.environ.setdefault("PYNVIMGCODEC_VERBOSITY", "0")
os.environ.setdefault("OPENCV_LOG_LEVEL", "OFF")

import torch
from nvidia import nvimgcodec
from torch.nn import functional
from torch.utils.dlpack import from_dlpack

if TYPE_CHECKING:
    from collections.abc import Sequence

    from numpy.typing import NDArray

    from engines.cells import Read
    from engines.decode.base import DecodeOptions, Decoder, Encoded
    from engines.models.input import ModelInput

__all__ = ["NvImageCodec", "NvImageCodecOnDevice", "open_decoder"]

TRUSTED = (b"\xff\xd8\xff", b"\x89PNG", b"RIFF", b"P")  # JPEG, PNG, WebP, PNM
RGB_UPRIGHT = nvimgcodec.DecodeParams(
    apply_exif_orientation=True, color_spec=nvimgcodec.ColorSpec.SRGB
)
AS_IT_CAN = nvimgcodec.LoadHintPolicy.IGNORE
GPU_BACKENDS = (nvimgcodec.HW_GPU_ONLY, nvimgcodec.GPU_ONLY, nvimgcodec.HYBRID_CPU_GPU)


class NvImageEncoded:
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


class NvImageCodec:
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
            return NvImageEncoded(nvimgcodec.CodeStream(data), data, self._decoder)
        except Exception:  # it raises RuntimeError, TypeError, ...: the reference decides
            return PillowEncoded(data)

    def resize(self, image: NDArray[np.uint8], height: int, width: int) -> NDArray[np.uint8]:
        """Resize bytes with torch, in the layout they come in."""
        image_1CHW = torch.from_numpy(np.require(image, requirements="W")).permute(2, 0, 1)[None]
        resized_1CHW = functional.interpolate(
            image_1CHW, (height, width), mode=self._filter, antialias=True
        )
        return np.asarray(resized_1CHW[0].permute(1, 2, 0).numpy())


class NvImageCodecOnDevice(DeviceCodec):
    """nvImageCodec as a DeviceCodec: it decodes JPEG on the GPU, image by image."""

    name = NvImageCodec.name
    version = NvImageCodec.version
    host = NvImageCodec

    def __init__(self, expected: ModelInput, device: torch.device) -> None:
        """Open a decoder on the device."""
        super().__init__(expected, device)
        self._decoder = _device_decoder(device)
        self._encoded: list[Any] = []

    def jpegs(self, images: Sequence[bytes]) -> list[tuple[torch.Tensor, str] | None]:
        """Decode JPEGs; the encoded bytes are kept until the next call."""
        self._encoded = [nvimgcodec.CodeStream(image) for image in images]
        decoded = self._decoder.decode(
            self._encoded, params=RGB_UPRIGHT, cuda_stream=self.stream.handle
        )
        name = "nvimagecodec-gpu" if self.stream.handle else "nvimagecodec"
        device = self.stream.device
        return [None if image is None else (_tensor(image, device), name) for image in decoded]


def open_decoder(read: Read, expected: ModelInput, options: DecodeOptions) -> Decoder:
    """Open nvImageCodec on the device that *options* name."""
    if options.device == "gpu":
        return DeviceDecoder(NvImageCodecOnDevice, read, expected, options)
    return HostDecoder(NvImageCodec, read, expected, options)


def _device_decoder(device: torch.device) -> Any:
    """Open nvImageCodec's decoder for *device*; what it cannot decode there is the host's."""
    on_gpu = device.type == "cuda"
    kinds = GPU_BACKENDS if on_gpu else (nvimgcodec.CPU_ONLY,)
    try:
        return nvimgcodec.Decoder(
            device_id=device.index if on_gpu else nvimgcodec.NVIMGCODEC_DEVICE_CPU_ONLY,
            max_num_cpu_threads=1,
            # Each takes all that it can decode. By load, as is the default, a cell would be decoded
            # here or there, and to other last bits, depending on how many neighbours it has.
            backends=[nvimgcodec.Backend(kind, 1.0, AS_IT_CAN) for kind in kinds],
            options=":fancy_upsampling=1",  # as libjpeg does, and so Pillow
        )
    except RuntimeError as error:
        raise DeviceError(
            f"nvImageCodec cannot use the GPU: {error}", hint="use --decode-on cpu"
        ) from error


def _tensor(image: Any, device: torch.device) -> torch.Tensor:
    """See nvImageCodec's image as a tensor, without a copy."""
    if device.type == "cuda":
        return from_dlpack(image)
    return torch.from_numpy(np.asarray(image))
