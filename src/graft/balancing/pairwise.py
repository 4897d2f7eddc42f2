"""Gradients changed one after another by those of other tasks: PCGrad, GradVac."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar, final

import numpy as np
import torch

from graft._checks import number
from graft.balancing.aggregator import WeightedAggregator
from graft.balancing.gramian import Inner


@final
@dataclass(frozen=True, kw_only=True)
class PCGrad(WeightedAggregator):
    r"""Each gradient, less what in it conflicts with the others, one after another in random order; then the sum.

    .. math:: g_i' \leftarrow g_i' - \min\Bigl(0, \frac{\langle g_i', g_j \rangle}{\|g_j\|^2}\Bigr) g_j
        \quad (j \ne i), \qquad d = \sum_i g_i'

    Conflicting from three tasks on; permutation invariant in distribution only, since the order is drawn. Linear under
    scaling for one order.

    References
    ----------
    Yu, Kumar, Gupta, Levine, Hausman and Finn (2020), Gradient Surgery for Multi-Task Learning, algorithm 1.

    Examples
    --------
    >>> import torch
    >>> from graft.balancing import PCGrad
    >>> gradients = torch.tensor([[-4.0, 1.0, 1.0], [6.0, 1.0, 1.0]])
    >>> direction = PCGrad()(gradients, generator=torch.Generator().manual_seed(0))
    >>> print([round(x, 4) for x in direction.tolist()])
    [0.5848, 3.8012, 3.8012]
    """

    random: ClassVar[bool] = True

    def _solved(self, products: Inner, generator: torch.Generator | None, state: np.ndarray | None) -> np.ndarray:
        # Row i holds g_i' in units of the gradients' directions.
        lengths, rows = np.diag(products.norms), np.arange(products.count)
        for others in _orders(products.count, generator):
            shared = np.einsum("ij,ij->i", lengths, products.cosines[others])
            lengths[rows, others] -= np.minimum(shared, 0.0)
        return products.per_length(lengths.sum(axis=0))


@final
@dataclass(frozen=True, kw_only=True)
class GradVac(WeightedAggregator):
    r"""Each gradient turned towards the others until their cosines reach what they usually are; then the sum.

    For j ≠ i one after another in random order, with :math:`\phi` the cosine of :math:`g_i'` and :math:`g_j`, and
    :math:`\hat\phi_{ij}` its moving average:

    .. math:: g_i' \leftarrow g_i' + \frac{\|g_i'\| (\hat\phi \sqrt{1 - \phi^2} - \phi \sqrt{1 - \hat\phi^2})}
        {\|g_j\| \sqrt{1 - \hat\phi^2}} g_j \ \text{ if } \phi < \hat\phi, \qquad
        \hat\phi_{ij} \leftarrow (1 - \beta) \hat\phi_{ij} + \beta \phi

    Averages begin at 0: the first step is PCGrad's. The paper keeps them for each layer; here they are for the
    gradients as they are passed.

    Conflicting; permutation invariant in distribution only. Linear under scaling for one order and state. A zero
    gradient changes no average.

    Parameters
    ----------
    rate : float
        β in [0, 1].

    References
    ----------
    Wang, Tsvetkov, Firat and Cao (2021), Gradient Vaccine: Investigating and Improving Multi-task Optimization in
    Massively Multilingual Models, eq. 2, 3 and algorithm 1.
    """

    rate: float = 0.01
    random: ClassVar[bool] = True
    stateful: ClassVar[bool] = True

    def __post_init__(self) -> None:
        number("rate", self.rate, low=0, high=1)

    def _solved(self, products: Inner, generator: torch.Generator | None, state: np.ndarray | None) -> np.ndarray:
        assert state is not None
        lengths, rows = np.diag(products.norms), np.arange(products.count)
        for others in _orders(products.count, generator):
            images = lengths @ products.cosines
            size = np.sqrt(np.maximum(np.einsum("ij,ij->i", lengths, images), 0.0))
            # A gradient that others have cancelled, or a zero one, has no cosine.
            known = (size > 1e-9 * products.norms) & products.alive[others]
            cosine = np.clip(images[rows, others] / np.where(known, size, 1.0), -1.0, 1.0)
            usual = np.clip(state[rows, others], -1 + 1e-9, 1 - 1e-9)
            turn = size * (usual * np.sqrt((1 - cosine**2) / (1 - usual**2)) - cosine)
            lengths[rows, others] += np.where(known & (cosine < usual), turn, 0.0)
            state[rows, others] += np.where(known, self.rate * (cosine - state[rows, others]), 0.0)
        return products.per_length(lengths.sum(axis=0))


def _orders(count: int, generator: torch.Generator | None) -> np.ndarray:
    """Return, for each gradient, the others in random order: (K - 1, K), a column for each gradient."""
    assert generator is not None
    keys = torch.rand(count, count, dtype=torch.float64, generator=generator, device=generator.device).cpu()
    # Its own place comes last, and is cut off.
    order = keys.fill_diagonal_(2.0).argsort(dim=1)
    return order[:, :-1].T.numpy()
