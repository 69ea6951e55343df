"""The cache of engines: a stale, foreign or damaged plan never runs; each is built once."""

from __future__ import annotations

import json
import multiprocessing
from dataclasses import asdict, fields, replace

import numpy as np
import pytest
from filelock import FileLock
from logs import logged

from engines.cells import Batch, CellFacts, CellRef, Shard
from engines.errors import EngineBuildError
from engines.files import cache_folder
from engines.hardware.gpu import Device
from engines.mixed_precision.policy import Mixed, remember
from engines.tensorrt import engine_cache
from engines.tensorrt.engine_cache import EngineKey, EngineOptions, discard, engine_for
from engines.tensorrt.engine_store import (
    find_engine,
    list_engines,
    read_engine,
    remove_engine,
    write_engine,
)

KEY = EngineKey(
    weights_sha256="a" * 64,
    onnx_sha256="b" * 64,
    graph_version=1,
    recipe=1,
    precision="fp16",
    batch=8,
    level=3,
    aux_streams=None,
    variant="tensorrt",
    variant_version="10.12.0",
    gpu="NVIDIA H200",
    compute_capability="9.0",
    driver="580.1",
)
OTHER = {
    "weights_sha256": "c" * 64,
    "onnx_sha256": "c" * 64,
    "graph_version": 2,
    "recipe": 2,
    "precision": "fp32",
    "batch": 16,
    "level": 5,
    "aux_streams": 0,
    "variant": "tensorrt-rtx",
    "variant_version": "11.0.0",
    "gpu": "NVIDIA H100",
    "compute_capability": "8.9",
    "driver": "590.2",
    "targets": ("sm_86",),
}
FP32 = EngineOptions(precision="fp32", batch=4)


@pytest.fixture(autouse=True)
def own_cache(cache, tmp_path, monkeypatch):
    """Engines of this test's own; exported models are shared."""
    (cache / "onnx").mkdir(exist_ok=True)
    (tmp_path / "cache").mkdir()
    (tmp_path / "cache" / "onnx").symlink_to(cache / "onnx")
    monkeypatch.setenv("SLIDESCREEN_CACHE", str(tmp_path / "cache"))


@pytest.fixture
def engine(bundle):
    """An engine that was just built."""
    return engine_for(bundle, FP32)


def again(bundle, options=FP32):
    """Ask for an engine; return it and what was said."""
    with logged() as said:
        return engine_for(bundle, options), said


@pytest.mark.parametrize("name", [field.name for field in fields(EngineKey)])
def test_every_field_is_part_of_the_key(name):
    """Changing any one field asks for a different engine, and says which field it was."""
    changed = replace(KEY, **{name: OTHER[name]})

    assert changed.digest != KEY.digest
    assert [line.split()[0] for line in changed.differences(KEY)] == [name]


def test_a_key_survives_its_record():
    """Written as JSON and read back it is the same key."""
    key = replace(KEY, targets=("sm_86", "sm_89"))

    assert EngineKey.from_record(json.loads(json.dumps(asdict(key)))) == key


def test_an_engine_is_built_once(bundle, engine):
    """The second time it is taken from the cache, in silence."""
    assert again(bundle) == (engine, [])


def test_another_batch_is_another_engine(bundle, engine):
    """And the line says what was different."""
    other, (line,) = again(bundle, replace(FP32, batch=5))

    assert other.path != engine.path
    assert line.endswith("batch was 4, is 5")


@pytest.mark.parametrize(
    ("damage", "said"),
    [
        (lambda plan: plan[:-100], "bytes, not"),
        (lambda plan: plan[:500] + bytes([plan[500] ^ 1]) + plan[501:], "damaged"),
        (lambda plan: plan[:0], "bytes, not"),
    ],
    ids=["truncated", "flipped", "empty"],
)
def test_a_damaged_plan_is_built_again(bundle, engine, damage, said):
    """One bit is enough; one line says so."""
    engine.path.write_bytes(damage(engine.path.read_bytes()))

    mended, (line,) = again(bundle)

    assert said in line
    assert mended.fault is None


def test_a_missing_plan_is_built_again(bundle, engine):
    """A record alone is no engine."""
    engine.path.unlink()

    mended, (line,) = again(bundle)

    assert "cannot be read" in line
    assert mended.fault is None


def test_a_foreign_plan_is_built_again(bundle, engine):
    """A whole engine of another key, copied under this one's name, is seen by its fields."""
    other = engine_for(bundle, replace(FP32, batch=5))
    engine.path.write_bytes(other.path.read_bytes())
    engine.path.with_suffix(".json").write_text(other.path.with_suffix(".json").read_text())

    mended, (line,) = again(bundle)

    assert "another's: batch was 5, is 4" in line
    assert mended.key.batch == 4


@pytest.mark.parametrize("text", ["", "{", "[]", '{"format": 99}', '{"format": 2, "key": {}}'])
def test_an_unreadable_record_is_built_again(bundle, engine, text):
    """Whatever is in its place."""
    engine.path.with_suffix(".json").write_text(text)

    mended, (line,) = again(bundle)

    assert "its record cannot be used" in line
    assert (mended.key, mended.fault) == (engine.key, None)


def test_an_engine_that_does_not_load_is_discarded(bundle, engine):
    """The runtime rejects it, one line says why, and the next call builds it anew."""
    with logged() as said:
        discard(engine, "it does not deserialise")
    _, (line,) = again(bundle)

    assert said == [f"the engine {engine.key.short} is discarded: it does not deserialise"]
    assert line.startswith("building an engine")


def _build(folder, messages):
    """Build in another process, and count what was built."""
    from engines.models.bundle import ModelBundle

    with logged() as said:
        engine = engine_for(ModelBundle.load(folder), FP32)
    messages.put((engine.key.digest, [line for line in said if line.startswith("building")]))


def test_two_processes_build_once(bundle):
    """Whoever comes second waits, and takes the first one's engine."""
    context = multiprocessing.get_context("spawn")
    messages = context.Queue()
    racers = [context.Process(target=_build, args=(bundle.folder, messages)) for _ in range(2)]

    for racer in racers:
        racer.start()
    (first, one), (second, two) = messages.get(timeout=120), messages.get(timeout=120)
    for racer in racers:
        racer.join()

    assert first == second
    assert len(one + two) == 1


def test_whoever_waits_says_so(engine):
    """And gets the lock when the other lets it go."""
    other = FileLock(engine.path.with_suffix(".lock"))
    other.acquire()

    with logged(hear=lambda _: other.release()) as said, engine_cache._locked(engine.key):
        assert said == ["another process is building this engine; waiting for it"]


def test_an_engine_built_ahead_serves_a_gpu_among_its_targets(bundle, monkeypatch):
    """On a GPU that it was built for it is taken; on another it is not."""
    ahead = engine_for(bundle, replace(FP32, targets=("sm_86", "sm_89")))

    monkeypatch.setattr(engine_cache, "this_device", lambda: Device("RTX 4090", "8.9", "580.1"))
    assert again(bundle) == (ahead, [])

    monkeypatch.setattr(engine_cache, "this_device", lambda: Device("RTX 5090", "12.0", "580.1"))
    with pytest.raises(EngineBuildError, match="no NVIDIA driver|driver is too old|no NVIDIA GPU"):
        engine_for(bundle, FP32)


def test_engines_are_listed_found_and_removed(bundle, engine):
    """By the beginning of the digest, if one alone begins so."""
    other = engine_for(bundle, replace(FP32, batch=5))

    assert {found.path for found in list_engines()} == {engine.path, other.path}
    assert find_engine(engine.key.digest[:20]) == engine
    with pytest.raises(EngineBuildError, match="several keys"):
        find_engine("")
    remove_engine(other)
    assert find_engine("") == engine
    with pytest.raises(EngineBuildError, match="no engine"):
        find_engine(other.key.digest)


def test_a_record_is_never_there_without_its_plan(monkeypatch):
    """The plan is written first."""
    written = write_engine(KEY, b"plan", {"built": "now"})

    assert read_engine(written.path.with_suffix(".json")) == written
    assert written.path.read_bytes() == b"plan"
    assert not list((cache_folder() / "engines").glob("*.scratch"))


def test_exceptions_found_are_built_in_and_recorded(bundle):
    """By name; another list of them is another engine."""
    plain = engine_for(bundle, EngineOptions(batch=4))
    found = Mixed(
        precision="fp16",
        overflowing={"conv_stem": 2e4},
        costly=("blocks.1",),
        peak=9.0,
        peak_module="blocks.0",
        cells=8,
        max_dp=0.01,
        flips=0,
        holds=True,
    )
    remember(bundle, found)

    mixed = engine_for(bundle, EngineOptions(batch=4))

    assert mixed.path != plain.path
    assert (plain.record["keep_fp32"], plain.record["mixed"]) == ([], None)
    assert mixed.record["keep_fp32"] == ["blocks.1", "conv_stem"]
    assert mixed.record["mixed"]["overflowing"] == {"conv_stem": 2e4}
    assert mixed.record["types"]["convolutions"]["fp32"] > 1


def test_exceptions_are_looked_for_on_a_sample_once(bundle):
    """The finding is kept for every later engine of this model."""
    refs = tuple(CellRef(f"cell{index}", "s") for index in range(4))
    pixels = np.random.default_rng(0).integers(0, 256, (4, 32, 32, 3), dtype=np.uint8)
    sample = [Batch(Shard(0, refs), refs, (CellFacts(),) * 4, pixels)]

    with logged() as said:
        engine = engine_for(bundle, EngineOptions(batch=4), sample=sample)
        engine_for(bundle, EngineOptions(batch=5), sample=sample)

    assert engine.record["mixed"]["cells"] == 4
    assert engine.record["mixed"]["holds"]
    assert sum("must leave to float32" in line for line in said) == 1
