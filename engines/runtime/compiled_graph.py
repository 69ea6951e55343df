"""The serving graph compiled by torch.compile for one shape, or as it is where that fails."""

from __future__ import annotations

import logging
import os
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import torch

from engines.files import cache_folder

if TYPE_CHECKING:
    from collections.abc import Callable

    from torch import Tensor

    from engines.models.serving_graph import ServingGraph

__all__ = ["COMPILER", "Executable", "compiled_graph"]

COMPILER = "inductor"
# By default inductor times several kernels and keeps the fastest, which differs from start to
# start and in the last bits: a run that goes on would not be the run that began.
OPTIONS: dict[str, Any] = {"deterministic": True}
TOLERANCE = {"fp32": 1e-3, "fp16": 5e-2, "bf16": 1e-1}  # of the largest logit

log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class Executable:
    """
    What computes the serving graph's outputs from pixels.

    Attributes:
        run: Takes ``(N, H, W, 3)`` uint8, always of one shape.
        how: ``compiled``, or ``eager`` with the reason.
    """

    run: Callable[[Tensor], tuple[Tensor, ...]]
    how: str


def compiled_graph(
    graph: ServingGraph, pixels: Tensor, *, precision: str, compiler: str = COMPILER
) -> Executable:
    """
    Compile *graph* for the shape of *pixels*; a minute or two for the first time on a GPU.

    The compiled graph is run on *pixels* and held against the graph itself. Where it cannot be
    compiled (no C compiler, no Triton for this GPU, an operation that is not supported) or gives
    other logits, the graph itself is what runs, and a line says why. Call it, and what it returns,
    in inference mode.

    Args:
        graph: On the device that it is to run on.
        pixels: ``(N, H, W, 3)`` uint8 there.
        precision: What the graph computes in, which says how far logits may be apart.
        compiler: A backend of torch.compile's.
    """
    os.environ.setdefault("TORCHINDUCTOR_CACHE_DIR", str(cache_folder() / "inductor"))
    options = OPTIONS if compiler == COMPILER else None
    log.info("compiling the model for this GPU (minutes for the first time)")
    expected = graph(pixels)[0]
    try:
        compiled: Any = torch.compile(
            graph, fullgraph=True, dynamic=False, backend=compiler, options=options
        )
        logits = compiled(pixels)[0]
    except Exception as error:  # compilers raise whatever they like; the graph itself still runs
        why = f"torch.compile failed: {_innermost(error)}"
    else:
        apart = float((logits - expected).abs().max() / expected.abs().max().clamp(min=1))
        if apart <= TOLERANCE[precision]:
            return Executable(compiled, "compiled")
        why = f"the compiled model's logits are {apart:.3g} of the largest apart"
    log.warning("the model runs uncompiled, which is slower: %s", why)
    return Executable(graph, f"eager ({why})")


def _innermost(error: BaseException) -> str:
    """Return the first line of what went wrong, below all that was raised because of it."""
    while (inner := error.__cause__ or getattr(error, "inner_exception", None)) is not None:
        error = inner
    said = next((line.strip() for line in str(error).splitlines() if line.strip()), "no reason")
    return f"{type(error).__name__}: {said}"
