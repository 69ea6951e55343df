"""The GPU benchmark, tried out where there is none: every line of it but CUDA's runs."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest
import torch

from engines.models.bundle import DEFAULT_BUNDLE, ModelBundle

ROOT = Path(__file__).parents[1]
H200_BANDWIDTH = 4.9e12  # bytes/s


def started(*arguments):
    """Run the script, with one thread and no real cells."""
    command = [sys.executable, str(ROOT / "benchmarks" / "gpu.py"), *arguments]
    return subprocess.run(command, capture_output=True, text=True, check=False, cwd=ROOT)


@pytest.fixture(scope="module")
def report(tmp_path_factory):
    """Return what a try-out writes."""
    out = tmp_path_factory.mktemp("gpu")
    done = started("--device", "cpu", "--quick", "--cells", str(out / "none"), "--out", str(out))
    assert done.returncode == 0, done.stdout + done.stderr
    page = (out / "gpu.md").read_text(encoding="utf-8")
    assert page in done.stdout
    return json.loads((out / "gpu.json").read_text(encoding="utf-8")), page


def test_a_try_out_checks_and_measures_everything(report):
    """Drawn cells of both formats, held against the reference, then three kinds of rate."""
    record, page = report
    (row,) = record["rows"]

    assert row["agrees"]
    assert row["repeats_bit_for_bit"]
    assert row["alone_bit_for_bit"]
    assert set(row["pixels"]) == {"JPEG", "BMP"}
    for name in ("engine", "decode JPEG", "decode BMP", "end to end JPEG", "end to end BMP"):
        assert row[name] > 0
    assert [peer["cells_per_s"] > 0 for peer in record["peers"]] == [True, True]
    assert "these numbers mean nothing" in page


@pytest.mark.skipif(torch.cuda.is_available(), reason="there is a GPU")
def test_without_a_gpu_it_says_so():
    """And says how to try it out all the same."""
    done = started()

    assert done.returncode == 1
    assert "There is no GPU to measure" in done.stderr
    assert "--device cpu --quick" in done.stderr


def test_the_memory_bound_is_the_designs(monkeypatch):
    """EfficientNet-B3 at 224 on an H200: some 68,000 cells/s."""
    monkeypatch.syspath_prepend(ROOT / "benchmarks")
    from gpu_bound import bytes_per_cell

    moved = bytes_per_cell(ModelBundle.load(DEFAULT_BUNDLE))

    assert H200_BANDWIDTH / moved == pytest.approx(68_000, rel=0.01)
