"""What a run comes to: duplicates, top cells, flags, drift, and the columns of every cell."""

from __future__ import annotations

import json
import shutil
from dataclasses import replace

import numpy as np
import polars as pl
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import given
from hypothesis import strategies as st
from tiny import make_bundle

import screen
from engines.models.serving_graph import network_from_bundle
from engines.uncertainty.conformal import Conformal
from screen.report import ReportOptions, write_report
from screen.summary.duplicates import ContentHashes
from screen.summary.flags import FLAGS, Thresholds, flag_words, flags


@pytest.fixture(scope="module")
def ran(bundle, tmp_path_factory):
    """Run the tiny bundle over drawn cells of two slides, some twice and one bad."""
    from draw_cells import draw_cell

    folder = tmp_path_factory.mktemp("told")
    for slide in ("first", "second"):
        (folder / "cells" / slide).mkdir(parents=True)
    for seed in range(14):
        slide = ("first", "second")[seed % 2]
        draw_cell(seed, (60, 50)).save(folder / "cells" / slide / f"{seed:02}.png")
    shutil.copy(folder / "cells/first/00.png", folder / "cells/second/copy.png")
    shutil.copy(folder / "cells/first/00.png", folder / "cells/first/again.png")
    (folder / "cells/second/bad.png").write_bytes(b"no image")
    options = screen.RunOptions(
        source=folder / "cells", out=folder / "results", model=bundle.folder, shard_cells=5
    )
    list(screen.run(options))
    return options


def test_a_model_without_evidence_is_screened_with_and_says_so(ran, tmp_path):
    """A class token has no map: the column is null, everything else is there, the run says why."""
    model = make_bundle(tmp_path, classes=["a", "b"], positive="a", architecture="test_vit")
    options = replace(ran, model=model.folder, out=tmp_path / "results")

    list(screen.run(options))

    rows = rows_of(options)
    scored = [row for row in rows if row["status"] == "ok"]
    assert len(scored) == 16
    assert all(row["evidence"] is None for row in rows)
    assert all(0 <= row["prob_a"] <= 1 for row in scored)
    said, usual = (
        " ".join(json.loads((out / "run.json").read_text())["warnings"])
        for out in (options.out, ran.out)
    )
    assert "evidence column is empty" in said
    assert "evidence" not in usual
    write_report(ReportOptions(results=options.out))
    assert (options.out / "report.html").stat().st_size > 0


def rows_of(options, name="cells"):
    """Return rows of a table."""
    if name == "cells":
        return screen.open_results(options.out).to_table().to_pylist()
    return pq.read_table(options.out / f"{name}.parquet").to_pylist()


def test_sets_and_distances_are_those_of_the_bundle(ran, bundle):
    """Recomputed from the columns beside them."""
    held = bundle.trust.held_out
    from engines.uncertainty import probabilities

    chances = probabilities(held.logits, bundle.temperature)
    limits = Conformal.fitted(chances, held.truth, held.subjects, 0.95).limits
    for row in rows_of(ran):
        if row["status"] != "ok":
            assert row["prediction_set"] is row["abstained"] is row["ood_p"] is row["focus"] is None
            assert row["evidence"] is row["foreground"] is row["stain_shift"] is None
            continue
        inside = [
            c
            for c, limit in zip(bundle.classes, limits, strict=True)
            if 1 - row[f"prob_{c}"] <= limit
        ]
        assert row["prediction_set"] == inside
        assert row["abstained"] == (len(inside) != 1)
        expected = bundle.trust.usual_strangeness.p_values(np.array([row["ood_score"]]))
        assert row["ood_p"] == pytest.approx(expected[0])
        assert 0 < row["foreground"] <= 1
        assert row["stain_shift"] > 0


def test_evidence_adds_up_to_the_positive_classes_logit(ran, bundle):
    """The mean over places plus the bias is the logit, within bfloat16's limit."""
    number = bundle.classes.index(bundle.positive)
    bias = float(network_from_bundle(bundle).get_classifier().bias.detach()[number])
    shape = json.loads(
        pq.read_schema(ran.out / "cells/part-00000.parquet").metadata[b"slidescreen.evidence"]
    )
    good = [row for row in rows_of(ran) if row["status"] == "ok"]

    assert all(len(row["evidence"]) == shape["height"] * shape["width"] for row in good)
    for row in good:
        scale = max(1.0, *map(abs, row["evidence"]))
        assert np.mean(row["evidence"]) + bias == pytest.approx(row["logit_all"], abs=2e-2 * scale)


def test_duplicates_name_the_first_of_the_plan(ran):
    """Over slides and parts; the first itself is not listed."""
    assert rows_of(ran, "duplicates") == [
        {
            "path": path,
            "slide": path.split("/")[0],
            "duplicate_of": "first/00.png",
            "duplicate_of_slide": "first",
        }
        for path in ("first/again.png", "second/copy.png")
    ]
    assert [row["n_duplicates"] for row in rows_of(ran, "slides")] == [1, 1]


@given(contents=st.lists(st.sampled_from(["a", "b", "c", None]), max_size=30))
def test_duplicates_are_those_of_a_simple_count(contents):
    """Against a dictionary; a file never read is no duplicate."""
    hashes = [None if c is None else f"{ord(c):032x}" for c in contents]
    plan = pa.table(
        {"path": [str(n) for n in range(len(contents))], "slide": ["s"] * len(contents)}
    )
    plan = plan.cast(pa.schema([("path", pa.string()), ("slide", pa.string())]))
    gathered = ContentHashes()
    for start in range(0, len(hashes), 4):
        gathered.add(pa.array(hashes[start : start + 4], pa.string()))
    seen, expected = {}, []
    for row, content in enumerate(contents):
        if content is not None and seen.setdefault(content, row) != row:
            expected.append((str(row), str(seen[content])))

    found = gathered.duplicates(plan).to_pylist()

    assert [(row["path"], row["duplicate_of"]) for row in found] == expected


SLIDE = {
    "n_cells": 100,
    "n_ok": 100,
    "n_out_of_distribution": 0,
    "n_abstained": 0,
    "fraction_positive": 0.1,
    "fraction_positive_rogan_gladen": 0.1,
}


@pytest.mark.parametrize(
    ("changes", "expected"),
    [
        ({}, []),
        ({"fraction_positive_rogan_gladen": 0.2}, ["positive_above_threshold"]),
        (
            {"fraction_positive": 0.5, "fraction_positive_rogan_gladen": None},
            ["positive_above_threshold"],
        ),
        ({"fraction_positive": 0.5}, []),
        ({"n_cells": 49, "n_ok": 49}, ["too_few_cells"]),
        ({"n_cells": 126}, ["many_unscored"]),
        ({"n_out_of_distribution": 51}, ["mostly_out_of_distribution"]),
        ({"n_abstained": 51}, ["mostly_abstained"]),
        ({"n_abstained": None, "n_out_of_distribution": None}, []),
    ],
)
def test_flags_say_why(changes, expected):
    """Each reason from its own threshold, and none without."""
    assert flags(SLIDE | changes, Thresholds()) == expected


def test_flags_read_as_words():
    """The positive class under the name people know it by; foreign text as it is."""
    words = [flag_words(code, "leukaemic blast (all)") for code in FLAGS]

    assert words[0] == "share of leukaemic blast (all) above the threshold"
    assert not any("_" in text or "{" in text for text in words)
    assert flag_words("{0} of another program", None) == "{0} of another program"


def test_other_thresholds_rewrite_slides_and_no_cell(ran):
    """A finished run asked again flags by what is asked now; sets stay as they were."""
    before, slides = rows_of(ran), rows_of(ran, "slides")

    list(screen.run(replace(ran, thresholds=Thresholds(cells=1, fraction=1.0, ood_level=1.0))))

    assert rows_of(ran) == before
    assert all("too_few_cells" in row["flags"] for row in slides)
    for row in rows_of(ran, "slides"):
        assert "too_few_cells" not in row["flags"]
        assert "mostly_out_of_distribution" in row["flags"]
        assert row["n_out_of_distribution"] == row["n_ok"]
        assert (
            row["fraction_positive_rogan_gladen95_low"],
            row["fraction_positive_rogan_gladen95_high"],
        ) == (0, 1)
    list(screen.run(ran))
    assert rows_of(ran, "slides") == slides


def test_slides_name_their_most_suspicious_cells(ran):
    """Highest probability first."""
    cells = {row["path"]: row for row in rows_of(ran) if row["status"] == "ok"}
    for row in rows_of(ran, "slides"):
        chances = [cells[path]["prob_all"] for path in row["top_cells"]]
        own = [cell for cell in cells.values() if cell["slide"] == row["slide"]]
        assert len(chances) == min(10, len(own))
        assert chances == sorted((cell["prob_all"] for cell in own), reverse=True)[:10]
        assert row["flagged"] == bool(set(row["flags"]) - {"too_few_cells"})


def test_drawings_are_no_cells_of_the_bundles(ran):
    """The run's record says what its scores rest on, and that they rest on nothing here."""
    record = json.loads((ran.out / "run.json").read_text())

    assert record["trust"]["available"]
    assert record["trust"]["classes"]["all"]["subjects"] == 3
    assert record["trust"]["classes"]["all"]["guaranteed"] == pytest.approx(0.95 * 3 / 4)
    assert record["drift"]["measured"]
    assert record["drift"]["slides"] == 2
    assert record["drift"]["verdict"] == "out of its depth"
    assert record["drift"]["sentence"] in record["warnings"]
    assert record["counts"]["duplicates"] == 2
    strange = [row for row in rows_of(ran) if row["status"] == "ok" and row["ood_p"] <= 0.01]
    assert record["counts"]["out_of_distribution"] == len(strange)
    assert record["counts"]["abstained"] == sum(bool(row["abstained"]) for row in rows_of(ran))


def test_without_trust_data_columns_are_null_and_one_line_says_so(three_classes, ran, tmp_path):
    """The same columns, of the same types."""
    other = replace(ran, model=three_classes.folder, out=tmp_path / "results")
    list(screen.run(other))
    record = json.loads((other.out / "run.json").read_text())
    types, theirs = (screen.open_results(o.out).schema for o in (ran, other))
    shared = ("prediction_set", "abstained", "ood_score", "ood_p", "stain_shift")

    assert all(types.field(name).type == theirs.field(name).type for name in shared)
    for row in rows_of(other):
        assert all(row[name] is None for name in shared)
        assert (row["evidence"] is None) == (row["focus"] is None) == (row["status"] != "ok")
    for row in rows_of(other, "slides"):
        assert (
            row["n_abstained"] is row["top_cells"] is row["fraction_positive_rogan_gladen"] is None
        )
    assert not record["trust"]["available"]
    assert record["drift"]["verdict"] == "not measured"
    assert ["slidescreen-train calibrate" in line for line in record["warnings"]] == [True]


def test_evidence_is_of_the_predicted_class_where_none_is_positive(three_classes, ran, tmp_path):
    """Its mean plus that class's bias is that class's logit."""
    other = replace(ran, model=three_classes.folder, out=tmp_path / "results", precision="fp32")
    list(screen.run(other))
    bias = network_from_bundle(three_classes).get_classifier().bias.detach().numpy()
    columns = {"a": "a", "b c": "b_c", "d": "d"}

    for row in rows_of(other):
        if row["status"] == "ok":
            number = three_classes.classes.index(row["predicted"])
            logit = row[f"logit_{columns[row['predicted']]}"]
            assert np.mean(row["evidence"]) + bias[number] == pytest.approx(logit, abs=2e-2)


def test_duckdb_and_polars_read_every_table(ran):
    """Lists, maps and all."""
    import duckdb

    cells = f"'{ran.out}/cells/*.parquet'"
    question = "select count(*), count(evidence[1]), count(prediction_set[1]) from "
    (counted,) = duckdb.sql(question + cells).fetchall()
    frame = pl.read_parquet(ran.out / "cells" / "*.parquet")

    assert counted[:2] == (17, 16)
    assert len(frame) == 17
    assert frame["evidence"].drop_nulls().len() == 16
    assert pl.read_parquet(ran.out / "slides.parquet")["flags"].list.len().min() >= 1
    assert len(duckdb.sql(f"from '{ran.out}/duplicates.parquet'").fetchall()) == 2
