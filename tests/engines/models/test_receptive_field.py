"""Where places of the last feature map look: by arithmetic, held against networks that run."""

from __future__ import annotations

import numpy as np
import pytest
import timm
import torch
from tiny import make_bundle
from torch import nn

from engines.models.input import FieldCentres
from engines.models.receptive_field import field_centres
from engines.models.serving_graph import ServingGraph

SIZE = 256
PATCH = 48
SYMMETRIC, SAME = "mobilenetv2_050", "tf_efficientnet_lite0"


@pytest.fixture
def made(tmp_path):
    """Write a bundle of a network by name."""

    def call(architecture, size=SIZE):
        return make_bundle(
            tmp_path, classes=["hem", "all"], positive="all", size=size, architecture=architecture
        )

    return call


def brightness_network(architecture, blur):
    """
    Build a network that sees brightness, its weights positive, so that nothing cancels.

    Filters keep to their middle but for a share *blur*, which they spread evenly.
    """
    network = timm.create_model(architecture, num_classes=2).eval()
    for module in network.modules():
        if isinstance(module, nn.Conv2d):
            height, width = module.weight.shape[2:]
            kernel = torch.full((height, width), blur / (height * width))
            kernel[height // 2, width // 2] += 1 - blur
            module.weight.data[:] = 0.8 * kernel / module.weight.shape[1]
    nn.init.constant_(network.get_classifier().weight, 1.0)
    return network


def evidence_of(graph, pixels_NHWC):
    """Return the maps of the second class, ``(N, h, w)``."""
    with torch.no_grad():
        _, _, evidence = graph(torch.from_numpy(pixels_NHWC))
    return evidence[:, 1].double().numpy()


@pytest.mark.parametrize("architecture", [SYMMETRIC, SAME])
def test_a_bright_patch_is_found_by_the_evidence(made, architecture):
    """Wherever it is moved, the middle of the map's answer lies on the patch, to 6 pixels of 32."""
    bundle = made(architecture)
    centres = field_centres(bundle)
    graph = ServingGraph(brightness_network(architecture, 0.15), bundle.input)
    wheres = [(96, 104), (120, 136), (136, 112), (144, 150), (110, 96)]
    pixels = np.zeros((1 + len(wheres), SIZE, SIZE, 3), np.uint8)
    for image, (y, x) in zip(pixels[1:], wheres, strict=True):
        image[y - PATCH // 2 : y + PATCH // 2, x - PATCH // 2 : x + PATCH // 2] = 255

    dark, *lit = evidence_of(graph, pixels)

    for (y, x), found in zip(wheres, lit, strict=True):
        answer = np.maximum(found - dark, 0) ** 2
        rows, columns = np.arange(answer.shape[0]), np.arange(answer.shape[1])
        row = (answer.sum(1) @ rows) / answer.sum()
        column = (answer.sum(0) @ columns) / answer.sum()
        assert centres.top + row * centres.down == pytest.approx(y, abs=6)
        assert centres.left + column * centres.across == pytest.approx(x, abs=6)


@pytest.mark.parametrize(("architecture", "size"), [(SYMMETRIC, 256), (SAME, 256), (SAME, 225)])
def test_centres_are_where_gradients_come_from(made, architecture, size):
    """Where filters have nothing but their middle, each place depends on its centre alone."""
    centres = field_centres(made(architecture, size))
    network = brightness_network(architecture, 0.0)
    pixels = torch.full((1, 3, size, size), 1e-3, requires_grad=True)

    last = network.forward_features(pixels)
    row, column = last.shape[2] // 2, last.shape[3] // 3
    last[0, :, row, column].sum().backward()

    seen = pixels.grad[0].sum(0).nonzero().numpy() + 0.5
    assert seen.tolist() == [
        [centres.top + row * centres.down, centres.left + column * centres.across]
    ]


def test_symmetric_padding_centres_places_on_multiples_of_the_stride(made):
    """Half a square above and to the left of where squares side by side would put them."""
    assert field_centres(made("test_efficientnet")) == FieldCentres(0.5, 0.5, 32, 32)


def test_branches_that_meet_are_averaged(made):
    """Beside a padded convolution, which stays on the spot, a 2 x 2 pooling shifts by half."""
    centres = field_centres(made("resnet10t", 64))

    assert 0.5 < centres.top == centres.left < 0.5 + (4 + 8 + 16) / 2


def test_pooling_counts_as_a_window(made):
    """VGG halves by pooling alone: its places do stand in the middle of their squares."""
    assert field_centres(made("vgg11", 64)) == FieldCentres(16, 16, 32, 32)


def test_a_network_that_cannot_be_followed_has_no_centres(made):
    """A transformer's tokens are no places of a map: nothing is said rather than guessed."""
    assert field_centres(made("test_vit", 160)) is None
