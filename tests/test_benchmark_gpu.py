"""The GPU benchmark, tried out where there is none: every line of it but CUDA's runs."""

from __future__ import annotations

import json
import subprocess
import sys
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace

import pytest
import torch

from engines import parity
from engines.models.bundle import DEFAULT_BUNDLE, ModelBundle

ROOT = Path(__file__).parents[1]
H200_BANDWIDTH = 4.9e12  # bytes/s
STAGES = ["env", "slots", "engine", "decode", "profile", "e2e", "peers"]
DRY = ("--device", "cpu", "--quick", "--cells", "none")


@pytest.fixture(scope="module")
def gpu():
    """The script as a module, its stages run in this process, on even less."""
    with pytest.MonkeyPatch.context() as patch:
        patch.syspath_prepend(ROOT / "benchmarks")
        import gpu as script

        patch.setattr(script, "QUICK", replace(script.QUICK, seconds=0.01, cells=16))
        patch.setattr(script, "_status", in_this_process)
        patch.setattr(torch, "compile", lambda network, **_: network)  # the long test compiles
        yield script


def in_this_process(command, seconds):
    """Run a stage as the script does, but for the process of its own."""
    import gpu

    assert seconds > 0
    started(gpu, *command[2:])
    return 0


def started(script, *arguments):
    """Run the script's main function."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(sys, "argv", ["gpu.py", *arguments])
        script.main()


def written(folder):
    """Return the rows of a report by stage and name."""
    rows = json.loads((folder / "gpu.json").read_text(encoding="utf-8"))["rows"]
    return {(row["stage"], row["name"]): row for row in rows}


def test_a_dry_run_measures_every_stage(gpu, tmp_path, capsys):
    """Drawn cells of three formats: checked, decoded, scored, joined, profiled, and the peers."""
    started(gpu, *DRY, "--out", str(tmp_path))

    rows = written(tmp_path)
    assert list(dict.fromkeys(stage for stage, _ in rows)) == STAGES
    assert not [row for row in rows.values() if "error" in row or row.get("agrees") is False]
    assert rows["slots", "torch-cuda"]["slots_equal"]
    assert rows["slots", "torch-cuda"]["alone_equal"]
    rates = [
        ("engine", "torch-cuda at 32"),
        ("e2e", "torch-cuda, JPEG"),
        ("e2e", "torch-cuda, BMP"),
    ]
    rates += [("decode", form) for form in ("JPEG", "BMP", "PNG")]
    rates += [("peers", f"PyTorch, half, {how} at 32") for how in ("eager", "torch.compile")]
    assert all(rows[each]["cells_per_s"] > 0 for each in rates)
    assert rows["profile", "torch-cuda"]["kernels"]
    page = (tmp_path / "gpu.md").read_text(encoding="utf-8")
    assert page in capsys.readouterr().out
    assert "these numbers mean nothing" in page


def test_tuning_is_a_stage_that_runs_on_demand_only(gpu, tmp_path):
    """Every trial is a row, and so is the best of them; without being asked it does not run."""
    assert gpu.ON_DEMAND.keys().isdisjoint(gpu.SHARES)

    started(gpu, *DRY, "--only", "tune", "--out", str(tmp_path))

    rows = written(tmp_path)
    assert {stage for stage, _ in rows} == {"tune"}
    for name in ("tensorrt", "tensorrt-rtx"):
        trials = [row for (_, what), row in rows.items() if what.startswith(f"{name}, batch")]
        assert len(trials) == 4
        assert all(row["cells_per_s"] > 0 for row in trials)
        assert rows["tune", name]["best"].startswith("batch ")
        assert rows["tune", name]["failed"] == "none"


@pytest.mark.long
def test_a_dry_run_in_processes_of_its_own(tmp_path):
    """As it is started on a card."""
    command = [sys.executable, str(ROOT / "benchmarks" / "gpu.py"), *DRY, "--out", str(tmp_path)]
    done = subprocess.run(command, capture_output=True, text=True, check=False, cwd=ROOT)

    assert done.returncode == 0, done.stdout + done.stderr
    assert {stage for stage, _ in written(tmp_path)} == set(STAGES)


def test_pixels_that_disagree_are_marked_and_measured_all_the_same(gpu, tmp_path, monkeypatch):
    """A rate is worth knowing even then."""
    agreement = parity.PixelAgreement(cells=1, mean=99.0, p999=200.0, worst="cell", not_compared=0)
    monkeypatch.setattr(parity, "compare_decoder", lambda *_: agreement)

    with pytest.raises(SystemExit, match="decode JPEG"):
        started(gpu, *DRY, "--only", "decode", "--out", str(tmp_path))

    row = written(tmp_path)["decode", "JPEG"]
    assert row["agrees"] is False
    assert row["cells_per_s"] > 0
    assert "DOES NOT AGREE" in (tmp_path / "gpu.md").read_text(encoding="utf-8")


@pytest.mark.parametrize("how", ["it dies", "it hangs"])
def test_a_stage_that_dies_or_hangs_does_not_end_the_rest(gpu, tmp_path, monkeypatch, how):
    """What it has written stays, what became of it is written, and the next stage runs."""

    def run(command, seconds):
        if "slots" not in command:
            return in_this_process(command, seconds)
        if how == "it hangs":
            raise subprocess.TimeoutExpired(command, seconds)
        return -11

    monkeypatch.setattr(gpu, "_status", run)

    with pytest.raises(SystemExit, match="slots the process"):
        started(gpu, *DRY, "--only", "slots", "--only", "env", "--out", str(tmp_path))

    rows = written(tmp_path)
    said = {"it dies": "ended with status -11", "it hangs": "stopped after"}[how]
    assert said in rows["slots", "the process"]["error"]
    assert rows["env", "packages"]["torch"]


def test_what_fails_is_a_result_and_every_result_is_on_disk_at_once(gpu, tmp_path):
    """With its reason, and the next is measured."""
    from gpu_report import Report

    report = Report.begun(tmp_path, means_nothing=True)

    def failing():
        raise torch.AcceleratorError("CUDA error: misaligned address\nmore")

    assert report.measured("engine", "one", failing) == {}
    assert written(tmp_path)["engine", "one"]["error"].endswith("CUDA error: misaligned address")
    assert report.measured("engine", "two", lambda: {"cells_per_s": 5.0}) == {"cells_per_s": 5.0}
    assert Report(tmp_path).fact("engine", "two", "cells_per_s") == 5.0
    assert Report(tmp_path, seconds=3).measured("e2e", "long", dict, least=60) == {}
    assert "60 seconds left" in written(tmp_path)["e2e", "long"]["skipped"]


def test_the_stages_fit_their_time(gpu, tmp_path):
    """Together they fit 580 seconds; with less, what has no time left is left out and says so."""
    assert sum(gpu.SHARES[stage] for stage in STAGES) <= gpu.SECONDS == 580
    assert list(gpu.SHARES) == STAGES

    started(gpu, *DRY, "--max-seconds", "1", "--out", str(tmp_path))

    rows = written(tmp_path)
    assert all("no time" in rows[stage, "all of it"]["skipped"] for stage in STAGES)


@pytest.mark.skipif(torch.cuda.is_available(), reason="there is a GPU")
def test_without_a_gpu_it_says_so(gpu):
    """And says how to try it out all the same."""
    with pytest.raises(SystemExit, match="There is no GPU to measure") as caught:
        started(gpu)

    assert "--device cpu --quick" in str(caught.value)


def test_the_memory_bound_is_the_designs(gpu):
    """EfficientNet-B3 at 224 on an H200: some 68,000 cells/s."""
    from gpu_bound import bytes_per_cell

    moved = bytes_per_cell(ModelBundle.load(DEFAULT_BUNDLE))

    assert H200_BANDWIDTH / moved == pytest.approx(68_000, rel=0.01)


@pytest.mark.parametrize(
    ("card", "expected"),
    [
        (SimpleNamespace(memory_clock_rate=2_619_000, memory_bus_width=5120), 3.35e12),
        (SimpleNamespace(memory_bus_width=5120), None),
        (SimpleNamespace(), None),
    ],
    ids=["an H100", "no clock", "nothing"],
)
def test_a_bandwidth_that_torch_does_not_tell_is_not_known(gpu, monkeypatch, card, expected):
    """Releases of PyTorch differ in what they say of a card."""
    from gpu_bound import bandwidth

    monkeypatch.setattr(torch.cuda, "get_device_properties", lambda _: card)

    found = bandwidth(torch.device("cuda", 0))
    assert found == (expected and pytest.approx(expected, rel=0.01))
