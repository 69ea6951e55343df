"""
A model bundle: weights, what the model expects of its input, and what its outputs mean.

A folder of files that together name the model::

    config.json         timm's hub layout: timm.create_model("local-dir:PATH", pretrained=True)
    model.safetensors   the weights
    screening.json      classes, operating point, calibration, provenance, the others' SHA-256
    trust.safetensors   how far to trust its scores (see ``engines.uncertainty``); may be missing
"""

from __future__ import annotations

import hashlib
import json
import math
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from engines.errors import BundleError
from engines.files import read_json, read_regular, sha256_of_file, whole_file
from engines.models.architecture import refusal
from engines.models.bundle_records import Screening, TimmConfig
from engines.models.input import CHANNELS, ModelInput

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from engines.uncertainty.fitted import Trust

__all__ = [
    "DEFAULT_BUNDLE",
    "FORMAT",
    "ModelBundle",
    "save_bundle",
    "with_half",
    "with_operating_point",
    "with_trust",
]

FORMAT = 1
DEFAULT_BUNDLE = Path(__file__).parent / "default"
CONFIG, WEIGHTS, SCREENING = "config.json", "model.safetensors", "screening.json"
TRUST = "trust.safetensors"
MOST_CLASSES = 1000
MOST_TRUST_BYTES = 2**30  # 24 bytes a held-out cell of two classes


@dataclass(frozen=True, slots=True, kw_only=True)
class ModelBundle:
    """
    A loaded bundle.

    Attributes:
        folder: Where it lies.
        sha256: Over the files: the model's name everywhere.
        architecture: timm's name.
        model_args: Further arguments of ``timm.create_model``.
        classes: In the order of the logits; columns of tables are named after them.
        display_names: What people read for each class, "leukaemic blast (all)" for ``all``; where
            the bundle gives none, the class itself.
        positive: The class a screen looks for, or None.
        threshold: ``positive`` is called at this calibrated probability or above; None without one.
        temperature: Logits are divided by it before softmax.
        input: What the model expects.
        data: Provenance as written by whoever trained it.
        trust: How far to trust its scores; None where that was never fitted.
        half: By half precision, which modules it leaves to float32, as
            ``engines.mixed_precision.policy`` found when the model was made; empty where nobody
            looked.
    """

    folder: Path
    sha256: str
    architecture: str
    model_args: Mapping[str, Any] = field(default_factory=dict)
    classes: tuple[str, ...]
    display_names: Mapping[str, str] = field(default_factory=dict)
    positive: str | None
    threshold: float | None
    temperature: float
    input: ModelInput
    data: Mapping[str, Any] = field(default_factory=dict)
    trust: Trust | None = None
    half: Mapping[str, Mapping[str, Any]] = field(default_factory=dict)

    def __post_init__(self) -> None:
        """Refuse a bundle whose meaning is unclear."""
        _require_names(self.classes)
        object.__setattr__(self, "display_names", self._all_display_names())
        if self.positive is not None and self.positive not in self.classes:
            raise ValueError(f"positive class {self.positive!r} is not among {list(self.classes)}")
        if (self.positive is None) != (self.threshold is None):
            raise ValueError("a positive class and a threshold come together or not at all")
        if self.threshold is not None and not 0 < self.threshold < 1:
            raise ValueError(f"threshold must lie between 0 and 1, got {self.threshold}")
        if not 0 < self.temperature < math.inf:
            raise ValueError(f"temperature must be positive, got {self.temperature}")
        if not isinstance(self.data.get("training_subjects") or [], list | tuple):
            raise ValueError("data.training_subjects must be a list of names")  # noqa: TRY004

    def _all_display_names(self) -> dict[str, str]:
        """Return words for every class, refusing words that are of no class or of several."""
        given = {str(name): str(words).strip() for name, words in self.display_names.items()}
        if unknown := sorted(given.keys() - set(self.classes)):
            raise ValueError(f"display_names names {unknown}, not among {list(self.classes)}")
        names = {name: given.get(name) or name for name in self.classes}
        if len(set(names.values())) != len(names):
            raise ValueError(f"display_names must differ from class to class, got {names}")
        return names

    @property
    def training_subjects(self) -> frozenset[str]:
        """The people it was trained on, in capitals, as far as ``data`` names them."""
        named = self.data.get("training_subjects")
        return frozenset(str(name).upper() for name in named or ())

    @property
    def weights(self) -> Path:
        """The safetensors file."""
        return self.folder / WEIGHTS

    @classmethod
    def load(cls, folder: Path) -> ModelBundle:
        """
        Read and check a bundle.

        Raises:
            BundleError: If a file is missing, damaged, or contradicts another.
        """
        config = _read_json(folder / CONFIG)
        screening = _read_json(folder / SCREENING)
        _check_format(folder, screening)
        weights_sha256 = _weights_sha256(folder / WEIGHTS)
        if screening.get("weights_sha256") != weights_sha256:
            raise BundleError(
                f"{folder / WEIGHTS} is not the file that {SCREENING} was written for",
                hint="copy the whole bundle again, all of its files",
            )
        try:
            return _bundle_from_records(folder, TimmConfig.of(config), Screening.of(screening))
        except ValueError as error:
            raise BundleError(
                f"the bundle {folder} is not valid: {error}", hint=f"mend {SCREENING} or {CONFIG}"
            ) from error


def _require_names(classes: Sequence[str]) -> None:
    """Raise ValueError unless classes are names, not too many, that differ."""
    if not 0 < len(classes) <= MOST_CLASSES:
        raise ValueError(f"there must be 1 to {MOST_CLASSES:,} classes, got {len(classes):,}")
    named = {name for name in classes if isinstance(name, str) and name.strip()}
    if len(named) != len(classes):
        raise ValueError(f"classes must be names that differ, got {list(classes)}")


def save_bundle(
    folder: Path,
    *,
    config: Mapping[str, Any],
    weights: Path,
    screening: Mapping[str, Any],
    trust: Trust | None = None,
) -> ModelBundle:
    """
    Write a bundle and load it back.

    Args:
        folder: Made if need be; the bundle's files in it are replaced.
        config: timm's ``config.json`` (architecture, num_classes, model_args, pretrained_cfg).
        weights: A safetensors file; its bytes are copied.
        screening: ``screening.json`` without ``format`` and the hashes, added here.
        trust: How far to trust its scores, if that is known.
    """
    folder.mkdir(parents=True, exist_ok=True)
    record = {"format": FORMAT, **screening, "weights_sha256": sha256_of_file(weights)}
    record |= _write_trust(folder, trust)
    with whole_file(folder / WEIGHTS) as scratch:
        scratch.write_bytes(weights.read_bytes())
    _write_json(folder / CONFIG, config)
    return _with_screening(folder, record)


def with_trust(bundle: ModelBundle, trust: Trust, measured: Mapping[str, Any]) -> ModelBundle:
    """
    Replace what a bundle knows of its own limits, and load it back.

    Args:
        bundle: Its folder is written to; its hash changes.
        trust: What is applied.
        measured: How well that was found to work: goes into ``data`` as ``trust``.
    """
    record = _read_json(bundle.folder / SCREENING) | _write_trust(bundle.folder, trust)
    record["data"] = {**record.get("data", {}), "trust": dict(measured)}
    return _with_screening(bundle.folder, record)


def with_operating_point(
    bundle: ModelBundle, temperature: float, threshold: float | None, data: Mapping[str, Any]
) -> ModelBundle:
    """Replace what turns logits into calls, and ``data``, and load the bundle back."""
    moved = {"temperature": temperature, "threshold": threshold, "data": dict(data)}
    return _with_screening(bundle.folder, _read_json(bundle.folder / SCREENING) | moved)


def with_half(bundle: ModelBundle, half: Mapping[str, Mapping[str, Any]]) -> ModelBundle:
    """Replace what a bundle knows of half precisions, and load it back; its hash changes."""
    record = _read_json(bundle.folder / SCREENING)
    return _with_screening(bundle.folder, {**record, "half": dict(half)})


def _with_screening(folder: Path, record: Mapping[str, Any]) -> ModelBundle:
    """Replace screening.json, and load the bundle back."""
    _write_json(folder / SCREENING, record)
    return ModelBundle.load(folder)


def _write_json(path: Path, record: Mapping[str, Any]) -> None:
    """Write one of the bundle's records, whole or not at all."""
    with whole_file(path) as scratch:
        scratch.write_text(json.dumps(record, indent=2) + "\n", encoding="utf-8")


def _write_trust(folder: Path, trust: Trust | None) -> dict[str, str]:
    """Write trust.safetensors, or take an older one away; return its hash for screening.json."""
    if trust is None:
        (folder / TRUST).unlink(missing_ok=True)
        return {}
    data = trust.to_bytes()
    with whole_file(folder / TRUST) as scratch:
        scratch.write_bytes(data)
    return {"trust_sha256": hashlib.sha256(data).hexdigest()}


def _read_trust(folder: Path, screening: Screening) -> Trust | None:
    """Read what screening.json names, and nothing else."""
    if screening.trust_sha256 is None:
        return None
    from engines.uncertainty.fitted import Trust  # numpy: not for those who only ask for help

    try:
        data = read_regular(folder / TRUST, MOST_TRUST_BYTES)
    except OSError as error:
        raise ValueError(f"cannot read {TRUST} ({error.strerror})") from error
    if hashlib.sha256(data).hexdigest() != screening.trust_sha256:
        raise ValueError(f"{TRUST} is not the file that {SCREENING} was written for")
    return Trust.from_bytes(data, len(screening.classes))


def _bundle_from_records(folder: Path, config: TimmConfig, screening: Screening) -> ModelBundle:
    """Join what the two records say, refusing contradictions."""
    bundle = ModelBundle(
        folder=folder,
        sha256=_bundle_sha256(folder, screening.weights_sha256),
        architecture=config.architecture,
        model_args=config.model_args,
        classes=screening.classes,
        display_names=screening.display_names,
        positive=screening.positive,
        threshold=screening.threshold,
        temperature=screening.temperature,
        input=screening.input,
        data=screening.data,
        half=screening.half,
    )
    if reason := refusal(bundle.architecture, bundle.model_args):
        raise ValueError(reason)
    _check_agreement(bundle, config)
    return replace(bundle, trust=_read_trust(folder, screening))


def _check_agreement(bundle: ModelBundle, config: TimmConfig) -> None:
    """Timm must see the input and the classes that screening.json names."""
    seen, expected = config.pretrained_cfg, bundle.input
    pairs = {
        "num_classes": (config.num_classes, len(bundle.classes)),
        "input_size": (seen.input_size, (CHANNELS, expected.height, expected.width)),
        "mean": (seen.mean, expected.mean),
        "std": (seen.std, expected.std),
        "interpolation": (seen.interpolation, expected.filter),
        "crop_pct": (seen.crop_pct, expected.crop_pct),
        "crop_mode": (seen.crop_mode, expected.crop_mode),
    }
    for name, (timm_says, screening_says) in pairs.items():
        if timm_says != screening_says:
            raise ValueError(f"{name} is {timm_says} in {CONFIG}, {screening_says} in {SCREENING}")


def _check_format(folder: Path, screening: Mapping[str, Any]) -> None:
    """Refuse a bundle of another format than this version reads."""
    if screening.get("format") != FORMAT:
        raise BundleError(
            f"the bundle {folder} has format {screening.get('format')!r}, not {FORMAT}",
            hint="use the slidescreen version it was written with, or write it again",
        )


def _read_json(path: Path) -> dict[str, Any]:
    """Read one of the bundle's records."""
    try:
        record = read_json(path)
    except OSError as error:
        raise BundleError(
            f"{path.parent} is not a model bundle: cannot read {path.name} ({error.strerror})",
            hint=f"a bundle is a folder with {CONFIG}, {WEIGHTS} and {SCREENING}",
        ) from error
    except ValueError as error:
        raise BundleError(f"{path} is not JSON: {error}") from error
    if not isinstance(record, dict):
        raise BundleError(f"{path} does not hold a JSON object")
    return record


def _weights_sha256(path: Path) -> str:
    """Hash the weights, saying so when they are not there."""
    try:
        return sha256_of_file(path)
    except OSError as error:
        raise BundleError(
            f"cannot read {path} ({error.strerror})", hint="copy the whole bundle again"
        ) from error


def _bundle_sha256(folder: Path, weights_sha256: str) -> str:
    """Hash the three files, each by its own hash; screening.json holds the hash of the fourth."""
    hashes = [sha256_of_file(folder / CONFIG), weights_sha256, sha256_of_file(folder / SCREENING)]
    return hashlib.sha256("\n".join(hashes).encode()).hexdigest()
