"""
The reference decoder: what a cell's pixels are, in plain Pillow.

The rules, which every other decoder follows: EXIF orientation is applied; 16-bit samples are
scaled to 8 (``round(value / 257)``); alpha is dropped and the colours kept as stored; palette,
grey, bilevel and CMYK become RGB; of several pages or frames the first counts. Samples of other
than 1, 2, 4, 8 or 16 bits, signed or floating-point ones, and 16-bit ones whose zero is white are
refused: nothing says what their white is, or Pillow does not heed it.
"""

from __future__ import annotations

import io
from importlib import import_module
from typing import TYPE_CHECKING

import numpy as np
import PIL
from PIL import Image, ImageOps, UnidentifiedImageError
from PIL.TiffImagePlugin import TiffImageFile

from engines.decode.base import DecodeError
from engines.decode.header_limits import too_many_tiles

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from engines.cells import Read
    from engines.decode.base import DecodeOptions, Decoder
    from engines.models.input import ModelInput

__all__ = ["PillowCodec", "PillowEncoded", "open_decoder"]

WIDTH, LENGTH, BITS_PER_SAMPLE, PHOTOMETRIC, SAMPLE_FORMAT = 256, 257, 258, 262, 339
ROWS_PER_STRIP, TILE_WIDTH, TILE_LENGTH = 278, 322, 323
SAFE_BITS, UNSIGNED, WHITE_IS_ZERO = {1, 2, 4, 8, 16}, 1, 0
PLUGINS = ("Bmp", "Jpeg", "Jpeg2K", "Mpo", "Png", "Ppm", "Tiff", "WebP")
FORMATS = ("BMP", "DIB", "JPEG", "JPEG2000", "PNG", "PPM", "TIFF", "WEBP")
for plugin in PLUGINS:  # where formats are named, Pillow loads no plugin of its own accord
    import_module(f"PIL.{plugin}ImagePlugin")
FILTERS = {"bilinear": Image.Resampling.BILINEAR, "bicubic": Image.Resampling.BICUBIC}

# Our own limit is checked before any decoding, and is the user's to set.
Image.MAX_IMAGE_PIXELS = None


class PillowEncoded:
    """An image opened by Pillow."""

    def __init__(self, data: bytes) -> None:
        """Read the header."""
        try:
            self._image = Image.open(io.BytesIO(data), formats=FORMATS)
        except UnidentifiedImageError as error:
            raise DecodeError("not an image in a format that can be read") from error
        except MemoryError:
            raise
        except Exception as error:
            raise DecodeError(_reason(error)) from error
        self.width, self.height = _stored_size(self._image)

    def decode(self) -> tuple[NDArray[np.uint8], str]:
        """Decode by the rules above."""
        try:
            _refuse_doubtful_tiff(self._image)
            sixteen_bit = self._image.mode.startswith("I;16") or self._image.format == "PPM"
            return _rgb(ImageOps.exif_transpose(self._image), sixteen_bit=sixteen_bit), "pillow"
        except (DecodeError, MemoryError):
            raise
        except Exception as error:
            raise DecodeError(_reason(error)) from error


class PillowCodec:
    """Pillow as a Codec."""

    name = "pillow"
    version = f"pillow {PIL.__version__}"

    def __init__(self, expected: ModelInput) -> None:
        """Resize as the model expects."""
        self._filter = FILTERS[expected.filter]

    def open(self, data: bytes) -> PillowEncoded:
        """Read the header."""
        return PillowEncoded(data)

    def resize(self, image: NDArray[np.uint8], height: int, width: int) -> NDArray[np.uint8]:
        """Resize with Pillow, which always antialiases."""
        return np.asarray(Image.fromarray(image).resize((width, height), self._filter))


def open_decoder(read: Read, expected: ModelInput, options: DecodeOptions) -> Decoder:
    """Open Pillow as a decoder, on the processor."""
    from engines.decode.cpu import HostDecoder  # loads torch, which the codec alone does not need

    return HostDecoder(PillowCodec, read, expected, options)


def _rgb(image: Image.Image, *, sixteen_bit: bool) -> NDArray[np.uint8]:
    """Turn whatever was stored into 8-bit RGB."""
    if image.mode.startswith("I") and sixteen_bit:
        wide = np.asarray(image).astype(np.uint32)
        image = Image.fromarray(((wide * 255 + 32767) // 65535).astype(np.uint8))
    if image.mode in ("I", "F"):
        raise DecodeError("32-bit samples have no agreed white")
    return np.asarray(image.convert("RGB"))


def _stored_size(image: Image.Image) -> tuple[int, int]:
    """Return width and height before any rotation, which Pillow has applied to a TIFF's."""
    if isinstance(image, TiffImageFile):
        return int(image.tag_v2[WIDTH]), int(image.tag_v2[LENGTH])
    return image.size


def _refuse_doubtful_tiff(image: Image.Image) -> None:
    """Raise DecodeError for too many tiles, or samples that Pillow would read as another kind."""
    if not isinstance(image, TiffImageFile):
        return
    if reason := _tile_overclaim(image):
        raise DecodeError(f"TIFF of {reason}")
    bits = set(image.tag_v2.get(BITS_PER_SAMPLE, (1,)))
    if not bits <= SAFE_BITS or set(image.tag_v2.get(SAMPLE_FORMAT, (UNSIGNED,))) != {UNSIGNED}:
        raise DecodeError("samples that are signed, floating-point or of an unusual depth")
    if bits == {16} and image.tag_v2.get(PHOTOMETRIC) == WHITE_IS_ZERO:
        raise DecodeError("16-bit samples whose zero is white")


def _tile_overclaim(image: TiffImageFile) -> str | None:
    """Return what is wrong with the number or the size of a TIFF's tiles or strips, or None."""
    width, height = _stored_size(image)
    tags = image.tag_v2
    tile_width, tile_height = tags.get(TILE_WIDTH, width), tags.get(TILE_LENGTH)
    if tile_height is None:
        tile_height = min(tags.get(ROWS_PER_STRIP, height), height)
    return too_many_tiles(height, width, max(1, tile_height), max(1, tile_width))


def _reason(error: Exception) -> str:
    """Say in one line what Pillow found."""
    return " ".join(str(error).split()) or type(error).__name__
