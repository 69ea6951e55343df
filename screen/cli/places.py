"""Values of options that have a form of their own: places, a slide rule, a device, a part."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from engines.errors import UserError
from engines.hardware.device_choice import kind_of_device
from engines.locations import Location, location
from screen.share import Share

if TYPE_CHECKING:
    from engines.sources.slide_rule import SlideRule

__all__ = ["PLACE", "RESULTS", "DeviceType", "ShareType", "SlideRuleType"]


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


class SlideRuleType(click.ParamType[Any]):
    """``parent``, ``cnmc``, or a regular expression with a group ``slide``."""

    name = "RULE"

    def convert(
        self, value: Any, param: click.Parameter | None, ctx: click.Context | None
    ) -> SlideRule:
        """Check the rule."""
        from engines.sources.slide_rule import SlideRule

        try:
            return value if isinstance(value, SlideRule) else SlideRule(value)
        except ValueError as error:
            self.fail(str(error), param, ctx)


class ShareType(click.ParamType[Any]):
    """``3/32``."""

    name = "K/N"

    def convert(
        self, value: Any, param: click.Parameter | None, ctx: click.Context | None
    ) -> Share:
        """Check the numbers."""
        try:
            return value if isinstance(value, Share) else Share.parsed(value)
        except ValueError as error:
            self.fail(str(error), param, ctx)


class DeviceType(click.ParamType[str]):
    """``auto``, ``cpu``, ``cuda`` or ``cuda:NUMBER``."""

    name = "DEVICE"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> str:
        """Check the name."""
        try:
            kind_of_device(value)
        except ValueError as error:
            self.fail(str(error), param, ctx)
        return str(value)


PLACE = PlaceType()
RESULTS = PlaceType(folder=True)
