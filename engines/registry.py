"""A choice carries its reason."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Generic, TypeVar

__all__ = ["Choice"]


T = TypeVar("T")


@dataclass(frozen=True, slots=True)
class Choice(Generic[T]):
    """What was taken, and why: ``asked for``, or what made it the best of what works here."""

    value: T
    reason: str
