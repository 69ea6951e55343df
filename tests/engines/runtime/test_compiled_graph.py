"""Compiling the serving graph: what runs is said, is held against the graph, and always runs."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from logs import logged

from engines.cells import Batch, CellFacts, CellRef, Shard
from engines.models.serving_graph import serving_graph
from engines.runtime.base import RuntimeOptions
from engines.runtime.compiled_graph import COMPILER, compiled_graph
from engines.runtime.torch_cuda import TorchCudaRuntime

BATCH = 4


@pytest.fixture(autouse=True)
def own_compiler():
    """Forget what was compiled: torch.compile gives up on a function compiled too often."""
    torch.compiler.reset()
    yield
    torch.compiler.reset()


def breaking(*args, **settings):
    """Fail as a compiler does that finds no C compiler."""
    raise RuntimeError("Failed to find C compiler.\nPlease specify via CC")


def wrong(graph_module, *args, **settings):
    """Compile to something that gives other logits."""

    def run(*args):
        logits, *others = graph_module(*args)
        return (logits + 10, *others)

    return run


def opened(bundle, compiler, precision="fp16"):
    """Open PyTorch's runtime for GPUs on the processor, with a compiler."""

    class OnProcessor(TorchCudaRuntime):
        device = torch.device("cpu")

    OnProcessor.compiler = staticmethod(compiler) if callable(compiler) else compiler
    torch.set_num_threads(1)
    return OnProcessor(bundle, RuntimeOptions(precision=precision, batch=BATCH))


def logits_of(runtime):
    """Score the same few cells."""
    pixels = np.random.default_rng(0).integers(0, 256, (3, 32, 32, 3), dtype=np.uint8)
    refs = tuple(CellRef(f"c{index}", "s") for index in range(3))
    batch = Batch(Shard(0, refs), refs, (CellFacts(),) * 3, pixels)
    return next(iter(runtime.stream([batch]))).logits


def test_a_compiled_graph_says_so_and_agrees(bundle):
    """Traced whole, for one shape; run.json's version tells it from one that was not compiled."""
    compiled, eager = opened(bundle, "eager"), opened(bundle, None)

    assert compiled.version.endswith(", compiled")
    assert eager.version.endswith(", eager")
    assert np.allclose(logits_of(compiled), logits_of(eager), atol=1e-2)


@pytest.mark.parametrize(
    ("compiler", "reason"),
    [(breaking, "Failed to find C compiler"), (wrong, "logits are")],
    ids=["it fails", "it computes something else"],
)
def test_where_it_cannot_be_compiled_the_graph_itself_runs(bundle, compiler, reason):
    """A line and the version say why; the scores are the graph's."""
    with logged() as lines:
        runtime = opened(bundle, compiler)

    assert ", eager (" in runtime.version
    assert reason in runtime.version
    assert any("uncompiled" in line and reason in line for line in lines)
    assert np.array_equal(logits_of(runtime), logits_of(opened(bundle, None)))


@pytest.mark.long
@pytest.mark.parametrize("precision", ["fp32", "fp16"])
def test_torchs_own_compiler_takes_the_graph(bundle, precision):
    """On the processor it makes C++ of the graph; on a GPU it makes Triton's kernels of it."""
    graph = serving_graph(bundle, precision=precision).to(memory_format=torch.channels_last)
    pixels = torch.randint(0, 256, (BATCH, 32, 32, 3), dtype=torch.uint8)

    with torch.inference_mode():
        compiled = compiled_graph(graph, pixels, precision=precision)

    assert COMPILER == "inductor"
    assert compiled.how == "compiled"
