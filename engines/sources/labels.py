"""What the cells really are, where that is known: from a table, or from their names."""

from __future__ import annotations

import re
from pathlib import Path
from posixpath import basename, splitext
from typing import TYPE_CHECKING, Protocol

import numpy as np

from engines.errors import SourceError
from engines.sources.names import CNMC_NAME
from engines.sources.tables.columns import is_table_name, read_columns

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping, Sequence

    from numpy.typing import NDArray

__all__ = ["FOREIGN", "UNKNOWN", "Labels", "open_labels"]

UNKNOWN, FOREIGN = -1, -2
FOLDER = re.compile(r"(?P<label>[^/]+)/[^/]+$")
LABELS_HINT = "name a .csv or .parquet file with the columns path and label, folders, or cnmc"


class Labels(Protocol):
    """Tells what a cell really is."""

    def codes(self, paths: Sequence[str]) -> NDArray[np.int64]:
        """Return each cell's class as an index, ``UNKNOWN``, or ``FOREIGN`` to the model."""
        ...


def open_labels(asked: str, classes: Sequence[str]) -> Labels:
    """
    Open labels.

    Args:
        asked: A CSV or Parquet file with columns ``path`` (or ``file``) and ``label``; ``cnmc``,
            the end of ``UID_<subject>_<image>_<cell>_<label>``; ``folders``, the folder that holds
            the cell; or a regular expression with a group ``label``, searched in the path.
        classes: Of the model.

    Raises:
        SourceError: If it is none of these, or contradicts itself.
    """
    code = {name: index for index, name in enumerate(classes)}
    if asked == "cnmc":
        return NameLabels(CNMC_NAME, code, whole_stem=True)
    if asked == "folders":
        return NameLabels(FOLDER, code)
    if is_table_name(asked):
        return TableLabels(_labels_of_table(Path(asked)), code)
    try:
        pattern = re.compile(asked)
    except re.error as error:
        raise SourceError(
            f"{asked!r} is not a regular expression: {error}", hint=LABELS_HINT
        ) from error
    if "label" not in pattern.groupindex:
        raise SourceError(
            f"{asked!r} is no CSV or Parquet file, nor folders nor cnmc, and has no group "
            "(?P<label>...)",
            hint=LABELS_HINT,
        )
    return NameLabels(pattern, code)


class NameLabels:
    """Labels that are part of the cells' names."""

    def __init__(
        self, pattern: re.Pattern[str], code: Mapping[str, int], *, whole_stem: bool = False
    ) -> None:
        """Search *pattern* in the path, or match it with all of the name but its extension."""
        self._pattern = pattern
        self._code = code
        self._whole_stem = whole_stem

    def codes(self, paths: Sequence[str]) -> NDArray[np.int64]:
        """Read the names."""
        return np.array([self._code_of(path) for path in paths], np.int64)

    def _code_of(self, path: str) -> int:
        """Read one name."""
        if self._whole_stem:
            match = self._pattern.fullmatch(splitext(basename(path))[0])
        else:
            match = self._pattern.search(path)
        label = match and match["label"]
        return UNKNOWN if not label else self._code.get(label, FOREIGN)


class TableLabels:
    """
    Labels from a table; it is held in memory.

    A key without a folder also finds the one cell of that name in any folder.
    """

    def __init__(self, rows: Iterable[tuple[str, str]], code: Mapping[str, int]) -> None:
        """
        Index the rows.

        Raises:
            SourceError: If a cell has two labels.
        """
        self._codes: dict[str, int] = {}
        self._found: dict[str, str] = {}
        known = self._codes.setdefault
        for path, label in rows:
            value = code.get(label, FOREIGN)
            if known(path, value) != value:
                raise SourceError(
                    f"the labels name {path} twice, with different labels", hint="name it once"
                )

    def codes(self, paths: Sequence[str]) -> NDArray[np.int64]:
        """
        Look cells up.

        Raises:
            SourceError: If one row would label two cells.
        """
        # A key with a folder in it fits no other cell; only of the others there is more to know.
        known = self._codes.get
        codes = [known(path) if "/" in path else None for path in paths]
        found = [
            self._code_of(path) if c is None else c for path, c in zip(paths, codes, strict=True)
        ]
        return np.array(found, np.int64)

    def _code_of(self, path: str) -> int:
        """Look one cell up, by path, then by name."""
        if path in self._codes:
            key = path
        elif (key := basename(path)) not in self._codes:
            return UNKNOWN
        if self._found.setdefault(key, path) != path:
            raise SourceError(
                f"the labels' row {key} fits both {self._found[key]} and {path}",
                hint="write the whole path, relative to the folder of cells, in the column path",
            )
        return self._codes[key]


def _labels_of_table(path: Path) -> Iterable[tuple[str, str]]:
    """Return path and label of the rows that have both."""
    try:
        table = read_columns(path, ["path", "label"])
    except SourceError as error:
        raise SourceError(str(error), hint=LABELS_HINT) from error
    rows = zip(table["path"].to_pylist(), table["label"].to_pylist(), strict=True)
    return [(path, label) for path, label in rows if path and label]
