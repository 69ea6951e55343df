"""What works on this machine, tried out, and what would bring the rest."""

from __future__ import annotations

from dataclasses import dataclass
from importlib import import_module
from typing import TYPE_CHECKING

from engines.bundle import DEFAULT_BUNDLE, ModelBundle, ModelInput
from engines.cells import CellRef, Shard
from engines.decode import DecodeOptions, open_decoder
from engines.export import cache_folder

if TYPE_CHECKING:
    from collections.abc import Callable

__all__ = ["Check", "examine"]

TINY_PPM = b"P6 2 2 255\n" + bytes(range(12))
PLAIN_INPUT = ModelInput(height=2, width=2, mean=(0.5, 0.5, 0.5), std=(0.5, 0.5, 0.5))


@dataclass(frozen=True, slots=True)
class Check:
    """
    One thing that was tried.

    Attributes:
        name: What.
        works: Whether it does.
        detail: Which version, or what went wrong.
        remedy: The command that would bring it; empty if it works or none is needed.
        needed: Whether a run needs it here.
    """

    name: str
    works: bool
    detail: str
    remedy: str = ""
    needed: bool = True


def examine() -> list[Check]:
    """Try every part that a run may use."""
    return [
        _tried("model", _default_model, "reinstall slidescreen"),
        _tried("decoder pillow", lambda: _decoder("pillow"), "pip install pillow"),
        _tried(
            "decoder dali",
            lambda: _decoder("dali"),
            "pip install 'nvidia-nvimgcodec-cu13[all]'",
            needed=False,
        ),
        _tried("runtime torch", _torch, "pip install torch timm"),
        _tried("runtime openvino", _openvino, "pip install openvino", needed=False),
        _tried("cache", _cache, "set SLIDESCREEN_CACHE to a folder that can be written"),
    ]


def _tried(name: str, attempt: Callable[[], str], remedy: str, *, needed: bool = True) -> Check:
    """Run an attempt; whatever goes wrong in it is what the user wants to see."""
    try:
        return Check(name, True, attempt(), needed=needed)
    except Exception as error:
        return Check(name, False, f"{type(error).__name__}: {error}", remedy, needed)


def _default_model() -> str:
    """Load the bundle that ships."""
    bundle = ModelBundle.load(DEFAULT_BUNDLE)
    return f"{bundle.architecture}, {' / '.join(bundle.classes)}, {bundle.sha256[:12]}"


def _decoder(name: str) -> str:
    """Decode four pixels."""
    decoder = open_decoder(name, lambda _: TINY_PPM, PLAIN_INPUT, DecodeOptions())
    (batch,) = decoder.stream([Shard(0, (CellRef("tiny.ppm", ""),))])
    if batch.host_pixels.tobytes() != TINY_PPM[-12:]:
        raise RuntimeError(
            f"four pixels came out wrong: {batch.faults or batch.host_pixels.tolist()}"
        )
    return decoder.version


def _torch() -> str:
    """Import the reference's packages."""
    torch, timm = import_module("torch"), import_module("timm")
    return f"torch {torch.__version__}, timm {timm.__version__}"


def _openvino() -> str:
    """Ask which precisions this processor computes in."""
    runtime = import_module("engines.runtime.openvino")
    usable, why = runtime.precisions()
    return f"{runtime.OpenVINORuntime.version}, {' and '.join(usable)}: {why}"


def _cache() -> str:
    """Write to the cache folder."""
    folder = cache_folder()
    folder.mkdir(parents=True, exist_ok=True)
    probe = folder / ".doctor"
    probe.touch()
    probe.unlink()
    return str(folder)
