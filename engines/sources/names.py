"""Foreign text (names, messages) made safe to be shown to people."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Mapping

__all__ = ["class_words", "printable"]


def printable(text: str) -> str:
    """Show what a terminal would obey, or could not show, as an escape."""
    return "".join(
        char if char.isprintable() else char.encode("unicode_escape").decode() for char in text
    )


def class_words(name: str, display_names: Mapping[str, str]) -> str:
    """
    Return what people read for a class: its display name, or the bare name in quotes.

    Without quotes a class that is called ``all`` would read as English.
    """
    words = printable(display_names.get(name, name))
    return f"“{words}”" if words == name else words
