"""Which slides are named like people whom the model was trained on."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Collection, Sequence

__all__ = ["is_trained_on", "trained_on_warning"]

MOST_NAMED = 5


def is_trained_on(slide: str, subjects: Collection[str]) -> bool | None:
    """
    Say whether a slide's name, or the last folder in it, is one of *subjects*, whatever its case.

    Args:
        slide: As the slide rule names it.
        subjects: People whom the model was trained on, in capitals.

    Returns:
        None where nobody is named.
    """
    return slide.rpartition("/")[2].upper() in subjects if subjects else None


def trained_on_warning(slides: Sequence[str]) -> str:
    """Say that *slides* are named like people whom the model was trained on; empty for none."""
    if not slides:
        return ""
    named = ", ".join(slides[:MOST_NAMED]) + (", ..." if len(slides) > MOST_NAMED else "")
    one = len(slides) == 1
    return (
        f"{len(slides):,} {'slide is' if one else 'slides are'} named like "
        f"{'a person' if one else 'people'} whom the model was trained on ({named}): "
        "if these are the same people, figures on them are better than on anyone new."
    )
