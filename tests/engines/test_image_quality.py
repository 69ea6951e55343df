"""Image quality: each number says what its name says, on any crop."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from draw_cells import draw_cell
from PIL import Image, ImageFilter

from engines.cells import QUALITY
from engines.image_quality import quality

SIDE = 96


def drawn(seed=0):
    """Draw a cell at the model's size."""
    return draw_cell(seed, (SIDE, SIDE))


def measured(*images):
    """Return the numbers by name, an array each."""
    pixels = torch.from_numpy(np.stack([np.asarray(image) for image in images]))
    return dict(zip(QUALITY, quality(pixels).numpy().T, strict=True))


def patch(colour, side=40):
    """Paint a square of a colour on black, as wide as *side*."""
    image = np.zeros((SIDE, SIDE, 3), np.uint8)
    image[10 : 10 + side, 10 : 10 + side] = colour
    return image


def test_blur_lowers_focus():
    """More with every step, whatever the cell."""
    for seed in range(3):
        cell = drawn(seed)
        blurred = [cell.filter(ImageFilter.GaussianBlur(radius)) for radius in (1, 2, 4)]
        focus = measured(cell, *blurred)["focus"]

        assert (np.diff(focus) < 0).all()


def test_the_edge_of_a_mask_is_not_sharpness():
    """An even patch cut out on black has no detail at all."""
    assert measured(patch((150, 80, 160)))["focus"] == pytest.approx(0, abs=1e-6)


@pytest.mark.parametrize("colour", [(150, 80, 160), (60, 40, 120), (255, 30, 200)])
def test_an_even_patch_has_its_own_numbers(colour):
    """Brightness, density and area can be told by hand."""
    found = {name: values[0] for name, values in measured(patch(colour)).items()}
    density = np.log10(256 / (np.array(colour) + 1))

    assert found["exposure"] == pytest.approx(np.mean(colour) / 255, abs=1e-4)
    assert found["foreground"] == pytest.approx(40**2 / SIDE**2, rel=0.1)
    assert found["clipped"] == (max(colour) >= 254)
    assert [found[f"od_{c}"] for c in ("red", "green", "blue")] == pytest.approx(density, abs=1e-3)
    assert [found[f"od_spread_{c}"] for c in ("red", "green", "blue")] == pytest.approx(
        [0] * 3, abs=2e-3
    )


@pytest.mark.parametrize("background", [0, 255])
def test_background_black_or_bright_does_not_count(background):
    """A mask's black and an empty field's white are not stain."""
    found = measured(np.full((SIDE, SIDE, 3), background, np.uint8))

    assert found["foreground"] == 0
    assert all(np.isnan(values).all() for name, values in found.items() if name != "foreground")


def test_a_cells_numbers_do_not_depend_on_its_neighbours():
    """Bit for bit, alone or in a batch."""
    images = [drawn(seed) for seed in range(5)]
    together = measured(*images)

    for index, image in enumerate(images):
        alone = measured(image)
        assert all(np.array_equal(alone[name][0], together[name][index]) for name in QUALITY)


@pytest.mark.parametrize("shape", [(0, 32, 32, 3), (2, 2, 2, 3), (1, 1, 9, 3)])
def test_nothing_to_measure_is_nan(shape):
    """No cells, or no room for a neighbour."""
    found = quality(torch.zeros(shape, dtype=torch.uint8))

    assert found.shape == (shape[0], len(QUALITY))
    assert torch.isnan(found).all()


def test_odd_sizes_are_measured_as_even_ones():
    """Sides need not divide by two."""
    image = Image.fromarray(patch((150, 80, 160))).resize((95, 91))

    assert 0 < measured(image)["foreground"][0] < 0.3
