"""The decoder contract, over every decoder that is installed."""

from __future__ import annotations

import random
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import zoo
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from engines.backends import decoder_candidates, open_decoder
from engines.cells import CellRef, Shard
from engines.decode.base import DecodeOptions
from engines.decode.geometry import placement
from engines.errors import BackendMissingError
from engines.models.input import ModelInput
from engines.parity import PIXEL_MEAN_LIMIT, PIXEL_P999_LIMIT
from engines.registry import DECODERS

HALF = (0.5, 0.5, 0.5)
SQUASH = ModelInput(height=48, width=64, mean=HALF, std=HALF)
PAD = ModelInput(height=48, width=64, fit="pad", mean=HALF, std=HALF)
MIDDLE = replace(SQUASH, crop_pct=0.57)
FILES = {**zoo.good(), **zoo.bad(), "huge.png": zoo.huge_png()}


def read(ref):
    """Read from the zoo; what is not there has vanished."""
    if ref.path not in FILES:
        raise FileNotFoundError(2, "No such file or directory")
    return FILES[ref.path]


def opened(name, read, expected, options):
    """Open a decoder; a name that ends in ``-gpu`` asks for it on a GPU."""
    if name.endswith("-gpu"):
        name, options = name.removesuffix("-gpu"), replace(options, device="gpu")
    return open_decoder(name, read, expected, options)


BY_ROW = [
    row.name if device == "cpu" else pytest.param(f"{row.name}-{device}", marks=pytest.mark.gpu)
    for row in DECODERS
    for device in row.devices
]


def decoded(name, paths, expected=SQUASH, **options):
    """Return (path -> pixels, path -> fault) and the order in which paths came."""
    decoder = opened(name, read, expected, DecodeOptions(**{"threads": 2, **options}))
    shard = Shard(0, tuple(CellRef(path, "slide") for path in paths))
    batches = list(decoder.stream([shard]))
    pixels = {
        ref.path: image
        for batch in batches
        for ref, image in zip(batch.refs, batch.host_pixels, strict=True)
    }
    faults = {fault.ref.path: fault for batch in batches for fault in batch.faults}
    return pixels, faults, batches


@pytest.fixture(params=BY_ROW, scope="module")
def decoder(request):
    """Each row of the registry, on each of its devices."""
    try:
        decoder_candidates(request.param.removesuffix("-gpu"))
    except BackendMissingError as error:
        pytest.skip(str(error))
    return request.param


@pytest.mark.parametrize("path", sorted(zoo.good()))
def test_every_good_file_is_decoded(decoder, path):
    """A file that a lab may have is scored, whatever its name says it is."""
    pixels, faults, _ = decoded(decoder, [path])

    assert faults == {}
    assert pixels[path].shape == (48, 64, 3)
    assert pixels[path].dtype == np.uint8


@pytest.mark.parametrize("path", sorted(zoo.bad()))
def test_every_bad_file_is_a_fault_with_a_reason(decoder, path):
    """A file that cannot be trusted is undecodable, and says why."""
    pixels, faults, _ = decoded(decoder, [path])

    assert pixels == {}
    assert faults[path].status == "undecodable"
    assert faults[path].reason


@pytest.mark.parametrize("expected", [SQUASH, PAD, MIDDLE], ids=["squash", "pad", "middle"])
@pytest.mark.parametrize("path", sorted(zoo.good()))
def test_pixels_are_the_references(decoder, path, expected):
    """Every decoder gives Pillow's pixels, within the limits of parity."""
    ours, theirs = (decoded(name, [path], expected)[0][path] for name in (decoder, "pillow"))

    difference = np.abs(ours.astype(int) - theirs)

    assert difference.mean() <= PIXEL_MEAN_LIMIT
    assert np.percentile(difference, 99.9) <= PIXEL_P999_LIMIT


@pytest.mark.parametrize("orientation", range(1, 9))
def test_exif_orientation_is_applied(decoder, orientation):
    """A cell is decoded upright: each orientation is its transposition of the first."""
    transpositions = {
        1: lambda image: image,
        2: np.fliplr,
        3: lambda image: np.rot90(image, 2),
        4: np.flipud,
        5: lambda image: np.fliplr(np.rot90(image, -1)),
        6: lambda image: np.rot90(image, -1),
        7: lambda image: np.fliplr(np.rot90(image, 1)),
        8: lambda image: np.rot90(image, 1),
    }
    square = ModelInput(height=64, width=64, mean=HALF, std=HALF)
    pixels, _, _ = decoded(decoder, ["exif1.jpg", f"exif{orientation}.jpg"], square)

    upright = transpositions[orientation](pixels["exif1.jpg"])

    assert np.abs(upright.astype(int) - pixels[f"exif{orientation}.jpg"]).mean() < 1


def test_alpha_is_dropped_not_blended(decoder):
    """The colours under alpha are kept as stored."""
    pixels, _, _ = decoded(decoder, ["rgb.png", "alpha.png"])

    assert np.abs(pixels["rgb.png"].astype(int) - pixels["alpha.png"]).max() <= 1


def test_sixteen_bits_are_scaled_to_eight(decoder):
    """White in 16 bits is white in 8."""
    pixels, _, _ = decoded(decoder, ["rgb.png", "16bit.png", "16bit.tif"])

    for path in ("16bit.png", "16bit.tif"):
        assert np.abs(pixels["rgb.png"].astype(int) - pixels[path]).max() <= 1


def test_a_hundred_megapixels_are_oversized_from_the_header(decoder):
    """Size is judged before decoding; the fault keeps what the header says."""
    _, faults, _ = decoded(decoder, ["huge.png"])

    assert faults["huge.png"].status == "oversized"
    assert (faults["huge.png"].facts.width, faults["huge.png"].facts.height) == (10_000, 10_000)


def test_max_pixels_is_the_largest_that_is_decoded(decoder):
    """An image of exactly the limit is decoded, one more is not."""
    width, height = zoo.SIZE

    fits, _, _ = decoded(decoder, ["plain.bmp"], max_pixels=width * height)
    _, exceeds, _ = decoded(decoder, ["plain.bmp"], max_pixels=width * height - 1)

    assert "plain.bmp" in fits
    assert exceeds["plain.bmp"].status == "oversized"


def test_a_vanished_file_is_unreadable(decoder):
    """What was planned and is gone is a fault of its own."""
    pixels, faults, _ = decoded(decoder, ["plain.bmp", "gone.bmp", "rgb.png"])

    assert sorted(pixels) == ["plain.bmp", "rgb.png"]
    assert faults["gone.bmp"].status == "unreadable"
    assert faults["gone.bmp"].reason == "No such file or directory"


def test_facts_are_those_of_the_file(decoder):
    """Width and height are as stored, before rotation; the hash is of the bytes."""
    _, _, (batch,) = decoded(decoder, ["exif6.jpg"])

    assert (batch.facts[0].width, batch.facts[0].height) == zoo.SIZE
    assert len(batch.facts[0].content_hash) == 32


@settings(max_examples=15, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(seed=st.integers(0, 10**6), batch=st.integers(1, 20), count=st.integers(1, 60))
def test_neighbours_never_matter(decoder, seed, batch, count):
    """However good and bad files are mixed, each cell comes once, in order, with its own pixels."""
    paths = random.Random(seed).sample(sorted([*FILES, "gone.bmp"]), count)

    pixels, faults, batches = decoded(decoder, paths, batch=batch, threads=3)

    assert sorted([*pixels, *faults]) == sorted(paths)
    assert [ref.path for item in batches for ref in item.refs] == [p for p in paths if p in pixels]
    assert set(faults) == {path for path in paths if path not in zoo.good()}
    for path in pixels:
        assert np.array_equal(pixels[path], _alone(decoder, path))


def _alone(decoder, path, memory={}):  # noqa: B006
    """Return a cell's pixels, decoded by itself."""
    if (decoder, path) not in memory:
        memory[decoder, path] = decoded(decoder, [path])[0][path]
    return memory[decoder, path]


def test_a_batch_never_crosses_a_shard(decoder):
    """Shards come one after another, each in batches of its own."""
    refs = [CellRef(path, "slide") for path in ("plain.bmp", "rgb.png", "lzw.tif")]
    shards = [Shard(0, (refs[0], refs[1])), Shard(1, (refs[2],))]
    batches = list(opened(decoder, read, SQUASH, DecodeOptions(batch=8)).stream(shards))

    assert [(batch.shard.index, len(batch.refs)) for batch in batches] == [(0, 2), (1, 1)]


def test_a_stream_may_be_left_early(decoder):
    """Whoever stops iterating waits for no more than what is under way."""
    shards = (Shard(index, (CellRef("plain.bmp", "slide"),)) for index in range(10**9))
    stream = opened(decoder, read, SQUASH, DecodeOptions(threads=2)).stream(shards)

    next(stream)
    stream.close()

    assert next(shards).index < 20


def test_decoding_prints_nothing(decoder):
    """Native libraries do not speak across the progress bar, not even of a damaged JPEG."""
    code = (
        "import sys; sys.path[:0] = sys.argv[2:]; import test_decode as t;"
        "names = ['plain.bmp', 'baseline.jpg', 'rgb.png', 'lossy.webp', 'warned.jpg'];"
        "t.decoded(sys.argv[1], names)"
    )
    folders = [str(folder) for folder in (Path(__file__).parent, *Path(__file__).parents[1:4])]
    folders.append(str(Path(__file__).parents[3] / "examples"))

    said = subprocess.run(
        [sys.executable, "-c", code, decoder, *folders], capture_output=True, text=True, check=True
    )

    assert (said.stdout, said.stderr) == ("", "")


def test_a_bug_in_reading_is_not_swallowed(decoder):
    """Only OSError means that a cell cannot be read."""

    def broken(ref):
        raise ZeroDivisionError

    stream = opened(decoder, broken, SQUASH, DecodeOptions())

    with pytest.raises(ZeroDivisionError):
        list(stream.stream([Shard(0, (CellRef("plain.bmp", "slide"),))]))


@given(
    height=st.integers(1, 5000),
    width=st.integers(1, 5000),
    size=st.tuples(st.integers(1, 512), st.integers(1, 512)),
)
def test_padding_keeps_the_shape_inside_the_input(height, width, size):
    """A padded crop touches two edges, is centred, and is never empty."""
    expected = ModelInput(height=size[0], width=size[1], fit="pad", mean=HALF, std=HALF)

    place = placement(height, width, expected)

    assert 1 <= place.height <= expected.height
    assert 1 <= place.width <= expected.width
    assert place.height == expected.height or place.width == expected.width
    assert abs(2 * place.top + place.height - expected.height) <= 1
    assert abs(2 * place.left + place.width - expected.width) <= 1


def test_options_that_could_only_stall_are_refused():
    """A batch of nothing is an error at birth."""
    with pytest.raises(ValueError, match="at least 1"):
        DecodeOptions(batch=0)
