"""
Built engines on disk: a plan and, beside it, a JSON record that says what it was built from.

The plan is written first and the record names its SHA-256, so a pair that does not belong
together, a plan cut short and a record of something else are all seen and never run.
"""

from __future__ import annotations

import hashlib
import json
from dataclasses import asdict, dataclass, fields
from typing import TYPE_CHECKING, Any, Self

from engines.errors import BackendMissingError, EngineBuildError
from engines.files import cache_folder, sha256_of_file, whole_file
from engines.tensorrt.runtime_cache import runtime_cache_path

if TYPE_CHECKING:
    from collections.abc import Mapping
    from pathlib import Path

    from engines.hardware.gpu import Device

__all__ = [
    "Engine",
    "EngineKey",
    "engines_folder",
    "find_engine",
    "list_engines",
    "read_engine",
    "remove_engine",
    "write_engine",
]

FORMAT = 2
SHA256_DIGITS = 64
SHOWN = 12  # digits of a digest that people see


@dataclass(frozen=True, slots=True, kw_only=True)
class EngineKey:
    """
    Everything that can change a plan.

    Attributes:
        weights_sha256: Of the bundle's weights.
        onnx_sha256: Of the exported model, types included.
        graph_version: Of the exporter.
        recipe: Of the builder's settings.
        precision: ``fp16``, ``bf16`` or ``fp32``.
        batch: Cells per inference.
        level: TensorRT's optimisation level.
        aux_streams: CUDA streams beside the main one at most; None: TensorRT's choice.
        variant: Of TensorRT.
        variant_version: The package's.
        gpu: Name of the GPU built on; None ahead of time.
        compute_capability: Likewise.
        driver: Likewise.
        targets: GPUs built for ahead of time (``sm_86``), sorted; none on a device.
    """

    weights_sha256: str
    onnx_sha256: str
    graph_version: int
    recipe: int
    precision: str
    batch: int
    level: int
    aux_streams: int | None
    variant: str
    variant_version: str
    gpu: str | None = None
    compute_capability: str | None = None
    driver: str | None = None
    targets: tuple[str, ...] = ()

    @property
    def digest(self) -> str:
        """The key's name: SHA-256 of all fields, in hex."""
        return hashlib.sha256(json.dumps(asdict(self), sort_keys=True).encode()).hexdigest()

    @property
    def short(self) -> str:
        """As much of the digest as people read."""
        return self.digest[:SHOWN]

    @property
    def made_for(self) -> str:
        """The GPU or GPUs, for a person."""
        return ", ".join(self.targets) or f"{self.gpu}, driver {self.driver}"

    @classmethod
    def from_record(cls, record: Mapping[str, Any]) -> Self:
        """Read a key back from JSON; a field too many or too few is a TypeError."""
        return cls(**{**record, "targets": tuple(record["targets"])})

    def differences(self, other: EngineKey) -> list[str]:
        """Say which fields differ from another key's, one phrase each."""
        pairs = {
            field.name: (getattr(other, field.name), getattr(self, field.name))
            for field in fields(self)
        }
        return [
            f"{name} was {_shown(before)}, is {_shown(now)}"
            for name, (before, now) in pairs.items()
            if before != now
        ]

    def takes(self, wanted: EngineKey, device: Device) -> bool:
        """Tell whether this ahead-of-time key serves one wanted for the GPU at hand."""
        place = ("gpu", "compute_capability", "driver", "targets")
        same = all(
            getattr(self, field.name) == getattr(wanted, field.name)
            for field in fields(self)
            if field.name not in place
        )
        return same and device.target in self.targets


@dataclass(frozen=True, slots=True)
class Engine:
    """
    A built engine.

    Attributes:
        path: Its plan.
        key: What it was built from.
        record: The JSON beside the plan: ``key``, ``plan``, ``types``, ``keep_fp32``, ``built``...
    """

    path: Path
    key: EngineKey
    record: Mapping[str, Any]

    @property
    def fault(self) -> str | None:
        """Why the plan is not the one its record describes, or None; reads the whole plan."""
        written = self.record["plan"]
        try:
            if self.path.stat().st_size != written["bytes"]:
                return f"its plan has {self.path.stat().st_size} bytes, not {written['bytes']}"
            if sha256_of_file(self.path) != written["sha256"]:
                return "its plan is damaged: another SHA-256 than was recorded"
        except OSError as error:
            return f"its plan cannot be read ({error.strerror})"
        return None


def _shown(value: Any) -> str:
    """Show a field to a person: hashes short, GPUs listed."""
    if isinstance(value, tuple):
        return " ".join(value) or "none"
    return value[:SHOWN] if isinstance(value, str) and len(value) == SHA256_DIGITS else str(value)


def engines_folder() -> Path:
    """Return where engines are kept, made if need be."""
    folder = cache_folder() / "engines"
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise BackendMissingError(
            f"cannot keep engines in {folder}: {error.strerror}",
            hint="set SLIDESCREEN_CACHE to a folder that can be written",
        ) from error
    return folder


def read_engine(record_path: Path) -> Engine:
    """
    Read a record; the plan is not looked at.

    Raises:
        ValueError: If it is not a record of this version.
    """
    try:
        record = json.loads(record_path.read_text(encoding="utf-8"))
        key = EngineKey.from_record(record["key"])
        _ = {FORMAT: "the format we read"}[record["format"]]
        _ = record["plan"]["bytes"], record["plan"]["sha256"]
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise ValueError(f"its record cannot be used ({error})") from error
    return Engine(record_path.with_suffix(".plan"), key, record)


def write_engine(key: EngineKey, plan: bytes, facts: Mapping[str, Any]) -> Engine:
    """Write the plan, then its record."""
    path = engines_folder() / f"{key.digest}.plan"
    record = {
        "format": FORMAT,
        "key": asdict(key),
        "plan": {"bytes": len(plan), "sha256": hashlib.sha256(plan).hexdigest()},
        **facts,
    }
    with whole_file(path) as scratch:
        scratch.write_bytes(plan)
    with whole_file(path.with_suffix(".json")) as scratch:
        scratch.write_text(json.dumps(record, indent=1), encoding="utf-8")
    return read_engine(path.with_suffix(".json"))


def list_engines() -> list[Engine]:
    """Return every engine whose record can be read, the newest first."""
    found = []
    for path in engines_folder().glob("*.json"):
        try:
            found.append(read_engine(path))
        except ValueError:
            continue
    return sorted(found, key=lambda engine: engine.record.get("built", ""), reverse=True)


def find_engine(prefix: str) -> Engine:
    """
    Find an engine by the beginning of its key's digest.

    Raises:
        EngineBuildError: If none begins so, or several.
    """
    found = [engine for engine in list_engines() if engine.path.stem.startswith(prefix)]
    if len(found) == 1:
        return found[0]
    if not found:
        raise EngineBuildError(
            f"no engine's key begins with {prefix!r}", hint="slidescreen engine list shows them"
        )
    keys = ", ".join(engine.path.stem[:SHOWN] for engine in found)
    raise EngineBuildError(f"{prefix!r} begins several keys: {keys}", hint="give more digits")


def remove_engine(engine: Engine) -> None:
    """Delete the record, then the plan and what was compiled from it."""
    engine.path.with_suffix(".json").unlink(missing_ok=True)
    engine.path.unlink(missing_ok=True)
    runtime_cache_path(engine.path).unlink(missing_ok=True)
