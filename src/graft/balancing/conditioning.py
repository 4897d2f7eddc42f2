"""A linear system of task gradients made well conditioned: Aligned-MTL."""

from __future__ import annotations

from dataclasses import dataclass
from typing import final

import numpy as np
import torch

from graft.balancing.aggregator import WeightedAggregator
from graft.balancing.gramian import Inner


@final
@dataclass(frozen=True, kw_only=True)
class AlignedMTL(WeightedAggregator):
    r"""The mean of the nearest gradients that are orthogonal and equally long.

    .. math:: d = J^\top B \frac{1}{K} 1, \qquad B = \sqrt{\lambda_R}\, V \Lambda^{-1/2} V^\top,
        \qquad J J^\top = V \Lambda V^\top

    with :math:`\lambda_R` the smallest eigenvalue that is not zero: all principal components get the length of the
    shortest, and tasks neither conflict nor dominate.

    Conflicting: the gradients that are made orthogonal are others than the tasks' own. Not linear under scaling. Which
    eigenvalues are zero is decided by the precision of the products, and d jumps where one becomes zero.

    References
    ----------
    Senushkin, Patakin, Kuznetsov and Konushin (2023), Independent Component Alignment for Multi-Task Learning,
    algorithm 1.
    """

    def _solved(self, products: Inner, generator: torch.Generator | None, state: np.ndarray | None) -> np.ndarray:
        values, vectors = np.linalg.eigh(products.products)
        kept = values > values[-1] * products.count * products.rounding
        if not kept.any():
            return np.zeros(products.count)
        values, vectors = values[kept], vectors[:, kept]
        return vectors @ (np.sqrt(values[0] / values) * vectors.mean(axis=0))
