"""Plain sums and means of task gradients."""

from __future__ import annotations

from dataclasses import dataclass
from typing import final

import numpy as np
import torch

from graft.balancing.aggregator import WeightedAggregator
from graft.balancing.gramian import Inner


@final
@dataclass(frozen=True, kw_only=True)
class SumGradient(WeightedAggregator):
    r"""The sum of the gradients, :math:`d = \sum_i g_i`: what one backward pass through the sum of the losses gives.

    Conflicting.

    Examples
    --------
    >>> import torch
    >>> from graft.balancing import SumGradient
    >>> SumGradient()(torch.tensor([[-4.0, 1.0, 1.0], [6.0, 1.0, 1.0]]))
    tensor([2., 2., 2.])
    """

    def _solved(self, products: Inner, generator: torch.Generator | None, state: np.ndarray | None) -> np.ndarray:
        return np.ones(products.count)


@final
@dataclass(frozen=True, kw_only=True)
class MeanGradient(WeightedAggregator):
    r"""The mean of the gradients of the present tasks, :math:`d = \frac1K \sum_i g_i`.

    Conflicting.
    """

    def _solved(self, products: Inner, generator: torch.Generator | None, state: np.ndarray | None) -> np.ndarray:
        return np.full(products.count, 1 / products.count)
