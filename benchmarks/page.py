"""What a benchmark prints: a Markdown table, and the machine, the day and the versions."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import TYPE_CHECKING

from engines.hardware.machine import package_versions, this_machine, usable_cores

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

__all__ = ["print_setting", "print_table"]


def print_table(title: str, header: Sequence[str], rows: Iterable[Sequence[object]]) -> None:
    """Print a table that can be pasted into the README."""
    cells = [list(header), *([str(value) for value in row] for row in rows)]
    widths = [max(len(row[column]) for row in cells) for column in range(len(header))]
    lines = [
        "| " + " | ".join(text.ljust(width) for text, width in zip(row, widths, strict=True)) + " |"
        for row in cells
    ]
    lines.insert(1, "|" + "|".join("-" * (width + 2) for width in widths) + "|")
    print(f"\n{title}\n", *lines, sep="\n", flush=True)


def print_setting(*, small: bool) -> None:
    """Print where, when and with what it was measured."""
    here = this_machine()
    versions = ", ".join(f"{name} {value}" for name, value in package_versions().items() if value)
    print(f"\n{here.cpu}, {usable_cores()} cores, {here.system}")
    print(f"{datetime.now(UTC):%Y-%m-%d %H:%M} UTC; {versions}")
    if small:
        print("A try-out with --small: these numbers mean nothing.")
