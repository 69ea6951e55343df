"""Whether a runtime scores a batch alike, bit for bit, wherever in its memory the batch lies."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

from engines.errors import ParityError

if TYPE_CHECKING:
    from collections.abc import Sequence

    from engines.cells import Batch, Scores
    from engines.runtime.base import Runtime

__all__ = ["require_equal_slots"]


def require_equal_slots(runtime: Runtime, batches: Sequence[Batch]) -> None:
    """
    Refuse a runtime one of whose slots gives a batch other scores than the first slot does.

    Slots take batches in turn. So the sample's first batch is scored once by every slot and then,
    over what that has left behind, its cells are in reverse.

    Args:
        runtime: One that agrees with the reference; its ``slot_count`` says how many there are.
        batches: The sample, at least one batch.

    Raises:
        ParityError: If scores differ in any bit.
    """
    for batch in (batches[0], _reversed(batches[0])):
        seen = [_bits(scores) for scores in runtime.stream([batch] * runtime.slot_count)]
        different = next((slot for slot, bits in enumerate(seen) if bits != seen[0]), None)
        if different is not None:
            raise ParityError(
                f"the runtime {runtime.name} disagrees with itself: the same cells have other "
                f"scores in batch {different + 1} of {runtime.slot_count} in flight than in the "
                "first",
                hint="the device or its driver may be at fault; try another --runtime",
            )


def _reversed(batch: Batch) -> Batch:
    """Return the same cells in reverse order."""
    pixels = batch.host_pixels[::-1].copy()
    return replace(batch, refs=batch.refs[::-1], facts=batch.facts[::-1], pixels=pixels)


def _bits(scores: Scores) -> tuple[bytes, ...]:
    """Return scores as bytes, so that no two values that differ are equal."""
    outputs = (scores.logits, scores.features, scores.evidence)
    return tuple(each.tobytes() for each in outputs if each is not None)
