"""
The network as a graph that serves: pixels in; logits, pooled features and class evidence out.

Cast, scale, normalisation and layout are part of it, so training and serving cannot drift.
The backbone may compute in half; the normalisation before it and the head after it are float32.
Legend: N cells, H x W pixels, C classes, F features, h x w places of the last feature map.
"""

from __future__ import annotations

from collections import Counter
from typing import TYPE_CHECKING

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file
from torch import Tensor, nn

from engines.errors import BundleError
from engines.models.casting import DTYPES, compute_in, fold_batch_norms, widen_colours
from engines.models.head import head_of
from engines.models.network import built_network

if TYPE_CHECKING:
    from collections.abc import Collection

    from engines.models.bundle import ModelBundle
    from engines.models.input import ModelInput

__all__ = [
    "ServingGraph",
    "convolution_types",
    "folded_graph",
    "make_half",
    "network_from_bundle",
    "serving_graph",
]

FOLD_TOLERANCE = 1e-3  # of the largest logit, float32: folding only rounds differently


class ServingGraph(nn.Module):
    """
    A classifier taken apart, so that its features and, where there is any, its evidence are seen.

    ``evidence`` is the classifier applied at each place of the last feature map: the class
    activation map of Zhou et al., "Learning Deep Features for Discriminative Localization"
    (CVPR 2016), exact for a global-average head; other heads have none (``engines.models.head``).
    """

    def __init__(self, network: nn.Module, expected: ModelInput) -> None:
        """
        Wrap *network*, which takes normalised NCHW float32; it is put into evaluation mode.

        Raises:
            ValueError: With the reason, if the network cannot be taken apart.
        """
        super().__init__()
        self.network = network
        std = torch.tensor(expected.std).view(1, 3, 1, 1)
        mean = torch.tensor(expected.mean).view(1, 3, 1, 1)
        self.register_buffer("scale", 1 / (255 * std))
        self.register_buffer("shift", -mean / std)
        self.wide = False  # whether the network reads a fourth channel, of zeros
        place = next(network.parameters()).device
        trial = self.to(place).normalised(_noise(expected).to(place))
        self.head = head_of(network, trial)

    def normalised(self, pixels_NHWC: Tensor) -> Tensor:
        """Return ``(N, 3, H, W)`` float32 as the network was trained on."""
        # TensorRT takes uint8 only into a Cast, so the cast comes before the permute.
        pixels_NCHW = pixels_NHWC.to(torch.float32).permute(0, 3, 1, 2)
        return pixels_NCHW * self.scale + self.shift  # type: ignore[operator]

    def forward(self, pixels_NHWC: Tensor) -> tuple[Tensor, ...]:
        """
        Score a batch.

        Args:
            pixels_NHWC: uint8 RGB.

        Returns:
            logits ``(N, C)`` float32; features ``(N, F)`` float16; and, where the head has any,
            evidence ``(N, C, h, w)`` float16.
        """
        normalised_NCHW = self.normalised(pixels_NHWC)
        if self.wide:
            normalised_NCHW = nn.functional.pad(normalised_NCHW, (0, 0, 0, 0, 0, 1))
        map_ = self.network.forward_features(normalised_NCHW)  # type: ignore[operator]
        map_ = map_.to(torch.float32)
        if self.head.places is None or self.head.evidence is None:
            features_NF = self.network.forward_head(map_, pre_logits=True)  # type: ignore[operator]
            logits_NC = self.network.forward_head(map_)  # type: ignore[operator]
            return logits_NC.float(), features_NF.half()
        linear = self.network.get_classifier()  # type: ignore[operator]
        features_NF = map_.mean(self.head.places)
        logits_NC = features_NF @ linear.weight.T + linear.bias
        evidence_NChw = torch.einsum(self.head.evidence, map_, linear.weight)
        return logits_NC.float(), features_NF.half(), evidence_NChw.half()


def network_from_bundle(bundle: ModelBundle) -> nn.Module:
    """
    Build the bundle's network in float32, in evaluation mode, every weight from the bundle.

    Raises:
        BundleError: If timm does not know the architecture or the weights do not fit it.
    """
    network = built_network(bundle)
    try:
        weights = {name: _as_float32(tensor) for name, tensor in load_file(bundle.weights).items()}
        network.load_state_dict(weights, strict=True)
    except (RuntimeError, TypeError, ValueError, SafetensorError) as error:
        raise BundleError(
            f"the weights of {bundle.folder} do not make a {bundle.architecture}: {error}",
            hint="copy the whole bundle again",
        ) from error
    return network.eval()


def serving_graph(
    bundle: ModelBundle, *, precision: str = "fp32", keep_fp32: Collection[str] = ()
) -> ServingGraph:
    """
    Build the bundle's serving graph and prove that its logits are the network's own.

    Args:
        bundle: The model.
        precision: ``fp32`` is the reference, untouched. ``fp16`` and ``bf16`` fold batch norms
            and compute the backbone in half.
        keep_fp32: Names of the network's modules that stay in float32 all the same.

    Raises:
        BundleError: If the network cannot be taken apart into features and head.
        ValueError: If a name in *keep_fp32* is none of the network's modules.
    """
    if precision != "fp32":
        graph = folded_graph(bundle)
        make_half(graph, precision, keep_fp32)
        return graph
    try:
        graph = ServingGraph(network_from_bundle(bundle), bundle.input).eval()
        _require_trust_of(bundle, graph.head.features)
    except ValueError as error:
        raise BundleError(
            f"{bundle.architecture} cannot be screened with: {error}",
            hint="check the input's size and model_args in the bundle's config.json",
        ) from error
    return graph


@torch.no_grad()
def folded_graph(bundle: ModelBundle) -> ServingGraph:
    """
    Build the serving graph in float32 with batch norms folded into the convolutions before them.

    Raises:
        BundleError: If that changes more than rounding.
    """
    graph = serving_graph(bundle)
    pixels = _noise(bundle.input)
    expected = graph(pixels)[0]
    fold_batch_norms(graph.network, lambda: graph(pixels))
    logits = graph(pixels)[0]
    if (expected - logits).abs().max() > FOLD_TOLERANCE * expected.abs().max().clamp(min=1):
        raise BundleError(
            f"the batch norms of {bundle.architecture} cannot be folded into its convolutions",
            hint="use --precision fp32",
        )
    return graph


def make_half(graph: ServingGraph, precision: str, keep_fp32: Collection[str]) -> None:
    """Cast a folded graph's backbone; normalisation and head stay in float32."""
    graph.wide = widen_colours(graph.network)
    compute_in(graph.network, DTYPES[precision], {*keep_fp32, *graph.head.modules})


def convolution_types(graph: ServingGraph) -> dict[str, int]:
    """Count the network's convolutions by the type they compute in."""
    names = {dtype: name for name, dtype in DTYPES.items()}
    kinds = (nn.Conv1d, nn.Conv2d, nn.Conv3d)
    return dict(
        Counter(names[m.weight.dtype] for m in graph.network.modules() if isinstance(m, kinds))
    )


def _require_trust_of(bundle: ModelBundle, features: int) -> None:
    """Raise ValueError if the bundle's limits were measured on features of another length."""
    measured = features if bundle.trust is None else bundle.trust.features.centres.shape[1]
    if measured != features:
        raise ValueError(f"its limits were fitted to {measured} features, and it has {features}")


def _noise(expected: ModelInput) -> Tensor:
    """Return two images to try a graph out with, always the same."""
    generator = torch.Generator().manual_seed(0)
    shape = (2, expected.height, expected.width, 3)
    return torch.randint(0, 256, shape, dtype=torch.uint8, generator=generator)


def _as_float32(tensor: Tensor) -> Tensor:
    """Bundles may store half precision to be small; the reference computes in float32."""
    return tensor.float() if tensor.is_floating_point() else tensor
