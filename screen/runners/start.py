"""Start a run, or go on with one: list, check what will run, and only then write a file."""

from __future__ import annotations

import logging
from dataclasses import asdict, dataclass, replace
from typing import TYPE_CHECKING, Any

from engines.decode.cell_limits import limits_of
from engines.errors import BackendMissingError, ResultsError
from engines.files import make_folder
from engines.hardware.machine import package_versions, this_machine
from screen.results.cell_uncertainty import Uncertainty
from screen.results.discard import discardable, leftovers
from screen.results.fingerprint import Fingerprint
from screen.results.parts import committed_parts, without_unreadable
from screen.results.plan import Plan, read_plan
from screen.results.planning import plan_source
from screen.results.run_record import ModelRecord, RunRecord, SourceRecord, now
from screen.results.tables import writing
from screen.results.update import Outdated, outdated_parts
from screen.runners.candidates import runtime_settings
from screen.runners.finish import trust_record
from screen.runners.session import Session
from screen.runners.startup_check import StartupCheck

if TYPE_CHECKING:
    from collections.abc import Generator

    from engines.locations import Location
    from engines.models.bundle import ModelBundle
    from engines.sources import Source
    from screen.options import RunOptions, Settings
    from screen.results.folder import ResultsFolder
    from screen.results.table_records import TableRecord
    from screen.runners.events import Building
    from screen.runners.stages import Stages

__all__ = ["Start"]

LOG = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class Start:
    """
    What is known before anything is settled.

    Attributes:
        options: What was asked for.
        bundle: The model.
        source: Where the cells are.
        results: Where the tables go; whoever calls holds its lock.
    """

    options: RunOptions
    bundle: ModelBundle
    source: Source
    results: ResultsFolder

    def session(self) -> Generator[Building, None, Session]:
        """
        Start a new run, or go on with the one that is in the results folder.

        Raises:
            ResultsError: If the folder belongs to another run.
            UserError: If nothing that was asked for can run.
        """
        if self.options.restart:
            return (yield from self._new(discardable(self.results)))
        earlier = self.results.read_run()
        if earlier is None:
            return (yield from self._new(leftovers(self.results)))
        return (yield from self._resumed(earlier))

    def _new(self, discard: list[Location]) -> Generator[Building, None, Session]:
        """List the source, check what will run, *discard* files, and write plan and run.json."""
        expected = next(runtime_settings(self.options, self.bundle, []))
        plan = self._planned(expected)
        stages = yield from StartupCheck(self.options, self.bundle, self.source, plan).stages()
        if stages.settings.shard_cells.value != expected.shard_cells.value:
            plan = self._planned(stages.settings)
        for problem in plan.facts.problems:
            LOG.warning("%s; what it holds before that is screened.", problem)
        fingerprint = self._fingerprint(stages.settings)
        record = self._first_record(plan, fingerprint, stages)
        with writing(self.results.path):
            for path in discard:
                path.unlink()
            make_folder(self.results.cells)
        plan.write(self.results.plan, fingerprint.metadata)
        self.results.write_run(record)
        return Session(
            results=self.results,
            uncertainty=self._uncertainty,
            thresholds=self.options.thresholds,
            plan=plan,
            fingerprint=fingerprint,
            parts={},
            stages=stages,
            record=record,
        )

    def _resumed(self, record: RunRecord) -> Generator[Building, None, Session]:
        """Make sure that this is the same run, and check what will run on what is left of it."""
        if difference := record.choices.difference(self.options):
            raise self._other_run(*difference)
        plan = read_plan(self.results)
        fingerprint = self._fingerprint(record.choices)
        for name, value in asdict(fingerprint).items():
            if (begun := getattr(record.fingerprint, name)) != value:
                raise self._other_run(name, begun, value)
        plan.require_same_source(self.source)
        where = replace(record.source, locations=self.source.locations)
        record = replace(record, source=where)
        parts, outdated = self._parts(plan, fingerprint)
        stages = None
        if plan.states().keys() - parts:
            with writing(self.results.path):
                make_folder(self.results.cells)
            stages = yield from self._stages_as_begun(plan, record.choices)
            record = _continued(record, stages)
            self.results.write_run(record)
        return Session(
            results=self.results,
            uncertainty=self._uncertainty,
            thresholds=self.options.thresholds,
            plan=plan,
            fingerprint=fingerprint,
            parts=parts,
            outdated=outdated,
            stages=stages,
            record=record,
        )

    def _parts(
        self, plan: Plan, fingerprint: Fingerprint
    ) -> tuple[dict[int, TableRecord], Outdated | None]:
        """Return the parts that are as they should be, and those that an update has to change."""
        parts = committed_parts(self.results, plan.shard_count, fingerprint)
        if self.options.retry_unreadable:
            parts = without_unreadable(self.results, parts)
        if plan.facts.revision == 1:
            return parts, None
        outdated = Outdated(self.results, plan, outdated_parts(plan, parts))
        outdated.keep_gone(fingerprint)
        current = {i: record for i, record in parts.items() if i not in outdated.records}
        return current | outdated.trimmed(fingerprint), outdated

    def _stages_as_begun(self, plan: Plan, begun: Settings) -> Generator[Building, None, Stages]:
        """
        Check what this run began with: each choice is asked for by name, so nothing falls back.

        Raises:
            ResultsError: If any of it does not work here.
        """
        options = begun.asked_again(self.options)
        try:
            stages = yield from StartupCheck(options, self.bundle, self.source, plan).stages()
        except BackendMissingError as error:
            values = ", ".join(f"{name} {value}" for name, value in begun.values().items())
            raise ResultsError(
                f"{self.results.path} was begun with {values}, and cannot go on like that: {error}",
                hint="go on where that works, choose a new --out, or pass --restart to discard it",
            ) from error
        here = stages.settings
        return replace(
            stages,
            settings=replace(begun, threads=here.threads, decode_workers=here.decode_workers),
        )

    def _planned(self, settings: Settings) -> Plan:
        """List the source, in shards of this size."""
        return plan_source(self.source, self.options.slide, settings.shard_cells.value)

    @property
    def _uncertainty(self) -> Uncertainty:
        """Return what turns scores into rows."""
        return Uncertainty(self.bundle, self.options.coverage, self.options.embeddings)

    def _fingerprint(self, settings: Settings) -> Fingerprint:
        """Put together what can change a row."""
        return Fingerprint(
            bundle=self.bundle.sha256,
            selection=str(self.options.reading.selection),
            columns=" ".join(self.options.reading.columns),
            box_margin=self.options.box_margin,
            slide_rule=self.options.slide.text,
            shard_cells=settings.shard_cells.value,
            decoder=settings.decoder.value,
            decode_on=settings.decode_on.value,
            max_pixels=self.options.max_pixels,
            limits=limits_of(self.options.max_pixels, in_workers=settings.decode_workers.value > 0),
            runtime=settings.runtime.value,
            precision=settings.precision.value,
            batch=settings.batch.value,
            coverage=self.options.coverage,
            embeddings=self.options.embeddings,
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
                locations=self.source.locations,
                other_files=plan.facts.ignored,
                examples=plan.facts.examples,
            ),
            trust=trust_record(self._uncertainty),
            flags=self.options.thresholds,
            started=now(),
            machine=this_machine(),
            versions=package_versions(),
        )

    def _other_run(self, name: str, begun: Any, asked: Any) -> ResultsError:
        """Name the field in which two runs differ."""
        return ResultsError(
            f"{self.results.path} was begun with {name} {begun}, not {asked}",
            hint="choose a new --out, or pass --restart to discard it",
        )


def _continued(record: RunRecord, stages: Stages) -> RunRecord:
    """Return run.json of a run that goes on: what was measured and where is this start's."""
    return replace(
        record,
        state="running",
        choices=stages.settings,
        parity=stages.parity,
        decoder=stages.decoder.version,
        runtime=stages.runtime.version,
        rates=replace(stages.rates, end_to_end=record.rates.end_to_end),
        machine=this_machine(),
        versions=package_versions(),
    )
