"""Begin a run, or go on with one: settle, plan, check, and only then write the first file."""

from __future__ import annotations

from dataclasses import asdict, dataclass, replace
from typing import TYPE_CHECKING, Any

from engines.errors import ResultsError
from engines.hardware.machine import package_versions, this_machine
from screen.options import RunOptions, Settings, settle
from screen.results.cell_uncertainty import Uncertainty
from screen.results.discard import discardable, leftovers
from screen.results.fingerprint import Fingerprint
from screen.results.parts import committed_parts
from screen.results.plan import Plan, plan_source, read_plan
from screen.results.run_record import ModelRecord, RunRecord, SourceRecord, now
from screen.results.tables import writing
from screen.runners.finish import trust_record
from screen.runners.session import Job
from screen.runners.startup_check import Opener, Stages

if TYPE_CHECKING:
    from pathlib import Path

    from engines.models.bundle import ModelBundle
    from engines.runtime.base import BuildProgress
    from engines.sources import Source
    from screen.results.folder import ResultsFolder

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
        return beginning.anew(discardable(results))
    earlier = results.read_run()
    if earlier is None:
        return beginning.anew(leftovers(results))
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
    def _uncertainty(self) -> Uncertainty:
        """Say what rows are judged by."""
        return Uncertainty(self.bundle, self.options.coverage)

    def anew(self, discard: list[Path]) -> Job:
        """List the source, check what will run, *discard* files, and write plan and run.json."""
        settings = settle(self.options)
        plan = plan_source(self.source, self.options.slide, settings.shard_cells.value)
        stages = self._opener(plan).open(settings, may_fall_back=True)
        fingerprint = self._fingerprint(stages.settings)
        record = self._first_record(plan, fingerprint, stages)
        with writing(self.results.path):
            for path in discard:
                path.unlink()
            self.results.cells.mkdir(exist_ok=True)
        plan.write(self.results.plan, fingerprint.metadata)
        self.results.write_run(record)
        return Job(
            results=self.results,
            uncertainty=self._uncertainty,
            thresholds=self.options.thresholds,
            plan=plan,
            fingerprint=fingerprint,
            done={},
            stages=stages,
            record=record,
        )

    def again(self, earlier: RunRecord) -> Job:
        """Check that this is the same run, and find what is left of it."""
        settings = earlier.choices
        if contradiction := settings.contradiction(self.options):
            raise _other_run(self.results, *contradiction)
        plan = read_plan(self.results)
        fingerprint = self._fingerprint(settings)
        _refuse_difference(earlier.fingerprint, fingerprint, self.results)
        plan.require_same_source(self.source)
        where = replace(earlier.source, location=self.source.location)
        earlier = replace(earlier, source=where)
        done = committed_parts(self.results, plan.shard_count, fingerprint)
        stages = None
        if len(done) < plan.shard_count:
            stages = self._stages_again(plan, settings.again(self.options), earlier)
            earlier = replace(
                earlier,
                state="running",
                choices=stages.settings,
                parity=stages.parity,
                decoder=stages.decoder.version,
                runtime=stages.runtime.version,
                rates=replace(stages.rates, end_to_end=earlier.rates.end_to_end),
                machine=this_machine(),
                versions=package_versions(),
            )
            self.results.write_run(earlier)
        return Job(
            results=self.results,
            uncertainty=self._uncertainty,
            thresholds=self.options.thresholds,
            plan=plan,
            fingerprint=fingerprint,
            done=done,
            stages=stages,
            record=earlier,
        )

    def _stages_again(self, plan: Plan, settings: Settings, earlier: RunRecord) -> Stages:
        """Open stages; a verdict measured on this machine with these versions still holds."""
        measured = earlier.parity
        here = (this_machine(), package_versions())
        if measured.verdict == "agrees" and (measured.machine, measured.versions) == here:
            stages = self._opener(plan).reopen(settings, measured, earlier.rates)
            if stages.runtime.version == earlier.runtime:
                return stages
        return self._opener(plan).open(settings, may_fall_back=False)

    def _opener(self, plan: Plan) -> Opener:
        """Say what stages are opened for."""
        return Opener(self.options, self.bundle, self.source, plan, self.progress)

    def _fingerprint(self, settings: Settings) -> Fingerprint:
        """Put together what can change a row."""
        return Fingerprint(
            bundle=self.bundle.sha256,
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

    def _first_record(self, plan: Plan, fingerprint: Fingerprint, stages: Stages) -> RunRecord:
        """Return run.json as it stands when streaming starts."""
        return RunRecord(
            fingerprint=fingerprint,
            choices=stages.settings,
            model=ModelRecord.of(self.bundle),
            decoder=stages.decoder.version,
            runtime=stages.runtime.version,
            parity=stages.parity,
            rates=stages.rates,
            source=SourceRecord(
                location=plan.facts.location,
                other_files=plan.facts.ignored,
                examples=plan.facts.examples,
            ),
            trust=trust_record(self._uncertainty),
            flags=self.options.thresholds,
            started=now(),
            machine=this_machine(),
            versions=package_versions(),
        )


def _refuse_difference(earlier: Fingerprint, asked: Fingerprint, results: ResultsFolder) -> None:
    """Raise ResultsError, naming what differs, unless this is the run that began here."""
    for name, value in asdict(asked).items():
        begun = getattr(earlier, name)
        if begun != value:
            raise _other_run(results, name, begun, value)


def _other_run(results: ResultsFolder, name: str, begun: Any, asked: Any) -> ResultsError:
    """Name the field in which two runs differ."""
    return ResultsError(
        f"{results.path} was begun with {name} {begun}, not {asked}",
        hint="choose a new --out, or pass --restart to discard it",
    )
