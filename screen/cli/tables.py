"""Engines as tables and lines for a person, and as JSON for a program."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from rich.table import Table
from rich.text import Text

from engines.sources.names import printable

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from engines.tensorrt.engine_store import Engine
    from screen.engine_verify import Finding

__all__ = ["as_json", "engine_line", "findings_table", "list_table", "record_table"]

MARKS = {"ok": "ok", "failed": "FAILED", "not checked": "--"}


def list_table(engines: Sequence[Engine]) -> Table:
    """Draw a row for each engine."""
    table = Table(header_style="bold")
    for name in ("key", "precision", "batch", "variant", "made for", "model", "size", "half"):
        right = name in ("batch", "size", "half")
        whole = name in ("key", "precision", "size")
        table.add_column(name, justify="right" if right else "left", no_wrap=whole, overflow="fold")
    for one in engines:
        table.add_row(*(Text(printable(cell)) for cell in _row(one)))
    return table


def record_table(one: Engine) -> Table:
    """Draw all that is recorded of an engine."""
    table = Table(show_header=False)
    table.add_column(overflow="fold")
    table.add_column(overflow="fold")
    for name, value in _flat(as_json(one)):
        table.add_row(name, Text(printable(value)))
    return table


def findings_table(findings: Sequence[Finding]) -> Table:
    """Draw what was checked, and how it went."""
    table = Table("", "checked", "detail", header_style="bold")
    for finding in findings:
        table.add_row(MARKS[finding.outcome], finding.name, Text(printable(finding.detail)))
    return table


def _row(one: Engine) -> tuple[str, ...]:
    """Return an engine's cells of the list."""
    key = one.key
    return (
        key.short,
        key.precision,
        str(key.batch),
        f"{key.variant} {key.variant_version}",
        key.made_for,
        f"{one.record['bundle']['architecture']} {one.record['bundle']['sha256'][:12]}",
        f"{one.record['plan']['bytes'] / 1e6:.1f} MB",
        f"{one.record['types']['half_share']:.0%}",
    )


def engine_line(one: Engine) -> str:
    """Say which engine in a line."""
    kept = ", ".join(one.record["keep_fp32"]) or "nothing"
    key, precision, batch, variant, made_for, model, size, half = _row(one)
    return printable(
        f"{key}: {model}, {precision}, batch {batch}, {variant}, for {made_for}: {size}, "
        f"{half} of layers in half, kept in float32: {kept}"
    )


def as_json(one: Engine) -> dict[str, Any]:
    """Return an engine's record with its name and place."""
    return {"digest": one.path.stem, "path": str(one.path), **one.record}


def _flat(value: Any, name: str = "") -> Iterator[tuple[str, str]]:
    """Walk a record: dotted names and values, lists on one line."""
    if isinstance(value, dict) and value:
        for key, below in value.items():
            yield from _flat(below, f"{name}.{key}" if name else key)
    elif isinstance(value, list) and value and isinstance(value[0], dict):
        for index, below in enumerate(value):
            yield from _flat(below, f"{name}.{index}")
    else:
        plain = not isinstance(value, list | dict)
        yield name, str(value) if plain else ", ".join(map(str, value)) or "none"
