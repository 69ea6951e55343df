"""Start a run, or go on with one: list, check what will run, and only then write a file."""

from __future__ import annotations

import logging
from dataclasses import asdict, dataclass, replace
from typing import TYPE_CHECKING, Any

from engines.decode.cell_limits import limits_of
from engines.errors import BackendMissingError, ResultsError
from engines.files import files_in, make_folder
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
        earlier = None if self.options.restart else self.results.read_run()
        return (yield from (self.new() if earlier is None else self._resumed(earlier)))

    def new(self) -> Generator[Building, None, Session]:
        """
        Begin a run, alone; with ``restart``, in the place of another.

        Raises:
            ResultsError: If there are files in the way.
            UserError: If nothing that was asked for can run.
        """
        found = discardable if self.options.restart else leftovers
        return (yield from self._new(found(self.results)))

    def _new(self, discard: list[Location]) -> Generator[Building, None, Session]:
        """Begin a run: *discard* files, and write plan and run.json."""
        begun = yield from self.proposed()
        with writing(self.results.path):
            for path in discard:
                path.unlink()
            make_folder(self.results.cells)
        begun.plan.write(self.results.plan, begun.fingerprint.metadata)
        self.results.write_run(begun.record)
        return begun

    def proposed(self) -> Generator[Building, None, Session]:
        """List the source and check what will run; nothing is written yet."""
        expected = next(runtime_settings(self.options, self.bundle, []))
        plan = self._planned(expected)
        stages = yield from StartupCheck(self.options, self.bundle, self.source, plan).stages()
        if stages.settings.shard_cells.value != expected.shard_cells.value:
            plan = self._planned(stages.settings)
        for problem in plan.facts.problems:
            LOG.warning("%s; what it holds before that is screened.", problem)
        fingerprint = self._fingerprint(stages.settings)
        record = self._first_record(plan, fingerprint, stages)
        return replace(self._unopened(plan, record), stages=stages)

    def _resumed(self, record: RunRecord) -> Generator[Building, None, Session]:
        """Go on with a run that nobody else goes on with."""
        session = yield from self.resumed(record)
        if session.stages is not None:
            self.results.write_run(session.record)
        return session

    def resumed(
        self, record: RunRecord, begun: Session | None = None
    ) -> Generator[Building, None, Session]:
        """
        Make sure that this is the same run, and check what will run on what is left of it.

        Args:
            record: The run's.
            begun: What this process was about to begin; if that is the same run, what it has
                checked need not be checked again.

        Raises:
            ResultsError: If it is another run, or what it began with does not work here.
        """
        session = self.planned(record)
        if not session.mine.keys() - session.parts.keys():
            return session
        return (yield from self._with_stages(session, begun))

    def planned(self, record: RunRecord) -> Session:
        """
        Make sure that this is the same run, and find what is done of it; nothing is opened.

        Raises:
            ResultsError: If it is another run.
        """
        session = self._same_run(record)
        parts, outdated = self._parts(session.plan, session.fingerprint)
        return replace(session, parts=parts, outdated=outdated)

    def helper(self, record: RunRecord) -> Generator[Building, None, Session]:
        """
        Make sure that this is the same run, and check what will run on shards that one is handed.

        Raises:
            ResultsError: If it is another run, or what it began with does not work here.
        """
        return (yield from self._with_stages(self._same_run(record)))

    def _same_run(self, record: RunRecord) -> Session:
        """Return a run with its plan and no parts, if it is the one that was asked for."""
        if difference := record.choices.difference(self.options):
            raise self._other_run(*difference)
        fingerprint = self._fingerprint(record.choices)
        for name, value in asdict(fingerprint).items():
            if (begun := getattr(record.fingerprint, name)) != value:
                raise self._other_run(name, begun, value)
        plan = self._plan_of(record)
        plan.require_same_source(self.source)
        where = replace(record.source, locations=self.source.locations)
        return self._unopened(plan, replace(record, source=where))

    def _unopened(self, plan: Plan, record: RunRecord) -> Session:
        """Put together a session that has no parts yet, and nothing open."""
        return Session(
            results=self.results,
            uncertainty=self._uncertainty,
            thresholds=self.options.thresholds,
            plan=plan,
            fingerprint=record.fingerprint,
            parts={},
            stages=None,
            record=record,
            share=self.options.part,
        )

    def _with_stages(
        self, session: Session, begun: Session | None = None
    ) -> Generator[Building, None, Session]:
        """Check what a session needs, unless what was *begun* here is the same run."""
        if begun is not None and begun.fingerprint == session.fingerprint:
            return replace(session, stages=begun.stages, record=begun.record)
        with writing(self.results.path):
            make_folder(self.results.cells)
        stages = yield from self._stages_as_begun(session.plan, session.record.choices)
        return replace(session, stages=stages, record=_continued(session.record, stages))

    def plan_of_all(self, plan: Plan, fingerprint: Fingerprint) -> Plan:
        """
        Write *plan* if there is none, even if others do the same now; return what is there.

        Raises:
            ResultsError: If the system refuses.
        """
        with writing(self.results.path):
            make_folder(self.results.cells)
        if plan.create(self.results.plan, fingerprint.metadata):
            return plan
        return read_plan(self.results)

    def _plan_of(self, record: RunRecord) -> Plan:
        """Return the plan of a run; one that several begin at once may still lack it."""
        if self.results.plan.exists() or files_in(self.results.records, "part-*.json"):
            return read_plan(self.results)
        return self.plan_of_all(self._planned(record.choices), record.fingerprint)

    def _parts(
        self, plan: Plan, fingerprint: Fingerprint
    ) -> tuple[dict[int, TableRecord], Outdated | None]:
        """Return the parts that are as they should be, and those that an update has to change."""
        share = self.options.part
        mine = share.shards(plan.shard_count) if share else None
        parts = committed_parts(self.results, plan.shard_count, fingerprint, mine)
        if self.options.retry_unreadable:
            parts = without_unreadable(self.results, parts)
        if plan.facts.revision == 1:
            return parts, None
        if share is not None:
            raise ResultsError(
                f"{self.results.path} was brought up to date with its source, which one process "
                "has to end",
                hint="give slidescreen run without --part",
            )
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
