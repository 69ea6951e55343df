"""What several sources say of their cells, brought under the same columns."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping, Sequence

    import pyarrow as pa

    from engines.sources.base import Source

__all__ = ["columns_of_all", "laid_out"]


def columns_of_all(sources: Iterable[Source]) -> dict[str, pa.DataType]:
    """Return the columns that any source has; as text where two differ in the type."""
    columns: dict[str, pa.DataType] = {}
    for source in sources:
        for name, kind in source.carried.items():
            columns[name] = kind if columns.get(name, kind) == kind else _text()
    return columns


def laid_out(
    values: Sequence[Any], own: Mapping[str, pa.DataType], columns: Mapping[str, pa.DataType]
) -> tuple[Any, ...]:
    """Bring what a source says of a cell under the columns of all; None where it says nothing."""
    said = dict(zip(own, values, strict=True))
    return tuple(
        str(said[name]) if said.get(name) is not None and kind != own[name] else said.get(name)
        for name, kind in columns.items()
    )


def _text() -> pa.DataType:
    """Return Arrow's type of text."""
    import pyarrow as pa

    return pa.string()
