"""Files that are whole or absent, their digests, and the folder where compiled models are kept."""

from __future__ import annotations

import hashlib
import os
import re
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING
from uuid import uuid4

import platformdirs

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    import pyarrow as pa

__all__ = [
    "cache_folder",
    "digest_of",
    "discard_scratch",
    "native_file",
    "sha256_of_file",
    "whole_file",
]

SCRATCH_SUFFIX = ".scratch"


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


def sha256_of_file(path: Path) -> str:
    """Return the SHA-256 of the file's bytes, in hex."""
    with path.open("rb") as file:
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
