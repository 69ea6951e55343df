"""Places as options name them: a path of this machine, or a URL."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import click

from engines.errors import UserError
from engines.locations import Location, location

__all__ = ["PLACE", "RESULTS"]


class PlaceType(click.ParamType[Any]):
    """A path or a URL; one that is to be a folder may not be a file."""

    name = "PLACE"

    def __init__(self, *, folder: bool = False) -> None:
        """Say whether it is to be a folder."""
        self._folder = folder

    def convert(
        self, value: Any, param: click.Parameter | None, ctx: click.Context | None
    ) -> Location:
        """Tell paths from URLs."""
        try:
            place = location(value)
        except UserError as error:
            self.fail(f"{error}; {error.hint}", param, ctx)
        if self._folder and isinstance(place, Path) and place.is_file():
            self.fail(f"Directory {value!r} is a file.", param, ctx)
        return place


PLACE = PlaceType()
RESULTS = PlaceType(folder=True)
