"""Nearest directions in which no task gets worse, or each gains so much: UPGrad, DualProj, CAGrad."""

from __future__ import annotations

from dataclasses import dataclass
from typing import final

import numpy as np
import torch

from graft._checks import number
from graft.balancing.aggregator import WeightedAggregator
from graft.balancing.gramian import Inner
from graft.balancing.quadratic import dual_cone_weights, no_common_direction, nonnegative_minimum


@final
@dataclass(frozen=True, kw_only=True)
class UPGrad(WeightedAggregator):
    r"""Each gradient made conflict-free on its own, then their mean.

    .. math:: d = \frac1K \sum_i \pi(g_i), \qquad
        \pi(x) = \arg\min_{y:\ J y \ge 0} \|y - x\|^2 = J^\top \arg\min_{v \ge e_i} v^\top J J^\top v

    All laws hold: non-conflicting, linear under scaling, strongly stationary.

    References
    ----------
    Quinton and Rey (2024), Jacobian Descent for Multi-Objective Optimization, proposition 1.

    Examples
    --------
    >>> import torch
    >>> from graft.balancing import UPGrad
    >>> print([round(x, 3) for x in UPGrad()(torch.tensor([[-4.0, 1.0, 1.0], [6.0, 1.0, 1.0]])).tolist()])
    [0.292, 1.901, 1.901]
    """

    def _solved(self, products: Inner, generator: torch.Generator | None, state: np.ndarray | None) -> np.ndarray:
        # In units of each gradient's norm, so that tasks of any scales are projected with the same precision.
        lengths = dual_cone_weights(products.definite, np.eye(products.count))
        return products.per_length(products.norms @ lengths) / products.count


@final
@dataclass(frozen=True, kw_only=True)
class DualProj(WeightedAggregator):
    r"""The mean gradient made conflict-free.

    .. math:: d = \arg\min_{d:\ J d \ge 0} \Bigl\|d - \frac1K \sum_i g_i\Bigr\|^2

    Not linear under scaling.

    References
    ----------
    Lopez-Paz and Ranzato (2017), Gradient Episodic Memory for Continual Learning, eq. 8 to 11 (there the gradient of
    a new task is projected, and memory holds the others).
    """

    def _solved(self, products: Inner, generator: torch.Generator | None, state: np.ndarray | None) -> np.ndarray:
        lengths = dual_cone_weights(products.definite, products.norms / products.count)
        return products.per_length(lengths[0])


@final
@dataclass(frozen=True, kw_only=True)
class CAGrad(WeightedAggregator):
    r"""The direction near the mean gradient :math:`g_0` that serves the worst-off task best.

    .. math:: d = \arg\max_{\|d - g_0\| \le c \|g_0\|} \min_i \langle g_i, d \rangle
        = g_0 + c \|g_0\| \frac{J^\top w}{\|J^\top w\|}

    with w in the simplex the minimizer of :math:`\langle J^\top w, g_0 \rangle + c \|g_0\| \|J^\top w\|`. It is found
    from the other side: d(ν), the nearest point to g_0 with :math:`\langle g_i, d \rangle \ge \nu` for all tasks, for
    the largest ν at which it is in the ball; on each set of active tasks ν solves a quadratic equation. The authors'
    code divides d by 1 + c² by default; here, as in the paper's algorithm, nothing is divided.

    Conflicting for c < 1; not linear under scaling. Where no direction serves all tasks and c ≥ 1, several directions
    solve the problem, zero among them; then d is the one of them that is nearest to the mean.

    Parameters
    ----------
    radius : float
        c ≥ 0. 0 is the mean.

    References
    ----------
    Liu, Liu, Jin, Stone and Liu (2021), Conflict-Averse Gradient Descent for Multi-task Learning, algorithm 1.
    """

    radius: float = 0.5

    def __post_init__(self) -> None:
        number("radius", self.radius, low=0)

    def _solved(self, products: Inner, generator: torch.Generator | None, state: np.ndarray | None) -> np.ndarray:
        mean = np.full(products.count, 1 / products.count)
        length = float(np.sqrt(max(0.0, mean @ products.products @ mean)))
        alive = products.alive
        if self.radius == 0 or length**2 <= products.ridge:
            return mean
        best = _held_lengths(
            products.cosines[np.ix_(alive, alive)],
            products.norms[alive],
            gains=(products.cosines @ (products.norms * mean))[alive],
            radius=self.radius * length,
            length=length,
            ceiling=np.inf if alive.all() else 0.0,  # a zero gradient gains nothing in any direction
            ridge=products.ridge,
        )
        lengths = np.zeros(products.count)
        lengths[alive] = best
        return mean + products.per_length(lengths)


def _held_lengths(
    cosines: np.ndarray,
    norms: np.ndarray,
    *,
    gains: np.ndarray,
    radius: float,
    length: float,
    ceiling: float,
    ridge: float,
) -> np.ndarray:
    """Return what is added to the mean, in units of the gradients' directions, to hold the highest level in the ball.

    The gains of the mean are those along the gradients' directions; levels are in units of the smallest norm.
    """
    definite = cosines + ridge * np.eye(len(cosines))
    ratios = norms.min() / norms
    low, high = float((gains / ratios).min()), min(ceiling, radius + length)
    if no_common_direction(cosines, ridge=ridge):
        high = min(high, 0.0)
    best = np.zeros(len(norms))
    level = 0.0 if low < 0 <= high else (low + high) / 2
    for _ in range(100):
        if not low < high:
            break
        lengths = nonnegative_minimum(definite, level * ratios - gains)[0]
        gap = float(np.sqrt(lengths @ cosines @ lengths)) - radius
        if gap <= 1e-10 * radius:
            low, best = level, lengths
        else:
            high = level
        if abs(gap) <= 1e-10 * radius or high - low <= 1e-14 * length:
            break
        level = _level_on_face(definite, ratios, gains, lengths > 0, radius, low, high)
    return best


def _level_on_face(
    cosines: np.ndarray,
    ratios: np.ndarray,
    gains: np.ndarray,
    active: np.ndarray,
    radius: float,
    low: float,
    high: float,
) -> float:
    """Return the level at which the distance is the radius if the active tasks stay, or the middle of the bracket."""
    if active.any():
        block = cosines[np.ix_(active, active)]
        slope, start = np.linalg.solve(block, np.stack([ratios[active], -gains[active]], axis=1)).T
        square, linear, constant = slope @ block @ slope, slope @ block @ start, start @ block @ start - radius**2
        inside = linear**2 - square * constant
        if inside >= 0 and square > 0:
            level = float((np.sqrt(inside) - linear) / square)
            if low < level < high:
                return level
    return (low + high) / 2
