"""
Decoding batch by batch, on the processor or a GPU: what a codec of batches needs around it.

The codec decodes JPEG and PNG, the plain ones; a plain BMP is put upright from its bytes, and the
reference decodes the rest on the processor. Pixels stay on the device.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, TypeAlias

import numpy as np
import torch

from engines.cells import Batch, Fault
from engines.decode.cell_limits import cell_begins
from engines.decode.checks import OpenedCell, decoded_cell, opened_cell
from engines.decode.file_formats import plain_bmp, plain_jpeg_size, plain_png_size
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
    from engines.decode.base import DecodeOptions, Encoded
    from engines.decode.file_formats import BmpBody
    from engines.models.input import ModelInput

__all__ = ["BatchCodec", "BatchDecoder"]

GROUP_PIXELS = 8_000_000  # decoded and resized at once in a thread: some 200 MB at work

Found: TypeAlias = "tuple[Tensor, CellFacts] | Fault"


@dataclass(slots=True)
class BatchEncoded:
    """
    An image that the codec takes, or a plain BMP.

    Attributes:
        height: In pixels.
        width: Likewise.
        body: Where a BMP's pixels lie; None for what is to be decoded.
        data: The file's bytes.
    """

    height: int
    width: int
    body: BmpBody | None
    data: bytes

    def decode(self) -> tuple[NDArray[np.uint8], str]:
        """Have it decoded by the reference after all."""
        return PillowEncoded(self.data).decode()


class BatchCodec(ABC):
    """
    What one thread decodes with; derived classes say who decodes JPEG and PNG.

    Attributes:
        name: Of the decoder it makes.
        version: Of the packages behind it.
        stream: The CUDA stream that everything is enqueued in; on the processor, one that does
            everything at once.
    """

    name: str
    version: str

    def __init__(self, device: torch.device) -> None:
        """Open a stream on *device*."""
        self.stream = open_stream(device)
        self._uploader = Uploader(self.stream)

    @abstractmethod
    def decode_encoded(self, images: Sequence[bytes]) -> list[Tensor | None]:
        """
        Decode images, enqueued in ``stream``; not again before that was waited for.

        Returns:
            For each its pixels, ``(height, width, 3)`` uint8 RGB on the device; None where the
            reference is to decide.

        Raises:
            DeviceError: If memory runs out.
        """

    def open(self, data: bytes) -> Encoded:
        """Read the header, and see what kind of image it is."""
        if (body := plain_bmp(data)) is not None:
            return BatchEncoded(body.height, body.width, body, data)
        if (size := plain_jpeg_size(data) or plain_png_size(data)) is not None:
            return BatchEncoded(*size, None, data)
        return PillowEncoded(data)

    def decode(self, cells: Sequence[OpenedCell]) -> list[Found]:
        """Decode cells; call inside the stream, and wait for it before the next call."""
        found: dict[int, Found] = dict(self._decoded(cells))
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

    def _decoded(self, cells: Sequence[OpenedCell]) -> Iterator[tuple[int, Found]]:
        """Yield what the codec decoded, whole, with its place among the cells."""
        chosen = [
            index
            for index, cell in enumerate(cells)
            if isinstance(cell.encoded, BatchEncoded) and cell.encoded.body is None
        ]
        if not chosen:
            return
        name = f"{self.name}-gpu" if self.stream.handle else self.name
        images = self.decode_encoded([cells[index].data for index in chosen])
        for index, image in zip(chosen, images, strict=True):
            cell = cells[index]
            if image is not None and image.shape == (cell.encoded.height, cell.encoded.width, 3):
                yield index, (image, replace(cell.facts, codec=name))


class BatchDecoder(PrefetchingDecoder):
    """A Decoder (see ``engines.decode.base``) whose pixels stay where they are decoded."""

    look_ahead_cells = 8192  # 1.2 GB of the GPU's memory at 224 x 224
    cells_at_once = 32  # in batches of 4, DALI takes twice the time for a cell

    def __init__(
        self,
        codec: type[BatchCodec],
        read: Read,
        expected: ModelInput,
        options: DecodeOptions,
        device: torch.device,
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
                torch.set_num_threads(1)  # of this thread: batches are what runs side by side
                self.local.codec = self._codec(self.device)
            codec: BatchCodec = self.local.codec
            self.fetch_ahead(refs)
            opened = [opened_cell(ref, codec, self.read, self.options.max_pixels) for ref in refs]
            return self._batch(shard, codec, opened)

    @torch.inference_mode()
    def _batch(
        self, shard: Shard, codec: BatchCodec, opened: Sequence[OpenedCell | Fault]
    ) -> Batch:
        """Decode what was opened, group by group, and put good and bad together again."""
        size = (len(opened), self.expected.height, self.expected.width, 3)
        faults = {cell.ref: cell for cell in opened if isinstance(cell, Fault)}
        good: list[tuple[CellRef, CellFacts]] = []
        with codec.stream:
            inputs = torch.zeros(size, dtype=torch.uint8, device=self.device)
        for group in _groups([cell for cell in opened if isinstance(cell, OpenedCell)]):
            cell_begins()
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
    return cell.encoded.body if isinstance(cell.encoded, BatchEncoded) else None


def _piece(cell: OpenedCell) -> tuple[NDArray[np.uint8], CellFacts] | Fault:
    """Return what to upload: a BMP's bytes as they are, or the host's pixels."""
    body = _body(cell)
    if body is None:
        return decoded_cell(cell)
    rows = np.frombuffer(cell.data, np.uint8, body.size, body.offset)
    return rows, replace(cell.facts, codec="raw-bmp")
