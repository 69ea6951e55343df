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

    from engines.models.input import ModelInput
    from screen.results.run_record import RunRecord

__all__ = ["QUALITY", "Fields"]

QUALITY = ("focus", "exposure", "clipped", "foreground", "stain_shift")


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
        evidence: Height and width of an evidence map, in places; None if there is none.
        input: How a crop became the model's input.
        ood_level: A cell with a p-value up to this is out of distribution.
    """

    classes: tuple[str, ...]
    display_names: Mapping[str, str]
    positive: str | None
    threshold: float | None
    present: frozenset[str]
    evidence: tuple[int, int] | None
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
            evidence=_evidence_shape(schema) if "evidence" in present else None,
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


def _evidence_shape(schema: pa.Schema) -> tuple[int, int] | None:
    """Return the height and width that the parts state, if they do and it is the column's."""
    said = (schema.metadata or {}).get(EVIDENCE_KEY)
    if said is None:
        return None
    shape: dict[str, int] = json.loads(said)
    return shape["height"], shape["width"]
