"""What every runner opens before it starts: the device, the model, the source, the results."""

from __future__ import annotations

import os
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

from engines.errors import ResultsError
from engines.hardware.device_choice import use_device
from engines.locations import location
from engines.models.bundle import ModelBundle
from engines.sources import open_source
from screen.results.folder import ResultsFolder
from screen.results.schema import class_columns
from screen.runners.start import Start

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

    from engines.locations import Location
    from screen.options import RunOptions

__all__ = ["opened", "torch_threads_put_back"]


def opened(options: RunOptions) -> Start:
    """
    Open what *options* name.

    Raises:
        UserError: If any of it is not there, or does not go together.
    """
    use_device(options.device)
    bundle = ModelBundle.load(Path(options.model))
    class_columns(bundle.classes)
    source = open_source(options.sources, options.reading)
    results = ResultsFolder(location(options.out))
    _require_outside(results.path, options.sources)
    return Start(options, bundle, source, results)


def _require_outside(out: Location, sources: Iterable[Location]) -> None:
    """Refuse to write results among the cells: the next run would list what this one wrote."""
    if not isinstance(out, Path):
        return
    real = Path(os.path.realpath(out))
    for source in sources:
        if (
            isinstance(source, Path)
            and source.is_dir()
            and real.is_relative_to(os.path.realpath(source))
        ):
            raise ResultsError(
                f"the results folder {out} lies in the folder of the cells, {source}",
                hint="choose an --out outside of it",
            )


@contextmanager
def torch_threads_put_back() -> Iterator[None]:
    """Leave PyTorch's number of threads as it was: it is the whole process's."""
    import torch

    before = torch.get_num_threads()
    try:
        yield
    finally:
        torch.set_num_threads(before)
