"""Values that flow: identity travels with the data."""

from __future__ import annotations

import numpy as np
import pytest

from engines.cells import Batch, CellFacts, CellRef, Scores, Shard

REFS = tuple(CellRef(name, "slide") for name in "abc")


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
