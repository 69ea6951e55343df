"""
The tables of a results folder: every column, its type and its meaning, in one place.

What writes cells and slides takes names and types from here, what adds slides up takes from here
which columns of cells to read, and ``scripts/schema_docs`` writes ``docs/results.md`` from it.
``<class>`` in a name stands for each class of the model, as ``class_columns`` spells it.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import TYPE_CHECKING

import pyarrow as pa

from engines.errors import BundleError

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Sequence

__all__ = [
    "CARRIED",
    "CELLS",
    "DUPLICATES",
    "EVIDENCE_KEY",
    "FINGERPRINT_KEY",
    "METHODS",
    "NO_PLACES",
    "SLIDES",
    "Column",
    "cell_schema",
    "class_columns",
    "columns_of_cells",
    "duplicate_schema",
    "slide_schema",
]

FINGERPRINT_KEY = b"slidescreen.fingerprint"
EVIDENCE_KEY = b"slidescreen.evidence"
NO_PLACES = 1  # of a map where the model has no evidence: the column is null, its lists not empty
METHODS = {"rogan_gladen": "corrected for the model's errors", "wilson": "Wilson"}

PER_CLASS = "<class>"
TEXT, TEXTS, WHOLE, YES = pa.string(), pa.list_(pa.string()), pa.int64(), pa.bool_()
FLOAT, DOUBLE = pa.float32(), pa.float64()
MAP = pa.list_(FLOAT)  # in a part: of one fixed size

NEEDS_DATA = "null without held-out data in the bundle"
NEEDS_CLASS = "null without a positive class"
WILSON = "95% Wilson interval: takes cells as independent and the model as right"
ROGAN_GLADEN = "share corrected for the model's errors (Rogan-Gladen)"
CORRECTED_BY = ("positive", "abstained", "ood_p")


@dataclass(frozen=True, slots=True)
class Column:
    """
    A column of a table.

    Attributes:
        name: As it is in the file; ``<class>`` stands for each class.
        type: Arrow's; a list of one fixed size is given as a list.
        meaning: For who reads the table; without a full stop.
        of: For a slide, the columns of cells that it is computed from.
    """

    name: str
    type: pa.DataType
    meaning: str
    of: tuple[str, ...] = ()

    def named(self, classes: Sequence[str]) -> Iterator[str]:
        """Yield the names in the file, given those of the classes as ``class_columns`` returns."""
        if PER_CLASS not in self.name:
            yield self.name
            return
        for name in classes:
            yield self.name.replace(PER_CLASS, name)


CELLS = (
    Column("path", TEXT, "in the source, `/`-separated; bytes that are not UTF-8 as `\\xNN`"),
    Column("slide", TEXT, "by the slide rule; `(unmatched)` where it does not match"),
    Column("status", TEXT, "`ok`, `unreadable`, `undecodable` or `oversized`"),
    Column("error", TEXT, "why the cell was not scored; null if it was"),
    Column("width", WHOLE, "pixels, as stored (before any EXIF rotation); null if not known"),
    Column("height", WHOLE, "likewise"),
    Column("content_hash", TEXT, "xxh3-128 of the file's bytes, in hex; null if it was not read"),
    Column("codec", TEXT, "what decoded the image; null if it was not decoded"),
    Column("predicted", TEXT, "the positive class if `positive`, else the likeliest of the others"),
    Column("positive", YES, "`prob` of the positive class >= the threshold; null without either"),
    Column("logit_<class>", FLOAT, "the model's output for the class"),
    Column("prob_<class>", FLOAT, "probability, calibrated by temperature; they sum to 1"),
    Column("prediction_set", TEXTS, f"classes plausible at `--coverage` (conformal); {NEEDS_DATA}"),
    Column("abstained", YES, f"whether those are none or several; {NEEDS_DATA}"),
    Column("ood_score", FLOAT, f"Mahalanobis distance from the training cells; {NEEDS_DATA}"),
    Column("ood_p", FLOAT, f"share of held-out cells that are as far out; {NEEDS_DATA}"),
    Column("focus", FLOAT, "sharpness of the stained foreground"),
    Column("exposure", FLOAT, "mean brightness of the foreground, 0 to 1"),
    Column("clipped", FLOAT, "share of the foreground that is saturated"),
    Column("foreground", FLOAT, "share of the crop that is foreground"),
    Column("stain_shift", FLOAT, f"distance of the foreground's colour from theirs; {NEEDS_DATA}"),
    Column(
        "evidence",
        MAP,
        "class activation map, h x w, row by row; mean + bias = the logit; null where the model's "
        "head has none",
    ),
)

CARRIED = (
    Column("cell_id", TEXT, "as the source calls it; where a manifest has such a column"),
    Column("label", TEXT, "what the source says that the cell is"),
    Column("box_x", DOUBLE, "the box's first column in its field, in pixels, without margin"),
    Column("box_y", DOUBLE, "the box's first row"),
    Column("box_width", DOUBLE, "the box's width in pixels"),
    Column("box_height", DOUBLE, "the box's height in pixels"),
    Column("box_padded", DOUBLE, "share of the crop that lies outside of its field, and is black"),
    Column("meta_<name>", TEXT, "any other column of a manifest, of its own type or as text"),
)

SLIDES = (
    Column("slide", TEXT, "the slide's name", ("slide",)),
    Column("n_cells", WHOLE, "cells", ("status",)),
    Column("n_ok", WHOLE, "cells scored", ("status",)),
    Column("n_unreadable", WHOLE, "cells whose file could not be read", ("status",)),
    Column("n_undecodable", WHOLE, "cells whose file is damaged or no image", ("status",)),
    Column("n_oversized", WHOLE, "cells of more than `--max-pixels`", ("status",)),
    Column("count_<class>", WHOLE, "cells predicted to be of the class", ("predicted",)),
    Column("n_positive", WHOLE, f"cells called positive; {NEEDS_CLASS}", ("positive",)),
    Column("fraction_positive", DOUBLE, f"`n_positive` / `n_ok`; {NEEDS_CLASS}", ("positive",)),
    Column("fraction_positive_wilson95_low", DOUBLE, WILSON, ("positive",)),
    Column("fraction_positive_wilson95_high", DOUBLE, "likewise", ("positive",)),
    Column("mean_prob_<class>", DOUBLE, "mean over the cells scored", ("prob_<class>",)),
    Column("n_abstained", WHOLE, f"cells abstained from; {NEEDS_DATA}", ("abstained",)),
    Column("n_out_of_distribution", WHOLE, f"`ood_p` <= `--ood-level`; {NEEDS_DATA}", ("ood_p",)),
    Column("n_duplicates", WHOLE, "cells listed in `duplicates.parquet`", ("content_hash",)),
    Column("fraction_positive_rogan_gladen", DOUBLE, f"{ROGAN_GLADEN}; {NEEDS_DATA}", CORRECTED_BY),
    Column("fraction_positive_rogan_gladen95_low", DOUBLE, "its 95% interval", CORRECTED_BY),
    Column("fraction_positive_rogan_gladen95_high", DOUBLE, "likewise", CORRECTED_BY),
    Column("flagged", YES, "whether any flag but `too_few_cells` holds: look at the slide first"),
    Column("flags", TEXTS, "what is to be said of the slide, as codes"),
    Column("trained_on", YES, "whether named like a person of the training; null if unknown"),
    Column("top_cells", TEXTS, f"the ten most suspicious; {NEEDS_CLASS}", ("path", "prob_<class>")),
)

DUPLICATES = (
    Column("path", TEXT, "a cell whose file is, byte for byte, an earlier cell's"),
    Column("slide", TEXT, "its slide"),
    Column("duplicate_of", TEXT, "the first cell with that content"),
    Column("duplicate_of_slide", TEXT, "its slide"),
)


def class_columns(classes: Sequence[str]) -> list[str]:
    """
    Return what each class is called in column names.

    Raises:
        BundleError: If two classes would share a name; databases ignore case.
    """
    names = [re.sub(r"\W", "_", name, flags=re.ASCII) for name in classes]
    if len({name.lower() for name in names}) != len(names) or not all(names):
        raise BundleError(
            f"the classes {list(classes)} cannot be told apart as column names",
            hint="rename them in the bundle's screening.json",
        )
    return names


def cell_schema(classes: Sequence[str], places: int) -> pa.Schema:
    """
    Return the schema of cells.

    Args:
        classes: Of the model.
        places: How many values an evidence map has.
    """
    schema = _schema(CELLS, classes)
    number = schema.get_field_index("evidence")
    return schema.set(number, pa.field("evidence", pa.list_(FLOAT, places)))


def slide_schema(classes: Sequence[str]) -> pa.Schema:
    """Return the schema of slides."""
    return _schema(SLIDES, classes)


def duplicate_schema() -> pa.Schema:
    """Return the schema of duplicates."""
    return _schema(DUPLICATES, ())


def columns_of_cells(classes: Sequence[str]) -> list[str]:
    """Name the columns of cells that the columns of slides are computed from."""
    read = {name for column in SLIDES for name in column.of}
    wanted = [column for column in CELLS if column.name in read]
    names = class_columns(classes)
    return [name for column in wanted for name in column.named(names)]


def _schema(columns: Iterable[Column], classes: Sequence[str]) -> pa.Schema:
    """Put columns side by side; those of each class come together."""
    names = class_columns(classes)
    return pa.schema(
        [pa.field(each, column.type) for column in columns for each in column.named(names)]
    )
