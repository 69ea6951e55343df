"""
Draw example slides: single stained white blood cells on black, as C-NMC 2019 crops look.

They are drawings, made from random numbers; no real image is copied. Size, colour and texture
follow that data set closely enough that the model that ships works within what it knows. Two
slides are mostly small, dense cells, two mostly large ones with coarse, open chromatin. What the
model says of them shows how the tool works and nothing about any person.

Example:
    python examples/draw_cells.py cells --cells 60
"""

from __future__ import annotations

import argparse
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from PIL import Image

__all__ = ["BLAST", "NORMAL", "SLIDES", "Look", "draw_cell", "draw_slides"]

SIDE = 256  # pixels: the cell is drawn within the middle 256 x 256 of the crop
CROP = (450, 450)


@dataclass(frozen=True)
class Look:
    """
    What cells of one kind look like.

    Args:
        radius: mean and standard deviation of the radius, in pixels of a 450 x 450 crop.
        colour: mean red, green and blue, 0 to 255.
        grain: strength of the texture by scale: (pixels, standard deviation in red) pairs.
        lobes: how far the outline strays from a circle, as a share of the radius.
        spots: how bright the pale spots are.
    """

    radius: tuple[float, float]
    colour: tuple[float, float, float]
    grain: tuple[tuple[int, float], ...]
    lobes: float
    spots: float


NORMAL = Look((83, 6), (65, 25, 75), ((8, 1.8), (13, 3.2), (20, 4.0), (48, 4.0)), 0.045, 8)
BLAST = Look((102, 9), (70, 28, 80), ((4, 1.8), (7, 2.6), (12, 3.4), (20, 3.6), (48, 4)), 0.055, 6)
SLIDES = {"healthy-1": 0.03, "healthy-2": 0.08, "suspicious-1": 0.75, "suspicious-2": 0.9}


def draw_cell(seed: int, size: tuple[int, int] = CROP, look: Look = NORMAL) -> Image.Image:
    """
    Draw one cell; the same seed gives the same cell.

    Args:
        seed: for the random numbers.
        size: width and height in pixels; other sizes than 450 x 450 are resized from it.
        look: the kind of cell.

    Returns:
        An RGB image, black around the cell.
    """
    random = np.random.default_rng(seed)
    depth = _depth(random, look)
    crop = Image.new("RGB", CROP)
    crop.paste(Image.fromarray(_stained(random, look, depth)), ((450 - SIDE) // 2,) * 2)
    return crop if size == CROP else crop.resize(size, Image.Resampling.BOX)


def _depth(random: np.random.Generator, look: Look) -> np.ndarray:
    """Return ``(SIDE, SIDE)``: pixels to the outline, negative outside it."""
    down, right = np.mgrid[:SIDE, :SIDE] - (SIDE - 1) / 2
    angle, distance = np.arctan2(down, right), np.hypot(down, right)
    radius = np.full_like(distance, random.normal(*look.radius))
    for waves in (1, 2, 3, 4, 7, 13):
        height = look.lobes * random.normal() / max(1, waves - 1)
        radius *= 1 + height * np.sin(waves * angle + random.uniform(0, 2 * np.pi))
    return np.minimum(radius, SIDE / 2 - 2) - distance


def _noise(random: np.random.Generator, scale: int) -> np.ndarray:
    """Return ``(SIDE, SIDE)``: noise of deviation 1 whose spots are *scale* pixels wide."""
    coarse = random.normal(size=(SIDE // scale + 4,) * 2).astype(np.float32)
    smooth = Image.fromarray(coarse).resize((scale * len(coarse),) * 2, Image.Resampling.BICUBIC)
    noise = np.asarray(smooth)[scale : scale + SIDE, scale : scale + SIDE]
    return (noise - noise.mean()) / noise.std()


def _stained(random: np.random.Generator, look: Look, depth: np.ndarray) -> np.ndarray:
    """Return ``(SIDE, SIDE, 3)`` uint8: the texture of chromatin, a paler rim, then black."""
    texture = sum(strength * _noise(random, scale) for scale, strength in look.grain)
    texture += look.spots * np.maximum(_noise(random, 9) - 0.8, 0) ** 2
    tint = _noise(random, 24)
    paler = np.exp(-np.maximum(depth - 3, 0) / 4.5)
    bluer = np.exp(-np.maximum(depth - 6, 0) / 12)
    pixels = np.array(look.colour) * random.normal(1, 0.07) + (0, 0, random.normal(0, 2))
    pixels = pixels + texture[..., None] * (1, 0.45, 0.5) + tint[..., None] * (0.9, 0, -0.9)
    pixels += paler[..., None] * (36, 29, 20) + bluer[..., None] * (-6, -1, 6)
    covered = (depth / 2.5).clip(0, 1)
    return (pixels * covered[..., None]).clip(0, 255).astype(np.uint8)


def draw_slides(folder: Path, cells: int) -> int:
    """Draw *cells* BMP files in a folder for each of SLIDES, one of them cut short; count them."""
    for number, (slide, blasts) in enumerate(SLIDES.items()):
        (folder / slide).mkdir(parents=True, exist_ok=True)
        order = np.random.default_rng(number).permutation(cells)
        for cell, place in enumerate(order):
            look = BLAST if place + 0.5 < blasts * cells else NORMAL
            draw_cell(1000 * number + cell, look=look).save(folder / slide / f"cell-{cell:03}.bmp")
    damaged = folder / "suspicious-1" / "cell-000.bmp"
    damaged.write_bytes(damaged.read_bytes()[:100_000])
    return len(SLIDES) * cells


def main() -> None:
    """Draw what the command line asks for."""
    parser = argparse.ArgumentParser(description="Draw example slides.")
    parser.add_argument("folder", type=Path)
    parser.add_argument("--cells", type=int, default=60, help="per slide")
    asked = parser.parse_args()
    count = draw_slides(asked.folder, asked.cells)
    print(f"{count} cells in {asked.folder}, one of them damaged on purpose")


if __name__ == "__main__":
    main()
