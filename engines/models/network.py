"""
A bundle's network, built by timm: first without memory, and held against the weights' header.

So what a bundle asks for is known to be what its file of weights holds before memory for it is set
aside.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import timm
import torch
from safetensors import SafetensorError, safe_open
from torch import nn

from engines.errors import BundleError
from engines.models.architecture import refusal

if TYPE_CHECKING:
    from engines.models.bundle import ModelBundle

__all__ = ["built_network", "weightless_network"]

MOST_BUFFER_BYTES = 2**30  # of tables that are computed, not stored: positions, masks


def built_network(bundle: ModelBundle) -> nn.Module:
    """
    Build a bundle's network with random weights, once it is known that its weights will fit.

    Raises:
        BundleError: If timm has no such network, does not take an argument, or the weights are of
            another network.
    """
    _require_fit(bundle, weightless_network(bundle))
    return _created(bundle)


def weightless_network(bundle: ModelBundle) -> nn.Module:
    """
    Build a bundle's network on PyTorch's device ``meta``: shapes without memory.

    Raises:
        BundleError: If timm has no such network or does not take an argument.
    """
    with torch.device("meta"):
        return _created(bundle)


def _created(bundle: ModelBundle) -> nn.Module:
    """Have timm build a network that may be asked of it."""
    reason = refusal(bundle.architecture, bundle.model_args)
    if not reason and not timm.is_model(bundle.architecture.partition(".")[0]):
        reason = f"timm {timm.__version__} has no network {bundle.architecture}"
    if reason:
        raise BundleError(
            f"the bundle {bundle.folder} is not valid: {reason}",
            hint="see timm.list_models() for names, docs/models.md for arguments",
        )
    try:
        network: nn.Module = timm.create_model(
            bundle.architecture, num_classes=len(bundle.classes), **bundle.model_args
        )
    except Exception as error:  # a network's constructor raises whatever its arguments lead to
        raise BundleError(
            f"timm {timm.__version__} cannot build the {bundle.architecture} of {bundle.folder}: "
            f"{type(error).__name__}: {error}",
            hint="check architecture and model_args in its config.json",
        ) from error
    return network


def _require_fit(bundle: ModelBundle, expected: nn.Module) -> None:
    """
    Compare a network with the header of the weights, before memory is set aside for either.

    Raises:
        BundleError: If names or shapes differ, or the network computes tables out of all bounds.
    """
    shapes = {name: tuple(tensor.shape) for name, tensor in expected.state_dict().items()}
    stored = _stored_shapes(bundle)
    differing = sorted(n for n in shapes.keys() | stored.keys() if shapes.get(n) != stored.get(n))
    tables = sum(buffer.numel() * buffer.element_size() for buffer in expected.buffers())
    reason = ""
    if differing:
        name = differing[0]
        here, there = (_in_words(each.get(name)) for each in (stored, shapes))
        reason = f"{len(differing)} tensors differ, first {name} ({here}, and not {there})"
    elif tables > MOST_BUFFER_BYTES:
        reason = f"its tables of positions would take {tables / 2**30:,.0f} GiB"
    if reason:
        raise BundleError(
            f"the weights of {bundle.folder} do not make a {bundle.architecture}: {reason}",
            hint="check architecture and model_args in its config.json",
        )


def _stored_shapes(bundle: ModelBundle) -> dict[str, tuple[int, ...]]:
    """Read the shapes of the weights; nothing else of the file."""
    try:
        with safe_open(bundle.weights, framework="pt") as file:
            return {name: tuple(file.get_slice(name).get_shape()) for name in file.keys()}  # noqa: SIM118
    except (OSError, ValueError, SafetensorError) as error:
        raise BundleError(
            f"{bundle.weights} does not hold weights: {error}", hint="copy the whole bundle again"
        ) from error


def _in_words(shape: tuple[int, ...] | None) -> str:
    """Say how large a tensor is."""
    return "absent" if shape is None else " x ".join(map(str, shape)) or "one number"
