"""
Which module computes in which type: the backbone in half, named modules in float32.

Batch norms are folded into the convolutions before them in float32, then everything is cast once.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import torch
from timm.layers.norm_act import BatchNormAct2d
from torch import Tensor, nn
from torch.nn.utils.fusion import fuse_conv_bn_eval

if TYPE_CHECKING:
    from collections.abc import Callable, Collection, Iterable

__all__ = [
    "DTYPES",
    "always_fp32",
    "compute_in",
    "computes_itself",
    "fold_batch_norms",
    "folding_pairs",
    "widen_colours",
    "within",
]

DTYPES = {"fp32": torch.float32, "fp16": torch.float16, "bf16": torch.bfloat16}
COLOURS = 3
FOLDABLE = (nn.BatchNorm2d, BatchNormAct2d)
FLOAT32 = nn.modules.batchnorm._BatchNorm  # noqa: SLF001  (what all of torch's batch norms are)


def fold_batch_norms(network: nn.Module, forward: Callable[[], object]) -> int:
    """
    Fold each batch norm that reads a convolution's output into that convolution, in float32.

    Pairs are found by running *forward* once: the norm's input is the very tensor that the
    convolution returned. Whoever calls this compares the outputs before and after.

    Returns:
        How many were folded.
    """
    pairs = folding_pairs(network, forward)
    for name, (convolution, norm) in pairs.items():
        fused = fuse_conv_bn_eval(convolution, norm)
        convolution.weight, convolution.bias = fused.weight, fused.bias
        network.set_submodule(name, _rest(norm))
    return len(pairs)


def widen_colours(network: nn.Module) -> bool:
    """
    Let the one convolution that reads colours read a fourth channel, with weights of zero.

    TensorRT pads three half channels to four, by a constant as large as a batch of input.

    Returns:
        Whether it does now; not where there is no such convolution, or several.
    """
    found = [m for m in network.modules() if isinstance(m, nn.Conv2d) and m.in_channels == COLOURS]
    if len(found) != 1 or found[0].groups != 1:
        return False
    (stem,) = found
    weight = nn.functional.pad(stem.weight.detach(), (0, 0, 0, 0, 0, 1))
    stem.weight, stem.in_channels = nn.Parameter(weight, requires_grad=False), COLOURS + 1
    return True


def compute_in(network: nn.Module, dtype: torch.dtype, keep_fp32: Collection[str] = ()) -> None:
    """
    Cast *network* so that it computes in *dtype*, but for the modules named.

    A module named, and all below it, takes and gives float32. Every other module with weights of
    its own casts what it is given. What has none, an activation or a sum, computes in the type it
    is given, the wider one of two: what a float32 module gives stays so until weights take it.
    Batch norms that could not be folded stay in float32.

    Raises:
        ValueError: If a name is none of the network's modules.
    """
    names = {name for name, _ in network.named_modules()}
    if unknown := sorted(set(keep_fp32) - names):
        raise ValueError(f"the network has no modules {unknown}")
    for name, module in network.named_modules():
        kept = isinstance(module, FLOAT32) or within(name, keep_fp32)
        of_module = torch.float32 if kept else dtype
        _cast_own(module, of_module)
        if name in keep_fp32 or has_own_weights(module):
            module.register_forward_pre_hook(_casting_to(of_module))


def always_fp32(network: nn.Module) -> list[str]:
    """Name the modules that are float32 whatever is asked for: batch norms that did not fold."""
    return [name for name, module in network.named_modules() if isinstance(module, FLOAT32)]


def within(name: str, keep_fp32: Iterable[str]) -> bool:
    """Tell whether a module is one of those named, or below one."""
    return any(name == kept or name.startswith(f"{kept}.") for kept in keep_fp32)


def computes_itself(module: nn.Module) -> bool:
    """Tell whether a module computes by itself, and not only by its children."""
    return has_own_weights(module) or next(module.children(), None) is None


def has_own_weights(module: nn.Module) -> bool:
    """Tell whether a module has weights that are not its children's."""
    return next(module.parameters(recurse=False), None) is not None


def folding_pairs(
    network: nn.Module, forward: Callable[[], object]
) -> dict[str, tuple[nn.Conv2d, nn.BatchNorm2d]]:
    """
    Map a norm's name to the convolution before it and itself, where both run exactly once.

    Args:
        network: In evaluation mode.
        forward: Runs it once.
    """
    runs: list[tuple[str, nn.Module, Any, Tensor]] = []
    hooks = [
        module.register_forward_hook(
            lambda module, args, output, name=name: runs.append((name, module, args, output))
        )
        for name, module in network.named_modules()
        if isinstance(module, nn.Conv2d) or type(module) in FOLDABLE
    ]
    try:
        forward()
    finally:
        for hook in hooks:
            hook.remove()
    once = [run for run in runs if sum(run[1] is other[1] for other in runs) == 1]
    made_by = {id(run[3]): run[1] for run in once if isinstance(run[1], nn.Conv2d)}
    return {
        name: (made_by[id(args[0])], module)  # type: ignore[misc]
        for name, module, args, _ in once
        if type(module) in FOLDABLE and id(args[0]) in made_by
    }


def _rest(norm: nn.BatchNorm2d) -> nn.Module:
    """Return what a folded norm still does: nothing, or timm's drop and activation."""
    if isinstance(norm, BatchNormAct2d):
        rest = nn.Sequential()
        rest.add_module("drop", norm.drop)
        rest.add_module("act", norm.act)
        return rest
    return nn.Identity()


def _cast_own(module: nn.Module, dtype: torch.dtype) -> None:
    """Cast a module's own weights and buffers, not its children's."""
    for name, weight in list(module.named_parameters(recurse=False)):
        if weight.is_floating_point():
            setattr(module, name, nn.Parameter(weight.detach().to(dtype), requires_grad=False))
    for name, buffer in list(module.named_buffers(recurse=False)):
        if buffer.is_floating_point():
            setattr(module, name, buffer.to(dtype))


def _casting_to(dtype: torch.dtype) -> Callable[[nn.Module, tuple[Any, ...]], tuple[Any, ...]]:
    """Return a hook that casts floating point inputs."""

    def cast(_: nn.Module, args: tuple[Any, ...]) -> tuple[Any, ...]:
        return tuple(
            arg.to(dtype) if isinstance(arg, Tensor) and arg.is_floating_point() else arg
            for arg in args
        )

    return cast
