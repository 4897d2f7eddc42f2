"""Quadratic programs over a box and a budget: the one convex problem of kernel mean matching."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from scipy.linalg import cho_factor, cho_solve

_ROUNDS = 40
_STEPS = 25
_FIRST_STEPS = 10  # enough where the ridge conditions the problem well


@dataclass(frozen=True)
class BoxBudget:
    """The set {w : 0 <= w_i <= upper, low <= sum(w) <= high}."""

    upper: float
    low: float
    high: float

    def project(self, point: np.ndarray) -> np.ndarray:
        r"""Return the nearest point of the set: :math:`\mathrm{clip}(v - \tau, 0, upper)` for one number τ.

        The sum falls with τ, piecewise linearly; τ is found by Newton's method kept between bounds.
        """
        nearest = np.clip(point, 0, self.upper)
        total = nearest.sum()
        if self.low <= total <= self.high:
            return nearest
        goal = self.low if total < self.low else self.high
        below, above, shift = point.min() - self.upper, point.max(), 0.0
        for _ in range(200):
            moved = point - shift
            nearest = np.clip(moved, 0, self.upper)
            excess = nearest.sum() - goal
            if abs(excess) <= 1e-14 * len(point) * max(goal / len(point), 1e-300):
                break
            if excess > 0:
                below = shift
            else:
                above = shift
            inside = np.count_nonzero((moved > 0) & (moved < self.upper))
            newton = shift + excess / inside if inside else np.inf
            shift = newton if below < newton < above else (below + above) / 2
        return nearest


@dataclass(frozen=True)
class Solution:
    """The minimiser, its optimality residual, and the number of rounds it took."""

    point: np.ndarray
    residual: float
    rounds: int


def residual(quadratic: np.ndarray, linear: np.ndarray, point: np.ndarray, allowed: BoxBudget) -> float:
    r"""Return :math:`\lVert w - P(w - (Q w - c)) \rVert_\infty`: zero exactly where the KKT conditions hold."""
    return float(np.abs(point - allowed.project(point - (quadratic @ point - linear))).max())


def minimize(quadratic: np.ndarray, linear: np.ndarray, allowed: BoxBudget, *, tolerance: float = 1e-9) -> Solution:
    r"""Minimise :math:`\frac12 w^\top Q w - c^\top w` over a box and a budget.

    Alternating directions (Boyd, Parikh, Chu, Peleato and Eckstein, 2011, section 5.2) with one Cholesky factor of
    Q + ρI, over-relaxed by 1.6; after 10 steps and then every 25 the constraints that hold with equality are taken
    as known and the remaining linear system is solved, exchanging constraints that turn out wrong
    (Hintermüller, Ito and Kunisch, 2002, algorithm 1.1). The first
    point that satisfies the optimality conditions is returned, else the best one.

    Parameters
    ----------
    quadratic : ndarray (n, n)
        Q, positive definite.
    linear : ndarray (n,)
        c.
    allowed : BoxBudget
        The constraints.
    tolerance : float
        On the residual.
    """
    n = len(linear)
    # Of the size of Q's smallest eigenvalues, which decide how long the tail takes; the large ones need no help.
    penalty = 3 * max(float(np.diag(quadratic).min()) / 2, 1e-3)
    shifted = quadratic.copy()
    shifted.flat[:: n + 1] += penalty
    factor = cho_factor(shifted, overwrite_a=True, check_finite=False)
    point = allowed.project(np.ones(n))
    dual = np.zeros(n)
    best, best_residual = point, residual(quadratic, linear, point, allowed)
    rounds = 0
    while best_residual > tolerance and rounds < _ROUNDS:
        rounds += 1
        for _ in range(_FIRST_STEPS if rounds == 1 else _STEPS):
            solved = cho_solve(factor, linear + penalty * (point - dual), check_finite=False)
            relaxed = 1.6 * solved - 0.6 * point
            point = allowed.project(relaxed + dual)
            dual = dual + relaxed - point
        for candidate in (point, _exchange(quadratic, linear, point, allowed)):
            found = residual(quadratic, linear, candidate, allowed)
            if found < best_residual:
                best, best_residual = candidate, found
    return Solution(best, best_residual, rounds)


def _exchange(quadratic: np.ndarray, linear: np.ndarray, start: np.ndarray, allowed: BoxBudget) -> np.ndarray:
    """Return what solves the problem when the active constraints are guessed, the guess mended a few times."""
    gradient = quadratic @ start - linear
    total = start.sum()
    slack = 1e-9 * max(abs(allowed.high), 1.0)
    goal = allowed.low if total <= allowed.low + slack else allowed.high if total >= allowed.high - slack else None
    free = (start > 0) & (start < allowed.upper)
    full = start >= allowed.upper
    point = start
    for _ in range(8):
        if not free.any():
            break
        point = np.where(full, allowed.upper, 0.0)
        factor = cho_factor(quadratic[np.ix_(free, free)], overwrite_a=True, check_finite=False)
        right = linear[free] - quadratic[np.ix_(free, full)] @ point[full] if full.any() else linear[free]
        point[free] = cho_solve(factor, right, check_finite=False)
        multiplier = 0.0
        if goal is not None:
            along = cho_solve(factor, np.ones(len(right)), check_finite=False)
            multiplier = float((point.sum() - goal) / along.sum())
            point[free] -= multiplier * along
        gradient = quadratic @ point - linear + multiplier
        low = np.where(free, point < 0, ~full & (gradient >= 0))
        high = np.where(free, point > allowed.upper, full & (gradient <= 0))
        total = point.sum()
        wrong_side = (goal == allowed.low and multiplier > 0) or (goal == allowed.high and multiplier < 0)
        if goal is not None and wrong_side and allowed.low < allowed.high:
            next_goal = None
        elif goal is None and total < allowed.low:
            next_goal = allowed.low
        elif goal is None and total > allowed.high:
            next_goal = allowed.high
        else:
            next_goal = goal
        next_free = ~(low | high)
        if np.array_equal(next_free, free) and np.array_equal(high, full) and next_goal == goal:
            break
        free, full, goal = next_free, high, next_goal
    return allowed.project(point)
