"""Directions at the same angle to every task gradient: IMTL-G, ConFIG."""

from __future__ import annotations

from dataclasses import dataclass
from typing import final

import numpy as np
import torch

from graft.balancing.aggregator import WeightedAggregator
from graft.balancing.gramian import Inner


@final
@dataclass(frozen=True, kw_only=True)
class IMTLG(WeightedAggregator):
    r"""The combination, with weights that sum to 1, whose projections on all gradients are equally long.

    .. math:: d = J^\top w, \quad 1^\top w = 1, \quad \langle d, u_i \rangle = \langle d, u_j \rangle,
        \quad u_i = g_i / \|g_i\|

    that is, w is proportional to :math:`(C^+ 1)_i / \|g_i\|` for the matrix C of cosines. Where that sums to zero, d is
    zero. A zero gradient has weight 0.

    Conflicting: weights may be negative, and the common projection too (for two tasks it never is). Not linear under
    scaling. It is the projection that is equal, so it holds for linearly independent gradients only.

    References
    ----------
    Liu, Li, Kuang, Xue, Chen, Yang, Liao and Zhang (2021), Towards Impartial Multi-task Learning.
    """

    def _solved(self, products: Inner, generator: torch.Generator | None, state: np.ndarray | None) -> np.ndarray:
        lengths = _equal_lengths(products)
        # Relative to the smallest norm first: the sum decides, and it must not overflow.
        least = products.norms[products.alive].min(initial=1.0)
        weights = products.per_length(lengths) * least
        total = weights.sum()
        if abs(total) <= products.ridge * np.abs(weights).sum() or total == 0:
            return np.zeros(products.count)
        return weights / total


@final
@dataclass(frozen=True, kw_only=True)
class ConFIG(WeightedAggregator):
    r"""The direction at the same angle to all gradients, as long as the sum of their projections on it.

    .. math:: d = \Bigl(\sum_i \langle g_i, \hat d \rangle\Bigr) \hat d, \qquad
        \hat d = \frac{U^+ 1}{\|U^+ 1\|}, \quad U_i = g_i / \|g_i\|

    with :math:`U^+ 1 = U^\top (U U^\top)^+ 1`.

    Non-conflicting for linearly independent gradients only: otherwise there may be no direction at the same angle to
    all.

    References
    ----------
    Liu, Chu and Thuerey (2024), ConFIG: Towards Conflict-free Training of Physics Informed Neural Networks.
    """

    def _solved(self, products: Inner, generator: torch.Generator | None, state: np.ndarray | None) -> np.ndarray:
        lengths = _equal_lengths(products)
        projections = products.cosines @ lengths
        square = lengths @ projections
        if square <= products.ridge:
            return np.zeros(products.count)
        return products.per_length(lengths) * (products.norms @ projections / square)


def _equal_lengths(products: Inner) -> np.ndarray:
    """Return C⁺ 1: the weights of unit gradients at which all projections are 1."""
    inverse = np.linalg.pinv(products.cosines, rcond=products.ridge * products.count, hermitian=True)
    return inverse @ products.alive.astype(float)
