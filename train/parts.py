"""The cells of one training: repeats left out, split, and checked for leaks."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from engines.errors import SourceError
from train.checkpoint import digest_of
from train.data import content_hashes
from train.split import Leaks, leaks, split_cells, without_repeats

if TYPE_CHECKING:
    from collections.abc import Sequence

    from train.data import LabelledCell
    from train.recipe import Protocol
    from train.split import Deal

__all__ = ["Parts", "parts_of"]


@dataclass(frozen=True, slots=True)
class Parts:
    """
    The cells of a training, split.

    Attributes:
        training: Cells to learn from.
        held_out: Cells to choose, calibrate and judge by.
        repeated: Cells left out because their image is there already, or labelled in two ways.
        shared: What both parts have in common; only the image protocol allows subjects in it.
        digests: Of the training part and of the held-out part.
    """

    training: tuple[LabelledCell, ...]
    held_out: tuple[LabelledCell, ...]
    repeated: tuple[LabelledCell, ...]
    shared: Leaks
    digests: tuple[str, str]


def parts_of(
    cells: Sequence[LabelledCell],
    protocol: Protocol,
    deal: Deal,
    apart: Sequence[LabelledCell] = (),
) -> Parts:
    """
    Split cells, or take *apart* as the held-out part.

    Raises:
        SourceError: If the split is by subject and something would leak.
    """
    hashes = content_hashes(cells)
    kept, repeated = without_repeats(cells, hashes)
    cells, hashes = [cells[i] for i in kept], [hashes[i] for i in kept]
    if apart:
        one, two = (cells, hashes), (list(apart), content_hashes(apart))
    else:
        split = split_cells(cells, hashes, protocol, deal)
        one, two = (
            ([cells[i] for i in side], [hashes[i] for i in side])
            for side in (split.training, split.held_out)
        )
    shared = leaks(*one, *two)
    if protocol == "subject" and shared:
        raise SourceError(
            f"the held-out cells share {len(shared.subjects)} subjects and {len(shared.images)} "
            "images with the training cells",
            hint="take them out (slidescreen-train check names them), or use --recipe paper",
        )
    digests = tuple(
        digest_of([(c.ref.path, c.label, h) for c, h in zip(*side, strict=True)])
        for side in (one, two)
    )
    return Parts(tuple(one[0]), tuple(two[0]), repeated, shared, (digests[0], digests[1]))
