"""Directions from the convex hull of the task gradients: MGDA, SDMGrad."""

from __future__ import annotations

from dataclasses import dataclass
from typing import final

import numpy as np
import torch

from graft._checks import number
from graft.balancing.aggregator import WeightedAggregator
from graft.balancing.gramian import Inner
from graft.balancing.quadratic import min_norm_weights


@final
@dataclass(frozen=True, kw_only=True)
class MGDA(WeightedAggregator):
    r"""The shortest vector in the convex hull of the gradients.

    .. math:: d = J^\top w, \qquad w = \arg\min_{w \ge 0,\ 1^\top w = 1} \|J^\top w\|^2

    Solved exactly, not by the Frank-Wolfe steps of the authors' code, and without its normalizations of gradients.

    Not linear under scaling, nor strongly stationary: it stops as soon as two gradients are opposite, or one is zero.
    Small gradients get the largest weights.

    References
    ----------
    Désidéri (2012), Multiple-gradient descent algorithm (MGDA) for multiobjective optimization;
    Sener and Koltun (2018), Multi-Task Learning as Multi-Objective Optimization, eq. 3.

    Examples
    --------
    >>> import torch
    >>> from graft.balancing import MGDA
    >>> MGDA().weights(torch.tensor([[18.0, -22.0], [-22.0, 38.0]]))
    tensor([0.6000, 0.4000])
    """

    def _solved(self, products: Inner, generator: torch.Generator | None, state: np.ndarray | None) -> np.ndarray:
        return min_norm_weights(products.products, ridge=products.ridge)


@final
@dataclass(frozen=True, kw_only=True)
class SDMGrad(WeightedAggregator):
    r"""The shortest vector in the hull, drawn to the mean gradient :math:`g_0`.

    .. math:: d = \frac{J^\top w + \lambda g_0}{1 + \lambda}, \qquad
        w = \arg\min_{w \ge 0,\ 1^\top w = 1} \|J^\top w + \lambda g_0\|^2

    The paper solves for w by stochastic steps on inner products of *two* batches, which takes the noise of the batch
    out of the weights; here the problem of one batch is solved exactly, so nothing is remembered between steps. The
    division by 1 + λ is that of the authors' code.

    Conflicting for λ > 0; not linear under scaling.

    Parameters
    ----------
    preference : float
        λ ≥ 0. 0 is MGDA; large values give the mean.

    References
    ----------
    Xiao, Ban and Ji (2023), Direction-oriented Multi-objective Learning: Simple and Provable Stochastic Algorithms.
    """

    preference: float = 0.3

    def __post_init__(self) -> None:
        number("preference", self.preference, low=0)

    def _solved(self, products: Inner, generator: torch.Generator | None, state: np.ndarray | None) -> np.ndarray:
        weights = _shifted_weights(products, self.preference)
        return (weights + self.preference / products.count) / (1 + self.preference)


def _shifted_weights(products: Inner, shift: float) -> np.ndarray:
    """Return the weights of the shortest vector in the hull of g_i + shift · g_0."""
    matrix = products.products
    means = matrix.mean(axis=1)
    shifted = matrix + shift * (means[:, None] + means) + shift**2 * means.mean()
    return min_norm_weights(shifted, ridge=products.ridge)
