"""Files, values, calibration, and the measure of agreement."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from engines.cells import Batch, CellFacts, CellRef, Scores, Shard
from engines.files import discard_scratch, whole_file
from engines.parity import pixel_agreement, score_agreement
from engines.uncertainty import positives, probabilities

REFS = tuple(CellRef(name, "slide") for name in "abc")


def test_a_file_appears_when_the_block_ends(tmp_path):
    """While it is written, nobody sees it."""
    with whole_file(tmp_path / "file") as scratch:
        scratch.write_text("half")
        assert not (tmp_path / "file").exists()
        scratch.write_text("whole")

    assert (tmp_path / "file").read_text() == "whole"
    assert [path.name for path in tmp_path.iterdir()] == ["file"]


def test_a_failed_write_leaves_what_was_there(tmp_path):
    """An exception keeps the old file and no trace of the new."""
    (tmp_path / "file").write_text("old")

    with pytest.raises(ZeroDivisionError), whole_file(tmp_path / "file") as scratch:
        scratch.write_text("new")
        raise ZeroDivisionError

    assert (tmp_path / "file").read_text() == "old"
    assert len(list(tmp_path.iterdir())) == 1


def test_scratch_of_a_killed_process_is_removed(tmp_path):
    """Only scratch of such a file goes."""
    kept = [".hidden", ".notes.scratch", ".other.0123abcd.scratch"]
    for name in (".file.0123abcd.scratch", *kept):
        (tmp_path / name).touch()

    discard_scratch(tmp_path, "file")

    assert sorted(path.name for path in tmp_path.iterdir()) == kept


@pytest.mark.parametrize("count", [0, 2, 4])
def test_pixels_never_travel_without_their_refs(count):
    """A batch of three refs takes three images."""
    with pytest.raises(ValueError, match="3 refs"):
        Batch(Shard(0, REFS), REFS, (CellFacts(),) * 3, np.zeros((count, 2, 2, 3), np.uint8))


def test_scores_never_travel_without_their_refs():
    """Nor do scores."""
    with pytest.raises(ValueError, match="3 refs"):
        Scores(
            Shard(0, REFS),
            REFS,
            (CellFacts(),) * 3,
            (),
            np.zeros((3, 2), np.float32),
            np.zeros((3, 4), np.float16),
            np.zeros((2, 2, 1, 1), np.float16),
        )


@given(
    st.lists(st.lists(st.floats(-1e4, 1e4), min_size=3, max_size=3), min_size=1, max_size=5),
    st.floats(0.05, 20),
)
def test_probabilities_are_probabilities(logits, temperature):
    """Rows are between 0 and 1, sum to 1, and keep the order of the logits."""
    values = np.array(logits, np.float32)

    chances = probabilities(values, temperature)

    assert chances.min() >= 0
    assert np.abs(chances.sum(axis=1) - 1).max() < 1e-5
    assert (chances.max(axis=1) == chances[np.arange(len(values)), values.argmax(axis=1)]).all()


def test_a_probability_at_the_threshold_is_positive(bundle):
    """The operating point itself is called."""
    column = bundle.classes.index("all")
    chances = np.full((3, 2), 0.5, np.float32)
    chances[0, column] = np.nextafter(np.float32(0.5), np.float32(0))

    assert positives(chances, bundle).tolist() == [False, True, True]


def test_without_a_positive_class_nothing_is_called(three_classes):
    """Null is not False."""
    assert positives(np.ones((2, 3), np.float32) / 3, three_classes) is None


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
