"""The registry: what each row says is there."""

from __future__ import annotations

import tomllib
from pathlib import Path

import pytest

from engines.errors import BackendMissingError
from engines.registry import (
    DECODERS,
    REFERENCE_DECODER,
    REFERENCE_RUNTIME,
    RUNTIMES,
    decoder_names,
    decoder_row,
    followed,
    recorded_packages,
    runtime_names,
    runtime_row,
)
from engines.runtime.base import PRECISIONS

ROWS = [*DECODERS, *RUNTIMES]
PROJECT = tomllib.loads((Path(__file__).parents[2] / "pyproject.toml").read_text())["project"]


@pytest.mark.parametrize("row", ROWS, ids=lambda row: row.name)
def test_a_row_leads_to_what_opens_it(row):
    """Its import strings can be followed, and end at something to call."""
    where = [row.opener, row.why_not, getattr(row, "precisions", "")]

    assert all(callable(followed(each)) for each in where if each)


@pytest.mark.parametrize("row", ROWS, ids=lambda row: row.name)
def test_a_rows_package_can_be_installed_and_is_recorded(row):
    """pyproject.toml names it, and results say its version."""
    extras = PROJECT["optional-dependencies"].values()
    named = [*PROJECT["dependencies"], *(each for extra in extras for each in extra)]

    assert any(each.startswith(row.package) for each in named)
    assert row.package in recorded_packages()


def test_the_references_come_last_and_are_always_there():
    """Everything is held against them, so nothing follows them."""
    assert (decoder_names()[-1], runtime_names()[-1]) == (REFERENCE_DECODER, REFERENCE_RUNTIME)
    assert decoder_row(REFERENCE_DECODER).devices == ("cpu",)
    assert runtime_row(REFERENCE_RUNTIME).device == "cpu"
    assert followed(runtime_row(REFERENCE_RUNTIME).precisions)().value == ("fp32",)


def test_names_are_not_used_twice():
    """A name asked for is one row."""
    for names in (decoder_names(), runtime_names()):
        assert len(set(names)) == len(names)


@pytest.mark.parametrize("find", [decoder_row, runtime_row])
def test_an_unknown_name_is_answered_with_those_that_there_are(find):
    """With a hint that lists them."""
    with pytest.raises(BackendMissingError, match="there is no") as caught:
        find("onnxruntime")

    assert "auto" in caught.value.hint


@pytest.mark.parametrize(
    "row", [row for row in RUNTIMES if row.device == "cpu"], ids=lambda row: row.name
)
def test_precisions_are_named_as_everywhere(row):
    """And each says why these."""
    found = followed(row.precisions)()

    assert set(found.value) <= set(PRECISIONS)
    assert found.reason
