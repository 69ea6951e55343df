"""``slidescreen engine``: build, list, show, verify, remove."""

from __future__ import annotations

import hashlib
import json
import subprocess
import sys
from dataclasses import replace

import click
import numpy as np
import pytest
import torch
from click.testing import CliRunner

from engines.cells import CellRef
from engines.errors import BackendMissingError, BundleError, EngineBuildError, SourceError
from engines.mixed_precision.policy import remembered
from engines.runtime.base import RuntimeOptions
from engines.runtime.torch_cpu import TorchRuntime
from engines.tensorrt.engine_store import list_engines
from engines.tensorrt.tuning import BATCHES
from screen.cli.main import cli
from screen.engine_verify import cells_of, held_against


@pytest.fixture(autouse=True)
def own_cache(cache, tmp_path, monkeypatch):
    """Engines of this test's own; exported models are shared."""
    (cache / "onnx").mkdir(exist_ok=True)
    (tmp_path / "cache").mkdir()
    (tmp_path / "cache" / "onnx").symlink_to(cache / "onnx")
    monkeypatch.setenv("SLIDESCREEN_CACHE", str(tmp_path / "cache"))


def engine(*arguments, status=0):
    """Run a command."""
    done = CliRunner().invoke(
        cli, ["engine", *map(str, arguments)], standalone_mode=False, catch_exceptions=False
    )
    assert done.return_value == status, done.output
    return done


def build(bundle, *options):
    """Build an engine; return its key's digest."""
    arguments = ("--batch-size", 4, "--for", "sm_86,sm_89", *options)
    return engine("build", bundle.folder, *arguments).stdout.strip()


def test_an_engine_lives_and_dies(bundle):
    """Built, listed, shown by an abbreviation, removed."""
    digest = build(bundle, "--precision", "fp16")

    (listed,) = json.loads(engine("list", "--json").stdout)
    shown = json.loads(engine("show", digest[:6], "--json").stdout)
    removed = engine("remove", digest[:6])

    assert listed == shown
    assert shown["digest"] == digest
    assert shown["key"]["targets"] == ["sm_86", "sm_89"]
    assert shown["types"]["convolutions"] == {"fp16": 17}
    assert digest[:12] in removed.stderr
    assert list_engines() == []


def test_tables_name_what_matters(bundle):
    """In the list: key, precision, variant; in the record: every field."""
    digest = build(bundle, "--precision", "bf16")

    listed, shown = engine("list").stdout, engine("show", digest).stdout

    assert digest[:12] in listed
    assert "bf16" in listed
    for name in ("key.onnx_sha256", "types.half_share", "keep_fp32", "plan.sha256"):
        assert name in shown


@pytest.mark.parametrize("precision", ["fp16", "bf16", "fp32"])
def test_every_precision_is_real(bundle, precision):
    """Its convolutions are all in it."""
    digest = build(bundle, "--precision", precision)

    record = json.loads(engine("show", digest, "--json").stdout)

    assert record["types"]["convolutions"] == {precision: 17}


def test_the_second_build_is_the_first(bundle):
    """Nothing is said of building."""
    first = build(bundle)
    again = engine("build", bundle.folder, "--batch-size", 4, "--for", "sm_86,sm_89")

    assert again.stdout.strip() == first
    assert "building" not in again.stderr


def test_tune_takes_the_options_and_prints_the_best(bundle, monkeypatch):
    """Of the batches tried by default, or of the one that was named."""
    digest = build(bundle)
    (made,) = list_engines()
    asked = []

    def tuned_engine(model, options, *, batches, progress):
        progress(0.5, "batch 16")
        asked.append((model.sha256, options.precision, options.variant, batches))
        return made

    monkeypatch.setattr("screen.engine_tune.tuned_engine", tuned_engine)
    first = engine("build", bundle.folder, "--tune", "--precision", "bf16")
    engine("build", bundle.folder, "--tune", "--batch-size", 64, "--runtime", "tensorrt")

    assert first.stdout.strip() == digest
    assert asked == [
        (bundle.sha256, "bf16", "auto", BATCHES),
        (bundle.sha256, "fp16", "tensorrt", (64,)),
    ]


def test_tune_is_refused_for_other_gpus(bundle):
    """What is measured here says nothing of them."""
    with pytest.raises(click.UsageError, match="GPU at hand"):
        engine("build", bundle.folder, "--tune", "--for", "sm_86")


@pytest.mark.skipif(torch.cuda.is_available(), reason="there is a GPU")
def test_tune_without_a_gpu_says_so(bundle):
    """Nothing is built."""
    with pytest.raises(BackendMissingError, match="running them on a GPU"):
        engine("build", bundle.folder, "--tune")

    assert list_engines() == []


def test_cells_decide_what_stays_float32(bundle, cells):
    """Found on them, recorded, and known to later engines."""
    digest = build(bundle, "--cells", cells)

    record = json.loads(engine("show", digest, "--json").stdout)

    assert record["mixed"]["cells"] == remembered(bundle, "fp16").cells > 0
    assert record["mixed"]["holds"]


def test_verify_says_what_holds_and_what_could_not_be_checked(bundle, cells):
    """With no GPU: plan, types and arithmetic, and plainly that the plan was not run."""
    build(bundle)
    (found,) = list_engines()

    said = engine("verify", found.key.short, "--cells", cells, "--model", bundle.folder)
    findings = list(held_against(found, bundle, cells_of(cells, bundle, 8, 4)))

    assert [finding.name for finding in findings] == ["plan", "types", "arithmetic", "scores"]
    assert {finding.outcome for finding in findings[:3]} == {"ok"}
    assert "largest activation" in findings[2].detail
    assert all(finding.name in said.stdout for finding in findings)


def test_verify_fails_on_a_damaged_plan(bundle, cells):
    """Exit 1, and the plan is not run."""
    digest = build(bundle)
    (found,) = list_engines()
    found.path.write_bytes(found.path.read_bytes()[:-1])

    said = engine("verify", digest, "--cells", cells, "--model", bundle.folder, status=1)

    assert "FAILED" in said.stdout


def test_verify_fails_on_bytes_that_are_no_plan(bundle, cells):
    """Even where the record agrees with them, the variant itself looks."""
    build(bundle)
    (found,) = list_engines()
    junk = b"x" * 10_000
    found.path.write_bytes(junk)
    record = {**found.record, "plan": {"bytes": len(junk), "sha256": sha256(junk)}}
    found.path.with_suffix(".json").write_text(json.dumps(record))

    (first, *_) = held_against(list_engines()[0], bundle, cells_of(cells, bundle, 4, 4))

    assert (first.name, first.outcome) == ("plan", "failed")
    assert "malformed" in first.detail


def sha256(content):
    """Hash bytes."""
    return hashlib.sha256(content).hexdigest()


@pytest.mark.parametrize(("same", "outcome"), [(True, "ok"), (False, "failed")])
def test_verify_runs_the_plan_where_a_gpu_can(bundle, cells, monkeypatch, same, outcome):
    """What comes out of it is held against FP32 PyTorch; another model's scores fail."""
    build(bundle)
    (found,) = list_engines()
    opened = []

    class Plan(TorchRuntime):
        """Stands in for a plan on a GPU."""

        def stream(self, batches):
            """Score, or say the opposite."""
            for scores in super().stream(batches):
                yield scores if same else replace(scores, logits=-scores.logits)

    def opens(engine, model, options):
        opened.append((engine, options.batch, options.precision))
        return Plan(model, RuntimeOptions(batch=options.batch))

    monkeypatch.setattr("screen.engine_verify.obstacle", lambda _: None)
    monkeypatch.setattr("engines.runtime.tensorrt.open_engine", opens)

    *_, scores = held_against(found, bundle, cells_of(cells, bundle, 8, 4))

    assert (scores.name, scores.outcome) == ("scores", outcome)
    assert opened == [(found, 4, "fp16")]


def test_verify_wants_the_bundle_it_was_built_from(bundle, three_classes, cells):
    """Another's weights are refused by name."""
    build(bundle)
    batches = cells_of(cells, three_classes, 4, 4)

    with pytest.raises(BundleError, match="was not built from"):
        next(held_against(list_engines()[0], three_classes, batches))


def test_a_folder_without_cells_is_refused(bundle, tmp_path):
    """There is nothing to check on."""
    (tmp_path / "empty").mkdir()
    (tmp_path / "empty" / "bad.png").write_bytes(b"no image")

    with pytest.raises(SourceError, match="can be decoded"):
        cells_of(tmp_path / "empty", bundle, 4, 4)


def test_cells_are_spread_and_counted(bundle, cells):
    """As many as asked for, each once, no batch larger than the engine's."""
    batches = cells_of(cells, bundle, 5, 2)

    refs = [ref for batch in batches for ref in batch.refs]
    assert len(set(refs)) == len(refs) == 5
    assert max(len(batch.refs) for batch in batches) <= 2
    assert all(isinstance(ref, CellRef) for ref in refs)
    assert all(batch.pixels.dtype == np.uint8 for batch in batches)


def test_an_unknown_gpu_is_refused(bundle):
    """With those that can be built for."""
    with pytest.raises(EngineBuildError, match="sm_75: it can for sm_80, sm_86"):
        engine("build", bundle.folder, "--for", "sm_75")


def test_help_of_every_command_has_an_example():
    """And loads nothing heavy."""
    for name in ("build", "list", "show", "verify", "remove"):
        said = engine(name, "--help").stdout
        assert f"slidescreen engine {name}" in said

    code = (
        "import sys; from click.testing import CliRunner; from screen.cli.main import cli;"
        "CliRunner().invoke(cli, ['engine', 'build', '--help']);"
        "print({'torch', 'tensorrt_rtx', 'timm', 'onnx'} & set(sys.modules))"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "set()"
