"""Bundles of wrong types, with hashes that fit: refused in words before anything is written."""

from __future__ import annotations

import hashlib
import json
import shutil
from dataclasses import replace

import pytest
from faults.conftest import only_user_errors
from faults.mutants import json_mutants, mutants

import screen


def spoilt(folder, how_many):
    """Yield what was done and the bytes of files that take the place of the bundle's."""
    screening = (folder / "screening.json").read_bytes()
    for name in ("config.json", "screening.json"):
        data = (folder / name).read_bytes()
        for what, wrong in json_mutants(data, how_many(1, 250), 3):
            yield f"{name} {what}", {name: wrong}
        for what, wrong in mutants(data, how_many(1, 40), 4):
            yield f"{name} {what}", {name: wrong}
    for name, key in (("model.safetensors", "weights"), ("trust.safetensors", "trust")):
        data = (folder / name).read_bytes()
        for what, wrong in mutants(data, how_many(2, 120), 5):
            record = json.loads(screening) | {f"{key}_sha256": hashlib.sha256(wrong).hexdigest()}
            yield f"{name} {what}", {name: wrong, "screening.json": json.dumps(record).encode()}


def test_a_bundle_runs_or_is_refused(kept, options, tmp_path, how_many):
    """And nothing is written in the second case."""
    for number, (what, files) in enumerate(spoilt(kept.model, how_many)):
        folder = shutil.copytree(kept.model, tmp_path / f"bundle{number}")
        for name, data in files.items():
            (folder / name).write_bytes(data)
        asked = replace(options, model=folder, out=tmp_path / f"out{number}")
        try:
            refused = only_user_errors(lambda asked=asked: list(screen.run(asked)))
        except Exception as bug:
            pytest.fail(f"{what}: {bug!r}")
        assert refused is None or not asked.out.exists(), what
        shutil.rmtree(folder)
        shutil.rmtree(asked.out, ignore_errors=True)
