"""Half precision: what it computes, and what has to stay in float32."""

from __future__ import annotations

from dataclasses import asdict, dataclass, replace
from shutil import copytree

import numpy as np
import pytest
import torch
from logs import logged
from safetensors.torch import load_file, save_file
from tiny import config, screening

from engines.cells import CellRef
from engines.errors import BundleError
from engines.mixed_precision import sensitivity
from engines.mixed_precision.activation_range import Peaks, exact_sums, half_limit, watched
from engines.mixed_precision.policy import Mixed, find_mixed, remember, remembered, settled
from engines.mixed_precision.sensitivity import costly_modules
from engines.models.bundle import ModelBundle, save_bundle, with_half
from engines.models.casting import fold_batch_norms, within
from engines.models.serving_graph import (
    ServingGraph,
    convolution_types,
    folded_graph,
    serving_graph,
)
from engines.parity import ScoreAgreement

HALF_MAX = 65504


def noise(count, seed=0):
    """Return random images."""
    return np.random.default_rng(seed).integers(0, 256, (count, 32, 32, 3), dtype=np.uint8)


def refs(count):
    """Name cells."""
    return [CellRef(f"cell{index}", "s") for index in range(count)]


@pytest.fixture(scope="module")
def loud(bundle, tmp_path_factory):
    """The tiny model, one block's expansion made a million times larger and back again."""
    folder = tmp_path_factory.mktemp("loud")
    weights = load_file(bundle.weights)
    weights["blocks.1.0.conv_exp.weight"] = weights["blocks.1.0.conv_exp.weight"].clone()
    name = "blocks.1.0.bn1"
    for part in ("weight", "bias"):
        weights[f"{name}.{part}"] = weights[f"{name}.{part}"] * 1e6
    weights["blocks.1.0.conv_pwl.weight"] = weights["blocks.1.0.conv_pwl.weight"] / 1e6
    save_file(weights, folder / "weights.tmp")
    return save_bundle(
        folder,
        config=config("test_efficientnet", 2, 32),
        weights=folder / "weights.tmp",
        screening=screening(["hem", "all"], "all", 32),
    )


@torch.no_grad()
def outputs(graph, pixels):
    """Run a graph."""
    return graph(torch.from_numpy(pixels))


def types_given(graph):
    """Note the type of what each module gives, once it has run."""
    seen = {}
    for name, module in graph.network.named_modules():

        def note(_, __, output, name=name):
            seen[name] = output.dtype

        module.register_forward_hook(note)
    return seen


@pytest.mark.parametrize(("precision", "dtype"), [("fp16", "float16"), ("bf16", "bfloat16")])
def test_the_backbone_is_half_and_its_ends_are_not(bundle, precision, dtype):
    """Every convolution and activation is; pixels come in and logits go out in float32."""
    graph = serving_graph(bundle, precision=precision)
    seen = types_given(graph)

    logits, features, evidence = outputs(graph, noise(2))

    assert set(seen.values()) == {getattr(torch, dtype)}
    assert set(convolution_types(graph)) == {precision}
    assert (logits.dtype, features.dtype, evidence.dtype) == (
        torch.float32,
        torch.float16,
        torch.float16,
    )
    assert graph.normalised(torch.from_numpy(noise(1))).dtype == torch.float32


@pytest.mark.parametrize("precision", ["fp16", "bf16"])
def test_evidence_adds_up_to_the_logits_in_half(bundle, precision):
    """To the parity of half: mean(evidence) + bias is the logit."""
    graph = serving_graph(bundle, precision=precision)

    logits, _, evidence = outputs(graph, noise(4))

    bias = graph.network.get_classifier().bias
    assert (evidence.float().mean((2, 3)) + bias - logits).abs().max() <= 2e-2


def test_a_module_kept_takes_and_gives_float32(bundle):
    """And all below it; its neighbours stay half."""
    graph = serving_graph(bundle, precision="fp16", keep_fp32=("blocks.1",))
    seen = types_given(graph)

    outputs(graph, noise(2))

    inside = {dtype for name, dtype in seen.items() if name.startswith("blocks.1.")}
    assert inside == {torch.float32}
    assert seen["conv_stem"] == seen["blocks.2.0.conv_exp"] == torch.float16


def test_what_has_no_weights_leaves_the_type_alone(bundle):
    """The activation after a convolution kept in float32 does not round what it gives."""
    graph = serving_graph(bundle, precision="bf16", keep_fp32=("conv_stem",))
    seen = types_given(graph)

    outputs(graph, noise(2))

    assert seen["conv_stem"] == seen["bn1"] == torch.float32
    assert seen["blocks.0.0.conv"] == torch.bfloat16


def test_with_everything_kept_it_is_the_reference(bundle):
    """Folded batch norms only round differently."""
    network = serving_graph(bundle).network
    names = tuple(name for name, module in network.named_children() if list(module.parameters()))
    graph = serving_graph(bundle, precision="fp16", keep_fp32=names)

    ours, theirs = outputs(graph, noise(4))[0], outputs(serving_graph(bundle), noise(4))[0]

    assert (ours - theirs).abs().max() < 1e-3


def test_the_reference_is_left_alone(bundle):
    """In fp32 no batch norm is folded and no hook is added."""
    network = serving_graph(bundle).network
    norms = [m for m in network.modules() if isinstance(m, torch.nn.BatchNorm2d)]

    assert norms
    assert not any(module._forward_pre_hooks for module in network.modules())


def test_a_name_that_is_none_is_refused(bundle):
    """A record of another model's exceptions does not pass."""
    with pytest.raises(ValueError, match="no modules"):
        serving_graph(bundle, precision="fp16", keep_fp32=("nowhere",))


def test_folding_changes_nothing_but_rounding():
    """Over every way a norm and a convolution may stand: before, after, shared, twice."""
    torch.manual_seed(0)
    network = torch.nn.Sequential(
        torch.nn.BatchNorm2d(3),  # before: stays
        torch.nn.Conv2d(3, 4, 3, bias=False),
        torch.nn.BatchNorm2d(4),  # after: folds
        torch.nn.ReLU(),
        torch.nn.BatchNorm2d(4),  # after no convolution: stays
    ).eval()
    for module in network:
        if isinstance(module, torch.nn.BatchNorm2d):
            module.running_mean.normal_()
            module.running_var.uniform_(0.5, 2)
    values = torch.randn(2, 3, 8, 8)
    with torch.no_grad():
        before = network(values)
        folded = fold_batch_norms(network, lambda: network(values))
        after = network(values)

    assert folded == 1
    assert [type(module).__name__ for module in network] == [
        "BatchNorm2d",
        "Conv2d",
        "Identity",
        "ReLU",
        "BatchNorm2d",
    ]
    torch.testing.assert_close(before, after)


def test_a_convolution_that_runs_twice_is_not_folded():
    """Its other use would change."""
    convolution, norm = torch.nn.Conv2d(3, 3, 1), torch.nn.BatchNorm2d(3).eval()
    network = torch.nn.Sequential(convolution, convolution, norm).eval()
    values = torch.randn(1, 3, 4, 4)

    assert fold_batch_norms(network, lambda: network(values)) == 0


def test_one_rounding_is_torchs_own_half_arithmetic(bundle):
    """Float32 sums rounded once differ from torch's half convolutions by their rounding alone."""
    own, once = (serving_graph(bundle, precision="fp16") for _ in range(2))
    exact_sums(once.network)

    ours, theirs = outputs(once, noise(8))[0], outputs(own, noise(8))[0]

    reference = outputs(serving_graph(bundle), noise(8))[0]
    scale = reference.abs().max()
    assert 0 < (ours - reference).abs().max() < 5e-3 * scale
    assert (ours - theirs).abs().max() < 5e-3 * scale


def test_peaks_are_the_largest_values(bundle):
    """Of inputs and outputs; not a number counts as infinite."""
    peaks = Peaks()
    peaks.note("a", torch.tensor([-3.0, 2.0]))
    peaks.note("a", torch.tensor([1.0]))
    peaks.note("b", torch.tensor([float("nan")]))
    peaks.note("c", torch.tensor([9.0]))

    assert peaks.of == {"a": 3, "b": torch.inf, "c": 9}
    assert peaks.above(2) == ["a", "b"]  # what follows the infinite one is spoilt


def test_a_container_answers_for_its_own_sums():
    """An addition overflows though no module's output does."""

    class Twice(torch.nn.Module):
        """A residual block."""

        def __init__(self):
            """One child."""
            super().__init__()
            self.child = torch.nn.Identity()

        def forward(self, values):
            """Add."""
            return values + self.child(values)

    network = torch.nn.Sequential(Twice())
    with watched(network) as peaks:
        network(torch.tensor([4e4], dtype=torch.float16))

    assert peaks.of["0"] == torch.inf
    assert peaks.of["0.child"] == pytest.approx(4e4, rel=1e-3)


def test_an_overflow_is_found_and_kept_in_float32(loud):
    """By name, until nothing in half comes within a factor of 4 of the maximum."""
    pixels = noise(8)
    with torch.no_grad():
        spoilt = serving_graph(loud, precision="fp16")(torch.from_numpy(pixels))[0]

    found = find_mixed(loud, refs(8), pixels, precision="fp16")

    assert not torch.isfinite(spoilt).all()
    assert found.holds
    assert found.overflowing
    assert all(name.startswith("blocks.1.0") for name in found.keep_fp32)
    assert found.peak <= HALF_MAX / 4
    assert max(found.overflowing.values()) > half_limit(torch.float16)


def test_bfloat16_has_room_for_it(loud):
    """Its largest number is float32's."""
    found = find_mixed(loud, refs(8), noise(8), precision="bf16")

    assert not found.overflowing


def test_a_quiet_model_needs_no_exceptions(bundle):
    """And what was found says how well it agrees."""
    found = find_mixed(bundle, refs(8), noise(8), precision="fp16")

    assert found.keep_fp32 == ()
    assert found.holds
    assert 0 < found.max_dp <= 0.05
    assert found.cells == 8


def test_what_costs_parity_is_kept_in_float32(bundle, monkeypatch):
    """With a limit that half misses, modules are kept until it is met, said in a line."""
    plain = find_mixed(bundle, refs(8), noise(8), precision="bf16")
    monkeypatch.setitem(
        sensitivity.score_agreement.__globals__["DP_LIMIT"], "bf16", plain.max_dp * 0.6
    )
    with logged() as said:
        found = find_mixed(bundle, refs(8), noise(8), precision="bf16")

    assert found.holds
    assert found.costly
    assert found.max_dp <= plain.max_dp * 0.6
    assert "looking for what has to stay in float32" in said[0]


@pytest.mark.parametrize(
    "needed",
    [
        {"blocks.0.0.conv"},
        {"conv_stem", "blocks.1.0.conv_pwl"},
        {"blocks.1.0.conv_exp", "blocks.1.0.conv_pwl", "classifier"},
        set(),
    ],
)
def test_the_search_keeps_what_is_needed_and_no_more(bundle, needed):
    """Wherever it lies: a module, several in one block, several stages."""
    trial = Needing(folded_graph(bundle), needed)

    assert set(costly_modules(trial, set())) == needed


@dataclass
class Needing:
    """A trial that agrees once some modules are kept; each one missing makes it worse."""

    folded: ServingGraph
    needed: set[str]

    def agreement(self, kept):
        """Compare."""
        missing = sum(not within(name, kept) for name in self.needed)
        return ScoreAgreement(
            cells=1, precision="bf16", max_dp=0.1 * missing, flips=0, far_flips=0, worst=""
        )

    def hardest(self, _):
        """Take every cell."""
        return self


def test_what_was_found_is_remembered(bundle, tmp_path, monkeypatch):
    """Per model and precision."""
    monkeypatch.setenv("SLIDESCREEN_CACHE", str(tmp_path))
    found = Mixed(
        precision="fp16",
        overflowing={"a": 2e4},
        costly=("b.c", "b"),
        peak=1.0,
        peak_module="d",
        cells=3,
        max_dp=0.01,
        flips=0,
        holds=True,
    )

    remember(bundle, found)

    assert remembered(bundle, "fp16") == replace(found, costly=("b.c", "b"))
    assert remembered(bundle, "fp16").keep_fp32 == ("a", "b")
    assert remembered(bundle, "bf16") is None


def test_a_bundle_says_what_was_found_when_it_was_made(bundle, tmp_path, monkeypatch):
    """So nobody has to look; what is found on this machine later goes before it."""
    monkeypatch.setenv("SLIDESCREEN_CACHE", str(tmp_path / "cache"))
    copy = ModelBundle.load(copytree(bundle.folder, tmp_path / "bundle"))
    made = find_mixed(bundle, refs(8), noise(8), precision="bf16")
    told = with_half(copy, {"bf16": asdict(replace(made, costly=("conv_stem",)))})

    known = settled(told, "bf16")
    remember(told, made)

    assert told.sha256 != copy.sha256
    assert known == replace(made, overflowing=known.overflowing, costly=("conv_stem",))
    assert settled(told, "bf16") == made
    assert settled(told, "fp16") is None


def test_a_record_that_cannot_be_read_is_an_error(bundle, tmp_path, monkeypatch):
    """Without its exceptions a model may be another one."""
    monkeypatch.setenv("SLIDESCREEN_CACHE", str(tmp_path / "cache"))
    copy = ModelBundle.load(copytree(bundle.folder, tmp_path / "bundle"))
    told = with_half(copy, {"bf16": {"precision": "bf16"}})

    with pytest.raises(BundleError, match="says of bf16 cannot be read"):
        settled(told, "bf16")
