"""What is in a set of labelled cells, and what a split of it would leak."""

from __future__ import annotations

from collections import Counter, defaultdict
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from train.data.labelled_cells import content_hashes
from train.data.splits import Leaks, leaks

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from train.data.labelled_cells import LabelledCell

__all__ = ["CheckReport", "check_cells"]

SMALL = 32  # pixels: decoding to find bad files needs no more


@dataclass(frozen=True, slots=True, kw_only=True)
class CheckReport:
    """
    What a set of labelled cells holds.

    Attributes:
        cells: How many.
        classes: Cells and known subjects of each class.
        nameless: Cells whose subject is not known: they cannot be split by subject.
        mixed: Subjects with cells of more than one class.
        repeats: Paths of the cells of each image that occurs more than once.
        straddling: Of those, the images that occur under several subjects.
        contradictions: Of those, the images that occur under several classes.
        faults: Cells that do not decode, by path, with the reason; None if not looked for.
        against: How many other cells they were compared with.
        shared: What they share with those.
    """

    cells: int
    classes: Mapping[str, tuple[int, int]]
    nameless: int
    mixed: tuple[str, ...]
    repeats: tuple[tuple[str, ...], ...]
    straddling: int
    contradictions: int
    faults: Mapping[str, str] | None
    against: int
    shared: Leaks

    def record(self) -> dict[str, Any]:
        """Return plain values, ready for JSON."""
        return {
            "cells": self.cells,
            "classes": {n: {"cells": c, "subjects": s} for n, (c, s) in self.classes.items()},
            "cells_without_subject": self.nameless,
            "subjects_of_several_classes": list(self.mixed),
            "repeated_images": [list(paths) for paths in self.repeats],
            "repeated_across_subjects": self.straddling,
            "repeated_across_classes": self.contradictions,
            "undecodable": None if self.faults is None else dict(self.faults),
            "compared_with": self.against,
            "shared_subjects": list(self.shared.subjects),
            "shared_images": list(self.shared.images),
        }


def check_cells(
    cells: Sequence[LabelledCell], other: Sequence[LabelledCell], decoder: str
) -> CheckReport:
    """
    Look through *cells*.

    Args:
        cells: At least one.
        other: Cells that must have nothing in common with them.
        decoder: Which decoder tries every cell; ``none`` tries none.
    """
    hashes = content_hashes(cells)
    by_content: defaultdict[str, list[LabelledCell]] = defaultdict(list)
    for cell, content in zip(cells, hashes, strict=True):
        if content:
            by_content[content].append(cell)
    repeated = [group for group in by_content.values() if len(group) > 1]
    return CheckReport(
        cells=len(cells),
        classes=_classes(cells),
        nameless=sum(not cell.subject for cell in cells),
        mixed=_mixed(cells),
        repeats=tuple(tuple(cell.ref.path for cell in group) for group in repeated),
        straddling=sum(len({cell.subject for cell in group}) > 1 for group in repeated),
        contradictions=sum(len({cell.label for cell in group}) > 1 for group in repeated),
        faults=None if decoder == "none" else _faults(cells, decoder),
        against=len(other),
        shared=leaks(cells, hashes, other, content_hashes(other)),
    )


def _classes(cells: Sequence[LabelledCell]) -> dict[str, tuple[int, int]]:
    """Count cells and subjects of each class."""
    counts = Counter(cell.label for cell in cells)
    subjects = {label: {c.subject for c in cells if c.label == label} - {""} for label in counts}
    return {label: (counts[label], len(subjects[label])) for label in sorted(counts)}


def _mixed(cells: Sequence[LabelledCell]) -> tuple[str, ...]:
    """Find subjects with cells of several classes."""
    labels: defaultdict[str, set[str]] = defaultdict(set)
    for cell in cells:
        labels[cell.subject].add(cell.label)
    return tuple(sorted(s for s, found in labels.items() if s and len(found) > 1))


def _faults(cells: Sequence[LabelledCell], decoder: str) -> dict[str, str]:
    """Decode every cell, keeping only what went wrong."""
    from engines.models.input import ModelInput
    from train.data.decoded import decoded_cells

    small = ModelInput(height=SMALL, width=SMALL, mean=(0.5, 0.5, 0.5), std=(0.5, 0.5, 0.5))
    return {f.ref.path: f.reason for f in decoded_cells(cells, small, decoder).faults}
