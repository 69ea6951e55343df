"""What a file may claim before any decoder sees it."""

from __future__ import annotations

import resource
import struct

import pytest
import zoo

from engines.cells import CellRef, Fault
from engines.decode import checks
from engines.decode.checks import opened_cell
from engines.decode.header_limits import MOST_SCANS, overclaim, webp_size
from engines.decode.pillow import PillowCodec, PillowEncoded
from engines.models.input import ModelInput
from engines.sources.folder import FolderSource

HALF = (0.5, 0.5, 0.5)
EXPECTED = ModelInput(height=48, width=64, mean=HALF, std=HALF)
CELL = CellRef("cell", "slide")
MOST_PIXELS = 25_000_000


def opened(data, codec=None):
    """Check one cell's bytes."""
    return opened_cell(CELL, codec or PillowCodec(EXPECTED), lambda _: data, MOST_PIXELS)


@pytest.mark.parametrize("path", sorted(zoo.good()))
def test_no_good_file_claims_too_much(path):
    """What a lab may have is within the limits."""
    assert overclaim(zoo.good()[path]) is None


@pytest.mark.parametrize(
    ("path", "reason"),
    [
        ("stated.png", "truncated PNG: it states a chunk 'eXIf' of 4,294,967,295 bytes"),
        ("stated.webp", "truncated WebP: it states a chunk 'EXIF' of 4,294,967,294 bytes"),
        ("scans.jpg", "JPEG of 110 scans, more than 100"),
        ("tiles.jp2", "JPEG 2000 of 4,000,000 tiles, more than 100,000"),
    ],
)
def test_a_claim_is_refused_before_a_codec_sees_it(path, reason):
    """The codec's header reader is not even called."""

    class Watched:
        def open(self, data):
            raise AssertionError(f"a codec saw {len(data)} bytes")

    fault = opened(zoo.bad()[path], Watched())

    assert (fault.status, fault.reason) == ("undecodable", reason)


@pytest.mark.parametrize(
    ("path", "reason"),
    [
        ("tiles.tif", "TIFF of 312,500 tiles, more than 100,000"),
        ("wide-tiles.tif", "TIFF of tiles of 8192 x 8192 for 500 x 500 pixels"),
    ],
)
def test_a_tiffs_tiles_are_counted(path, reason):
    """Before the first is decoded, by what its header says."""
    fault = checks.decoded_cell(opened(zoo.bad()[path]))

    assert (fault.status, fault.reason) == ("undecodable", reason)


def test_a_stated_length_takes_no_memory():
    """The 41 bytes that took a codec four gigabytes take nothing."""
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss

    for path in ("stated.png", "stated.webp"):
        assert isinstance(opened(zoo.bad()[path]), Fault)

    assert resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before < 100_000  # kB


def test_as_many_scans_as_are_allowed_are_decoded():
    """The limit itself is still within the limit."""
    data = zoo.scans(zoo.good()["progressive.jpg"], MOST_SCANS - 10)

    assert overclaim(data) is None


def test_what_looks_like_a_scan_in_a_segment_is_none():
    """Only markers count, not bytes of a comment that resemble them."""
    jpeg = zoo.good()["baseline.jpg"]
    comment = b"\xff\xda" * 1000
    data = jpeg[:2] + b"\xff\xfe" + struct.pack(">H", 2 + len(comment)) + comment + jpeg[2:]

    assert overclaim(data) is None


@pytest.mark.parametrize("path", ["lossy.webp", "lossless.webp", "exif6.webp"])
def test_a_webps_size_is_pillows(path):
    """All three kinds of WebP state their size."""
    encoded = PillowEncoded(zoo.good()[path])

    assert webp_size(zoo.good()[path]) == (encoded.height, encoded.width)


def test_a_huge_canvas_is_oversized_and_never_opened():
    """Pillow would allocate it to read the header."""
    canvas = b"VP8X" + struct.pack("<I4x", 10) + b"\xff\x3f\x00" * 2
    body = b"WEBP" + canvas + bytes(12)

    fault = opened(b"RIFF" + struct.pack("<I", len(body)) + body)

    assert (fault.status, fault.reason) == ("oversized", "16384 x 16384 pixels")


def test_whatever_a_cell_raises_costs_that_cell():
    """A codec's own bug on one file ends no run."""

    class Broken:
        def open(self, data):
            return [][len(data)]

    fault = opened(b"some bytes", Broken())

    assert fault.status == "undecodable"
    assert fault.reason == "IndexError: list index out of range"


def test_what_reads_as_nothing_is_unreadable():
    """A file of the kernel may have nothing to give; that is one row."""
    fault = opened(None)

    assert (fault.status, fault.reason) == ("unreadable", "it reads as nothing")


@pytest.mark.parametrize("kernel", ["/proc/self/status", "/proc/self/pagemap", "/proc/version"])
def test_a_link_to_a_kernel_file_is_an_empty_file(tmp_path, kernel):
    """It says that it has no bytes, and is taken at its word: some never end."""
    (tmp_path / "cell.png").symlink_to(kernel)
    source = FolderSource(tmp_path)

    data = source.read(CellRef("cell.png", "slide"))

    assert opened(data).reason == "empty file"
