"""
Screen many small images into tables.

::

    from pathlib import Path
    import screen

    options = screen.RunOptions(source=Path("cells"), out=Path("results"))
    for done in screen.run(options):
        print(done.index, done.scored, done.faults)
    cells = screen.open_results("results").to_table()
"""

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from engines.sources.slide_rule import SlideRule
    from screen.options import RunOptions
    from screen.results.folder import open_results
    from screen.runners.local import run

__all__ = ["RunOptions", "SlideRule", "open_results", "run"]

HOMES = {
    "RunOptions": "screen.options",
    "SlideRule": "engines.sources.slide_rule",
    "open_results": "screen.results.folder",
    "run": "screen.runners.local",
}


def __getattr__(name: str) -> Any:
    """Import a public name when it is first used: the command line must start at once."""
    if name not in HOMES:
        raise AttributeError(f"module 'screen' has no attribute {name!r}")
    return getattr(import_module(HOMES[name]), name)
