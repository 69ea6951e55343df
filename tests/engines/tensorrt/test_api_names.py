"""
Every name of TensorRT's API that our code uses exists in the packages that we support.

Most of this code cannot run without a GPU, and a misspelt attribute would be found there only. So
our modules are read, not run: each attribute is traced to the class of TensorRT's that it belongs
to, and looked up in ``tensorrt-rtx`` (everything), in TensorRT's lean runtime, which is importable
without a GPU (what runs plans), and, by name, in the binary of the full package, which is not.
"""

from __future__ import annotations

import ast
import importlib
import mmap
from functools import cache
from importlib.util import find_spec
from pathlib import Path

import pytest

import engines

ENGINES = Path(engines.__file__).parent
MODULES = (
    "runtime/tensorrt.py",
    "tensorrt/builder.py",
    "tensorrt/inspector.py",
    "tensorrt/logger.py",
    "tensorrt/runtime_cache.py",
    "tensorrt/versions.py",
)
# What a name or an attribute of ours holds, by module where that differs.
NAMES = {
    "trt": "module",
    "plan": "ICudaEngine",
    "engine": "ICudaEngine",
    "context": "IExecutionContext",
    "builder": "Builder",
    "network": "INetworkDefinition",
    "parser": "OnnxParser",
    "fault": "ParserError",
    "layer": "ILayer",
    "tensor": "ITensor",
    "pixels": "ITensor",
    "inspector": "EngineInspector",
    "serialized": "IHostMemory",
    "level": "ILogger.Severity",
    "severity": "class ILogger.Severity",
}
NAMES_OF = {
    "runtime/tensorrt.py": {
        "config": "IRuntimeConfig",
        "_plan": "ICudaEngine",
        "engine": "ours",
        "pixels": "ours",
        "tensor": "ours",
    },
    "tensorrt/builder.py": {"config": "IBuilderConfig", "cache": "ITimingCache"},
    "tensorrt/runtime_cache.py": {
        "config": "IRuntimeConfig",
        "_cache": "IRuntimeCache",
        "plan": "ours",
    },
    "tensorrt/inspector.py": {"plan": "ours", "layer": "ours", "tensor": "ours"},
    "tensorrt/logger.py": {"serialized": "ours"},
    "tensorrt/versions.py": {},
}
GIVES = {  # what calling a method, or reading an attribute, gives
    "Runtime.deserialize_cuda_engine": "ICudaEngine",
    "ILayer.get_output": "ITensor",
    "ITensor.dtype": "DataType",
    "ICudaEngine.get_tensor_dtype": "DataType",
}
ONLY_RTX = {
    "ComputeCapability",
    "DynamicShapesKernelSpecializationStrategy",
    "DynamicShapesKernelSpecializationStrategy.EAGER",
    "EngineInvalidityDiagnostics",
    "EngineInvalidityDiagnostics.MALFORMED_ENGINE",
    "BuilderFlag.REQUIRE_USER_ALLOCATION",
    "IBuilderConfig.num_compute_capabilities",
    "IBuilderConfig.set_compute_capability",
    "IExecutionContext.is_stream_capturable",
    "IRuntimeCache.deserialize",
    "IRuntimeCache.serialize",
    "IRuntimeConfig.create_runtime_cache",
    "IRuntimeConfig.dynamic_shapes_kernel_specialization_strategy",
    "IRuntimeConfig.set_runtime_cache",
    "Runtime.get_engine_validity",
}
BUILDERS = {  # absent from the lean runtime, which runs plans only
    "Builder",
    "EngineInspector",
    "IBuilderConfig",
    "ILayer",
    "INetworkDefinition",
    "ITensor",
    "ITimingCache",
    "LayerType",
    "NetworkDefinitionCreationFlag",
    "OnnxParser",
    "ParserError",
}


class Reader:
    """Finds the names of TensorRT's that a module of ours uses, as ``Class.member``."""

    def __init__(self, module):
        """Read *module*."""
        self.names = {**NAMES, **NAMES_OF[module]}
        self.found = set()
        for node in ast.walk(ast.parse((ENGINES / module).read_text(encoding="utf-8"))):
            if isinstance(node, ast.Attribute):
                self.holds(node)
            elif isinstance(node, ast.Call) and getattr(node.func, "id", "") == "getattr":
                self.asked(node)

    def holds(self, node):
        """Return the class of TensorRT's that an expression is of, if it is of any."""
        if isinstance(node, ast.Name):
            return self.names.get(node.id)
        if isinstance(node, ast.Call):
            called = self.holds(node.func)
            if called is not None and called.startswith("class "):
                return called.removeprefix("class ")
            return called
        if isinstance(node, ast.Attribute):
            if node.attr in {"trt", "_plan", "_cache"}:
                return self.names[node.attr]
            return self.member(self.holds(node.value), node.attr)
        return None

    def member(self, of, name):
        """Note a member of something of TensorRT's; return what it is."""
        if of is None or of == "ours" or name.startswith("__"):
            return None
        of = of.removeprefix("class ")
        if of == "module":
            self.found.add(name)
            return f"class {name}"
        self.found.add(f"{of}.{name}")
        return f"class {of}.{name}" if name == "Severity" else GIVES.get(f"{of}.{name}")

    def asked(self, node):
        """Note what is looked up by ``getattr``: with a default, where it exists."""
        of, name = node.args[:2]
        if isinstance(name, ast.Constant):
            self.member(self.holds(of), name.value)


USED = {module: Reader(module).found for module in MODULES}
ALL = sorted(set().union(*USED.values()))


def in_package(package, name):
    """Tell whether a package has ``Class.member``."""
    found = importlib.import_module(package)
    for part in name.split("."):
        found = getattr(found, part, None)
    return found is not None


@cache
def full_binary():
    """Map the full package's binary, found without importing it, which needs its libraries."""
    spec = find_spec("tensorrt_bindings")
    if spec is None:
        return None
    (path,) = Path(spec.origin).parent.glob("tensorrt*.so")
    with path.open("rb") as file:
        return mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ)


def in_binary(name):
    """Tell whether a name stands in the binary; linkers let one string end another."""
    return full_binary().find(name.rpartition(".")[2].encode() + b"\0") >= 0


def test_the_reader_reads():
    """Names of every class come out of the modules: it does not pass on nothing."""
    classes = {name.partition(".")[0] for name in ALL}

    assert {*BUILDERS, "ICudaEngine", "IExecutionContext", "IRuntimeConfig", "Runtime"} <= classes
    assert {"IBuilderConfig.set_flag", "ITensor.shape", "ILogger.Severity.ERROR"} <= set(ALL)
    assert set(ALL) >= ONLY_RTX


def test_no_other_module_speaks_to_tensorrt():
    """Or its names would not be looked up here."""
    users = {
        path.relative_to(ENGINES).as_posix()
        for path in ENGINES.rglob("*.py")
        if "trt." in path.read_text(encoding="utf-8")
    }

    assert users <= set(MODULES)


@pytest.mark.parametrize("name", ALL)
def test_tensorrt_rtx_has_every_name(name):
    """It builds and it runs, so all of them."""
    pytest.importorskip("tensorrt_rtx")

    assert in_package("tensorrt_rtx", name)


@pytest.mark.parametrize(
    "name",
    [name for name in ALL if name.partition(".")[0] not in BUILDERS and name not in ONLY_RTX],
)
def test_tensorrts_lean_runtime_has_what_runs_plans(name):
    """The runtime's classes are those of full TensorRT of the same version."""
    pytest.importorskip("tensorrt_lean_bindings")

    assert in_package("tensorrt_lean_bindings", name)


@pytest.mark.parametrize("name", [name for name in ALL if name not in ONLY_RTX])
def test_full_tensorrt_has_every_name_in_its_binary(name):
    """It does not load without its libraries, so its names are looked up in the file."""
    if full_binary() is None:
        pytest.skip("tensorrt-cu13-bindings is not installed")

    assert in_binary(name)


@pytest.mark.parametrize("name", sorted(ONLY_RTX))
def test_what_only_tensorrt_rtx_has_is_only_there(name):
    """Once TensorRT has it, too, our list is to be shortened."""
    pytest.importorskip("tensorrt_lean_bindings")
    if full_binary() is None:
        pytest.skip("tensorrt-cu13-bindings is not installed")

    assert not (in_package("tensorrt_lean_bindings", name) and in_binary(name))
