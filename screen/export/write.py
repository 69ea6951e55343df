"""Write an export, and replace nothing but exports."""

from __future__ import annotations

import os
from importlib import import_module
from typing import TYPE_CHECKING

from engines.errors import ResultsError
from engines.files import whole_file
from screen.export.formats import FORMATS
from screen.export.tables import Exported
from screen.results.tables import reading, writing

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from engines.locations import Location
    from screen.export.formats import ExportOptions
    from screen.export.tables import Written

__all__ = ["write_export"]


def write_export(results: Location, path: Path, options: ExportOptions) -> Written:
    """
    Write the cells of a results folder, or its slides, as a file, whole or not at all.

    Args:
        results: The results folder.
        path: Where to; a file that an export in this format wrote is replaced.
        options: What, and in which format.

    Returns:
        How many rows were written, and how many the format has no place for.

    Raises:
        ResultsError: If there are no results, a table is damaged, the ending of *path* is another
            format's, *path* cannot be written or is somebody else's.
    """
    row = FORMATS[options.to]
    if path.suffix.lower() != row.ending:
        raise ResultsError(
            f"{path} does not end in {row.ending}, as files of the format {row.name} do",
            hint=f"name it {path.stem}{row.ending}, or choose another format with --to",
        )
    module = import_module(row.module)
    _require_replaceable(path, module.is_ours, force=options.force)
    exported = Exported.of(results, slides=options.slides, wanted=options.wanted)
    with writing(path), whole_file(path) as scratch:
        written: Written = module.write(exported, scratch)
    return written


def _require_replaceable(path: Path, is_ours: Callable[[Path], bool], *, force: bool) -> None:
    """Refuse to replace what is no export; a device or a folder, whatever is asked."""
    if not os.path.lexists(path):
        return
    is_file = path.is_file() and not path.is_symlink()
    with reading(path):
        ours = is_file and is_ours(path)
    if not ours and not (force and (is_file or path.is_symlink())):
        raise ResultsError(
            f"{path} was not written by slidescreen export: it is left alone",
            hint="name another file, or pass --force to replace a file",
        )
