"""A training's state on disk: whole or absent, and only ever continued by the same training."""

from __future__ import annotations

import re
from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING, Any

import torch

from engines.errors import ResultsError
from engines.files import discard_scratch, whole_file

if TYPE_CHECKING:
    from pathlib import Path

    from train.recipe import Recipe
    from train.trainer.trainer import Training

__all__ = ["Identity", "load_state", "save_state"]


REVISION = 2  # one more whenever a training of the same recipe gives other numbers


@dataclass(frozen=True, slots=True, kw_only=True)
class Identity:
    """
    All that makes two trainings the same one.

    Attributes:
        recipe: What is done.
        init: Where the weights start from, as named by the user.
        seed: Of everything random.
        fold: Which part is held out.
        training: Digest of the training cells: paths, labels, contents.
        held_out: Likewise.
        backgrounds: Digest of the fields; empty for none.
        decoder: What decodes the cells: its pixels are not quite another's.
        augmentation: Digest of the file with the user's own augmentation; empty for none.
        processes: That train it together: each has random numbers and norms of its own.
        revision: Of this program's arithmetic.
    """

    recipe: Recipe
    init: str
    seed: int
    fold: int
    training: str
    held_out: str
    backgrounds: str = ""
    decoder: str = ""
    augmentation: str = ""
    processes: int = 1
    revision: int = REVISION

    def fields(self) -> dict[str, str]:
        """Return every field, the recipe's one by one, as text."""
        record = asdict(self)
        recipe = {f"recipe {name}": value for name, value in record.pop("recipe").items()}
        return {name: repr(value) for name, value in {**record, **recipe}.items()}


def save_state(file: Path, training: Training, identity: Identity) -> None:
    """Keep the state of an epoch's end; a kill at any moment leaves the last one."""
    with whole_file(file) as scratch:
        torch.save({"identity": identity.fields(), **training.state()}, scratch)


def load_state(file: Path, identity: Identity) -> dict[str, Any] | None:
    """
    Return the state to resume from, or None where there is none.

    Raises:
        ResultsError: If it is another training's, or damaged.
    """
    discard_scratch(file.parent, re.escape(file.name))
    if not file.exists():
        return None
    try:
        state: dict[str, Any] = torch.load(file, map_location="cpu", weights_only=True)
        there = state.pop("identity")
    except Exception as error:
        raise ResultsError(f"cannot read {file}: {error}", hint="pass --restart") from error
    asked = identity.fields()
    differing = [name for name in asked if there.get(name) != asked[name]]
    if differing:
        name = differing[0]
        raise ResultsError(
            f"{file.parent} holds another training: {name} was {there.get(name)}, is {asked[name]}",
            hint="choose another --out, or pass --restart to begin anew",
        )
    return state
