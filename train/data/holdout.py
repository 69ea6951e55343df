"""The cells of one training: repeats left out, split, and checked for leaks."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from engines.errors import SourceError
from engines.files import digest_of
from train.data.labelled_cells import content_hashes
from train.data.splits import Leaks, leaks, split_apart, split_cells, without_repeats

if TYPE_CHECKING:
    from collections.abc import Sequence

    import numpy as np
    from numpy.typing import NDArray

    from train.data.labelled_cells import LabelledCell
    from train.data.splits import Fold
    from train.recipe import Protocol

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

    @property
    def classes(self) -> tuple[str, ...]:
        """Names of the classes, sorted: the order of the logits."""
        return tuple(sorted({cell.label for cell in self.training}))


def parts_of(
    cells: Sequence[LabelledCell],
    protocol: Protocol,
    fold: Fold,
    apart: Sequence[LabelledCell] = (),
) -> Parts:
    """
    Split cells, or take *apart* as the held-out part.

    Raises:
        SourceError: If all cells are of one class, or the split is by subject and something would
            leak.
    """
    together = [*cells, *apart]
    _check_classes(together)
    hashes = content_hashes(together)
    # Repeats go last: people who share an image have to be found before it is one person's only.
    if apart:
        split = split_apart(together, len(cells), protocol)
    else:
        split = split_cells(together, hashes, protocol, fold)
    one, two = (_side(together, hashes, side) for side in (split.training, split.held_out))
    shared = leaks(one.cells, one.hashes, two.cells, two.hashes)
    if protocol == "subject" and shared:
        raise SourceError(
            f"the held-out cells share {len(shared.subjects)} subjects and {len(shared.images)} "
            "images with the training cells",
            hint="take them out (slidescreen-train check names them), or use --recipe paper",
        )
    digests = (one.digest, two.digest)
    return Parts(one.cells, two.cells, (*one.repeated, *two.repeated), shared, digests)


def _check_classes(cells: Sequence[LabelledCell]) -> None:
    """Refuse cells that are all of one class, as those of a folder without class folders are."""
    classes = {cell.label for cell in cells}
    if len(classes) == 1:
        (only,) = classes
        folder = cells[0].file.parent
        named = f": the name of the folder {folder}" if folder.name == only else ""
        raise SourceError(
            f"all cells are of one class, {only}{named}",
            hint="put the cells of each class into a folder named after it, or give a manifest "
            "with path and label",
        )


@dataclass(frozen=True, slots=True)
class _Side:
    """One part's cells, each image once, their content hashes, and the cells left out."""

    cells: tuple[LabelledCell, ...]
    hashes: tuple[str, ...]
    repeated: tuple[LabelledCell, ...]

    @property
    def digest(self) -> str:
        """Of paths, labels and contents."""
        rows = zip(self.cells, self.hashes, strict=True)
        return digest_of([(c.ref.path, c.label, h) for c, h in rows])


def _side(
    cells: Sequence[LabelledCell], hashes: Sequence[str], indices: NDArray[np.int64]
) -> _Side:
    """Take the cells at *indices*, less repeats."""
    own, contents = [cells[i] for i in indices], [hashes[i] for i in indices]
    kept, repeated = without_repeats(own, contents)
    return _Side(tuple(own[i] for i in kept), tuple(contents[i] for i in kept), repeated)
