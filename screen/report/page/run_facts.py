"""What ran, in words."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from screen.report.content.slide_rows import METHODS, interval_method
from screen.report.formatting import count, moment
from screen.report.page.wording import shown_sentence

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence

    from screen.report.content.columns import Fields
    from screen.results.run_record import ClassCoverage, Rates, RunRecord

__all__ = ["run_facts", "run_line"]

SHORT_HASH = 12


def run_line(record: RunRecord, fields: Fields) -> str:
    """Say in a line what ran: model, engine, decoder, parity, coverage, speed."""
    choices, rate = record.choices, record.rates.end_to_end
    parts = [
        f"{record.model.architecture} looking for {_looks_for(fields)}",
        f"computed by {choices.runtime.value} in {choices.precision.value}",
        f"decoded by {', '.join(record.decoded_by) or record.decoder}",
        f"parity with PyTorch and Pillow: {record.parity.verdict}",
        f"sets at {record.fingerprint.coverage:.0%} coverage",
        "" if not rate else f"{rate:,.1f} cells/s end to end",
    ]
    return shown_sentence("; ".join(filter(None, parts)))


def run_facts(
    record: RunRecord, fields: Fields, slides: Sequence[Mapping[str, Any]]
) -> list[tuple[str, str]]:
    """Say in pairs of words what ran."""
    model, precision = record.model, record.choices.precision
    pairs = [
        ("Cells", record.source.location),
        ("Screened", f"{moment(record.started)} to {moment(record.finished or '')}"),
        ("Model", f"{model.architecture}, sha256 {model.sha256[:SHORT_HASH]}…"),
        ("Trained on", str(model.data.get("name") or "not said")),
        ("Looks for", _looks_for(fields)),
        ("Runtime", f"{record.runtime}, {precision.value} ({precision.reason})"),
        ("Decoder", _decoder(record)),
        ("Parity", str(record.parity)),
        ("Prediction sets", _coverage(record, fields)),
        ("Out of distribution", record.trust.ood or "not measured"),
        ("Shares of slides", METHODS[interval_method(slides)] if fields.positive else "none"),
        ("Cells per second", ", ".join(_rates(record.rates)) or "not measured"),
        ("Machine", f"{record.machine.cpu}, {record.machine.system}"),
        ("Versions", ", ".join(f"{name} {of}" for name, of in record.versions.items() if of)),
        ("Run", record.fingerprint.digest),
    ]
    return [(term, shown_sentence(text)) for term, text in pairs]


def _looks_for(fields: Fields) -> str:
    """Say which class is called, and from when on."""
    if fields.positive is None or fields.threshold is None:
        return f"no class in particular, of {', '.join(map(fields.words, fields.classes))}"
    return (
        f"{fields.positive_words}, called at a calibrated probability of "
        f"{fields.threshold:.3f} or above"
    )


def _decoder(record: RunRecord) -> str:
    """Say what decoded how many cells."""
    by = ", ".join(f"{codec} {count(some)}" for codec, some in record.decoded_by.items())
    return f"{record.decoder}; cells by codec: {by or 'none'}"


def _coverage(record: RunRecord, fields: Fields) -> str:
    """Say what the prediction sets promise."""
    trust = record.trust
    if trust.coverage is None:
        return "none: the model's bundle has no data for them"
    classes = [_class_coverage(fields.words(name), each) for name, each in trust.classes.items()]
    return f"{trust.coverage:.0%} asked for, from {trust.why}; {', '.join(classes)}"


def _class_coverage(words: str, known: ClassCoverage) -> str:
    """Say what the sets of one class held when its own subjects were left out."""
    measured, sure = known.measured, known.guaranteed
    held = "not measured" if measured is None else f"measured {measured:.1%}"
    bound = "" if sure is None else f", at least {sure:.1%} for a new subject"
    return f"{words} {held}{bound}"


def _rates(rates: Rates) -> Iterator[str]:
    """Yield the rates that are known."""
    for rate, words in (
        (rates.end_to_end, "end to end"),
        (rates.decode, "decoding alone"),
        (rates.runtime, "the model alone"),
    ):
        if rate:
            yield f"{rate:,.1f} {words}"
