"""What will run, held against the reference: pixels against Pillow, scores against PyTorch."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

import numpy as np

from engines.cells import Shard
from engines.uncertainty import positives, predictions, probabilities

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from numpy.typing import NDArray

    from engines.cells import Batch, CellRef
    from engines.decode.base import Decoder
    from engines.models.bundle import ModelBundle

__all__ = [
    "DP_LIMIT",
    "PixelAgreement",
    "ScoreAgreement",
    "compare_decoder",
    "pixel_agreement",
    "sample",
    "score_agreement",
]

DP_LIMIT = {"fp32": 1e-3, "bf16": 0.05, "fp16": 0.05}
MOST_HANDFULS = 16
PIXEL_MEAN_LIMIT = 1.0  # of 255
PIXEL_P999_LIMIT = 8.0  # of 255
TWO = 2  # classes, at least, for one of them to overtake another


@dataclass(frozen=True, slots=True, kw_only=True)
class PixelAgreement:
    """
    A decoder against Pillow, each cell by itself, the worst counted.

    Attributes:
        cells: How many were compared.
        not_compared: How many more the decoder decoded and Pillow did not.
        mean: Largest mean absolute difference of a cell's pixels, of 255.
        p999: Largest 99.9th percentile of the same.
        worst: Path of the cell that comes nearest to a limit, or exceeds it most.
    """

    cells: int
    not_compared: int
    mean: float
    p999: float
    worst: str

    @property
    def holds(self) -> bool:
        """Whether the decoder may run."""
        return self.mean <= PIXEL_MEAN_LIMIT and self.p999 <= PIXEL_P999_LIMIT

    def __str__(self) -> str:
        """One line for a person."""
        return (
            f"pixels differ from Pillow's by {self.mean:.2f} of 255 in the mean "
            f"(limit {PIXEL_MEAN_LIMIT:g}) and {self.p999:.1f} at the 99.9th percentile "
            f"(limit {PIXEL_P999_LIMIT:g}), worst cell {self.worst}"
        )


@dataclass(frozen=True, slots=True, kw_only=True)
class ScoreAgreement:
    """
    A runtime against FP32 PyTorch on the same pixels.

    Attributes:
        cells: How many were compared.
        precision: What the runtime computes in; it sets the limit.
        max_dp: Largest absolute difference of a calibrated probability; NaN if a score is not
            finite.
        flips: Cells whose predicted class differs.
        far_flips: Flips whose reference lies farther than the limit from the boundary it crossed.
        worst: Path of the cell with the largest difference.
    """

    cells: int
    precision: str
    max_dp: float
    flips: int
    far_flips: int
    worst: str

    @property
    def holds(self) -> bool:
        """Whether the runtime may run at this precision."""
        return self.within(1)

    def within(self, share: float) -> bool:
        """Tell whether no probability differs by more than this share of the limit."""
        return self.max_dp <= share * DP_LIMIT[self.precision] and self.far_flips == 0

    def __str__(self) -> str:
        """One line for a person."""
        return (
            f"{self.precision}: largest difference of a probability {self.max_dp:.2g} "
            f"(limit {DP_LIMIT[self.precision]:g}), {self.flips} of {self.cells} labels flipped, "
            f"worst cell {self.worst}"
        )


def pixel_agreement(
    refs: Sequence[CellRef], pixels: NDArray[np.uint8], reference: NDArray[np.uint8]
) -> PixelAgreement:
    """
    Compare two decodings of the same n > 0 cells.

    Args:
        refs: The cells.
        pixels: ``(n, H, W, 3)``, by the decoder that will run.
        reference: The same by Pillow.
    """
    means, tails = [], []
    for ours, theirs in zip(pixels, reference, strict=True):
        difference = np.abs(ours.astype(np.int16) - theirs)
        means.append(float(difference.mean()))
        tails.append(float(np.percentile(difference, 99.9)))
    shares = np.maximum(np.divide(means, PIXEL_MEAN_LIMIT), np.divide(tails, PIXEL_P999_LIMIT))
    return PixelAgreement(
        cells=len(refs),
        not_compared=0,
        mean=max(means),
        p999=max(tails),
        worst=refs[int(np.argmax(shares))].path,
    )


def score_agreement(
    refs: Sequence[CellRef],
    logits: NDArray[np.float32],
    reference: NDArray[np.float32],
    *,
    bundle: ModelBundle,
    precision: str,
) -> ScoreAgreement:
    """
    Compare two scorings of the same n > 0 cells on the same pixels.

    Args:
        refs: The cells.
        logits: ``(n, C)``, by the runtime that will run.
        reference: The same by FP32 PyTorch.
        bundle: Gives calibration and threshold.
        precision: What the runtime computes in.
    """
    ours = probabilities(logits, bundle.temperature)
    theirs = probabilities(reference, bundle.temperature)
    differences = np.abs(ours.astype(np.float64) - theirs).max(axis=1)
    worst = int(np.argmax(np.nan_to_num(differences, nan=np.inf)))
    flipped, margins = _flips(ours, theirs, bundle)
    return ScoreAgreement(
        cells=len(refs),
        precision=precision,
        max_dp=float(differences[worst]),
        flips=int(flipped.sum()),
        far_flips=int((flipped & (margins > DP_LIMIT[precision])).sum()),
        worst=refs[worst].path,
    )


def _flips(
    ours: NDArray[np.float32], theirs: NDArray[np.float32], bundle: ModelBundle
) -> tuple[NDArray[np.bool_], NDArray[np.float64]]:
    """Return which cells changed their label and how far the reference was from the boundary."""
    flipped = predictions(ours, bundle) != predictions(theirs, bundle)
    ours_positive, theirs_positive = positives(ours, bundle), positives(theirs, bundle)
    if ours_positive is None or theirs_positive is None or bundle.positive is None:
        return flipped, _margins(theirs)
    number = bundle.classes.index(bundle.positive)
    distance = np.abs(theirs[:, number].astype(np.float64) - (bundle.threshold or 0.0))
    others = _margins(np.delete(theirs, number, axis=1))
    return flipped, np.where(ours_positive != theirs_positive, distance, others)


def _margins(chances_NC: NDArray[np.float32]) -> NDArray[np.float64]:
    """Return how far each cell is from another most likely class; infinite with a single class."""
    if chances_NC.shape[1] < TWO:
        return np.full(len(chances_NC), np.inf)
    ranked = np.sort(chances_NC.astype(np.float64), axis=1)
    # Halved: at the boundary between two classes each of them moves by half the margin.
    return np.asarray((ranked[:, -1] - ranked[:, -2]) / 2)


def sample(decoder: Decoder, handfuls: Iterable[Shard], count: int) -> list[Batch]:
    """
    Decode until *count* cells are there, or MOST_HANDFULS are done and at least one cell is.

    Returns:
        Batches of *count* decoded cells at most, without the faults; none if nothing decodes.
    """
    batches: list[Batch] = []
    for number, handful in enumerate(handfuls, start=1):
        for batch in decoder.stream([handful]):
            batches += _first(batch, count - _count(batches))
        if _count(batches) == count or (batches and number >= MOST_HANDFULS):
            break
    return batches


def _count(batches: Sequence[Batch]) -> int:
    """Count decoded cells."""
    return sum(len(batch.refs) for batch in batches)


def _first(batch: Batch, count: int) -> list[Batch]:
    """Return a batch's first *count* decoded cells, as a batch if there are any."""
    refs = batch.refs[:count]
    if not refs:
        return []
    facts, pixels = batch.facts[: len(refs)], batch.pixels[: len(refs)]
    return [replace(batch, refs=refs, facts=facts, pixels=pixels, faults=(), quality=None)]


def compare_decoder(reference: Decoder, batches: Sequence[Batch]) -> PixelAgreement | None:
    """Hold batches against the reference's decoding of the same cells; None if it decodes none."""
    refs = tuple(ref for batch in batches for ref in batch.refs)
    expected = _pixels_by_ref(reference.stream([Shard(0, refs)]))
    ours = _pixels_by_ref(batches)
    common = [ref for ref in refs if ref in expected]
    if not common:
        return None
    agreement = pixel_agreement(
        common, np.stack([ours[ref] for ref in common]), np.stack([expected[ref] for ref in common])
    )
    return replace(agreement, not_compared=len(refs) - len(common))


def _pixels_by_ref(batches: Iterable[Batch]) -> dict[CellRef, NDArray[np.uint8]]:
    """Look pixels up by cell."""
    return {
        ref: pixels
        for batch in batches
        for ref, pixels in zip(batch.refs, batch.host_pixels, strict=True)
    }
