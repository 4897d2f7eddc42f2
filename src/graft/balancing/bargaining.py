"""Directions on which tasks agree as in a bargain: Nash-MTL, FairGrad."""

from __future__ import annotations

from dataclasses import dataclass
from typing import final

import numpy as np
import torch

from graft._checks import number
from graft.balancing.aggregator import WeightedAggregator
from graft.balancing.gramian import Inner


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
            products.cosines[np.ix_(alive, alive)], np.ones(alive.sum()), power=1.0, ridge=products.ridge
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
    Ban and Ji (2024), Fair Resource Allocation in Multi-Task Learning, eq. 5 to 7.
    """

    alpha: float = 1.0

    def __post_init__(self) -> None:
        number("alpha", self.alpha, low=0, open_low=True)

    def _solved(self, products: Inner, generator: torch.Generator | None, state: np.ndarray | None) -> np.ndarray:
        alive, power = products.alive, 1 / self.alpha
        lengths = np.zeros(products.count)
        lengths[alive] = fair_lengths(
            products.cosines[np.ix_(alive, alive)],
            products.norms[alive] ** (power - 1),
            power=power,
            ridge=products.ridge,
        )
        return products.per_length(lengths) * products.scale ** (-2 / (1 + power))


def fair_lengths(cosines: np.ndarray, gains: np.ndarray, *, power: float, ridge: float) -> np.ndarray:
    r"""Return the solution x > 0 of :math:`C x = b x^{-p}`.

    It is the minimum of the convex function :math:`\tfrac12 x^\top C x - \sum_i b_i \int x_i^{-p}`, found by Newton
    steps, damped so that x stays positive and the function falls.

    Parameters
    ----------
    cosines : ndarray of shape (K, K)
        C, positive semi-definite.
    ridge : float
        What may be added to its diagonal.
    gains : ndarray of shape (K,)
        b > 0.
    power : float
        p > 0.
    Returns
    -------
    ndarray of shape (K,)
        x; zeros where no combination has a positive product with every vector, so that only what was added to the
        diagonal of C for the sake of rounding keeps x finite.
    """

    exact = cosines
    cosines = exact + ridge * np.eye(len(exact))

    def value(x: np.ndarray) -> float:
        barrier = np.log(x) if power == 1 else x ** (1 - power) / (1 - power)
        return float(x @ cosines @ x / 2 - gains @ barrier)

    x = gains ** (1 / (1 + power))
    for _ in range(200):
        pull = gains * x**-power
        gradient = cosines @ x - pull
        if np.abs(gradient).max(initial=0.0) <= 1e-13 * np.abs(pull).max(initial=0.0):
            break
        # In relative steps x (1 + r): the Hessian is then of one scale for all tasks.
        hessian = x[:, None] * cosines * x + np.diag(power * pull * x)
        relative = np.linalg.solve(hessian, -gradient * x)
        decrease = float(-(gradient * x) @ relative)
        step = min(1.0, 0.9 / max(1e-300, float(-relative.min(initial=0.0))))
        now = value(x)
        while step > 1e-10 and value(x * (1 + step * relative)) > now - 0.25 * step * decrease + 1e-15 * abs(now):
            step /= 2
        x = x * (1 + step * relative)
        if decrease <= 1e-26 * abs(now):
            break
    return x if (exact @ x > 0.5 * gains * x**-power).all() else np.zeros_like(x)
