"""The names that tables carry: columns of classes, and keys of a file's metadata."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

from engines.errors import BundleError

if TYPE_CHECKING:
    from collections.abc import Sequence

__all__ = ["CODECS_KEY", "EVIDENCE_KEY", "FINGERPRINT_KEY", "METHODS", "class_columns"]

FINGERPRINT_KEY = b"slidescreen.fingerprint"
CODECS_KEY = b"slidescreen.codecs"
EVIDENCE_KEY = b"slidescreen.evidence"
METHODS = {"rogan_gladen": "corrected for the model's errors", "wilson": "Wilson"}


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
