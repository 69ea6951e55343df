"""What a source says it holds."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Sequence

__all__ = ["Listing"]


@dataclass(frozen=True, slots=True)
class Listing:
    """
    What a source holds.

    Attributes:
        paths: Of the cells, sorted, each once.
        ignored: How many other files there are.
        examples: Some of those, for the record.
    """

    paths: Sequence[str]
    ignored: int = 0
    examples: Sequence[str] = field(default_factory=tuple)
