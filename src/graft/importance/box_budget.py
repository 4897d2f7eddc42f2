"""Quadratic programs over a box and a budget: the one convex problem of kernel mean matching."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import partial

import numpy as np
from scipy.linalg import cho_factor, cho_solve

_ROUNDS = 40
_STEPS = 25
_EXCHANGES = 8
_SHARPER = 5.0  # so many times smaller than in the exchange before do gradients become
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

    by_gradients = partial(_by_gradients, rough=_Rough.of(quadratic))
    best = _exchange(quadratic, linear, start, allowed, by_gradients, tolerance=tolerance, exchanges=_QUICK_EXCHANGES)
    best_residual = residual(quadratic, linear, best, allowed)
    if best_residual <= tolerance:
        return Solution(best, best_residual, 0)
    quadratic = quadratic.exact()
    best = _exchange(quadratic, linear, best, allowed, by_gradients, tolerance=tolerance, exchanges=_QUICK_EXCHANGES)
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


@dataclass(frozen=True)
class _Guess:
    """Which constraints are taken to hold with equality, and where to begin.

    Parameters
    ----------
    point : ndarray (n,)
        Coordinates that are not free stay as they are here.
    gradient : ndarray (n,) or None
        Q w - c there, if it is known.
    free : ndarray (n,) of bool
        Coordinates to solve for.
    goal : float or None
        What all coordinates are to sum to.
    accuracy : float
        Of the free coordinates' gradient.
    """

    point: np.ndarray
    gradient: np.ndarray | None
    free: np.ndarray
    goal: float | None
    accuracy: float


# The point, its gradient Q w - c, and the multiplier of the budget.
_Solved = tuple[np.ndarray, np.ndarray, float]


def _exchange(
    quadratic: Quadratic,
    linear: np.ndarray,
    start: np.ndarray,
    allowed: BoxBudget,
    solve: Callable[[Quadratic, np.ndarray, _Guess], _Solved],
    *,
    tolerance: float,
    exchanges: int,
) -> np.ndarray:
    """Return what solves the problem when the active constraints are guessed, the guess mended a few times.

    The accuracy of ``solve(quadratic, linear, guess)`` tightens from round to round, because the first guesses are
    wrong anyway.
    """
    lower, upper = allowed.lower, allowed.upper
    total = start.sum()
    slack = 1e-9 * max(abs(allowed.high), abs(lower) * len(start), 1.0)
    goal = allowed.low if total <= allowed.low + slack else allowed.high if total >= allowed.high - slack else None
    free = (start > lower) & (start < upper)
    full = start >= upper
    point, slope = start, quadratic @ start - linear if start.any() else -linear
    accuracy = max(float(np.abs(slope).max()) / 100, tolerance / 4)
    for _ in range(exchanges):
        if not free.any():
            break
        guess = np.where(free, np.clip(point, lower, upper), np.where(full, upper, lower))
        known = slope if np.array_equal(guess, point) else None
        point, slope, multiplier = solve(quadratic, linear, _Guess(guess, known, free, goal, accuracy))
        gradient = slope + multiplier
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
        accuracy = max(accuracy / _SHARPER, tolerance / 4)
        free, full, goal = next_free, high, next_goal
    return allowed.project(point)


def _by_factor(quadratic: Quadratic, linear: np.ndarray, guess: _Guess) -> _Solved:
    """Return the solution by a Cholesky factor of an exact Q, as accurate as it gets."""
    free, fixed = guess.free, guess.point[~guess.free]
    factor = cho_factor(quadratic.matrix[np.ix_(free, free)], overwrite_a=True, check_finite=False)
    right = linear[free] - quadratic.matrix[np.ix_(free, ~free)] @ fixed
    solved, multiplier = cho_solve(factor, right, check_finite=False), 0.0
    if guess.goal is not None:
        along = cho_solve(factor, np.ones(len(right)), check_finite=False)
        multiplier = float((solved.sum() + fixed.sum() - guess.goal) / along.sum())
        solved -= multiplier * along
    point = guess.point.copy()
    point[free] = solved
    return point, quadratic @ point - linear, multiplier


@dataclass(frozen=True)
class _Rough:
    r"""An approximation of Q that is solved at once, :math:`\alpha I + u u^\top / (1^\top u)` with u = Q 1.

    Of a kernel's matrix, whose entries are positive, one direction near u has nearly all the weight (Williams and
    Seeger, 2001, with the constant vector as the only landmark); α is the mean of what is left on the diagonal.
    """

    lead: np.ndarray
    total: float
    rest: float

    @classmethod
    def of(cls, quadratic: Quadratic) -> _Rough:
        lead = quadratic @ np.ones(len(quadratic.matrix))
        total = float(lead.sum())
        trace = float(np.diag(quadratic.matrix).sum(dtype=np.float64)) + quadratic.common * len(lead)
        return cls(lead, total, max(trace - float(lead @ lead) / total, 1e-3 * trace) / len(lead))

    def solver(self, free: np.ndarray) -> Callable[[np.ndarray], np.ndarray]:
        """Return what multiplies by the inverse of its part (free, free)."""
        lead = self.lead[free]
        factor = 1 / (self.rest * self.total + float(lead @ lead))
        return lambda values: (values - lead * (factor * float(lead @ values))) / self.rest


def _by_gradients(quadratic: Quadratic, linear: np.ndarray, guess: _Guess, *, rough: _Rough) -> _Solved:
    """Return the solution by preconditioned conjugate gradients; a sum is kept by directions that sum to zero."""
    point, gradient, free, goal = guess.point.copy(), guess.gradient, guess.free, guess.goal
    if goal is not None:
        missing = goal - point.sum()
        if missing:
            point[free] += missing / np.count_nonzero(free)
            gradient = None
    gradient = quadratic @ point - linear if gradient is None else gradient.copy()
    multiplier, previous = 0.0, np.inf
    direction = np.zeros(len(point))
    inverse = rough.solver(free)
    level = inverse(np.ones(np.count_nonzero(free)))
    for _ in range(_GRADIENTS):
        left = -gradient[free]
        step = inverse(left)
        if goal is not None:
            multiplier = float(step.sum() / level.sum())
            left, step = left - multiplier, step - multiplier * level
        if np.abs(left).max() <= guess.accuracy:
            break
        size = float(left @ step)
        direction[free] = step + (size / previous) * direction[free]
        turned = quadratic @ direction
        length = size / float(direction @ turned)
        point += length * direction
        gradient += length * turned
        previous = size
    return point, gradient, multiplier
