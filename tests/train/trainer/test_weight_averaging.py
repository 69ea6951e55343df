"""Which mean of the weights is judged and kept."""

from __future__ import annotations

from dataclasses import replace

import torch
from torch import nn

from train.recipe import SUBJECT, Phase
from train.trainer.weight_averaging import WeightAverages

RECIPE = replace(SUBJECT, ema_decay=0.0, phases=(Phase(1, None, 1e-3), Phase(3, None, 1e-3)))


def one_weight(value: float) -> nn.Linear:
    """Make a network of one weight."""
    network = nn.Linear(1, 1, bias=False)
    nn.init.constant_(network.weight, value)
    return network


def trained(averages: WeightAverages, network: nn.Linear, values: list[float]) -> float:
    """Let epochs end at *values*; return the weight that is kept."""
    for epoch, value in enumerate(values):
        nn.init.constant_(network.weight, value)
        averages.epoch(epoch)
    return float(averages.judged.weight.detach())


def test_the_last_phase_is_averaged_evenly_and_the_first_left_out():
    """Three epochs of the last phase, each a third."""
    network = one_weight(0.0)

    assert trained(WeightAverages(network, RECIPE), network, [100.0, 1.0, 2.0, 6.0]) == 3.0


def test_before_the_last_phase_the_network_itself_is_judged():
    """There is nothing to average yet."""
    network = one_weight(0.0)
    averages = WeightAverages(network, RECIPE)

    assert trained(averages, network, [100.0]) == 100.0
    assert averages.epochs == 0


def test_without_soup_no_epoch_is_averaged():
    """The recipe decides."""
    network = one_weight(0.0)

    assert trained(WeightAverages(network, replace(RECIPE, soup=False)), network, [1.0, 2.0]) == 2.0


def test_the_moving_average_lags_behind_the_network():
    """After one step of many, it is still near where it began."""
    network = one_weight(0.0)
    averages = WeightAverages(network, replace(RECIPE, ema_decay=0.9, soup=False))
    nn.init.constant_(network.weight, 1.0)

    averages.step(10_000)

    assert 0 < float(averages.judged.weight.detach()) < 0.2


def test_resumed_it_goes_on_averaging():
    """As if it had not been interrupted."""
    network, again = one_weight(0.0), one_weight(0.0)
    before = WeightAverages(network, RECIPE)
    trained(before, network, [100.0, 1.0, 2.0])
    state = {name: dict(value) for name, value in before.state().items()}

    after = WeightAverages(again, RECIPE)
    after.resume(state)
    nn.init.constant_(again.weight, 6.0)
    after.epoch(3)

    assert after.epochs == 3
    assert torch.equal(after.judged.weight, torch.tensor([[3.0]]))


def test_statistics_are_averaged_and_counters_are_not():
    """A mean of counts would not be one."""
    network = nn.BatchNorm2d(1)
    averages = WeightAverages(network, RECIPE)

    for epoch, value in ((1, 1.0), (2, 2.0), (3, 6.0)):
        network.running_mean.fill_(value)
        network.num_batches_tracked.fill_(epoch)
        averages.epoch(epoch)

    assert float(averages.judged.running_mean) == 3.0
    assert int(averages.judged.num_batches_tracked) == 3
