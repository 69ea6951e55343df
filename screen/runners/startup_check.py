"""Open what will run, and hold it against the reference on the user's own cells."""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING

import numpy as np

from engines import parity
from engines.backends import open_decoder, open_runtime
from engines.decode.base import DecodeOptions
from engines.errors import ParityError
from engines.registry import REFERENCE_DECODER, REFERENCE_RUNTIME, runtime_row
from engines.runtime.base import RuntimeOptions
from screen.results.run_record import Rates
from screen.runners.building import building_events, without_events
from screen.runners.candidates import decoder_settings, first_that_agrees, runtime_settings
from screen.runners.slot_check import require_equal_slots
from screen.runners.stages import (
    CheckedRuntime,
    SampledDecoder,
    Stages,
    decode_rate,
    parity_record,
    refs_of,
    timed_logits,
)

if TYPE_CHECKING:
    from collections.abc import Generator, Iterator, Sequence

    from numpy.typing import NDArray

    from engines.cells import Batch
    from engines.decode.base import Decoder
    from engines.models.bundle import ModelBundle
    from engines.runtime.base import Runtime
    from engines.sources import Source
    from screen.options import RunOptions, Settings
    from screen.results.plan import Plan
    from screen.runners.candidates import PassedOver
    from screen.runners.events import Building

__all__ = ["StartupCheck"]

PARITY_CELLS = 64


@dataclass(frozen=True, slots=True)
class StartupCheck:
    """
    The check of one start: what may run is opened and compared until something agrees.

    Attributes:
        options: What was asked for.
        bundle: The model.
        source: Where the cells are.
        plan: Which there are.
        sampled: The decoders that were checked, by the device that the model runs on.
    """

    options: RunOptions
    bundle: ModelBundle
    source: Source
    plan: Plan
    sampled: dict[str, SampledDecoder] = field(default_factory=dict)

    def stages(self) -> Generator[Building, None, Stages]:
        """
        Open the best decoder and runtime that agree with the reference.

        Raises:
            BackendMissingError: If what was asked for does not work here.
            ParityError: If what was asked for, or everything, disagrees with the reference.
            DeviceError: If the GPU fails, and nothing else may run.
            EngineBuildError: If an engine cannot be built, and nothing else may run.
        """
        passed: list[PassedOver] = []
        taken = yield from first_that_agrees(
            self._candidates(passed), self._checked_runtime, passed
        )
        checked, sampled = taken.opened, self._sampled(taken.settings)
        rate = decode_rate(sampled.decoder, sampled.batches) if sampled.batches else None
        return Stages(
            decoder=sampled.decoder,
            runtime=checked.runtime,
            settings=taken.settings,
            parity=parity_record(sampled, checked),
            rates=Rates(decode=rate, runtime=checked.rate),
        )

    def _candidates(self, passed: list[PassedOver]) -> Iterator[Settings]:
        """Yield runtimes and precisions, each with the decoder that agrees beside it."""
        for settings in runtime_settings(self.options, self.bundle, passed):
            decoding = self._sampled(settings).settings
            yield replace(settings, decoder=decoding.decoder, decode_on=decoding.decode_on)

    def _checked_runtime(self, settings: Settings) -> Generator[Building, None, CheckedRuntime]:
        """Open a runtime, score the sample, and compare."""
        sampled = self._sampled(settings)
        runtime = yield from self._opened_runtime(settings, sampled.batches)
        if not sampled.batches:
            return CheckedRuntime(runtime, None, None)
        logits, rate = timed_logits(runtime, sampled.batches)
        agreement = parity.score_agreement(
            refs_of(sampled.batches),
            logits,
            sampled.expected,
            bundle=self.bundle,
            precision=settings.precision.value,
        )
        if not agreement.holds:
            raise ParityError(
                f"the runtime {settings.runtime.value} disagrees with PyTorch; {agreement}",
                hint=_other_hint(settings.precision.value),
            )
        require_equal_slots(runtime, sampled.batches)
        return CheckedRuntime(runtime, agreement, rate)

    def _opened_runtime(
        self, settings: Settings, sample: Sequence[Batch]
    ) -> Generator[Building, None, Runtime]:
        """Open a runtime; where it builds an engine, in a thread that tells how far it is."""
        name = settings.runtime.value
        options = RuntimeOptions(
            precision=settings.precision.value,
            batch=settings.batch.value,
            threads=settings.threads.value,
        )
        if not runtime_row(name).builds_engine:
            return open_runtime(name, self.bundle, options, sample=sample)
        return (
            yield from building_events(
                lambda progress: open_runtime(name, self.bundle, options, progress, sample)
            )
        )

    def _sampled(self, settings: Settings) -> SampledDecoder:
        """Return the decoder that goes with a runtime, checked once for each device."""
        device = runtime_row(settings.runtime.value).device
        if device not in self.sampled:
            passed: list[PassedOver] = []
            candidates = decoder_settings(self.options, settings, passed)
            taken = without_events(first_that_agrees(candidates, self._checked_decoder, passed))
            self.sampled[device] = taken.opened
        return self.sampled[device]

    def _checked_decoder(self, settings: Settings) -> Generator[Building, None, SampledDecoder]:
        """Decode the sample, compare it with Pillow's, and score it by the reference."""
        decoder = self._decoder(settings.decoder.value, settings)
        batches = parity.sample(decoder, self.plan.spread(PARITY_CELLS), PARITY_CELLS)
        pixels = parity.compare_decoder(self._decoder(REFERENCE_DECODER, settings), batches)
        if pixels is not None and not pixels.holds:
            raise ParityError(
                f"the decoder {decoder.name} disagrees with Pillow; {pixels}",
                hint=f"look at that file; --decoder {REFERENCE_DECODER} reads it as it should be",
            )
        expected = self._reference_logits(settings, batches)
        yield from ()  # a generator, as every attempt is, although nothing is built here
        return SampledDecoder(decoder, settings, batches, pixels, expected)

    def _reference_logits(
        self, settings: Settings, batches: Sequence[Batch]
    ) -> NDArray[np.float32]:
        """Score the sample by FP32 PyTorch."""
        if not batches:
            return np.empty((0, len(self.bundle.classes)), np.float32)
        # No larger than the sample: a GPU's batch would take gigabytes and a minute in float32.
        largest = max(len(batch.refs) for batch in batches)
        options = RuntimeOptions(batch=largest, threads=settings.threads.value)
        return timed_logits(open_runtime(REFERENCE_RUNTIME, self.bundle, options), batches)[0]

    def _decoder(self, name: str, settings: Settings) -> Decoder:
        """Open a decoder that makes batches of the runtime's size."""
        options = DecodeOptions(
            device=settings.decode_on.value,
            batch=settings.batch.value,
            threads=settings.threads.value,
            max_pixels=self.options.max_pixels,
            workers=settings.decode_workers.value,
        )
        return open_decoder(name, self.source.read, self.bundle.input, options)


def _other_hint(precision: str) -> str:
    """Say what to do where a runtime misses in a precision."""
    if precision == "fp32":
        return "it computes something else than the bundle's network; try another --runtime"
    return "pass --precision fp32 and a new --out"
