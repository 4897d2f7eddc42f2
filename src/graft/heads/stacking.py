"""Weights by which several classifiers' log probabilities are added up."""

from __future__ import annotations

import numpy as np
from scipy.optimize import minimize

# How many examples' worth the total weight is held near 1, and the weights near each other.
_TOTAL, _EVEN = 10.0, 0.3


def stacking_weights(parts: np.ndarray, codes: np.ndarray, weight: np.ndarray) -> tuple[np.ndarray, float]:
    r"""Return the weights b (m,) of the members, and the penalised log loss that they reach.

    Minimises the log loss of :math:`\mathrm{softmax}(\sum_j b_j \log p_j)` over :math:`b \ge 0` (Wolpert, 1992,
    stacking; in the form of a logarithmic pool, whose sum of weights is an inverse temperature), plus
    :math:`(10 (\sum_j b_j - 1)^2 / m + 0.3 \sum_j (b_j - \bar b)^2) / n`, which settles what few examples leave open:
    they hardly tell how sure to be where all of them are predicted rightly, or which of two equal members to trust. The
    problem is strictly convex, so that the weights move with the examples and never jump.

    Parameters
    ----------
    parts : ndarray (m, n, K)
        Calibrated log probabilities of each member on examples that it did not see.
    codes : ndarray (n,) of int
        The classes.
    weight : ndarray (n,)
        Of the examples.
    """
    share = weight / weight.sum()
    rows = np.arange(len(codes))
    even = 1 / len(parts)

    def objective(b: np.ndarray) -> tuple[float, np.ndarray]:
        logits = np.tensordot(b, parts, axes=1)
        logits -= logits.max(axis=1, keepdims=True)
        own = logits[rows, codes].copy()
        np.exp(logits, out=logits)
        totals = logits.sum(axis=1, keepdims=True)
        logits /= totals
        loss = float(share @ (np.log(totals[:, 0]) - own))
        slope = [float(share @ (np.einsum("ik,ik->i", logits, part) - part[rows, codes])) for part in parts]
        apart, excess = b - b.mean(), b.sum() - 1
        penalty = (_EVEN * float((apart**2).sum()) + _TOTAL * excess**2 * even) / weight.sum()
        return loss + penalty, np.array(slope) + 2 * (_EVEN * apart + _TOTAL * excess * even) / weight.sum()

    start = np.full(len(parts), even)
    solution = minimize(objective, start, jac=True, method="L-BFGS-B", bounds=[(0, None)] * len(parts))
    return solution.x, float(solution.fun)
