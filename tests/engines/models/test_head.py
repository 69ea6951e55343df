"""Any of timm's heads serves: what is pooled, what is scored, and where there is evidence."""

from __future__ import annotations

import pytest
import timm
import torch
from torch import nn

from engines.models.casting import DTYPES, compute_in
from engines.models.head import head_of
from engines.models.input import ModelInput
from engines.models.serving_graph import ServingGraph

SWIN = {"window_size": 2, "embed_dim": 16, "depths": (1, 1, 1, 1), "num_heads": (1, 1, 2, 2)}
SMALL = {"embed_dim": 32, "depth": 1, "num_heads": 2}
KINDS = {  # arguments that make it small, and the axes whose mean is its features
    "test_efficientnet": ({}, (2, 3)),
    "test_resnet": ({}, (2, 3)),
    "swin_tiny_patch4_window7_224": (SWIN | {"img_size": 64}, (1, 2)),
    "test_convnext": ({}, None),
    "test_vit": ({"img_size": 64}, None),
    "deit_tiny_distilled_patch16_224": (SMALL | {"img_size": 64}, None),
    "eva02_tiny_patch14_224": (SMALL | {"img_size": 56}, None),
    "beit_base_patch16_224": (SMALL | {"img_size": 64}, None),
    "mobilenetv3_small_050": ({}, None),
    "mobilenetv4_conv_small_035": ({}, None),
}


def network_of(name, classes=3):
    """Build a small network of a kind, its scores spread, with the size of its input."""
    torch.manual_seed(0)
    arguments, _ = KINDS[name]
    network = timm.create_model(name, num_classes=classes, **arguments).eval()
    return network, arguments.get("img_size", 64)


def graph_of(name):
    """Wrap a small network; return the graph, pixels for it, and the network's own logits."""
    network, size = network_of(name)
    graph = ServingGraph(
        network, ModelInput(height=size, width=size, mean=(0.5, 0.5, 0.5), std=(0.3, 0.3, 0.3))
    )
    generator = torch.Generator().manual_seed(1)
    pixels = torch.randint(0, 256, (3, size, size, 3), dtype=torch.uint8, generator=generator)
    with torch.no_grad():
        return graph, pixels, network(graph.normalised(pixels))


@pytest.mark.parametrize("name", KINDS)
@torch.no_grad()
def test_the_parts_make_the_whole(name):
    """Logits are the network's own, features one vector a cell, evidence what the head has."""
    graph, pixels, expected = graph_of(name)

    logits, features, *evidence = graph(pixels)

    assert graph.head.places == KINDS[name][1]
    assert torch.allclose(logits, expected, atol=1e-3)
    assert features.shape[0] == 3
    assert features.dim() == 2
    assert len(evidence) == (graph.head.places is not None)
    if evidence:
        bias = graph.network.get_classifier().bias
        assert torch.allclose(evidence[0].float().mean((2, 3)) + bias, expected, atol=1e-2)


@pytest.mark.parametrize("name", KINDS)
@pytest.mark.parametrize("precision", ["fp16", "bf16"])
@torch.no_grad()
def test_the_head_stays_in_float32(name, precision):
    """With the backbone in half, whatever comes after the last map computes in float32."""
    graph, pixels, expected = graph_of(name)
    compute_in(graph.network, DTYPES[precision], graph.head.modules)

    logits = graph(pixels)[0]

    kept = [graph.network.get_submodule(module) for module in graph.head.modules]
    assert kept
    assert all(p.dtype == torch.float32 for module in kept for p in module.parameters())
    assert logits.dtype == torch.float32
    assert (logits - expected).abs().max() < 0.1 * max(1.0, float(expected.abs().max()))


def test_an_input_that_the_network_does_not_take_is_a_reason():
    """Attention with learned positions is of one size."""
    network, size = network_of("deit_tiny_distilled_patch16_224")

    with pytest.raises(ValueError, match="does not run on images of 96 x 96: Input height"):
        head_of(network, torch.zeros(2, 3, 96, 96))
    assert head_of(network, torch.zeros(2, 3, size, size)).places is None


def test_a_network_that_is_none_of_timms_is_a_reason():
    """There is nothing to take apart."""
    network = nn.Sequential(nn.Flatten(), nn.Linear(3 * 64, 2))

    with pytest.raises(ValueError, match="forward_features"):
        head_of(network, torch.zeros(2, 3, 8, 8))
