"""Weights for examples and seeds: one resample for everything that a comparison says."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from graft.metrics import Estimate

RESAMPLES = 1000
_TAIL = 2.5  # percent on each side


def resampled_weights(units: int, resamples: int, draw: np.random.Generator) -> np.ndarray:
    r"""Return weights of shape (resamples, units) that sum to one, under which a mean varies as it does in truth.

    They are Dirichlet(a, …, a) with :math:`a = (n - 2) / n` for n units. A weighted mean of values of variance
    :math:`s^2` (divided by n) then has variance :math:`s^2 / (n a + 1) = s^2 / (n - 1)`, the unbiased estimate of the
    variance of a mean; the plain bootstrap gives :math:`s^2 / n`, a third too little for three seeds. Of two units one
    is drawn, the limit of that; of one there is nothing to draw.

    Parameters
    ----------
    units : int
        n.
    resamples : int
        How many.
    draw : Generator
        Draws them.

    References
    ----------
    Rubin (1981), The Bayesian Bootstrap (a = 1).
    Owen (2007), The pigeonhole bootstrap: examples and seeds are drawn apart, and their weights multiplied.
    """
    if units == 1:
        return np.ones((resamples, 1))
    if units == 2:
        return np.eye(2)[draw.integers(2, size=resamples)]
    drawn = draw.standard_gamma((units - 2) / units, size=(resamples, units))
    total = drawn.sum(axis=1, keepdims=True)
    return drawn / np.where(total > 0, total, 1)


def interval(value: float, drawn: Sequence[float] | np.ndarray) -> Estimate:
    """Return a value with the 95 % interval of its resamples, which may be infinite; NaN where there is none."""
    known = np.asarray(drawn, np.float64)
    known = known[~np.isnan(known)]
    if not len(known) or np.all(known == known[0]):
        return Estimate(float(value), float("nan"), float("nan"))
    # Nearest ranks: between a number and infinity nothing can be interpolated.
    low, high = np.percentile(known, [_TAIL, 100 - _TAIL], method="nearest")
    return Estimate(float(value), float(low), float(high))
