"""The two JSON records of a bundle, every value of theirs that is used checked against its type."""

# ruff: noqa: TC001, TC003  (these hints are evaluated when a record is read)

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, fields
from typing import TYPE_CHECKING, Any, TypeVar

from engines.json_records import record_from_json
from engines.models.input import ModelInput

if TYPE_CHECKING:
    from typing import Self

__all__ = ["Screening", "TimmConfig", "TimmInput"]

T = TypeVar("T")


@dataclass(frozen=True, slots=True, kw_only=True)
class TimmInput:
    """What timm is told of the network's input, in its own terms; ``ModelInput`` is ours."""

    input_size: tuple[int, int, int]
    mean: tuple[float, ...]
    std: tuple[float, ...]
    interpolation: str
    crop_pct: float
    crop_mode: str


@dataclass(frozen=True, slots=True, kw_only=True)
class TimmConfig:
    """
    What slidescreen reads of config.json.

    Attributes:
        architecture: timm's name.
        num_classes: As screening.json says, too.
        pretrained_cfg: The input, as screening.json says, too.
        model_args: Further arguments of ``timm.create_model``.
    """

    architecture: str
    num_classes: int
    pretrained_cfg: TimmInput
    model_args: Mapping[str, Any] = field(default_factory=dict)

    @classmethod
    def of(cls, record: Mapping[str, Any]) -> Self:
        """
        Read it; what only timm knows is left aside.

        Raises:
            ValueError: If something is missing or of another type.
        """
        seen = record.get("pretrained_cfg")
        known = _known(TimmInput, seen) if isinstance(seen, dict) else seen
        return record_from_json(cls, {**_known(cls, record), "pretrained_cfg": known})


@dataclass(frozen=True, slots=True, kw_only=True)
class Screening:
    """
    What slidescreen reads of screening.json; see ``ModelBundle``.

    Attributes:
        weights_sha256: Of model.safetensors, in hex.
        trust_sha256: Of trust.safetensors; None where there is none.
    """

    weights_sha256: str
    classes: tuple[str, ...]
    positive: str | None
    threshold: float | None
    temperature: float
    input: ModelInput
    display_names: Mapping[str, str] = field(default_factory=dict)
    data: Mapping[str, Any] = field(default_factory=dict)
    half: Mapping[str, Mapping[str, Any]] = field(default_factory=dict)
    trust_sha256: str | None = None

    @classmethod
    def of(cls, record: Mapping[str, Any]) -> Self:
        """
        Read it; further fields are left aside.

        Raises:
            ValueError: If something is missing or of another type.
        """
        return record_from_json(cls, _known(cls, record))


def _known(kind: type, record: Mapping[str, Any]) -> dict[str, Any]:
    """Return the fields of a record that *kind* has."""
    names = {each.name for each in fields(kind)}
    return {name: value for name, value in record.items() if name in names}
