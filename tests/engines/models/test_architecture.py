"""What a bundle may ask timm for: nothing that would fetch, run or allocate anything else."""

from __future__ import annotations

import json
import shutil

import numpy as np
import pytest
import timm
import torch
from safetensors.numpy import load_file, save_file

from engines.errors import BundleError
from engines.files import sha256_of_file
from engines.models.architecture import refusal
from engines.models.bundle import ModelBundle
from engines.models.network import built_network
from engines.models.serving_graph import serving_graph


@pytest.fixture
def copy(bundle, tmp_path):
    """A copy of the tiny bundle, to be made hostile."""
    return shutil.copytree(bundle.folder, tmp_path / "copy")


def edit(path, **changes):
    """Change fields of a JSON record."""
    path.write_text(json.dumps({**json.loads(path.read_text()), **changes}))


@pytest.fixture
def no_timm(monkeypatch):
    """Make timm fail the test when a network is asked of it."""
    monkeypatch.setattr(timm, "create_model", lambda *_, **__: pytest.fail("timm was asked"))


@pytest.mark.parametrize(
    "name",
    [
        "hf-hub:timm/efficientnet_b3.ra2_in1k",
        "hf_hub:evil/model",
        "local-dir:/tmp/elsewhere",
        "https://example.org/model.pth",
        "file:///tmp/weights.pth",
        "timm/efficientnet_b3",
        "../elsewhere",
        "efficientnet_b3.",
        "",
        "a" * 500,
        "efficientnet_b3\nhf-hub:x",
    ],
)
@pytest.mark.usefixtures("no_timm")
def test_only_registered_names_reach_timm(copy, name):
    """A hub, an address, a folder: refused before timm sees the name."""
    edit(copy / "config.json", architecture=name)

    with pytest.raises(BundleError, match="not the name of one of timm's registered networks"):
        ModelBundle.load(copy)


def test_a_name_that_timm_does_not_know_is_refused(copy, monkeypatch):
    """It is looked up in the register, never tried."""
    edit(copy / "config.json", architecture="no_such_network")
    loaded = ModelBundle.load(copy)
    monkeypatch.setattr(timm, "create_model", lambda *_, **__: pytest.fail("timm was asked"))

    with pytest.raises(BundleError, match="has no network no_such_network"):
        built_network(loaded)


@pytest.mark.parametrize(
    "arguments",
    [
        {"pretrained": True},
        {"checkpoint_path": "weights.pth"},
        {"pretrained_cfg": {"file": "weights.pth"}},
        {"pretrained_cfg_overlay": {"url": "https://example.org/w.pth"}},
        {"cache_dir": "elsewhere"},
        {"scriptable": True},
        {"features_only": True},
        {"in_chans": 1},
        {"num_classes": 1000},
        {"drop_rate": {"a": 1}},
        {"img_size": 10**9},
        {"img_size": [224, 10**9]},
        {"depth": 10**12},
        {"drop_rate": float("nan")},
        {"act_layer": "torch.nn.ReLU; import os"},
        {"depths": [1] * 1000},
    ],
)
@pytest.mark.usefixtures("no_timm")
def test_only_listed_arguments_in_bounds_reach_timm(copy, arguments):
    """Whatever fetches, runs or allocates something is refused when the bundle is loaded."""
    edit(copy / "config.json", model_args=arguments)

    with pytest.raises(BundleError, match=f"the model argument '{next(iter(arguments))}'"):
        ModelBundle.load(copy)


def test_the_shipped_models_arguments_are_allowed():
    """Those of EfficientNet-Lite2, and those that training is usually given."""
    assert not refusal("efficientnet_b3", {"act_layer": "relu6", "bn_eps": 1e-3})
    assert not refusal("tf_efficientnet_b3.ns_jft_in1k", {"drop_path_rate": 0.2, "img_size": 224})


@pytest.mark.parametrize("arguments", [{"act_layer": "no_such"}, {"window_size": [7, 7]}])
def test_what_timm_does_not_take_is_said(copy, arguments):
    """Any error of a network's constructor is one of the bundle."""
    edit(copy / "config.json", model_args=arguments)

    with pytest.raises(BundleError, match="cannot build the test_efficientnet"):
        built_network(ModelBundle.load(copy))


def test_no_memory_is_set_aside_for_what_does_not_fit(copy, monkeypatch):
    """A network far larger than its weights' file is compared without being allocated."""
    edit(copy / "config.json", architecture="vit_giant_patch14_224", model_args={"depth": 8000})
    devices = []
    create = timm.create_model

    def noted(*args, **kwargs):
        devices.append(torch.get_default_device().type)
        return create(*args, **{**kwargs, "depth": 2})

    monkeypatch.setattr(timm, "create_model", noted)

    with pytest.raises(BundleError, match="do not make a vit_giant_patch14_224"):
        built_network(ModelBundle.load(copy))
    assert devices == ["meta"]


def test_tables_that_are_computed_are_bounded(copy, monkeypatch):
    """Tables of positions are in no file of weights, so their size is looked at by itself."""
    monkeypatch.setattr("engines.models.network.MOST_BUFFER_BYTES", 10)

    with pytest.raises(BundleError, match="tables of positions"):
        built_network(ModelBundle.load(copy))


def retrusted(folder, **changes):
    """Change tensors of a bundle's limits, and its hash accordingly; None leaves one out."""
    path = folder / "trust.safetensors"
    tensors = {**load_file(path), **changes}
    save_file({name: value for name, value in tensors.items() if value is not None}, path)
    edit(folder / "screening.json", trust_sha256=sha256_of_file(path))


@pytest.mark.parametrize(
    "changes",
    [
        {"held_out_strangeness_N": np.full(120, np.nan, np.float32)},
        {"held_out_truth_N": np.zeros(120, np.float32)},
        {"variances_K": np.zeros(64, np.float32)},
        {"rest": np.zeros(0, np.float32)},
        {"rest": None},
        {"colour_precision": np.eye(5, dtype=np.float32)},
        {"colour_mean": np.full(6, np.inf, np.float32)},
        {"centres_CF": np.zeros(3, np.float32)},
    ],
)
def test_limits_that_mean_nothing_are_refused(copy, changes):
    """NaN distances would make every cell look usual: ood_p 1 for all."""
    retrusted(copy, **changes)

    with pytest.raises(BundleError, match="not valid"):
        ModelBundle.load(copy)


def test_limits_of_another_network_are_refused(copy):
    """Fitted to features of another length: said before a cell is scored."""
    retrusted(
        copy,
        centres_CF=np.zeros((2, 7), np.float32),
        directions_KF=np.eye(3, 7, dtype=np.float32),
        variances_K=np.ones(3, np.float32),
    )

    with pytest.raises(BundleError, match="its limits were fitted to 7 features"):
        serving_graph(ModelBundle.load(copy))


@pytest.mark.parametrize(
    ("name", "changes"),
    [
        ("screening.json", {"temperature": "warm"}),
        ("screening.json", {"temperature": float("inf")}),
        ("screening.json", {"threshold": [0.5]}),
        ("screening.json", {"classes": "ab"}),
        ("screening.json", {"classes": [["hem"], ["all"]]}),
        ("screening.json", {"classes": [f"c{n}" for n in range(5000)]}),
        ("screening.json", {"data": [1]}),
        ("screening.json", {"data": {"training_subjects": 7}}),
        ("screening.json", {"half": {"bf16": 1}}),
        ("screening.json", {"input": None}),
        ("screening.json", {"weights_sha256": 5}),
        ("screening.json", {"trust_sha256": ["x"]}),
        ("config.json", {"architecture": None}),
        ("config.json", {"num_classes": "2"}),
        ("config.json", {"pretrained_cfg": 3}),
        ("config.json", {"model_args": ["act_layer"]}),
    ],
)
def test_values_of_the_wrong_type_are_named(copy, name, changes):
    """No value of a bundle reaches any code that takes it for another type."""
    edit(copy / name, **changes)

    with pytest.raises(BundleError):
        ModelBundle.load(copy)


@pytest.mark.parametrize("side", [0, -3, 100_000])
def test_an_input_out_of_bounds_is_refused(copy, side):
    """The size is bounded before an image of it is made."""
    said = json.loads((copy / "screening.json").read_text())["input"]
    edit(copy / "screening.json", input={**said, "height": side})

    with pytest.raises(BundleError, match="input size must be 1 to 2048"):
        ModelBundle.load(copy)


def test_an_argument_that_only_fails_when_run_is_refused(copy):
    """Some values pass a network's constructor and fail in its first layer."""
    edit(copy / "config.json", model_args={"bn_eps": "small"})

    with pytest.raises(BundleError, match="cannot be screened with: it does not run"):
        serving_graph(ModelBundle.load(copy))
