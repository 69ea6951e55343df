"""What decodes a single image: the contract, which costs nothing to import."""

from __future__ import annotations

from typing import TYPE_CHECKING, Protocol

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

    from engines.models.bundle import ModelInput

__all__ = ["Codec", "DecodeError", "Encoded", "Opens"]


class DecodeError(Exception):
    """The bytes are not an image that this codec can decode; the message says why."""


class Encoded(Protocol):
    """
    An image whose header has been read.

    Attributes:
        height: In pixels, as stored.
        width: Likewise.
    """

    height: int
    width: int

    def decode(self) -> tuple[NDArray[np.uint8], str]:
        """
        Return ``(height, width, 3)`` RGB, upright, and the name of the codec that made it.

        Raises:
            DecodeError: If the image cannot be decoded, whole.
        """
        ...


class Opens(Protocol):
    """Reads headers."""

    def open(self, data: bytes) -> Encoded:
        """
        Read the header only.

        Raises:
            DecodeError: If there is none that makes sense.
        """
        ...


class Codec(Opens, Protocol):
    """
    Decodes and resizes single images; each thread has its own.

    Attributes:
        name: Of the decoder it makes.
        version: Of the packages behind it.
    """

    name: str
    version: str

    def __init__(self, expected: ModelInput) -> None:
        """Resize as the model expects."""
        ...

    def resize(self, image: NDArray[np.uint8], height: int, width: int) -> NDArray[np.uint8]:
        """Resize ``(h, w, 3)`` to ``(height, width, 3)`` with the model's filter, antialiased."""
        ...
