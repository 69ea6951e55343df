"""Where cells come from: one row per kind of source."""

from __future__ import annotations

import itertools
import os
from collections.abc import Iterable
from contextlib import contextmanager
from dataclasses import dataclass
from glob import glob, has_magic
from importlib import import_module
from pathlib import Path
from typing import TYPE_CHECKING, TypeAlias

from engines.errors import SourceError
from engines.locations import access_hint, location, storage_errors
from engines.sources.archives.source import is_archive
from engines.sources.base import Entry, Listing, Source
from engines.sources.images import ImagesSource, names_an_image
from engines.sources.options import AS_IT_IS, SourceOptions
from engines.sources.selection import Selection
from engines.sources.several import SeveralSources
from engines.sources.shards import as_sets
from engines.sources.tables.columns import is_parquet
from engines.sources.tables.manifest import is_manifest

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence

    from engines.locations import Location

__all__ = [
    "AS_IT_IS",
    "SOURCES",
    "Entry",
    "Listing",
    "Selection",
    "Source",
    "SourceKind",
    "SourceOptions",
    "open_source",
]


StrPath: TypeAlias = "str | os.PathLike[str]"


@dataclass(frozen=True, slots=True)
class SourceKind:
    """
    A kind of source.

    Attributes:
        name: What to call it.
        means: What it is, for people.
        recognises: Whether what is at a path is one.
        opener: ``module:callable`` that opens the path as a Source.
        in_sets: Whether files of this kind that differ in a number only are one source.
    """

    name: str
    means: str
    recognises: Callable[[Location, SourceOptions], bool]
    opener: str
    in_sets: bool = False

    def opened(self, place: Location, options: SourceOptions) -> Source:
        """Open what is at a place."""
        module, _, name = self.opener.partition(":")
        source: Source = getattr(import_module(module), name)(place, options)
        return source


def _holds_images(where: Location, options: SourceOptions) -> bool:
    """Whether a file is Parquet with images in it; Arrow is imported for Parquet files only."""
    if not (where.is_file() and is_parquet(where)):
        return False
    from engines.sources.tables.parquet_images import holds_images

    return holds_images(where, options)


SOURCES = (
    SourceKind(
        name="folder",
        means="a folder of image files, and the folders in it",
        recognises=lambda where, _: isinstance(where, Path) and where.is_dir(),
        opener="engines.sources.folder:FolderSource",
    ),
    SourceKind(
        name="remote",
        means="the URL of such a folder",
        recognises=lambda where, _: not isinstance(where, Path) and where.is_dir(),
        opener="engines.sources.remote:RemoteSource",
    ),
    SourceKind(
        name="archive",
        means="a tar file, a WebDataset shard or a zip file",
        recognises=lambda where, _: is_archive(where),
        opener="engines.sources.archives.source:ArchiveSource",
        in_sets=True,
    ),
    SourceKind(
        name="parquet",
        means="a Parquet file with images in it",
        recognises=_holds_images,
        opener="engines.sources.tables.parquet_images:ParquetImagesSource",
        in_sets=True,
    ),
    SourceKind(
        name="manifest",
        means="a table (CSV or Parquet) of image files or of boxes on them, boxes as GeoJSON or "
        "COCO",
        recognises=lambda where, _: is_manifest(where),
        opener="engines.sources.tables.manifest:ManifestSource",
    ),
)


def open_source(
    asked: StrPath | Location | Iterable[StrPath | Location], options: SourceOptions = AS_IT_IS
) -> Source:
    """
    Open a source, or several as one.

    Args:
        asked: Folders, image files, archives, tables, or patterns of such (``slides/*/cells``,
            ``**`` for folders at any depth); paths or URLs.
        options: How they are read.

    Raises:
        SourceError: If there is nothing there, or nothing of a known kind.
        BackendMissingError: If the package for a kind of URL is not installed.
    """
    images: dict[Location, list[str]] = {}
    sources: list[Source] = []
    shards: list[tuple[Location, Source]] = []
    for place in itertools.chain.from_iterable(_expanded(each, options) for each in _places(asked)):
        with _access(place):
            if names_an_image(place):
                folder = place.parent.resolve() if isinstance(place, Path) else place.parent
                images.setdefault(folder, []).append(place.name)
                continue
            kind = _kind_of(place, options)
            opened = kind.opened(place, options)
            if kind.in_sets:
                shards.append((place, opened))
            else:
                sources.append(opened)
    sources += as_sets(shards)
    sources += [_named_images(folder, names, options) for folder, names in images.items()]
    if not sources:
        raise SourceError("no source is given", hint="name a folder of cells")
    return sources[0] if len(sources) == 1 else SeveralSources(sources)


def _places(asked: StrPath | Location | Iterable[StrPath | Location]) -> Iterator[Location]:
    """Yield the sources that are named, one or several."""
    one = isinstance(asked, str | os.PathLike) or not isinstance(asked, Iterable)
    yield from map(location, [asked] if one else asked)  # type: ignore[arg-type]


@contextmanager
def _access(place: Location) -> Iterator[None]:
    """Raise SourceError where a storage refuses."""
    try:
        with storage_errors():
            yield
    except OSError as error:
        if isinstance(place, Path):
            raise
        raise SourceError(f"cannot read {place}: {error}", hint=access_hint(place)) from error


def _named_images(folder: Location, names: Sequence[str], options: SourceOptions) -> Source:
    """Open single images of one folder."""
    if isinstance(folder, Path):
        return ImagesSource(folder, names, options)
    from engines.sources.remote import RemoteSource

    with _access(folder):
        if not any((folder / name).exists() for name in names):
            raise _nothing_at(folder / names[0])
        return RemoteSource(folder, options, names)


def _expanded(place: Location, options: SourceOptions) -> list[Location]:
    """Return what a pattern stands for; a path that is there stands for itself."""
    if str(place).startswith(("http://", "https://")) or not has_magic(str(place)):
        return [place]
    with _access(place):
        if place.exists():
            return [place]
        found = _matching(place)
        if not found:
            raise SourceError(f"nothing matches {place}", hint="check the pattern of the cells")
        return [each for each in found if names_an_image(each) or _kind(each, options)] or found


def _matching(pattern: Location) -> list[Location]:
    """Name what matches a pattern, in order."""
    if isinstance(pattern, Path):
        return sorted(map(Path, glob(str(pattern), recursive=True)))
    scheme = str(pattern).partition("://")[0]
    return [location(f"{scheme}://{name}") for name in sorted(pattern.fs.glob(pattern.path))]


def _nothing_at(place: Location) -> SourceError:
    """Return an error about a place where nothing is."""
    what = "path" if isinstance(place, Path) else "address"
    return SourceError(f"there is nothing at {place}", hint=f"check the {what} of the cells")


def _kind_of(place: Location, options: SourceOptions) -> SourceKind:
    """
    Return the first kind that recognises what is at a place.

    Raises:
        SourceError: If nothing is there, or nothing of any kind.
    """
    if not place.exists():
        raise _nothing_at(place)
    kind = _kind(place, options)
    if kind is None:
        kinds = ", or ".join(kind.means for kind in SOURCES)
        raise SourceError(
            f"{place} is no source of cells",
            hint=f"a source is an image file, {kinds}; to screen the folder around it, "
            f"name {place.parent}",
        )
    return kind


def _kind(place: Location, options: SourceOptions) -> SourceKind | None:
    """Return the first kind that recognises what is at a place."""
    return next((kind for kind in SOURCES if kind.recognises(place, options)), None)
