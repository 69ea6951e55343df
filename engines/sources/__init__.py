"""Where cells come from: one row per kind of source."""

from __future__ import annotations

import os
from dataclasses import dataclass
from importlib import import_module
from typing import TYPE_CHECKING

from engines.errors import SourceError
from engines.sources.base import Entry, Listing, Source

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

__all__ = ["SOURCES", "Entry", "Listing", "Source", "SourceKind", "open_source"]


@dataclass(frozen=True, slots=True)
class SourceKind:
    """
    A kind of source.

    Attributes:
        name: What to call it.
        means: What it is, for people.
        recognises: Whether what is at a path is one.
        opener: ``module:callable`` that opens the path as a Source.
    """

    name: str
    means: str
    recognises: Callable[[Path], bool]
    opener: str


SOURCES = (
    SourceKind(
        name="folder",
        means="a folder of image files, and the folders in it",
        recognises=os.path.isdir,
        opener="engines.sources.folder:FolderSource",
    ),
)


def open_source(path: Path) -> Source:
    """
    Open the source at *path*, as the first kind that recognises it.

    Raises:
        SourceError: If there is none, or of no known kind.
    """
    if not path.exists():
        raise SourceError(f"there is nothing at {path}", hint="check the path of the cells")
    kind = next((kind for kind in SOURCES if kind.recognises(path)), None)
    if kind is None:
        raise SourceError(
            f"{path} is a file, not a folder of cells", hint=f"name its folder, {path.parent}"
        )
    module, _, name = kind.opener.partition(":")
    opened: Source = getattr(import_module(module), name)(path)
    return opened
