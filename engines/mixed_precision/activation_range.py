"""How large the numbers inside a network become: where half precision would overflow."""

from __future__ import annotations

import math
from contextlib import contextmanager
from copy import deepcopy
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor, nn
from torch.utils.weak import WeakIdKeyDictionary

from engines.models.casting import computes_itself

if TYPE_CHECKING:
    from collections.abc import Iterator

__all__ = ["SAFETY", "Peaks", "exact_sums", "half_limit", "watched"]

SAFETY = 4.0  # an activation this close to the type's maximum is too close


def half_limit(dtype: torch.dtype) -> float:
    """Return the largest activation that a module may have in *dtype*: 16376 in float16."""
    return torch.finfo(dtype).max / SAFETY


@dataclass(slots=True)
class Peaks:
    """
    The largest absolute value that each module took or gave, by name, in order of execution.

    A module that computes by itself answers for its inputs and outputs. A container answers for
    what its own code made: an output that is no child's, or an input of a child's that no module
    gave. Not-a-number counts as infinity.
    """

    of: dict[str, float] = field(default_factory=dict)

    def note(self, name: str, tensor: Tensor) -> None:
        """Keep the larger of what was known and this."""
        values = tensor.detach()  # amax and amin: a tenth of abs().max() and of aminmax()
        peak = torch.maximum(values.amax(), -values.amin()).item()
        self.of[name] = max(self.of.get(name, 0.0), torch.inf if math.isnan(peak) else peak)

    def above(self, limit: float) -> list[str]:
        """Return the modules above a limit, in order, until the first that is not finite."""
        found = []
        for name, peak in self.of.items():
            if peak > limit:
                found.append(name)
            if peak == torch.inf:
                break  # what comes after it is spoilt and says nothing
        return found


@contextmanager
def watched(network: nn.Module) -> Iterator[Peaks]:
    """Collect peaks of everything that runs inside the block."""
    peaks = Peaks()
    given: WeakIdKeyDictionary = WeakIdKeyDictionary()  # tensors that a module already answers for
    hooks: list[Any] = []
    for name, module in network.named_modules():
        by_itself = computes_itself(module)
        hooks.append(module.register_forward_hook(_after(name, peaks, given)))
        if by_itself:
            before = _before(name, peaks, given)
            hooks.append(module.register_forward_pre_hook(before, prepend=True))
    try:
        yield peaks
    finally:
        for hook in hooks:
            hook.remove()


def _before(name: str, peaks: Peaks, given: WeakIdKeyDictionary) -> Any:
    """Return a hook that notes what a module is given, before any cast."""
    parent = name.rpartition(".")[0]

    def hook(_: nn.Module, args: tuple[Any, ...]) -> None:
        for tensor in filter(_is_float, args):
            peaks.note(name, tensor)
            if tensor not in given and parent:
                peaks.note(parent, tensor)

    return hook


def _after(name: str, peaks: Peaks, given: WeakIdKeyDictionary) -> Any:
    """Return a hook that notes what a module gives, unless a child gave that very tensor."""

    def hook(_: nn.Module, __: tuple[Any, ...], output: Any) -> None:
        if _is_float(output) and output not in given:
            peaks.note(name, output)
            given[output] = name

    return hook


def _is_float(value: Any) -> bool:
    """Tell tensors of numbers that can overflow."""
    return isinstance(value, Tensor) and value.is_floating_point()


def exact_sums(network: nn.Module) -> None:
    """
    Let half modules with weights add up in float32, and round once, as a GPU's tensor cores do.

    On a processor torch's own half convolutions are some ten times slower and round more often.
    """
    for module in list(network.modules()):
        weight = getattr(module, "weight", None)
        if isinstance(weight, Tensor) and weight.dtype == torch.float16:
            module.forward = _rounded_once(module)


def _rounded_once(module: nn.Module) -> Any:
    """Return a forward that computes in float32 on the half values and rounds the result."""
    wide = deepcopy(module).float()
    wide._forward_pre_hooks.clear()  # noqa: SLF001  (they would cast to half again)

    def forward(values: Tensor) -> Tensor:
        rounded: Tensor = wide(values.float()).half()
        return rounded

    return forward
