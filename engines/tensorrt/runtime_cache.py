"""
Kernels that a variant compiles for this GPU when a plan is opened, kept beside the plan.

Compiling them takes seconds to minutes and gives the same kernels each time. One cache serves all
slots of a runtime, so they are compiled once, and the next start finds them on disk.
"""

from __future__ import annotations

import hashlib
import logging
from typing import TYPE_CHECKING, Any

from engines.files import whole_file

if TYPE_CHECKING:
    from pathlib import Path

__all__ = ["RuntimeCache", "runtime_cache_path"]

SUFFIX = ".kernels"
DIGEST = hashlib.sha256().digest_size  # bytes at the file's beginning: the hash of the rest

log = logging.getLogger(__name__)


def runtime_cache_path(plan: Path) -> Path:
    """Name the file beside *plan*."""
    return plan.with_suffix(SUFFIX)


class RuntimeCache:
    """
    TensorRT-RTX's ``IRuntimeCache`` and its file.

    What is damaged, or was compiled for another GPU, driver or version (TensorRT-RTX compares
    them), is not used: kernels are then compiled anew. Whoever holds an execution context of it
    has to hold the cache, too.
    """

    def __init__(self, path: Path, config: Any) -> None:
        """Make the cache by *config*, an ``IRuntimeConfig``, and fill it from *path*."""
        self._path = path
        self._cache = config.create_runtime_cache()
        self._read = self._blob()
        if self._read and not self._cache.deserialize(self._read):
            log.info("kernels of %s are of another GPU, driver or version: compiling anew", path)
            self._read = b""

    def attach(self, config: Any) -> None:
        """Let contexts made with *config* take their kernels here, and leave them here."""
        if not config.set_runtime_cache(self._cache):
            raise RuntimeError("the cache of compiled kernels was not taken")

    def save(self) -> None:
        """Write what was compiled since it was read, if anything; a cache may be read-only."""
        blob = bytes(self._cache.serialize())
        if blob == self._read:
            return
        try:
            with whole_file(self._path) as scratch:
                scratch.write_bytes(hashlib.sha256(blob).digest() + blob)
        except OSError as error:
            log.warning("compiled kernels are not kept: %s", error)
        self._read = blob

    def _blob(self) -> bytes:
        """Return the file's content, or nothing if there is none that is whole."""
        try:
            content = self._path.read_bytes()
        except FileNotFoundError:
            return b""
        except OSError as error:
            log.warning("compiled kernels cannot be read: %s", error)
            return b""
        blob = content[DIGEST:]
        if hashlib.sha256(blob).digest() != content[:DIGEST]:
            log.warning("compiled kernels in %s are damaged: compiling anew", self._path)
            return b""
        return blob
