"""
Decoding on a GPU: JPEG by a codec that works there, plain BMP as raw bytes, the rest on the host.

Each thread works in a CUDA stream of its own (``engines.hardware.cuda_streams``) and waits for it
before a batch leaves, so pixels are finished for whoever takes them. Reading, hashing, headers,
sizes and damage are ``engines.decode.checks``, in the same threads: what is a fault on the host is
a fault here. What the GPU does not decode goes to the host codec, which decides and gives the
reason; results count which codec decoded what.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, TypeAlias

import numpy as np
import torch

from engines.cells import Batch, Fault
from engines.decode.checks import OpenedCell, decoded_cell, opened_cell
from engines.decode.file_formats import is_plain_jpeg, plain_bmp
from engines.decode.pillow import PillowEncoded
from engines.decode.prefetch import PrefetchingDecoder
from engines.decode.resize import resize_into
from engines.decode.upload import Uploader, rgb_from_bmp
from engines.hardware.cuda_streams import enough_memory, open_stream
from engines.image_quality import quality

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from numpy.typing import NDArray
    from torch import Tensor

    from engines.cells import CellFacts, CellRef, Read, Shard
    from engines.decode.base import Codec, DecodeOptions, Encoded
    from engines.decode.file_formats import BmpBody
    from engines.models.input import ModelInput

__all__ = ["DeviceCodec", "DeviceDecoder"]

CUDA = torch.device("cuda", 0)
GROUP_PIXELS = 8_000_000  # decoded and resized at once in a thread: some 200 MB at work

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


class DeviceCodec(ABC):
    """
    What one thread decodes with; derived classes say who decodes JPEG on the device.

    Attributes:
        name: Of the decoder it makes.
        version: Of the packages behind it.
        host: The codec that takes what the device does not decode.
        stream: The CUDA stream that everything is enqueued in.
    """

    name: str
    version: str
    host: type[Codec]

    def __init__(self, expected: ModelInput, device: torch.device) -> None:
        """Open a stream on *device*, and a codec on the host."""
        self._host = self.host(expected)
        self.stream = open_stream(device)
        self._uploader = Uploader(self.stream)

    @abstractmethod
    def jpegs(self, images: Sequence[bytes]) -> list[tuple[Tensor, str] | None]:
        """
        Decode JPEGs, enqueued in ``stream``; not again before that was waited for.

        Returns:
            For each image its pixels, ``(height, width, 3)`` uint8 RGB on the device, and the name
            of the codec that made them; None where the host is to decide.
        """

    def open(self, data: bytes) -> Encoded:
        """Read the header, and see what kind of image it is."""
        host = self._host.open(data)
        body = plain_bmp(data)
        if not isinstance(host, PillowEncoded) and (body is not None or is_plain_jpeg(data)):
            return DeviceEncoded(host.height, host.width, body, host)
        return host

    def decode(self, cells: Sequence[OpenedCell]) -> list[Found]:
        """Decode cells; call inside the stream, and wait for it before the next call."""
        found: dict[int, Found] = dict(self._decoded_jpegs(cells))
        pieces: dict[int, tuple[NDArray[np.uint8], CellFacts]] = {}
        for index in [index for index in range(len(cells)) if index not in found]:
            piece = _piece(cells[index])
            if isinstance(piece, Fault):
                found[index] = piece
            else:
                pieces[index] = piece
        uploaded = self._uploader.upload([pixels.reshape(-1) for pixels, _ in pieces.values()])
        for (index, (pixels, facts)), tensor in zip(pieces.items(), uploaded, strict=True):
            body = _body(cells[index])
            image = tensor.view(pixels.shape) if body is None else rgb_from_bmp(tensor, body)
            found[index] = image, facts
        return [found[index] for index in range(len(cells))]

    def _decoded_jpegs(self, cells: Sequence[OpenedCell]) -> Iterator[tuple[int, Found]]:
        """Yield what the device decoded, whole, with its place among the cells."""
        chosen = [
            index
            for index, cell in enumerate(cells)
            if isinstance(cell.encoded, DeviceEncoded) and cell.encoded.body is None
        ]
        if not chosen:
            return
        images = self.jpegs([cells[index].data for index in chosen])
        for index, decoded in zip(chosen, images, strict=True):
            cell = cells[index]
            size = (cell.encoded.height, cell.encoded.width, 3)
            if decoded is not None and decoded[0].shape == size:
                yield index, (decoded[0], replace(cell.facts, codec=decoded[1]))


class DeviceDecoder(PrefetchingDecoder):
    """A Decoder (see ``engines.decode.base``) whose pixels stay where they are decoded."""

    look_ahead_cells = 8192  # 1.2 GB of the GPU's memory at 224 x 224

    def __init__(
        self,
        codec: type[DeviceCodec],
        read: Read,
        expected: ModelInput,
        options: DecodeOptions,
        device: torch.device = CUDA,
    ) -> None:
        """Bring what *read* returns to what the model expects, on *device*."""
        super().__init__(read, expected, options)
        self.name = codec.name
        self.version = f"{codec.version} on {device.type}"
        self.device = device
        self._codec = codec

    def decode_batch(self, shard: Shard, refs: tuple[CellRef, ...]) -> Batch:
        """Read, check and decode in a thread of the pool."""
        with enough_memory(
            "decoding", "fewer --threads, a smaller --batch-size, or --decode-on cpu"
        ):
            if not hasattr(self.local, "codec"):
                self.local.codec = self._codec(self.expected, self.device)
            codec: DeviceCodec = self.local.codec
            opened = [opened_cell(ref, codec, self.read, self.options.max_pixels) for ref in refs]
            return self._batch(shard, codec, opened)

    @torch.inference_mode()
    def _batch(
        self, shard: Shard, codec: DeviceCodec, opened: Sequence[OpenedCell | Fault]
    ) -> Batch:
        """Decode what was opened, group by group, and put good and bad together again."""
        size = (len(opened), self.expected.height, self.expected.width, 3)
        faults = {cell.ref: cell for cell in opened if isinstance(cell, Fault)}
        good: list[tuple[CellRef, CellFacts]] = []
        with codec.stream:
            inputs = torch.zeros(size, dtype=torch.uint8, device=self.device)
        for group in _groups([cell for cell in opened if isinstance(cell, OpenedCell)]):
            images = []
            with codec.stream:
                for cell, found in zip(group, codec.decode(group), strict=True):
                    if isinstance(found, Fault):
                        faults[cell.ref] = found
                        continue
                    images.append(found[0])
                    good.append((cell.ref, found[1]))
                resize_into(inputs[len(good) - len(images) : len(good)], images, self.expected)
            codec.stream.wait()  # before the images are let go, and the buffer is filled again
        pixels = inputs[: len(good)]
        with codec.stream:
            measured = quality(pixels).cpu().numpy()
        codec.stream.wait()
        return Batch(
            shard=shard,
            refs=tuple(ref for ref, _ in good),
            facts=tuple(facts for _, facts in good),
            pixels=pixels if self.device.type == "cuda" else pixels.numpy(),
            faults=tuple(faults[cell.ref] for cell in opened if cell.ref in faults),
            quality=measured,
        )


def _groups(cells: Sequence[OpenedCell]) -> Iterator[list[OpenedCell]]:
    """Cut cells into runs of at most GROUP_PIXELS together; a larger one goes alone."""
    group: list[OpenedCell] = []
    pixels = 0
    for cell in cells:
        more = cell.encoded.height * cell.encoded.width
        if group and pixels + more > GROUP_PIXELS:
            yield group
            group, pixels = [], 0
        group.append(cell)
        pixels += more
    if group:
        yield group


def _body(cell: OpenedCell) -> BmpBody | None:
    """Return where a plain BMP's pixels lie."""
    return cell.encoded.body if isinstance(cell.encoded, DeviceEncoded) else None


def _piece(cell: OpenedCell) -> tuple[NDArray[np.uint8], CellFacts] | Fault:
    """Return what to upload: a BMP's bytes as they are, or the host's pixels."""
    body = _body(cell)
    if body is None:
        return decoded_cell(cell)
    rows = np.frombuffer(cell.data, np.uint8, body.size, body.offset)
    return rows, replace(cell.facts, codec="raw-bmp")
