"""
What a report of a large run takes: time, memory, and the size of the file.

The results are made up: a million cells of a thousand slides in parts of 4,096, with probabilities,
prediction sets, distances, quality and 7 x 7 evidence maps at random, and a label for every cell.
Pictures are real work: for each cell that the report will show there is a BMP of 450 x 450 pixels,
C-NMC's format (hard links of 32 drawn cells). Timed is ``slidescreen report``, a process of its
own, from start to exit; processor seconds and peak memory are what the kernel says (getrusage,
VmHWM).

    python benchmarks/report.py
    python benchmarks/report.py --embeddings 1536
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
import tempfile
import time
from argparse import ArgumentParser
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import pyarrow as pa
import xxhash
from material import REPOSITORY
from page import print_setting, print_table

sys.path.insert(0, str(REPOSITORY / "examples"))

from draw_cells import draw_cell

from engines.hardware.machine import Machine
from engines.models.input import FieldCentres, ModelInput
from engines.parity import ScoreAgreement
from engines.registry import Choice
from screen.options import Settings
from screen.report.content.inputs import read_inputs
from screen.results.fingerprint import Fingerprint
from screen.results.folder import ResultsFolder
from screen.results.run_record import (
    Counts,
    ModelRecord,
    ParityRecord,
    Rates,
    RunRecord,
    SourceRecord,
    TrustRecord,
)
from screen.results.schema import EVIDENCE_KEY, duplicate_schema
from screen.results.table_records import write_recorded
from screen.summary.flags import Thresholds

if TYPE_CHECKING:
    from collections.abc import Sequence

MIB = 2**20
PART_CELLS = 4096
PICTURES = 32
PLACES = 7
INTERVAL_S = 0.05
TIME_GOAL, SIZE_GOAL = 60, 15  # seconds, MB


@dataclass(frozen=True, slots=True)
class Measured:
    """Seconds, those of processors, peak resident bytes, bytes written, and what was said."""

    seconds: float
    busy: float
    peak: int
    size: int
    said: str


def main() -> None:
    """Make results, report on them, print the table."""
    asked = _asked()
    with tempfile.TemporaryDirectory() as folder:
        results, source = ResultsFolder(Path(folder) / "results"), Path(folder) / "cells"
        make(results, source, asked)
        lay_pictures(results, source)
        labels = write_labels(results, asked)
        done = [measured(results), measured(results, "--labels", str(labels))]
    rows = [
        (
            name,
            f"{each.seconds:.1f}",
            f"{each.busy:.1f}",
            f"{each.peak / MIB:,.0f}",
            f"{each.size / 1e6:.1f}",
            each.said.rpartition(", ")[2],
        )
        for name, each in zip(("as it is", "with labels"), done, strict=True)
    ]
    header = ("report", "seconds", "processor s", "peak MiB", "MB", "pictures")
    print_table(f"{asked.cells:,} cells of {asked.slides:,} slides", header, rows)
    slow = max(each.seconds for each in done) > TIME_GOAL
    large = max(each.size for each in done) > SIZE_GOAL * 1e6
    print(f"\ngoal, under {TIME_GOAL} s and {SIZE_GOAL} MB: {'missed' if slow or large else 'met'}")
    print_setting(small=asked.small)


def _asked() -> Asked:
    """Read the command line."""
    parser = ArgumentParser(description="What a report of a large run takes.")
    parser.add_argument("--small", action="store_true", help="try it out; numbers mean nothing")
    parser.add_argument("--embeddings", type=int, default=0, help="features kept of every cell")
    given = parser.parse_args()
    slides, cells = (20, 10_000) if given.small else (1_000, 1_000_000)
    return Asked(slides, cells, given.small, given.embeddings)


@dataclass(frozen=True, slots=True)
class Asked:
    """How much to make."""

    slides: int
    cells: int
    small: bool
    features: int


def make(results: ResultsFolder, source: Path, asked: Asked) -> None:
    """Write parts, slides and run.json."""
    slides, cells = asked.slides, asked.cells
    results.cells.mkdir(parents=True)
    random = np.random.default_rng(0)
    hashes = draw_pictures(source)
    places = json.dumps({"height": PLACES, "width": PLACES}).encode()
    mark, sums_by_slide = fingerprint(), np.zeros((slides, 4), np.int64)
    for part, start in enumerate(range(0, cells, PART_CELLS)):
        row = np.arange(start, min(start + PART_CELLS, cells))
        slide = row * slides // cells
        table, sums = part_table(random, row, slide, hashes)
        if asked.features:
            table = table.append_column("embedding", embeddings(random, len(row), asked.features))
        table = table.replace_schema_metadata({EVIDENCE_KEY: places})
        write_recorded(results, results.part(part), table, mark)
        np.add.at(sums_by_slide, slide, sums)
    write_recorded(results, results.slides, slide_table(sums_by_slide), mark)
    write_recorded(results, results.duplicates, duplicate_schema().empty_table(), mark)
    results.write_run(record(source, cells, slides))


def names(row: np.ndarray, slide: np.ndarray) -> list[str]:
    """Return paths."""
    pairs = zip(slide.tolist(), row.tolist(), strict=True)
    return [f"slide-{slide:04}/cell-{row:07}.bmp" for slide, row in pairs]


def part_table(
    random: np.random.Generator, row: np.ndarray, slide: np.ndarray, hashes: Sequence[str]
) -> tuple[pa.Table, np.ndarray]:
    """Return the rows of a part, and of each: 1, scored, called, likeliest the first class."""
    count = len(row)
    scored = random.random(count) > 0.002
    chance = np.clip(random.beta(1 + 4 * (slide % 10) / 10, 4), 0.001, 0.999).astype(np.float32)
    called = scored & (chance >= 0.4)
    first = scored & (chance > 0.5)
    missing = ~scored
    p = random.random(count).astype(np.float32)

    def column(values: np.ndarray) -> pa.Array:
        return pa.array(values, mask=missing)

    quality = {
        name: column(random.gamma(4, 0.1, count).astype(np.float32))
        for name in ("focus", "exposure", "clipped", "foreground", "stain_shift")
    }
    evidence = random.normal(0, 2, count * PLACES**2).astype(np.float32)
    table = pa.table(
        {
            "path": names(row, slide),
            "slide": [f"slide-{each:04}" for each in slide.tolist()],
            "status": np.where(scored, "ok", "undecodable").tolist(),
            "error": pa.array(np.full(count, "truncated"), mask=scored),
            "content_hash": [hashes[each % PICTURES] for each in row.tolist()],
            "predicted": column(np.where(first, "all", "hem")),
            "positive": column(called),
            "prob_all": column(chance),
            "prob_hem": column(1 - chance),
            "prediction_set": [["all"] if each > 0.9 else ["all", "hem"] for each in chance],
            "abstained": column(chance <= 0.9),
            "ood_score": column(-np.log(p)),
            "ood_p": column(p),
            **quality,
            "evidence": pa.FixedSizeListArray.from_arrays(pa.array(evidence), PLACES**2),
        }
    )
    return table, np.stack([np.ones(count), scored, called, first], 1).astype(np.int64)


def embeddings(random: np.random.Generator, cells: int, features: int) -> pa.Array:
    """Return that many features of each cell, as a run keeps them."""
    values = random.standard_normal((cells, features), np.float32).astype(np.float16)
    return pa.FixedSizeListArray.from_arrays(pa.array(values.ravel()), features)


def slide_table(counts: np.ndarray) -> pa.Table:
    """Return slides.parquet."""
    cells, scored, called, first = counts.T
    share = called / np.maximum(scored, 1)
    return pa.table(
        {
            "slide": [f"slide-{index:04}" for index in range(len(counts))],
            "n_cells": cells,
            "n_ok": scored,
            "n_unreadable": 0 * cells,
            "n_undecodable": cells - scored,
            "n_oversized": 0 * cells,
            "count_all": first,
            "count_hem": scored - first,
            "n_positive": called,
            "fraction_positive": share,
            "fraction_positive_wilson95_low": share * 0.9,
            "fraction_positive_wilson95_high": share * 0.9 + 0.1,
            "fraction_positive_rogan_gladen": share,
            "fraction_positive_rogan_gladen95_low": share * 0.7,
            "fraction_positive_rogan_gladen95_high": share * 0.7 + 0.3,
            "n_abstained": scored // 2,
            "n_out_of_distribution": scored // 100,
            "n_duplicates": 0 * cells,
            "flags": [["all above threshold"] if each > 0.4 else [] for each in share],
        }
    )


def chosen(value: Any) -> Choice[Any]:
    """Return a choice of nobody."""
    return Choice(value, "made up")


def record(source: Path, cells: int, slides: int) -> RunRecord:
    """Return run.json."""
    machine = Machine(node="none", system="none", cpu="none", gpu=None)
    versions = {"slidescreen": "made up"}
    agreed = ScoreAgreement(
        cells=64, precision="fp32", max_dp=0.001, flips=0, far_flips=0, worst="none"
    )
    return RunRecord(
        state="done",
        fingerprint=fingerprint(),
        choices=Settings(
            decoder=chosen("pillow"),
            decode_on=chosen("cpu"),
            runtime=chosen("torch"),
            precision=chosen("fp32"),
            batch=chosen(1),
            shard_cells=chosen(PART_CELLS),
            threads=chosen(1),
            decode_workers=chosen(0),
        ),
        model=ModelRecord(
            sha256="made up",
            folder="none",
            architecture="none",
            classes=("all", "hem"),
            display_names={"all": "leukaemic blast (all)", "hem": "normal (hem)"},
            positive="all",
            threshold=0.4,
            temperature=1.0,
            input=ModelInput(height=224, width=224, mean=(0.5, 0.5, 0.5), std=(0.5, 0.5, 0.5)),
            evidence=FieldCentres(16, 16, 32, 32),
            data={},
        ),
        decoder="none",
        runtime="none",
        parity=ParityRecord(verdict="agrees", scores=agreed, machine=machine, versions=versions),
        rates=Rates(decode=None, runtime=None),
        source=SourceRecord(locations=(str(source),), other_files=0, examples=()),
        trust=TrustRecord(available=False, why="made up"),
        flags=Thresholds(),
        started="2026-01-01T00:00:00+00:00",
        finished="2026-01-01T00:00:00+00:00",
        machine=machine,
        versions=versions,
        counts=counts(cells, slides),
    )


def counts(cells: int, slides: int) -> Counts:
    """Count cells that are all scored."""
    return Counts(
        cells=cells,
        slides=slides,
        ok=cells,
        unreadable=0,
        undecodable=0,
        oversized=0,
        unmatched=0,
        other_files=0,
        abstained=None,
        out_of_distribution=None,
        flagged=0,
        duplicates=0,
    )


def fingerprint() -> Fingerprint:
    """Return the mark of the made-up run."""
    return Fingerprint(
        bundle="made up",
        selection="everything",
        columns="",
        box_margin=0,
        slide_rule="parent",
        shard_cells=PART_CELLS,
        decoder="pillow",
        decode_on="cpu",
        max_pixels=10**6,
        limits="none",
        runtime="torch",
        precision="fp32",
        batch=1,
        coverage=0.95,
    )


def draw_pictures(source: Path) -> list[str]:
    """Draw some cells below *source* and return their hashes."""
    source.mkdir()
    hashes = []
    for index in range(PICTURES):
        picture = source / f"{index}.bmp"
        draw_cell(index).save(picture)
        hashes.append(xxhash.xxh3_128_hexdigest(picture.read_bytes()))
    return hashes


def lay_pictures(results: ResultsFolder, source: Path) -> None:
    """Put a picture where each cell lies that the report will show."""
    inputs = read_inputs(results)

    for row in inputs.galleries.order:
        path = source / inputs.cells[row].values["path"]
        path.parent.mkdir(exist_ok=True)
        os.link(source / f"{row % PICTURES}.bmp", path)


def write_labels(results: ResultsFolder, asked: Asked) -> Path:
    """Write a label for every cell."""
    path = results.path / "labels.csv"
    with path.open("w", encoding="utf-8") as file:
        file.write("path,label\n")
        for start in range(0, asked.cells, PART_CELLS):
            row = np.arange(start, min(start + PART_CELLS, asked.cells))
            paths = names(row, row * asked.slides // asked.cells)
            file.writelines(f"{path},{'all' if n % 3 else 'hem'}\n" for n, path in enumerate(paths))
    return path


def measured(results: ResultsFolder, *more: str) -> Measured:
    """Run the command."""
    command = [sys.executable, "-m", "screen.cli", "report", str(results.path), *more]
    start = time.perf_counter()
    process = subprocess.Popen(command, cwd=REPOSITORY, stdout=subprocess.PIPE, text=True)
    peak = ended = 0
    while not ended:
        peak = max(peak, _peak(process.pid))
        time.sleep(INTERVAL_S)
        ended, status, usage = os.wait4(process.pid, os.WNOHANG)
    seconds = time.perf_counter() - start
    said = process.stdout.read().strip() if process.stdout else ""
    if status:
        raise SystemExit(f"slidescreen report failed: {said}")
    busy = usage.ru_utime + usage.ru_stime
    return Measured(seconds, busy, peak, results.report.stat().st_size, said)


def _peak(process: int) -> int:
    """Return the largest resident set so far, in bytes; ru_maxrss would begin with the parent's."""
    try:
        lines = Path(f"/proc/{process}/status").read_text(encoding="ascii").splitlines()
    except OSError:
        return 0
    return sum(int(line.split()[1]) * 1024 for line in lines if line.startswith("VmHWM:"))


if __name__ == "__main__":
    main()
