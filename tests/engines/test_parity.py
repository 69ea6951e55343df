"""The measure of agreement, of scores and of pixels."""

from __future__ import annotations

import numpy as np

from engines.cells import CellRef
from engines.parity import pixel_agreement, score_agreement

REFS = tuple(CellRef(name, "slide") for name in "abc")


def agreement(ours, theirs, bundle, precision="bf16"):
    """Compare logits of the first class, the second's being zero."""
    both = [np.stack([np.zeros(3), column], axis=1).astype(np.float32) for column in (ours, theirs)]
    return score_agreement(REFS, *both, bundle=bundle, precision=precision)


def test_equal_scores_agree(bundle):
    """Nothing differs, nothing flips."""
    same = agreement([1, -2, 3], [1, -2, 3], bundle)

    assert (same.max_dp, same.flips, same.holds) == (0, 0, True)


def test_a_flip_beside_the_boundary_is_counted_and_tolerated(bundle):
    """Within the limit of the threshold a label may flip."""
    near = agreement([0.01, -2, 3], [-0.01, -2, 3], bundle)

    assert (near.flips, near.far_flips, near.holds) == (1, 0, True)


def test_a_large_difference_does_not_hold(bundle):
    """The worst cell is named, and its flip lies far from the boundary."""
    far = agreement([1, 2, 3], [1, -2, 3], bundle)

    assert (far.worst, far.flips, far.far_flips, far.holds) == ("b", 1, 1, False)


def test_a_score_that_is_no_number_does_not_hold(bundle):
    """NaN compares false with everything, and must not pass for agreement."""
    with np.errstate(invalid="ignore"):
        assert not agreement([1, np.nan, 3], [1, -2, 3], bundle).holds


def test_float32_is_held_to_a_thousandth(bundle):
    """The limit is the precision's."""
    assert agreement([0.1, 0, 0], [0, 0, 0], bundle, "bf16").holds
    assert not agreement([0.1, 0, 0], [0, 0, 0], bundle, "fp32").holds


def test_one_wrong_cell_is_not_averaged_away():
    """Pixels are judged cell by cell."""
    reference = np.zeros((3, 8, 8, 3), np.uint8)
    pixels = reference.copy()
    pixels[1] = 2

    compared = pixel_agreement(REFS, pixels, reference)

    assert (compared.worst, compared.mean, compared.holds) == ("b", 2.0, False)
