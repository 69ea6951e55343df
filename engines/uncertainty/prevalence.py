"""
From a slide's calls to its share of positive cells, with an interval.

Of a slide's cells, ``share * sensitivity + (1 - share) * (1 - specificity)`` are called positive;
turned round, this is the estimate of Rogan and Gladen ("Estimating prevalence from the results of
a screening test", Am J Epidemiol 1978). Both rates differ from person to person, and a slide is one
person's: its cells share its rates, which is how they depend on one another. So

* the rates of the held-out subjects are taken as draws from a beta distribution, whose mean and
  intraclass correlation are integrated over (priors: any mean, a Beta(1, 3) correlation; with it
  intervals held the truth in 96% to 99% of simulations of 5 to 30 people as unlike as 0.05 to
  0.4), which gives the predictive distribution of a new person's rate;
* the interval holds every share under which a count as far out as the slide's would come in more
  than 2.5% of new slides on either side (Clopper and Pearson's test inversion, Biometrika 1934),
  the counts being binomial within a slide.

However many cells a slide has, the interval stays as wide as people differ. Cells about which
nothing is known (out of distribution) may be either: the bounds take the worst case.

Legend: S subjects, P points of a grid, M pairs of rates.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING

import numpy as np
from scipy.special import bdtr, betaincinv, betaln, logsumexp

if TYPE_CHECKING:
    from numpy.typing import NDArray

__all__ = ["ErrorRates", "predictive_rates"]

MEANS, LIKENESSES = 60, 24  # points of the two integrals
TAIL = 0.025
SHARES = np.linspace(0, 1, 101)  # tried; between two of them the bounds are interpolated
MOST_LIKELY = 1e-4  # of the likeliest: what is left out of a mixture


def _nodes(count: int) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Return Gauss and Legendre's points in 0..1 and their weights: fine towards both tails."""
    points, weights = np.polynomial.legendre.leggauss(count)
    return (points + 1) / 2, weights / 2


LEVELS, WEIGHTS = _nodes(48)  # by which a distribution is represented: its quantiles at LEVELS


def predictive_rates(
    hits_S: NDArray[np.integer], cells_S: NDArray[np.integer]
) -> NDArray[np.float64]:
    """
    Return the quantiles, at LEVELS, of a new subject's rate, given *hits* of *cells* of S subjects.

    Of no subject, the rate may be anything.
    """
    means, roots = ((np.arange(count) + 0.5) / count for count in (MEANS, LIKENESSES))
    mean, root = (g.ravel() for g in np.meshgrid(means, roots))
    total = 1 / root**2 - 1  # likeness is the root's square: finer where people are alike
    one, other = mean * total, (1 - mean) * total
    prior = np.log(root) + 2 * np.log(1 - root**2)
    fit = prior - len(cells_S) * betaln(one, other)
    pairs, times = np.unique(np.stack([hits_S, cells_S]), axis=1, return_counts=True)
    for hits, cells, count in zip(*pairs, times, strict=True):
        fit += count * betaln(one + hits, other + cells - hits)
    weight = np.exp(fit - logsumexp(fit))
    kept = weight > weight.max() * MOST_LIKELY
    values = betaincinv(one[kept, None], other[kept, None], LEVELS)
    shares = np.outer(weight[kept], WEIGHTS)
    return _quantiles(np.asarray(values, np.float64).ravel(), shares.ravel())


def _quantiles(values: NDArray[np.float64], weight: NDArray[np.float64]) -> NDArray[np.float64]:
    """Return the quantiles, at LEVELS, of weighted values."""
    order = np.argsort(values)
    below = np.cumsum(weight[order])
    return np.asarray(np.interp(LEVELS * below[-1], below - weight[order] / 2, values[order]))


@dataclass(frozen=True)
class ErrorRates:
    """
    How often cells of each kind are called positive, in a new subject.

    Attributes:
        sensitivity: Quantiles, at LEVELS, of the share called among positive cells.
        false_rate: Likewise among the others.
    """

    sensitivity: NDArray[np.float64]
    false_rate: NDArray[np.float64]

    @classmethod
    def fitted(
        cls,
        called_N: NDArray[np.bool_],
        positive_N: NDArray[np.bool_],
        subjects_N: NDArray[np.integer],
    ) -> ErrorRates:
        """Fit on held-out cells: called or not, truly positive or not, whose."""
        return cls(
            *(_rates_of(called_N[own], subjects_N[own]) for own in (positive_N, ~positive_N))
        )

    @cached_property
    def _table(self) -> NDArray[np.float64]:
        """Return ``(SHARES, LEVELS)``: quantiles of the share called, under each share tried."""
        # Every sensitivity with every false rate: they were fitted on different people.
        sensitivity, false_rate = (
            g.ravel() for g in np.meshgrid(self.sensitivity, self.false_rate)
        )
        weight = np.outer(WEIGHTS, WEIGHTS).ravel()
        return np.stack(
            [_quantiles(share * sensitivity + (1 - share) * false_rate, weight) for share in SHARES]
        )

    def share(self, called: int, cells: int) -> float | None:
        """Return Rogan and Gladen's estimate; None where the model is no better than chance."""
        false_rate = float(self.false_rate @ WEIGHTS)
        skill = float(self.sensitivity @ WEIGHTS) - false_rate
        if skill <= 0 or not cells:
            return None
        return float(np.clip((called / cells - false_rate) / skill, 0, 1))

    def interval(self, called: int, cells: int) -> tuple[float, float]:
        """Return the 95% interval of the share of positive cells."""
        if not cells:
            return 0.0, 1.0
        at_most = bdtr(called, cells, self._table) @ WEIGHTS
        at_least = 1 - bdtr(called - 1, cells, self._table) @ WEIGHTS if called else np.ones(1)
        chance = np.minimum(at_most, at_least)
        # A count that surprises under every share must not leave hardly any: it is held against
        # the least surprising one, whose chance is a half or so where nothing is amiss.
        limit = TAIL * min(1.0, 2 * float(chance.max()))
        inside = np.flatnonzero(chance >= limit)
        return _edge(chance, limit, inside[0], -1), _edge(chance, limit, inside[-1], 1)


def _rates_of(called_N: NDArray[np.bool_], subjects_N: NDArray[np.integer]) -> NDArray[np.float64]:
    """Fit one kind of cell."""
    _, number = np.unique(subjects_N, return_inverse=True)
    cells = np.bincount(number)
    return predictive_rates(np.bincount(number, called_N, len(cells)), cells)


def _edge(chance: NDArray[np.float64], limit: float, last: int, step: int) -> float:
    """Return where plausibility ends beyond the last plausible share, going by *step*."""
    beyond = last + step
    if not 0 <= beyond < len(SHARES):
        return float(SHARES[last])
    part = (chance[last] - limit) / (chance[last] - chance[beyond])
    return float(SHARES[last] + part * (SHARES[beyond] - SHARES[last]))
