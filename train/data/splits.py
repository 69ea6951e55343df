"""
Which cells are held out, and what a split would leak.

Cells of one subject are all of one class, so a model that has seen a subject knows its class: a
split by image lets it pass by recognising people. And some images occur more than once, under
several subjects even; people who share an image are kept on the same side.
"""

from __future__ import annotations

from collections import Counter, defaultdict
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
from scipy.sparse import coo_array
from scipy.sparse.csgraph import connected_components

from engines.errors import SourceError

if TYPE_CHECKING:
    from collections.abc import Sequence

    from numpy.typing import NDArray

    from train.data.labelled_cells import LabelledCell
    from train.recipe import Protocol

__all__ = ["Fold", "Leaks", "Split", "leaks", "split_apart", "split_cells", "without_repeats"]


@dataclass(frozen=True, slots=True)
class Split:
    """
    Two parts of the same cells.

    Attributes:
        training: Indices, ascending.
        held_out: Likewise; none in common.
    """

    training: NDArray[np.int64]
    held_out: NDArray[np.int64]


@dataclass(frozen=True, slots=True)
class Fold:
    """
    Which part of a split is held out.

    Attributes:
        folds: Number of parts.
        fold: The held-out part's number, from 0.
        split_seed: Another number, another split.
    """

    folds: int
    fold: int
    split_seed: int

    def __post_init__(self) -> None:
        """Refuse a part that is not there."""
        if not 0 <= self.fold < self.folds:
            raise SourceError(
                f"there is no fold {self.fold} of {self.folds}",
                hint=f"pass --fold 0 to {self.folds - 1}, or more --folds",
            )


@dataclass(frozen=True, slots=True)
class Leaks:
    """
    What two sets of cells have in common.

    Attributes:
        subjects: Ids on both sides, sorted.
        images: Content hashes on both sides, sorted.
    """

    subjects: tuple[str, ...]
    images: tuple[str, ...]

    def __bool__(self) -> bool:
        """Tell whether anything leaks."""
        return bool(self.subjects or self.images)


def split_cells(
    cells: Sequence[LabelledCell],
    hashes: Sequence[str],
    protocol: Protocol,
    fold: Fold,
) -> Split:
    """
    Hold out one part.

    Groups that must not be torn (people, or identical images) are dealt out, class by class and
    largest first, forth and back over the parts: each part gets its share of the classes, and of
    the large and the small. The seed decides among equals and which part is which.

    Args:
        cells: All of them.
        hashes: Content hash of each.
        protocol: ``subject`` or ``image``.
        fold: Which part, of how many.

    Raises:
        SourceError: If subjects are asked for and not known, or are too few.
    """
    groups = _groups(cells, hashes, protocol)
    parts = _dealt(
        groups, [cell.label for cell in cells], fold.folds, np.random.default_rng(fold.split_seed)
    )
    held_out = parts == fold.fold
    _check_classes(cells, held_out)
    return Split(np.flatnonzero(~held_out), np.flatnonzero(held_out))


def split_apart(cells: Sequence[LabelledCell], count: int, protocol: Protocol) -> Split:
    """
    Learn from the first *count* cells and hold out the others, as somebody has split them.

    Raises:
        SourceError: If subjects are asked for and not known, or a side lacks a class.
    """
    if protocol == "subject":
        _check_named(cells)
    held_out = np.arange(len(cells)) >= count
    _check_classes(cells, held_out)
    return Split(np.flatnonzero(~held_out), np.flatnonzero(held_out))


def leaks(
    one: Sequence[LabelledCell],
    one_hashes: Sequence[str],
    other: Sequence[LabelledCell],
    other_hashes: Sequence[str],
) -> Leaks:
    """Find what two sets of cells have in common."""
    subjects = ({cell.subject for cell in one} & {cell.subject for cell in other}) - {""}
    images = (set(one_hashes) & set(other_hashes)) - {""}
    return Leaks(tuple(sorted(subjects)), tuple(sorted(images)))


def without_repeats(
    cells: Sequence[LabelledCell], hashes: Sequence[str]
) -> tuple[NDArray[np.int64], tuple[LabelledCell, ...]]:
    """
    Keep one cell of each image, and none of an image that is labelled in two ways.

    Returns:
        Indices of the cells kept, ascending, and the cells left out.
    """
    labels: defaultdict[str, set[str]] = defaultdict(set)
    for cell, content in zip(cells, hashes, strict=True):
        labels[content].add(cell.label)
    seen: set[str] = set()
    kept = []
    for index, content in enumerate(hashes):
        if not content or (content not in seen and len(labels[content]) == 1):
            kept.append(index)
        seen.add(content)
    chosen = set(kept)
    return np.array(kept, np.int64), tuple(c for i, c in enumerate(cells) if i not in chosen)


def _groups(
    cells: Sequence[LabelledCell], hashes: Sequence[str], protocol: Protocol
) -> NDArray[np.int64]:
    """Number the groups that must stay together: one number per cell."""
    if protocol == "subject":
        _check_named(cells)
    own = [c.subject if protocol == "subject" else c.ref.path for c in cells]
    return _joined(own, [content or path for content, path in zip(hashes, own, strict=True)])


def _check_named(cells: Sequence[LabelledCell]) -> None:
    """Refuse cells of nobody in particular."""
    nameless = next((cell for cell in cells if not cell.subject), None)
    if nameless:
        raise SourceError(
            f"whose cell is {nameless.ref.path}? Without subjects, no split by subject",
            hint="name them with --subject REGEX or a manifest's column, or take --recipe paper",
        )


def _joined(first: Sequence[str], second: Sequence[str]) -> NDArray[np.int64]:
    """Number the components of cells that share a value in either list."""
    _, a = np.unique(first, return_inverse=True)
    _, b = np.unique(second, return_inverse=True)
    offset, size = a.max() + 1, a.max() + b.max() + 2
    links = coo_array((np.ones(len(a)), (a, b + offset)), shape=(size, size))
    _, component = connected_components(links, directed=False)
    return np.asarray(component[a], np.int64)


def _dealt(
    groups: NDArray[np.int64], labels: Sequence[str], folds: int, rng: np.random.Generator
) -> NDArray[np.int64]:
    """Give each cell the number of its part."""
    votes: defaultdict[int, Counter[str]] = defaultdict(Counter)
    for group, label in zip(groups.tolist(), labels, strict=True):
        votes[group][label] += 1
    by_class: defaultdict[str, list[int]] = defaultdict(list)
    for group in sorted(votes):
        by_class[votes[group].most_common(1)[0][0]].append(group)
    order = rng.permutation(folds)
    forth_and_back = np.concatenate([order, order[::-1]])
    part = np.zeros(groups.max() + 1, np.int64)
    for label in sorted(by_class):
        shuffled = rng.permutation(by_class[label])
        largest_first = sorted(shuffled.tolist(), key=lambda g: -votes[g].total())
        part[largest_first] = np.resize(forth_and_back, len(largest_first))
    return part[groups]


def _check_classes(cells: Sequence[LabelledCell], held_out: NDArray[np.bool_]) -> None:
    """Refuse a split that leaves a class out of one side."""
    classes = {cell.label for cell in cells}
    for side, name in ((held_out, "held-out"), (~held_out, "training")):
        there = {cell.label for cell, inside in zip(cells, side, strict=True) if inside}
        if there != classes:
            missing = ", ".join(sorted(classes - there))
            raise SourceError(
                f"the {name} part has no cells of class {missing}",
                hint="take fewer --folds, another --fold, or give cells of more subjects",
            )
