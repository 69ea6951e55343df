"""Which part of a crop the network sees: the rule, and Pillow and timm as witnesses."""

from __future__ import annotations

import io

import numpy as np
import pytest
from draw_cells import draw_cell
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image
from timm.data import create_transform

from engines.backends import open_decoder
from engines.cells import CellRef, Shard
from engines.decode.base import DecodeOptions
from engines.decode.geometry import Rectangle, placement
from engines.models.input import ModelInput

HALF = (0.5, 0.5, 0.5)
SIDES = st.integers(1, 5000)
SHARES = st.floats(0.001, 1)


def model_input(height, width, **how):
    """Make an input of any colours."""
    return ModelInput(height=height, width=width, mean=HALF, std=HALF, **how)


def pixels_of(image, expected, decoder="pillow", **how):
    """Save an image and decode it as the model expects."""
    file = io.BytesIO()
    image.save(file, "PNG", **how)
    opened = open_decoder(decoder, lambda _: file.getvalue(), expected, DecodeOptions())
    (batch,) = opened.stream([Shard(0, (CellRef("cell.png", "s"),))])
    return batch.host_pixels[0]


@given(height=SIDES, width=SIDES, crop_pct=SHARES, fit=st.sampled_from(["squash", "pad"]))
def test_what_is_shown_is_exactly_centred_and_never_empty(height, width, crop_pct, fit):
    """As many pixels are cut off at either end, so turning or mirroring changes nothing."""
    expected = model_input(48, 64, fit=fit, crop_pct=crop_pct)

    place = placement(height, width, expected)

    window = place.window
    assert 2 * window.top + window.height == height
    assert 2 * window.left + window.width == width
    assert min(window.height, window.width, place.height, place.width) >= 1
    assert place.top + place.height <= expected.height
    assert place.left + place.width <= expected.width


@given(height=SIDES, width=SIDES, crop_pct=SHARES)
def test_a_squashed_window_is_the_share_asked_for(height, width, crop_pct):
    """To within a pixel, and it fills the input."""
    place = placement(height, width, model_input(48, 64, crop_pct=crop_pct))

    assert abs(place.window.height - max(1, height * crop_pct)) <= 1.001
    assert abs(place.window.width - max(1, width * crop_pct)) <= 1.001
    assert (place.top, place.left, place.height, place.width) == (0, 0, 48, 64)


@given(height=SIDES, width=SIDES, crop_pct=SHARES)
def test_a_padded_window_keeps_the_shape(height, width, crop_pct):
    """The scale is the same across and down, to within a pixel at either end."""
    place = placement(height, width, model_input(48, 64, fit="pad", crop_pct=crop_pct))

    scale = min(48 / height, 64 / width) / crop_pct
    for shown, lands in (
        (place.window.height, place.height),
        (place.window.width, place.width),
    ):
        assert abs(lands - shown * scale) <= max(1, 2 * scale) * 1.001


@pytest.mark.parametrize("size", [(450, 450), (90, 70), (1, 1), (451, 449)])
@pytest.mark.parametrize("fit", ["squash", "pad"])
def test_one_is_the_whole_crop(size, fit):
    """Nothing is cut off, whatever rounding does."""
    window = placement(*size, model_input(224, 224, fit=fit)).window

    assert window == Rectangle(0, 0, *size)


@pytest.mark.parametrize(
    ("side", "crop_pct", "first", "shown"),
    [
        (450, 256 / 450, 97, 256),
        (450, 0.5689, 97, 256),
        (450, 255 / 450, 98, 254),  # an odd middle of an even side: the margin of 97.5 rounds up
        (451, 256 / 450, 97, 257),
        (600, 256 / 450, 129, 342),
        (3, 0.5, 1, 1),
        (2, 0.5, 0, 2),  # one pixel at least stays, and two have no middle one
        (1, 0.01, 0, 1),
    ],
)
def test_the_margin_is_rounded_to_whole_pixels(side, crop_pct, first, shown):
    """The same at both ends."""
    place = placement(side, side, model_input(128, 128, crop_pct=crop_pct))

    assert (place.window.left, place.window.width) == (first, shown)
    assert (place.window.top, place.window.height) == (first, shown)


def test_a_long_crop_is_cut_along_and_padded_across():
    """Ten times as long as it is wide, and half of it is to be shown."""
    place = placement(100, 1000, model_input(64, 64, fit="pad", crop_pct=0.5))

    assert place.window == Rectangle(0, 250, 100, 500)
    assert (place.top, place.left, place.height, place.width) == (25, 0, 13, 64)


@pytest.mark.parametrize("decoder", ["pillow", "dali"])
@pytest.mark.parametrize("size", [(90, 70), (451, 300), (3, 2), (1, 1)])
@pytest.mark.parametrize(("fit", "crop_pct"), [("squash", 0.5689), ("pad", 0.5689), ("pad", 0.9)])
def test_the_window_is_cut_out_before_it_is_resized(decoder, size, fit, crop_pct):
    """As Pillow does it: crop, then resize; nothing outside the window comes in."""
    cell, expected = draw_cell(3, size), model_input(48, 64, fit=fit, crop_pct=crop_pct)
    place = placement(cell.height, cell.width, expected)
    top, left = place.window.top, place.window.left
    box = (left, top, left + place.window.width, top + place.window.height)
    theirs = np.zeros((48, 64, 3), np.uint8)
    resized = cell.crop(box).resize((place.width, place.height), Image.Resampling.BICUBIC)
    theirs[place.slices] = resized

    ours = pixels_of(cell, expected, decoder)

    assert np.abs(ours.astype(int) - theirs).max() <= (0 if decoder == "pillow" else 2)


@pytest.mark.parametrize("decoder", ["pillow", "dali"])
@pytest.mark.parametrize("orientation", range(1, 9))
def test_orientation_and_centre_crop_change_places(decoder, orientation):
    """A cell stored turned shows the same middle, turned; 91 x 70 pixels, so odd and even."""
    cell, expected = draw_cell(3, (91, 70)), model_input(40, 40, crop_pct=0.6)
    exif = Image.Exif()
    exif[0x0112] = orientation
    turn = {
        1: lambda image: image,
        2: np.fliplr,
        3: lambda image: np.rot90(image, 2),
        4: np.flipud,
        5: lambda image: np.fliplr(np.rot90(image, -1)),
        6: lambda image: np.rot90(image, -1),
        7: lambda image: np.fliplr(np.rot90(image, 1)),
        8: lambda image: np.rot90(image, 1),
    }[orientation]

    stored = pixels_of(cell, expected, decoder, exif=exif)

    difference = np.abs(turn(pixels_of(cell, expected, decoder)).astype(int) - stored)
    assert difference.max() <= 2


def test_timm_sees_the_same_middle():
    """Its own transform, which resizes first, shows the same cell but at the window's rim."""
    cell, crop_pct = draw_cell(5, (448, 448)), 128 / 224
    transform = create_transform(
        (3, 128, 128), interpolation="bicubic", crop_pct=crop_pct, crop_mode="squash",
        mean=(0, 0, 0), std=(1, 1, 1),
    )  # fmt: skip
    theirs = transform(cell).permute(1, 2, 0).numpy() * 255

    ours = pixels_of(cell, model_input(128, 128, crop_pct=crop_pct))

    assert np.abs(ours - theirs)[2:-2, 2:-2].max() <= 1
