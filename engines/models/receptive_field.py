"""
Where in the input a place of the last feature map looks: the centre of its receptive field.

Strides alone do not say it, for padding shifts it. With symmetric padding, place j of
EfficientNet-B3 is centred on pixel 32 j, not in the middle of the square from 32 j to 32 j + 32;
TensorFlow's ``SAME`` padding shifts it again. So the network runs once on tensors without data, and
each operation that moves places (convolution, pooling, padding) is followed by its own arithmetic:
Araujo, Norris and Sim, "Computing Receptive Fields of Convolutional Neural Networks" (2019).
"""

from __future__ import annotations

from dataclasses import astuple
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves
from torch.utils.weak import WeakTensorKeyDictionary

from engines.models.input import FieldCentres
from engines.models.network import weightless_network

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from engines.models.bundle import ModelBundle

__all__ = ["field_centres"]

MAP_DIMS = 4  # (N, C, h, w)


def field_centres(bundle: ModelBundle) -> FieldCentres | None:
    """
    Return where the places of a bundle's evidence look; None if that cannot be followed.

    That is so where the network does more to places than convolve, pool and pad: folds them into
    channels, say, or mixes all of them.
    """
    network = weightless_network(bundle).eval()
    with torch.device("meta"), torch.no_grad():
        pixels = torch.zeros(1, 3, bundle.input.height, bundle.input.width)
        with _Following(pixels) as following:
            last = network.forward_features(pixels)  # type: ignore[operator]
    found: FieldCentres | None = following.centres.get(last)
    return found


class _Following(TorchDispatchMode):  # type: ignore[no-untyped-call]
    """Knows the centres of every map that comes of the pixels while it is the current mode."""

    def __init__(self, pixels: Tensor) -> None:
        """Begin with the pixels: each looks at itself."""
        super().__init__()  # type: ignore[no-untyped-call]
        self.centres: Any = WeakTensorKeyDictionary()
        self.centres[pixels] = FieldCentres(0.5, 0.5, 1.0, 1.0)

    def __torch_dispatch__(
        self,
        func: Any,
        types: Any,
        args: tuple[Any, ...] = (),
        kwargs: Mapping[str, Any] | None = None,
    ) -> Any:
        """Do the operation, and note where the places of the map it returns look."""
        del types
        result = func(*args, **(kwargs or {}))
        made = result[0] if isinstance(result, tuple) else result
        if isinstance(made, Tensor) and made.dim() == MAP_DIMS:
            found = self._found(made, func, args)
            if found is not None:
                self.centres[made] = found
        return result

    def _found(self, made: Tensor, func: Any, args: tuple[Any, ...]) -> FieldCentres | None:
        """Return the centres of a map: moved by the operation, or those of operands of its size."""
        moved = WINDOWS.get(func.overloadpacket)
        if moved is not None:
            before = self.centres.get(args[0])
            return None if before is None else before.after(*moved(_named(func, args)))
        operands = [one for one in tree_leaves(args) if isinstance(one, Tensor)]
        alike = [one for one in operands if one.shape[2:] == made.shape[2:]]
        return _mean([self.centres[one] for one in alike if one in self.centres])


def _mean(branches: Sequence[FieldCentres]) -> FieldCentres | None:
    """
    Return the centres of branches that meet; None of none.

    Branches need not agree: a ResNet-D shortcut pools 2 x 2 beside a padded convolution.
    """
    if not branches:
        return None
    sides = zip(*(astuple(branch) for branch in branches), strict=True)
    return FieldCentres(*(sum(side) / len(branches) for side in sides))


def _named(func: Any, args: tuple[Any, ...]) -> dict[str, Any]:
    """Return an operation's arguments by name, defaults included."""
    names = [argument.name for argument in func._schema.arguments]  # noqa: SLF001  no other way
    defaults = {
        argument.name: argument.default_value
        for argument in func._schema.arguments  # noqa: SLF001
        if argument.has_default_value()
    }
    return defaults | dict(zip(names, args, strict=False))


def _convolution(given: Mapping[str, Any]) -> tuple[Any, ...]:
    """Return window, stride and padding of a convolution; dilation spreads its window."""
    sides = zip(given["weight"].shape[2:], given["dilation"], strict=True)
    return [(side - 1) * spread + 1 for side, spread in sides], given["stride"], given["padding"]


def _pooling(given: Mapping[str, Any]) -> tuple[Any, ...]:
    """Return window, stride and padding of a pooling; without a stride, windows do not overlap."""
    kernel = _pair(given["kernel_size"])
    sides = zip(kernel, _pair(given.get("dilation", 1)), strict=True)
    spread = [(side - 1) * apart + 1 for side, apart in sides]
    return spread, _pair(given["stride"] or kernel), _pair(given["padding"])


def _padding(given: Mapping[str, Any]) -> tuple[Any, ...]:
    """Return a window of one place, and what is added above and to the left."""
    left, _, top, _ = [*given["pad"], 0, 0, 0, 0][:4]
    return (1, 1), (1, 1), (top, left)


def _pair(values: Any) -> Sequence[int]:
    """Return a value for height and one for width."""
    values = [values] if isinstance(values, int) else list(values)
    pair: Sequence[int] = values * 2 if len(values) == 1 else values
    return pair


ATEN = torch.ops.aten
WINDOWS = {
    ATEN.convolution: _convolution,
    ATEN.max_pool2d_with_indices: _pooling,
    ATEN.avg_pool2d: _pooling,
    ATEN.constant_pad_nd: _padding,
}
