"""
Draw example cells: slides of stained blood cells on black, as C-NMC 2019 crops look.

They are drawings. What the model says of them means nothing; they show how the tool works.

Example:
    python examples/draw_cells.py cells --slides 4 --cells 24
"""

from __future__ import annotations

import argparse
from pathlib import Path

import numpy as np
from PIL import Image, ImageDraw, ImageFilter

__all__ = ["draw_cell", "draw_slides"]


def draw_cell(seed: int, size: tuple[int, int] = (450, 450)) -> Image.Image:
    """Draw one cell, *size* (width, height) in pixels, RGB; the same seed gives the same cell."""
    random = np.random.default_rng(seed)
    image = Image.new("RGB", size)
    pen = ImageDraw.Draw(image)
    center, radius = np.array(size) / 2, min(size) * random.uniform(0.22, 0.34)
    _blob(pen, random, center, radius, tuple(random.integers((170, 140, 190), (215, 190, 230))))
    nucleus = center + random.uniform(-0.2, 0.2, 2) * radius
    violet = tuple(random.integers((70, 25, 110), (130, 80, 170)))
    _blob(pen, random, nucleus, radius * random.uniform(0.55, 0.9), violet)
    return _stained(image, random)


def _blob(
    pen: ImageDraw.ImageDraw,
    random: np.random.Generator,
    center: np.ndarray,
    radius: float,
    colour: tuple[int, ...],
) -> None:
    """Fill a round shape with a wavy edge."""
    angles = np.linspace(0, 2 * np.pi, 72, endpoint=False)
    edge = np.full_like(angles, radius)
    for lobes in (2, 3, 5):
        height, phase = random.uniform(0, 0.06), random.uniform(0, 6)
        edge += radius * height * np.sin(lobes * angles + phase)
    points = np.stack([np.cos(angles), np.sin(angles)], 1) * edge[:, None] + center
    pen.polygon([tuple(point) for point in points], fill=tuple(int(value) for value in colour))


def _stained(image: Image.Image, random: np.random.Generator) -> Image.Image:
    """Add texture inside the cell and leave the background black."""
    pixels = np.asarray(image.filter(ImageFilter.GaussianBlur(1.5))).astype(np.int16)
    grain = random.normal(0, 9, pixels.shape) * (pixels.sum(axis=2, keepdims=True) > 0)
    return Image.fromarray((pixels + grain).clip(0, 255).astype(np.uint8))


def draw_slides(folder: Path, slides: int, cells: int) -> int:
    """Draw *cells* BMP files in each of *slides* folders, one of them cut short; count them."""
    for slide in range(slides):
        place = folder / f"slide-{slide + 1}"
        place.mkdir(parents=True, exist_ok=True)
        for cell in range(cells):
            draw_cell(1000 * slide + cell).save(place / f"cell-{cell:03}.bmp")
    damaged = folder / "slide-1" / "cell-000.bmp"
    damaged.write_bytes(damaged.read_bytes()[:100_000])
    return slides * cells


def main() -> None:
    """Draw what the command line asks for."""
    parser = argparse.ArgumentParser(description="Draw example cells.")
    parser.add_argument("folder", type=Path)
    parser.add_argument("--slides", type=int, default=4)
    parser.add_argument("--cells", type=int, default=24, help="per slide")
    asked = parser.parse_args()
    count = draw_slides(asked.folder, asked.slides, asked.cells)
    print(f"{count} cells in {asked.folder}, one of them damaged on purpose")


if __name__ == "__main__":
    main()
