"""Open what will run, and hold it against the reference on the user's own cells."""

from __future__ import annotations

import time
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from engines import parity
from engines.backends import open_decoder, open_runtime
from engines.cells import Shard
from engines.decode.base import DecodeOptions
from engines.errors import BackendMissingError, DeviceError, EngineBuildError, ParityError
from engines.hardware.machine import package_versions, this_machine
from engines.registry import REFERENCE_DECODER, REFERENCE_RUNTIME
from engines.runtime.base import RuntimeOptions
from screen.results.run_record import ParityRecord, Rates
from screen.runners.fallback import in_float32, next_decoder, next_runtime

if TYPE_CHECKING:
    from collections.abc import Sequence

    from numpy.typing import NDArray

    from engines.cells import Batch
    from engines.decode.base import Decoder
    from engines.errors import UserError
    from engines.models.bundle import ModelBundle
    from engines.runtime.base import BuildProgress, Runtime
    from engines.sources import Source
    from screen.options import RunOptions, Settings
    from screen.results.plan import Plan

__all__ = ["Opener", "Stages"]

PARITY_CELLS = 64


@dataclass(frozen=True, slots=True, kw_only=True)
class Stages:
    """
    A decoder and a runtime that were held against the reference.

    Attributes:
        decoder: Ready to stream.
        runtime: Likewise.
        settings: As settled, with the precision that holds.
        parity: How they agree with the reference.
        rates: Cells per second of each stage alone, on the sample.
    """

    decoder: Decoder
    runtime: Runtime
    settings: Settings
    parity: ParityRecord
    rates: Rates


@dataclass(frozen=True, slots=True)
class Opener:
    """Opens stages for one run."""

    options: RunOptions
    bundle: ModelBundle
    source: Source
    plan: Plan
    progress: BuildProgress | None = None

    def open(self, settings: Settings, *, may_fall_back: bool) -> Stages:
        """
        Open and check a decoder and a runtime.

        Args:
            settings: What to open.
            may_fall_back: Whether what was not asked for by name may give way to the reference's.

        Raises:
            ParityError: If what was asked for, or float32, is not within its limits.
        """
        decoder, settings, batches, pixels = self._agreeing_decoder(
            settings, may_fall_back=may_fall_back
        )
        if not batches:
            agreement = ParityRecord(
                verdict="not measured",
                why="no cell could be decoded",
                machine=this_machine(),
                versions=package_versions(),
            )
            unknown = Rates(decode=None, runtime=None)
            runtime, settings = self._working_runtime(settings, (), may_fall_back=may_fall_back)
            return self._stages(settings, agreement, unknown, decoder, runtime)
        runtime, settings, scores, rate = self._agreeing_runtime(
            settings, batches, may_fall_back=may_fall_back
        )
        agreement = ParityRecord(
            verdict="agrees",
            pixels=pixels,
            scores=scores,
            machine=this_machine(),
            versions=package_versions(),
        )
        rates = Rates(decode=_decode_rate(decoder, batches), runtime=rate)
        return self._stages(settings, agreement, rates, decoder, runtime)

    def reopen(self, settings: Settings, measured: ParityRecord, rates: Rates) -> Stages:
        """Open stages whose parity an earlier start of this run measured on this machine."""
        decoder = self._decoder(settings.decoder.value, settings)
        return self._stages(settings, measured, rates, decoder, self._runtime(settings))

    @staticmethod
    def _stages(
        settings: Settings,
        agreement: ParityRecord,
        rates: Rates,
        decoder: Decoder,
        runtime: Runtime,
    ) -> Stages:
        """Put stages together."""
        return Stages(
            decoder=decoder, runtime=runtime, settings=settings, parity=agreement, rates=rates
        )

    def _agreeing_decoder(
        self, settings: Settings, *, may_fall_back: bool
    ) -> tuple[Decoder, Settings, list[Batch], parity.PixelAgreement | None]:
        """Open the decoder, decode the sample; where it was ours to choose, fall back to Pillow."""
        decoder = self._decoder(settings.decoder.value, settings)
        missed: UserError
        try:
            batches = parity.sample(decoder, self.plan.spread(PARITY_CELLS), PARITY_CELLS)
            pixels = parity.compare_decoder(self._decoder(REFERENCE_DECODER, settings), batches)
            if pixels is None or pixels.holds:
                return decoder, settings, batches, pixels
            missed = ParityError(
                f"the decoder {decoder.name} disagrees with Pillow; {pixels}",
                hint=f"look at that file; --decoder {REFERENCE_DECODER} reads it as it should be",
            )
        except DeviceError as error:
            missed = error
        following = next_decoder(settings, self.options, str(missed)) if may_fall_back else None
        if following is None:
            raise missed
        return self._agreeing_decoder(following, may_fall_back=may_fall_back)

    def _agreeing_runtime(
        self, settings: Settings, batches: Sequence[Batch], *, may_fall_back: bool
    ) -> tuple[Runtime, Settings, parity.ScoreAgreement, float | None]:
        """Open the runtime; where the precision was ours to choose, fall back to float32."""
        # No larger than the sample: a GPU's batch would take gigabytes and a minute in float32.
        largest = max(len(batch.refs) for batch in batches)
        options = RuntimeOptions(batch=largest, threads=settings.threads.value)
        expected, _ = _timed_logits(open_runtime(REFERENCE_RUNTIME, self.bundle, options), batches)
        refs = [ref for batch in batches for ref in batch.refs]
        may = may_fall_back and self.options.precision == "auto"
        while True:
            runtime, settings = self._working_runtime(
                settings, batches, may_fall_back=may_fall_back
            )
            logits, rate = _timed_logits(runtime, batches)
            agreement = parity.score_agreement(
                refs, logits, expected, bundle=self.bundle, precision=settings.precision.value
            )
            if agreement.holds:
                return runtime, settings, agreement, rate
            settings = in_float32(settings, agreement, may_fall_back=may)

    def _working_runtime(
        self, settings: Settings, sample: Sequence[Batch], *, may_fall_back: bool
    ) -> tuple[Runtime, Settings]:
        """Open the runtime; where it was ours to choose, fall back to the next on the GPU."""
        tried: frozenset[str] = frozenset()
        while True:
            try:
                return self._runtime(settings, sample), settings
            except (BackendMissingError, DeviceError, EngineBuildError) as error:
                tried |= {settings.runtime.value}
                following = next_runtime(settings, self.options, str(error), tried)
                if following is None or not may_fall_back:
                    raise
                settings = following

    def _decoder(self, name: str, settings: Settings) -> Decoder:
        """Open a decoder that makes batches of the runtime's size."""
        options = DecodeOptions(
            device=settings.decode_on.value,
            batch=settings.batch.value,
            threads=settings.threads.value,
            max_pixels=self.options.max_pixels,
        )
        return open_decoder(name, self.source.read, self.bundle.input, options)

    def _runtime(self, settings: Settings, sample: Sequence[Batch] = ()) -> Runtime:
        """Open the runtime."""
        options = RuntimeOptions(
            precision=settings.precision.value,
            batch=settings.batch.value,
            threads=settings.threads.value,
        )
        name = settings.runtime.value
        return open_runtime(name, self.bundle, options, self.progress, sample)


def _timed_logits(
    runtime: Runtime, batches: Sequence[Batch]
) -> tuple[NDArray[np.float32], float | None]:
    """Score through the stream, as the run will; also cells/s after the first, slower, batch."""
    stream = runtime.stream(batches)
    logits = [next(stream).logits]
    start = time.perf_counter()
    logits += [scores.logits for scores in stream]
    seconds = time.perf_counter() - start
    later = sum(map(len, logits[1:]))
    return np.concatenate(logits), later / seconds if later else None


def _decode_rate(decoder: Decoder, batches: Sequence[Batch]) -> float:
    """Decode the sample again, files and codecs being warm now; return cells/s."""
    refs = tuple(ref for batch in batches for ref in batch.refs)
    start = time.perf_counter()
    list(decoder.stream([Shard(0, refs)]))
    return len(refs) / (time.perf_counter() - start)
