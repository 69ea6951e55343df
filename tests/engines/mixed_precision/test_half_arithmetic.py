"""The shipped model in half, on real cells: how far from float32, and how near to overflow."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from engines.mixed_precision.activation_range import exact_sums, half_limit
from engines.mixed_precision.policy import find_mixed
from engines.models.bundle import DEFAULT_BUNDLE, ModelBundle
from engines.models.serving_graph import serving_graph
from engines.parity import DP_LIMIT
from screen.engine_verify import cells_of

pytestmark = [pytest.mark.realcells, pytest.mark.long]

CELLS = 200
MOST_KEPT = 3  # modules or stages: more, and it is no half engine any longer


@pytest.fixture(scope="module")
def bundle():
    """The model that ships."""
    return ModelBundle.load(DEFAULT_BUNDLE)


@pytest.fixture(scope="module")
def batches(bundle, real_cells):
    """Cells spread over the fold."""
    return cells_of(real_cells / "cnmc-fold0", bundle, CELLS, 8)


def test_half_agrees_with_float32_on_real_cells(bundle, batches):
    """No label flips far from the threshold, and no half activation comes near the maximum."""
    refs = [ref for batch in batches for ref in batch.refs]
    pixels = np.concatenate([batch.host_pixels for batch in batches])

    found = find_mixed(bundle, refs, pixels, precision="fp16")

    told = (
        f"largest |dp| {found.max_dp:.3f}, {found.flips} of {found.cells} labels flipped, largest "
        f"activation {found.peak:.4g} in {found.peak_module}, in float32: {found.keep_fp32}"
    )
    print(told)  # noqa: T201  (shown with -rP)
    assert found.cells == CELLS
    assert found.holds, told
    assert found.max_dp <= DP_LIMIT["fp16"], told
    assert found.peak <= half_limit(torch.float16), told
    assert len(found.keep_fp32) <= MOST_KEPT, told


@torch.no_grad()
def test_torchs_own_half_convolutions_agree_with_one_rounding(bundle, batches):
    """On two cells, as they are ten times slower: the shortcut above is no flattery."""
    pixels = torch.from_numpy(batches[0].host_pixels[:2])
    own, once = (serving_graph(bundle, precision="fp16") for _ in range(2))
    exact_sums(once.network)

    reference = serving_graph(bundle)(pixels)[0].softmax(1)
    theirs, ours = (graph(pixels)[0].softmax(1) for graph in (own, once))

    assert (ours - theirs).abs().max() <= DP_LIMIT["fp16"] / 2
    assert (theirs - reference).abs().max() <= DP_LIMIT["fp16"]
