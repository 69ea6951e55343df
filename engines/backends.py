"""
Which decoders, runtimes and precisions work on this machine, best first, and how one is opened.

``auto`` gives several candidates: whoever opens them takes the first that opens and agrees with the
reference. What was asked for by name is the only candidate, or an error.
"""

from __future__ import annotations

from dataclasses import dataclass
from importlib.util import find_spec
from typing import TYPE_CHECKING

from engines.decode.workers.decoder import WorkerDecoder
from engines.errors import BackendMissingError
from engines.hardware.gpu import gpu_or_why_not
from engines.registry import (
    AUTO,
    CPU,
    DECODERS,
    GPU,
    RUNTIMES,
    Choice,
    Obstacle,
    RuntimeRow,
    decoder_row,
    followed,
    runtime_row,
    runtimes_on,
)
from engines.runtime.base import default_batch

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence

    from engines.cells import Batch, Read
    from engines.decode.base import DecodeOptions, Decoder
    from engines.models.bundle import ModelBundle
    from engines.models.input import ModelInput
    from engines.registry import Backend, DecoderRow
    from engines.runtime.base import Runtime, RuntimeOptions

__all__ = [
    "NEEDS_GPU",
    "DecoderCandidate",
    "best_batch",
    "decoder_candidates",
    "obstacle",
    "obstacle_on_gpu",
    "open_decoder",
    "open_runtime",
    "precision_candidates",
    "runtime_candidates",
]

ASKED_FOR = "asked for"
NEEDS_GPU = "an NVIDIA GPU with its driver, and a PyTorch built for CUDA, would bring it"
BEST, NEXT = "the fastest that works here", "the next that works here"


def obstacle(backend: Backend) -> Obstacle | None:
    """
    Return what keeps a decoder or a runtime from working on this machine, or None.

    A decoder that works on a GPU, too, needs none: ``obstacle_on_gpu`` tells of that.
    """
    on_gpu = _gpu_obstacle(backend) if isinstance(backend, RuntimeRow) else None
    return on_gpu or _package_obstacle(backend)


def obstacle_on_gpu(row: DecoderRow) -> Obstacle | None:
    """Return what keeps an installed decoder from decoding on a GPU, or None."""
    hint = "use --decode-on cpu, or auto"
    if GPU not in row.devices:
        return Obstacle(f"{row.name} decodes on the processor only", hint)
    here = gpu_or_why_not()
    if isinstance(here, str):
        return Obstacle(f"no NVIDIA GPU: {here}", hint, NEEDS_GPU)
    return None


def runtime_candidates(asked: str = AUTO, device: str = AUTO) -> Iterator[Choice[str]]:
    """
    Yield the names of runtimes that work here, best first, each with the reason it is taken.

    A runtime is looked at only when it is asked for: looking may load its package.

    Args:
        asked: ``auto``, or the name of the only candidate.
        device: ``auto``, or the only kind of device it may run on, ``cpu`` or ``gpu``.

    Raises:
        BackendMissingError: If the one asked for by name does not work here, or runs elsewhere.
    """
    if asked == AUTO:
        return _usable_runtimes(device)
    row = runtime_row(asked)
    if device not in (AUTO, row.device):
        raise BackendMissingError(
            f"the runtime {asked} does not run on the {device.upper()} that was asked for",
            hint=f"use --runtime auto, or {' or '.join(runtimes_on(device))}",
        )
    if (found := obstacle(row)) is not None:
        raise BackendMissingError(
            f"the runtime {asked} does not work here: {found.reason}", hint=found.hint
        )
    return iter([Choice(asked, ASKED_FOR)])


@dataclass(frozen=True, slots=True)
class DecoderCandidate:
    """A decoder, and where it is to decode (``gpu`` or ``cpu``)."""

    decoder: Choice[str]
    device: Choice[str]


def decoder_candidates(
    asked: str = AUTO, device: str = AUTO, *, model_on_gpu: bool = False
) -> Iterator[DecoderCandidate]:
    """
    Yield decoders that work here and where they may decode, best first.

    Args:
        asked: ``auto``, or the name of the only decoder.
        device: ``gpu``, ``cpu``, or ``auto``: where the model runs, and then the processor.
        model_on_gpu: Whether the model runs on a GPU.

    Raises:
        BackendMissingError: If the decoder or the device asked for by name does not work here.
    """
    works = list(_usable_decoders(asked))
    found = [
        DecoderCandidate(decoder, place)
        for decoder in works
        for place in _places(decoder_row(decoder.value), device, model_on_gpu=model_on_gpu)
    ]
    if not found:
        why = obstacle_on_gpu(decoder_row(works[0].value))
        assert why is not None
        raise BackendMissingError(f"cells cannot be decoded on a GPU: {why.reason}", hint=why.hint)
    return iter(found)


def precision_candidates(runtime: str, asked: str = AUTO) -> Iterator[Choice[str]]:
    """
    Yield precisions that *runtime* computes in on this machine: the fastest, then float32.

    Args:
        runtime: The name of one that works here.
        asked: ``auto``, or the only candidate.

    Raises:
        BackendMissingError: If the one asked for by name is not to be had.
    """
    usable: Choice[tuple[str, ...]] = followed(runtime_row(runtime).precisions)()
    if asked == AUTO:
        taken = [Choice(usable.value[0], usable.reason)]
        if usable.value[0] != "fp32":
            taken.append(Choice("fp32", "the reference's own precision"))
        return iter(taken)
    if asked not in usable.value:
        raise BackendMissingError(
            f"precision {asked} is not usable with the runtime {runtime} here: {usable.reason}",
            hint=f"use --precision {usable.value[0]}, or auto",
        )
    return iter([Choice(asked, ASKED_FOR)])


def best_batch(name: str, precision: str, bundle: ModelBundle) -> Choice[int]:
    """Return how many cells an inference by a runtime takes where the user does not say."""
    row = runtime_row(name)
    found: int | None = (
        followed(row.tuned_batch)(name, precision, bundle) if row.tuned_batch else None
    )
    if found is not None:
        return Choice(found, "tuned on this GPU")
    return Choice(default_batch(row.device), "the default of this runtime")


def open_decoder(name: str, read: Read, expected: ModelInput, options: DecodeOptions) -> Decoder:
    """Open the decoder called *name*, to read cells with *read* and bring them to *expected*."""
    opener = decoder_row(name).opener
    if options.workers and options.device == CPU:
        return WorkerDecoder(opener, read, expected, options)
    decoder: Decoder = followed(opener)(read, expected, options)
    return decoder


def open_runtime(
    name: str,
    bundle: ModelBundle,
    options: RuntimeOptions,
    progress: Callable[[float, str], None] | None = None,
    sample: Sequence[Batch] = (),
) -> Runtime:
    """
    Open the runtime called *name* for *bundle*; the first time, this may build an engine.

    Args:
        name: One of ``runtime_names()``.
        bundle: The model.
        options: How it runs.
        progress: Is told how far a TensorRT engine is, where one has to be built.
        sample: Decoded cells, to find what a half precision must leave to float32.
    """
    opener = followed(runtime_row(name).opener)
    runtime: Runtime = opener(bundle, options, sample=sample, progress=progress)
    return runtime


def _usable_runtimes(device: str) -> Iterator[Choice[str]]:
    """Yield what works; the first says what was passed over on the way to it, and why."""
    why, passed = BEST, dict[str, None]()
    for row in RUNTIMES:
        if device not in (AUTO, row.device):
            continue
        if (found := obstacle(row)) is not None:
            passed[found.reason] = None
            continue
        yield Choice(row.name, "; ".join([why, *passed]))
        why, passed = NEXT, {}


def _usable_decoders(asked: str) -> Iterator[Choice[str]]:
    """Yield the decoder asked for, or all that work; raise where there is none."""
    rows = DECODERS if asked == AUTO else (decoder_row(asked),)
    why, passed = BEST if asked == AUTO else ASKED_FOR, list[Obstacle]()
    for row in rows:
        if (found := obstacle(row)) is not None:
            passed.append(found)
            continue
        yield Choice(row.name, "; ".join([why, *(each.reason for each in passed)]))
        why, passed = NEXT, []
    if len(passed) == len(rows):
        raise BackendMissingError(
            f"the decoder {rows[-1].name} does not work here: {passed[-1].reason}",
            hint=passed[-1].hint,
        )


def _places(row: DecoderRow, device: str, *, model_on_gpu: bool) -> Iterator[Choice[str]]:
    """Yield where a decoder may decode: on the GPU where the model is, then on the processor."""
    why_not = obstacle_on_gpu(row) if device == GPU or (device == AUTO and model_on_gpu) else None
    if device == GPU:
        if why_not is None:
            yield Choice(GPU, ASKED_FOR)
    elif device == CPU:
        yield Choice(CPU, ASKED_FOR)
    elif not model_on_gpu:
        yield Choice(CPU, "the model runs there")
    elif why_not is not None:
        yield Choice(CPU, why_not.reason)
    else:
        yield Choice(GPU, "the model runs there: pixels need not cross the bus again")
        yield Choice(CPU, NEXT)


def _gpu_obstacle(row: RuntimeRow) -> Obstacle | None:
    """Return what is in the way of a runtime that needs a GPU."""
    if row.device != GPU or not isinstance(here := gpu_or_why_not(), str):
        return None
    hint = f"use --runtime {runtimes_on(CPU)[0]}, which needs no GPU"
    return Obstacle(f"no GPU: {here}", hint, NEEDS_GPU)


def _package_obstacle(row: Backend) -> Obstacle | None:
    """Say that the package is not installed, or whatever else the backend finds in its way."""
    if row.module and not _is_installed(row.module):
        return Obstacle(f"the package {row.package} is not installed", f"pip install {row.install}")
    found: Obstacle | None = followed(row.why_not)(row.name) if row.why_not else None
    return found


def _is_installed(module: str) -> bool:
    """Look for a module without importing it (its parent, an empty namespace, is imported)."""
    try:
        return find_spec(module) is not None
    except ModuleNotFoundError:
        return False
