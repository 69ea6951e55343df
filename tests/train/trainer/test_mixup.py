"""Cells mixed while training: what is exchanged, what stays, and that judging sees none of it."""

from __future__ import annotations

from copy import deepcopy
from dataclasses import replace

import pytest
import timm
import torch

from train.compute import Compute
from train.recipe import SUBJECT, Phase
from train.trainer.mixup import MixStyle, open_mixup
from train.trainer.trainer import Training
from train.trainer.training_cells import TrainingCells

PIXELS = torch.rand(8, 3, 32, 32, generator=torch.Generator().manual_seed(0))


def network():
    """Build a small network with stages."""
    torch.manual_seed(0)
    return timm.create_model("resnet10t", num_classes=2).eval()


def test_without_mixup_cells_and_truth_come_back():
    """The very tensors."""
    truth = torch.tensor([0, 1])

    pixels, same = open_mixup(0, 2)(PIXELS, truth)
    assert pixels is PIXELS
    assert same is truth


def test_mixup_blends_truth_as_it_blends_pixels():
    """A cell of one class blended into one of the other has the shares of both."""
    black_and_white = torch.stack([torch.zeros(3, 4, 4), torch.ones(3, 4, 4)])
    torch.manual_seed(0)

    pixels, truth = open_mixup(0.8, 2)(black_and_white, torch.tensor([0, 1]))

    assert torch.allclose(pixels.mean((1, 2, 3)), truth[:, 1])
    assert torch.allclose(truth.sum(1), torch.ones(2))
    assert 0 < float(truth[0, 1]) < 1


def test_styles_are_exchanged_and_nothing_else():
    """Means and spreads become those of pairs; what is left when they are taken out stays."""
    plain, mixed = network(), network()
    styles = MixStyle(mixed, 1.0)
    seen = {}
    for name, net in (("plain", plain), ("mixed", mixed)):
        net.layer2.register_forward_hook(lambda _m, _i, out, name=name: seen.update({name: out}))

    torch.manual_seed(3)
    with torch.inference_mode(), styles.of(8, "cpu"):
        mixed(PIXELS)
        plain(PIXELS)

    def centred(features):
        spread = features.var((2, 3), keepdim=True).add(1e-6).sqrt()
        return (features - features.mean((2, 3), keepdim=True)) / spread

    assert not torch.allclose(seen["plain"], seen["mixed"], atol=1e-3)
    alive = seen["plain"].var((2, 3), keepdim=True) > 1e-3
    assert torch.allclose(centred(seen["plain"]) * alive, centred(seen["mixed"]) * alive, atol=1e-2)
    means = seen["plain"].mean((2, 3))
    low, high = means.amin(0) - 1e-4, means.amax(0) + 1e-4
    assert bool(((seen["mixed"].mean((2, 3)) >= low) & (seen["mixed"].mean((2, 3)) <= high)).all())


def test_styles_are_mixed_only_while_asked():
    """Outside the block, and in copies, the network is its plain self."""
    plain, hooked = network(), network()
    styles = MixStyle(hooked, 1.0)

    with torch.inference_mode():
        with styles.of(8, "cpu"):
            inside = hooked(PIXELS)
        for judged in (hooked, deepcopy(hooked)):
            assert torch.equal(judged(PIXELS), plain(PIXELS))

    assert not torch.allclose(inside, plain(PIXELS))


@pytest.mark.parametrize("kind", [{"mixup": 0.4}, {"mixstyle": 1.0}])
def test_a_mixed_training_judges_plain_cells_and_repeats(kind):
    """Twice the same, and what is judged holds no mixing."""
    recipe = replace(
        SUBJECT, architecture="resnet10t", img_size=32, batch_size=8, samples_per_class=16,
        freeze=0, phases=(Phase(1, None, 1e-3),), **kind,
    )  # fmt: skip
    pixels = torch.randint(0, 255, (32, 40, 40, 3), dtype=torch.uint8)
    cells = TrainingCells(pixels, torch.arange(32) % 2, torch.arange(32) % 4)

    def losses():
        training = Training(recipe, network(), Compute("cpu", half=False), seed=0)
        events = list(training.epochs(cells, lambda _network: {"auc": 0.5}))
        with torch.inference_mode():
            judged = training.judged.eval()
            assert torch.equal(judged(PIXELS), judged(PIXELS))
        return [event.loss for event in events]

    assert losses() == losses()
