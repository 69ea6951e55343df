"""One fixed batch shape: what is short of it is padded, and the padding's scores are dropped."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, TypeVar

import numpy as np

from engines.cells import Batch, Scores

if TYPE_CHECKING:
    from collections.abc import Sequence

    from numpy.typing import NDArray
    from torch import Tensor

__all__ = ["padded", "scores_from_outputs"]

Pixels = TypeVar("Pixels", "NDArray[np.uint8]", "Tensor")


def padded(pixels: Pixels, *, into: Pixels) -> None:
    """
    Copy n images to the front of *into* and blacken the rest.

    Raises:
        ValueError: If there are more than *into* holds.
    """
    if len(pixels) > len(into):
        raise ValueError(f"{len(pixels)} cells in a batch of at most {len(into)}")
    into[: len(pixels)] = pixels
    into[len(pixels) :] = 0


def scores_from_outputs(batch: Batch, outputs: Sequence[NDArray[Any]]) -> Scores:
    """Copy the rows that belong to the batch's cells out of the graph's two or three outputs."""
    count = len(batch.refs)
    logits, features, *rest = (np.array(output[:count]) for output in outputs)
    return Scores(
        shard=batch.shard,
        refs=batch.refs,
        facts=batch.facts,
        faults=batch.faults,
        logits=logits,
        features=features,
        evidence=rest[0] if rest else None,
        quality=batch.quality,
    )
