"""How a source is read: which cells are wanted, what columns are called, what is around a box."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from engines.errors import SourceError
from engines.sources.selection import EVERYTHING, Selection

if TYPE_CHECKING:
    from collections.abc import Iterable

__all__ = ["AS_IT_IS", "ROLES", "SourceOptions"]

ROLES = ("path", "slide", "cell_id", "label", "sha256", "x", "y", "width", "height", "image")
MOST_PIXELS = 25_000_000


@dataclass(frozen=True, slots=True, kw_only=True)
class SourceOptions:
    """
    How a source is read.

    Attributes:
        selection: Which of its cells are wanted.
        columns: What a table's columns are called, ``role=name`` each (see ROLES); an empty name
            says that there is no such column.
        box_margin: Pixels around a box that are shown, too.
        max_pixels: A field of more is not decoded: its cells are ``oversized``.
    """

    selection: Selection = EVERYTHING
    columns: tuple[str, ...] = ()
    box_margin: int = 0
    max_pixels: int = MOST_PIXELS
    names: dict[str, str] = field(init=False, repr=False, compare=False)

    def __post_init__(self) -> None:
        """
        Look at the names of columns.

        Raises:
            SourceError: If one is given for what is no role.
        """
        if self.box_margin < 0:
            raise ValueError(f"box_margin must be at least 0, got {self.box_margin}")
        object.__setattr__(self, "names", dict(_pairs(self.columns)))


def _pairs(columns: Iterable[str]) -> Iterable[tuple[str, str]]:
    """Yield role and name of each column."""
    for column in columns:
        role, equals, name = column.partition("=")
        if not equals or role not in ROLES:
            raise SourceError(
                f"--column {column} does not say which column is which",
                hint=f"write ROLE=NAME, the role being one of {', '.join(ROLES)}",
            )
        yield role, name


AS_IT_IS = SourceOptions()
