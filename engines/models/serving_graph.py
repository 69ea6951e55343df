"""
The network as a graph that serves: pixels in; logits, pooled features and class evidence out.

Cast, scale, normalisation and layout are part of it, so training and serving cannot drift.
The backbone may compute in half; the normalisation before it and the head after it are float32.
Legend: N cells, H x W pixels, C classes, F features, h x w places of the last feature map.
"""

from __future__ import annotations

from collections import Counter
from typing import TYPE_CHECKING

import timm
import torch
from safetensors import SafetensorError
from safetensors.torch import load_file
from torch import Tensor, nn

from engines.errors import BundleError
from engines.models.casting import DTYPES, compute_in, fold_batch_norms, widen_colours

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
HEAD_TOLERANCE = 1e-3  # of a logit, float32: mean(evidence) + bias against the model's own head


class ServingGraph(nn.Module):
    """
    A classifier with a pooled linear head, taken apart so that its evidence can be seen.

    ``evidence`` is the classifier applied at each place of the last feature map: the class
    activation map of Zhou et al., "Learning Deep Features for Discriminative Localization"
    (CVPR 2016), exact for a global-average head.
    """

    def __init__(self, network: nn.Module, expected: ModelInput) -> None:
        """Wrap *network*, which takes normalised NCHW float32."""
        super().__init__()
        self.network = network
        std = torch.tensor(expected.std).view(1, 3, 1, 1)
        mean = torch.tensor(expected.mean).view(1, 3, 1, 1)
        self.register_buffer("scale", 1 / (255 * std))
        self.register_buffer("shift", -mean / std)
        self.wide = False  # whether the network reads a fourth channel, of zeros

    def normalised(self, pixels_NHWC: Tensor) -> Tensor:
        """Return ``(N, 3, H, W)`` float32 as the network was trained on."""
        # TensorRT takes uint8 only into a Cast, so the cast comes before the permute.
        pixels_NCHW = pixels_NHWC.to(torch.float32).permute(0, 3, 1, 2)
        return pixels_NCHW * self.scale + self.shift  # type: ignore[operator]

    def forward(self, pixels_NHWC: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """
        Score a batch.

        Args:
            pixels_NHWC: uint8 RGB.

        Returns:
            logits ``(N, C)`` float32; features ``(N, F)`` and evidence ``(N, C, h, w)`` float16.
        """
        normalised_NCHW = self.normalised(pixels_NHWC)
        if self.wide:
            normalised_NCHW = nn.functional.pad(normalised_NCHW, (0, 0, 0, 0, 0, 1))
        map_NFhw = self.network.forward_features(normalised_NCHW)  # type: ignore[operator]
        map_NFhw = map_NFhw.to(torch.float32)
        head = self.network.get_classifier()  # type: ignore[operator]
        features_NF = map_NFhw.mean((2, 3))
        logits_NC = features_NF @ head.weight.T + head.bias
        evidence_NChw = torch.einsum("nfhw,cf->nchw", map_NFhw, head.weight)
        return logits_NC.float(), features_NF.half(), evidence_NChw.half()


def network_from_bundle(bundle: ModelBundle) -> nn.Module:
    """
    Build the bundle's network in float32, in evaluation mode, every weight from the bundle.

    Raises:
        BundleError: If timm does not know the architecture or the weights do not fit it.
    """
    try:
        network: nn.Module = timm.create_model(
            bundle.architecture, num_classes=len(bundle.classes), **bundle.model_args
        )
        weights = {name: _as_float32(tensor) for name, tensor in load_file(bundle.weights).items()}
        network.load_state_dict(weights, strict=True)
    except (RuntimeError, TypeError, ValueError, SafetensorError) as error:
        raise BundleError(
            f"the weights of {bundle.folder} do not make a {bundle.architecture}: {error}",
            hint=f"check config.json against timm {timm.__version__}",
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
        BundleError: If the head is not global average pooling and one linear layer.
        ValueError: If a name in *keep_fp32* is none of the network's modules.
    """
    if precision != "fp32":
        graph = folded_graph(bundle)
        make_half(graph, precision, keep_fp32)
        return graph
    graph = ServingGraph(network_from_bundle(bundle), bundle.input).eval()
    pixels = _noise(bundle.input)
    try:
        with torch.no_grad():
            expected = graph.network(graph.normalised(pixels))
            logits, _, _ = graph(pixels)
    except (AttributeError, IndexError, RuntimeError, TypeError) as error:
        raise _unsupported_head(bundle) from error
    if expected.shape != logits.shape or (expected - logits).abs().max() > HEAD_TOLERANCE:
        raise _unsupported_head(bundle)
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
    expected, _, _ = graph(pixels)
    fold_batch_norms(graph.network, lambda: graph(pixels))
    logits, _, _ = graph(pixels)
    if (expected - logits).abs().max() > FOLD_TOLERANCE * expected.abs().max().clamp(min=1):
        raise BundleError(
            f"the batch norms of {bundle.architecture} cannot be folded into its convolutions",
            hint="use --precision fp32",
        )
    return graph


def make_half(graph: ServingGraph, precision: str, keep_fp32: Collection[str]) -> None:
    """Cast a folded graph's backbone; normalisation and head stay in float32."""
    graph.wide = widen_colours(graph.network)
    compute_in(graph.network, DTYPES[precision], {*keep_fp32, _head_name(graph.network)})


def convolution_types(graph: ServingGraph) -> dict[str, int]:
    """Count the network's convolutions by the type they compute in."""
    names = {dtype: name for name, dtype in DTYPES.items()}
    kinds = (nn.Conv1d, nn.Conv2d, nn.Conv3d)
    return dict(
        Counter(names[m.weight.dtype] for m in graph.network.modules() if isinstance(m, kinds))
    )


def _noise(expected: ModelInput) -> Tensor:
    """Return two images to try a graph out with, always the same."""
    generator = torch.Generator().manual_seed(0)
    shape = (2, expected.height, expected.width, 3)
    return torch.randint(0, 256, shape, dtype=torch.uint8, generator=generator)


def _head_name(network: nn.Module) -> str:
    """Return the classifier's name: it is read as float32 weights."""
    head = network.get_classifier()  # type: ignore[operator]
    return next(str(name) for name, module in network.named_modules() if module is head)


def _unsupported_head(bundle: ModelBundle) -> BundleError:
    """Say which heads can be served."""
    return BundleError(
        f"{bundle.architecture} does not end in global average pooling and one linear layer",
        hint="use a model with such a head: EfficientNet, ResNet, RegNet, MobileNetV2, ...",
    )


def _as_float32(tensor: Tensor) -> Tensor:
    """Bundles may store half precision to be small; the reference computes in float32."""
    return tensor.float() if tensor.is_floating_point() else tensor
