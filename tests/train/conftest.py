"""Drawn cells of known class, and trainings small enough for any machine."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
import pytest
from click.testing import CliRunner
from PIL import Image, ImageDraw

from train.cli.commands import cli

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from click.testing import Result

SIDE = 48
LOOKS = {"all": ((110, 50, 140), 17), "hem": ((170, 90, 160), 12)}
SMALL = [
    "--model", "resnet10t", "--init", "scratch", "--img-size", "32", "--batch-size", "8",
    "--epochs", "2", "--samples-per-class", "16", "--threads", "2", "--decoder", "pillow",
    "--precision", "fp32", "--folds", "3",
]  # fmt: skip


def draw_cell(label: str, rng: np.random.Generator) -> Image.Image:
    """Draw one segmented cell on black, unlike any other."""
    colour, radius = LOOKS[label]
    image = Image.new("RGB", (SIDE, SIDE))
    shaken = tuple(int(c + rng.integers(-12, 12)) for c in colour)
    radius += int(rng.integers(-2, 3))
    centre = SIDE // 2
    box = (centre - radius, centre - radius, centre + radius, centre + radius)
    ImageDraw.Draw(image).ellipse(box, fill=shaken)
    pixels = np.asarray(image).astype(int)
    noisy = pixels + rng.integers(-9, 10, pixels.shape) * (pixels.sum(2, keepdims=True) > 0)
    return Image.fromarray(noisy.clip(0, 255).astype(np.uint8))


def draw_cells(folder: Path, subjects: int = 6, each: int = 4, seed: int = 0) -> Path:
    """Draw class folders in C-NMC's naming: *subjects* of each class, *each* cells of each."""
    rng = np.random.default_rng(seed)
    for label in LOOKS:
        (folder / label).mkdir(parents=True, exist_ok=True)
        for subject in range(1, subjects + 1):
            name = f"H{subject}" if label == "hem" else str(subject)
            for number in range(1, each + 1):
                file = folder / label / f"UID_{name}_{number}_1_{label}.png"
                draw_cell(label, rng).save(file)
    return folder


@pytest.fixture(scope="session")
def cells(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Twelve subjects of two classes, 48 cells; read only."""
    return draw_cells(tmp_path_factory.mktemp("drawn") / "cells")


@pytest.fixture(scope="session")
def draw() -> Callable[..., Path]:
    """Draw cells of one's own."""
    return draw_cells


@pytest.fixture(scope="session")
def small() -> list[str]:
    """Options of a training that takes a second."""
    return SMALL


@pytest.fixture(scope="session")
def command() -> Callable[..., Result]:
    """Run ``slidescreen-train`` in this process; exceptions come out."""

    def run(*arguments: object) -> Result:
        return CliRunner().invoke(cli, [str(a) for a in arguments], catch_exceptions=False)

    return run


@pytest.fixture(scope="session")
def bundle(
    cells: Path, small: list[str], command: Callable[..., Result],
    tmp_path_factory: pytest.TempPathFactory,
) -> Path:  # fmt: skip
    """A bundle trained on the drawn cells; read only, its training's state beside it."""
    out = tmp_path_factory.mktemp("trained") / "bundle"
    result = command("fit", cells, "--out", out, *small)
    assert result.exit_code == 0, result.output
    return out
