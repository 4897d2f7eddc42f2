"""Directions on which tasks agree as in a bargain: Nash-MTL, FairGrad."""

from __future__ import annotations

from dataclasses import dataclass
from typing import final

import numpy as np
import torch

from graft._checks import number
from graft.balancing.aggregator import WeightedAggregator
from graft.balancing.gramian import Inner
from graft.balancing.quadratic import no_common_direction


@final
@dataclass(frozen=True, kw_only=True)
class NashMTL(WeightedAggregator):
    r"""The Nash bargaining solution: the direction with the largest product of the tasks' first-order gains.

    .. math:: d = J^\top w, \qquad J J^\top w = 1 / w, \quad w > 0

    The authors solve the system by a sequence of convex programs; here its solution is found as what it is, the minimum
    of the convex function :math:`\tfrac12 w^\top J J^\top w - \sum_i \log w_i`, by Newton steps. Its length is
    :math:`\|d\| = \sqrt K` whatever the gradients, and is cut to ``max_norm``, as in the authors' code. Where no
    direction serves all tasks there is no solution, and d is zero (the authors' code keeps the last weights).

    Non-conflicting; not strongly stationary. Scaling a task's gradient changes nothing, so it is neither linear under
    scaling nor homogeneous: the length of the step is constant. Unscale gradients first under loss scaling. A zero
    gradient has weight 0.

    Parameters
    ----------
    max_norm : float
        The longest direction, > 0.

    References
    ----------
    Navon, Shamsian, Achituve, Maron, Kawaguchi, Chechik and Fetaya (2022), Multi-Task Learning as a Bargaining Game,
    claim 3.1.

    Examples
    --------
    >>> import torch
    >>> from graft.balancing import NashMTL
    >>> print([round(x, 4) for x in NashMTL()(torch.tensor([[-4.0, 1.0, 1.0], [6.0, 1.0, 1.0]])).tolist()])
    [0.0542, 0.7061, 0.7061]
    """

    max_norm: float = 1.0

    def __post_init__(self) -> None:
        number("max_norm", self.max_norm, low=0, open_low=True)

    def _solved(self, products: Inner, generator: torch.Generator | None, state: np.ndarray | None) -> np.ndarray:
        alive = products.alive
        lengths = np.zeros(products.count)
        lengths[alive] = fair_lengths(
            products.cosines[np.ix_(alive, alive)], np.zeros(alive.sum()), power=1.0, ridge=products.ridge
        )
        norm = float(np.sqrt(max(0.0, lengths @ products.cosines @ lengths)))
        return products.per_length(lengths) / products.scale * min(1.0, self.max_norm / norm if norm > 0 else 1.0)


@final
@dataclass(frozen=True, kw_only=True)
class FairGrad(WeightedAggregator):
    r"""The α-fair direction.

    .. math:: d = J^\top w, \qquad J J^\top w = w^{-1/\alpha}, \quad w > 0

    α → 0 is the sum of the gradients, α = 1 the Nash bargaining solution, α → ∞ makes all gains equal. The authors
    solve the system by least squares; here as the minimum of a convex function, by Newton steps.

    Where no direction serves all tasks there is no solution, and d is zero.

    Non-conflicting; not strongly stationary. Not linear under scaling; homogeneous of degree (1 - α) / (1 + α): for
    α > 1 the direction gets *longer* as gradients get smaller. Unscale gradients first under loss scaling. A zero
    gradient has weight 0.

    Parameters
    ----------
    alpha : float
        α > 0.

    References
    ----------
    Ban and Ji (2024), Fair Resource Allocation in Multi-Task Learning.
    """

    alpha: float = 1.0

    def __post_init__(self) -> None:
        number("alpha", self.alpha, low=0, open_low=True)

    def _solved(self, products: Inner, generator: torch.Generator | None, state: np.ndarray | None) -> np.ndarray:
        alive, power = products.alive, 1 / self.alpha
        lengths = np.zeros(products.count)
        lengths[alive] = fair_lengths(
            products.cosines[np.ix_(alive, alive)],
            (power - 1) * np.log(products.norms[alive]),
            power=power,
            ridge=products.ridge,
        )
        return products.per_length(lengths) * products.scale ** (-2 / (1 + power))


def fair_lengths(cosines: np.ndarray, log_gains: np.ndarray, *, power: float, ridge: float) -> np.ndarray:
    r"""Return the solution x > 0 of :math:`C x = b x^{-p}`.

    It is the minimum of the convex function :math:`\tfrac12 x^\top C x - \sum_i b_i \int x_i^{-p}`, found by Newton
    steps that change no :math:`x_i` by a larger share than the curvature of its term allows.

    Parameters
    ----------
    cosines : ndarray of shape (K, K)
        C, positive semi-definite.
    log_gains : ndarray of shape (K,)
        log b.
    power : float
        p > 0.
    ridge : float
        What may be added to the diagonal of C.

    Returns
    -------
    ndarray of shape (K,)
        x; zeros where no combination has a positive product with every vector, to the precision of the ridge.
    """
    if no_common_direction(cosines, ridge=ridge):
        return np.zeros(len(cosines))
    definite = cosines + ridge * np.eye(len(cosines))
    logs = log_gains / (1 + power)
    for _ in range(1000):
        x, pull = np.exp(logs), np.exp(log_gains - power * logs)
        gradient = definite @ x - pull
        precision = 1e-12 * pull + 1e-15 * (np.abs(definite) @ x)
        if (np.abs(gradient) <= precision).all():
            break
        # For relative changes of x, each equation in units of its own pull: all of one scale.
        system = definite * (x / pull[:, None]) + power * np.eye(len(x))
        relative = np.linalg.solve(system, -gradient / pull)
        largest = float(np.abs(relative).max())
        logs = logs + np.log1p(relative * min(1.0, 0.9 / (1 + power) / largest))
    return np.exp(logs)
