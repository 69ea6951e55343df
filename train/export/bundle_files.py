"""A bundle's files: what ``slidescreen run`` and plain timm both load."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from importlib.metadata import version
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import TYPE_CHECKING, Any

from safetensors.torch import save_file

from engines.models.bundle import save_bundle
from engines.models.input import CHANNELS

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from torch import Tensor

    from engines.models.bundle import ModelBundle
    from engines.models.input import ModelInput
    from engines.uncertainty.fitted import Trust
    from train.evaluation.calibration import OperatingPoint

__all__ = [
    "CNMC_DISPLAY_NAMES",
    "NetworkSpec",
    "OutputMeaning",
    "as_shipped",
    "write_bundle_files",
]

CNMC_DISPLAY_NAMES = {"all": "leukaemic blast (all)", "hem": "normal (hem)"}


@dataclass(frozen=True, slots=True)
class NetworkSpec:
    """
    What ``timm.create_model`` builds, and what that network expects.

    Attributes:
        architecture: timm's name.
        model_args: Further arguments of ``timm.create_model``, the number of classes aside.
        input: What a crop becomes before the network sees it.
        licence: Of the weights, as hubs abbreviate it.
    """

    architecture: str
    model_args: Mapping[str, Any]
    input: ModelInput
    licence: str = "apache-2.0"


@dataclass(frozen=True, slots=True)
class OutputMeaning:
    """
    What a network's outputs mean.

    Attributes:
        classes: In the order of the logits.
        positive: The class a screen looks for, or None.
        point: Temperature and threshold.
        data: Provenance: goes into the bundle as it is.
    """

    classes: tuple[str, ...]
    positive: str | None
    point: OperatingPoint
    data: Mapping[str, Any]


def as_shipped(weights: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """
    Round filters and matrices to half precision; the rest stays as it is.

    Vectors (norms and their statistics, biases) are a hundredth of the bytes, and variances may
    leave the range of half precision.
    """
    return {
        name: tensor.half() if tensor.is_floating_point() and tensor.dim() > 1 else tensor
        for name, tensor in weights.items()
    }


def display_names(classes: Sequence[str]) -> dict[str, str]:
    """Return what people read for C-NMC's two classes; nothing for classes of other data."""
    return CNMC_DISPLAY_NAMES if set(classes) == set(CNMC_DISPLAY_NAMES) else {}


def write_bundle_files(
    folder: Path,
    spec: NetworkSpec,
    weights: Mapping[str, Tensor],
    meaning: OutputMeaning,
    trust: Trust | None = None,
) -> ModelBundle:
    """
    Write a bundle, whole or not at all file by file, and load it back.

    Args:
        folder: Made if need be.
        spec: What ``timm.create_model`` builds, and what it expects.
        weights: State dict of that network, in the types it is to be stored in.
        meaning: Of its outputs.
        trust: How far to trust them; None where that was not measured.
    """
    screening = {
        "classes": list(meaning.classes),
        "display_names": display_names(meaning.classes),
        "positive": meaning.positive,
        "threshold": meaning.point.threshold,
        "temperature": meaning.point.temperature,
        "input": asdict(spec.input),
        "data": dict(meaning.data),
        "versions": {name: version(name) for name in ("torch", "timm")},
    }
    with TemporaryDirectory() as scratch:
        file = Path(scratch) / "model.safetensors"
        contiguous = {name: tensor.contiguous().cpu() for name, tensor in weights.items()}
        save_file(contiguous, file, metadata={"format": "pt"})
        config = _timm_config(spec, meaning.classes)
        return save_bundle(folder, config=config, weights=file, screening=screening, trust=trust)


def _timm_config(spec: NetworkSpec, classes: Sequence[str]) -> dict[str, Any]:
    """Build ``config.json`` in timm's hub layout."""
    expected = spec.input
    return {
        "architecture": spec.architecture,
        "num_classes": len(classes),
        "model_args": dict(spec.model_args),
        "pretrained_cfg": {
            "num_classes": len(classes),
            "label_names": list(classes),
            "input_size": [CHANNELS, expected.height, expected.width],
            "fixed_input_size": False,
            "interpolation": expected.filter,
            "crop_pct": expected.crop_pct,
            "crop_mode": expected.crop_mode,
            "mean": list(expected.mean),
            "std": list(expected.std),
            "license": spec.licence,
        },
    }
