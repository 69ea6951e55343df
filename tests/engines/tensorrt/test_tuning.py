"""Tuning: the fastest of what was measured on this card is kept, and used by later runs there."""

from __future__ import annotations

from types import SimpleNamespace

import fake_tensorrt
import pytest
import torch
from logs import logged

from engines.backends import best_batch
from engines.errors import BackendMissingError, DeviceError, EngineBuildError
from engines.hardware.gpu import Device
from engines.models.onnx_export import onnx_from_bundle
from engines.runtime.base import GPU_BATCH, RuntimeOptions
from engines.runtime.tensorrt import TensorRTRuntime, engine_rate, open_cached
from engines.tensorrt import tuning
from engines.tensorrt.builder import PLAINLY, BuildOptions, SearchOptions, build_engine
from engines.tensorrt.engine_cache import EngineOptions
from engines.tensorrt.engine_store import EngineKey, list_engines, write_engine
from engines.tensorrt.tuning import Trial, Tuned, remember_tuned, tune, tuned, tuned_search
from engines.tensorrt.versions import open_variant
from screen.engine_tune import tuned_engine

HARD = SearchOptions(level=5, aux_streams=0)
H100 = Device("NVIDIA H100", "9.0", "580.1")
KEY = {
    "weights_sha256": "a" * 64,
    "onnx_sha256": "b" * 64,
    "graph_version": 1,
    "recipe": 1,
    "precision": "fp16",
    "variant": "tensorrt",
    "variant_version": "11.4",
}


@pytest.fixture
def card(monkeypatch, tmp_path):
    """A card with TensorRT, and a cache of its own; call it to change the card."""
    monkeypatch.setenv("SLIDESCREEN_CACHE", str(tmp_path / "cache"))
    variant = SimpleNamespace(name="tensorrt", compiles_on_device=False)
    here = SimpleNamespace(variant=variant, version="11.4")

    def change(device, version="11.4"):
        here.version = version
        monkeypatch.setattr(tuning, "this_device", lambda: device)
        monkeypatch.setattr(tuning, "open_variant", lambda _: here)

    change(H100)
    monkeypatch.setattr("screen.engine_tune.gpu_or_why_not", lambda: H100)
    monkeypatch.setattr("screen.engine_tune.choose_variant", lambda *_: SimpleNamespace(value=here))
    return change


def rates(best, faster=1.0):
    """Return a measure by which one trial is the fastest and others come close."""
    return lambda trial: 1000.0 if trial == best else 1000.0 - faster * abs(trial.batch - 100)


def test_the_fastest_settings_and_then_the_fastest_batch_are_found():
    """Three ways to build at one batch, five more batches with the best of them."""
    seen = []

    def measure(trial):
        seen.append(trial)
        return {HARD: 900.0}.get(trial.search, 500.0) + (200 if trial.batch == 64 else 0)

    found = tune(measure)

    assert found.best == Trial(64, HARD)
    assert [trial.batch for trial in seen] == [256, 256, 256, 16, 32, 64, 128, 512]
    assert all(trial.search == HARD for trial in seen[3:])
    assert found.rates["batch 64, optimisation level 5, 0 auxiliary streams"] == 1100.0


def test_of_batches_as_fast_the_smallest_is_taken():
    """It takes less memory, and pads less."""
    found = tune(lambda trial: 1000.0 + trial.batch / 100)

    assert found.best.batch == 16


def test_what_cannot_be_built_is_left_out_and_said():
    """A batch too large for the card is no reason to stop."""

    def measure(trial):
        if trial.batch == 512 or trial.search == HARD:
            raise DeviceError("the GPU's memory does not suffice", hint="")
        return float(trial.batch)

    with logged() as lines:
        found = tune(measure)

    assert found.best.batch == 256
    assert set(found.failed) == {f"batch 256, {HARD}", "batch 512, optimisation level 3"}
    assert any("batch 512" in line and "memory" in line for line in lines)
    assert any("batch 128, optimisation level 3: 128 cells/s" in line for line in lines)


def test_where_nothing_can_be_built_the_first_reason_is_raised():
    """There is no best of nothing."""

    def failing(trial):
        raise EngineBuildError(f"no {trial.search}")

    with pytest.raises(EngineBuildError, match="no optimisation level 3"):
        tune(failing)


def test_a_result_is_kept_for_this_card_only(card, bundle, three_classes):
    """Another card, driver or version has none; another model of the same kind has it, too."""
    remember_tuned("tensorrt", "fp16", bundle, Tuned(Trial(64, HARD), {"a": 1.0}, {}))

    assert tuned("tensorrt", "fp16", bundle).best == Trial(64, HARD)
    assert tuned("tensorrt", "fp16", three_classes).best == Trial(64, HARD)
    assert tuned("tensorrt", "fp32", bundle) is None
    card(Device("NVIDIA H100", "9.0", "590.1"))
    assert tuned("tensorrt", "fp16", bundle) is None
    card(Device("NVIDIA H200", "9.0", "580.1"))
    assert tuned("tensorrt", "fp16", bundle) is None
    card(H100, "11.5")
    assert tuned("tensorrt", "fp16", bundle) is None
    card(None)
    assert tuned("tensorrt", "fp16", bundle) is None


@pytest.mark.parametrize("text", ["", "{", "[]", '{"key": 1}'])
def test_a_damaged_result_is_not_used(card, bundle, tmp_path, text):
    """A run goes on as without it, and a line says so."""
    remember_tuned("tensorrt", "fp16", bundle, Tuned(Trial(64, HARD), {}, {}))
    (kept,) = (tmp_path / "cache" / "tuned").iterdir()
    kept.write_text(text)

    with logged() as lines:
        assert tuned("tensorrt", "fp16", bundle) is None

    assert any("tune again" in line for line in lines)


def test_runs_take_the_tuned_batch_and_the_settings_that_go_with_it(card, bundle):
    """A run that names another batch is built plainly; without a result all is as ever."""
    plain = best_batch("tensorrt", "fp16", bundle)
    remember_tuned("tensorrt", "fp16", bundle, Tuned(Trial(64, HARD), {}, {}))
    taken = best_batch("tensorrt", "fp16", bundle)

    assert (plain.value, plain.reason) == (GPU_BATCH, "the default of this runtime")
    assert (taken.value, taken.reason) == (64, "tuned on this GPU")
    assert best_batch("openvino", "bf16", bundle).value < 64
    assert tuned_search("tensorrt", "fp16", bundle, 64) == HARD
    assert tuned_search("tensorrt", "fp16", bundle, 128) == PLAINLY


def test_a_run_opens_the_tuned_engine_and_says_so(card, bundle, monkeypatch, tmp_path):
    """The builder is asked for it, and run.json's version tells its scores' last bits apart."""
    remember_tuned("tensorrt-rtx", "fp32", bundle, Tuned(Trial(4, HARD), {}, {}))
    asked = []
    fake = fake_tensorrt.installed(bundle, "fp32")
    monkeypatch.setattr("engines.runtime.tensorrt.open_variant", lambda _: fake)
    monkeypatch.setattr(
        "engines.runtime.tensorrt.engine_for",
        lambda _, options, **__: asked.append(options) or fake_engine(tmp_path, options),
    )
    monkeypatch.setattr(TensorRTRuntime, "device", torch.device("cpu"))

    runtime = open_cached("tensorrt-rtx", bundle, RuntimeOptions(batch=4))

    assert [options.search for options in asked] == [HARD]
    assert "optimisation level 5, 0 auxiliary streams" in runtime.version


def fake_engine(folder, options):
    """Return an engine whose plan the fake runs."""
    engine = fake_tensorrt.engine(folder)
    engine.key.level, engine.key.aux_streams = options.search.level, options.search.aux_streams
    engine.key.precision, engine.key.batch = options.precision, options.batch
    engine.key.variant = "tensorrt-rtx"
    return engine


def test_an_engine_is_timed_through_the_runtimes_stream(bundle, monkeypatch, tmp_path):
    """Warm-up apart, in cells per second."""
    fake = fake_tensorrt.installed(bundle, "fp32")
    monkeypatch.setattr("engines.runtime.tensorrt.open_variant", lambda _: fake)
    monkeypatch.setattr(TensorRTRuntime, "device", torch.device("cpu"))

    options = EngineOptions(precision="fp32", batch=4)
    assert engine_rate(fake_engine(tmp_path, options), bundle, 0.05) > 0


def test_engines_built_to_be_measured_only_are_removed(card, bundle, monkeypatch):
    """The best stays, and so does what was there before; progress covers all trials."""

    def key(options):
        search = options.search
        return EngineKey(
            **KEY, batch=options.batch, level=search.level, aux_streams=search.aux_streams
        )

    def engine_for(_, options, *, progress):
        progress(0.5, "timing")
        return write_engine(key(options), b"plan", {})

    def engine_rate(engine, *_):
        return 1000.0 if engine.key.batch == 64 else 1.0 + engine.key.level

    monkeypatch.setattr("screen.engine_tune.engine_for", engine_for)
    monkeypatch.setattr("engines.runtime.tensorrt.engine_rate", engine_rate)
    before = write_engine(key(EngineOptions(batch=256)), b"plan", {})
    seen = []

    best = tuned_engine(bundle, EngineOptions(), progress=lambda *step: seen.append(step))

    assert (best.key.batch, best.key.level) == (64, 5)
    assert {engine.path for engine in list_engines()} == {best.path, before.path}
    assert tuned("tensorrt", "fp16", bundle).best == Trial(64, SearchOptions(level=5))
    assert [share for share, _ in seen] == pytest.approx([(n + 0.5) / 8 for n in range(8)])
    assert "batch 16, optimisation level 5: timing" in [phase for _, phase in seen]


def test_without_a_gpu_there_is_nothing_to_tune(bundle, monkeypatch):
    """And the message says what to do."""
    monkeypatch.setattr("screen.engine_tune.gpu_or_why_not", lambda: "there is no NVIDIA driver")

    with pytest.raises(BackendMissingError, match="running them on a GPU") as caught:
        tuned_engine(bundle, EngineOptions())

    assert "--tune" in caught.value.hint


@pytest.mark.parametrize("search", [PLAINLY, HARD], ids=str)
def test_the_builder_is_told_how_to_search(bundle, monkeypatch, search):
    """By default it is told nothing."""
    rtx = open_variant("tensorrt-rtx")
    told = {}

    class Config:
        """The real settings; notes what is set."""

        def __init__(self, real):
            object.__setattr__(self, "real", real)

        def __getattr__(self, name):
            return getattr(self.real, name)

        def __setattr__(self, name, value):
            told[name] = value
            setattr(self.real, name, value)

    from engines.tensorrt import builder

    config = builder._config

    def watched(installed, real, options):
        made = real.create_builder_config()
        fake = SimpleNamespace(create_builder_config=lambda: Config(made))
        config(installed, fake, options)
        return made

    monkeypatch.setattr(builder, "_config", watched)
    options = BuildOptions(batch=4, targets=("sm_89",), search=search)
    build_engine(onnx_from_bundle(bundle), rtx, options)

    assert told.get("builder_optimization_level") == (5 if search == HARD else None)
    assert told.get("max_aux_streams") == (0 if search == HARD else None)
