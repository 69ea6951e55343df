"""Which slide a cell belongs to, told from its path."""

from __future__ import annotations

import re
from dataclasses import dataclass
from posixpath import basename, dirname, splitext
from typing import TYPE_CHECKING

from engines.errors import SourceError

if TYPE_CHECKING:
    from collections.abc import Iterable

__all__ = ["CNMC_NAME", "UNMATCHED", "SlideRule"]

UNMATCHED = "(unmatched)"
CNMC_NAME = re.compile(r"UID_(?P<subject>[^_]+)_\d+_\d+_(?P<label>[A-Za-z]+)", re.ASCII)


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

    def slides(self, paths: Iterable[str], source_name: str) -> list[str]:
        """
        Name each cell's slide, ``(unmatched)`` where the rule does not match.

        Args:
            paths: Relative to the source, ``/``-separated.
            source_name: Names the slide of cells that lie in no folder of their own.

        Raises:
            SourceError: If two different folders would become one slide.
        """
        if self.text == "parent":
            return _parents(paths, source_name)
        if self.text == "cnmc":
            return [_cnmc_subject(path) for path in paths]
        search = re.compile(self.text).search
        return [_group_slide(search(path)) for path in paths]


def _parents(paths: Iterable[str], source_name: str) -> list[str]:
    """Name each cell's folder."""
    slides = [dirname(path) for path in paths]
    if "" in slides and source_name in slides:
        raise SourceError(
            f"cells lie both in {source_name} and in a folder of that name within it: "
            "as slides they could not be told apart",
            hint="name slides with --slide and a regular expression",
        )
    return [slide or source_name for slide in slides]


def _cnmc_subject(path: str) -> str:
    """Return C-NMC's subject id; case does not count (fold 2 writes both H3 and h3)."""
    match = CNMC_NAME.fullmatch(splitext(basename(path))[0])
    return match["subject"].upper() if match else UNMATCHED


def _group_slide(match: re.Match[str] | None) -> str:
    """Return what the group caught, if anything."""
    return (match and match["slide"]) or UNMATCHED
