"""What a set of results says of its cells: which columns there are, and what they mean."""

from __future__ import annotations

import json
from dataclasses import dataclass
from typing import TYPE_CHECKING

from engines.sources.names import class_words
from screen.results.schema import EVIDENCE_KEY, class_columns

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

    import pyarrow as pa

    from engines.models.input import FieldCentres, ModelInput
    from screen.results.run_record import RunRecord

__all__ = ["QUALITY", "EvidenceGrid", "Fields"]

QUALITY = ("focus", "exposure", "clipped", "foreground", "stain_shift")


@dataclass(frozen=True, slots=True)
class EvidenceGrid:
    """
    The places of an evidence map.

    Attributes:
        height: How many rows of them.
        width: How many columns.
        centres: Where in the model's input each of them looks.
    """

    height: int
    width: int
    centres: FieldCentres

    @property
    def rectangle(self) -> tuple[float, float, float, float]:
        """
        Left, top, width and height of the map in pixels of the model's input.

        Each place is a square around its centre; the outer ones may reach beyond the input.
        """
        across, down = self.centres.across, self.centres.down
        left, top = self.centres.left - across / 2, self.centres.top - down / 2
        return left, top, self.width * across, self.height * down


@dataclass(frozen=True, slots=True, kw_only=True)
class Fields:
    """
    The model's classes and the columns of its results.

    Attributes:
        classes: In the order of the columns.
        display_names: What people read for each class.
        positive: The class a screen looks for, or None.
        threshold: The probability from which it is called, or None.
        present: The columns of a cell.
        evidence: The places of an evidence map; None if there is none, or if it is not known where
            in the cell they look: a map in the wrong place is worse than none.
        input: How a crop became the model's input.
        ood_level: A cell with a p-value up to this is out of distribution.
    """

    classes: tuple[str, ...]
    display_names: Mapping[str, str]
    positive: str | None
    threshold: float | None
    present: frozenset[str]
    evidence: EvidenceGrid | None
    input: ModelInput
    ood_level: float

    @classmethod
    def of(cls, record: RunRecord, schema: pa.Schema) -> Fields:
        """Read them from run.json and the parts' schema."""
        model = record.model
        present = frozenset(schema.names)
        return cls(
            classes=model.classes,
            display_names=model.display_names,
            positive=model.positive,
            threshold=model.threshold,
            present=present,
            evidence=_evidence_grid(schema, model.evidence) if "evidence" in present else None,
            input=model.input,
            ood_level=record.flags.ood_level,
        )

    @property
    def probabilities(self) -> list[str]:
        """The column of each class's probability."""
        return [f"prob_{name}" for name in class_columns(self.classes)]

    def words(self, name: str) -> str:
        """Return what people read for a class."""
        return class_words(name, self.display_names)

    @property
    def positive_words(self) -> str:
        """What people read for the positive class; empty without one."""
        return "" if self.positive is None else self.words(self.positive)

    @property
    def positive_index(self) -> int | None:
        """Where the positive class stands among the classes."""
        return None if self.positive is None else self.classes.index(self.positive)

    def those_present(self, names: Iterable[str]) -> list[str]:
        """Return the columns among *names* that these results have."""
        return [name for name in names if name in self.present]


def _evidence_grid(schema: pa.Schema, centres: FieldCentres | None) -> EvidenceGrid | None:
    """Return the places that the parts state, if they do, and where they look, if it is known."""
    said = (schema.metadata or {}).get(EVIDENCE_KEY)
    if said is None or centres is None:
        return None
    shape: dict[str, int] = json.loads(said)
    return EvidenceGrid(shape["height"], shape["width"], centres)
