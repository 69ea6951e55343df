"""The exported model runs in ONNX Runtime, and its README says how."""

from __future__ import annotations

import re

import numpy as np
import onnxruntime
import pytest
import torch

from engines.errors import BundleError
from engines.models.onnx_package import readme_beside, write_onnx
from engines.models.serving_graph import serving_graph


@pytest.fixture(scope="module")
def exported(bundle, tmp_path_factory):
    """An ONNX file with its README."""
    path = tmp_path_factory.mktemp("onnx") / "model.onnx"
    write_onnx(bundle, path)
    return path


def test_it_runs_in_onnx_runtime(exported, bundle):
    """Any number of cells, and logits, features and evidence are PyTorch's."""
    session = onnxruntime.InferenceSession(exported)
    (given,) = session.get_inputs()
    pixels = np.random.default_rng(0).integers(0, 256, (5, 32, 32, 3), dtype=np.uint8)

    found = session.run(["logits", "features", "evidence"], {given.name: pixels})

    assert (given.name, given.type, given.shape[1:]) == ("pixels", "tensor(uint8)", [32, 32, 3])
    with torch.inference_mode():
        expected = [each.numpy() for each in serving_graph(bundle)(torch.from_numpy(pixels))]
    for own, reference in zip(found, expected, strict=True):
        assert own.dtype == reference.dtype
        np.testing.assert_allclose(own, reference, rtol=2e-3, atol=2e-3)


def test_the_readme_is_true(exported, bundle):
    """Its example runs, its table names what the graph has, and calls can be made with it."""
    text = readme_beside(exported).read_text()
    (code,) = re.findall(r"```python\n(.*?)```", text, re.DOTALL)

    scope = {}
    exec(code.replace("model.onnx", str(exported)), scope)  # noqa: S102

    assert scope["logits"].shape == (1, 2)
    session = onnxruntime.InferenceSession(exported)
    assert re.findall(r"^\| `(\w+)`", text, re.MULTILINE) == [
        *(each.name for each in session.get_inputs()),
        *(each.name for each in session.get_outputs()),
    ]
    assert f"logits / {bundle.temperature}" in text
    assert f"at least {bundle.threshold}" in text
    assert "hem, all" in text


def test_it_replaces_its_own_files_and_no_other(exported, bundle, tmp_path):
    """A file of somebody else needs force."""
    path = tmp_path / "model.onnx"
    path.write_bytes(exported.read_bytes())
    write_onnx(bundle, path)
    readme_beside(path).write_text("mine")

    with pytest.raises(BundleError, match="left alone"):
        write_onnx(bundle, path)
    write_onnx(bundle, path, force=True)

    assert readme_beside(path).read_text() != "mine"
    with pytest.raises(BundleError, match=r"\.onnx"):
        write_onnx(bundle, tmp_path / "model.pt")
