"""Where a training's weights start from."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import torch
from safetensors.torch import load_file
from torch import Tensor, nn

from engines.errors import BundleError, UserError
from engines.models.bundle import ModelBundle
from train.trainer.efficientnet_lite2 import fill_from_lite2
from train.trainer.pretrained import arguments_taken, pretrained_network, untrained_network

if TYPE_CHECKING:
    from train.recipe import Recipe

__all__ = ["freeze_stages", "network_to_train", "sources_of", "stages_of", "subjects_behind"]

IMAGENET, LITE2, SCRATCH = "imagenet", "lite2", "scratch"
B3 = ("efficientnet_b3", "tf_efficientnet_b3")
STAGES = ("blocks", "layers", "stages")  # timm's names for what holds them
STARTS = "--init takes imagenet, lite2, scratch, a bundle's folder or a file of weights"


def network_to_train(recipe: Recipe, classes: int, init: str) -> nn.Module:
    """
    Build the recipe's network with a fresh head and the weights that *init* names.

    Args:
        recipe: Architecture and drop rates.
        classes: Of the new head.
        init: ``imagenet`` (timm downloads them), ``lite2`` (see
            ``train.trainer.efficientnet_lite2``), ``scratch``, a bundle's folder, or a file of
            weights (safetensors, or a state dict of torch); several of these last two, separated by
            commas, stand for the mean of their weights, which works for trainings of one start
            ("Model soups", Wortsman et al. 2022).

    Raises:
        UserError: If the weights cannot be had or are not the architecture's.
    """
    build = pretrained_network if init == IMAGENET else untrained_network
    arguments = {**recipe.model_args, "num_classes": classes}
    taken = arguments_taken(recipe.architecture, arguments, recipe.train_args)
    network = build(recipe.architecture, taken)
    _start_head_near_zero(network)
    if init == LITE2:
        _fill_from_lite2(network, recipe)
    elif init not in (IMAGENET, SCRATCH):
        _fill(network, _mean([_weights_from(source) for source in sources_of(init)]), init)
    return network


def sources_of(init: str) -> list[Path]:
    """
    Return the bundles or files that *init* names; a name that exists may hold commas.

    Raises:
        UserError: If it names nothing.
    """
    if Path(init).exists():
        return [Path(init)]
    named = [Path(name.strip()) for name in init.split(",") if name.strip()]
    if not named:
        raise UserError(f"--init {init!r} names no weights", hint=STARTS)
    return named


def subjects_behind(init: str) -> set[str]:
    """Name everyone that the bundles in *init* were trained on; files of weights name nobody."""
    bundles = (ModelBundle.load(source) for source in sources_of(init) if source.is_dir())
    return {name for bundle in bundles for name in bundle.data.get("training_subjects", ())}


def freeze_stages(network: nn.Module, count: int) -> list[nn.Module]:
    """
    Stop the stem and the first *count* stages from learning; return them, to be kept in ``eval``.

    Raises:
        UserError: If the network has no such stages.
    """
    if count == 0:
        return []
    stem, stages = _stem_and_stages(network)
    if count >= len(stages):
        raise UserError(
            f"cannot freeze {count} stages of a network with {len(stages)}",
            hint="pass a smaller --freeze; 0 keeps nothing as it is",
        )
    frozen = [*stem, *stages[:count]]
    for module in frozen:
        module.requires_grad_(requires_grad=False)
    return frozen


def stages_of(network: nn.Module) -> list[nn.Module]:
    """Return the network's stages, first to last; none if timm names them in a way not known."""
    return _stem_and_stages(network)[1]


def classifiers_of(network: nn.Module) -> tuple[nn.Module, ...]:
    """Return the layers that make the logits: one, or two where timm distils."""
    found = network.get_classifier()  # type: ignore[operator]
    return tuple(found) if isinstance(found, tuple | list) else (found,)


def _start_head_near_zero(network: nn.Module) -> None:
    """
    Start the head near zero, every class as likely as the next.

    timm's EfficientNet draws a head of two classes from +-0.7: its first logits reach 17, and
    the first steps tear at the pretrained features to bring them down.
    """
    for classifier in classifiers_of(network):
        for name, weights in classifier.named_parameters():
            if name.endswith("bias"):
                nn.init.zeros_(weights)
            elif weights.dim() > 1:
                nn.init.trunc_normal_(weights, std=0.01)


def _fill_from_lite2(network: nn.Module, recipe: Recipe) -> None:
    """Fill a B3 from the Python package that holds Lite2."""
    if recipe.architecture not in B3:
        raise UserError(
            f"--init lite2 has weights for {B3[0]}, not for {recipe.architecture}",
            hint="pass --init imagenet, or a file of weights",
        )
    fill_from_lite2(network)


def _weights_from(source: Path) -> dict[str, Tensor]:
    """Read a bundle's or a file's weights, in float32."""
    try:
        if source.is_dir():
            weights = load_file(ModelBundle.load(source).weights)
        elif source.suffix == ".safetensors":
            weights = load_file(source)
        else:
            weights = _unwrapped(torch.load(source, map_location="cpu", weights_only=True))
    except BundleError:
        raise
    except Exception as error:
        raise UserError(
            f"cannot read weights from {source}: {error}",
            hint=STARTS,
        ) from error
    if not isinstance(weights, dict) or not all(isinstance(w, Tensor) for w in weights.values()):
        raise UserError(f"{source} is no state dict: it holds other things, too", hint=STARTS)
    return {name: w.float() if w.is_floating_point() else w for name, w in weights.items()}


def _mean(several: list[dict[str, Tensor]]) -> dict[str, Tensor]:
    """Return the even mean of networks' weights, tensor by tensor; counters are the first's."""
    first = several[0]
    if any(_shapes(weights) != _shapes(first) for weights in several):
        raise UserError(
            "the starts are not of one architecture, so their weights have no mean",
            hint="--init takes several bundles or files only of one kind of network",
        )
    return {
        name: torch.stack([weights[name] for weights in several]).mean(0)
        if tensor.is_floating_point()
        else tensor
        for name, tensor in first.items()
    }


def _shapes(weights: dict[str, Tensor]) -> dict[str, torch.Size]:
    """Return each tensor's shape."""
    return {name: tensor.shape for name, tensor in weights.items()}


def _unwrapped(saved: dict[str, dict[str, Tensor]]) -> dict[str, Tensor]:
    """Find the state dict in what training programs commonly save around it."""
    for name in ("state_dict", "model"):
        if name in saved:
            return saved[name]
    return saved  # type: ignore[return-value]  # a bare state dict


def _fill(network: nn.Module, weights: dict[str, Tensor], init: str) -> None:
    """Load all that fits; only the head, whose classes may differ, may stay fresh."""
    own = network.state_dict()
    classifiers = classifiers_of(network)
    head = {
        name
        for name, module in network.named_modules()
        if any(module is part for one in classifiers for part in one.modules())
    }
    fitting = {n: w for n, w in weights.items() if n in own and own[n].shape == w.shape}
    missing = [n for n in own if n not in fitting and n.rsplit(".", 1)[0] not in head]
    if missing:
        raise UserError(
            f"{init} lacks {len(missing)} of the network's {len(own)} tensors, {missing[0]} first",
            hint="check --model and --model-kwargs against what the weights were trained as",
        )
    network.load_state_dict(fitting, strict=False)


def _stem_and_stages(network: nn.Module) -> tuple[list[nn.Module], list[nn.Module]]:
    """Tell the stem from the stages, by timm's names for them."""
    stem: list[nn.Module] = []
    stages: list[nn.Module] = []
    for name, module in network.named_children():
        if name in STAGES:
            return stem, list(module.children())
        if name.startswith("layer"):
            stages.append(module)
        elif not stages:
            stem.append(module)
    return stem, stages
