"""
What a GPU does with this project, in under ten minutes, whatever goes wrong on the way.

Stages, in this order; each runs in a process of its own, so that none can spoil the next:

1. env: the card, its bandwidth (stated and measured), the bus, versions, what is installed;
2. slots: every runtime opened, held against FP32 PyTorch, its slots compared bit for bit;
3. engine: cells/s of every runtime on pixels that lie on the GPU already, at 224 and 300;
4. decode: every way to decode and resize JPEG, BMP and PNG, held against Pillow and measured;
5. profile: where the GPU's time goes, kernel by kernel, and what a resize moves;
6. e2e: decoding joined to every runtime, as ``slidescreen run`` joins them;
7. peers: PyTorch in half precision, eager and compiled, and TensorRT as people use it;
8. tune, only where it is asked for: TensorRT at several batches and optimisation levels, which
   builds eight engines a runtime and takes up to an hour.

Every result is written to ``OUT/gpu.json`` and ``OUT/gpu.md`` at once. What disagrees with the
reference is marked and measured all the same; what fails is recorded with its reason; a stage that
hangs or dies ends when its time is up, and the next begins. Rates are over a fixed time after a
warm-up. The memory bound is ``gpu_bound``'s.

    python benchmarks/gpu.py                        # everything, at most 580 seconds
    python benchmarks/gpu.py --only engine --only e2e
    python benchmarks/gpu.py --only tune --max-seconds 3600
    python benchmarks/gpu.py --device cpu --quick   # tries the script out; its numbers mean nothing
"""

from __future__ import annotations

import subprocess
import sys
import tempfile
import time
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

import torch
from gpu_bench import Bench, Scale
from gpu_material import cell_folders
from gpu_report import Report
from gpu_stages import STAGES
from material import parser

from engines.hardware.gpu import gpu_or_why_not

if TYPE_CHECKING:
    import argparse

SECONDS = 580
GRACE = 10  # seconds that a stage may take to end by itself once its time is up
# Seconds that a stage may take; what one leaves, the next ones may use.
SHARES = {
    "env": 20, "slots": 220, "engine": 90, "decode": 50, "profile": 50, "e2e": 60, "peers": 80,
}  # fmt: skip
ON_DEMAND = {"tune": 3600}

FULL = Scale(
    device=torch.device("cuda", 0), sizes=(224, 300), cells=8192, batch=256, seconds=3, tiny=False
)
QUICK = replace(FULL, sizes=(32,), cells=24, batch=8, seconds=0.2, tiny=True)


def main() -> None:
    """Run stages, each in a process of its own; or, as such a process, run one."""
    given = _arguments().parse_args()
    if given.device == "cuda" and isinstance(why := gpu_or_why_not(), str):
        raise SystemExit(
            f"There is no GPU to measure: {why}.\n"
            "--device cpu --quick tries the script out; its numbers mean nothing."
        )
    if given.device == "cpu" and not given.quick:
        raise SystemExit("Without a GPU only --quick makes sense.")
    given.out.mkdir(parents=True, exist_ok=True)
    if given.scratch is not None:
        _run_here(given)
        return
    report = Report.begun(given.out, means_nothing=given.quick)
    with tempfile.TemporaryDirectory() as scratch:
        _run_all(given, report, Path(scratch))
    report = Report(given.out)
    print(report.page())
    if report.troubles:
        raise SystemExit(f"Not all is well: {', '.join(report.troubles)}; see above.")


def _arguments() -> argparse.ArgumentParser:
    """Return the command line."""
    arguments = parser(__doc__)
    arguments.add_argument("--out", type=Path, default=Path("gpu-benchmark"), help="results folder")
    arguments.add_argument(
        "--only",
        action="append",
        choices=[*SHARES, *ON_DEMAND],
        help="a stage; may be given several times",
    )
    arguments.add_argument("--max-seconds", type=float, default=SECONDS, help="for all stages")
    arguments.add_argument("--device", choices=("cuda", "cpu"), default="cuda")
    arguments.add_argument(
        "--quick", action="store_true", help="tiny sizes, for trying it out; as is --small"
    )
    arguments.add_argument("--scratch", type=Path, help="run the stage here; this script's own use")
    return arguments


def _run_all(given: argparse.Namespace, report: Report, scratch: Path) -> None:
    """Give each stage its share of the time, and what earlier ones have left."""
    end = time.monotonic() + given.max_seconds
    scale = _scale(given)
    cell_folders(given.cells, scratch / "cells", scale.cells)
    stages = given.only or tuple(SHARES)
    shares = SHARES | ON_DEMAND
    for number, stage in enumerate(stages):
        later = sum(shares[name] for name in stages[number + 1 :])
        left = end - time.monotonic()
        seconds = max(left - later, min(left, shares[stage] * given.max_seconds / SECONDS))
        if seconds <= GRACE:
            report.add(stage, "all of it", skipped="no time was left")
            continue
        started = time.monotonic()
        _run_stage(given, report, scratch, stage, seconds)
        report.add(stage, "all of it", seconds=time.monotonic() - started)


def _run_stage(
    given: argparse.Namespace, report: Report, scratch: Path, stage: str, seconds: float
) -> None:
    """Run a stage in a process of its own; note it if that dies or has to be stopped."""
    command = [sys.executable, __file__, "--only", stage, "--out", str(given.out)]
    command += ["--scratch", str(scratch), "--max-seconds", str(seconds - GRACE)]
    command += ["--device", given.device, *(["--quick"] if given.quick else [])]
    try:
        status = _status(command, seconds)
    except subprocess.TimeoutExpired:
        report.add(stage, "the process", error=f"stopped after {seconds:.0f} seconds")
        return
    if status:
        report.add(stage, "the process", error=f"ended with status {status}")


def _status(command: list[str], seconds: float) -> int:
    """Run a command for at most so long; return its exit status, negative if a signal ended it."""
    return subprocess.run(command, timeout=seconds, check=False).returncode


def _run_here(given: argparse.Namespace) -> None:
    """Run one stage in this process."""
    report = Report(given.out, seconds=given.max_seconds)
    (stage,) = given.only
    scale = _scale(given)
    benches = [Bench(scale, size, given.scratch) for size in scale.sizes]
    STAGES[stage](report, benches)


def _scale(given: argparse.Namespace) -> Scale:
    """Return how large everything is."""
    scale = QUICK if given.quick or given.small else FULL
    return replace(scale, device=torch.device(given.device, 0 if given.device == "cuda" else None))


if __name__ == "__main__":
    main()
