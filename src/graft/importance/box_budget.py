"""Quadratic programs over a box and a budget: the one convex problem of kernel mean matching."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
from scipy.linalg import cho_factor, cho_solve

_ROUNDS = 40
_STEPS = 25
_EXCHANGES = 8
# Where gradients alone solve the linear systems, rounds are cheap, and most of them need not be exact.
_QUICK_EXCHANGES = 20
_GRADIENTS = 150  # in one linear system; what takes more is better factorised


@dataclass(frozen=True)
class BoxBudget:
    """The set {w : lower <= w_i <= upper, low <= sum(w) <= high}."""

    upper: float
    low: float
    high: float
    lower: float = 0.0

    def project(self, point: np.ndarray) -> np.ndarray:
        r"""Return the nearest point of the set: :math:`\mathrm{clip}(v - \tau, lower, upper)` for one number τ.

        The sum falls with τ, piecewise linearly; τ is found by Newton's method kept between bounds.
        """
        nearest = np.clip(point, self.lower, self.upper)
        total = nearest.sum()
        if self.low <= total <= self.high:
            return nearest
        goal = self.low if total < self.low else self.high
        below, above, shift = point.min() - self.upper, point.max() - self.lower, 0.0
        accuracy = 1e-14 * (abs(goal) + len(point) * max(abs(self.lower), 1e-300))
        for _ in range(200):
            moved = point - shift
            nearest = np.clip(moved, self.lower, self.upper)
            excess = nearest.sum() - goal
            if abs(excess) <= accuracy:
                break
            if excess > 0:
                below = shift
            else:
                above = shift
            inside = np.count_nonzero((moved > self.lower) & (moved < self.upper))
            newton = shift + excess / inside if inside else np.inf
            shift = newton if below < newton < above else (below + above) / 2
        return nearest


@dataclass(frozen=True)
class Solution:
    """The minimiser, its optimality residual, and the number of rounds it took.

    No rounds: gradients and exchanges sufficed, nothing was factorised.
    """

    point: np.ndarray
    residual: float
    rounds: int


@dataclass(frozen=True)
class Quadratic:
    """The matrix Q = M + m 1 1ᵀ.

    What all entries have in common is kept apart: without it, sums of single precision keep two more digits.

    Parameters
    ----------
    matrix : ndarray (n, n)
        M, of single or double precision.
    common : float
        m.
    """

    matrix: np.ndarray
    common: float = 0.0

    def __matmul__(self, point: np.ndarray) -> np.ndarray:
        """Return Q w (n,) in double precision, multiplied in the matrix's own."""
        product = self.matrix @ point.astype(self.matrix.dtype, copy=False)
        return product.astype(np.float64, copy=False) + self.common * point.sum()

    def exact(self) -> Quadratic:
        """Return it in double precision with nothing kept apart."""
        return Quadratic(self.matrix.astype(np.float64) + self.common)


def residual(quadratic: Quadratic, linear: np.ndarray, point: np.ndarray, allowed: BoxBudget) -> float:
    r"""Return :math:`\lVert w - P(w - (Q w - c)) \rVert_\infty`: zero exactly where the KKT conditions hold."""
    return float(np.abs(point - allowed.project(point - (quadratic @ point - linear))).max())


def minimize(quadratic: Quadratic, linear: np.ndarray, allowed: BoxBudget, *, tolerance: float = 1e-9) -> Solution:
    r"""Minimise :math:`\frac12 w^\top Q w - c^\top w` over a box and a budget.

    The constraints that hold with equality are taken as known, the remaining linear system is solved, and constraints
    that turn out wrong are exchanged (Hintermüller, Ito and Kunisch, 2002, algorithm 1.1), first with conjugate
    gradients for the systems: with a ridge of the kernel's size a few dozen products in all. Where that does not
    reach the tolerance (a small ridge, or exchanges that come back), alternating directions (Boyd, Parikh, Chu, Peleato
    and Eckstein, 2011, section 5.2) with one Cholesky factor of Q + ρI, over-relaxed by 1.6, find where exchanges with
    exact systems start anew every 25 steps. The first point that satisfies the optimality conditions is returned, else
    the best one.

    Parameters
    ----------
    quadratic : Quadratic
        Q (n, n), positive definite.
    linear : ndarray (n,)
        c.
    allowed : BoxBudget
        The constraints.
    tolerance : float
        On the residual.
    """
    n = len(linear)
    start = allowed.project(np.clip(np.zeros(n), allowed.low / n, allowed.high / n))

    best = _exchange(quadratic, linear, start, allowed, _by_gradients, tolerance=tolerance, exchanges=_QUICK_EXCHANGES)
    best_residual = residual(quadratic, linear, best, allowed)
    if best_residual <= tolerance:
        return Solution(best, best_residual, 0)
    quadratic = quadratic.exact()
    best = _exchange(quadratic, linear, best, allowed, _by_gradients, tolerance=tolerance, exchanges=_QUICK_EXCHANGES)
    best_residual = residual(quadratic, linear, best, allowed)
    if best_residual <= tolerance:
        return Solution(best, best_residual, 0)
    # Of the size of Q's smallest eigenvalues, which decide how long the tail takes; the large ones need no help.
    penalty = 3 * max(float(np.diag(quadratic.matrix).min()) / 2, 1e-3)
    shifted = quadratic.matrix.copy()
    shifted.flat[:: n + 1] += penalty
    factor = cho_factor(shifted, overwrite_a=True, check_finite=False)
    point, dual, rounds = best, np.zeros(n), 0
    while best_residual > tolerance and rounds < _ROUNDS:
        rounds += 1
        for _ in range(_STEPS):
            solved = cho_solve(factor, linear + penalty * (point - dual), check_finite=False)
            relaxed = 1.6 * solved - 0.6 * point
            point = allowed.project(relaxed + dual)
            dual = dual + relaxed - point
        exchanged = _exchange(quadratic, linear, point, allowed, _by_factor, tolerance=tolerance, exchanges=_EXCHANGES)
        for candidate in (point, exchanged):
            found = residual(quadratic, linear, candidate, allowed)
            if found < best_residual:
                best, best_residual = candidate, found
    return Solution(best, best_residual, rounds)


# The free coordinates and the multiplier of the budget.
_Solved = tuple[np.ndarray, float]


def _exchange(
    quadratic: Quadratic,
    linear: np.ndarray,
    start: np.ndarray,
    allowed: BoxBudget,
    solve: Callable[[Quadratic, np.ndarray, np.ndarray, np.ndarray, float | None, float], _Solved],
    *,
    tolerance: float,
    exchanges: int,
) -> np.ndarray:
    """Return what solves the problem when the active constraints are guessed, the guess mended a few times.

    ``solve(quadratic, linear, start, free, goal, accuracy)`` returns the free coordinates, all others being those of
    `start`, and the multiplier of the whole sum's being `goal` (0 without one); its accuracy tightens from round to
    round, because the first guesses are wrong anyway.
    """
    lower, upper = allowed.lower, allowed.upper
    total = start.sum()
    slack = 1e-9 * max(abs(allowed.high), abs(lower) * len(start), 1.0)
    goal = allowed.low if total <= allowed.low + slack else allowed.high if total >= allowed.high - slack else None
    free = (start > lower) & (start < upper)
    full = start >= upper
    point = start
    accuracy = max(float(np.abs(quadratic @ start - linear).max()) / 100, tolerance / 4)
    for _ in range(exchanges):
        if not free.any():
            break
        point = np.where(free, np.clip(point, lower, upper), np.where(full, upper, lower))
        point[free], multiplier = solve(quadratic, linear, point, free, goal, accuracy)
        gradient = quadratic @ point - linear + multiplier
        low = np.where(free, point < lower, ~full & (gradient >= 0))
        high = np.where(free, point > upper, full & (gradient <= 0))
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
            if accuracy <= tolerance / 4:
                break
            accuracy = tolerance / 4
        accuracy = max(accuracy / 10, tolerance / 4)
        free, full, goal = next_free, high, next_goal
    return allowed.project(point)


def _by_factor(
    quadratic: Quadratic,
    linear: np.ndarray,
    start: np.ndarray,
    free: np.ndarray,
    goal: float | None,
    accuracy: float,
) -> _Solved:
    """Return the solution by a Cholesky factor of an exact Q, as accurate as it gets."""
    factor = cho_factor(quadratic.matrix[np.ix_(free, free)], overwrite_a=True, check_finite=False)
    fixed = start[~free]
    right = linear[free] - quadratic.matrix[np.ix_(free, ~free)] @ fixed
    point = cho_solve(factor, right, check_finite=False)
    if goal is None:
        return point, 0.0
    along = cho_solve(factor, np.ones(len(right)), check_finite=False)
    multiplier = float((point.sum() + fixed.sum() - goal) / along.sum())
    return point - multiplier * along, multiplier


def _by_gradients(
    quadratic: Quadratic,
    linear: np.ndarray,
    start: np.ndarray,
    free: np.ndarray,
    goal: float | None,
    accuracy: float,
) -> _Solved:
    """Return the solution by conjugate gradients from `start`; a sum is kept by directions that sum to zero."""
    point = start.copy()
    if goal is not None:
        point[free] += (goal - start.sum()) / np.count_nonzero(free)
    left = (linear - quadratic @ point)[free]
    multiplier, previous = 0.0, np.inf
    direction = np.zeros(len(start))
    for _ in range(_GRADIENTS):
        multiplier = 0.0 if goal is None else float(left.mean())
        slope = left - multiplier
        size = float(slope @ slope)
        if np.abs(slope).max() <= accuracy:
            break
        direction[free] = slope + (size / previous) * direction[free]
        turned = quadratic @ direction
        length = size / float(direction @ turned)
        point += length * direction
        left -= length * turned[free]
        previous = size
    return point[free], multiplier
