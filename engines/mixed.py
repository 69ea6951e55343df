"""
Which modules half precision must leave to float32, found on real cells against FP32 PyTorch.

First those whose activations come too near the type's maximum. Then, while parity still misses,
the ones that cost it most: greedily by stage, then narrowed down inside the stage.
"""

from __future__ import annotations

import json
import logging
from copy import deepcopy
from dataclasses import asdict, dataclass, replace
from typing import TYPE_CHECKING, Any, Self

import numpy as np
import torch
from torch import nn

from engines.activations import Peaks, exact_sums, half_limit, watched
from engines.export import GRAPH_VERSION, cache_folder
from engines.files import whole_file
from engines.network import folded_graph, make_half, serving_graph
from engines.parity import score_agreement
from engines.precision import DTYPES, always_fp32, within

if TYPE_CHECKING:
    from collections.abc import Callable, Collection, Mapping, Sequence
    from pathlib import Path

    from numpy.typing import NDArray

    from engines.bundle import ModelBundle
    from engines.cells import CellRef
    from engines.network import ServingGraph
    from engines.parity import ScoreAgreement

__all__ = ["Mixed", "find_mixed", "remember", "remembered"]

AT_ONCE = 8  # cells
HARDEST = 16  # cells that stand for all while modules are tried out

log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True, kw_only=True)
class Mixed:
    """
    A half precision with exceptions, and how it agrees with FP32 PyTorch.

    Attributes:
        precision: ``fp16`` or ``bf16``.
        overflowing: Modules kept in float32 because of their activations, largest value each.
        costly: Modules kept in float32 because parity missed without.
        peak: The largest activation of a module that computes in half.
        peak_module: Which.
        cells: How many cells this was found on.
        max_dp: Largest absolute difference of a calibrated probability.
        flips: Cells whose label differs.
        holds: Whether parity holds with these exceptions.
    """

    precision: str
    overflowing: Mapping[str, float]
    costly: tuple[str, ...]
    peak: float
    peak_module: str
    cells: int
    max_dp: float
    flips: int
    holds: bool

    @property
    def keep_fp32(self) -> tuple[str, ...]:
        """Every module that stays in float32."""
        return _smallest({*self.overflowing, *self.costly})

    @classmethod
    def from_record(cls, record: Mapping[str, Any]) -> Self:
        """Read it back from JSON."""
        return cls(**{**record, "costly": tuple(record["costly"])})


def find_mixed(
    bundle: ModelBundle,
    refs: Sequence[CellRef],
    pixels: NDArray[np.uint8],
    *,
    precision: str,
    say: Callable[[str], None] = log.info,
) -> Mixed:
    """
    Find the modules that must stay in float32.

    Args:
        bundle: The model.
        refs: n > 0 cells, real ones.
        pixels: ``(n, H, W, 3)``, at the model's size.
        precision: ``fp16`` or ``bf16``.
        say: Takes a line for each step that takes a while.

    Returns:
        What was found; ``holds`` is False if parity misses even with everything in float32.
    """
    trial = _Trial(
        bundle=bundle,
        refs=refs,
        pixels=pixels,
        precision=precision,
        reference=_logits(serving_graph(bundle), pixels),
        folded=folded_graph(bundle),
    )
    overflowing, agreement, peaks = _overflowing(trial)
    costly: list[str] = []
    if not agreement.holds:
        say(f"{agreement}; looking for what has to stay in float32")
        costly = _costly(trial, set(overflowing))
        agreement, peaks = trial.watched({*overflowing, *costly})
    peak_module = max(peaks.of, key=lambda name: peaks.of[name], default="")
    return Mixed(
        precision=precision,
        overflowing=overflowing,
        costly=tuple(costly),
        peak=peaks.of.get(peak_module, 0.0),
        peak_module=peak_module,
        cells=len(refs),
        max_dp=agreement.max_dp,
        flips=agreement.flips,
        holds=agreement.holds,
    )


def remembered(bundle: ModelBundle, precision: str) -> Mixed | None:
    """Return what was found for a model before, on this machine."""
    try:
        return Mixed.from_record(json.loads(_memory(bundle, precision).read_text("utf-8")))
    except (OSError, ValueError, KeyError, TypeError):
        return None


def remember(bundle: ModelBundle, mixed: Mixed) -> None:
    """Keep what was found, for every later engine of this model."""
    path = _memory(bundle, mixed.precision)
    path.parent.mkdir(parents=True, exist_ok=True)
    with whole_file(path) as scratch:
        scratch.write_text(json.dumps(asdict(mixed), indent=1), encoding="utf-8")


def _memory(bundle: ModelBundle, precision: str) -> Path:
    """Name the file after what the finding depends on."""
    return cache_folder() / "mixed" / f"{bundle.sha256}-{GRAPH_VERSION}-{precision}.json"


@dataclass(frozen=True, slots=True, kw_only=True)
class _Trial:
    """Tries exceptions out: logits in float32 once, then in half as often as asked."""

    bundle: ModelBundle
    refs: Sequence[CellRef]
    pixels: NDArray[np.uint8]
    precision: str
    reference: NDArray[np.float32]
    folded: ServingGraph

    def graph(self, kept: Collection[str]) -> ServingGraph:
        """Make the graph with exceptions."""
        graph = deepcopy(self.folded)
        make_half(graph, self.precision, kept)
        if not torch.cuda.is_available():
            exact_sums(graph.network)
        return graph

    def agreement(self, kept: Collection[str]) -> ScoreAgreement:
        """Hold the graph with exceptions against float32."""
        return self._held(_logits(self.graph(kept), self.pixels))

    def watched(self, kept: Collection[str]) -> tuple[ScoreAgreement, Peaks]:
        """Do the same, and measure the activations of the modules that compute in half."""
        graph = self.graph(kept)
        spared = {*kept, *always_fp32(graph.network)}
        with watched(graph.network) as peaks:
            agreement = self._held(_logits(graph, self.pixels))
        half = {name: peak for name, peak in peaks.of.items() if not within(name, spared)}
        return agreement, Peaks(half)

    def _held(self, logits: NDArray[np.float32]) -> ScoreAgreement:
        """Compare logits with the reference's."""
        return score_agreement(
            self.refs, logits, self.reference, bundle=self.bundle, precision=self.precision
        )

    def hardest(self, kept: Collection[str]) -> _Trial:
        """Return a trial over the cells that differ most."""
        off = np.abs(_logits(self.graph(kept), self.pixels) - self.reference).max(axis=1)
        rows = np.sort(np.argsort(np.nan_to_num(off, nan=np.inf))[-HARDEST:])
        refs = [self.refs[row] for row in rows]
        return replace(self, refs=refs, pixels=self.pixels[rows], reference=self.reference[rows])


@torch.inference_mode()
def _logits(graph: ServingGraph, pixels: NDArray[np.uint8]) -> NDArray[np.float32]:
    """Score cells, on a GPU if there is one; float32 is float32 there, too."""
    place = torch.device("cuda" if torch.cuda.is_available() else "cpu")
    graph = graph.to(place).to(memory_format=torch.channels_last)
    with torch.backends.cudnn.flags(enabled=True, allow_tf32=False):
        parts = [
            graph(torch.from_numpy(pixels[at : at + AT_ONCE]).to(place))[0].cpu()
            for at in range(0, len(pixels), AT_ONCE)
        ]
    return np.asarray(torch.cat(parts))


def _overflowing(trial: _Trial) -> tuple[dict[str, float], ScoreAgreement, Peaks]:
    """Keep in float32 what comes too near the maximum, until nothing does."""
    limit, found = half_limit(DTYPES[trial.precision]), dict[str, float]()
    while True:
        agreement, peaks = trial.watched(found)
        more = {name: peaks.of[name] for name in peaks.above(limit)}
        if not more:
            return found, agreement, peaks
        found |= more


def _costly(trial: _Trial, kept: set[str]) -> list[str]:
    """Add stages, the best one each time, until parity holds on all cells; then narrow them."""
    hard = trial.hardest(kept)
    stages = [name for name in _stages(trial.folded) if not within(name, kept)]
    chosen: list[str] = []
    while stages and not trial.agreement({*kept, *chosen}).holds:
        best = min(stages, key=lambda name: _cost(hard, {*kept, *chosen, name}))
        chosen.append(best)
        stages.remove(best)
    narrowed = [_narrowed(hard, {*kept, *chosen} - {name}, name) for name in chosen]
    return narrowed if trial.agreement({*kept, *narrowed}).holds else chosen


def _narrowed(trial: _Trial, others: set[str], name: str) -> str:
    """Descend to the smallest module below *name* that is enough on the hardest cells."""
    module = trial.folded.network.get_submodule(name)
    weighty = [child for child, below in module.named_children() if _has_weights(below)]
    for child in weighty:
        if trial.agreement({*others, f"{name}.{child}"}).holds:
            return _narrowed(trial, others, f"{name}.{child}")
    return name


def _has_weights(module: nn.Module) -> bool:
    """Tell parts that compute from those that only pass on."""
    return next(module.parameters(), None) is not None


def _cost(trial: _Trial, kept: set[str]) -> float:
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


def _smallest(names: set[str]) -> tuple[str, ...]:
    """Leave out names that lie within others."""
    return tuple(sorted(name for name in names if not within(name, names - {name})))
