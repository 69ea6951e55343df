"""A network that was trained elsewhere with timm, found and built: what a bundle is made of."""

from __future__ import annotations

import json
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

from timm.models import load_state_dict

from engines.errors import UserError
from engines.models.architecture import refusal
from engines.models.head import head_of
from engines.models.input import CHANNELS, ModelInput
from train.export.bundle_files import NetworkSpec
from train.export.hub import MODEL_FILES, fetched
from train.trainer.pretrained import untrained_network
from train.trainer.servable import noise_images

if TYPE_CHECKING:
    from collections.abc import Mapping

    from torch import Tensor, nn

__all__ = ["ImportAsked", "Imported", "imported_network", "place_of"]

CONFIG, *WEIGHTS = MODEL_FILES
FILTERS = ("bilinear", "bicubic")
HUB, LOCAL = "hf-hub:", "local-dir:"
KINDS = (
    "give a file of weights (.safetensors, .pth), a folder as timm's save_for_hf writes it "
    "(local-dir:PATH), or a model of the hub (hf-hub:OWNER/MODEL)"
)


@dataclass(frozen=True, slots=True, kw_only=True)
class ImportAsked:
    """
    What to import, and what it does not say of itself.

    Attributes:
        place: A file of weights, or a folder with one: see ``place_of``.
        classes: In the order of the logits.
        architecture: timm's name; None where a config.json says it.
        model_args: Further arguments of ``timm.create_model``, over the config's.
        img_size: Side of the input; None takes what the config or timm says.
        crop_pct: The middle part of a crop's sides that it is shown.
        norm: Mean and standard deviation of each channel; None takes the config's or timm's.
    """

    place: Path
    classes: tuple[str, ...]
    architecture: str | None = None
    model_args: Mapping[str, Any] = field(default_factory=dict)
    img_size: int | None = None
    crop_pct: float = 1.0
    norm: tuple[tuple[float, ...], tuple[float, ...]] | None = None


@dataclass(frozen=True, slots=True)
class Imported:
    """
    What was found.

    Attributes:
        network: With its weights, in evaluation mode.
        spec: How timm builds it, and what it expects.
        weights: As they were stored.
    """

    network: nn.Module
    spec: NetworkSpec
    weights: Mapping[str, Tensor]


def imported_network(asked: ImportAsked) -> Imported:
    """
    Find, build and fill a network; prove that it can be screened with.

    Raises:
        UserError: If it cannot be found, says no architecture, has other tensors than that
            architecture, another number of classes, or cannot be screened with.
    """
    file, config = _found(asked.place)
    architecture = asked.architecture or config.get("architecture")
    if not architecture:
        raise UserError(
            f"{file} does not say which architecture it is", hint="name it with --model"
        )
    arguments = {**config.get("model_args", {}), **asked.model_args}
    for name in ("num_classes", "in_chans"):  # --classes says it; the weights say it
        arguments.pop(name, None)
    if reason := refusal(architecture, arguments):
        raise UserError(f"{file} cannot be imported: {reason}", hint="see timm.list_models()")
    network = untrained_network(architecture, {**arguments, "num_classes": len(asked.classes)})
    weights = _weights(file)
    _fill(network, weights, file, architecture)
    seen = {**getattr(network, "pretrained_cfg", {}), **_pretrained(config)}
    licence = str(_pretrained(config).get("license", "other"))
    spec = NetworkSpec(architecture, arguments, _input(seen, asked), licence)
    _check_servable(network.eval(), spec)
    return Imported(network, spec, weights)


def place_of(origin: str) -> Path:
    """
    Return the file or folder that an origin names, fetched if it is on the hub.

    Raises:
        UserError: If it is on the hub and cannot be fetched.
    """
    if origin.startswith(HUB):
        return fetched(origin.removeprefix(HUB))
    return Path(origin.removeprefix(LOCAL))


def _found(place: Path) -> tuple[Path, Mapping[str, Any]]:
    """Return the file of weights, and what lies beside it in config.json, if anything."""
    if place.is_file():
        return place, {}
    file = next((place / name for name in WEIGHTS if (place / name).is_file()), None)
    if file is None:
        raise UserError(f"there are no weights at {place}", hint=KINDS)
    return file, _config(place / CONFIG)


def _config(file: Path) -> Mapping[str, Any]:
    """Read timm's config.json."""
    if not file.exists():
        return {}
    try:
        config = json.loads(file.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise UserError(
            f"cannot read {file}: {error}", hint="copy the model's folder again"
        ) from error
    if not isinstance(config, dict):
        raise UserError(f"{file} does not hold a JSON object", hint=KINDS)
    return config


def _pretrained(config: Mapping[str, Any]) -> Mapping[str, Any]:
    """Return what a config says of the input: in a part of its own, or, as of old, in itself."""
    found = config.get("pretrained_cfg", config)
    return {name: value for name, value in dict(found).items() if value is not None}


def _weights(file: Path) -> dict[str, Tensor]:
    """Read nothing but weights, as timm does: the averaged ones, where there are any."""
    try:
        weights: dict[str, Tensor] = load_state_dict(str(file), weights_only=True)
    except Exception as error:
        raise UserError(
            f"cannot read weights from {file}: {error}",
            hint="export them as safetensors: a pickle that holds anything else is not opened",
        ) from error
    return weights


def _fill(network: nn.Module, weights: Mapping[str, Tensor], file: Path, architecture: str) -> None:
    """Load weights into the network, every one of them."""
    own = network.state_dict()
    wrong = [name for name in weights if name in own and own[name].shape != weights[name].shape]
    if wrong:
        name = wrong[0]
        raise UserError(
            f"{name} is {tuple(weights[name].shape)} in {file}, but {tuple(own[name].shape)} in "
            f"{architecture} with these classes",
            hint="name as many --classes as the model has, in the order of its logits; check "
            "--model and --model-kwargs",
        )
    unlike = sorted(own.keys() ^ weights.keys())
    if unlike:
        raise UserError(
            f"{file} is not a whole {architecture}: {len(unlike)} tensors are only in one of the "
            f"two, {unlike[0]} first",
            hint="check --model and --model-kwargs",
        )
    network.load_state_dict(weights)


def _input(seen: Mapping[str, Any], asked: ImportAsked) -> ModelInput:
    """Return what the network expects, as asked, or as it or timm says."""
    channels, height, width = seen["input_size"]
    if channels != CHANNELS:
        raise UserError(
            f"the model takes {channels} channels", hint="slidescreen screens RGB images"
        )
    mean, std = asked.norm or (seen["mean"], seen["std"])
    return ModelInput(
        height=asked.img_size or height,
        width=asked.img_size or width,
        crop_pct=asked.crop_pct,
        filter=seen["interpolation"] if seen["interpolation"] in FILTERS else "bicubic",
        mean=tuple(mean),
        std=tuple(std),
    )


def _check_servable(network: nn.Module, spec: NetworkSpec) -> None:
    """Refuse a network whose features and logits cannot be told apart, or that does not run."""
    try:
        head_of(network, noise_images(spec.input.height))
    except (AssertionError, RuntimeError, ValueError) as error:
        raise UserError(
            f"{spec.architecture} cannot be screened with: {error}",
            hint="pass the --img-size that it was trained at",
        ) from error
