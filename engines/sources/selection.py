"""Which cells of a source are wanted, by patterns of their paths."""

from __future__ import annotations

from dataclasses import dataclass
from fnmatch import fnmatchcase
from posixpath import basename

__all__ = ["EVERYTHING", "Selection"]


@dataclass(frozen=True, slots=True)
class Selection:
    """
    Patterns as a shell has them: ``*`` any characters, ``?`` one, ``[...]`` one of these.

    A pattern with a slash is held against the whole path, relative to the source, and ``*`` takes
    slashes too; one without is held against the name alone.

    Attributes:
        include: A cell has to match one of these, if there are any.
        exclude: And none of these.
    """

    include: tuple[str, ...] = ()
    exclude: tuple[str, ...] = ()

    def __str__(self) -> str:
        """The options that say the same; ``everything`` where there are none."""
        wanted = [f"--include {pattern}" for pattern in self.include]
        unwanted = [f"--exclude {pattern}" for pattern in self.exclude]
        return " ".join(wanted + unwanted) or "everything"

    def wants(self, path: str) -> bool:
        """Whether a cell is wanted."""
        included = not self.include or any(_matches(path, each) for each in self.include)
        return included and not any(_matches(path, each) for each in self.exclude)


EVERYTHING = Selection()


def _matches(path: str, pattern: str) -> bool:
    """Hold a path, or its last name, against a pattern."""
    return fnmatchcase(path if "/" in pattern else basename(path), pattern)
