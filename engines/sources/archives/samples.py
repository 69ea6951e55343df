"""What a WebDataset sample says of its cell: its class in ``.cls``, and more in ``.json``."""

from __future__ import annotations

import json
import logging
from typing import TYPE_CHECKING, Any

from engines.errors import SourceError
from engines.sources.archives.members import LABEL, SAID

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from engines.locations import Location
    from engines.sources.archives.members import Member

__all__ = ["META", "SLIDE", "carried_names", "said_of"]

LOG = logging.getLogger(__name__)
SLIDE = "slide"
PLAIN = ("label", "cell_id")  # columns of the results under their own names
META = "meta_"
MOST_NAMES = 256


def said_of(sample: Iterable[Member]) -> dict[str, str]:
    """Return what a sample's members say, by the name of a column of a manifest; all as text."""
    said: dict[str, str] = {}
    for member in sample:
        if member.name.endswith(SAID) and member.text:
            said |= _parsed(member)
    for member in sample:
        if member.name.endswith(LABEL) and member.text:
            said["label"] = member.text
    return said


def carried_names(names: Sequence[str], where: Location) -> tuple[str, ...]:
    """
    Return the names of what goes into the results, in the order of their columns.

    Raises:
        SourceError: If two could not be told apart there, or there are too many.
    """
    carried = [name for name in PLAIN if name in names]
    carried += [f"{META}{name}" for name in names if name not in (SLIDE, *PLAIN)]
    if len({name.lower() for name in carried}) < len(carried) or len(carried) > MOST_NAMES:
        raise SourceError(
            f"the .json members of {where} have {len(carried)} names, of which two differ only in "
            f"upper and lower case, or which are more than {MOST_NAMES}",
            hint="take some out of the archive: databases could not tell them apart in the results",
        )
    return tuple(carried)


def _parsed(member: Member) -> dict[str, str]:
    """Return the values of a JSON object as text; what is none says nothing."""
    try:
        found: Any = json.loads(member.text)
    except (ValueError, RecursionError):
        found = None
    if not isinstance(found, dict):
        LOG.warning("%s holds no JSON object; what it says is not taken", member.name.decode())
        return {}
    return {name: _text(value) for name, value in found.items() if value is not None}


def _text(value: Any) -> str:
    """Write a value as text, as it would stand in a CSV file."""
    return value if isinstance(value, str) else json.dumps(value, ensure_ascii=False)
