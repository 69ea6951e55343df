"""
Decoding on the GPU: JPEG by nvImageCodec there, plain BMP as raw bytes, the rest on the processor.

Each thread works in a lane of its own (``engines.hardware.cuda_streams``) and waits for it before
a batch leaves, so pixels are finished for whoever takes them. Reading, hashing, headers, sizes and
damage are ``engines.decode.cpu``'s, in the same threads: what is a fault there is a fault here.

nvImageCodec is DALI's codec and answers image by image. What it does not decode goes to the host
codec, which decides and gives the reason; run.json counts which codec decoded what.
"""

from __future__ import annotations

import threading
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any, TypeAlias

import numpy as np
import torch
from torch.utils.dlpack import from_dlpack

from engines.cells import Batch, Fault
from engines.decode.cpu import HostDecoder, OpenedCell, decoded_cell, opened_cell
from engines.decode.file_formats import plain_bmp
from engines.decode.jpeg import is_plain_jpeg
from engines.decode.nvimagecodec import RGB_UPRIGHT, DaliCodec, DaliEncoded, nvimgcodec
from engines.decode.prefetch import in_order
from engines.decode.resize import resize_into
from engines.decode.upload import Shipper, rgb_from_bmp
from engines.errors import DeviceError
from engines.hardware.cuda_streams import enough_memory, open_lane
from engines.image_quality import quality

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Sequence

    from numpy.typing import NDArray
    from torch import Tensor

    from engines.cells import CellFacts, CellRef, Read, Shard
    from engines.decode.base import DecodeOptions, Decoder, Encoded
    from engines.decode.file_formats import BmpBody
    from engines.models.bundle import ModelInput

__all__ = ["DeviceDecoder", "open_decoder"]

CUDA = torch.device("cuda", 0)
LOOK_AHEAD_CELLS = 8192  # decoded ahead at most, 1.2 GB of the GPU's memory at 224 x 224
BITE_PIXELS = 8_000_000  # decoded and resized at once in a thread: some 200 MB at work
AS_IT_CAN = nvimgcodec.LoadHintPolicy.IGNORE
GPU_BACKENDS = (nvimgcodec.HW_GPU_ONLY, nvimgcodec.GPU_ONLY, nvimgcodec.HYBRID_CPU_GPU)

Found: TypeAlias = "tuple[Tensor, CellFacts] | Fault"


@dataclass(slots=True)
class DeviceEncoded:
    """
    An image that need not be decoded by the host.

    Attributes:
        height: In pixels.
        width: Likewise.
        body: Where a BMP's pixels lie; None for a JPEG.
        host: The same image for the host codec.
    """

    height: int
    width: int
    body: BmpBody | None
    host: Encoded

    def decode(self) -> tuple[NDArray[np.uint8], str]:
        """Decode on the host after all."""
        return self.host.decode()


class DeviceCodec:
    """What one thread decodes with."""

    def __init__(self, expected: ModelInput, device: torch.device) -> None:
        """Open a decoder, a lane and a way up."""
        self._host = DaliCodec(expected)
        self.lane = open_lane(device)
        self._shipper = Shipper(self.lane)
        self._decoder = _open_decoder(device)
        self._streams: list[Any] = []

    def open(self, data: bytes) -> Encoded:
        """Read the header, and see what kind of image it is."""
        host = self._host.open(data)
        body = plain_bmp(data)
        if isinstance(host, DaliEncoded) and (body is not None or is_plain_jpeg(data)):
            return DeviceEncoded(host.height, host.width, body, host)
        return host

    def decode(self, cells: Sequence[OpenedCell]) -> list[Found]:
        """Decode cells; call inside the lane, and wait for it before the next call."""
        found: dict[int, Found] = dict(self._jpegs(cells))
        pieces: dict[int, tuple[NDArray[np.uint8], CellFacts]] = {}
        for index in [index for index in range(len(cells)) if index not in found]:
            piece = _piece(cells[index])
            if isinstance(piece, Fault):
                found[index] = piece
            else:
                pieces[index] = piece
        shipped = self._shipper.ship([pixels.reshape(-1) for pixels, _ in pieces.values()])
        for (index, (pixels, facts)), tensor in zip(pieces.items(), shipped, strict=True):
            body = _body(cells[index])
            image = tensor.view(pixels.shape) if body is None else rgb_from_bmp(tensor, body)
            found[index] = image, facts
        return [found[index] for index in range(len(cells))]

    def _jpegs(self, cells: Sequence[OpenedCell]) -> Iterator[tuple[int, Found]]:
        """Decode what the GPU takes; yield what it decoded."""
        chosen = [
            index
            for index, cell in enumerate(cells)
            if isinstance(cell.encoded, DeviceEncoded) and cell.encoded.body is None
        ]
        if not chosen:
            return
        # Kept until the next call, which comes after the lane was waited for.
        self._streams = [nvimgcodec.CodeStream(cells[index].data) for index in chosen]
        images = self._decoder.decode(
            self._streams, params=RGB_UPRIGHT, cuda_stream=self.lane.handle
        )
        name = "nvimagecodec-gpu" if self.lane.handle else "nvimagecodec"
        for index, image in zip(chosen, images, strict=True):
            cell = cells[index]
            if image is not None and image.shape == (cell.encoded.height, cell.encoded.width, 3):
                facts = replace(cell.facts, codec=name)
                yield index, (_tensor(image, self.lane.device), facts)


def _open_decoder(device: torch.device) -> Any:
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


def open_decoder(read: Read, expected: ModelInput, options: DecodeOptions) -> Decoder:
    """Open nvImageCodec on the device that *options* name."""
    if options.device == "gpu":
        return DeviceDecoder(read, expected, options)
    return HostDecoder(DaliCodec, read, expected, options)


class DeviceDecoder:
    """A Decoder (see ``engines.decode.base``) whose pixels stay where they are decoded."""

    name = "dali"

    def __init__(
        self, read: Read, expected: ModelInput, options: DecodeOptions, device: torch.device = CUDA
    ) -> None:
        """Bring what *read* returns to what the model expects, on *device*."""
        self.version = f"{DaliCodec.version} on {device.type}"
        self._read = read
        self._expected = expected
        self._options = options
        self._device = device
        self._local = threading.local()

    def stream(self, shards: Iterable[Shard]) -> Iterator[Batch]:
        """Decode in order; at most two batches per thread are ahead of whoever iterates."""
        return in_order(
            shards, self._options, self._decode_batch, look_ahead_cells=LOOK_AHEAD_CELLS
        )

    def _decode_batch(self, shard: Shard, refs: tuple[CellRef, ...]) -> Batch:
        """Read, check and decode in a thread of the pool."""
        with enough_memory(
            "decoding", "fewer --threads, a smaller --batch-size, or --decode-on cpu"
        ):
            if not hasattr(self._local, "codec"):
                self._local.codec = DeviceCodec(self._expected, self._device)
            codec: DeviceCodec = self._local.codec
            opened = [opened_cell(ref, codec, self._read, self._options.max_pixels) for ref in refs]
            return self._batch(shard, codec, opened)

    @torch.inference_mode()
    def _batch(
        self, shard: Shard, codec: DeviceCodec, opened: Sequence[OpenedCell | Fault]
    ) -> Batch:
        """Decode what was opened, bite by bite, and put good and bad together again."""
        size = (len(opened), self._expected.height, self._expected.width, 3)
        faults = {cell.ref: cell for cell in opened if isinstance(cell, Fault)}
        good: list[tuple[CellRef, CellFacts]] = []
        with codec.lane:
            inputs = torch.zeros(size, dtype=torch.uint8, device=self._device)
        for bite in _bites([cell for cell in opened if isinstance(cell, OpenedCell)]):
            images = []
            with codec.lane:
                for cell, found in zip(bite, codec.decode(bite), strict=True):
                    if isinstance(found, Fault):
                        faults[cell.ref] = found
                        continue
                    images.append(found[0])
                    good.append((cell.ref, found[1]))
                resize_into(inputs[len(good) - len(images) : len(good)], images, self._expected)
            codec.lane.wait()  # before the images are let go, and the buffer is filled again
        pixels = inputs[: len(good)]
        with codec.lane:
            measured = quality(pixels).cpu().numpy()
        codec.lane.wait()
        return Batch(
            shard=shard,
            refs=tuple(ref for ref, _ in good),
            facts=tuple(facts for _, facts in good),
            pixels=pixels if self._device.type == "cuda" else pixels.numpy(),
            faults=tuple(faults[cell.ref] for cell in opened if cell.ref in faults),
            quality=measured,
        )


def _bites(cells: Sequence[OpenedCell]) -> Iterator[list[OpenedCell]]:
    """Cut cells into runs of at most BITE_PIXELS together; a larger one goes alone."""
    bite: list[OpenedCell] = []
    pixels = 0
    for cell in cells:
        more = cell.encoded.height * cell.encoded.width
        if bite and pixels + more > BITE_PIXELS:
            yield bite
            bite, pixels = [], 0
        bite.append(cell)
        pixels += more
    if bite:
        yield bite


def _body(cell: OpenedCell) -> BmpBody | None:
    """Return where a plain BMP's pixels lie."""
    return cell.encoded.body if isinstance(cell.encoded, DeviceEncoded) else None


def _piece(cell: OpenedCell) -> tuple[NDArray[np.uint8], CellFacts] | Fault:
    """Return what to ship: a BMP's bytes as they are, or the host's pixels."""
    body = _body(cell)
    if body is None:
        return decoded_cell(cell)
    rows = np.frombuffer(cell.data, np.uint8, body.size, body.offset)
    return rows, replace(cell.facts, codec="raw-bmp")


def _tensor(image: Any, device: torch.device) -> Tensor:
    """See nvImageCodec's image as a tensor, without a copy."""
    if device.type == "cuda":
        return from_dlpack(image)
    return torch.from_numpy(np.asarray(image))
