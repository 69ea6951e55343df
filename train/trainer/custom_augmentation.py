"""An augmentation of the user's own: a function of a batch, named ``module:function``."""

from __future__ import annotations

import hashlib
import inspect
import random
import sys
from dataclasses import dataclass
from importlib import import_module
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import torch

from engines.errors import UserError
from train.trainer.augmentation import NoAugmentation, open_augmentation, stored_window

if TYPE_CHECKING:
    from collections.abc import Callable

    from numpy.typing import NDArray
    from torch import Tensor

    from train.recipe import Recipe
    from train.trainer.augmentation import Augmentation

    Function = Callable[[NDArray[np.uint8]], NDArray[np.uint8]]

__all__ = ["CustomAugmentation", "augmentation_digest", "recipe_augmentation"]

HINT = (
    "give module:function, importable from here; it takes and returns a batch of crops, "
    "(N, V, V, 3) uint8 RGB"
)


@dataclass(frozen=True, slots=True)
class CustomAugmentation:
    """
    Cells brought to the model's scale and cut to the view, then given to the user's function.

    The function may draw from ``random``, ``numpy.random`` and ``torch``: all three are seeded
    for every batch, so that a resumed training sees what an undisturbed one would have seen.

    Attributes:
        name: ``module:function``.
        function: Takes and returns ``(N, V, V, 3)`` uint8 RGB.
        plain: What comes before it.
    """

    name: str
    function: Function
    plain: NoAugmentation

    def __call__(self, pixels_NRR3: Tensor, view: int, generator: torch.Generator) -> Tensor:
        """
        Augment a batch; see ``train.trainer.augmentation.Augmentation``.

        Raises:
            UserError: If the function returns anything but such a batch.
        """
        shown = self.plain(pixels_NRR3, view, generator)
        given = (shown * 255).round().byte().permute(0, 2, 3, 1).contiguous().cpu().numpy()
        _seed(int(torch.randint(2**32, (), generator=generator)))
        made = np.asarray(self.function(given))
        if made.shape != (len(pixels_NRR3), view, view, 3) or made.dtype != np.uint8:
            raise UserError(
                f"{self.name} was given {tuple(shown.permute(0, 2, 3, 1).shape)} uint8 and "
                f"returned {made.shape} {made.dtype}",
                hint=HINT,
            )
        back = torch.from_numpy(np.ascontiguousarray(made)).to(shown.device)
        return back.permute(0, 3, 1, 2).float() / 255


def recipe_augmentation(recipe: Recipe, scale: float, backgrounds: Tensor) -> Augmentation:
    """
    Open the recipe's augmentation, or the user's own in its place.

    Args:
        recipe: See ``Recipe.custom_augment``.
        scale: Of the phase.
        backgrounds: For the recipe's own: see ``StainAugmentation``.
    """
    name = recipe.custom_augment
    if name is None:
        return open_augmentation(recipe, scale, backgrounds)
    plain = NoAugmentation(round(recipe.img_size * scale), stored_window(recipe))
    return CustomAugmentation(name, named_function(name), plain)


def named_function(name: str) -> Function:
    """
    Import the function that ``module:function`` names; the working directory is searched, too.

    Raises:
        UserError: If there is none.
    """
    module, _, function = name.partition(":")
    if not function:
        raise UserError(f"--augment {name!r} is not module:function", hint=HINT)
    if (here := str(Path.cwd())) not in sys.path:
        sys.path.append(here)
    try:
        found: Function = getattr(import_module(module), function)
    except (AttributeError, ImportError) as error:
        raise UserError(f"cannot import --augment {name}: {error}", hint=HINT) from error
    if not callable(found):
        raise UserError(f"--augment {name} is not a function", hint=HINT)
    return found


def augmentation_digest(name: str | None) -> str:
    """Return SHA-256 of the file that a user's function stands in, in hex; empty without one."""
    if name is None:
        return ""
    file = inspect.getsourcefile(inspect.unwrap(named_function(name)))
    return hashlib.sha256(Path(file).read_bytes()).hexdigest() if file else ""


def _seed(seed: int) -> None:
    """Seed whatever the function may draw from."""
    random.seed(seed)
    np.random.seed(seed)  # noqa: NPY002 -- what libraries of augmentations draw from
    torch.manual_seed(seed)
