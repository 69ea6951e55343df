"""Where evidence lies on a picture, and how it is written."""

from __future__ import annotations

import base64

import numpy as np
import pytest

from engines.decode.geometry import placement
from engines.models.input import FieldCentres, ModelInput
from screen.report.content.columns import EvidenceGrid
from screen.report.content.evidence_maps import evidence_scale, overlay_box, packed_evidence


@pytest.mark.parametrize(("height", "width"), [(90, 70), (70, 90), (64, 64), (1, 300)])
@pytest.mark.parametrize("fit", ["squash", "pad"])
@pytest.mark.parametrize("crop_pct", [1.0, 0.57])
@pytest.mark.parametrize("centres", [FieldCentres(0.5, 0.5, 16, 16), FieldCentres(8, 11.5, 16, 16)])
def test_the_overlay_lies_where_the_model_saw_it(height, width, fit, crop_pct, centres):
    """The middle of each square, carried from the crop to the input, is its receptive field's."""
    expected = ModelInput(
        height=48, width=64, fit=fit, crop_pct=crop_pct, mean=(0.5,) * 3, std=(0.5,) * 3
    )
    place = placement(height, width, expected)
    window = place.window

    left, top, wide, high = overlay_box(height, width, expected, EvidenceGrid(3, 4, centres))

    for row, column in ((0, 0), (1, 3), (2, 2)):
        x = (left + wide * (column + 0.5) / 4) * width
        y = (top + high * (row + 0.5) / 3) * height
        across = place.left + (x - window.left) * place.width / window.width
        down = place.top + (y - window.top) * place.height / window.height
        assert across == pytest.approx(centres.left + column * centres.across)
        assert down == pytest.approx(centres.top + row * centres.down)


def test_a_map_of_squares_side_by_side_covers_a_squashed_crop():
    """Where each place looks at the middle of its own square, the map is the crop."""
    expected = ModelInput(height=48, width=64, mean=(0.5,) * 3, std=(0.5,) * 3)
    grid = EvidenceGrid(3, 4, FieldCentres(8, 8, 16, 16))

    assert overlay_box(90, 70, expected, grid) == (0, 0, 1, 1)


def test_evidence_keeps_its_sign_and_its_proportions():
    """One scale for all; int8 within half a step; what is beyond the scale is cut."""
    maps = [np.array([-1.0, 0.0, 0.5, 2.0], np.float32), None]

    scale = evidence_scale(maps)
    levels = np.frombuffer(base64.b64decode(packed_evidence(maps[0] * 1.5, scale)), np.int8)

    assert scale == pytest.approx(2.0, abs=0.02)
    assert levels / 127 * scale == pytest.approx([-1.5, 0, 0.75, scale], abs=scale / 200)
    assert evidence_scale([None]) is None
