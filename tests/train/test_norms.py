"""Statistics are brought to what is served, and only they."""

from __future__ import annotations

from dataclasses import replace

import timm
import torch

from train.devices import Compute
from train.norms import learning_norms, with_served_norms
from train.recipe import SUBJECT
from train.start import freeze_stages

RECIPE = replace(SUBJECT, size=32)
CPU = Compute("cpu", half=False)


def test_statistics_become_those_of_the_cells_shown():
    """The copy's first norm has the mean of its own input; the network itself is untouched."""
    network = timm.create_model("resnet10t", num_classes=2)
    before = {name: tensor.clone() for name, tensor in network.state_dict().items()}
    pixels = torch.randint(0, 256, (8, 40, 40, 3), generator=torch.Generator().manual_seed(0))

    copied = with_served_norms(
        network, learning_norms(network, []), pixels.to(torch.uint8), RECIPE, CPU
    )

    assert all(torch.equal(before[n], t) for n, t in network.state_dict().items())
    changed = {n for n, t in copied.state_dict().items() if not torch.equal(before[n], t)}
    assert changed == {n for n in before if "running" in n or "num_batches" in n}
    assert not copied.training


def test_frozen_norms_keep_their_statistics():
    """What is frozen is frozen."""
    network = timm.create_model("resnet10t", num_classes=2)
    everything = learning_norms(network, [])

    learning = learning_norms(network, freeze_stages(network, 1))

    assert set(everything) - set(learning) == {
        n for n in everything if n.startswith(("conv1", "bn1", "layer1"))
    }
