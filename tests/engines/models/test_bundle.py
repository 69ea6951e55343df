"""Bundles: what is refused, what timm sees, what names them."""

from __future__ import annotations

import json
import shutil
from dataclasses import replace

import pytest
import timm
import torch
from tiny import make_bundle

from engines.errors import BundleError
from engines.models.bundle import DEFAULT_BUNDLE, ModelBundle
from engines.models.serving_graph import network_from_bundle, serving_graph


@pytest.fixture
def copy(bundle, tmp_path):
    """A copy of the tiny bundle, to be spoilt."""
    return shutil.copytree(bundle.folder, tmp_path / "copy")


def edit(path, **changes):
    """Change fields of a JSON record."""
    path.write_text(json.dumps({**json.loads(path.read_text()), **changes}))


def test_plain_timm_loads_the_bundles_tensors(bundle):
    """timm.create_model('local-dir:...') gives the very weights that run."""
    theirs = timm.create_model(f"local-dir:{bundle.folder}", pretrained=True).state_dict()
    ours = network_from_bundle(bundle).state_dict()

    assert theirs.keys() == ours.keys()
    assert all(torch.equal(theirs[name], ours[name]) for name in ours)


def test_timm_prepares_crops_as_the_bundle_says(bundle):
    """Size, squashing and normalisation that timm resolves are the bundle's."""
    model = timm.create_model(f"local-dir:{bundle.folder}", pretrained=True)
    resolved = timm.data.resolve_model_data_config(model)

    assert list(resolved["input_size"]) == [3, bundle.input.height, bundle.input.width]
    assert tuple(resolved["mean"]) == bundle.input.mean
    assert tuple(resolved["std"]) == bundle.input.std
    assert (resolved["crop_pct"], resolved["crop_mode"]) == (1.0, "squash")


@pytest.fixture
def middle(copy):
    """The tiny bundle, shown the middle 0.57 of crops, as both of its records say."""
    said = {
        name: json.loads((copy / name).read_text()) for name in ("config.json", "screening.json")
    }
    seen = {**said["config.json"]["pretrained_cfg"], "crop_pct": 0.57}
    edit(copy / "config.json", pretrained_cfg=seen)
    edit(copy / "screening.json", input={**said["screening.json"]["input"], "crop_pct": 0.57})
    return copy


def test_a_centre_crop_is_one_for_us_and_for_timm(bundle, middle):
    """And another input is another model."""
    loaded = ModelBundle.load(middle)
    model = timm.create_model(f"local-dir:{middle}", pretrained=True)

    resolved = timm.data.resolve_model_data_config(model)

    assert loaded.input.crop_pct == resolved["crop_pct"] == 0.57
    assert loaded.sha256 != bundle.sha256


def test_a_centre_crop_that_only_one_record_states_is_refused(middle):
    """What timm would look at at another part of the crop than we do."""
    seen = json.loads((middle / "config.json").read_text())["pretrained_cfg"]
    edit(middle / "config.json", pretrained_cfg={**seen, "crop_pct": 1.0})

    with pytest.raises(BundleError, match=r"crop_pct is 1.0 in config.json, 0.57"):
        ModelBundle.load(middle)


@pytest.mark.parametrize("share", [0, -0.5, 1.01])
def test_a_centre_crop_of_nothing_or_more_than_all_is_refused(middle, share):
    """The share of a crop's sides lies above 0 and goes up to 1."""
    said = json.loads((middle / "screening.json").read_text())["input"]
    edit(middle / "screening.json", input={**said, "crop_pct": share})

    with pytest.raises(BundleError, match="crop_pct must be"):
        ModelBundle.load(middle)


@pytest.mark.parametrize("name", ["config.json", "model.safetensors", "screening.json"])
def test_a_missing_file_is_named(copy, name):
    """A bundle without one of its files says which."""
    (copy / name).unlink()

    with pytest.raises(BundleError, match=name):
        ModelBundle.load(copy)


def test_damaged_weights_are_refused(copy):
    """One flipped bit in the weights is noticed before anything is scored."""
    weights = copy / "model.safetensors"
    data = bytearray(weights.read_bytes())
    data[-1] ^= 1
    weights.write_bytes(data)

    with pytest.raises(BundleError, match="not the file"):
        ModelBundle.load(copy)


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"classes": ["hem", "all", "x"]}, "num_classes"),
        ({"classes": ["all", "all"]}, "differ"),
        ({"positive": "blast"}, "blast"),
        ({"display_names": {"blast": "leukaemic blast"}}, "blast"),
        ({"display_names": {"all": "a cell", "hem": "a cell"}}, "display_names must differ"),
        ({"display_names": "words"}, "not valid"),
        ({"positive": None}, "together"),
        ({"threshold": 1.5}, "threshold"),
        ({"temperature": 0}, "temperature"),
        ({"format": 99}, "format 99"),
    ],
)
def test_contradictions_are_refused(copy, changes, said):
    """A bundle whose meaning is unclear is refused, saying what is wrong."""
    edit(copy / "screening.json", **changes)

    with pytest.raises(BundleError, match=said):
        ModelBundle.load(copy)


def test_classes_without_words_are_shown_by_their_names(copy):
    """Display names are for people; classes stay what columns are named after."""
    edit(copy / "screening.json", display_names={"all": "leukaemic blast (all)"})

    bundle = ModelBundle.load(copy)

    assert bundle.classes == ("hem", "all")
    assert bundle.display_names == {"hem": "hem", "all": "leukaemic blast (all)"}


def test_the_shipped_model_says_what_its_classes_are():
    """Nobody has to know that ALL is acute lymphoblastic leukaemia."""
    bundle = ModelBundle.load(DEFAULT_BUNDLE)

    assert bundle.display_names == {"all": "leukaemic blast (all)", "hem": "normal (hem)"}


def test_records_that_disagree_are_refused(copy):
    """What timm would do to a crop must be what the bundle says."""
    config = json.loads((copy / "config.json").read_text())
    edit(copy / "config.json", pretrained_cfg={**config["pretrained_cfg"], "mean": [0.4, 0.5, 0.5]})

    with pytest.raises(BundleError, match="mean"):
        ModelBundle.load(copy)


def test_every_file_is_part_of_the_name(bundle, copy):
    """A change to any record gives the bundle another hash."""
    for name in ("config.json", "screening.json"):
        edit(copy / name, note="changed")
        changed = ModelBundle.load(copy)
        assert changed.sha256 != bundle.sha256


def test_an_input_that_the_network_does_not_take_is_refused(tmp_path):
    """With the network's own reason."""
    other = make_bundle(
        tmp_path, classes=["a", "b"], positive=None, size=64, architecture="deit_tiny_patch16_224"
    )

    with pytest.raises(BundleError, match="cannot be screened with: it does not run on images of"):
        serving_graph(other)


def test_weights_of_another_architecture_are_refused(bundle):
    """The error names the architecture that does not fit."""
    with pytest.raises(BundleError, match="resnet10t"):
        network_from_bundle(replace(bundle, architecture="resnet10t"))
