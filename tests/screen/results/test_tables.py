"""Plans, parts and slides: rows that add up."""

from __future__ import annotations

import math
from dataclasses import fields, replace
from types import MappingProxyType

import numpy as np
import pyarrow.dataset as ds
import pyarrow.parquet as pq
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from engines.cells import CellFacts, CellRef, Fault, Scores, Shard
from engines.errors import BundleError, ParityError, ResultsError, SourceError
from engines.sources.base import Entry, Listing, Others
from engines.sources.slide_rule import SlideRule
from screen.results.cell_rows import shard_table
from screen.results.cell_uncertainty import Uncertainty
from screen.results.fingerprint import Fingerprint
from screen.results.folder import ResultsFolder, open_results
from screen.results.parts import Commit, ShardDone
from screen.results.plan import read_plan
from screen.results.planning import plan_source
from screen.results.schema import class_columns
from screen.summary.flags import Thresholds
from screen.summary.slides import summary

FINGERPRINT = Fingerprint(
    bundle="b",
    selection="everything",
    columns="path=file",
    box_margin=1,
    slide_rule="parent",
    shard_cells=10,
    decoder="dali",
    decode_on="cpu",
    max_pixels=1,
    limits="none",
    runtime="openvino",
    precision="bf16",
    batch=8,
    coverage=0.95,
)


def slide_table(cells, bundle):
    """Summarise cells."""
    plan = cells.to_table(columns=["path", "slide"])
    return summary(cells, plan, Uncertainty(bundle, 0.95), Thresholds()).slides


def part_of(shard, scores, bundle):
    """Lay out a shard's rows."""
    uncertainty = Uncertainty(bundle, 0.95)
    return shard_table(shard, [uncertainty.kept(item) for item in scores], uncertainty)


FEATURES = 256  # of the tiny network


class Names:
    """A source of nothing but names."""

    location, name = "/names", "names"
    carried = MappingProxyType({})

    def __init__(self, paths):
        """Hold *paths*."""
        self._paths = paths

    def list(self):
        """Name them."""
        return Listing(map(Entry, self._paths), Others(2, ["notes.txt"]))


def plan_of(count, shard_cells=10):
    """Plan numbered cells of three slides."""
    return plan_source(
        Names([f"s{n % 3}/{n:04}.jpg" for n in range(count)]), SlideRule(), shard_cells
    )


@pytest.mark.parametrize("field", [field.name for field in fields(Fingerprint)])
def test_every_field_is_part_of_the_fingerprint(field):
    """Changing any one field makes it another run."""
    other = replace(FINGERPRINT, **{field: getattr(FINGERPRINT, field) * 2})

    assert other.digest != FINGERPRINT.digest


@given(count=st.integers(1, 60), shard_cells=st.integers(1, 25))
def test_shards_hold_every_cell_once_in_order(count, shard_cells):
    """Whatever the sizes, shards partition the plan."""
    plan = plan_of(count, shard_cells)
    shards = list(plan.shards())

    assert [ref.path for shard in shards for ref in shard.refs] == [
        entry.path for entry in plan.entries()
    ]
    assert [shard.index for shard in shards] == list(range(plan.shard_count))
    assert all(1 <= len(shard.refs) <= shard_cells for shard in shards)


@given(count=st.integers(1, 300), handful=st.integers(1, 64))
def test_handfuls_hold_every_cell_once(count, handful):
    """The sample for parity may go on until a cell decodes."""
    refs = [ref for item in plan_of(count).spread(handful) for ref in item.refs]

    assert len(refs) == count == len(set(refs))


def test_a_handful_is_spread_over_the_whole_source():
    """No stretch of a large source goes unseen."""
    (first, *_) = plan_of(10_000).spread(64)
    rows = sorted(int(ref.path[3:7]) for ref in first.refs)

    assert len(rows) == 64
    assert max(np.diff([0, *rows, 9999])) < 10_000 / 64 * 3


def test_a_plan_is_read_back_as_it_was(tmp_path):
    """Cells, slides, shards, and what was left out."""
    plan = plan_of(25)
    plan.write(tmp_path / "plan.parquet", FINGERPRINT.metadata)

    again = read_plan(ResultsFolder(tmp_path))

    assert again.facts == plan.facts
    assert list(again.shards()) == list(plan.shards())
    assert (again.facts.ignored, again.facts.examples) == (2, ("notes.txt",))


def test_a_plan_that_was_changed_is_refused(tmp_path):
    """A row taken out of the plan is noticed."""
    plan = plan_of(25)
    plan.write(tmp_path / "plan.parquet", FINGERPRINT.metadata)
    table = pq.read_table(tmp_path / "plan.parquet")
    pq.write_table(table.slice(1), tmp_path / "plan.parquet")

    with pytest.raises(ResultsError, match="was changed"):
        read_plan(ResultsFolder(tmp_path))


def test_a_source_without_cells_is_an_error():
    """It says what was there instead."""
    with pytest.raises(SourceError, match="no cell image in /names .2 other files"):
        plan_source(Names([]), SlideRule(), 10)


@pytest.mark.parametrize("classes", [["a b", "a_b"], ["ALL", "all"], [""]])
def test_class_names_may_not_collide_as_columns(classes):
    """Databases ignore case, and columns take no spaces."""
    with pytest.raises(BundleError, match="cannot be told apart"):
        class_columns(classes)


def scores_of(shard, scored, faults=(), logits=None, features=FEATURES):
    """Score some rows of a shard by their number; the others given are at fault."""
    refs = tuple(shard.refs[row] for row in scored)
    if logits is None:
        logits = np.array([[row, -row] for row in scored], np.float32).reshape(-1, 2)
    return Scores(
        shard,
        refs,
        (CellFacts(4, 3, "0" * 32, "codec"),) * len(refs),
        tuple(Fault(shard.refs[row], "undecodable", f"reason {row}") for row in faults),
        logits,
        np.zeros((len(refs), features), np.float16),
        np.zeros((len(refs), 3, 1, 2), np.float16),
    )


@given(data=st.data())
@settings(max_examples=40)
def test_rows_are_in_the_shards_order_with_their_own_scores(bundle, data):
    """However a shard is cut into batches and faults, each cell keeps its own row."""
    count = data.draw(st.integers(1, 30))
    bad = data.draw(st.sets(st.integers(0, count - 1)))
    cuts = sorted(data.draw(st.sets(st.integers(1, count))) | {count})
    shard = Shard(3, tuple(CellRef(f"{row}.jpg", "s") for row in range(count)))
    gathered = [
        scores_of(
            shard,
            [row for row in range(start, stop) if row not in bad],
            [row for row in range(start, stop) if row in bad],
        )
        for start, stop in zip([0, *cuts], cuts, strict=False)
    ]

    rows = part_of(shard, gathered, bundle).to_pylist()

    assert [row["path"] for row in rows] == [ref.path for ref in shard.refs]
    for number, row in enumerate(rows):
        if number in bad:
            assert (row["status"], row["error"]) == ("undecodable", f"reason {number}")
            assert row["logit_hem"] is row["predicted"] is row["positive"] is None
        else:
            assert (row["status"], row["error"], row["logit_hem"]) == ("ok", None, number)
            assert row["positive"] == (row["prob_all"] >= 0.5)


@pytest.mark.parametrize("threshold", [0.1, 0.3, 0.9])
def test_a_rows_class_and_its_call_never_contradict(bundle, threshold):
    """A cell is of the positive class where it is called, of the other one where it is not."""
    shard = Shard(0, tuple(CellRef(str(row), "s") for row in range(-4, 5)))
    logits = np.array([[row / 2, -row / 2] for row in range(-4, 5)], np.float32)
    scores = scores_of(shard, range(9), logits=logits)

    rows = part_of(shard, [scores], replace(bundle, threshold=threshold)).to_pylist()

    assert {row["positive"] for row in rows} == {True, False}
    assert all((row["predicted"] == "all") == row["positive"] for row in rows)


def committed(tmp_path, bundle, *scores):
    """Commit scores to a folder."""
    results = ResultsFolder(tmp_path)
    results.cells.mkdir()
    events = Commit(results, FINGERPRINT, Uncertainty(bundle, 0.95)).stream(scores)
    return [event for event in events if isinstance(event, ShardDone)]


def test_a_part_appears_when_its_shard_is_whole(tmp_path, bundle):
    """A shard of several batches is one part; the next shard is another."""
    shards = [Shard(k, tuple(CellRef(f"{k}-{n}", "s") for n in range(4))) for k in range(2)]

    done = committed(
        tmp_path,
        bundle,
        scores_of(shards[0], [0, 1]),
        scores_of(shards[0], [3], [2]),
        scores_of(shards[1], [0, 1, 2, 3]),
    )

    assert [(item.index, item.scored, item.faults) for item in done] == [(0, 3, 1), (1, 4, 0)]
    assert open_results(tmp_path).count_rows() == 8


def test_a_lost_cell_is_never_committed(tmp_path, bundle):
    """A shard that ends short is a bug, and no part."""
    shard = Shard(0, tuple(CellRef(f"{n}", "s") for n in range(4)))

    with pytest.raises(RuntimeError, match="lacks 1 cells"):
        committed(tmp_path, bundle, scores_of(shard, [0, 1, 2]))

    assert list((tmp_path / "cells").iterdir()) == []


def test_a_doubled_cell_is_never_committed(tmp_path, bundle):
    """Nor is one that took another's place."""
    shard = Shard(0, tuple(CellRef(f"{n}", "s") for n in range(3)))

    with pytest.raises(RuntimeError, match="exactly once"):
        committed(tmp_path, bundle, scores_of(shard, [0, 1]), scores_of(shard, [1]))


def test_a_score_that_is_no_number_is_never_committed(tmp_path, bundle):
    """The error names the cell."""
    shard = Shard(0, (CellRef("fine", "s"), CellRef("sick", "s")))
    logits = np.array([[1, 0], [np.nan, 0]], np.float32)

    with pytest.raises(ParityError, match="sick"):
        committed(tmp_path, bundle, scores_of(shard, [0, 1], logits=logits))


def cells_table(bundle, rows):
    """Make cells of (slide, logit of hem or None for a fault)."""
    shard = Shard(0, tuple(CellRef(str(n), slide) for n, (slide, _) in enumerate(rows)))
    good = [n for n, (_, logit) in enumerate(rows) if logit is not None]
    logits = np.array([[rows[n][1], 0] for n in good], np.float32).reshape(-1, 2)
    bad = [n for n, (_, logit) in enumerate(rows) if logit is None]
    return part_of(shard, [scores_of(shard, good, bad, logits)], bundle)


def test_slides_add_up(bundle):
    """Counts, shares and means are those of the slide's own cells."""
    rows = [("b", 2.0), ("b", -2.0), ("b", -1.0), ("b", None), ("a", None)]
    table = slide_table(ds.dataset(cells_table(bundle, rows)), bundle)

    a, b = table.to_pylist()

    assert (a["slide"], a["n_cells"], a["n_ok"], a["n_undecodable"], a["n_positive"]) == (
        "a",
        1,
        0,
        1,
        0,
    )
    assert (
        a["fraction_positive"] is a["mean_prob_all"] is a["fraction_positive_wilson95_low"] is None
    )
    assert (b["n_cells"], b["n_ok"], b["count_hem"], b["count_all"]) == (4, 3, 1, 2)
    assert b["fraction_positive"] == pytest.approx(2 / 3)
    assert b["mean_prob_all"] + b["mean_prob_hem"] == pytest.approx(1)


@given(st.integers(1, 50), st.data())
@settings(max_examples=20)
def test_the_interval_is_wilsons(bundle, count, data):
    """Against the formula of Wilson (1927), written out."""
    hits = data.draw(st.integers(0, count))
    rows = [("s", -5.0)] * hits + [("s", 5.0)] * (count - hits)
    (row,) = slide_table(ds.dataset(cells_table(bundle, rows)), bundle).to_pylist()
    z, share = 1.959963984540054, hits / count
    middle = (share + z * z / (2 * count)) / (1 + z * z / count)
    half = z / (1 + z * z / count) * math.sqrt(share * (1 - share) / count + (z / (2 * count)) ** 2)

    assert row["fraction_positive_wilson95_low"] == pytest.approx(max(0, middle - half), abs=1e-9)
    assert row["fraction_positive_wilson95_high"] == pytest.approx(min(1, middle + half), abs=1e-9)


def test_without_a_positive_class_shares_are_null(three_classes):
    """Null is not zero; the classes' own columns are there, under safe names."""
    shard = Shard(0, (CellRef("x", "s"),))
    table = part_of(
        shard, [scores_of(shard, [0], logits=np.array([[0, 3, 1]], np.float32))], three_classes
    )
    (row,) = slide_table(ds.dataset(table), three_classes).to_pylist()

    assert table.to_pylist()[0]["predicted"] == "b c"
    assert row["n_positive"] is row["fraction_positive"] is None
    assert row["count_b_c"] == 1
