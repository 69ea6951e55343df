"""Begin a run, or go on with one: settle, plan, check, and only then write the first file."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from os import fsencode
from typing import TYPE_CHECKING, Any

from engines.errors import ResultsError
from engines.hardware.machine import machine
from engines.sources.folder import escaped
from screen.options import RunOptions, Settings, settle
from screen.results.cell_rows import Judge
from screen.results.folder import ResultsFolder, writing
from screen.results.plan import Fingerprint, Plan, plan_source, read_plan
from screen.runners.finish import trust_record
from screen.runners.session import Job, committed_parts, now
from screen.runners.startup_check import Opener, Stages

if TYPE_CHECKING:
    from pathlib import Path

    from engines.models.bundle import ModelBundle
    from engines.runtime.base import BuildProgress
    from engines.sources import Source

__all__ = ["begin"]


def begin(
    options: RunOptions,
    bundle: ModelBundle,
    source: Source,
    results: ResultsFolder,
    progress: BuildProgress | None = None,
) -> Job:
    """
    Begin a run, or go on with the same one; the caller holds the lock.

    Where an engine has to be built first, *progress* is told of it.

    Raises:
        ResultsError: If the folder belongs to another run.
    """
    beginning = Beginning(options, bundle, source, results, progress)
    if options.restart:
        return beginning.anew(results.discardable())
    earlier = results.read_run()
    if earlier is None:
        return beginning.anew(results.leftovers())
    return beginning.again(earlier)


@dataclass(frozen=True, slots=True)
class Beginning:
    """What is known before anything is settled."""

    options: RunOptions
    bundle: ModelBundle
    source: Source
    results: ResultsFolder
    progress: BuildProgress | None

    @property
    def _judge(self) -> Judge:
        """Say what rows are judged by."""
        return Judge(self.bundle, self.options.coverage)

    def anew(self, discard: list[Path]) -> Job:
        """List the source, check what will run, *discard* files, and write plan and run.json."""
        settings = settle(self.options)
        plan = plan_source(self.source, self.options.slide, settings.shard_cells.value)
        stages = self._opener(plan).open(settings, may_fall_back=True)
        fingerprint = self._fingerprint(plan, stages.settings)
        record = self._first_record(plan, fingerprint, stages)
        with writing(self.results.path):
            for path in discard:
                path.unlink()
            self.results.cells.mkdir(exist_ok=True)
        plan.write(self.results.plan, fingerprint.metadata)
        self.results.write_run(record)
        return Job(
            results=self.results,
            judge=self._judge,
            thresholds=self.options.thresholds,
            plan=plan,
            fingerprint=fingerprint,
            done={},
            stages=stages,
            record=record,
        )

    def again(self, earlier: dict[str, Any]) -> Job:
        """Check that this is the same run, and find what is left of it."""
        settings = Settings.from_record(earlier["choices"])
        if contradiction := settings.contradiction(self.options):
            raise _other_run(self.results, *contradiction)
        plan = read_plan(self.results)
        fingerprint = self._fingerprint(plan, settings)
        _refuse_difference(earlier["fingerprint"], fingerprint, self.results)
        done = committed_parts(self.results, plan, fingerprint)
        stages = None
        if len(done) < plan.shard_count:
            stages = self._stages_again(plan, settings.again(self.options), earlier)
            earlier |= {"choices": stages.settings.record(), "parity": stages.verdict}
            earlier |= {"engine": stages.runtime.version, "decoder": stages.decoder.version}
            earlier |= {
                "rates": {**earlier["rates"], **stages.rates},
                **machine(),
            }
            self.results.write_run(earlier)
        return Job(
            results=self.results,
            judge=self._judge,
            thresholds=self.options.thresholds,
            plan=plan,
            fingerprint=fingerprint,
            done=done,
            stages=stages,
            record=earlier,
        )

    def _stages_again(self, plan: Plan, settings: Settings, earlier: dict[str, Any]) -> Stages:
        """Open stages; a verdict measured on this machine with these versions still holds."""
        verdict = earlier["parity"]
        same = all(verdict.get(key) == value for key, value in machine().items())
        if same and verdict["verdict"] == "agrees":
            stages = self._opener(plan).reopen(settings, verdict, earlier["rates"])
            if stages.runtime.version == earlier["engine"]:
                return stages
        return self._opener(plan).open(settings, may_fall_back=False)

    def _opener(self, plan: Plan) -> Opener:
        """Say what stages are opened for."""
        return Opener(self.options, self.bundle, self.source, plan, self.progress)

    def _fingerprint(self, plan: Plan, settings: Settings) -> Fingerprint:
        """Put together what can change a row."""
        return Fingerprint(
            source=self.source.location,
            bundle=self.bundle.sha256,
            plan=plan.digest,
            slide_rule=self.options.slide.text,
            shard_cells=settings.shard_cells.value,
            decoder=settings.decoder.value,
            decode_on=settings.decode_on.value,
            max_pixels=self.options.max_pixels,
            runtime=settings.runtime.value,
            precision=settings.precision.value,
            batch=settings.batch.value,
            coverage=self.options.coverage,
        )

    def _first_record(self, plan: Plan, fingerprint: Fingerprint, stages: Stages) -> dict[str, Any]:
        """Return run.json as it stands when streaming starts."""
        return {
            "state": "running",
            "fingerprint": {"digest": fingerprint.digest, **asdict(fingerprint)},
            "choices": stages.settings.record(),
            "model": _model_record(self.bundle),
            "decoder": stages.decoder.version,
            "engine": stages.runtime.version,
            "parity": stages.verdict,
            "rates": {**stages.rates, "end_to_end": None},
            "source": {"other_files": plan.ignored, "examples": list(plan.examples)},
            "trust": trust_record(self._judge),
            "flags": asdict(self.options.thresholds),
            "drift": None,
            "warnings": [],
            "started": now(),
            "finished": None,
            **machine(),
        }


def _refuse_difference(earlier: dict[str, Any], asked: Fingerprint, results: ResultsFolder) -> None:
    """Raise ResultsError, naming what differs, unless this is the run that began here."""
    for name, value in asdict(asked).items():
        if earlier.get(name) != value:
            raise _other_run(results, name, earlier.get(name), value)


def _other_run(results: ResultsFolder, name: str, begun: Any, asked: Any) -> ResultsError:
    """Name the field in which two runs differ."""
    return ResultsError(
        f"{results.path} was begun with {name} {begun}, not {asked}",
        hint="choose a new --out, or pass --restart to discard it",
    )


def _model_record(bundle: ModelBundle) -> dict[str, Any]:
    """Say which model, in full."""
    return {
        "sha256": bundle.sha256,
        "folder": escaped(fsencode(bundle.folder)),
        "architecture": bundle.architecture,
        "classes": list(bundle.classes),
        "display_names": dict(bundle.display_names),
        "positive": bundle.positive,
        "threshold": bundle.threshold,
        "temperature": bundle.temperature,
        "input": {
            "height": bundle.input.height,
            "width": bundle.input.width,
            "fit": bundle.input.fit,
        },
        "data": dict(bundle.data),
    }
