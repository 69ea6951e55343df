"""Which slide a cell belongs to, told from its path."""

from __future__ import annotations

import re
from dataclasses import dataclass
from posixpath import basename, dirname, splitext
from typing import TYPE_CHECKING

from engines.errors import SourceError
from engines.sources.names import CNMC_NAME

if TYPE_CHECKING:
    from collections.abc import Callable

__all__ = ["UNMATCHED", "SlideRule"]

UNMATCHED = "(unmatched)"


@dataclass(frozen=True, slots=True)
class SlideRule:
    """
    A rule as the user states it.

    Attributes:
        text: ``parent``, the folder that holds the cell; ``cnmc``, the subject of
            ``UID_<subject>_<image>_<cell>_<label>``, in capitals; or a regular expression with a
            group ``slide``, searched in the path.
    """

    text: str = "parent"

    def __post_init__(self) -> None:
        """Refuse an expression that could name no slide."""
        if self.text in ("parent", "cnmc"):
            return
        try:
            groups = re.compile(self.text).groupindex
        except re.error as error:
            raise ValueError(f"{self.text!r} is not a regular expression: {error}") from error
        if "slide" not in groups:
            raise ValueError(
                f"{self.text!r} is neither parent nor cnmc, and has no group (?P<slide>...)"
            )

    def namer(self, source_name: str) -> Callable[[str], str]:
        """
        Return what names the slide of a cell by its path, ``(unmatched)`` where nothing matches.

        One namer is for the cells of one source: it raises SourceError as soon as two different
        folders would become one slide.

        Args:
            source_name: Names the slide of cells that lie in no folder of their own.
        """
        if self.text == "parent":
            return _Parents(source_name)
        if self.text == "cnmc":
            return _cnmc_subject
        search = re.compile(self.text).search
        return lambda path: _group_slide(search(path))


class _Parents:
    """Names each cell's folder."""

    def __init__(self, source_name: str) -> None:
        """Name cells in no folder after the source."""
        self._source_name = source_name
        self._kinds: set[bool] = set()  # whether cells lie in the source itself, or in its namesake

    def __call__(self, path: str) -> str:
        """Name one cell's folder."""
        folder = dirname(path)
        if folder in ("", self._source_name):
            self._kinds.add(not folder)
            if len(self._kinds) > 1:
                raise SourceError(
                    f"cells lie both in {self._source_name} and in a folder of that name within "
                    "it: as slides they could not be told apart",
                    hint="name slides with --slide and a regular expression",
                )
        return folder or self._source_name


def _cnmc_subject(path: str) -> str:
    """Return C-NMC's subject id; case does not count (fold 2 writes both H3 and h3)."""
    match = CNMC_NAME.fullmatch(splitext(basename(path))[0])
    return match["subject"].upper() if match else UNMATCHED


def _group_slide(match: re.Match[str] | None) -> str:
    """Return what the group caught, if anything."""
    return (match and match["slide"]) or UNMATCHED
