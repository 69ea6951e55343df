"""
Files that are whole or absent, their digests, and the folder where compiled models are kept.

They may be anywhere (``engines.locations``): on this machine a file is written beside its place and
renamed, in a bucket it is uploaded, which is whole or absent too.
"""

from __future__ import annotations

import errno
import fnmatch
import hashlib
import json
import os
import re
import stat
import tempfile
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any, cast
from uuid import uuid4

import platformdirs

from engines.locations import retried, storage_errors

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence
    from io import BufferedReader

    import pyarrow as pa

    from engines.locations import Location

__all__ = [
    "MOST_JSON_BYTES",
    "cache_folder",
    "digest_of",
    "discard_scratch",
    "files_in",
    "make_folder",
    "native_file",
    "new_file",
    "open_regular",
    "read_json",
    "read_regular",
    "sha256_of_file",
    "whole_file",
]

SCRATCH_SUFFIX = ".scratch"
MOST_JSON_BYTES = 64 * 2**20  # no record of ours is near it


def cache_folder() -> Path:
    """Return where compiled models are kept: ``$SLIDESCREEN_CACHE``, or the user's cache folder."""
    return Path(os.environ.get("SLIDESCREEN_CACHE") or platformdirs.user_cache_path("slidescreen"))


@contextmanager
def whole_file(path: Location) -> Iterator[Path]:
    """
    Give a scratch path to write to; *path* appears, complete and on disk, when the block ends.

    The scratch file is flushed to disk, then renamed; or uploaded, if *path* is a URL. If the block
    raises, or the process dies, *path* is as it was before.
    """
    with _scratch(path) as scratch:
        yield scratch
        _flush(scratch)
        if isinstance(path, Path):
            scratch.replace(path)
            _sync_folder(path.parent)
        else:
            retried(path.fs.put_file, str(scratch), path.path)


@contextmanager
def new_file(path: Location) -> Iterator[Path]:
    """
    Do as ``whole_file`` does, but only if there is nothing at *path* when the block ends.

    Of several processes that do this at the same time one succeeds, wherever the file system can
    tell (any local one with hard links; S3 and Google's storage).

    Raises:
        FileExistsError: If there is.
    """
    with _scratch(path) as scratch:
        yield scratch
        _flush(scratch)
        if isinstance(path, Path):
            os.link(scratch, path)
            _sync_folder(path.parent)
        else:
            retried(lambda: path.fs.put_file(str(scratch), path.path, mode="create"))


def make_folder(path: Location) -> None:
    """Make a folder where there are folders; in a bucket there are only names."""
    if isinstance(path, Path):
        path.mkdir(parents=True, exist_ok=True)


def files_in(folder: Location, pattern: str) -> list[Location]:
    """Name the files of a folder whose names match a shell's *pattern*, in order; it may lack."""
    if isinstance(folder, Path):
        return sorted(folder.glob(pattern))
    try:
        names = [name.rpartition("/")[2] for name in retried(folder.fs.ls, folder.path, False)]
    except FileNotFoundError:
        return []
    return [folder / name for name in sorted(fnmatch.filter(names, pattern))]


def discard_scratch(folder: Path, name: str) -> None:
    """Remove what killed processes left half written of files like *name*, a regular expression."""
    scratch = re.compile(rf"\.{name}\.[0-9a-f]{{8}}{re.escape(SCRATCH_SUFFIX)}")
    for path in folder.glob(f".*{SCRATCH_SUFFIX}"):
        if scratch.fullmatch(path.name) and path.is_file():
            path.unlink()


def open_regular(path: Location | str | bytes) -> BufferedReader:
    """
    Open a file for reading, and nothing that only looks like one: a pipe would never end.

    Raises:
        OSError: If it cannot be opened, or is a pipe, a socket, a device or a folder.
    """
    if not isinstance(path, Path | str | bytes):
        return cast("BufferedReader", retried(path.fs.open, path.path, "rb"))
    # Not blocking: opening a pipe would wait for somebody to write to it.
    flags = os.O_RDONLY | getattr(os, "O_NONBLOCK", 0) | getattr(os, "O_BINARY", 0)
    descriptor = os.open(path, flags)
    if not stat.S_ISREG(os.fstat(descriptor).st_mode):
        os.close(descriptor)
        raise OSError(errno.EINVAL, "not a regular file")
    return os.fdopen(descriptor, "rb")


def read_regular(path: Location | str | bytes, most_bytes: int) -> bytes:
    """
    Return the bytes of a regular file, or of what is behind a URL.

    Raises:
        OSError: If it cannot be read, is not a regular file, or is longer than *most_bytes*.
    """
    with open_regular(path) as file:
        size = _size(path, file)
        if size > most_bytes:
            raise OSError(errno.EFBIG, f"a file of {size:,} bytes, more than {most_bytes:,}")
        # No more than it says it has: some of the kernel's files never end, or have nothing yet.
        return file.read(size) or b""


def _size(path: Location | str | bytes, file: BufferedReader) -> int:
    """Return how many bytes an open file says it has; not all of the kernel's can be sought in."""
    if isinstance(path, Path | str | bytes):
        return os.fstat(file.fileno()).st_size
    size = file.seek(0, os.SEEK_END)
    file.seek(0)
    return size


def read_json(path: Location, most_bytes: int = MOST_JSON_BYTES) -> Any:
    """
    Return what a JSON file holds.

    Raises:
        OSError: As ``read_regular``.
        ValueError: If it is not JSON, or nests deeper than Python reads.
    """
    text = read_regular(path, most_bytes).decode("utf-8")
    try:
        return json.loads(text)
    except RecursionError as error:
        raise ValueError("it nests too deeply") from error


def sha256_of_file(path: Location) -> str:
    """
    Return the SHA-256 of a regular file's bytes, in hex.

    Raises:
        OSError: As ``open_regular``.
    """
    with storage_errors(), open_regular(path) as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def digest_of(rows: Sequence[tuple[str, ...]]) -> str:
    """Return the first 16 hex digits of the SHA-256 of rows of text, their order included."""
    text = "\n".join("\t".join(row) for row in rows)
    return hashlib.sha256(text.encode()).hexdigest()[:16]


def native_file(path: Location, mode: str = "rb") -> pa.NativeFile:
    """
    Open a file for Arrow; what is behind a URL is fetched first, to a file without a name.

    By name, Arrow takes one with a colon for an address; as a Python file, its threads want the
    interpreter back after that has ended, and abort the process.
    """
    import pyarrow as pa

    if isinstance(path, Path):
        if mode == "rb":
            open_regular(path).close()  # Arrow would wait for a pipe
        return pa.OSFile(str(path), mode)
    with tempfile.TemporaryDirectory(prefix="slidescreen-") as folder:
        copy = Path(folder) / path.name
        retried(path.fs.get_file, path.path, str(copy))
        return pa.OSFile(str(copy), mode)  # what is open stays when its name is gone


@contextmanager
def _scratch(path: Location) -> Iterator[Path]:
    """Give a name beside *path*, or on this machine if that is a URL; nothing is left there."""
    if isinstance(path, Path):
        scratch = path.with_name(f".{path.name}.{uuid4().hex[:8]}{SCRATCH_SUFFIX}")
    else:
        scratch = Path(tempfile.gettempdir()) / f"slidescreen-{uuid4().hex}{SCRATCH_SUFFIX}"
    try:
        yield scratch
    finally:
        scratch.unlink(missing_ok=True)


def _flush(path: Path) -> None:
    """Have what was written to a file on disk."""
    with path.open("rb") as written:
        os.fsync(written.fileno())


def _sync_folder(folder: Path) -> None:
    """Make a rename survive a power cut, where folders can be flushed (not on Windows)."""
    if os.name == "nt":
        return
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
