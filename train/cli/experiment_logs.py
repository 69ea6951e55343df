"""A training's figures where people follow experiments: TensorBoard, Weights & Biases, MLflow."""

from __future__ import annotations

from contextlib import contextmanager, nullcontext
from dataclasses import asdict
from importlib import import_module
from typing import TYPE_CHECKING, Any, NamedTuple

from engines.errors import BackendMissingError

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping
    from contextlib import AbstractContextManager

    from train.fit import Run
    from train.trainer.events import EpochDone, StepDone

    Write = Callable[[Mapping[str, float], int], None]

__all__ = ["LOGS", "experiment_log"]


class Log(NamedTuple):
    """A place to log to: the module that it needs, how to get that, and what opens it."""

    module: str
    hint: str
    opened: Callable[[Any, Run], AbstractContextManager[Write]]


def experiment_log(
    name: str | None, run: Run
) -> AbstractContextManager[Callable[[StepDone | EpochDone], None]]:
    """
    Give what logs a training's events: ``step/loss``, and ``epoch/...`` for loss and figures.

    Args:
        name: One of LOGS, or None to log nowhere. All count steps from the training's first.
        run: The training; its recipe is logged, too.

    Raises:
        BackendMissingError: If the package is not installed.
    """
    if name is None:
        return nullcontext(lambda _: None)
    log = LOGS[name]
    try:
        module = import_module(log.module)
    except ModuleNotFoundError as error:
        package = str(error.name).partition(".")[0]
        raise BackendMissingError(
            f"--log-to {name} needs the package {package}", hint=log.hint
        ) from error
    return _events(log.opened(module, run))


@contextmanager
def _events(opened: AbstractContextManager[Write]) -> Iterator[Callable[..., None]]:
    """Turn events into named numbers."""
    from train.trainer.events import EpochDone

    steps = 0  # of the epochs so far: an epoch's event does not say
    with opened as write:

        def log(event: StepDone | EpochDone) -> None:
            nonlocal steps
            if isinstance(event, EpochDone):
                figures = {"loss": event.loss, "cells_per_s": event.cells_per_s, **event.metrics}
                epoch = {f"epoch/{name}": value for name, value in figures.items()}
                write({**epoch, "epoch/number": event.epoch + 1}, steps)
            else:
                steps = event.epoch * event.steps + event.step
                write({"step/loss": event.loss}, steps)

        yield log


@contextmanager
def _tensorboard(module: Any, run: Run) -> Iterator[Write]:
    """Write into the training's folder."""
    with module.SummaryWriter(str(run.options.state / "tensorboard")) as writer:

        def write(figures: Mapping[str, float], step: int) -> None:
            for name, value in figures.items():
                writer.add_scalar(name, value, step)

        yield write


@contextmanager
def _wandb(module: Any, run: Run) -> Iterator[Write]:
    """Log to the project that wandb is set up for (WANDB_PROJECT, WANDB_MODE)."""
    with module.init(name=run.options.out.name, config=asdict(run.recipe)) as started:
        yield lambda figures, step: started.log(dict(figures), step=step)


@contextmanager
def _mlflow(module: Any, run: Run) -> Iterator[Write]:
    """Log to the experiment that MLflow is set up for (MLFLOW_TRACKING_URI and others)."""
    with module.start_run(run_name=run.options.out.name):
        module.log_params(asdict(run.recipe))
        yield lambda figures, step: module.log_metrics(dict(figures), step=step)


LOGS = {
    "tensorboard": Log("torch.utils.tensorboard", "pip install 'slidescreen[train]'", _tensorboard),
    "wandb": Log("wandb", "pip install wandb", _wandb),
    "mlflow": Log("mlflow", "pip install mlflow", _mlflow),
}
