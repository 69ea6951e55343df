"""A training's figures go where people follow experiments."""

from __future__ import annotations

import sys
from contextlib import contextmanager
from types import SimpleNamespace

import pytest

from engines.errors import BackendMissingError
from train.cli.experiment_logs import experiment_log
from train.recipe import SUBJECT
from train.trainer.events import EpochDone, StepDone

EVENTS = (
    StepDone(0, 1, 2, 0.7, 8, 3.0),
    StepDone(0, 2, 2, 0.6, 8, 3.0),
    EpochDone(0, 0.65, 3.0, {"auc": 0.9}, best=True),
    StepDone(1, 1, 2, 0.5, 8, 3.0),
)
RUN = SimpleNamespace(recipe=SUBJECT, options=SimpleNamespace(out=SimpleNamespace(name="bundle")))


class StandIn:
    """What wandb and MLflow have in common: a run that is left, parameters, figures at steps."""

    def __init__(self):
        """Begin with nothing logged."""
        self.logged, self.parameters, self.name, self.left = [], {}, "", False

    @contextmanager
    def started(self, name):
        """Be a run."""
        self.name = name
        yield self
        self.left = True

    def init(self, name, config):
        """Start as wandb does."""
        self.parameters = config
        return self.started(name)

    def start_run(self, run_name):
        """Start as MLflow does."""
        return self.started(run_name)

    def log(self, figures, step):
        """Log as wandb does."""
        self.logged.append((step, figures))

    log_metrics = log

    def log_params(self, parameters):
        """Take parameters as MLflow does."""
        self.parameters = parameters


@pytest.mark.parametrize("name", ["wandb", "mlflow"])
def test_losses_and_figures_are_logged_by_step(name, monkeypatch):
    """With the recipe; an epoch's figures stand at its last step; the run is ended."""
    place = StandIn()
    monkeypatch.setitem(sys.modules, name, place)

    with experiment_log(name, RUN) as log:
        for event in EVENTS:
            log(event)

    assert place.logged == [
        (1, {"step/loss": 0.7}),
        (2, {"step/loss": 0.6}),
        (2, {"epoch/loss": 0.65, "epoch/cells_per_s": 3.0, "epoch/auc": 0.9, "epoch/number": 1}),
        (3, {"step/loss": 0.5}),
    ]
    assert place.parameters["architecture"] == "efficientnet_b3"
    assert (place.name, place.left) == ("bundle", True)


def test_a_package_that_is_not_there_is_named(monkeypatch):
    """With how to get it."""
    monkeypatch.setitem(sys.modules, "wandb", None)

    with pytest.raises(
        BackendMissingError, match="--log-to wandb needs the package wandb"
    ) as error:
        experiment_log("wandb", RUN)
    assert error.value.hint == "pip install wandb"
