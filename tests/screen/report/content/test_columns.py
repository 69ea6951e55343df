"""What a set of results says of its cells."""

from __future__ import annotations

import pytest
from made_results import CENTRES, cell, overview


@pytest.mark.parametrize("known", [True, False])
def test_a_map_that_may_lie_elsewhere_is_not_shown(tmp_path, known):
    """Without centres of receptive fields there is no evidence at all."""
    _, _, fields = overview(tmp_path, [cell("s/1.png", "s")], centres=CENTRES if known else None)

    assert (fields.evidence is not None) == known
