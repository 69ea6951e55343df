"""What commands that read cells ask for: which source, which cells of it, what columns mean."""

from __future__ import annotations

import os
import sys
from typing import TYPE_CHECKING, Any

import click

from engines.locations import location

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from engines.locations import Location

__all__ = ["named_sources", "source_options"]


def source_options(command: Callable[..., Any]) -> Callable[..., Any]:
    """Add the options that say which cells of a source are wanted, and what its columns mean."""
    options = (
        click.option(
            "--include",
            multiple=True,
            metavar="PATTERN",
            help="Only cells whose name matches (*.png), or, with a slash, whose path does (a/*); "
            "repeat for more.",
        ),
        click.option(
            "--exclude",
            multiple=True,
            metavar="PATTERN",
            help="No cells that match; repeat for more.",
        ),
        click.option(
            "--column",
            "columns",
            multiple=True,
            metavar="ROLE=NAME",
            help="What a table calls its column of path, slide, cell_id, label, sha256, image, x, "
            "y, width or height; repeat for more. Without a NAME there is no such column.",
        ),
    )
    for option in reversed(options):
        command = option(command)
    return command


def named_sources(named: Sequence[Location]) -> Location | list[Location]:
    """Return the sources that are named, - being those on standard input."""
    sources: list[Location] = []
    for source in named:
        if str(source) == "-":
            lines = sys.stdin.buffer.read().splitlines()
            sources.extend(location(os.fsdecode(line)) for line in lines if line)
        else:
            sources.append(source)
    return sources[0] if len(sources) == 1 else sources
