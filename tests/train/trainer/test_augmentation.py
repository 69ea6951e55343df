"""Augmentation changes what may differ between centres, and nothing else."""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch

from train.data.decoded import enlarged
from train.recipe import PAPER, SUBJECT, Phase
from train.trainer.augmentation import (
    REACH,
    ROOM,
    NoAugmentation,
    PaperAugmentation,
    StainAugmentation,
    open_augmentation,
    reduced,
    stored_window,
)

KINDS = [NoAugmentation(64), StainAugmentation(size=64), PaperAugmentation(64)]
kinds = pytest.mark.parametrize("kind", KINDS, ids=lambda k: type(k).__name__)


def seeded(seed=0):
    """Make a generator."""
    return torch.Generator().manual_seed(seed)


def stored(n=4):
    """Make stored cells: a grey disc on black, a fifth larger than the input."""
    y, x = torch.meshgrid(torch.arange(80) - 39.5, torch.arange(80) - 39.5, indexing="ij")
    disc = ((x**2 + y**2) < 20**2).to(torch.uint8) * 150
    return disc[None, :, :, None].expand(n, 80, 80, 3).contiguous()


@kinds
def test_what_comes_out_is_what_a_network_takes(kind):
    """Float32 in 0..1, at the view's size, and the stored cells are untouched."""
    cells = stored()

    out = kind(cells, 48, seeded())

    assert (out.shape, out.dtype) == ((4, 3, 48, 48), torch.float32)
    assert 0 <= out.min() <= out.max() <= 1
    assert torch.equal(cells, stored())


@kinds
def test_the_same_generator_gives_the_same_cells(kind):
    """And the global generator is neither read nor moved."""
    torch.manual_seed(1)
    one = kind(stored(), 64, seeded())
    after = torch.rand(1)
    torch.manual_seed(1)

    assert torch.equal(after, torch.rand(1))
    assert torch.equal(one, kind(stored(), 64, seeded()))


@pytest.mark.parametrize("kind", KINDS[1:], ids=lambda k: type(k).__name__)
def test_cells_of_a_batch_are_changed_each_in_its_own_way(kind):
    """Equal cells come out different."""
    one, two, *_ = kind(stored(), 64, seeded())

    assert not torch.equal(one, two)


def test_stain_leaves_the_background_black():
    """The black around a segmented cell carries no stain, whatever the seed."""
    for seed in range(20):
        out = StainAugmentation(size=64, grainy=0)(stored(), 64, seeded(seed))

        assert out[:, :, :3, :3].max() == 0


def test_backgrounds_show_where_there_is_no_cell():
    """Behind the chosen crops, beyond the cell's rim; the others stay black; cells stay cells."""
    backgrounds = torch.full((2, 40, 40, 3), 200, dtype=torch.uint8)
    still = {"stain": 0, "dye": 0, "gain": 0, "focus": 0, "noise": 0, "zoom": 1.0, "stretch": 1.0}
    kind = StainAugmentation(size=64, **still, shift=0, behind=0.5, backgrounds=backgrounds)

    out = kind(stored(64), 64, seeded())
    corner = out[:, 0, 1, 1]

    assert torch.allclose(out[:, :, 32, 32], torch.tensor(150 / 255), atol=0.01)
    assert set((corner * 255).round().int().tolist()) == {0, 200}
    assert 0.3 < float((corner > 0).float().mean()) < 0.7


def test_grain_falls_on_black_in_some_crops_only():
    """A lossy file leaves no exact zeros around a cell; a mask does."""
    out = StainAugmentation(size=64, grainy=0.5, noise=0.1)(stored(64), 64, seeded())
    grainy = out[:, :, :3, :3].amax((1, 2, 3)) > 0

    assert 0.3 < float(grainy.float().mean()) < 0.7


def test_a_smaller_view_shows_the_middle_at_the_same_scale():
    """The view costs margin and not detail."""
    whole, middle = (NoAugmentation(64)(stored(1), view, seeded()) for view in (64, 32))

    assert torch.allclose(whole[:, :, 16:48, 16:48], middle)


@pytest.mark.parametrize("kind", KINDS[:2], ids=lambda k: type(k).__name__)
def test_a_centre_crop_is_cut_from_wider_cells(kind):
    """At the same scale, and with what turning brings in around it: as a view of a whole input."""
    whole = replace(kind, size=64)(stored(64), 32, seeded())
    shift = {"shift": kind.shift * 2} if hasattr(kind, "shift") else {}  # of a half as wide input

    middle = replace(kind, size=32, window=0.5, **shift)(stored(64), 32, seeded())

    assert torch.allclose(middle, whole, atol=1e-5)


def test_training_cells_are_stored_wider_than_a_centre_crop():
    """Wide enough for any turn, at most the whole crop, and as fine as without."""
    for crop_pct, window in ((1.0, 1.0), (0.8, 0.8), (0.5, 1 / REACH)):
        recipe = replace(SUBJECT, img_size=128, crop_pct=crop_pct)
        stored_at = enlarged(recipe.input, ROOM, stored_window(recipe))

        assert stored_at.crop_pct == pytest.approx(min(1, crop_pct * REACH))
        assert stored_at.height == stored_at.width == round(128 * ROOM / window)


@pytest.mark.parametrize("scale", [1.0, 0.64, 0.5])
def test_reduced_cells_are_the_same_cells_with_fewer_pixels(scale):
    """What is shown covers the same part of the crop, at a smaller scale."""
    side = Phase(1, 40, 1e-3, scale=scale).side(64)
    smaller = open_augmentation(replace(SUBJECT, img_size=64, augment="none"), scale)

    shown = smaller(reduced(stored(1), scale), side, seeded())
    whole = NoAugmentation(64)(stored(1), 40, seeded())

    assert shown.shape == (1, 3, round(40 * scale), round(40 * scale))
    assert torch.allclose(shown.mean((2, 3)), whole.mean((2, 3)), atol=0.03)


@pytest.mark.parametrize("scale", [0.0, 1.5])
def test_a_scale_that_reduces_nothing_or_all_is_refused(scale):
    """A phase may reduce, not enlarge."""
    with pytest.raises(ValueError, match="scale up to 1"):
        Phase(1, None, 1e-3, scale=scale)


def test_zoom_changes_the_size_both_ways():
    """Cells come out smaller and larger than they are."""
    kind = StainAugmentation(size=64, stain=0, gain=0, focus=0, noise=0)
    area = (kind(stored(64), 64, seeded()) > 0.3).float().mean((1, 2, 3))
    own = (NoAugmentation(64)(stored(1), 64, seeded()) > 0.3).float().mean()

    assert area.min() < 0.85 * own
    assert area.max() > 1.15 * own


@pytest.mark.parametrize(
    ("recipe", "kind"), [(SUBJECT, StainAugmentation), (PAPER, PaperAugmentation)]
)
def test_each_recipe_has_its_augmentation(recipe, kind):
    """The recipe's name for it opens it."""
    assert isinstance(open_augmentation(recipe), kind)
