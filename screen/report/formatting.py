"""Numbers and foreign names as a person reads them."""

from __future__ import annotations

from engines.sources.names import printable

__all__ = ["count", "moment", "p_value", "percent", "plural", "probability", "shown"]

LONGEST = 240
SMALLEST_P = 0.001


def shown(text: str) -> str:
    """Make foreign text visible as what it is, and cut a long one in the middle."""
    text = printable(text)
    if len(text) <= LONGEST:
        return text
    half = LONGEST // 2
    return f"{text[:half]} … {text[-half:]}"


def count(number: int) -> str:
    """Group thousands."""
    return f"{number:,}"


def percent(share: float | None) -> str:
    """Write a share; ``none`` where there is none."""
    return "none" if share is None else f"{share:.1%}"


def plural(number: int, one: str, many: str = "") -> str:
    """Write how many of what."""
    return f"{number:,} {one if number == 1 else many or one + 's'}"


def probability(value: float) -> str:
    """Write a probability to three digits."""
    return f"{value:.3f}"


def p_value(value: float) -> str:
    """Write a p-value to three digits, the smallest as a bound, so that no line breaks in it."""
    text = f"p < {SMALLEST_P}" if value < SMALLEST_P else f"p = {value:.3f}"
    return text.replace(" ", "\N{NO-BREAK SPACE}")


def moment(time: str) -> str:
    """Write a time of run.json, which is UTC, to the minute."""
    return f"{time[:10]} {time[11:16]} UTC"
