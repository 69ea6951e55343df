"""Whatever happens to a results folder, a command says so or gives the rows that were written."""

from __future__ import annotations

import pytest
from faults.conftest import every_command, only_user_errors, rows
from faults.mutants import json_mutants, mutants, regions

FILES = [
    "run.json",
    "plan.parquet",
    "slides.parquet",
    "duplicates.parquet",
    "cells/part-00001.parquet",
    "parts/part-00001.json",
    "parts/slides.json",
]


def spoilt(results, name, how_many):
    """Yield spoilt bytes of one file of a results folder."""
    data = (results.path / name).read_bytes()
    others = [path.read_bytes() for path in sorted(results.path.rglob("*.*")) if path.is_file()]
    yield from mutants(data, how_many(1, 120), 1, others)
    yield from regions(data, how_many(0, 60))
    if name.endswith(".json"):
        yield from json_mutants(data, how_many(1, 200), 2)


@pytest.mark.parametrize("name", FILES)
def test_damage_is_an_error_or_changes_nothing(kept, options, finished, name, how_many):
    """Never another answer, and never a traceback."""
    expected = rows(kept)

    for what, data in spoilt(finished(), name, how_many):
        results = finished()
        (results.path / name).write_bytes(data)
        for command, work in every_command(options):
            try:
                error = only_user_errors(work)
            except Exception as bug:
                pytest.fail(f"{name}, {what}: {command} raised {bug!r}")
        if error is None:
            assert rows(options) == expected, f"{name}, {what}"
