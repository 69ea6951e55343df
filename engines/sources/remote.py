"""
Cells behind a URL that fsspec opens: folders of images, single images, and files to read in.

What other kinds of source (archives, tables) need of a URL is ``open_file``.
"""

from __future__ import annotations

import io
import threading
from concurrent.futures import ThreadPoolExecutor
from datetime import datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any, BinaryIO, cast

from engines.errors import SourceError
from engines.locations import access_hint, retried
from engines.sources.base import Entry, Listing, Others
from engines.sources.names import escaped, is_image_name, unescaped
from engines.sources.options import AS_IT_IS, SourceOptions

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Mapping, Sequence
    from concurrent.futures import Future

    import pyarrow as pa
    from upath import UPath

    from engines.cells import CellRef
    from engines.locations import Location

__all__ = ["RemoteSource", "open_file"]

AT_ONCE = 32  # requests: a bucket answers one in some 20 ms, however small the file
AHEAD = 512  # cells fetched before they are asked for: some 300 MB of the largest crops
BLOCK_BYTES = 8 << 20  # read at a time of a file that is read through
CHANGED_KEYS = ("LastModified", "last_modified", "mtime", "updated", "created")
MISSING = "No such file or directory"


def open_file(where: Location) -> BinaryIO:
    """
    Open a file to read and seek in; behind a URL, blocks are fetched ahead and tried again.

    Raises:
        OSError: Here or while it is read, if it cannot be read now.
    """
    if isinstance(where, Path):
        return where.open("rb")
    file = retried(lambda: where.fs.open(where.path, "rb", block_size=BLOCK_BYTES))
    return cast("BinaryIO", io.BufferedReader(_RetriedFile(file), 1 << 16))


class _RetriedFile(io.RawIOBase):
    """A file of fsspec whose reads are tried again."""

    def __init__(self, file: Any) -> None:
        """Read from *file*."""
        self._file = file

    def readable(self) -> bool:
        """It is."""
        return True

    def seekable(self) -> bool:
        """It is, unless a web server sends it only as a whole."""
        return bool(self._file.seekable())

    def seek(self, offset: int, whence: int = io.SEEK_SET) -> int:
        """Go to a place."""
        return int(self._file.seek(offset, whence))

    def tell(self) -> int:
        """Say where that is."""
        return int(self._file.tell())

    def readinto(self, buffer: Any) -> int:
        """Fill *buffer*."""
        data = retried(self._file.read, len(buffer))
        buffer[: len(data)] = data
        return len(data)

    def close(self) -> None:
        """Let go of it."""
        if not self.closed:
            self._file.close()
        super().close()


class RemoteSource:
    """
    A Source (see ``engines.sources.base``) of the image files below a URL, or of some of them.

    Which files are cells, and in which order, is as in a folder of this machine. A cell that is not
    there is unreadable; a storage that refuses to answer stops the run, which can go on later.
    """

    def __init__(
        self,
        root: UPath,
        options: SourceOptions = AS_IT_IS,
        names: Iterable[str] | None = None,
    ) -> None:
        """
        Take what is wanted of what lies below *root*.

        Args:
            root: A folder.
            options: How they are read.
            names: Files in it, if it is only those.
        """
        self._root = root
        self._selection = options.selection
        self._names = None if names is None else sorted(set(names))
        self.location = str(root).rstrip("/")
        self.locations: tuple[str, ...] = tuple(
            escaped(f"{self.location}/{name}".rstrip("/").encode()) for name in self._names or [""]
        )
        self.name = self.location.rpartition("/")[2]
        self._ahead = _Ahead(root)

    @property
    def carried(self) -> Mapping[str, pa.DataType]:
        """Nothing."""
        return {}

    def list(self) -> Listing:
        """Walk the tree in the order of the paths' bytes, holding one folder's names at a time."""
        others = Others()
        return Listing(self._entries(others), others)

    def read(self, ref: CellRef) -> bytes:
        """
        Return what was fetched ahead, or fetch it.

        Raises:
            FileNotFoundError: If it is not there.
            PermissionError: If only this file may not be read.
            SourceError: If the storage refuses altogether.
        """
        name = _name(ref)
        try:
            return self._ahead.take(name)
        except FileNotFoundError as error:
            raise FileNotFoundError(2, MISSING) from error
        except PermissionError as error:
            self._require_access()
            raise PermissionError(13, "Permission denied") from error
        except OSError as error:
            raise SourceError(
                f"cannot read {self.location}/{name}: {error}",
                hint="run the same command again once the storage answers: it goes on",
            ) from error

    def read_ahead(self, refs: Sequence[CellRef]) -> None:
        """Begin to fetch cells that will be read soon in this process."""
        self._ahead.expect([_name(ref) for ref in refs])

    def size(self, ref: CellRef) -> int | None:
        """Ask the storage."""
        try:
            facts = retried(self._root.fs.info, _inside(self._root, _name(ref)))
        except OSError:
            return None
        return None if facts.get("size") is None else int(facts["size"])

    def _require_access(self) -> None:
        """Raise SourceError if nothing here may be read (any more)."""
        try:
            retried(self._root.fs.ls, self._root.path, False)
        except OSError as error:
            raise self._problem(error) from error

    def _problem(self, error: OSError, folder: str = "") -> SourceError:
        """Return an error about the folder that cannot be listed."""
        where = f"{self.location}/{folder}".rstrip("/")
        return SourceError(f"cannot list {where}: {error}", hint=access_hint(self._root))

    def _entries(self, others: Others) -> Iterator[Entry]:
        """Yield the cells; what is none is counted in *others*."""
        for name, facts in self._files() if self._names is None else self._named():
            last = name.rstrip("/").rpartition("/")[2]
            path = escaped(name.encode())
            if is_image_name(last.encode()) and self._selection.wants(path):
                yield Entry(path, "", facts.get("size"), _changed_ns(facts))
            else:
                others.add(path)

    def _named(self) -> Iterator[tuple[str, Mapping[str, Any]]]:
        """Yield the files that were named; one that is not there has no size."""
        for name in self._names or ():
            try:
                yield name, retried(self._root.fs.info, _inside(self._root, name))
            except FileNotFoundError:
                yield name, {}
            except OSError as error:
                raise self._problem(error, name) from error

    def _files(self) -> Iterator[tuple[str, Mapping[str, Any]]]:
        """Yield all files below, and hidden folders in the place of what is in them."""
        pending = [iter(self._folder(""))]
        while pending:
            name, facts = next(pending[-1], ("", {}))
            if not name:
                pending.pop()
            elif name.endswith("/") and not name[:-1].rpartition("/")[2].startswith("."):
                pending.append(iter(self._folder(name)))
            else:
                yield name, facts

    def _folder(self, folder: str) -> Sequence[tuple[str, Mapping[str, Any]]]:
        """Name what a folder holds, in order of whole paths; the folders in it end in a slash."""
        where = _inside(self._root, folder.rstrip("/"))
        try:
            found = retried(lambda: self._root.fs.ls(where, detail=True))
        except FileNotFoundError:
            if folder:
                return []
            raise SourceError(
                f"there is nothing at {self.location}", hint="check the address of the cells"
            ) from None
        except OSError as error:
            raise self._problem(error, folder) from error
        names = []
        for facts in found:
            own = facts["name"].rstrip("/")
            if own.rstrip("/") != where.rstrip("/"):  # the folder's own mark, in some buckets
                last = own.rpartition("/")[2]
                names.append((folder + last + "/" * (facts["type"] == "directory"), facts))
        return sorted(names, key=lambda each: each[0].encode())


class _Ahead:
    """Files of one folder, fetched several at once, before they are asked for."""

    def __init__(self, root: UPath) -> None:
        """Fetch from *root*; nothing is opened before it is needed."""
        self._root = root
        self._begin()

    def __reduce__(self) -> tuple[type[_Ahead], tuple[UPath]]:
        """Take only the place along to another process."""
        return type(self), (self._root,)

    def expect(self, names: Sequence[str]) -> None:
        """Begin to fetch; what was never asked for makes room, the oldest first."""
        with self._lock:
            for name in names[:AHEAD]:
                if name not in self._coming:
                    self._coming[name] = self._threads.submit(self._fetch, name)
            for name in list(self._coming)[:-AHEAD]:
                self._coming.pop(name).cancel()

    def take(self, name: str) -> bytes:
        """Return a file's bytes."""
        with self._lock:
            coming = self._coming.pop(name, None)
        return self._fetch(name) if coming is None else coming.result()

    def _begin(self) -> None:
        """Have nothing fetched yet."""
        self._lock = threading.Lock()
        self._coming: dict[str, Future[bytes]] = {}
        self._threads = ThreadPoolExecutor(AT_ONCE, thread_name_prefix="fetch")

    def _fetch(self, name: str) -> bytes:
        """Fetch a file."""
        data: bytes = retried(self._root.fs.cat_file, _inside(self._root, name))
        return data


def _name(ref: CellRef) -> str:
    """Return a cell's name below the folder."""
    return unescaped(ref.locator or ref.path).decode()


def _inside(root: UPath, name: str) -> str:
    """Return what the file system calls a file below *root*."""
    return f"{root.path.rstrip('/')}/{name}".rstrip("/")


def _changed_ns(facts: Mapping[str, Any]) -> int | None:
    """Return when a file was last changed, if the storage says so, in ns since 1970."""
    when = next((facts[key] for key in CHANGED_KEYS if facts.get(key) is not None), None)
    if isinstance(when, str):
        when = datetime.fromisoformat(when)
    if isinstance(when, datetime):
        return int(when.timestamp() * 1e6) * 1000
    return None if when is None else int(when * 1e9)
