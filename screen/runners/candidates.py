"""
What may run, best first, and the one loop that takes the first that opens and agrees.

What was asked for by name is the only candidate. With ``auto``, every runtime that works here is
one, the fastest first, in its fastest precision and then in float32; likewise decoders.
"""

from __future__ import annotations

import logging
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Generic, TypeVar

from engines.backends import (
    best_batch,
    decoder_candidates,
    precision_candidates,
    runtime_candidates,
)
from engines.errors import (
    BackendMissingError,
    DeviceError,
    EngineBuildError,
    ParityError,
    UserError,
)
from engines.hardware.device_choice import kind_of_device
from engines.registry import GPU, Choice, runtime_row
from screen.options import settle

if TYPE_CHECKING:
    from collections.abc import Callable, Generator, Iterable, Iterator

    from engines.backends import DecoderCandidate
    from engines.models.bundle import ModelBundle
    from screen.options import RunOptions, Settings
    from screen.runners.events import Building

__all__ = ["PassedOver", "decoder_settings", "first_that_agrees", "runtime_settings"]

T = TypeVar("T")

log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class PassedOver:
    """A candidate that was not taken, and the error that says why."""

    settings: Settings
    error: UserError


@dataclass(frozen=True, slots=True)
class Taken(Generic[T]):
    """The candidate that was taken, and what was opened for it."""

    settings: Settings
    opened: T


def first_that_agrees(
    candidates: Iterable[Settings],
    attempt: Callable[[Settings], Generator[Building, None, T]],
    passed: list[PassedOver],
) -> Generator[Building, None, Taken[T]]:
    """
    Take the first candidate that opens and agrees with the reference; note the others.

    Args:
        candidates: Best first; they may look at *passed* before they give the next.
        attempt: Opens a candidate and holds it against the reference.
        passed: Where a candidate that was not taken is noted.

    Raises:
        UserError: What kept the first candidate, the best, from running, if none will do.
    """
    for settings in candidates:
        try:
            return Taken(settings, (yield from attempt(settings)))
        except (BackendMissingError, DeviceError, EngineBuildError, ParityError) as error:
            log.warning("not taken: %s", error)
            passed.append(PassedOver(settings, error))
    raise passed[0].error


def runtime_settings(
    options: RunOptions, bundle: ModelBundle, passed: list[PassedOver]
) -> Iterator[Settings]:
    """
    Yield runtimes and precisions that work here, best first, each with the reason it comes next.

    A runtime that did not open in one precision is not tried in another: it would take as long to
    fail again. Where only its scores were off, float32 is next.

    Raises:
        BackendMissingError: If the runtime or the precision asked for by name does not work here.
    """
    missing: BackendMissingError | None = None
    for runtime in runtime_candidates(options.runtime, kind_of_device(options.device)):
        try:
            precisions = list(precision_candidates(runtime.value, options.precision))
        except BackendMissingError as error:
            missing = missing or error
            continue
        for precision in precisions:
            if any(_did_not_open(each, runtime.value) for each in passed):
                break
            fell_back = _because(runtime, passed, "runtime")
            decoding = next(_decoders(options, runtime))
            batch = best_batch(runtime.value, precision.value, bundle)
            settings = settle(options, fell_back, precision, decoding, batch)
            missed = [each for each in passed if each.settings.runtime.value == runtime.value]
            yield replace(settings, precision=_because(precision, missed, "precision"))
    if missing is not None and not passed:
        raise missing


def decoder_settings(
    options: RunOptions, settings: Settings, passed: list[PassedOver]
) -> Iterator[Settings]:
    """
    Yield *settings* with each decoder and place to decode that works here, best first.

    Raises:
        BackendMissingError: If the one asked for by name does not work here.
    """
    for candidate in _decoders(options, settings.runtime):
        decoder = _because(candidate.decoder, passed, "decoder")
        same = [each for each in passed if each.settings.decoder.value == decoder.value]
        place = _because(candidate.device, same, "decode_on")
        yield replace(settings, decoder=decoder, decode_on=place)


def _decoders(options: RunOptions, runtime: Choice[str]) -> Iterator[DecoderCandidate]:
    """Yield the decoders that work beside a runtime, best first."""
    on_gpu = runtime_row(runtime.value).device == GPU
    return decoder_candidates(options.decoder, options.decode_on, model_on_gpu=on_gpu)


def _did_not_open(passed: PassedOver, runtime: str) -> bool:
    """Whether a runtime was passed over for another reason than its scores."""
    return passed.settings.runtime.value == runtime and not isinstance(passed.error, ParityError)


def _because(choice: Choice[str], passed: Iterable[PassedOver], name: str) -> Choice[str]:
    """Give a choice, the field *name*, the errors of other values as its reason, if there are."""
    others = [each for each in passed if getattr(each.settings, name).value != choice.value]
    if not others:
        return choice
    return Choice(choice.value, f"fell back: {'; '.join(str(each.error) for each in others)}")
