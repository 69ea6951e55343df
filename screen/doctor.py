"""What works on this machine, each thing tried for real, and what would bring the rest."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal

import numpy as np

from engines import parity
from engines.backends import (
    NEEDS_GPU,
    decoder_candidates,
    obstacle,
    obstacle_on_gpu,
    open_decoder,
    open_runtime,
    precision_candidates,
    runtime_candidates,
)
from engines.cells import Batch, CellFacts, CellRef, Shard
from engines.decode.base import DecodeOptions
from engines.errors import BackendMissingError, UserError
from engines.files import cache_folder
from engines.hardware.gpu import gpu_or_why_not
from engines.models.bundle import DEFAULT_BUNDLE, ModelBundle
from engines.models.input import ModelInput
from engines.registry import (
    DECODERS,
    GPU,
    REFERENCE_DECODER,
    REFERENCE_RUNTIME,
    RUNTIMES,
    Obstacle,
    runtime_row,
)
from engines.runtime.base import GPU_BATCH, RuntimeOptions
from engines.tensorrt.versions import VARIANT_NAMES, open_variant

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

    from numpy.typing import NDArray

    from engines.registry import DecoderRow, RuntimeRow

__all__ = ["Check", "examine"]

GREY = 128
CELLS = 2  # that each runtime scores
TINY_INPUT = ModelInput(height=2, width=2, mean=(0.5, 0.5, 0.5), std=(0.5, 0.5, 0.5))

Outcome = Literal["ok", "absent", "failed"]


@dataclass(frozen=True, slots=True)
class Check:
    """
    One thing that was tried.

    Attributes:
        name: What.
        outcome: ``ok``; ``absent``: this machine lacks what it needs; ``failed``: it is there and
            does not work.
        detail: Which version did what, or what is in the way.
        remedy: What would bring it; empty where it works.
        needed: Whether ``slidescreen run`` needs it when the user asks for nothing by name.
    """

    name: str
    outcome: Outcome
    detail: str
    remedy: str = ""
    needed: bool = False

    @property
    def works(self) -> bool:
        """Whether it works."""
        return self.outcome == "ok"


def examine(model: Path = DEFAULT_BUNDLE) -> Iterator[Check]:
    """
    Try every part that a run may use, and yield what came of it as soon as it is known.

    The first time, this compiles *model* for each runtime, as a run would: minutes with TensorRT.
    """
    yield _tried("model", lambda: _model(model), "reinstall slidescreen", needed=True)
    yield _tried(
        "cache", _cache, "set SLIDESCREEN_CACHE to a folder that can be written", needed=True
    )
    yield _gpu()
    runtime = next(runtime_candidates()).value
    decoding = next(decoder_candidates(model_on_gpu=runtime_row(runtime).device == GPU))
    for decoder in DECODERS:
        for device in decoder.devices:
            by_auto = (decoding.decoder.value, decoding.device.value) == (decoder.name, device)
            needed = by_auto or decoder.name == REFERENCE_DECODER
            yield _decoder(decoder, device, needed=needed)
    for row in RUNTIMES:
        yield _runtime(row, model, needed=row.name in (runtime, REFERENCE_RUNTIME))
    for name in VARIANT_NAMES:
        yield _builder(name)


def _tried(name: str, attempt: Callable[[], str], remedy: str, *, needed: bool = False) -> Check:
    """Run an attempt; whatever goes wrong in it is what the user wants to see."""
    try:
        return Check(name, "ok", attempt(), needed=needed)
    except UserError as error:
        return Check(name, "failed", str(error), error.hint or remedy, needed)
    except Exception as error:
        return Check(name, "failed", f"{type(error).__name__}: {error}", remedy, needed)


def _absent(name: str, found: Obstacle, *, needed: bool = False) -> Check:
    """Say what is in the way, and what would bring it."""
    return Check(name, "absent", found.reason, found.remedy or found.hint, needed)


def _gpu() -> Check:
    """Name the GPU and its driver."""
    gpu = gpu_or_why_not()
    if isinstance(gpu, str):
        return Check("gpu", "absent", gpu, NEEDS_GPU)
    return Check("gpu", "ok", f"{gpu.name}, {gpu.target}, driver {gpu.driver}")


def _decoder(row: DecoderRow, device: str, *, needed: bool) -> Check:
    """Decode a few pixels."""
    name = f"decoder {row.name} on the {'GPU' if device == GPU else 'processor'}"
    found = obstacle(row) or (obstacle_on_gpu(row) if device == GPU else None)
    if found is not None:
        return _absent(name, found, needed=needed)
    remedy = f"pip install {row.install}"
    return _tried(name, lambda: _decodes(row.name, device), remedy, needed=needed)


def _decodes(name: str, device: str) -> str:
    """Decode a grey JPEG, which must come out grey; say which codec took it."""
    import simplejpeg

    jpeg = simplejpeg.encode_jpeg(np.full((64, 64, 3), GREY, np.uint8))
    batch, version = _decoded(name, jpeg, device)
    if batch.faults or (abs(batch.host_pixels.astype(int) - GREY) > 1).any():
        raise RuntimeError(f"grey came out wrong: {batch.faults or batch.host_pixels.tolist()}")
    codec = batch.facts[0].codec
    if codec == REFERENCE_DECODER != name:
        raise RuntimeError(f"it left a plain JPEG to {codec}")
    return f"{version}, JPEG by {codec}"


def _decoded(name: str, data: bytes, device: str) -> tuple[Batch, str]:
    """Decode one image; return it as a batch, and the decoder's version."""
    decoder = open_decoder(name, lambda _: data, TINY_INPUT, DecodeOptions(device=device))
    (batch,) = decoder.stream([Shard(0, (CellRef("cell", ""),))])
    return batch, decoder.version


def _runtime(row: RuntimeRow, model: Path, *, needed: bool) -> Check:
    """Score two grey cells, and hold the scores against the reference's."""
    name = f"runtime {row.name}"
    if (found := obstacle(row)) is not None:
        return _absent(name, found, needed=needed)
    remedy = f"pip install {row.install}"
    return _tried(name, lambda: _scores(row, ModelBundle.load(model)), remedy, needed=needed)


def _scores(row: RuntimeRow, bundle: ModelBundle) -> str:
    """
    Run the model, as ``auto`` would: half precision gives way to float32 where parity misses.

    Raises:
        RuntimeError: If no precision agrees with the reference.
    """
    batch = _grey_cells(bundle.input)
    expected = _logits(REFERENCE_RUNTIME, bundle, RuntimeOptions(batch=CELLS), batch)[0]
    size = GPU_BATCH if row.device == GPU else CELLS  # the size that a run on a GPU builds for
    missed = []
    for precision in precision_candidates(row.name):
        options = RuntimeOptions(precision=precision.value, batch=size)
        logits, version = _logits(row.name, bundle, options, batch)
        agreement = parity.score_agreement(
            batch.refs, logits, expected, bundle=bundle, precision=precision.value
        )
        if agreement.holds:
            return f"{version}, {agreement}"
        missed.append(str(agreement))
    raise RuntimeError(f"its scores are not the reference's: {'; '.join(missed)}")


def _logits(
    name: str, bundle: ModelBundle, options: RuntimeOptions, batch: Batch
) -> tuple[NDArray[np.float32], str]:
    """Score a batch through the stream, as a run does; also return the runtime's version."""
    runtime = open_runtime(name, bundle, options)
    (scores,) = runtime.stream([batch])
    return scores.logits, runtime.version


def _grey_cells(expected: ModelInput) -> Batch:
    """Make cells of two greys."""
    refs = tuple(CellRef(f"grey {number}", "") for number in range(CELLS))
    pixels = np.full((CELLS, expected.height, expected.width, 3), GREY, np.uint8)
    pixels[1:] = GREY // 2
    return Batch(Shard(0, refs), refs, (CellFacts(),) * CELLS, pixels)


def _builder(name: str) -> Check:
    """Load what builds engines."""
    try:
        here = open_variant(name)
    except BackendMissingError as error:
        return Check(f"builder {name}", "absent", str(error), error.hint)
    able = ", ".join(here.variant.targets)
    detail = f"for {able}, with no GPU" if able else "for the GPU at hand"
    return Check(f"builder {name}", "ok", f"{name} {here.version}, builds {detail}")


def _model(model: Path) -> str:
    """Load the bundle."""
    bundle = ModelBundle.load(model)
    return f"{bundle.architecture}, {' / '.join(bundle.classes)}, {bundle.sha256[:12]}"


def _cache() -> str:
    """Write to the cache folder."""
    folder = cache_folder()
    folder.mkdir(parents=True, exist_ok=True)
    probe = folder / ".doctor"
    probe.touch()
    probe.unlink()
    return str(folder)
