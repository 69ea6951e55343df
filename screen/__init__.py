"""
Screen many small images into tables.

::

    import screen

    for event in screen.run(screen.RunOptions(source="cells", out="results")):
        print(event)
    cells = screen.open_results("results").to_table()
"""

from importlib import import_module
from typing import TYPE_CHECKING, Any

__all__ = ["RunOptions", "SlideRule", "__version__", "open_results", "run"]

__version__ = "0.1.0"  # pyproject.toml reads it here

HOMES = {
    "RunOptions": "screen.options",
    "SlideRule": "engines.sources.slide_rule",
    "open_results": "screen.results.folder",
    "run": "screen.runners",
}

if TYPE_CHECKING:
    from engines.sources.slide_rule import SlideRule
    from screen.options import RunOptions
    from screen.results.folder import open_results
    from screen.runners import run
else:
    # Out of a type checker's sight: for it, any name would be a public one.

    def __getattr__(name: str) -> Any:
        """Import a public name when it is first used: the command line must start at once."""
        if name not in HOMES:
            raise AttributeError(f"module 'screen' has no attribute {name!r}")
        return getattr(import_module(HOMES[name]), name)

    def __dir__() -> list[str]:
        """Name what is public, imported or not."""
        return sorted({*globals(), *__all__})
