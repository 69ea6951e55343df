"""run.json: written and read as one, and whatever is wrong with it said in a sentence."""

from __future__ import annotations

import json
from contextlib import suppress
from dataclasses import dataclass, replace
from typing import Literal

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from made_results import cell, fingerprint, record

from engines.errors import ResultsError
from engines.json_records import JsonRecordError, record_from_json
from screen.results.folder import ResultsFolder

RECORD = record(fingerprint("/cells"), [cell("a/0.png", "a")])
TEXT = json.dumps(RECORD.to_json())


@pytest.mark.parametrize(
    "written",
    [
        RECORD,
        record(fingerprint("/cells"), [], trust=False),
        replace(RECORD, state="running", counts=None, drift=None, finished=None, warnings=()),
    ],
)
def test_what_is_written_is_what_is_read(tmp_path, written):
    """Through the file and back, every field is equal."""
    results = ResultsFolder(tmp_path)

    results.write_run(written)

    assert results.read_run() == written


def test_no_file_is_no_record(tmp_path):
    """A folder without run.json holds no run, and that is no error."""
    assert ResultsFolder(tmp_path).read_run() is None


def places(value, place=()):
    """Yield the place of every value inside a JSON value."""
    for name, below in value.items() if isinstance(value, dict) else enumerate(value):
        yield (*place, name)
        if isinstance(below, dict | list):
            yield from places(below, (*place, name))


PLACES = [place for place in places(RECORD.to_json()) if place[:2] != ("model", "data")]


def damaged(tmp_path, change):
    """Write run.json with one value changed, and read it."""
    value = json.loads(TEXT)
    change(value)
    results = ResultsFolder(tmp_path)
    results.run_json.write_text(json.dumps(value))
    return results.read_run()


@pytest.mark.parametrize("place", PLACES, ids=lambda place: ".".join(map(str, place)))
def test_a_value_of_another_type_is_named(tmp_path, place):
    """Wherever it stands: a clear error, never a traceback."""

    def change(value):
        for name in place[:-1]:
            value = value[name]
        value[place[-1]] = [[]]

    with pytest.raises(ResultsError, match=r"is damaged|was not written by") as caught:
        damaged(tmp_path, change)

    assert str(tmp_path / "run.json") in str(caught.value)
    assert "--out" in caught.value.hint


@pytest.mark.parametrize("name", ["fingerprint", "choices", "model", "rates", "started"])
def test_a_field_that_is_missing_is_named(tmp_path, name):
    """A record without it says too little to go on with."""
    with pytest.raises(ResultsError, match=name if name != "fingerprint" else "was not written by"):
        damaged(tmp_path, lambda value: value.pop(name))


def test_a_digest_of_other_fields_is_refused(tmp_path):
    """Tables are marked with the digest, so it must be that of what run.json says."""
    with pytest.raises(ResultsError, match="digest"):
        damaged(tmp_path, lambda value: value["fingerprint"].update(coverage=0.5))


@given(data=st.data())
@settings(max_examples=150)
def test_any_damaged_bytes_are_a_record_or_a_clear_error(tmp_path_factory, data):
    """Bytes lost, doubled or replaced anywhere in the file."""
    raw = TEXT.encode()
    start = data.draw(st.integers(0, len(raw)))
    stop = data.draw(st.integers(start, min(start + 40, len(raw))))
    junk = data.draw(st.binary(max_size=8) | st.sampled_from([b"NaN", b"1e999", b"[" * 5000]))
    results = ResultsFolder(tmp_path_factory.mktemp("damaged"))
    results.run_json.write_bytes(raw[:start] + junk + raw[stop:])

    with suppress(ResultsError):
        assert results.read_run().model.classes


def test_a_line_says_how_it_agrees():
    """Cells, largest difference and flips; or why it was not measured."""
    assert str(RECORD.parity) == (
        "agrees with FP32 PyTorch on 8 of your cells, probabilities to 0.001, 0 labels flipped"
    )
    assert "runtime: torch (asked for)" in RECORD.choice_lines


Other = Literal["b"]


@dataclass(frozen=True)
class Point:
    """A record of the kinds of values that run.json has none of."""

    x: float
    pair: tuple[int, str]
    name: Literal["a"] | Other | None = None
    flag: bool = False


def test_a_whole_number_is_a_number_and_a_truth_value_is_none():
    """As Python's own types would have it the other way round."""
    assert record_from_json(Point, {"x": 1, "pair": [1, "a"]}) == Point(1.0, (1, "a"))
    for wrong in ({"x": True}, {"pair": [True, "a"]}, {"pair": [1]}, {"flag": 1}, {"name": "c"}):
        with pytest.raises(JsonRecordError, match=next(iter(wrong))):
            record_from_json(Point, {"x": 1, "pair": [1, "a"], **wrong})
