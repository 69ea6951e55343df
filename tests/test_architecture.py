"""The house: who may import whom, and what starting up may cost."""

from __future__ import annotations

import ast
import importlib
import pkgutil
import subprocess
import sys
from pathlib import Path
from types import FunctionType

import pytest

ROOT = Path(__file__).parents[1]
OURS = {"engines", "screen", "train"}
MAY_IMPORT = {"engines": set(), "screen": {"engines"}, "train": {"engines"}}
HEAVY = {"torch", "torchvision", "timm", "nvidia", "tensorrt", "tensorrt_rtx", "openvino", "ray"}
MODULES = sorted(path for package in OURS for path in (ROOT / package).rglob("*.py"))


def imported(path):
    """Yield the top-level packages that a module imports, anywhere in it."""
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            yield from (alias.name.split(".")[0] for alias in node.names)
        elif isinstance(node, ast.ImportFrom) and node.module and not node.level:
            yield node.module.split(".")[0]


@pytest.mark.parametrize("path", MODULES, ids=lambda path: str(path.relative_to(ROOT)))
def test_imports_point_one_way(path):
    """Screen and train import engines, never each other; engines imports nothing of ours."""
    package = path.relative_to(ROOT).parts[0]

    assert set(imported(path)) & OURS <= MAY_IMPORT[package] | {package}


@pytest.mark.parametrize("path", MODULES, ids=lambda path: str(path.relative_to(ROOT)))
def test_only_the_command_line_prints(path):
    """Libraries log or return."""
    calls = [node for node in ast.walk(ast.parse(path.read_text())) if isinstance(node, ast.Call)]
    prints = [call for call in calls if isinstance(call.func, ast.Name) and call.func.id == "print"]

    assert not prints


@pytest.mark.parametrize("module", ["screen.cli.main", "screen", "screen.report"])
def test_starting_loads_no_heavy_package(module):
    """--help is there at once, and a report needs neither model nor decoder."""
    code = f"import sys, {module}; print(*{{name.split('.')[0] for name in sys.modules}})"

    loaded = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, check=True
    )

    assert not set(loaded.stdout.split()) & HEAVY


def names():
    """Name every module of ours that can be imported here."""
    for package in sorted(OURS):
        for info in pkgutil.walk_packages([str(ROOT / package)], f"{package}."):
            yield info.name


@pytest.mark.parametrize("name", list(names()))
def test_public_names_exist_and_are_documented(name):
    """Every module says what is public, and every public class and function what it does."""
    if name.endswith("__main__"):
        pytest.skip("runs")
    module = importlib.import_module(name)

    assert module.__doc__
    for public in getattr(module, "__all__", []):
        value = getattr(module, public)
        documented = not isinstance(value, type | FunctionType) or value.__doc__
        assert documented, public
