"""Every kind of image file a lab may have, drawn: good ones and bad ones."""

from __future__ import annotations

import io
import struct
import zlib
from functools import cache

import numpy as np
import png
import tifffile
from draw_cells import draw_cell
from PIL import Image

SIZE = (90, 70)
CUTS = (0.1, 0.5, 0.97)


def _saved(image, kind, **options):
    file = io.BytesIO()
    image.save(file, kind, **options)
    return file.getvalue()


def _tiff(pixels, **options):
    file = io.BytesIO()
    tifffile.imwrite(file, pixels, **options)
    return file.getvalue()


def _png(pixels, **options):
    file = io.BytesIO()
    height, width = pixels.shape[:2]
    png.Writer(width, height, **options).write(file, pixels.reshape(height, -1).tolist())
    return file.getvalue()


def _exif(orientation):
    exif = Image.Exif()
    exif[0x0112] = orientation
    return exif


def _top_down(bmp):
    """Store the rows of a BMP from the top, as a negative height says."""
    data = bytearray(bmp)
    data[22:26] = struct.pack("<i", -struct.unpack_from("<i", data, 22)[0])
    return bytes(data)


@cache
def good():
    """Return name -> bytes of files that must be scored, by any decoder, to the same pixels."""
    cell = draw_cell(7, SIZE)
    pixels = np.asarray(cell)
    deep = pixels.astype(np.uint16) * 257
    see_through = cell.copy()
    see_through.putalpha(cell.convert("L"))
    palette = cell.convert("P", palette=Image.Palette.ADAPTIVE)
    return {
        "plain.bmp": _saved(cell, "BMP"),
        "top-down.bmp": _top_down(_saved(cell, "BMP")),
        "palette.bmp": _saved(palette, "BMP"),
        "grey.bmp": _saved(cell.convert("L"), "BMP"),
        "600.bmp": _saved(draw_cell(8, (600, 600)), "BMP"),
        "baseline.jpg": _saved(cell, "JPEG", quality=92),
        "progressive.jpg": _saved(cell, "JPEG", quality=92, progressive=True),
        "cmyk.jpg": _saved(cell.convert("CMYK"), "JPEG", quality=92),
        "grey.jpeg": _saved(cell.convert("L"), "JPEG", quality=92),
        **{f"exif{n}.jpg": _saved(cell, "JPEG", exif=_exif(n)) for n in range(1, 9)},
        "rgb.png": _saved(cell, "PNG"),
        "png named.jpg": _saved(cell, "PNG"),
        "palette.png": _saved(palette, "PNG"),
        "palette-transparent.png": _saved(palette, "PNG", transparency=3),
        "alpha.png": _saved(see_through, "PNG"),
        "grey-alpha.png": _saved(see_through.convert("LA"), "PNG"),
        "16bit.png": _png(deep, bitdepth=16, greyscale=False),
        "16bit-grey.png": _png(deep[..., 0], bitdepth=16, greyscale=True),
        "interlaced.png": _png(pixels, bitdepth=8, greyscale=False, interlace=True),
        "lzw.tif": _saved(cell, "TIFF", compression="tiff_lzw"),
        "raw.tiff": _saved(cell, "TIFF"),
        "tiled.tif": _tiff(pixels, tile=(32, 32), photometric="rgb", compression="lzw"),
        "planar.tif": _tiff(pixels.transpose(2, 0, 1), photometric="rgb", planarconfig="separate"),
        "16bit.tif": _tiff(deep, photometric="rgb"),
        "16bit-grey.tif": _tiff(deep[..., 0], photometric="minisblack"),
        "two-pages.tif": _tiff(np.stack([pixels, pixels[::-1]]), photometric="rgb"),
        "555.bmp": _bmp555(),
        "exif6.tif": _saved(cell, "TIFF", exif=_exif(6)),
        "lossy.webp": _saved(cell, "WEBP", quality=90),
        "lossless.webp": _saved(cell, "WEBP", lossless=True),
        "exif6.webp": _saved(cell, "WEBP", lossless=True, exif=_exif(6)),
        "plain.jp2": _saved(cell, "JPEG2000"),
        "codestream.j2k": _saved(cell, "JPEG2000", no_jp2=True),
        "plain.ppm": _saved(cell, "PPM"),
        "plain.pgm": _saved(cell.convert("L"), "PPM"),
        "wide.png": _saved(draw_cell(9, (300, 60)), "PNG"),
        "tall.png": _saved(draw_cell(9, (1, 60)), "PNG"),
        "one.png": _saved(draw_cell(9, (1, 1)), "PNG"),
    }


@cache
def bad():
    """Return name -> bytes of files that must not be scored, by any decoder."""
    truncated = {
        f"cut{int(100 * share)}-{name}": data[: int(len(data) * share)]
        for name, data in good().items()
        for share in CUTS
        if name in TRUNCATED
    }
    deep = np.arange(6300, dtype=np.uint32).reshape(70, 90)
    flipped = bytearray(good()["rgb.png"])
    flipped[len(flipped) // 2] ^= 1
    return {
        **truncated,
        **{f"short{cut}.bmp": good()["plain.bmp"][:-cut] for cut in (64, 300)},
        "empty.jpg": b"",
        "text.jpg": b"this is no image at all",
        "warned.jpg": _warned(good()["baseline.jpg"]),
        "flipped.png": bytes(flipped),
        "killer.jp2": _tileless(good()["plain.jp2"]),
        "12bit.tif": _tiff(deep.astype(np.uint16), photometric="minisblack", bitspersample=12),
        "16bit-white-zero.tif": _tiff(deep.astype(np.uint16), photometric="miniswhite"),
        "signed.tif": _tiff(deep.astype(np.int8), photometric="minisblack"),
        "digits.pgm": b"P5\n2 2\n" + b"9" * 5000 + b"\n1234",
        "32bit.tif": _tiff(deep, photometric="minisblack"),
        "float.tif": _tiff(deep.astype(np.float32), photometric="minisblack"),
        "stated.png": stated_png(),
        "stated.webp": stated_webp(),
        "scans.jpg": scans(good()["progressive.jpg"], 100),
        "tiles.tif": tiled_tiff((5_000_000, 4), 16),
        "wide-tiles.tif": tiled_tiff((500, 500), 8192),
        "tiles.jp2": _tiny_tiles(good()["plain.jp2"]),
        "maximum100.pgm": b"P5\n2 2\n100\n" + bytes([0, 50, 75, 100]),
    }


TRUNCATED = frozenset(
    ["plain.bmp", "baseline.jpg", "progressive.jpg", "rgb.png", "interlaced.png", "lzw.tif"]
    + ["raw.tiff", "tiled.tif", "lossy.webp", "lossless.webp", "plain.jp2", "plain.ppm"]
)


def _bmp555():
    """Return a 16-bit BMP, five bits a colour, as old microscopes write."""
    width, height = 64, 48
    pixels = np.random.default_rng(0).integers(0, 2**15, (height, width), dtype="<u2").tobytes()
    header = struct.pack("<IiiHHIIiiII", 40, width, height, 1, 16, 0, len(pixels), 0, 0, 0, 0)
    return b"BM" + struct.pack("<IHHI", 54 + len(pixels), 0, 0, 54) + header + pixels


def _tileless(jp2):
    """Claim tiles of no width in a JPEG 2000: NVIDIA DALI then divides by zero."""
    data = bytearray(jp2)
    size = data.index(b"\xff\x51")
    data[size + 22 : size + 26] = bytes(4)
    return bytes(data)


def stated_png():
    """Return 41 bytes of which the last eight state a chunk of four gigabytes."""
    return good()["rgb.png"][:33] + struct.pack(">I4s", 2**32 - 1, b"eXIf")


def stated_webp():
    """Return the beginning of a WebP whose Exif chunk states four gigabytes."""
    canvas = b"VP8X" + struct.pack("<IB9x", 10, 8)
    body = b"WEBP" + canvas + b"EXIF" + struct.pack("<I", 2**32 - 2)
    return b"RIFF" + struct.pack("<I", len(body)) + body


def scans(progressive, count):
    """Repeat the last scan of a progressive JPEG *count* times."""
    last = progressive.rindex(b"\xff\xda")
    return progressive[:-2] + progressive[last:-2] * count + progressive[-2:]


def tiled_tiff(size, tile):
    """Return a small grey TIFF that states (height, width) in deflated tiles of *tile* squared."""
    height, width = size
    body = zlib.compress(bytes(tile * tile))
    tags = [(256, width), (257, height), (258, 8), (259, 8), (262, 1), (277, 1)]
    tags += [(322, tile), (323, tile), (324, 8 + 2 + 12 * 10 + 4), (325, len(body))]
    entries = b"".join(struct.pack("<HHII", tag, 4, 1, value) for tag, value in tags)
    return b"II*\0" + struct.pack("<IH", 8, len(tags)) + entries + bytes(4) + body


def _tiny_tiles(jp2):
    """Claim tiles of one pixel in a JPEG 2000 of four megapixels."""
    data = bytearray(jp2)
    size = data.index(b"\xff\x51")
    data[size + 6 : size + 14] = struct.pack(">II", 2000, 2000)
    data[size + 22 : size + 30] = struct.pack(">II", 1, 1)
    return bytes(data)


def _warned(jpeg):
    """Lose bytes from the middle of a JPEG's scan: libjpeg warns, Pillow says nothing."""
    scan = jpeg.index(b"\xff\xda") + 14
    middle = (scan + len(jpeg)) // 2
    return jpeg[:middle] + jpeg[middle + 200 :]


def wide_bmp():
    """Return a BMP whose width is negative: as Pillow reads it, 2**32 - 5."""
    data = bytearray(good()["plain.bmp"])
    data[18:22] = struct.pack("<i", -5)
    return bytes(data)


def huge_png():
    """Return a small file whose header claims 100 megapixels."""
    data = bytearray(good()["rgb.png"])
    data[16:24] = struct.pack(">II", 10_000, 10_000)

    data[29:33] = struct.pack(">I", zlib.crc32(bytes(data[12:29])))
    return bytes(data)
