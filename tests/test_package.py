"""What is installed: the wheel's files, and a start without development packages."""

from __future__ import annotations

import subprocess
import sys
import zipfile
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]


@pytest.fixture(scope="module")
def wheel(tmp_path_factory):
    """Build the wheel from what git tracks or would."""
    folder = tmp_path_factory.mktemp("wheel")
    command = [sys.executable, "-m", "build", "--wheel", "--outdir", folder, ROOT]
    subprocess.run(list(map(str, command)), check=True, capture_output=True)
    return next(folder.glob("*.whl"))


def test_the_wheel_holds_the_packages_and_nothing_else(wheel):
    """Every module and the default model; no tests, examples or benchmarks."""
    shipped = {name for name in zipfile.ZipFile(wheel).namelist() if ".dist-info/" not in name}
    sources = {
        str(path.relative_to(ROOT))
        for package in ("engines", "screen", "train")
        for path in (ROOT / package).rglob("*")
        if path.is_file() and "__pycache__" not in path.parts
    }

    assert shipped == sources
    assert "engines/models/default/model.safetensors" in shipped


def test_the_installed_command_needs_no_development_package(wheel, tmp_path):
    """--help works from the wheel alone, far from the checkout, without pytest and the like."""
    with zipfile.ZipFile(wheel) as archive:
        archive.extractall(tmp_path)
    code = (
        "import sys; sys.path.insert(0, sys.argv.pop(1));"
        "from importlib.metadata import distribution;"
        "blocked = ['pytest', 'hypothesis', 'ruff', 'mypy', 'png', 'tifffile', 'build'];"
        "sys.modules.update(dict.fromkeys(blocked));"
        "points = distribution('slidescreen').entry_points;"
        "(entry,) = (point for point in points if point.name == 'slidescreen');"
        "main = entry.load(); assert sys.argv[1] == '--help'; import screen;"
        "assert screen.__file__.startswith(sys.path[0]), screen.__file__; main()"
    )

    said = subprocess.run(
        [sys.executable, "-c", code, str(tmp_path), "--help"],
        capture_output=True,
        text=True,
        cwd=tmp_path,
        check=True,
    )

    assert "slidescreen run cells --out results" in said.stdout
