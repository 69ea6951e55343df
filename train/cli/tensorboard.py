"""A training's figures where TensorBoard reads them."""

from __future__ import annotations

from contextlib import contextmanager
from typing import TYPE_CHECKING

from engines.errors import BackendMissingError
from train.trainer.events import EpochDone

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

    from train.trainer.events import StepDone

__all__ = ["tensorboard_log"]


@contextmanager
def tensorboard_log(folder: Path) -> Iterator[Callable[[StepDone | EpochDone], None]]:
    """
    Give what writes events into *folder*: losses by step, loss and metrics by epoch.

    Raises:
        BackendMissingError: If TensorBoard is not installed.
    """
    try:
        from torch.utils.tensorboard import SummaryWriter
    except ModuleNotFoundError as error:
        raise BackendMissingError(
            "--tensorboard needs the package tensorboard", hint="pip install 'slidescreen[train]'"
        ) from error
    with SummaryWriter(str(folder)) as writer:

        def write(event: StepDone | EpochDone) -> None:
            if isinstance(event, EpochDone):
                figures = {"loss": event.loss, "cells_per_s": event.cells_per_s, **event.metrics}
                for name, value in figures.items():
                    writer.add_scalar(f"epoch/{name}", value, event.epoch + 1)
            else:
                step = event.epoch * event.steps + event.step
                writer.add_scalar("step/loss", event.loss, step)

        yield write
