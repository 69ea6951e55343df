"""Decoders agree on what is damaged: mutants of every kind of file, refused by all or by none."""

from __future__ import annotations

import io
import random
import struct
import zlib

import numpy as np
import pytest
import zoo
from PIL import Image

from engines.backends import open_decoder
from engines.cells import CellRef, Shard
from engines.decode.base import DecodeOptions
from engines.decode.header_limits import PNG_SIGNATURE, png_chunks
from engines.decode.integrity import damage
from engines.models.input import ModelInput
from engines.parity import PIXEL_P999_LIMIT
from engines.registry import decoder_names

HALF = (0.5, 0.5, 0.5)
EXPECTED = ModelInput(height=48, width=64, mean=HALF, std=HALF)
KINDS = {"png": (".png",), "jpeg": (".jpg", ".jpeg"), "webp": (".webp",), "pnm": (".ppm", ".pgm")}
FEW, MANY = 100, 5000  # mutants of a kind


def mutant(data, chance):
    """Flip, set, remove, repeat, blank or cut bytes, mostly near the beginning or anywhere."""
    mutated = bytearray(data)
    for _ in range(chance.choice([1, 1, 1, 2, 4])):
        first = chance.randrange(min(len(mutated), chance.choice([64, len(mutated)])))
        piece = slice(first, first + chance.choice([1, 2, 4, 8, 30, 200]))
        deed = chance.randrange(6)
        if deed == 0:
            mutated[first] ^= 1 << chance.randrange(8)
        elif deed == 1:
            mutated[first] = chance.randrange(256)
        elif deed == 2:
            del mutated[piece]
        elif deed == 3:
            mutated[first:first] = mutated[piece]
        elif deed == 4:
            mutated[piece] = bytes(len(mutated[piece]))
        else:
            del mutated[-min(piece.stop - first, len(mutated) - 1) :]
        mutated = mutated or bytearray(b"x")
    return bytes(mutated)


def png_mutant(data, chance):
    """Lose, repeat, swap or damage the chunks of a PNG, with checksums that are right."""
    if not data.startswith(PNG_SIGNATURE) or chance.random() < 0.2:
        return mutant(data, chance)
    chunks = [(kind, bytearray(data[start:end])) for kind, start, end in png_chunks(data)]
    deed, first = chance.randrange(4), chance.randrange(len(chunks))
    kind, body = chunks[first]
    if deed == 0:
        del chunks[first]
    elif deed == 1:
        chunks.insert(first, chunks[first])
    elif deed == 2:
        other = chance.randrange(len(chunks))
        chunks[first], chunks[other] = chunks[other], chunks[first]
    elif body:
        chunks[first] = kind, bytearray(mutant(body, chance))
    return PNG_SIGNATURE + b"".join(
        struct.pack(">I", len(body)) + kind + body + struct.pack(">I", zlib.crc32(kind + body))
        for kind, body in chunks
    )


def mutants(kind, count):
    """Return name -> bytes of mutants of the good files of a kind, the same ones every time."""
    chance = random.Random(kind)
    good = sorted(name for name in zoo.good() if name.endswith(KINDS[kind]))
    change = png_mutant if kind == "png" else mutant
    return {
        f"{number}-{name}": change(zoo.good()[name], chance)
        for number in range(count)
        for name in [good[number % len(good)]]
    }


def decoded(name, files):
    """Return the pixels of the cells that are ok, and the statuses of the others."""
    decoder = open_decoder(name, lambda ref: files[ref.path], EXPECTED, DecodeOptions(threads=1))
    batches = list(decoder.stream([Shard(0, tuple(CellRef(path, "s") for path in files))]))
    pixels = {
        ref.path: image.astype(int)
        for batch in batches
        for ref, image in zip(batch.refs, batch.host_pixels, strict=True)
    }
    return pixels, {fault.ref.path: fault.status for batch in batches for fault in batch.faults}


def loads(data):
    """Whether plain Pillow decodes a file."""
    try:
        Image.open(io.BytesIO(data)).load()
    except Exception:
        return False
    return True


@pytest.mark.filterwarnings("ignore")  # what Pillow warns about is decided by what it decodes
@pytest.mark.parametrize("count", [FEW, pytest.param(MANY, marks=pytest.mark.long)])
@pytest.mark.parametrize("kind", KINDS)
def test_decoders_agree_on_what_is_damaged(kind, count):
    """Every decoder scores the same mutants, to the same pixels, and none that Pillow refuses."""
    files = mutants(kind, count)
    expected, refused = decoded("pillow", files)

    for name in sorted(set(decoder_names()) - {"pillow"}):
        pixels, statuses = decoded(name, files)
        assert statuses.keys() == refused.keys()  # oversized may come before undecodable
        assert all(
            np.percentile(np.abs(image - expected[path]), 99.9) <= PIXEL_P999_LIMIT
            for path, image in pixels.items()
        )
    assert [path for path in expected if not loads(files[path])] == []


@pytest.mark.parametrize("name", ["lossy.webp", "lossless.webp", "exif6.webp"])
def test_a_webp_is_as_long_as_its_chunks(name):
    """One that has lost or gained bytes at its end, with the length set right, is damaged."""
    data = zoo.good()[name]
    assert damage(data) is None
    for changed in (data + b"\0" * 10, data[:-10]):
        length = struct.pack("<I", len(changed) - 8)
        assert damage(changed[:4] + length + changed[8:])
