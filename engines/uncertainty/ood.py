"""
How far a cell is from the training cells, in what the network sees and in colour.

Mahalanobis distances. Of features: class by class with one covariance (Lee et al., "A simple
unified framework for detecting out-of-distribution samples and adversarial attacks", NeurIPS 2018),
its leading directions kept and the others given one variance; chosen by measurement among ten
scores (``benchmarks/ood.py``). Of colour: the mean and the spread of the foreground's optical
density. The two together tell strangers that either alone takes for usual.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from engines.cells import OPTICAL

if TYPE_CHECKING:
    from numpy.typing import NDArray

__all__ = ["ColourSpace", "FeatureSpace", "together"]

DIRECTIONS = 64  # 32 to 256 tell cells apart equally well, benchmarks/ood.py
FLOOR = 1e-6  # of the mean variance: a direction in which training never varied
LEAST_SPREAD = 0.01  # of optical density, a grey level or two: finer than a camera tells


@dataclass(frozen=True, slots=True)
class FeatureSpace:
    """
    Where training cells lie among pooled features.

    Attributes:
        centres: ``(C, F)`` float32, the mean of each class.
        directions: ``(K, F)`` float32, orthonormal: the leading directions within classes.
        variances: ``(K,)`` float32, along these.
        rest: The mean variance along every other direction; infinite if there is none.
    """

    centres: NDArray[np.float32]
    directions: NDArray[np.float32]
    variances: NDArray[np.float32]
    rest: float

    @classmethod
    def fitted(
        cls, features_NF: NDArray[np.floating], truth_N: NDArray[np.integer]
    ) -> FeatureSpace:
        """Fit on training cells; a class without any gets no centre."""
        features = features_NF.astype(np.float64)
        present, number = np.unique(truth_N, return_inverse=True)
        centres = np.stack([features[truth_N == c].mean(0) for c in present])
        _, singular, directions = np.linalg.svd(features - centres[number], full_matrices=False)
        variances = singular**2 / max(len(features) - len(present), 1)
        kept = min(DIRECTIONS, len(variances))
        floor = max(FLOOR * variances.sum() / features.shape[1], 1e-12)
        others = features.shape[1] - kept
        return cls(
            centres.astype(np.float32),
            directions[:kept].astype(np.float32),
            np.maximum(variances[:kept], floor).astype(np.float32),
            max(float(variances[kept:].sum()) / others, float(floor)) if others else float("inf"),
        )

    def distances(self, features_NF: NDArray[np.floating]) -> NDArray[np.float32]:
        """
        Return ``(N,)``: the distance from the nearest class, divided by the root of F.

        About 1 for a training cell. Features that are no finite numbers are infinitely far.
        """
        nearest = np.full(len(features_NF), np.inf, np.float32)
        features = features_NF.astype(np.float32)
        with np.errstate(invalid="ignore", over="ignore"):
            for centre in self.centres:
                nearest = np.fmin(nearest, self._squared(features - centre))
        return np.asarray(np.sqrt(nearest / self.centres.shape[1]), np.float32)

    def _squared(self, offsets_NF: NDArray[np.float32]) -> NDArray[np.float32]:
        """Return squared Mahalanobis lengths."""
        along_NK = offsets_NF @ self.directions.T
        other_N = (offsets_NF**2).sum(1) - (along_NK**2).sum(1)
        return np.asarray(
            (along_NK**2 / self.variances).sum(1) + np.maximum(other_N, 0) / self.rest
        )


@dataclass(frozen=True, slots=True)
class ColourSpace:
    """
    Which colours training cells have.

    Attributes:
        mean: ``(6,)`` float32, of the optical densities' means and spreads, as in
            ``engines.cells.OPTICAL``.
        precision: ``(6, 6)`` float32, the inverse of their covariance.
    """

    mean: NDArray[np.float32]
    precision: NDArray[np.float32]

    @classmethod
    def fitted(cls, optical_N6: NDArray[np.floating]) -> ColourSpace:
        """Fit on training cells; those without foreground (NaN) do not count."""
        known = optical_N6[~np.isnan(optical_N6).any(1)].astype(np.float64)
        width = optical_N6.shape[1]
        if not len(known):
            return cls(np.zeros(width, np.float32), np.zeros((width, width), np.float32))
        spread = np.cov(known.T) if len(known) > 1 else np.zeros((width, width))
        precision = np.linalg.inv(spread + LEAST_SPREAD**2 * np.eye(width))
        return cls(known.mean(0).astype(np.float32), precision.astype(np.float32))

    def distances(self, optical_N6: NDArray[np.floating]) -> NDArray[np.float32]:
        """Return ``(N,)``: Mahalanobis distances; NaN where there is no foreground."""
        offsets = optical_N6.astype(np.float32) - self.mean
        squared = np.einsum("ni,ij,nj->n", offsets, self.precision, offsets)
        return np.asarray(np.sqrt(np.maximum(squared, 0)), np.float32)


def together(
    features_N: NDArray[np.floating], colours_N: NDArray[np.floating]
) -> NDArray[np.float32]:
    """
    Return ``(N,)`` float32: the root mean square of a cell's two distances.

    Args:
        features_N: As ``FeatureSpace.distances`` gives them.
        colours_N: As ``ColourSpace.distances`` gives them; divided by the root of the numbers that
            they are taken over, so that either is about 1 for a training cell. NaN, a crop in
            which nothing absorbs light, is infinitely far.
    """
    colours = np.where(np.isnan(colours_N), np.inf, colours_N) / np.sqrt(len(OPTICAL))
    return np.asarray(np.sqrt((np.square(features_N) + np.square(colours)) / 2), np.float32)
