"""
Trying out which modules a half precision must leave to float32.

Overflow is measured: activations too near the type's maximum. What costs parity is searched for:
greedily by stage, then narrowed down inside each stage.
"""

from __future__ import annotations

from copy import deepcopy
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Self

import numpy as np
import torch
from torch import nn

from engines.mixed_precision.activation_range import Peaks, exact_sums, half_limit, watched
from engines.models.casting import DTYPES, always_fp32, within
from engines.models.serving_graph import folded_graph, make_half, serving_graph
from engines.parity import score_agreement

if TYPE_CHECKING:
    from collections.abc import Collection, Sequence

    from numpy.typing import NDArray

    from engines.cells import CellRef
    from engines.models.bundle import ModelBundle
    from engines.models.serving_graph import ServingGraph
    from engines.parity import ScoreAgreement

__all__ = ["Trial", "agrees", "costly_modules", "logits_of", "overflowing_modules"]

AT_ONCE = 8  # cells
HARDEST = 16  # cells that stand for all while modules are tried out
SHARE = 0.6  # of the limit: other cells, and a runtime's own order of sums, take some of it


@dataclass(frozen=True, slots=True, kw_only=True)
class Trial:
    """Tries exceptions out: logits in float32 once, then in half as often as asked."""

    bundle: ModelBundle
    refs: Sequence[CellRef]
    pixels: NDArray[np.uint8]
    precision: str
    reference: NDArray[np.float32]
    folded: ServingGraph

    @classmethod
    def of(
        cls,
        bundle: ModelBundle,
        refs: Sequence[CellRef],
        pixels: NDArray[np.uint8],
        precision: str,
    ) -> Self:
        """Score n > 0 cells, ``(n, H, W, 3)``, in float32, and fold the network's norms."""
        return cls(
            bundle=bundle,
            refs=refs,
            pixels=pixels,
            precision=precision,
            reference=logits_of(serving_graph(bundle), pixels),
            folded=folded_graph(bundle),
        )

    def graph(self, kept: Collection[str]) -> ServingGraph:
        """Make the graph with exceptions."""
        graph = deepcopy(self.folded)
        make_half(graph, self.precision, kept)
        if not torch.cuda.is_available():
            exact_sums(graph.network)
        return graph

    def agreement(self, kept: Collection[str]) -> ScoreAgreement:
        """Hold the graph with exceptions against float32."""
        return self._held(logits_of(self.graph(kept), self.pixels))

    def watched(self, kept: Collection[str]) -> tuple[ScoreAgreement, Peaks]:
        """Do the same, and measure the activations of the modules that compute in half."""
        graph = self.graph(kept)
        spared = {*kept, *always_fp32(graph.network)}
        with watched(graph.network) as peaks:
            agreement = self._held(logits_of(graph, self.pixels))
        half = {name: peak for name, peak in peaks.of.items() if not within(name, spared)}
        return agreement, Peaks(half)

    def _held(self, logits: NDArray[np.float32]) -> ScoreAgreement:
        """Compare logits with the reference's."""
        return score_agreement(
            self.refs, logits, self.reference, bundle=self.bundle, precision=self.precision
        )

    def hardest(self, kept: Collection[str]) -> Trial:
        """Return a trial over the cells that differ most."""
        off = np.abs(logits_of(self.graph(kept), self.pixels) - self.reference).max(axis=1)
        rows = np.sort(np.argsort(np.nan_to_num(off, nan=np.inf))[-HARDEST:])
        refs = [self.refs[row] for row in rows]
        return replace(self, refs=refs, pixels=self.pixels[rows], reference=self.reference[rows])


@torch.inference_mode()
def logits_of(graph: ServingGraph, pixels: NDArray[np.uint8]) -> NDArray[np.float32]:
    """Score cells, on a GPU if there is one; float32 is float32 there, too."""
    place = torch.device("cuda" if torch.cuda.is_available() else "cpu")
    graph = graph.to(place).to(memory_format=torch.channels_last)
    with torch.backends.cudnn.flags(enabled=True, allow_tf32=False):
        parts = [
            graph(torch.from_numpy(pixels[at : at + AT_ONCE]).to(place))[0].cpu()
            for at in range(0, len(pixels), AT_ONCE)
        ]
    return np.asarray(torch.cat(parts))


def overflowing_modules(trial: Trial) -> tuple[dict[str, float], ScoreAgreement, Peaks]:
    """Keep in float32 what comes too near the maximum, until nothing does."""
    limit, found = half_limit(DTYPES[trial.precision]), dict[str, float]()
    while True:
        agreement, peaks = trial.watched(found)
        more = {name: peaks.of[name] for name in peaks.above(limit)}
        if not more:
            return found, agreement, peaks
        found |= more


def costly_modules(trial: Trial, kept: set[str]) -> list[str]:
    """Add stages, the best one each time, until all cells agree; then narrow each in its turn."""
    hard = trial.hardest(kept)
    stages = [name for name in _stages(trial.folded) if not within(name, kept)]
    chosen: list[str] = []
    while stages and not agrees(trial.agreement({*kept, *chosen})):
        best = min(stages, key=lambda name: _cost(hard, {*kept, *chosen, name}))
        chosen.append(best)
        stages.remove(best)
    for name in tuple(chosen):
        others = {*kept, *chosen} - {name}
        parts = _narrowed(hard, others, name)
        if agrees(trial.agreement({*others, *parts})):
            chosen = [other for other in chosen if other != name] + parts
    return chosen


def agrees(agreement: ScoreAgreement) -> bool:
    """Tell whether parity holds with room to spare."""
    return agreement.within(SHARE)


def _narrowed(trial: Trial, others: set[str], name: str) -> list[str]:
    """Leave out, the last first, what lies in *name* and is not needed on the hardest cells."""
    module = trial.folded.network.get_submodule(name)
    parts = [f"{name}.{child}" for child, below in module.named_children() if _has_weights(below)]
    if not agrees(trial.agreement({*others, *parts})):
        return [name]
    for part in reversed(parts):
        fewer = [other for other in parts if other != part]
        if agrees(trial.agreement({*others, *fewer})):
            parts = fewer
    return _narrowed(trial, others, parts[0]) if len(parts) == 1 else parts


def _has_weights(module: nn.Module) -> bool:
    """Tell parts that compute from those that only pass on."""
    return next(module.parameters(), None) is not None


def _cost(trial: Trial, kept: set[str]) -> float:
    """Return how far off the worst cell is, infinity if a score is not finite."""
    return float(np.nan_to_num(trial.agreement(kept).max_dp, nan=np.inf))


def _stages(graph: ServingGraph) -> list[str]:
    """Name the network's parts: its children, and the children of plain containers."""
    found: list[str] = []
    for name, child in graph.network.named_children():
        if not _has_weights(child):
            continue
        if isinstance(child, nn.Sequential | nn.ModuleList) and len(child):
            found += [f"{name}.{below}" for below, _ in child.named_children()]
        else:
            found.append(name)
    return found
