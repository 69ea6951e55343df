"""Pieces of smears: free of nuclei, at the crops' scale, and part of what makes a training."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from PIL import Image, ImageDraw

from engines.errors import SourceError
from train.data.backgrounds import backgrounds_digest, open_backgrounds

GLASS, NUCLEUS, RED_CELL = (205, 210, 200), (110, 90, 210), (190, 150, 150)


def smear(file, nucleus=(0, 0, 40, 40)):
    """Draw a field with red cells and a nucleus."""
    image = Image.new("RGB", (160, 120), GLASS)
    draw = ImageDraw.Draw(image)
    for left in range(0, 160, 30):
        draw.ellipse((left, 60, left + 20, 80), fill=RED_CELL)
    draw.ellipse(nucleus, fill=NUCLEUS)
    image.save(file)


def test_pieces_hold_no_nucleus_and_have_the_crops_scale(tmp_path):
    """Half a crop of the field becomes half a stored crop."""
    smear(tmp_path / "a.png")

    pieces = open_backgrounds(tmp_path, native=80, stored=100)

    assert pieces.shape[1:] == (50, 50, 3)
    assert pieces.dtype == torch.uint8
    assert len(pieces) >= 1
    signed = pieces.to(torch.int16)
    assert float((signed[..., 2] - signed[..., 1] > 60).float().mean()) < 0.02


def test_the_same_fields_give_the_same_pieces(tmp_path):
    """So that a resumed training sees the same."""
    smear(tmp_path / "a.png")

    one, two = (open_backgrounds(tmp_path, 80, 100) for _ in range(2))

    assert torch.equal(one, two)


def test_a_folder_without_a_free_piece_is_refused(tmp_path):
    """All nucleus, or too small."""
    smear(tmp_path / "a.png", nucleus=(-200, -200, 400, 400))

    with pytest.raises(SourceError, match="free of nuclei"):
        open_backgrounds(tmp_path, 80, 100)


def test_an_unreadable_field_is_named(tmp_path):
    """It is not passed over."""
    (tmp_path / "broken.png").write_bytes(b"no image")

    with pytest.raises(SourceError, match=r"broken\.png"):
        open_backgrounds(tmp_path, 80, 100)


def test_the_digest_follows_names_and_contents(tmp_path):
    """No folder, no digest."""
    smear(tmp_path / "a.png")
    first = backgrounds_digest(tmp_path)
    Image.fromarray(np.zeros((9, 9, 3), np.uint8)).save(tmp_path / "b.png")

    assert backgrounds_digest(None) == ""
    assert first != backgrounds_digest(tmp_path)
