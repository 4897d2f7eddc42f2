"""Maximum likelihood of the proportions of a mixture: at the heart of KLIEP and of label shift."""

from __future__ import annotations

import numpy as np
from scipy.linalg import cholesky, solve_triangular
from scipy.optimize import nnls


def mixture_proportions(
    table: np.ndarray, *, tolerance: float, start: np.ndarray | None = None, max_iterations: int = 200
) -> np.ndarray:
    r"""Return the proportions β (b,) that maximise :math:`\frac1n \sum_j \log (A \beta)_j` on the simplex.

    The same as minimising :math:`-\frac1n \sum_j \log (A \beta)_j + \sum_l \beta_l` over β >= 0, by sequential
    quadratic programming (Kim, Carbonetto, Stephens and Anitescu, 2020, proposition 3.2 and algorithm 1); each
    quadratic model is minimised over β >= 0 exactly, as non-negative least squares. Because the likelihood is concave,
    its distance to the maximum is at most :math:`\max_l \frac1n \sum_j A_{jl} / (A\beta)_j - 1`: that is what
    `tolerance` bounds.

    Parameters
    ----------
    table : ndarray (n, b)
        A: the density of each component at each example; no row is all zero.
    tolerance : float
        On the mean log likelihood, in nats.
    start : ndarray (b,), optional
        Proportions near the answer.
    max_iterations : int
        Of the quadratic models.
    """
    rows, count = table.shape
    proportions = np.full(count, 1 / count) if start is None else 0.9 * start + 0.1 / count
    for _ in range(max_iterations):
        shares = table / (table @ proportions)[:, None]
        pull = shares.mean(axis=0)
        if pull.max() - 1 <= tolerance:
            break
        hessian = shares.T @ shares / rows
        hessian.flat[:: count + 1] += 1e-8 * np.trace(hessian) / count
        # The model's gradient at β is 1 - pull, and H β = pull: its minimiser solves H x = 2 pull - 1 over x >= 0.
        factor = cholesky(hessian, check_finite=False)
        right = solve_triangular(factor, 2 * pull - 1, trans="T", check_finite=False)
        direction = nnls(factor, right, maxiter=30 * count)[0] - proportions
        slope = float((pull - 1) @ direction)
        if slope <= 0:
            break
        current = float(np.log(table @ proportions).mean() - proportions.sum())
        step = 1.0
        while step > 1e-8:
            moved = np.maximum(proportions + step * direction, 0)
            density = table @ moved
            if density.min() > 0 and np.log(density).mean() - moved.sum() >= current + 1e-2 * step * slope:
                break
            step /= 2
        else:
            break
        # A step of expectation maximisation never lowers the likelihood and restores the sum of one.
        moved = moved * (table / density[:, None]).mean(axis=0)
        proportions = moved / moved.sum()
    return proportions
