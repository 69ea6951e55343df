"""Files that are whole or absent, their digests, and the folder where compiled models are kept."""

from __future__ import annotations

import errno
import hashlib
import json
import os
import re
import stat
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any
from uuid import uuid4

import platformdirs

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence
    from io import BufferedReader

    import pyarrow as pa

__all__ = [
    "cache_folder",
    "digest_of",
    "discard_scratch",
    "native_file",
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
def whole_file(path: Path) -> Iterator[Path]:
    """
    Give a scratch path to write to; *path* appears, complete and on disk, when the block ends.

    The scratch file is flushed to disk, then renamed. If the block raises, or the process dies,
    *path* is as it was before.
    """
    scratch = path.with_name(f".{path.name}.{uuid4().hex[:8]}{SCRATCH_SUFFIX}")
    try:
        yield scratch
        with scratch.open("rb") as written:
            os.fsync(written.fileno())
        scratch.replace(path)
        _sync_folder(path.parent)
    finally:
        scratch.unlink(missing_ok=True)


def discard_scratch(folder: Path, name: str) -> None:
    """Remove what killed processes left half written of files like *name*, a regular expression."""
    scratch = re.compile(rf"\.{name}\.[0-9a-f]{{8}}{re.escape(SCRATCH_SUFFIX)}")
    for path in folder.glob(f".*{SCRATCH_SUFFIX}"):
        if scratch.fullmatch(path.name) and path.is_file():
            path.unlink()


def open_regular(path: Path | str | bytes) -> BufferedReader:
    """
    Open a file for reading, and nothing that only looks like one: a pipe would never end.

    Raises:
        OSError: If it cannot be opened, or is a pipe, a socket, a device or a folder.
    """
    # Not blocking: opening a pipe would wait for somebody to write to it.
    flags = os.O_RDONLY | getattr(os, "O_NONBLOCK", 0) | getattr(os, "O_BINARY", 0)
    descriptor = os.open(path, flags)
    if not stat.S_ISREG(os.fstat(descriptor).st_mode):
        os.close(descriptor)
        raise OSError(errno.EINVAL, "not a regular file")
    return os.fdopen(descriptor, "rb")


def read_regular(path: Path | str | bytes, most_bytes: int) -> bytes:
    """
    Return the bytes of a regular file.

    Raises:
        OSError: If it cannot be read, is not a regular file, or is longer than *most_bytes*.
    """
    with open_regular(path) as file:
        size = os.fstat(file.fileno()).st_size
        if size > most_bytes:
            raise OSError(errno.EFBIG, f"a file of {size:,} bytes, more than {most_bytes:,}")
        # No more than it says it has: some of the kernel's files never end, or have nothing yet.
        return file.read(size) or b""


def read_json(path: Path, most_bytes: int = MOST_JSON_BYTES) -> Any:
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


def sha256_of_file(path: Path) -> str:
    """
    Return the SHA-256 of a regular file's bytes, in hex.

    Raises:
        OSError: As ``open_regular``.
    """
    with open_regular(path) as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def digest_of(rows: Sequence[tuple[str, ...]]) -> str:
    """Return the first 16 hex digits of the SHA-256 of rows of text, their order included."""
    text = "\n".join("\t".join(row) for row in rows)
    return hashlib.sha256(text.encode()).hexdigest()[:16]


def native_file(path: Path, mode: str = "rb") -> pa.OSFile:
    """
    Open a file for Arrow.

    By name, Arrow takes one with a colon for an address; as a Python file, its threads want the
    interpreter back after that has ended, and abort the process.
    """
    import pyarrow as pa

    return pa.OSFile(str(path), mode)


def _sync_folder(folder: Path) -> None:
    """Make a rename survive a power cut, where folders can be flushed (not on Windows)."""
    if os.name == "nt":
        return
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
