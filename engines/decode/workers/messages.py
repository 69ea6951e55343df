"""What the main process and a worker say to each other, over a socket: pickles and descriptors."""

from __future__ import annotations

import pickle
import socket
import struct
from dataclasses import dataclass, fields
from operator import attrgetter
from typing import TYPE_CHECKING, Any, TypeAlias

from engines.cells import CellFacts, CellRef

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    import numpy as np
    from numpy.typing import NDArray

    from engines.cells import Fault, Read
    from engines.decode.base import DecodeOptions
    from engines.models.input import ModelInput

__all__ = [
    "Answer",
    "Decoded",
    "Opened",
    "Opening",
    "Raised",
    "Spent",
    "Task",
    "Work",
    "fact_rows",
    "receive",
    "ref_rows",
    "send",
]

HEADER = struct.Struct("<QQ")
Row: TypeAlias = "tuple[Any, ...]"

_ref_values = attrgetter(*(field.name for field in fields(CellRef)))
_fact_values = attrgetter(*(field.name for field in fields(CellFacts)))


@dataclass(frozen=True, slots=True)
class Work:
    """
    What a decoder is opened with, once in each worker.

    Attributes:
        opener: Import string of ``open_decoder`` in its module.
        read: Returns a cell's bytes.
        expected: What the model takes.
        options: How cells are decoded.
    """

    opener: str
    read: Read
    expected: ModelInput
    options: DecodeOptions


@dataclass(frozen=True, slots=True)
class Task:
    """
    Cells to decode.

    Attributes:
        work: The number of the work that they belong to.
        refs: The cells, as ``ref_rows`` gives them.
        slab: The number of the slab for their pixels.
    """

    work: int
    refs: Sequence[Row]
    slab: int


@dataclass(frozen=True, slots=True)
class Opening:
    """
    A decoder to open.

    Attributes:
        number: Of the work that it is for.
        work: Pickled.
        closed: Numbers of work that is over.
        environment: Of the main process as it is now: where a storage's credentials are.
    """

    number: int
    work: bytes
    closed: tuple[int, ...]
    environment: dict[str, str]


@dataclass(frozen=True, slots=True)
class Opened:
    """What a decoder is called."""

    name: str
    version: str


@dataclass(frozen=True, slots=True)
class Decoded:
    """
    What came of a task; the pixels lie in the slab.

    Attributes:
        indices: Of the decoded cells among those of the task, in the order of the pixels.
        facts: One for each, as ``fact_rows`` gives them.
        shape: Of the pixels.
        bad: The faults of the others, with their places among those of the task.
        quality: As in a Batch.
    """

    indices: Sequence[int]
    facts: Sequence[Row]
    shape: tuple[int, ...]
    bad: Sequence[tuple[int, Fault]]
    quality: NDArray[np.float32] | None


@dataclass(frozen=True, slots=True)
class Spent:
    """The memory that one cell may take did not suffice for these."""


@dataclass(frozen=True, slots=True)
class Raised:
    """An error that is no cell's fault, with its traceback as text."""

    error: Exception
    traceback: str


Answer: TypeAlias = "Opened | Decoded | Spent | Raised"


def ref_rows(refs: Iterable[CellRef]) -> list[Row]:
    """Return the values of refs: to pickle those is five times as fast."""
    return [_ref_values(ref) for ref in refs]


def fact_rows(facts: Iterable[CellFacts]) -> list[Row]:
    """Likewise."""
    return [_fact_values(each) for each in facts]


def send(connection: socket.socket, message: Any, descriptors: Sequence[int] = ()) -> None:
    """Send a message, and descriptors along with it."""
    body = pickle.dumps(message, pickle.HIGHEST_PROTOCOL)
    header = HEADER.pack(len(body), len(descriptors))
    if descriptors:
        socket.send_fds(connection, [header], descriptors)
    else:
        connection.sendall(header)
    connection.sendall(body)


def receive(connection: socket.socket) -> tuple[Any, list[int]]:
    """
    Wait for a message; return it with the descriptors that came along.

    Raises:
        EOFError: If the other process is gone.
    """
    header, descriptors, _, _ = socket.recv_fds(connection, HEADER.size, 8)
    header += _exactly(connection, HEADER.size - len(header)) if header else b""
    if not header:
        raise EOFError
    length, _ = HEADER.unpack(header)
    body = _exactly(connection, length)
    return pickle.loads(body), list(descriptors)  # noqa: S301  (from our own process)


def _exactly(connection: socket.socket, count: int) -> bytearray:
    """Read so many bytes."""
    body = bytearray(count)
    view = memoryview(body)
    while view:
        got = connection.recv_into(view)
        if not got:
            raise EOFError
        view = view[got:]
    return body
