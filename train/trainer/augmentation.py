"""
Training cells made different, a batch at a time, on the device that trains.

Legend: N cells, R x R stored pixels, V x V pixels seen by the network.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Protocol

import torch
from torch import Tensor
from torch.nn import functional

from train.data.backgrounds import none

if TYPE_CHECKING:
    from train.recipe import Recipe

__all__ = [
    "ROOM",
    "Augmentation",
    "NoAugmentation",
    "PaperAugmentation",
    "StainAugmentation",
    "open_augmentation",
    "reduced",
    "stored_window",
]

ROOM = 1.25  # cells are stored larger than the model's input, so that enlarging keeps detail
REACH = 1.8  # and wider: what turning, shrinking and shifting bring in, in sides of the input
BINOMIAL = (1 / 16, 4 / 16, 6 / 16, 4 / 16, 1 / 16)
DARK = 1 / 255  # optical density needs a floor: the background of segmented cells is black


class Augmentation(Protocol):
    """Turns stored cells into what the network trains on."""

    def __call__(self, pixels_NRR3: Tensor, view: int, generator: torch.Generator) -> Tensor:
        """
        Augment a batch.

        Args:
            pixels_NRR3: uint8 RGB, on the training device.
            view: V.
            generator: On the CPU; every random number comes from it, so that a resumed training
                sees what an undisturbed one would have seen.

        Returns:
            ``(N, 3, V, V)`` float32 in 0..1.
        """
        ...


@dataclass(frozen=True, slots=True)
class NoAugmentation:
    """
    No augmentation: the middle of the crop at the model's scale.

    Attributes:
        size: Of the model's input.
        window: Share of the stored cells' sides that the model's input shows.
    """

    size: int
    window: float = 1.0

    def __call__(self, pixels_NRR3: Tensor, view: int, generator: torch.Generator) -> Tensor:
        """Bring cells to the model's scale and cut the view."""
        del generator
        pixels, side = _unit_range(pixels_NRR3), round(self.size / self.window)
        scaled = functional.interpolate(
            pixels, (side, side), mode="bicubic", antialias=True, align_corners=False
        )
        margin = (side - view) // 2
        return scaled[:, :, margin : margin + view, margin : margin + view].clamp(0, 1)


@dataclass(frozen=True, slots=True, kw_only=True)
class StainAugmentation:
    """
    Other microscopes, other stains, other days: what differs between centres and subjects.

    Attributes:
        size: Of the model's input.
        window: Share of the stored cells' sides that the model's input shows.
        zoom: Cells are scaled by up to this factor either way: size alone tells the classes of
            some data sets apart, and means nothing at another magnification.
        stretch: Likewise, of one axis against the other.
        shift: Of the centre, in widths of the model's input.
        stain: Spread of the mixing of optical densities (how much of each dye).
        dye: Spread, in factors of e, of all optical densities: how long the slide was stained.
        gain: Spread, in octaves, of each channel's brightness; half of it of all together.
        focus: Blur up to this much; sharpening up to half of it.
        noise: Largest standard deviation of the added noise.
        grainy: Share of crops whose black background gets noise, too; scanners and masks leave it
            at exactly zero, a lossy file does not.
        behind: Share of crops that get one of the backgrounds behind what is not black, if there
            are any.
        backgrounds: ``(M, T, T, 3)`` uint8, at the scale of the stored crops.
    """

    size: int
    window: float = 1.0
    zoom: float = 1.1
    stretch: float = 1.08
    shift: float = 0.05
    stain: float = 0.06
    dye: float = 0.15
    gain: float = 0.2
    focus: float = 0.7
    noise: float = 0.02
    grainy: float = 0.25
    behind: float = 0.3
    backgrounds: Tensor = field(default_factory=none)

    def __call__(self, pixels_NRR3: Tensor, view: int, generator: torch.Generator) -> Tensor:
        """Move, then stain, then focus: the order in which an image comes about."""
        draw = _Draw(len(pixels_NRR3), generator, pixels_NRR3.device)
        pixels = _unit_range(pixels_NRR3)
        share, placement = view / self.size * self.window, self._placement(draw)
        if len(self.backgrounds):
            pixels = torch.cat([pixels, _inside(pixels)], 1)
            pixels, cell = _warped(pixels, placement, share, view).tensor_split([3], 1)
            behind, chosen = self._behind(draw, share * pixels_NRR3.shape[1], view)
            pixels = torch.where(chosen, pixels * cell + behind * (1 - cell), pixels)
        else:
            pixels = _warped(pixels, placement, share, view)
        pixels = self._stained(pixels, draw)
        pixels = self._focused(pixels, draw)
        grain = draw.normal(3, view, view) * draw.uniform(0, self.noise, 1, 1, 1)
        falls = (pixels > DARK) | draw.chance(self.grainy, 1, 1, 1)
        return (pixels + grain * falls).clamp(0, 1)

    def _behind(self, draw: _Draw, reach: float, view: int) -> tuple[Tensor, Tensor]:
        """
        Return ``(N, 3, V, V)``, what could show where there is no cell, and which crops show it.

        Args:
            draw: Chooses backgrounds, places and crops.
            reach: Stored pixels that the view spans; beyond a background's edge it is mirrored.
            view: V.
        """
        chosen = draw.uniform(0, len(self.backgrounds)).long().clamp_max(len(self.backgrounds) - 1)
        shown = _unit_range(self.backgrounds.to(chosen.device)[chosen])
        share = reach / self.backgrounds.shape[1]
        placed = _warped(shown, self._placement(draw), share, view, beyond="reflection")
        return placed, draw.chance(self.behind, 1, 1, 1)

    def _placement(self, draw: _Draw) -> Tensor:
        """``(N, 2, 3)``: where each output pixel comes from; turned, flipped, scaled, shifted."""
        angle = draw.uniform(-math.pi, math.pi)
        log_zoom, log_stretch = math.log(self.zoom), math.log(self.stretch)
        scale = torch.exp(draw.uniform(-log_zoom, log_zoom))
        stretch = torch.exp(draw.uniform(-log_stretch, log_stretch))
        flip = draw.sign()
        turn = torch.stack([angle.cos(), -angle.sin(), angle.sin(), angle.cos()], 1).view(-1, 2, 2)
        sides = torch.stack([flip * stretch / scale, 1 / (stretch * scale)], 1)
        shift = draw.uniform(-1, 1, 2, 1) * 2 * self.shift * self.window
        return torch.cat([turn * sides[:, None, :], shift], 2)

    def _stained(self, pixels: Tensor, draw: _Draw) -> Tensor:
        """Mix optical densities and brighten channels; black stays black."""
        mixing = torch.eye(3, device=pixels.device) + self.stain * draw.normal(3, 3)
        density = -pixels.clamp_min(DARK).log() * (self.dye * draw.normal(1, 1, 1)).exp()
        mixed = torch.einsum("nij,njhw->nihw", mixing, density)
        octaves = draw.normal(3, 1, 1) * self.gain + draw.normal(1, 1, 1) * self.gain / 2
        shown = torch.exp2(octaves - mixed / math.log(2))
        return torch.where(pixels.amax(1, keepdim=True) > DARK, shown, pixels).clamp(0, 1)

    def _focused(self, pixels: Tensor, draw: _Draw) -> Tensor:
        """Blend with a blurred copy, or away from it, half of the cells each time."""
        amount = draw.uniform(-self.focus / 2, self.focus, 1, 1, 1) * (draw.sign(1, 1, 1) > 0)
        return (pixels + amount * (_blurred(pixels) - pixels)).clamp(0, 1)


@dataclass(frozen=True, slots=True)
class PaperAugmentation:
    """
    The paper's nine stochastic steps, in sequence, each applied with probability one half.

    Named by the paper's summary: flips, rotation, colour jitter, affine, blur, perspective, noise.
    Which the ninth is, and how strong each is, it leaves open; here the ninth is sharpening.
    """

    size: int
    window: float = 1.0

    def __call__(self, pixels_NRR3: Tensor, view: int, generator: torch.Generator) -> Tensor:
        """Apply the steps to each cell by itself, with torchvision's transforms."""
        plain = NoAugmentation(self.size, self.window)(pixels_NRR3, view, generator)
        steps = _paper_steps()
        with torch.random.fork_rng(devices=[]):
            # torchvision draws from the global generator only.
            torch.manual_seed(int(torch.randint(2**62, (), generator=generator)))
            return torch.stack([steps(cell) for cell in plain]).clamp(0, 1)


def open_augmentation(
    recipe: Recipe, scale: float = 1.0, backgrounds: Tensor | None = None
) -> Augmentation:
    """Return the recipe's augmentation, for crops reduced by *scale*; so are the backgrounds."""
    size, window = round(recipe.img_size * scale), stored_window(recipe)
    if recipe.augment == "stain":
        behind = none() if backgrounds is None else backgrounds
        return StainAugmentation(size=size, window=window, backgrounds=reduced(behind, scale))
    return (
        PaperAugmentation(size, window)
        if recipe.augment == "paper"
        else NoAugmentation(size, window)
    )


def stored_window(recipe: Recipe) -> float:
    """Return the share of the stored cells' sides that the model's input shows."""
    return max(recipe.crop_pct, 1 / REACH)


def reduced(pixels_NRR3: Tensor, scale: float) -> Tensor:
    """Bring uint8 crops to *scale* of their side, antialiased."""
    if scale == 1 or not len(pixels_NRR3):
        return pixels_NRR3
    side = round(pixels_NRR3.shape[1] * scale)
    planes = pixels_NRR3.permute(0, 3, 1, 2).float()  # CUDA resizes no bytes
    smaller = functional.interpolate(
        planes, (side, side), mode="bilinear", antialias=True, align_corners=False
    )
    return smaller.round().to(torch.uint8).permute(0, 2, 3, 1)


@dataclass(frozen=True, slots=True)
class _Draw:
    """Random numbers, one row per cell, from one generator, on one device."""

    n: int
    generator: torch.Generator
    device: torch.device

    def normal(self, *shape: int) -> Tensor:
        return torch.randn(self.n, *shape, generator=self.generator).to(self.device)

    def uniform(self, low: float, high: float, *shape: int) -> Tensor:
        unit = torch.rand(self.n, *shape, generator=self.generator).to(self.device)
        return low + (high - low) * unit

    def sign(self, *shape: int) -> Tensor:
        return 1.0 - 2.0 * self.uniform(0, 1, *shape).round()

    def chance(self, share: float, *shape: int) -> Tensor:
        return self.uniform(0, 1, *shape) < share


def _unit_range(pixels_NRR3: Tensor) -> Tensor:
    """Return ``(N, 3, R, R)`` float32 in 0..1."""
    return pixels_NRR3.permute(0, 3, 1, 2).float() / 255


def _warped(
    pixels: Tensor, placement: Tensor, share: float, view: int, beyond: str = "zeros"
) -> Tensor:
    """Sample the middle *share* of each placed crop at ``view`` x ``view``; *beyond*: as torch."""
    placement = torch.cat([placement[:, :, :2] * share, placement[:, :, 2:]], 2)
    shape = [*pixels.shape[:2], view, view]
    grid = functional.affine_grid(placement, shape, align_corners=False)
    return functional.grid_sample(pixels, grid, padding_mode=beyond, align_corners=False)


def _inside(pixels: Tensor) -> Tensor:
    """``(N, 1, R, R)``: 1 where there is a cell, less its rim, which masks and resizing darken."""
    outside = (pixels.amax(1, keepdim=True) <= DARK).float()
    return 1 - functional.max_pool2d(outside, 5, stride=1, padding=2)


def _blurred(pixels: Tensor) -> Tensor:
    """Blur with a binomial in both directions; sums of shifts, ten times as fast as conv2d here."""
    for axis, padding in ((2, (0, 0, 2, 2)), (3, (2, 2, 0, 0))):
        padded, length = functional.pad(pixels, padding), pixels.shape[axis]
        shifts = (padded.narrow(axis, i, length) * tap for i, tap in enumerate(BINOMIAL))
        pixels = sum(shifts, start=torch.zeros(()))
    return pixels


def _paper_steps() -> torch.nn.Module:
    """Build the nine steps."""
    from torchvision.transforms import v2

    steps: list[torch.nn.Module] = [
        v2.RandomHorizontalFlip(),
        v2.RandomVerticalFlip(),
        v2.RandomApply([v2.RandomRotation(45.0)]),
        v2.RandomApply([v2.ColorJitter(0.2, 0.2, 0.2, 0.05)]),
        v2.RandomApply([v2.RandomAffine(0, (0.1, 0.1), (0.9, 1.1), 10)]),
        v2.RandomApply([v2.GaussianBlur(5, (0.1, 1.5))]),
        v2.RandomPerspective(0.2),
        v2.RandomAdjustSharpness(2.0),
        v2.RandomApply([v2.GaussianNoise(sigma=0.03)]),
    ]
    composed: torch.nn.Module = v2.Compose(steps)
    return composed
