"""The house: who may import whom, and what starting up may cost."""

from __future__ import annotations

import ast
import importlib
import pkgutil
import re
import subprocess
import sys
from collections import Counter
from graphlib import CycleError, TopologicalSorter
from pathlib import Path
from types import FunctionType

import pytest

from engines.registry import DECODERS, RUNTIMES

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


def dotted(path):
    """Return a module's dotted name."""
    parts = path.relative_to(ROOT).with_suffix("").parts
    return ".".join(parts[:-1] if parts[-1] == "__init__" else parts)


BY_NAME = {dotted(path): path for path in MODULES}
TREES = {name: ast.parse(path.read_text(encoding="utf-8")) for name, path in BY_NAME.items()}


def modules_imported(name):
    """Return the modules of ours that a module imports, for types too."""
    found = set()
    for node in ast.walk(TREES[name]):
        if isinstance(node, ast.Import):
            found.update(alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom) and node.module:
            inner = {alias.name: f"{node.module}.{alias.name}" for alias in node.names}
            found.update(full if full in BY_NAME else node.module for full in inner.values())
    return found & set(BY_NAME)


def test_no_two_files_import_each_other_in_a_circle():
    """Any file can be read after those that it imports, imports for types included."""
    graph = {name: modules_imported(name) for name in BY_NAME}

    try:
        TopologicalSorter(graph).prepare()
    except CycleError as error:
        pytest.fail(f"a circle of imports: {' -> '.join(error.args[1])}")


LAYERS = (
    "cli",
    "runners",
    ("results", "summary", "report", "export"),
)  # the upper import the lower


def layer(name):
    """Return how high in ``screen`` a module stands, 0 the highest; None if it is in no layer."""
    room = (name.split(".") + [""])[1]
    for height, rooms in enumerate(LAYERS):
        if room == rooms or room in rooms:
            return height
    return None


@pytest.mark.parametrize("name", [name for name in BY_NAME if name.startswith("screen.")])
def test_screen_imports_downwards(name):
    """Cli -> runners -> (results, summary, report, export)."""
    own = layer(name)
    above = {
        other
        for other in modules_imported(name)
        if other.startswith("screen.") and layer(other) is not None and layer(other) < (own or 0)
    }

    assert own is None or not above


MOST_MODULES = 16


def test_no_folder_holds_too_many_modules():
    """A newcomer sees a room at one glance."""
    counts = Counter(path.parent for path in MODULES if path.name != "__init__.py")

    assert {path: count for path, count in counts.items() if count > MOST_MODULES} == {}


MOST_FILES = 3  # the registry, the backend's own file, and what that one stands on


def spells(tree, backend):
    """Tell whether a module's code (not its docstrings) names a backend, or an option's value."""
    documented = (ast.Module, ast.ClassDef, ast.FunctionDef)
    docstrings = {
        id(node.body[0].value)
        for node in ast.walk(tree)
        if isinstance(node, documented) and node.body and isinstance(node.body[0], ast.Expr)
    }
    named = re.compile(rf"{backend}|.*(--runtime|--decoder|\bor) {backend}(?![\w-]).*", re.DOTALL)
    return any(
        isinstance(node, ast.Constant)
        and isinstance(node.value, str)
        and id(node) not in docstrings
        and named.fullmatch(node.value)
        for node in ast.walk(tree)
    )


@pytest.mark.parametrize("backend", [row.name for row in (*DECODERS, *RUNTIMES)])
def test_a_backend_is_named_in_few_files(backend):
    """Adding one is its own file and a row of the registry; everything else asks the registry."""
    files = {name for name, tree in TREES.items() if spells(tree, backend)}

    assert "engines.registry" in files
    assert len(files) <= MOST_FILES, files


@pytest.mark.parametrize("path", MODULES, ids=lambda path: str(path.relative_to(ROOT)))
def test_only_the_command_line_prints(path):
    """Libraries log or return."""
    calls = [node for node in ast.walk(ast.parse(path.read_text())) if isinstance(node, ast.Call)]
    prints = [call for call in calls if isinstance(call.func, ast.Name) and call.func.id == "print"]

    assert not prints


@pytest.mark.parametrize(
    "module", ["screen.cli.main", "screen", "screen.report", "engines.registry", "engines.backends"]
)
def test_starting_loads_no_heavy_package(module):
    """--help is there at once; a report needs no model; the registry only says where things are."""
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
