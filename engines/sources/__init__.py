"""Where cells come from: one row per kind of source."""

from __future__ import annotations

import itertools
import os
from dataclasses import dataclass
from glob import glob, has_magic
from importlib import import_module
from pathlib import Path
from typing import TYPE_CHECKING

from engines.errors import SourceError
from engines.sources.base import Entry, Listing, Source
from engines.sources.images import ImagesSource, names_an_image
from engines.sources.selection import EVERYTHING, Selection
from engines.sources.several import SeveralSources

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable

__all__ = [
    "EVERYTHING",
    "SOURCES",
    "Entry",
    "Listing",
    "Selection",
    "Source",
    "SourceKind",
    "open_source",
]


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


def open_source(
    asked: Path | str | Iterable[Path | str], selection: Selection = EVERYTHING
) -> Source:
    """
    Open a source, or several as one.

    Args:
        asked: Folders, image files, or patterns of such (``slides/*/cells``, ``**`` for folders at
            any depth).
        selection: Which of the cells are wanted.

    Raises:
        SourceError: If there is nothing there, or nothing of a known kind.
    """
    paths = [Path(asked)] if isinstance(asked, str | Path) else [Path(each) for each in asked]
    images: dict[Path, list[str]] = {}
    sources: list[Source] = []
    for path in itertools.chain.from_iterable(map(_expanded, paths)):
        if names_an_image(path):
            images.setdefault(path.parent.resolve(), []).append(path.name)
        else:
            sources.append(_opened(path, selection))
    sources += [ImagesSource(folder, names, selection) for folder, names in images.items()]
    if not sources:
        raise SourceError("no source is given", hint="name a folder of cells")
    return sources[0] if len(sources) == 1 else SeveralSources(sources)


def _expanded(path: Path) -> list[Path]:
    """Return what a pattern stands for; a path that is there stands for itself."""
    if path.exists() or not has_magic(str(path)):
        return [path]
    found = sorted(map(Path, glob(str(path), recursive=True)))
    if not found:
        raise SourceError(f"nothing matches {path}", hint="check the pattern of the cells")
    return [each for each in found if each.is_dir() or names_an_image(each)] or found


def _opened(path: Path, selection: Selection) -> Source:
    """Open what is at a path as the first kind that recognises it."""
    if not path.exists():
        raise SourceError(f"there is nothing at {path}", hint="check the path of the cells")
    kind = next((kind for kind in SOURCES if kind.recognises(path)), None)
    if kind is None:
        kinds = ", or ".join(kind.means for kind in SOURCES)
        raise SourceError(
            f"{path} is no source of cells",
            hint=f"a source is an image file, {kinds}; to screen the folder around it, "
            f"name {path.parent}",
        )
    module, _, name = kind.opener.partition(":")
    opened: Source = getattr(import_module(module), name)(path, selection)
    return opened
