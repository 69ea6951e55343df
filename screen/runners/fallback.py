"""What gives way to what, where the choice was ours: each step is recorded with its reason."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

from engines.backends import runtime_candidates
from engines.errors import ParityError
from engines.registry import GPU, REFERENCE_DECODER, Choice, runtime_row

if TYPE_CHECKING:
    from engines.parity import ScoreAgreement
    from screen.options import RunOptions, Settings

__all__ = ["in_float32", "next_decoder", "next_runtime"]


def next_decoder(settings: Settings, options: RunOptions, why: str) -> Settings | None:
    """Return settings that decode nearer to the reference, or None where the user forbids it."""
    on_cpu = Choice("cpu", f"fell back: {why}")
    if settings.decode_on.value == "gpu":
        return replace(settings, decode_on=on_cpu) if options.decode_on == "auto" else None
    if settings.decoder.value != REFERENCE_DECODER and options.decoder == "auto":
        return replace(settings, decoder=Choice(REFERENCE_DECODER, f"fell back: {why}"))
    return None


def next_runtime(
    settings: Settings, options: RunOptions, why: str, tried: frozenset[str]
) -> Settings | None:
    """Return settings with the next runtime on the GPU, or None where there is none to take."""
    if options.runtime != "auto":
        return None
    following = next(each for each in runtime_candidates() if each.value not in tried)
    if runtime_row(following.value).device != GPU:
        return None
    return replace(settings, runtime=Choice(following.value, f"fell back: {why}"))


def in_float32(settings: Settings, missed: ScoreAgreement, *, may_fall_back: bool) -> Settings:
    """Return the same settings in float32, or raise where there is nothing to fall back to."""
    if settings.precision.value == "fp32":
        hint = "it computes something else than the bundle's network; try another --runtime"
    elif not may_fall_back:
        hint = "pass --precision fp32 and a new --out"
    else:
        return replace(settings, precision=Choice("fp32", f"fell back: {missed}"))
    raise ParityError(
        f"the runtime {settings.runtime.value} disagrees with PyTorch; {missed}", hint=hint
    )
