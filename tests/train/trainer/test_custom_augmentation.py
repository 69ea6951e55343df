"""A user's own augmentation takes the place of the recipe's."""

from __future__ import annotations

import pytest

from engines.errors import ResultsError, UserError
from engines.models.bundle import ModelBundle

OWN = """
import numpy as np

def darker(batch):
    with open("given", "a") as file:
        file.write(f"{batch.dtype} {batch.shape}\\n")
    return (batch * np.random.uniform(0.5, 1, (len(batch), 1, 1, 1))).astype(np.uint8)

def larger(batch):
    return batch.repeat(2, 1)

number = 7
"""


@pytest.fixture
def own(tmp_path, monkeypatch):
    """Stand beside a module of the user's."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.syspath_prepend(tmp_path)
    monkeypatch.delitem(__import__("sys").modules, "own", raising=False)
    (tmp_path / "own.py").write_text(OWN)
    return tmp_path


def test_it_is_given_batches_and_repeats_itself(own, cells, small, command):
    """uint8 NHWC at the model's size; the same training twice gives the same weights."""
    for out in ("one", "two"):
        result = command("fit", cells, "--out", out, *small, "--augment", "own:darker")
        assert result.exit_code == 0, result.output

    given = (own / "given").read_text().splitlines()
    assert set(given) == {"uint8 (8, 21, 21, 3)", "uint8 (8, 32, 32, 3)"}  # by phase
    first, second = (ModelBundle.load(own / out) for out in ("one", "two"))
    assert first.weights.read_bytes() == second.weights.read_bytes()
    assert first.data["changes"]["custom_augment"] == "own:darker"


def test_a_changed_function_is_another_training(own, cells, small, command):
    """Its state is refused, and says why."""
    command("fit", cells, "--out", "out", *small, "--augment", "own:darker")
    (own / "own.py").write_text(OWN.replace("0.5", "0.6"))

    with pytest.raises(ResultsError, match="another training: augmentation"):
        command("fit", cells, "--out", "out", *small, "--augment", "own:darker")


@pytest.mark.parametrize(
    "refused",
    [
        ("own:larger", r"was given \(8, 21, 21, 3\) uint8 and returned \(8, 42, 21, 3\)"),
        ("own:absent", "cannot import --augment own:absent"),
        ("nowhere:f", "cannot import --augment nowhere:f"),
        ("own", "not module:function"),
        ("own:number", "not a function"),
    ],
)
def test_what_is_no_augmentation_is_refused(own, cells, small, command, refused):
    """With what it must be."""
    name, message = refused
    with pytest.raises(UserError, match=message) as caught:
        command("fit", cells, "--out", "out", *small, "--augment", name)
    assert "uint8" in caught.value.hint


def test_it_excludes_no_augmentation(own, cells, small, command):
    """Asking for both is a mistake."""
    with pytest.raises(UserError, match="exclude each other"):
        command("fit", cells, "--out", "out", *small, "--augment", "own:darker", "--no-aug")
