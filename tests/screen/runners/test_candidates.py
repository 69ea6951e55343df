"""What gives way to what on a GPU that is only pretended, and what does not."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from engines import parity
from engines.errors import (
    BackendMissingError,
    DeviceError,
    EngineBuildError,
    ParityError,
    ResultsError,
)
from engines.hardware import gpu, machine
from engines.hardware.gpu import Device
from engines.runtime import availability
from engines.runtime.base import DEFAULT_BATCH
from engines.sources import open_source
from screen import RunOptions, open_results, run
from screen.options import SHARD_CELLS
from screen.results.folder import ResultsFolder
from screen.runners import startup_check
from screen.runners.building import without_events
from screen.runners.candidates import runtime_settings
from screen.runners.events import ShardDone
from screen.runners.start import Start

RTX4090 = Device("NVIDIA GeForce RTX 4090", "8.9", "580.65")


@pytest.fixture
def options(bundle, cells, tmp_path):
    """A run of everything by auto, in batches that a processor can bear."""
    return RunOptions(
        source=cells, out=tmp_path / "results", model=bundle.folder, batch=4, threads=2
    )


@pytest.fixture
def with_gpu(monkeypatch):
    """Pretend to have a GPU and TensorRT-RTX, no TensorRT; the processor does the work."""

    def open_variant(name):
        if name == "tensorrt":
            raise BackendMissingError("tensorrt is not installed")
        return available_variant

    class Row:
        targets = ()

    class Installed:
        variant = Row()

    available_variant = Installed()
    for module in (availability, gpu, machine):
        monkeypatch.setattr(module, "this_device", lambda: RTX4090, raising=False)
    monkeypatch.setattr(availability, "open_variant", open_variant)
    opened = startup_check.open_decoder
    monkeypatch.setattr(
        startup_check,
        "open_decoder",
        lambda name, read, expected, asked: opened(
            name, read, expected, replace(asked, device="cpu")
        ),
    )


@pytest.fixture
def runtimes(monkeypatch):
    """Let runtimes for GPUs be PyTorch on the processor, but for those that fail; keep a record."""
    opened, failing = [], {}
    real = startup_check.open_runtime

    def open_runtime(name, bundle, asked, *rest, **more):
        opened.append((name, asked.precision))
        wrong = failing.get(name)
        if isinstance(wrong, Exception):
            raise wrong
        runtime = real("torch", bundle, replace(asked, precision="fp32"))
        return wrong(runtime) if wrong else runtime

    monkeypatch.setattr(startup_check, "open_runtime", open_runtime)
    return opened, failing


def choices(options):
    """Run, and return what was settled in the end."""
    list(run(options))
    return ResultsFolder(options.out).read_run().to_json()["choices"]


@pytest.mark.usefixtures("with_gpu")
def test_everything_goes_to_the_gpu_by_auto(options, runtimes):
    """Runtime, precision and decoding are settled for it, and the GPU is recorded."""
    settled = choices(options)

    assert settled["runtime"]["value"] == "tensorrt-rtx"
    assert "tensorrt is not installed" in settled["runtime"]["reason"]
    assert (settled["precision"]["value"], settled["decode_on"]["value"]) == ("fp16", "gpu")
    assert ("tensorrt-rtx", "fp16") in runtimes[0]
    record = ResultsFolder(options.out).read_run()
    assert record.machine.gpu.name == RTX4090.name
    assert record.fingerprint.decode_on == "gpu"


@pytest.mark.usefixtures("with_gpu")
@pytest.mark.parametrize("error", [EngineBuildError("no plan"), DeviceError("no memory")])
def test_a_runtime_that_does_not_open_gives_way_to_the_next(options, runtimes, error):
    """The reason is on record; a resume keeps what was fallen back to."""
    runtimes[1]["tensorrt-rtx"] = error

    settled = choices(options)

    assert settled["runtime"] == {"value": "torch-cuda", "reason": f"fell back: {error}"}
    assert choices(options) == settled


@pytest.mark.usefixtures("with_gpu")
def test_a_runtime_asked_for_by_name_does_not_give_way(options, runtimes):
    """Its error is the user's to see."""
    runtimes[1]["tensorrt-rtx"] = EngineBuildError("no plan")

    with pytest.raises(EngineBuildError, match="no plan"):
        choices(replace(options, runtime="tensorrt-rtx"))


@pytest.mark.usefixtures("with_gpu")
def test_the_last_runtime_on_the_gpu_gives_way_to_the_processors(options, runtimes, caplog):
    """Each that was passed over is on record and in the log; batches are the processor's again."""
    runtimes[1]["tensorrt-rtx"] = EngineBuildError("no plan")
    runtimes[1]["torch-cuda"] = DeviceError("no memory")

    settled = choices(replace(options, batch=None))

    assert settled["runtime"] == {"value": "openvino", "reason": "fell back: no plan; no memory"}
    assert settled["batch"]["value"] == DEFAULT_BATCH
    assert settled["shard_cells"]["value"] == SHARD_CELLS
    assert settled["decode_on"]["value"] == "cpu"
    assert [record.getMessage() for record in caplog.records if record.levelname == "WARNING"] == [
        "not taken: no plan",
        "not taken: no memory",
    ]


class OtherScores:
    """A runtime that gives every cell the opposite of its scores."""

    name, version, slot_count = "other", "1", 1

    def __init__(self, runtime):
        """Score with *runtime*."""
        self.runtime, self.options = runtime, runtime.options

    def stream(self, batches):
        """Turn scores over."""
        for scores in self.runtime.stream(batches):
            yield replace(scores, logits=-scores.logits)


class OneBadSlot(OtherScores):
    """A runtime whose second slot changes one bit of a feature: no label, no probability."""

    slot_count = 3

    def stream(self, batches):
        """Take the slots in turn."""
        for number, scores in enumerate(self.runtime.stream(batches)):
            if number % self.slot_count == 1:
                scores.features.view(np.uint16)[0, 0] ^= 1
            yield scores


@pytest.mark.usefixtures("with_gpu")
@pytest.mark.parametrize("wrong", [OtherScores, OneBadSlot])
def test_a_runtime_on_the_gpu_that_misses_gives_way_to_the_processors(options, runtimes, wrong):
    """In half precision and in float32, whatever can be built; a fault of one slot shows, too."""
    runtimes[1].update({"tensorrt-rtx": wrong, "torch-cuda": wrong})

    settled = choices(options)

    tried = [name for name, _ in runtimes[0] if name != "torch"]
    assert tried == ["tensorrt-rtx"] * 2 + ["torch-cuda"] * 2 + ["openvino"]
    assert settled["runtime"]["value"] == "openvino"
    assert settled["runtime"]["reason"].count("disagrees with") == 4


def test_a_fault_in_the_second_slot_stops_what_was_asked_for(options, runtimes):
    """By name it runs or the command fails: the fault does not hide behind the first slot."""
    runtimes[1]["openvino"] = OneBadSlot

    with pytest.raises(ParityError, match="disagrees with itself: .* in batch 2 of 3"):
        choices(replace(options, runtime="openvino"))


@pytest.mark.usefixtures("with_gpu", "runtimes")
def test_decoding_that_fails_on_the_gpu_gives_way_to_the_processors(options, monkeypatch):
    """First where, then what decodes."""
    sample = parity.sample
    failures = [DeviceError("no memory to decode")]

    def failing(*args):
        if failures:
            raise failures.pop()
        return sample(*args)

    monkeypatch.setattr(parity, "sample", failing)

    settled = choices(options)

    assert settled["decode_on"] == {"value": "cpu", "reason": "fell back: no memory to decode"}
    assert settled["decoder"]["value"] == "dali"


@pytest.mark.usefixtures("with_gpu", "runtimes")
def test_decoding_asked_for_on_the_gpu_does_not_give_way(options, monkeypatch):
    """By name it runs or the command fails."""
    monkeypatch.setattr(parity, "PIXEL_MEAN_LIMIT", -1.0)

    with pytest.raises(ParityError, match="disagrees with Pillow"):
        choices(replace(options, decode_on="gpu"))


@pytest.mark.usefixtures("with_gpu", "runtimes")
def test_a_run_goes_on_where_it_decoded(options):
    """Another place to decode is another run; auto means as this run began."""
    choices(options)

    with pytest.raises(ResultsError, match="decode_on gpu, not cpu"):
        choices(replace(options, decode_on="cpu"))
    assert choices(replace(options, decode_on="gpu"))["decode_on"]["value"] == "gpu"


@pytest.mark.usefixtures("with_gpu")
def test_batches_on_a_gpu_are_large_and_shards_follow(options, bundle):
    """256 cells, and at least 64 batches a shard."""
    settled = next(runtime_settings(replace(options, batch=None), bundle, []))

    assert settled.batch.value == 256
    assert settled.shard_cells.value == 64 * 256


def test_other_exceptions_of_half_precision_are_measured_again(options, bundle, monkeypatch):
    """A verdict holds for the engine that it was measured on."""
    source, results = open_source(options.source), ResultsFolder(options.out)
    options.out.mkdir()
    start = Start(options, bundle, source, results)
    without_events(start.session())
    record = results.read_run()
    results.write_run(replace(record, runtime="the same, but other modules in float32"))
    measured = []
    real = parity.score_agreement
    monkeypatch.setattr(
        parity, "score_agreement", lambda *a, **k: measured.append(1) or real(*a, **k)
    )

    session = without_events(start.session())

    assert measured == [1]
    assert session.record.runtime == record.runtime


@pytest.mark.gpu
def test_a_run_on_the_gpu_keeps_the_laws(options):
    """Every cell once, repeated and resumed runs equal, scores within parity of the processor's."""
    by_auto = replace(options, batch=None, shard_cells=3)
    there = rows(by_auto)
    again = rows(replace(by_auto, out=options.out.with_name("again")))
    partly = replace(by_auto, out=options.out.with_name("partly"))
    next(event for event in run(partly) if isinstance(event, ShardDone))
    here = rows(
        replace(by_auto, out=options.out.with_name("here"), runtime="torch", decoder="pillow")
    )

    assert ResultsFolder(options.out).read_run().choices.decode_on.value == "gpu"
    assert there.equals(again)
    assert there.equals(rows(partly))
    assert there["path"].equals(here["path"])
    assert there["status"].equals(here["status"])
    probabilities = [np.nan_to_num(table["prob_all"].to_numpy()) for table in (there, here)]
    assert np.abs(np.subtract(*probabilities)).max() < 0.1


def rows(options):
    """Run, and return the cells in order."""
    list(run(options))
    return open_results(options.out).to_table().sort_by("path")
