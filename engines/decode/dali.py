"""
Decoding with NVIDIA DALI's dynamic mode, on the processor and on a GPU, by the same code.

DALI decodes JPEG and PNG, a batch of cells in a call: on a GPU its ``mixed`` decoder (nvJPEG's
hardware engine or CUDA for JPEG, the processor for PNG), on the processor the same operator there.
A plain BMP needs no decoder: its bytes are put upright, on a GPU after they were copied there.
Everything else is decoded by the reference on the processor, and so is what DALI does not decode:
the reference decides and gives the reason. Results count which codec decoded what.

A call that fails says so for all of its images together; they are then decoded one by one, on the
same device, so that a bad image costs itself only. Reading, hashing, headers, sizes and damage are
``engines.decode.checks``: what is a fault with one decoder is a fault with the others.

Each thread has a DALI context and a CUDA stream of its own (``engines.hardware.cuda_streams``) and
waits for the stream before a batch leaves, so pixels are finished for whoever takes them.

DALI's own resize is not used: on the processor it takes five times as long as torch's
(benchmarks/README.md) and its pixels lie farther from Pillow's.
"""

from __future__ import annotations

import os
from typing import TYPE_CHECKING, Any, TypeAlias

os.environ.setdefault("OPENCV_LOG_LEVEL", "OFF")  # read when the libraries load

import numpy as np
import nvidia.dali
import nvidia.dali.experimental.dynamic as ndd
import torch

from engines.decode.batched import BatchCodec, BatchDecoder
from engines.errors import DeviceError

if TYPE_CHECKING:
    from collections.abc import Sequence

    from torch import Tensor

    from engines.cells import Read
    from engines.decode.base import DecodeOptions, Decoder
    from engines.models.input import ModelInput

__all__ = ["DaliCodec", "open_decoder"]

CUDA = torch.device("cuda", 0)
CPU = torch.device("cpu")
# By load, as is the default (0.65), a JPEG would be decoded by nvJPEG's hardware engine or by CUDA
# depending on how many neighbours it has, to other last bits. Fancy upsampling is libjpeg's way.
GPU_ONLY = {"hw_decoder_load": 1.0, "jpeg_fancy_upsampling": True}

OUT_OF_MEMORY = ("out of memory", "cudaErrorMemoryAllocation", "bad_alloc")

Images: TypeAlias = "list[Tensor | None]"


class DaliCodec(BatchCodec):
    """DALI as a BatchCodec."""

    name = "dali"
    version = f"dali {nvidia.dali.__version__}, torch {torch.__version__}"

    def __init__(self, device: torch.device) -> None:
        """Open a context: on a GPU it enqueues in the codec's own stream."""
        super().__init__(device)
        on_gpu = device.type == "cuda"
        self._how = {"device": "gpu", **GPU_ONLY} if on_gpu else {"device": "cpu"}
        self._held: list[Any] = []
        try:
            self._context: Any = ndd.EvalContext(
                num_threads=1,
                device_id=device.index if on_gpu else None,
                cuda_stream=self.stream.handle or None,
            )
        except RuntimeError as error:
            raise DeviceError(
                f"DALI cannot use the GPU: {_reason(error)}", hint="use --decode-on cpu"
            ) from error

    def decode_encoded(self, images: Sequence[bytes]) -> Images:
        """Decode in one call, or one by one if that fails; kept until the next call."""
        self._held = []
        try:
            return list(self._called(images))
        except RuntimeError as error:
            _require_memory(error)
            return [self._alone(image) for image in images]

    def _alone(self, image: bytes) -> Tensor | None:
        """Decode a single image, or return None where it is bad or of an unknown kind."""
        try:
            return self._called([image])[0]
        except RuntimeError as error:
            _require_memory(error)
            return None

    def _called(self, images: Sequence[bytes]) -> list[Tensor]:
        """Call DALI and wait for what it says; pixels are seen as tensors without a copy."""
        with self._context:
            encoded = ndd.batch([np.frombuffer(image, np.uint8) for image in images])
            decoded = ndd.decoders.image(encoded, **self._how).evaluate()
            self._held.append(decoded)
            return [image.torch() for image in decoded.tensors]


def open_decoder(read: Read, expected: ModelInput, options: DecodeOptions) -> Decoder:
    """Open DALI on the device that *options* name."""
    device = CUDA if options.device == "gpu" else CPU
    return BatchDecoder(DaliCodec, read, expected, options, device)


def _require_memory(error: RuntimeError) -> None:
    """Raise DeviceError where memory ran out: that is no fault of the image."""
    why = _reason(error)
    if any(sign in why for sign in OUT_OF_MEMORY):
        raise DeviceError(
            f"memory does not suffice for decoding: {why}",
            hint="use fewer --threads, a smaller --batch-size, or --decode-on cpu",
        ) from error


def _reason(error: BaseException) -> str:
    """Return the innermost message in one line: dynamic mode wraps what the operator said."""
    while error.__cause__ is not None:
        error = error.__cause__
    return " ".join(str(error).split())
