"""What the user asked for, and what it comes to on this machine, each with its reason."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeAlias

from engines.decode.workers.pool import processes_usable
from engines.errors import ResultsError
from engines.hardware.device_choice import kind_of_device
from engines.hardware.machine import usable_cores
from engines.locations import location
from engines.models.bundle import DEFAULT_BUNDLE
from engines.registry import AUTO, GPU, Choice, runtime_row
from engines.sources.options import SourceOptions
from engines.sources.selection import Selection
from engines.sources.slide_rule import SlideRule
from screen.summary.flags import Thresholds

if TYPE_CHECKING:
    import os

    from engines.backends import DecoderCandidate
    from engines.locations import Location
    from screen.share import Share

__all__ = ["RunOptions", "Settings", "StrPath", "settle"]

StrPath: TypeAlias = "str | os.PathLike[str]"

SHARD_CELLS = 4096  # a crash costs at most these: under a minute on two cores
SHARD_BATCHES = 64  # a shard is at least this many batches, so that padding its last costs < 1%


@dataclass(frozen=True, slots=True, kw_only=True)
class RunOptions:
    """
    What to screen, where to, and how; checked when it is made.

    Attributes:
        source: Where the cells are: a folder, an image file or a pattern of such, or several of
            them; strings, paths or URLs.
        include: Patterns of which a cell has to match one (``engines.sources.Selection``).
        exclude: And of which it may match none.
        columns: What a table's columns are called, ``role=name`` each
            (``engines.sources.options.ROLES``).
        box_margin: Pixels around a box on a field that are shown, too.
        out: Results folder, or the URL of one (s3://, gs://, hf://).
        model: Folder of the model's bundle; by default the model that ships.
        device: ``auto``, ``cpu``, ``cuda`` (the first GPU) or ``cuda:NUMBER``: what the model runs
            on, and nothing else.
        decoder: ``auto``, or one of ``engines.registry.decoder_names()``.
        decode_on: ``auto``, ``cpu`` or ``gpu``.
        runtime: ``auto``, or one of ``engines.registry.runtime_names()``.
        precision: ``auto``, or one of ``engines.runtime.base.PRECISIONS``.
        batch: Cells per inference; None for the runtime's best.
        shard_cells: Cells per part file; None for at least 64 batches.
        threads: Processor threads; None for all cores.
        decode_workers: Processes that read and decode; 0: threads of this one do, with no limit
            of time or memory for a cell; None for what the runtime leaves time for.
        max_pixels: An image of more is not decoded.
        slide: How a cell's slide is told from its path.
        coverage: How often prediction sets are to hold the true class.
        embeddings: Whether cells get a column ``embedding``, the pooled features.
        thresholds: From where slides are flagged; they change no cell's row.
        part: Which share of the cells is screened here, where several processes share them, each
            with the same other options; the results are complete after ``slidescreen finish``.
        workers: How many processes of a Ray cluster screen; None for a process of this machine, or
            with *ray* one for each GPU there, or each node.
        ray: Address of the Ray cluster; None for one that is started here for the run.
        restart: Whether to discard an earlier run in *out*.
        update: Whether to score what is new or changed in the source of a run that is done, and
            take out what is gone.
        retry_unreadable: Whether the shards of an earlier start that hold cells which could not
            be read are screened again.
        allow_unreadable: Whether to go on, with rows that say so, where the source of the cells
            seems to be gone.

    Raises:
        ValueError: If a number is out of its range.
        ResultsError: If *out* is the address of a web page.
    """

    source: StrPath | Location | Sequence[StrPath | Location]
    out: StrPath | Location
    include: Sequence[str] = ()
    exclude: Sequence[str] = ()
    columns: Sequence[str] = ()
    box_margin: int = 0
    model: StrPath = DEFAULT_BUNDLE
    device: str = AUTO
    decoder: str = AUTO
    decode_on: str = AUTO
    runtime: str = AUTO
    precision: str = AUTO
    batch: int | None = None
    shard_cells: int | None = None
    threads: int | None = None
    decode_workers: int | None = None
    max_pixels: int = 25_000_000
    slide: SlideRule = field(default_factory=SlideRule)
    coverage: float = 0.95
    embeddings: bool = False
    thresholds: Thresholds = field(default_factory=Thresholds)
    part: Share | None = None
    workers: int | None = None
    ray: str | None = None
    restart: bool = False
    update: bool = False
    retry_unreadable: bool = False
    allow_unreadable: bool = False

    def __post_init__(self) -> None:
        """Refuse numbers that mean nothing and addresses that cannot be written to."""
        object.__setattr__(self, "out", _writable(self.out))
        object.__setattr__(self, "model", Path(self.model))
        object.__setattr__(self, "source", self.sources[0] if self._one else self.sources)
        for name in ("batch", "shard_cells", "threads", "max_pixels", "workers"):
            value = getattr(self, name)
            if value is not None and value < 1:
                raise ValueError(f"{name} must be at least 1, got {value}")
        if self.decode_workers is not None and self.decode_workers < 0:
            raise ValueError(f"decode_workers must be at least 0, got {self.decode_workers}")
        if self.restart and self.update:
            raise ValueError("a run is begun anew or brought up to date, not both")
        if not 0 < self.coverage < 1:
            raise ValueError(f"coverage must lie between 0 and 1, got {self.coverage}")
        if self.part and (self.restart or self.update):
            raise ValueError("a part of a run can neither begin it anew nor update it")
        if (self.workers or self.ray) and (self.part or ":" in self.device):
            raise ValueError("workers are given their GPUs and shards by Ray: no part, no cuda:N")
        kind_of_device(self.device)  # which refuses what is no device
        _ = self.reading  # which refuses what cannot be read

    @property
    def sources(self) -> tuple[Location, ...]:
        """The source or sources, as paths or URLs."""
        return tuple(map(location, [self.source] if self._one else self.source))  # type: ignore[arg-type]

    @property
    def _one(self) -> bool:
        """Whether a single source is named."""
        return not isinstance(self.source, Sequence) or isinstance(self.source, str)

    @property
    def reading(self) -> SourceOptions:
        """How the source is read."""
        return SourceOptions(
            selection=Selection(tuple(self.include), tuple(self.exclude)),
            columns=tuple(sorted(self.columns)),
            box_margin=self.box_margin,
            max_pixels=self.max_pixels,
        )


@dataclass(frozen=True, slots=True, kw_only=True)
class Settings:
    """
    What runs, each choice with its reason: ``asked for``, or why it was the best that works here.

    Attributes:
        decoder: The name of what decodes.
        decode_on: Where it decodes, ``cpu`` or ``gpu``.
        runtime: The name of what runs the model.
        precision: What the model computes in.
        batch: Cells per inference.
        shard_cells: Cells per part file.
        threads: Processor threads.
        decode_workers: Processes that read and decode.
    """

    decoder: Choice[str]
    decode_on: Choice[str]
    runtime: Choice[str]
    precision: Choice[str]
    batch: Choice[int]
    shard_cells: Choice[int]
    threads: Choice[int]
    decode_workers: Choice[int]

    def values(self) -> dict[str, Any]:
        """Return what will run, by name, without the reasons."""
        return {name: choice["value"] for name, choice in asdict(self).items()}

    def difference(self, options: RunOptions) -> tuple[str, Any, Any] | None:
        """Return name, value here and value asked of the first choice that *options* change."""
        for name, value in self.values().items():
            asked = getattr(options, name)
            same = asked in (AUTO, None, value) or name == "threads"
            # Any number of workers gives the same rows, but only workers hold a cell to limits.
            if not same and (name != "decode_workers" or min(asked, value) == 0):
                return name, value, asked
        return None

    def asked_again(self, options: RunOptions) -> RunOptions:
        """
        Return *options* with each of these choices asked for by name.

        But threads and workers are the business of each start, as long as there are any.
        """
        workers = options.decode_workers if self.decode_workers.value else 0
        asked = {**self.values(), "threads": options.threads, "decode_workers": workers}
        return replace(options, **asked)


def settle(
    options: RunOptions,
    runtime: Choice[str],
    precision: Choice[str],
    decoding: DecoderCandidate,
    best_batch: Choice[int],
) -> Settings:
    """Settle the numbers that follow from a runtime, a precision and a decoder."""
    batch = _number(options.batch, best_batch.value, best_batch.reason)
    least = max(SHARD_CELLS, SHARD_BATCHES * batch.value)
    threads = _number(options.threads, usable_cores(), "all cores")
    return Settings(
        decoder=decoding.decoder,
        decode_on=decoding.device,
        runtime=runtime,
        precision=precision,
        batch=batch,
        shard_cells=_number(options.shard_cells, least, f"at least {SHARD_BATCHES} batches"),
        threads=threads,
        decode_workers=_workers(options, threads.value, decoding.device.value, runtime.value),
    )


def _writable(named: StrPath | Location) -> Location:
    """Return where results go; web pages can only be read."""
    out = location(named)
    if str(out).startswith(("http://", "https://")):
        raise ResultsError(
            f"results cannot be written to {out}",
            hint="choose a folder, or a bucket such as s3://bucket/results, as --out",
        )
    return out


def _workers(options: RunOptions, threads: int, decode_on: str, runtime: str) -> Choice[int]:
    """Take the user's number, or the usual one; none where workers cannot be used."""
    if decode_on == GPU:
        return Choice(0, "the GPU decodes")
    if not processes_usable():
        return Choice(0, "this system has no memfd")
    return _number(options.decode_workers, *_usual_workers(threads, runtime_row(runtime).device))


def _usual_workers(threads: int, device: str) -> tuple[int, str]:
    """Return how many processes decode for a model that runs on *device*, and why."""
    if device == GPU:
        return threads, "all cores: the model runs on the GPU"
    return -(-threads // 2), "half the cores: the model needs the rest"


def _number(asked: int | None, default: int, why: str) -> Choice[int]:
    """Take the user's number, or the default."""
    return Choice(default, why) if asked is None else Choice(asked, "asked for")
