"""
What follows a network's last feature map, found by running it: so any of timm's heads can serve.

Legend: N cells, C classes, F features, h x w places of the last feature map.
"""

from __future__ import annotations

from contextlib import contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING

import torch
from torch import Tensor, nn

from engines.models.casting import has_own_weights

if TYPE_CHECKING:
    from collections.abc import Iterator

__all__ = ["Head", "head_of"]

TOLERANCE = 1e-3  # of a logit or a feature, float32
PLACES = {(2, 3): "nfhw,cf->nchw", (1, 2): "nhwf,cf->nchw"}  # which axes they are: evidence by


@dataclass(frozen=True, slots=True)
class Head:
    """
    How a network gets from its last feature map to its logits.

    Attributes:
        places: Axes of the map that are averaged, where that mean is the features and one linear
            layer makes the logits of them: then each place has its evidence. None for any other
            head: a norm or layers after pooling, a class token, attention.
        modules: Names of the modules with weights that come after the map: they stay in float32.
        features: How many numbers the pooled features of a cell are.
    """

    places: tuple[int, int] | None
    modules: tuple[str, ...]
    features: int

    @property
    def evidence(self) -> str | None:
        """The sum of products that makes evidence ``(N, C, h, w)`` of the map and the weights."""
        return None if self.places is None else PLACES[self.places]


@torch.no_grad()
def head_of(network: nn.Module, images_NCHW: Tensor) -> Head:
    """
    Take a network apart at its last feature map, and prove that the parts make the whole.

    Args:
        network: One of timm's, in float32; put into evaluation mode.
        images_NCHW: Two images or more, normalised, of the size it is to serve.

    Raises:
        ValueError: With the reason, if it cannot be served: it does not take such images, or its
            parts are not to be had or do not make its logits.
    """
    network.eval()
    try:
        expected = network(images_NCHW)
        map_ = network.forward_features(images_NCHW)  # type: ignore[operator]
        with _running(network) as modules:
            features = network.forward_head(map_, pre_logits=True)  # type: ignore[operator]
            logits = network.forward_head(map_)  # type: ignore[operator]
    except Exception as error:  # a network raises whatever its arguments lead to
        height, width = images_NCHW.shape[2:]
        reason = " ".join(str(error).split())
        raise ValueError(f"it does not run on images of {height} x {width}: {reason}") from error
    if not isinstance(map_, Tensor) or features.dim() != 2:  # noqa: PLR2004  (N, F)
        raise ValueError("its pooled features are not one vector a cell")
    if expected.shape != logits.shape or not _equal(expected, logits):
        raise ValueError("its features and its head by themselves do not give its logits")
    return Head(_places(network, map_, features, expected), tuple(modules), features.shape[1])


def _places(
    network: nn.Module, map_: Tensor, features_NF: Tensor, logits_NC: Tensor
) -> tuple[int, int] | None:
    """Find the axes whose mean is the features, if one linear layer makes the logits of them."""
    classifier = network.get_classifier()  # type: ignore[operator]
    if not isinstance(classifier, nn.Linear) or map_.dim() != 4:  # noqa: PLR2004  two axes of places
        return None
    for axes in PLACES:
        mean = map_.mean(axes)
        if mean.shape == features_NF.shape and _equal(mean, features_NF):
            return axes if _equal(classifier(mean), logits_NC) else None
    return None


def _equal(one: Tensor, other: Tensor) -> bool:
    """Tell whether two results differ by no more than rounding."""
    return bool((one - other).abs().max() <= TOLERANCE)


@contextmanager
def _running(network: nn.Module) -> Iterator[list[str]]:
    """Give a list that fills with the names of the modules with weights that run."""
    ran: list[str] = []

    def note(name: str) -> None:
        if name not in ran:
            ran.append(name)

    hooks = [
        module.register_forward_pre_hook(lambda *_, name=name: note(name))
        for name, module in network.named_modules()
        if name and has_own_weights(module)
    ]
    try:
        yield ran
    finally:
        for hook in hooks:
            hook.remove()
