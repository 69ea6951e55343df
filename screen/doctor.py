"""What works on this machine, tried out, and what would bring the rest."""

from __future__ import annotations

from dataclasses import dataclass
from functools import partial
from importlib import import_module
from typing import TYPE_CHECKING

import numpy as np

from engines.backends import obstacle, open_decoder
from engines.cells import CellRef, Shard
from engines.decode.base import DecodeOptions
from engines.errors import BackendMissingError
from engines.files import cache_folder
from engines.hardware.gpu import gpu_or_why_not
from engines.models.bundle import DEFAULT_BUNDLE, ModelBundle
from engines.models.input import ModelInput
from engines.registry import runtime_row, runtimes_on
from engines.tensorrt.versions import FLAVOUR_NAMES, open_flavour

if TYPE_CHECKING:
    from collections.abc import Callable

__all__ = ["Check", "examine"]

GREY = 128
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
        _tried("gpu", _gpu, "an NVIDIA GPU with its driver; nothing needs one", needed=False),
        *(
            _tried_on_gpu(f"runtime {name}", name, partial(_on_gpu, name))
            for name in runtimes_on("gpu")
        ),
        _tried_on_gpu("decoder dali on the GPU", "torch-cuda", _gpu_decoder),
        *(_tried_builder(name) for name in FLAVOUR_NAMES),
        _tried("cache", _cache, "set SLIDESCREEN_CACHE to a folder that can be written"),
    ]


def _tried(name: str, attempt: Callable[[], str], remedy: str, *, needed: bool = True) -> Check:
    """Run an attempt; whatever goes wrong in it is what the user wants to see."""
    try:
        return Check(name, True, attempt(), needed=needed)
    except Exception as error:
        return Check(name, False, f"{type(error).__name__}: {error}", remedy, needed)


def _tried_on_gpu(name: str, runtime: str, attempt: Callable[[], str]) -> Check:
    """Run an attempt that needs what *runtime* needs; say what is in the way, if anything is."""
    if (found := obstacle(runtime_row(runtime))) is not None:
        return Check(name, False, found.reason, found.hint, needed=False)
    return _tried(name, attempt, "slidescreen run works without it", needed=False)


def _tried_builder(name: str) -> Check:
    """Load what builds engines; a remedy is the package to install."""
    try:
        here = open_flavour(name)
    except BackendMissingError as error:
        return Check(f"builder {name}", False, str(error), error.hint, needed=False)
    able = ", ".join(here.flavour.targets)
    detail = f"for {able}, with no GPU" if able else "for the GPU at hand"
    return Check(f"builder {name}", True, f"{name} {here.version}, builds {detail}", needed=False)


def _gpu() -> str:
    """Name the GPU and its driver."""
    gpu = gpu_or_why_not()
    if isinstance(gpu, str):
        raise BackendMissingError(gpu)
    return f"{gpu.name}, {gpu.target}, driver {gpu.driver}"


def _on_gpu(name: str) -> str:
    """Score nothing but zeros with PyTorch; load TensorRT and say which it is."""
    if name in FLAVOUR_NAMES:
        return f"{name} {open_flavour(name).version}"
    torch = import_module("torch")
    if float(torch.zeros(8, device="cuda").half().sum()) != 0:
        raise RuntimeError("eight zeros do not add up to zero")
    return f"torch {torch.__version__}, CUDA {torch.version.cuda}"


def _gpu_decoder() -> str:
    """Decode a grey JPEG, and say what took it."""
    jpeg = import_module("simplejpeg").encode_jpeg(np.full((64, 64, 3), GREY, np.uint8))
    decoder = open_decoder("dali", lambda _: jpeg, PLAIN_INPUT, DecodeOptions(device="gpu"))
    (batch,) = decoder.stream([Shard(0, (CellRef("grey.jpg", ""),))])
    if batch.faults or (abs(batch.host_pixels.astype(int) - GREY) > 1).any():
        raise RuntimeError(f"grey came out wrong: {batch.faults or batch.host_pixels.tolist()}")
    return f"{decoder.version}, JPEG by {batch.facts[0].codec}"


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
    precisions = runtime.precisions()
    usable, why = precisions.value, precisions.reason
    return f"{runtime.OpenVINORuntime.version}, {' and '.join(usable)}: {why}"


def _cache() -> str:
    """Write to the cache folder."""
    folder = cache_folder()
    folder.mkdir(parents=True, exist_ok=True)
    probe = folder / ".doctor"
    probe.touch()
    probe.unlink()
    return str(folder)
