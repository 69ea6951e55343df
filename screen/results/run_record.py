"""
run.json: what ran, as frozen dataclasses.

Everything that writes or reads run.json does it through these, and so no other module spells one of
its keys: the names of the fields are the keys.
"""

# ruff: noqa: TC001, TC003  (these hints are evaluated when run.json is read)

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from datetime import UTC, datetime
from os import fsencode
from typing import TYPE_CHECKING, Any, Literal

from engines.errors import ResultsError
from engines.files import read_json
from engines.hardware.machine import Machine
from engines.json_records import JsonRecordError, record_from_json, record_to_json
from engines.locations import storage_errors
from engines.models.input import FieldCentres, ModelInput
from engines.parity import PixelAgreement, ScoreAgreement
from engines.sources.names import escaped, printable
from engines.uncertainty.drift import Verdict
from screen.options import Settings
from screen.results.fingerprint import Fingerprint
from screen.results.tables import AWAY_HINT
from screen.summary.flags import Thresholds

if TYPE_CHECKING:
    from engines.locations import Location
    from engines.models.bundle import ModelBundle

__all__ = [
    "ClassCoverage",
    "Counts",
    "DriftRecord",
    "ModelRecord",
    "ParityRecord",
    "Rates",
    "RunRecord",
    "SourceRecord",
    "TrustRecord",
    "WorkerRecord",
    "now",
    "read_run_json",
]

FORMAT = 1


@dataclass(frozen=True, slots=True, kw_only=True)
class ModelRecord:
    """
    Which model, with all that is needed to read its scores; see ``ModelBundle`` for the fields.

    Attributes:
        folder: Where the bundle was, bytes that are not UTF-8 escaped.
        evidence: Where in the input the places of an evidence map look; None if that is not known.
        data: What the bundle says of its training data.
    """

    sha256: str
    folder: str
    architecture: str
    classes: tuple[str, ...]
    display_names: Mapping[str, str]
    positive: str | None
    threshold: float | None
    temperature: float
    input: ModelInput
    evidence: FieldCentres | None
    data: Mapping[str, Any]

    @classmethod
    def of(cls, bundle: ModelBundle) -> ModelRecord:
        """Describe a bundle."""
        from engines.models.receptive_field import field_centres  # torch: not for readers

        return cls(
            sha256=bundle.sha256,
            folder=escaped(fsencode(bundle.folder)),
            architecture=bundle.architecture,
            classes=bundle.classes,
            display_names=dict(bundle.display_names),
            positive=bundle.positive,
            threshold=bundle.threshold,
            temperature=bundle.temperature,
            input=bundle.input,
            evidence=field_centres(bundle),
            data=dict(bundle.data),
        )


@dataclass(frozen=True, slots=True, kw_only=True)
class ParityRecord:
    """
    How what ran agrees with Pillow and with FP32 PyTorch on cells of the source.

    Attributes:
        verdict: Whether it agrees; what does not agree never runs.
        why: Why it was not measured; empty if it was.
        pixels: The decoder against Pillow; None where Pillow decoded none of the cells.
        scores: The runtime against PyTorch.
        machine: Where it was measured.
        versions: Of the packages with which it was.
    """

    verdict: Literal["agrees", "not measured"]
    why: str = ""
    pixels: PixelAgreement | None = None
    scores: ScoreAgreement | None = None
    machine: Machine
    versions: Mapping[str, str | None]

    def __str__(self) -> str:
        """One line for a person."""
        if self.scores is None:
            return f"{self.verdict}, {self.why}"
        return (
            f"{self.verdict} with FP32 PyTorch on {self.scores.cells} of your cells, "
            f"probabilities to {self.scores.max_dp:.2g}, {self.scores.flips} labels flipped"
        )


@dataclass(frozen=True, slots=True, kw_only=True)
class Rates:
    """
    Cells per second; None where it was not measured.

    Attributes:
        decode: Of decoding alone, on the cells of the parity check.
        runtime: Of the model alone, on the same cells.
        end_to_end: Of the whole stream, results written, in the last start that screened any.
    """

    decode: float | None
    runtime: float | None
    end_to_end: float | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class SourceRecord:
    """
    The source of the cells.

    Attributes:
        locations: Where it was at the last start: what opens it again.
        other_files: How many files in it are no cells.
        examples: The names of some of those.
    """

    locations: tuple[str, ...]
    other_files: int
    examples: tuple[str, ...]

    @property
    def location(self) -> str:
        """The same for people."""
        return ", ".join(self.locations)


@dataclass(frozen=True, slots=True, kw_only=True)
class ClassCoverage:
    """
    On how much the prediction sets of one class rest.

    Attributes:
        cells: Held-out cells of it.
        subjects: People whom these are of.
        measured: How often a set held the class when its own person was left out; None if that
            cannot be told.
        guaranteed: The least that is certain for a new person; None if nothing is.
    """

    cells: int
    subjects: int
    measured: float | None
    guaranteed: float | None


@dataclass(frozen=True, slots=True, kw_only=True)
class TrustRecord:
    """
    What prediction sets and p-values rest on.

    Attributes:
        available: Whether the bundle has data for them.
        why: On what they rest, or why there are none.
        coverage: How often a set is to hold the true class; None without data. Likewise below.
        classes: By class.
        ood: What the distance from training is.
    """

    available: bool
    why: str
    coverage: float | None = None
    classes: Mapping[str, ClassCoverage] = field(default_factory=dict)
    ood: str | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class DriftRecord:
    """
    Whether the run as a whole looks like training; see ``engines.uncertainty.drift``.

    Attributes:
        measured: Whether it could be told; if not, the numbers are None.
        sentence: The same in plain words.
    """

    measured: bool
    value: float | None = None
    features: float | None = None
    colour: float | None = None
    p: float | None = None
    slides: int = 0
    verdict: Verdict | Literal["not measured"] = "not measured"
    sentence: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Counts:
    """
    How many cells of which kind, slides and other files; None where the model cannot tell.

    Attributes:
        ok: Cells scored; with the next three all cells.
        unmatched: Cells that the slide rule did not match.
        duplicates: Cells whose file is the same as an earlier cell's.
        flagged: Slides to look at.
    """

    cells: int
    slides: int
    ok: int
    unreadable: int
    undecodable: int
    oversized: int
    unmatched: int
    other_files: int
    abstained: int | None
    out_of_distribution: int | None
    flagged: int
    duplicates: int

    @property
    def bad(self) -> int:
        """How many cells could not be scored."""
        return self.cells - self.ok


@dataclass(frozen=True, slots=True, kw_only=True)
class WorkerRecord:
    """
    One of several processes that screened a run.

    Attributes:
        name: Of the part or the worker.
        machine: Where it ran, and on which GPU.
        threads: Processor threads.
        versions: Of packages there.
        parity: How what ran there agrees with the reference.
        rates: Cells per second there.
        shards: How many shards it wrote.
        cells: Of how many cells.
        bad: How many of these could not be scored.
        started: When it began to screen, UTC, ISO 8601.
        finished: When it ended.
    """

    name: str
    machine: Machine
    threads: int
    versions: Mapping[str, str | None]
    parity: ParityRecord
    rates: Rates
    shards: int
    cells: int
    bad: int
    started: str
    finished: str


@dataclass(frozen=True, slots=True, kw_only=True)
class RunRecord:
    """
    run.json.

    Attributes:
        state: ``running`` until every table is written.
        fingerprint: What makes it this run.
        choices: What ran, each with its reason.
        model: Which model.
        decoder: The decoder's name and version.
        runtime: Likewise.
        parity: Against the reference.
        rates: Cells per second.
        source: Where the cells are, and what else is there.
        trust: What prediction sets and p-values rest on.
        flags: From where slides are flagged.
        started: When it began, UTC, ISO 8601.
        machine: Where it ran, at its last start.
        versions: Of packages, at its last start; None for one that is not installed.
        drift: Whether the run looks like training; None until the run is done. Likewise below.
        counts: How many of what.
        warnings: What a reader must know before any score.
        decoded_by: How many cells each codec decoded.
        finished: When it ended.
        workers: What screened it, where several processes did.
    """

    state: Literal["running", "done"] = "running"
    fingerprint: Fingerprint
    choices: Settings
    model: ModelRecord
    decoder: str
    runtime: str
    parity: ParityRecord
    rates: Rates
    source: SourceRecord
    trust: TrustRecord
    flags: Thresholds
    started: str
    machine: Machine
    versions: Mapping[str, str | None]
    drift: DriftRecord | None = None
    counts: Counts | None = None
    warnings: tuple[str, ...] = ()
    decoded_by: Mapping[str, int] = field(default_factory=dict)
    finished: str | None = None
    workers: tuple[WorkerRecord, ...] = ()

    def __post_init__(self) -> None:
        """Refuse a record that lacks what its readers rely on."""
        if self.versions.get("slidescreen") is None:
            raise ValueError("versions does not say which slidescreen it was")
        if self.state == "done" and None in (self.counts, self.drift, self.finished):
            raise ValueError("it is done, but lacks counts, drift or finished")

    @property
    def choice_lines(self) -> list[str]:
        """What was chosen and why, and how it agrees with the reference, a line each."""
        lines = [
            f"{name}: {choice['value']} ({choice['reason']})"
            for name, choice in asdict(self.choices).items()
        ]
        return [printable(line) for line in [*lines, f"parity: {self.parity}"]]

    def to_json(self) -> dict[str, Any]:
        """Return the object that run.json holds."""
        record = record_to_json(self)
        record["fingerprint"] = {"digest": self.fingerprint.digest, **record["fingerprint"]}
        return {"format": FORMAT, **record}

    @classmethod
    def from_json(cls, value: Any, path: Location) -> RunRecord:
        """
        Read what ``json.loads`` returned of the file *path*.

        Raises:
            ResultsError: If it is damaged, or is no run.json of this version.
        """
        ours = isinstance(value, dict) and {"format", "fingerprint"} <= value.keys()
        if not ours or value["format"] != FORMAT:
            raise ResultsError(
                f"{path} was not written by this version of slidescreen", hint=AWAY_HINT
            )
        try:
            return cls._from_fields(
                {name: each for name, each in value.items() if name != "format"}
            )
        except JsonRecordError as error:
            raise ResultsError(f"{path} is damaged: {error}", hint=AWAY_HINT) from error

    @classmethod
    def _from_fields(cls, value: dict[str, Any]) -> RunRecord:
        """Make the record; the digest that is written must be that of the fields beside it."""
        fingerprint = value.get("fingerprint")
        if not isinstance(fingerprint, dict):
            raise JsonRecordError("fingerprint is not an object")
        others = {name: each for name, each in fingerprint.items() if name != "digest"}
        record = record_from_json(cls, {**value, "fingerprint": others})
        if fingerprint.get("digest") != record.fingerprint.digest:
            raise JsonRecordError("fingerprint.digest is not that of the fields beside it")
        return record


def read_run_json(path: Location) -> RunRecord | None:
    """
    Return run.json, or None if there is none.

    Raises:
        ResultsError: If it cannot be read, is damaged, or is not ours.
    """
    try:
        with storage_errors():
            value = read_json(path)
    except FileNotFoundError:
        return None
    except (OSError, ValueError) as error:
        raise ResultsError(f"cannot read {path}: {error}", hint=AWAY_HINT) from error
    return RunRecord.from_json(value, path)


def now() -> str:
    """Return the time as run.json writes it: UTC, to the second."""
    return datetime.now(UTC).isoformat(timespec="seconds")
