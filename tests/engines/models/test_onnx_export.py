"""The exported model in the cache is what was exported, or it is exported anew."""

from __future__ import annotations

import shutil

import pytest
from logs import logged

from engines.models.onnx_export import onnx_from_bundle


@pytest.fixture
def exported(bundle, tmp_path, monkeypatch):
    """An exported model in a cache of this test's own, and what it was."""
    monkeypatch.setenv("SLIDESCREEN_CACHE", str(tmp_path / "cache"))
    path = onnx_from_bundle(bundle)
    return path, path.read_bytes()


def flip(path):
    """Turn one bit in the middle, among the weights."""
    content = bytearray(path.read_bytes())
    content[len(content) // 2] ^= 1
    path.write_bytes(content)


def test_a_model_that_is_whole_is_taken(bundle, exported):
    """Nothing is said, and the file is not touched."""
    path, _ = exported
    before = path.stat().st_mtime_ns

    with logged() as said:
        again = onnx_from_bundle(bundle)

    assert (again, again.stat().st_mtime_ns, said) == (path, before, [])


@pytest.mark.parametrize("damage", [flip, lambda path: path.with_suffix(".onnx.sha256").unlink()])
def test_one_flipped_bit_is_noticed(bundle, exported, damage):
    """It is exported anew, and said so."""
    path, content = exported
    damage(path)

    with logged() as said:
        onnx_from_bundle(bundle)

    assert path.read_bytes() == content
    assert "damaged or was swapped" in " ".join(said)


def test_a_model_that_was_swapped_is_noticed(bundle, three_classes, exported):
    """Together with its hash, too: the pair is another name's."""
    path, content = exported
    other = onnx_from_bundle(three_classes)
    for suffix in (".onnx", ".onnx.sha256"):
        shutil.copy(other.with_suffix(suffix), path.with_suffix(suffix))

    onnx_from_bundle(bundle)

    assert path.read_bytes() == content
