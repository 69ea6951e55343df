"""A share of a run's shards, as ``--part 3/32`` names it."""

from __future__ import annotations

import re
from dataclasses import dataclass

__all__ = ["Share"]

FORM = re.compile(r"(\d+)/(\d+)")


@dataclass(frozen=True, slots=True)
class Share:
    """
    One of several nearly equal shares.

    Attributes:
        number: Which, from 1.
        of: How many there are.
    """

    number: int
    of: int

    def __post_init__(self) -> None:
        """Refuse a share that does not exist."""
        if not 1 <= self.number <= self.of:
            raise ValueError(f"there is no part {self.number}/{self.of}: parts are 1/N to N/N")

    @classmethod
    def parsed(cls, text: str) -> Share:
        """
        Read ``3/32``.

        Raises:
            ValueError: If it is not of that form.
        """
        if not (found := FORM.fullmatch(text)):
            raise ValueError(f"{text!r} is not a part such as 3/32")
        return cls(int(found[1]), int(found[2]))

    def __str__(self) -> str:
        """As it is typed."""
        return f"{self.number}/{self.of}"

    def shards(self, count: int) -> range:
        """Return the indices of its shards among *count*: one stretch of the plan."""
        return range((self.number - 1) * count // self.of, self.number * count // self.of)
