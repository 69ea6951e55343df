"""Results folders as a run would leave them, made up cell by cell."""

from __future__ import annotations

import json
from collections import Counter

import numpy as np
import pyarrow as pa
import xxhash
from draw_cells import draw_cell

from engines.cells import STATUSES
from engines.hardware.machine import Machine
from engines.models.input import FieldCentres, ModelInput
from engines.parity import ScoreAgreement
from engines.registry import Choice
from engines.sources.labels import open_labels
from screen.options import Settings
from screen.report.content.cell_reader import CellRows
from screen.report.content.columns import Fields
from screen.report.content.scan import scan
from screen.results.fingerprint import Fingerprint
from screen.results.folder import ResultsFolder
from screen.results.run_record import (
    ClassCoverage,
    Counts,
    DriftRecord,
    ModelRecord,
    ParityRecord,
    Rates,
    RunRecord,
    SourceRecord,
    TrustRecord,
)
from screen.results.table_records import write_recorded
from screen.summary.flags import Thresholds

HEIGHT, WIDTH = 3, 4
SIZE = (90, 70)
CENTRES = FieldCentres(16 / HEIGHT, 16 / WIDTH, 32 / HEIGHT, 32 / WIDTH)  # side by side


def cell(path, slide, p=0.5, **values):
    """Return one scored cell of the classes hem and all, ``p`` that it is all."""
    evidence = np.linspace(-1, 3 * p, HEIGHT * WIDTH).tolist()
    return {
        "path": path,
        "slide": slide,
        "status": "ok",
        "error": None,
        "width": SIZE[0],
        "height": SIZE[1],
        "content_hash": None,
        "predicted": "all" if p >= 0.4 else "hem",
        "positive": p >= 0.4,
        "prob_hem": 1 - p,
        "prob_all": p,
        "prediction_set": ["all"] if p > 0.8 else ["hem", "all"],
        "abstained": p <= 0.8,
        "ood_score": 10 * abs(p - 0.5),
        "ood_p": max(0.002, 1 - 2 * abs(p - 0.5)),
        "focus": 5 * p,
        "exposure": 0.5,
        "clipped": 0.0,
        "foreground": 0.3,
        "stain_shift": 1.0 + p,
        "evidence": evidence,
        **values,
    }


def fault(path, slide, status="undecodable", error="truncated"):
    """Return one cell that could not be scored."""
    nothing = dict.fromkeys(cell("", ""))
    return nothing | {"path": path, "slide": slide, "status": status, "error": error}


def draw(folder, cells):
    """Draw a picture for each scored cell and note its hash."""
    for seed, each in enumerate(cells):
        if each["status"] != "ok":
            continue
        place = folder / each["path"]
        place.parent.mkdir(parents=True, exist_ok=True)
        draw_cell(seed, SIZE).save(place, "PNG")
        each["content_hash"] = xxhash.xxh3_128_hexdigest(place.read_bytes())
    return cells


SCHEMA = pa.schema(
    {
        **dict.fromkeys(["path", "slide", "status", "error"], pa.string()),
        **dict.fromkeys(["width", "height"], pa.int64()),
        "content_hash": pa.string(),
        "predicted": pa.string(),
        "positive": pa.bool_(),
        **dict.fromkeys(["prob_hem", "prob_all"], pa.float32()),
        "prediction_set": pa.list_(pa.string()),
        "abstained": pa.bool_(),
        **dict.fromkeys(["ood_score", "ood_p", "focus", "exposure", "clipped"], pa.float32()),
        **dict.fromkeys(["foreground", "stain_shift"], pa.float32()),
        "evidence": pa.list_(pa.float32(), HEIGHT * WIDTH),
    }
)
TRUST = ("prediction_set", "abstained", "ood_score", "ood_p", "stain_shift")


def make_results(
    out, cells, *, source, part_cells=7, trust=True, trained_on=(), flags=None, extra=(), **model
):
    """
    Write run.json, parts, slides and duplicates.

    Args:
        out: The results folder.
        cells: Rows, in the order of the plan.
        source: Where the cells are said to be.
        part_cells: Rows per part.
        trust: Whether the bundle had trust data.
        flags: Codes by slide, in place of those that follow from the cells.
        extra: Further columns of cells, as fields of a schema.
        trained_on: Slides named like people whom the model was trained on.
        model: How crops became input, which part of them, and where evidence looks (``record``).
    """
    results = ResultsFolder(out)
    results.cells.mkdir(parents=True)
    mark = fingerprint(source)
    table = pa.Table.from_pylist(cells, pa.schema([*SCHEMA, *extra]))
    for name in () if trust else TRUST:
        where = table.schema.get_field_index(name)
        nothing = pa.nulls(len(table), SCHEMA.field(name).type)
        table = table.set_column(where, SCHEMA.field(name), nothing)
    shape = {b"slidescreen.evidence": json.dumps({"height": HEIGHT, "width": WIDTH}).encode()}
    for index, start in enumerate(range(0, len(table), part_cells)):
        part = table.slice(start, part_cells).replace_schema_metadata(shape)
        write_recorded(results, results.part(index), part, mark)
    rows = [
        {
            **row,
            "trained_on": row["slide"] in trained_on,
            "flags": (flags or {}).get(row["slide"], row["flags"]),
        }
        for row in slides(cells, trust=trust)
    ]
    write_recorded(results, results.slides, pa.Table.from_pylist(rows), mark)
    copies = [
        {"path": cells[-1]["path"], "duplicate_of": cells[0]["path"]},
    ]
    write_recorded(results, results.duplicates, pa.Table.from_pylist(copies), mark)
    results.write_run(record(mark, cells, trust=trust, **model))
    return out


def fingerprint(source):
    """Return the mark of a run that differs from others in where its cells are."""
    return Fingerprint(
        bundle="b" * 64,
        selection="everything",
        columns="",
        box_margin=0,
        slide_rule=str(source),
        shard_cells=7,
        decoder="pillow",
        decode_on="cpu",
        max_pixels=10**6,
        limits="none",
        runtime="torch",
        precision="fp32",
        batch=4,
        coverage=0.95,
    )


def slides(cells, *, trust):
    """Return the rows of slides.parquet."""
    rows = []
    for name in sorted({each["slide"] for each in cells}):
        own = [each for each in cells if each["slide"] == name]
        scored = [each for each in own if each["status"] == "ok"]
        called = sum(each["positive"] for each in scored)
        share = called / len(scored) if scored else None
        rows.append(
            {
                "slide": name,
                "n_cells": len(own),
                "n_ok": len(scored),
                **{
                    f"n_{status}": sum(each["status"] == status for each in own)
                    for status in ("unreadable", "undecodable", "oversized")
                },
                "count_hem": sum(each["predicted"] == "hem" for each in scored),
                "count_all": sum(each["predicted"] == "all" for each in scored),
                "n_positive": called,
                "fraction_positive": share,
                "fraction_positive_wilson95_low": None if share is None else share * 0.8,
                "fraction_positive_wilson95_high": None if share is None else 0.2 + share * 0.8,
                "n_duplicates": 0,
                "flags": ["positive_above_threshold"] if share and share > 0.6 else [],
                **(trust_of(scored, share) if trust else {}),
            }
        )
    return rows


def trust_of(scored, share):
    """Return what a bundle with trust data adds to a slide."""
    return {
        "n_abstained": sum(each["abstained"] for each in scored),
        "n_out_of_distribution": sum(each["ood_p"] <= 0.01 for each in scored),
        "fraction_positive_rogan_gladen": None if share is None else share * 0.9,
        "fraction_positive_rogan_gladen95_low": None if share is None else share * 0.5,
        "fraction_positive_rogan_gladen95_high": None if share is None else 0.5 + share * 0.5,
    }


def chosen(value):
    """Return a choice that was asked for."""
    return Choice(value, "asked for")


SETTINGS = Settings(
    decoder=chosen("pillow"),
    decode_on=chosen("cpu"),
    runtime=chosen("torch"),
    precision=chosen("fp32"),
    batch=chosen(4),
    shard_cells=chosen(7),
    threads=chosen(1),
    decode_workers=chosen(0),
)
MACHINE = Machine(node="here", system="a system", cpu="a processor", gpu=None)
AGREES = ParityRecord(
    verdict="agrees",
    scores=ScoreAgreement(
        cells=8, precision="fp32", max_dp=0.001, flips=0, far_flips=0, worst="a/0.png"
    ),
    machine=MACHINE,
    versions={"slidescreen": "0.1.0"},
)


def record(mark, cells, *, trust=True, fit="squash", crop_pct=1.0, centres=CENTRES):
    """Return run.json of a run that is done."""
    return RunRecord(
        state="done",
        fingerprint=mark,
        choices=SETTINGS,
        model=ModelRecord(
            sha256="b" * 64,
            folder="/models/test",
            architecture="test",
            classes=("hem", "all"),
            display_names={"hem": "normal (hem)", "all": "leukaemic blast (all)"},
            positive="all",
            threshold=0.4,
            temperature=1.0,
            input=ModelInput(
                height=32, width=32, fit=fit, crop_pct=crop_pct, mean=(0.5,) * 3, std=(0.5,) * 3
            ),
            evidence=centres,
            data={"name": "nothing"},
        ),
        decoder="pillow",
        decoded_by={"pillow": 3},
        runtime="torch",
        parity=AGREES,
        rates=Rates(decode=100.0, runtime=50.0, end_to_end=40.0),
        source=SourceRecord(locations=(mark.slide_rule,), other_files=0, examples=()),
        trust=trust_record(available=trust),
        flags=Thresholds(),
        started="2026-01-01T10:00:00+00:00",
        finished="2026-01-01T10:01:00+00:00",
        machine=MACHINE,
        versions=AGREES.versions,
        counts=counts(cells),
        drift=DriftRecord(
            measured=trust,
            verdict="differs from training" if trust else "not measured",
            sentence="Colours are paler than in training.",
        ),
        warnings=("Colours are paler than in training.", "Take care.") if trust else (),
    )


def trust_record(*, available):
    """Say what sets rest on."""
    why = "100 held-out cells of 10 subjects"
    if not available:
        return TrustRecord(available=False, why=why)
    known = ClassCoverage(cells=50, subjects=5, measured=0.94, guaranteed=0.9)
    return TrustRecord(
        available=True, why=why, coverage=0.95, classes={"all": known}, ood="by distance"
    )


def counts(cells):
    """Count cells and slides."""
    by_status = Counter(each["status"] for each in cells)
    return Counts(
        cells=len(cells),
        slides=len({each["slide"] for each in cells}),
        **{status: by_status[status] for status in STATUSES},
        unmatched=0,
        other_files=0,
        abstained=0,
        out_of_distribution=0,
        flagged=0,
        duplicates=1,
    )


def overview(tmp_path, cells, labels=None, review=None, **made):
    """Scan made results; return them, too."""
    results = ResultsFolder(make_results(tmp_path / "out", cells, source="/cells", **made))
    record = results.read_run()
    rows = CellRows.of(results, record)
    fields = Fields.of(record, rows.schema)
    slides = [slide["slide"] for slide in results.read_slides()]
    known = None if labels is None else open_labels(labels, fields.classes)
    return scan(rows, fields, slides, known, review), rows, fields
