"""
Where files are: a path of this machine, or a URL that fsspec opens (s3://, gs://, https://, hf://).

``location`` gives for either an object with the methods of ``pathlib.Path``: a ``Path``, or a
``UPath`` of universal_pathlib. What a bucket lacks (renaming, locking, folders) is nowhere asked of
it; ``engines.files`` has what differs.
"""

from __future__ import annotations

import errno
import importlib.util
import os
import re
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeAlias

from engines.errors import BackendMissingError, SourceError

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from typing import TypeVar

    from upath import UPath

    Answer = TypeVar("Answer")

__all__ = [
    "Location",
    "access_hint",
    "is_of_the_place",
    "is_url",
    "location",
    "retried",
    "storage_errors",
]

Location: TypeAlias = "Path | UPath"

ADDRESS = re.compile(r"([A-Za-z][A-Za-z0-9+.-]+):/+")  # two letters at least: C:/ is a disk
TRIES = 6  # with the pauses below, some 30 seconds
FIRST_PAUSE_S = 0.5
LONGEST_PAUSE_S = 15
FINAL = (FileNotFoundError, FileExistsError, PermissionError, NotADirectoryError, IsADirectoryError)
PLACE_ERRORS = {
    getattr(errno, name)
    for name in (
        *("ECONNABORTED", "ECONNREFUSED", "ECONNRESET", "EHOSTDOWN", "EHOSTUNREACH", "EMFILE"),
        *("ENETDOWN", "ENETUNREACH", "ENFILE", "ENODEV", "ENOLINK", "ENOMEM", "ENOTCONN", "ENXIO"),
        *("EREMOTEIO", "ESHUTDOWN", "ESTALE", "ETIMEDOUT"),
    )
    if hasattr(errno, name)
}  # what reading fails with when a disk, a server or this machine is at fault, not the file


@dataclass(frozen=True, slots=True)
class Protocol:
    """
    What a kind of URL needs.

    Attributes:
        module: The Python package that opens it.
        extra: What installs that: ``pip install 'slidescreen[extra]'``; empty where it is always
            installed.
        access: Where it takes credentials from.
        raises: The package whose errors it raises.
    """

    module: str
    extra: str
    access: str
    raises: tuple[str, ...]


AWS = (
    "set AWS_PROFILE, or AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY, and AWS_ENDPOINT_URL for "
    "another server than Amazon's"
)
GOOGLE = "log in with gcloud auth application-default login, or set GOOGLE_APPLICATION_CREDENTIALS"
HUGGING_FACE = "set HF_TOKEN, or log in with hf auth login"
NO_ACCESS = "see to access to it"

S3 = Protocol("s3fs", "s3", AWS, ("botocore", "aiobotocore", "aiohttp"))
GS = Protocol("gcsfs", "gs", GOOGLE, ("gcsfs", "google", "aiohttp"))
HTTP = Protocol("aiohttp", "http", NO_ACCESS, ("aiohttp", "yarl"))
HF = Protocol("huggingface_hub", "", HUGGING_FACE, ("huggingface_hub", "httpx", "requests"))
PROTOCOLS = {
    **dict.fromkeys(("s3", "s3a"), S3),
    **dict.fromkeys(("gs", "gcs"), GS),
    **dict.fromkeys(("http", "https"), HTTP),
    "hf": HF,
}
FOREIGN = {name for protocol in PROTOCOLS.values() for name in protocol.raises}


def is_url(named: str | os.PathLike[str] | Location) -> bool:
    """Whether this names a place that is not a path of this machine."""
    return _protocol(named) not in ("", "file", "local")


def location(named: str | os.PathLike[str] | Location) -> Location:
    """
    Return what is at a path or a URL, ready to be used like a ``pathlib.Path``.

    Nothing is opened. Listings are never cached: another process may have written meanwhile. A
    ``Path`` that was made of a URL, and so lost one of its slashes, is the URL again.

    Raises:
        BackendMissingError: If the package for this kind of URL is not installed.
        SourceError: If there is no such kind of URL.
    """
    if not isinstance(named, str | os.PathLike):
        return named
    text, protocol = os.fspath(named), _protocol(named)
    if protocol in ("", "file", "local"):
        return Path(ADDRESS.sub("/", text, count=1) if protocol else text)
    text = ADDRESS.sub(f"{protocol}://", text, count=1)
    _require_package(text, protocol)
    from upath import UPath

    try:
        return UPath(text, use_listings_cache=False)
    except ValueError as error:
        raise SourceError(
            f"there is no kind of address called {protocol}:// (of {text})",
            hint="name a path, or an address that begins with " + ":// ".join(PROTOCOLS) + "://",
        ) from error


def access_hint(where: Location) -> str:
    """Say how this kind of place is given credentials."""
    protocol = PROTOCOLS.get(_protocol(str(where)))
    return protocol.access if protocol else NO_ACCESS


@contextmanager
def storage_errors() -> Iterator[None]:
    """Raise OSError where the package behind a URL raises errors of its own."""
    try:
        yield
    except Exception as error:
        if isinstance(error, OSError) or type(error).__module__.split(".")[0] not in FOREIGN:
            raise
        kind = PermissionError if "redential" in type(error).__name__ else OSError
        raise kind(str(error) or type(error).__name__) from error


def retried(call: Callable[..., Answer], *args: Any) -> Answer:
    """
    Return what *call* returns, trying again for some 30 seconds while a storage refuses.

    What cannot change by waiting (not there, no access) is raised at once.

    Raises:
        OSError: If it does not succeed.
    """
    from tenacity import Retrying, retry_if_exception, stop_after_attempt, wait_random_exponential

    def once() -> Answer:
        with storage_errors():
            return call(*args)

    policy = Retrying(
        retry=retry_if_exception(_may_pass),
        stop=stop_after_attempt(TRIES),
        wait=wait_random_exponential(FIRST_PAUSE_S, LONGEST_PAUSE_S),
        reraise=True,
    )
    return policy(once)


def _may_pass(error: BaseException) -> bool:
    """Whether it is worth trying again."""
    return isinstance(error, OSError) and not isinstance(error, FINAL)


def _protocol(named: str | os.PathLike[str] | Location) -> str:
    """Return what stands before ``:/``, in small letters; empty for a path."""
    found = ADDRESS.match(str(named))
    return found[1].lower() if found else ""


def _require_package(text: str, protocol: str) -> None:
    """Raise BackendMissingError if the package for a kind of URL is not installed."""
    needed = PROTOCOLS.get(protocol)
    if needed is not None and importlib.util.find_spec(needed.module) is None:
        what = f"slidescreen[{needed.extra}]" if needed.extra else needed.module
        raise BackendMissingError(
            f"{text} needs the package {needed.module}", hint=f"pip install '{what}'"
        )


def is_of_the_place(error: OSError) -> bool:
    """Whether a cell could not be read for a reason that all others of its place share."""
    return isinstance(error, ConnectionError | TimeoutError) or error.errno in PLACE_ERRORS
