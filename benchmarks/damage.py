"""
What share of damaged files passes as sound, and how many of those show wrong pixels.

100 crops are written in each format; then, from the same seeds in every run,

- 1, 3 or 20 bits are flipped in the file's body: the compressed or raw pixels, past all headers
  (a flipped header bit is caught more often, so this is the hard case);
- or the file is cut to 10, 50 or 97% of its length, or lacks its last 64 bytes.

Each damaged file goes through ``--decoder dali`` and ``--decoder pillow`` as ``slidescreen run``
opens them, checks included. Counted are the files that come out with status ok; of those, the ones
with a wrong place (any value off by more than 16 of 255) and the ones that differ visibly as a
whole (mean absolute difference above 1 of 255). Both compare with the intact file through the
same decoder, at the model's input size. Intact files must all pass, or the benchmark stops.

It is fair to the formats in that the pictures, the number of bits and the seeds are the same. But a
BMP is some 40 times larger than a JPEG of the same picture, and storage damages bytes, not files.

    python benchmarks/damage.py
"""

from __future__ import annotations

import struct
import tempfile
from dataclasses import dataclass
from functools import partial
from io import BytesIO
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
from material import FORMATS, converted, parser, pictures, spread
from page import print_setting, print_table
from PIL import Image

from engines.backends import open_decoder
from engines.cells import CellRef, Shard
from engines.decode.base import DecodeOptions
from engines.models.bundle import DEFAULT_BUNDLE, ModelBundle
from engines.registry import decoder_names

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence

    from numpy.typing import NDArray

    from engines.decode.base import Decoder

FLIPS = (1, 3, 20)
CUTS = (10, 50, 97)
SHORT = 64  # bytes
WRONG_PLACE = 16  # of 255, any value of the model's input
WRONG_MEAN = 1.0  # of 255
WEBP_BODY = 30  # RIFF and chunk headers, then at most 10 bytes of the bitstream's own

Pixels = dict[str, "NDArray[np.int16]"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Passed:
    """Of a handful of damaged files: how many passed as sound, and how wrong those are."""

    files: int
    ok: int
    wrong_place: int
    wrong_mean: int

    def __str__(self) -> str:
        """One cell of the table."""
        return f"{self.ok} ({self.wrong_place}, {self.wrong_mean})"


def main() -> None:
    """Damage, decode, count and print."""
    arguments = parser(__doc__)
    arguments.add_argument("--files", type=int, default=100, help="of each format")
    given = arguments.parse_args()
    count = 5 if given.small else given.files
    paths = spread(pictures(given.cells, "cnmc-fold0"), count)
    rows: dict[str, list[list[object]]] = {name: [] for name in decoder_names()}
    for name in FORMATS:
        files = _files(paths, name)
        size = sum(map(len, files.values())) / len(files) / 1000
        for decoder in decoder_names():
            found = _counts(files, name, decoder)
            rows[decoder].append([name, f"{size:.0f}", *found])
    kinds = [*(f"{n} flipped" for n in FLIPS), *(f"cut to {n}%" for n in CUTS), f"{SHORT} B short"]
    for decoder in decoder_names():
        title = f"--decoder {decoder}: of {count} damaged files, ok (wrong place, wrong as a whole)"
        print_table(title, ["format", "kB", *kinds], rows[decoder])
    print_setting(small=given.small)


def _files(paths: Sequence[Path], name: str) -> dict[str, bytes]:
    """Encode the pictures in a format."""
    with tempfile.TemporaryDirectory() as scratch:
        made = converted(paths, Path(scratch) / "made", FORMATS[name])
        return {path.name: path.read_bytes() for path in made}


def _counts(files: Mapping[str, bytes], name: str, decoder: str) -> list[Passed]:
    """Try every kind of damage on a format's files."""
    intact = _decoded(files, decoder)
    if intact.keys() != files.keys():
        raise SystemExit(f"{decoder} refuses intact {name}: {sorted(files.keys() - intact.keys())}")
    kinds: list[Callable[[int, bytes], bytes]] = [
        *(partial(_flipped, name, flips) for flips in FLIPS),
        *(partial(_cut, percent) for percent in CUTS),
        lambda _, data: data[:-SHORT],
    ]
    return [_passed(files, kind, decoder, intact) for kind in kinds]


def _passed(
    files: Mapping[str, bytes], kind: Callable[[int, bytes], bytes], decoder: str, intact: Pixels
) -> Passed:
    """Damage each file in one way, decode what still decodes, and compare."""
    damaged = {name: kind(index, data) for index, (name, data) in enumerate(files.items())}
    let_through = _decoded(damaged, decoder)
    errors = [np.abs(pixels - intact[name]) for name, pixels in let_through.items()]
    return Passed(
        files=len(files),
        ok=len(let_through),
        wrong_place=sum(int(error.max() > WRONG_PLACE) for error in errors),
        wrong_mean=sum(int(error.mean() > WRONG_MEAN) for error in errors),
    )


def _decoded(files: Mapping[str, bytes], decoder: str) -> Pixels:
    """Return the pixels of the files that come out with status ok."""
    shard = Shard(0, tuple(CellRef(name, "") for name in files))
    return {
        ref.path: pixels.astype(np.int16)
        for batch in _open(decoder, files).stream([shard])
        for ref, pixels in zip(batch.refs, batch.pixels, strict=True)
    }


def _open(decoder: str, files: Mapping[str, bytes]) -> Decoder:
    """Open a decoder as the run does, over files in memory."""
    expected = ModelBundle.load(DEFAULT_BUNDLE).input
    return open_decoder(decoder, lambda ref: files[ref.path], expected, DecodeOptions())


def _cut(percent: int, _: int, data: bytes) -> bytes:
    """Keep the first *percent* of a file."""
    return data[: len(data) * percent // 100]


def _flipped(name: str, flips: int, index: int, data: bytes) -> bytes:
    """Flip distinct bits of a file's body; the same ones in every run."""
    start, stop = _body(FORMATS[name].name, data)
    dice = np.random.default_rng([index, flips])
    changed = np.frombuffer(data, np.uint8).copy()
    bits = dice.choice((stop - start) * 8, flips, replace=False)
    np.bitwise_xor.at(changed, start + bits // 8, (1 << (bits % 8)).astype(np.uint8))
    return changed.tobytes()


def _body(form: str, data: bytes) -> tuple[int, int]:
    """Return where a file's pixels begin and end, for files that Pillow wrote."""
    match form:
        case "JPEG":
            return _jpeg_scan(data), len(data) - 2  # before the end marker
        case "PNG":
            return data.index(b"IDAT") + 4, len(data) - 12  # before IEND
        case "BMP":
            return struct.unpack_from("<I", data, 10)[0], len(data)
        case "TIFF":
            return _tiff_strips(data)
        case "JPEG2000":
            return data.index(b"\xff\x93") + 2, len(data) - 2  # start of data to end of codestream
        case _:
            return WEBP_BODY, len(data)


def _jpeg_scan(data: bytes) -> int:
    """Return where the first scan's data begins, walking the segments before it."""
    position = 2
    while True:
        marker, length = struct.unpack_from(">HH", data, position)
        position += 2 + length
        if marker == 0xFFDA:
            return position


def _tiff_strips(data: bytes) -> tuple[int, int]:
    """Return where the strips lie, which Pillow writes one after the other."""
    with Image.open(BytesIO(data)) as image:
        offsets, lengths = image.tag_v2[273], image.tag_v2[279]
    return min(offsets), max(map(sum, zip(offsets, lengths, strict=True)))


if __name__ == "__main__":
    main()
