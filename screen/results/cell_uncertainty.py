"""How far to trust a cell's scores: prediction sets, distances from training, evidence, quality."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING, Any

import numpy as np
import pyarrow as pa

from engines.cells import OPTICAL, QUALITY
from engines.errors import BundleError
from engines.uncertainty import probabilities
from engines.uncertainty.conformal import Conformal, abstentions
from engines.uncertainty.ood import together
from screen.results.schema import NO_PLACES

if TYPE_CHECKING:
    from collections.abc import Sequence

    from numpy.typing import NDArray

    from engines.cells import CellFacts, CellRef, Fault, Scores
    from engines.models.bundle import ModelBundle
    from engines.uncertainty.fitted import Trust

__all__ = ["ScoredCells", "Uncertainty"]

SHOWN = ("focus", "exposure", "clipped", "foreground")


@dataclass(frozen=True, slots=True)
class ScoredCells:
    """
    What rows keep of a batch of Scores: all features and evidence would be gigabytes a shard.

    Attributes:
        refs: The n cells scored.
        facts: One per ref.
        faults: Cells that did not decode.
        logits: ``(n, C)`` float32.
        distances: ``(n,)`` float32, from training in features; None if nothing tells it.
        evidence: ``(n, h, w)`` float32, of the positive or else the predicted class; None where the
            model has none.
        quality: ``(n, Q)`` float32, NaN where it was not measured.
        features: ``(n, F)`` float16, pooled; None where they are not wanted in the results.
    """

    refs: tuple[CellRef, ...]
    facts: tuple[CellFacts, ...]
    faults: tuple[Fault, ...]
    logits: NDArray[np.float32]
    distances: NDArray[np.float32] | None
    evidence: NDArray[np.float32] | None
    quality: NDArray[np.float32]
    features: NDArray[np.float16] | None = None


@dataclass(frozen=True)
class Uncertainty:
    """
    What a bundle knows of its own limits, applied to cells.

    Attributes:
        bundle: The model.
        coverage: How often prediction sets are to hold the true class.
        embeddings: Whether rows get the pooled features, too.
    """

    bundle: ModelBundle
    coverage: float
    embeddings: bool = False

    @cached_property
    def conformal(self) -> Conformal | None:
        """The sets, fitted to the coverage asked for; None without trust data."""
        trust = self.bundle.trust
        if trust is None:
            return None
        held = trust.held_out
        chances = probabilities(held.logits, self.bundle.temperature)
        return Conformal.fitted(chances, held.truth, held.subjects, self.coverage)

    def kept(self, scores: Scores) -> ScoredCells:
        """
        Keep what the rows need.

        Raises:
            BundleError: If the bundle's trust data is of another network.
        """
        unknown = np.full((len(scores.refs), len(QUALITY)), np.nan, np.float32)
        return ScoredCells(
            scores.refs,
            scores.facts,
            scores.faults,
            scores.logits,
            self._distances(scores),
            _evidence(scores, self.bundle),
            unknown if scores.quality is None else scores.quality,
            scores.features if self.embeddings else None,
        )

    def columns(
        self, gathered: Sequence[ScoredCells], chances_NC: NDArray[np.float32]
    ) -> dict[str, pa.Array]:
        """Return the columns of the N cells scored, whose calibrated probabilities are given."""
        quality_NQ = np.concatenate([item.quality for item in gathered])
        colours_N = self._colour_distances(quality_NQ)
        columns = self._set_columns(chances_NC) | self._distance_columns(gathered, colours_N)
        columns |= {name: _floats(quality_NQ[:, QUALITY.index(name)]) for name in SHOWN}
        columns["stain_shift"] = _floats(colours_N)
        columns["evidence"] = _evidence_column(gathered)
        return columns

    def _set_columns(self, chances_NC: NDArray[np.float32]) -> dict[str, pa.Array]:
        """Which classes are in each cell's set."""
        kinds = {"prediction_set": pa.list_(pa.string()), "abstained": pa.bool_()}
        if self.conformal is None:
            return {name: pa.nulls(len(chances_NC), kind) for name, kind in kinds.items()}
        sets_NC = self.conformal.sets(chances_NC)
        names = [
            [name for name, inside in zip(self.bundle.classes, row, strict=True) if inside]
            for row in sets_NC.tolist()
        ]
        return {
            "prediction_set": pa.array(names, kinds["prediction_set"]),
            "abstained": pa.array(abstentions(sets_NC)),
        }

    def _distances(self, scores: Scores) -> NDArray[np.float32] | None:
        """Measure how far cells are from training in what the network sees."""
        trust, features_NF = self.bundle.trust, scores.features
        if trust is None or scores.quality is None:
            return None
        if features_NF.shape[1] != trust.features.centres.shape[1]:
            raise BundleError(
                f"the trust data of {self.bundle.folder} is of another network: "
                f"{trust.features.centres.shape[1]} features, not {features_NF.shape[1]}",
                hint="fit it anew with slidescreen-train calibrate",
            )
        return trust.features.distances(features_NF)

    def _distance_columns(
        self, gathered: Sequence[ScoredCells], colours_N: NDArray[np.float32]
    ) -> dict[str, pa.Array]:
        """How far, colours included, and how rare that is among held-out cells."""
        trust = self.bundle.trust
        parts = [item.distances for item in gathered if item.distances is not None]
        if trust is None or not parts:
            nothing = pa.nulls(sum(len(item.refs) for item in gathered), pa.float32())
            return {"ood_score": nothing, "ood_p": nothing}
        distances = together(np.concatenate(parts), colours_N)
        rarity = trust.usual_strangeness.p_values(distances)
        return {"ood_score": _floats(distances), "ood_p": _floats(rarity)}

    def _colour_distances(self, quality_NQ: NDArray[np.float32]) -> NDArray[np.float32]:
        """How far the colours are from training's; NaN where that cannot be told."""
        trust: Trust | None = self.bundle.trust
        if trust is None:
            return np.full(len(quality_NQ), np.nan, np.float32)
        return trust.colours.distances(quality_NQ[:, -len(OPTICAL) :])


def _evidence(scores: Scores, bundle: ModelBundle) -> NDArray[np.float32] | None:
    """Pick the map of the positive class, or of the one predicted, if there are maps."""
    if scores.evidence is None:
        return None
    if bundle.positive is not None:
        return scores.evidence[:, bundle.classes.index(bundle.positive)].astype(np.float32)
    rows = np.arange(len(scores.refs))
    return np.asarray(scores.evidence[rows, scores.logits.argmax(1)], np.float32)


def _evidence_column(gathered: Sequence[ScoredCells]) -> pa.Array:
    """Lay maps out as lists of one fixed size, row by row; nulls where the model has none."""
    maps = [item.evidence for item in gathered if item.evidence is not None]
    if not maps:
        return pa.nulls(sum(len(item.refs) for item in gathered), pa.list_(pa.float32(), NO_PLACES))
    maps_Nhw = np.concatenate(maps)
    size = int(np.prod(maps_Nhw.shape[1:]))
    return pa.FixedSizeListArray.from_arrays(pa.array(maps_Nhw.ravel()), size)


def _floats(values: NDArray[Any]) -> pa.Array:
    """Return float32, null for NaN."""
    return pa.array(values.astype(np.float32), from_pandas=True)
