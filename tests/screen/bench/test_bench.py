"""What is measured is what a run does; the slowest stage limits, and advice fits it."""

from __future__ import annotations

import json
import sys
from dataclasses import replace

import pytest

from engines.errors import SourceError
from engines.registry import Choice
from screen.bench.advice import advice
from screen.bench.material import Material
from screen.bench.measure import BenchOptions, bench
from screen.cli import main as cli

GIB = 2**30


@pytest.fixture(scope="module")
def how(bundle):
    """The tiny bundle, on the reference."""
    return {
        "model": bundle.folder,
        "decoder": "pillow",
        "runtime": "torch",
        "precision": "fp32",
        "threads": 1,
    }


@pytest.fixture(scope="module")
def measured(how, lasting_cells):
    """Eleven cells, two of them bad."""
    return bench(BenchOptions(source=(lasting_cells,), how=how))


def test_every_stage_is_measured(measured):
    """Alone and together, with memory and the time to start."""
    assert measured.material.cells == 10  # the empty file cannot be measured
    assert list(measured.stages) == ["read", "decode", "engine", "write"]
    assert all(rate > 0 for rate in measured.stages.values())
    assert measured.record.rates.end_to_end > 0
    assert measured.start_up > 0
    assert 0 < measured.peak < measured.memory
    assert measured.limit in measured.stages


def test_cells_are_drawn_where_there_is_no_source(monkeypatch, capsys, how):
    """And a program gets all of it as JSON."""
    asked = [
        "--model", how["model"], "--decoder", "pillow", "--runtime", "torch",
        "--precision", "fp32", "--threads", "1", "--count", "5", "--json",
    ]  # fmt: skip
    monkeypatch.setattr(sys, "argv", ["slidescreen", "bench", *map(str, asked)])

    with pytest.raises(SystemExit) as caught:
        cli.main()
    found = json.loads(capsys.readouterr().out)

    assert caught.value.code == 0
    assert (found["cells"], found["drawn"]) == (5, True)
    assert {"decode", "engine", "write", "together", "at_best"} == found["rates"].keys()
    assert found["choices"]["runtime"] == "torch"


def test_a_source_of_nothing_readable_is_refused(tmp_path, how):
    """There is nothing to measure."""
    (tmp_path / "a.png").mkdir()
    (tmp_path / "b.png").write_bytes(b"")

    with pytest.raises(SourceError, match="no cell of .* can be read"):
        bench(BenchOptions(source=(tmp_path,), how=how))


def with_rates(measured, read, decode, engine, write=1e6, **changes):
    """Return the same with other rates, on a quiet machine."""
    rates = replace(measured.record.rates, decode=decode, runtime=engine, end_to_end=engine)
    record = replace(measured.record, rates=rates)
    quiet = {"load": 0.0, "peak": GIB, "memory": 8 * GIB, "cores": 1}
    return replace(measured, record=record, read=read, write=write, **{**quiet, **changes})


@pytest.mark.parametrize(
    ("rates", "limit", "said"),
    [
        ((1000, 800, 100), "engine", "the network limits"),
        ((1000, 80, 500), "decode", "decoding limits"),
        ((10, 800, 500), "read", "reading limits"),
        ((1000, 800, 500, 20), "write", "writing limits"),
    ],
)
def test_the_slowest_stage_limits(measured, rates, limit, said):
    """And the advice is about it."""
    found = with_rates(measured, *rates)

    assert found.limit == limit
    assert any(said in sentence for sentence in advice(found))


def test_stages_on_the_same_cores_take_turns(measured):
    """Decoding and the network on a processor: their times add up."""
    assert with_rates(measured, 1000, 300, 100).at_best == pytest.approx(75)


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"load": 3.0}, "other processes are at work"),
        ({"peak": 7 * GIB}, "memory is nearly full"),
        ({"cores": 8}, "raise --threads"),
    ],
)
def test_what_stands_in_the_way_is_said(measured, changes, said):
    """A busy machine, full memory, idle cores."""
    found = with_rates(measured, 1000, 80, 500, **changes)

    assert any(said in sentence for sentence in advice(found))
    assert not any(said in sentence for sentence in advice(with_rates(measured, 1000, 80, 500)))


def test_why_it_is_float32_is_said(measured):
    """The reason that the run gave."""
    choices = replace(measured.record.choices, precision=Choice("fp32", "no bfloat16 here"))
    found = with_rates(measured, 1000, 800, 100)
    found = replace(found, record=replace(found.record, choices=choices))

    assert any("no bfloat16 here" in sentence for sentence in advice(found))


def test_a_material_of_drawn_cells_has_no_rate_of_reading(measured):
    """They were never read."""
    found = replace(measured, material=Material(5, 1000, None), read=None)

    assert "read" not in found.stages
