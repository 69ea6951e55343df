"""From encoded bytes to pixels at the model's size: one contract, several decoders."""

from __future__ import annotations

import os
from dataclasses import dataclass, field
from importlib.util import find_spec
from typing import TYPE_CHECKING, Literal, Protocol

from engines.errors import BackendMissingError
from engines.hardware.gpu import this_device
from engines.registry import Choice

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

    from engines.cells import Batch, Read, Shard
    from engines.models.bundle import ModelInput

__all__ = ["DECODERS", "DecodeOptions", "Decoder", "choose", "choose_device", "open_decoder"]

DecoderName = Literal["dali", "pillow"]
DEVICES = ("cpu", "gpu")
DECODERS: tuple[DecoderName, ...] = ("dali", "pillow")


def usable_cores() -> int:
    """Return how many processors this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


@dataclass(frozen=True, slots=True, kw_only=True)
class DecodeOptions:
    """
    How cells are read and decoded.

    Attributes:
        device: Where, and where the pixels stay: ``cpu`` or ``gpu``.
        batch: Cells decoded together, at most; a batch never crosses a shard.
        threads: Threads that read and decode, each a batch at a time.
        max_pixels: An image of more is ``oversized`` and never decoded.
    """

    device: str = "cpu"
    batch: int = 8
    threads: int = field(default_factory=usable_cores)
    max_pixels: int = 25_000_000

    def __post_init__(self) -> None:
        """Refuse values that could only stall."""
        if min(self.batch, self.threads, self.max_pixels) < 1:
            raise ValueError(f"batch, threads and max_pixels must be at least 1, got {self}")
        if self.device not in DEVICES:
            raise ValueError(f"device must be cpu or gpu, got {self.device!r}")


class Decoder(Protocol):
    """
    Turns shards into batches; a bad image becomes a fault, never a raise.

    Attributes:
        name: As asked for with ``--decoder``.
        version: Of the packages that decode.
    """

    name: str
    version: str

    def stream(self, shards: Iterable[Shard]) -> Iterator[Batch]:
        """
        Decode in order, some batches ahead of whoever iterates.

        Every ref of every shard comes out exactly once: in a batch's ``refs`` or its ``faults``.
        """
        ...


def choose(asked: str = "auto") -> Choice[str]:
    """
    Pick a decoder that works here.

    Raises:
        BackendMissingError: If the one asked for by name does not.
    """
    if asked not in (*DECODERS, "auto"):
        raise BackendMissingError(
            f"there is no decoder {asked!r}", hint=f"choose auto, {' or '.join(DECODERS)}"
        )
    has_dali = _is_installed("nvidia.nvimgcodec")
    if asked == "auto":
        if has_dali:
            return Choice("dali", "DALI's codec is installed")
        return Choice("pillow", "DALI's codec is not installed")
    if asked == "dali" and not has_dali:
        raise BackendMissingError(
            "the decoder dali needs the package nvidia-nvimgcodec-cu13",
            hint="pip install 'nvidia-nvimgcodec-cu13[all]', or use --decoder pillow",
        )
    return Choice(asked, "asked for")


def choose_device(decoder: str, asked: str = "auto", *, model_on_gpu: bool) -> Choice[str]:
    """
    Pick where to decode: ``cpu`` or ``gpu``.

    Args:
        decoder: The one that was chosen.
        asked: ``auto`` decodes where the model runs, if the decoder can.
        model_on_gpu: Whether the model runs on a GPU.

    Raises:
        BackendMissingError: If the GPU was asked for and cannot decode.
    """
    if asked == "cpu":
        return Choice("cpu", "asked for")
    why_not = _why_not_on_gpu(decoder)
    if asked == "gpu" and why_not:
        raise BackendMissingError(
            f"cells cannot be decoded on a GPU: {why_not}", hint="use --decode-on cpu, or auto"
        )
    if asked == "gpu":
        return Choice("gpu", "asked for")
    if not model_on_gpu:
        return Choice("cpu", "the model runs there")
    if why_not:
        return Choice("cpu", why_not)
    return Choice("gpu", "the model runs there: pixels need not cross the bus again")


def _why_not_on_gpu(decoder: str) -> str:
    """Return what keeps a decoder off the GPU; empty if nothing does."""
    if decoder == "pillow":
        return "Pillow decodes on the processor only"
    return "" if this_device() else "there is no NVIDIA GPU that PyTorch can use"


def open_decoder(name: str, read: Read, expected: ModelInput, options: DecodeOptions) -> Decoder:
    """Open the decoder called *name*, to read cells with *read* and bring them to *expected*."""
    if name == "dali" and options.device == "gpu":
        from engines.decode.gpu import DeviceDecoder

        return DeviceDecoder(read, expected, options)
    from engines.decode.cpu import HostDecoder

    if name == "dali":
        from engines.decode.nvimagecodec import DaliCodec

        return HostDecoder(DaliCodec, read, expected, options)
    from engines.decode.pillow import PillowCodec

    return HostDecoder(PillowCodec, read, expected, options)


def _is_installed(package: str) -> bool:
    """Look for a package without importing it (its parent, an empty namespace, is)."""
    try:
        return find_spec(package) is not None
    except ModuleNotFoundError:
        return False
