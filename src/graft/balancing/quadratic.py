"""Small convex problems on a Gramian: nonnegative quadratic programs, min-norm points, projections on dual cones."""

from __future__ import annotations

import numpy as np

# Rounds of exchanging every wrong variable at once before only one is exchanged, which ends for certain.
_PATIENCE = 4


def nonnegative_minimum(hessian: np.ndarray, linear: np.ndarray) -> np.ndarray:
    r"""Return the minimizers of several quadratic functions with one Hessian on the nonnegative orthant.

    .. math:: x_m = \arg\min_{x \ge 0} \tfrac12 x^\top H x - c_m^\top x

    By principal pivoting: variables are split into free ones (gradient 0) and ones held at 0 (gradient ≥ 0), and those
    that are on the wrong side change sides, all at once while their number falls, else the last of them alone. With
    H positive definite this ends after finitely many exchanges. All problems are solved side by side.

    Parameters
    ----------
    hessian : ndarray of shape (K, K)
        H, positive definite, with a diagonal near 1 (that scale decides what counts as zero).
    linear : ndarray of shape (M, K)
        c.

    Returns
    -------
    ndarray of shape (M, K)
        x.

    References
    ----------
    Júdice and Pires (1994), A block principal pivoting algorithm for large-scale strictly monotone linear
    complementarity problems; Murty (1974), Note on a Bard-type scheme for solving the complementarity problem.
    """
    linear = np.atleast_2d(linear)
    # Each problem in units of its largest coefficient, so that one tolerance fits all.
    units = np.abs(linear).max(axis=1, keepdims=True)
    linear = linear / np.where(units > 0, units, 1.0)
    count, size = linear.shape
    free = np.zeros((count, size), dtype=bool)
    x = np.zeros((count, size))
    gradient = -linear
    fewest = np.full(count, size + 1)
    patience = np.full(count, _PATIENCE)
    places = np.arange(size)
    for _ in range(20 * size + 100):
        tolerance = 1e-11 * np.maximum(1.0, np.abs(x).max(axis=1, keepdims=True))
        wrong = np.where(free, x < -tolerance, gradient < -tolerance)
        number = wrong.sum(axis=1)
        if not number.any():
            return np.where(free, np.maximum(x, 0.0), 0.0) * units
        better = number < fewest
        fewest = np.where(better, number, fewest)
        patience = np.where(better, _PATIENCE, patience - 1)
        last = np.where(wrong, places, -1).max(axis=1)
        alone = places == last[:, None]
        free ^= np.where((patience >= 0)[:, None], wrong, alone & wrong)
        both = free[:, :, None] & free[:, None, :]
        system = np.where(both, hessian, 0.0)
        system[:, places, places] += ~free
        x = np.linalg.solve(system, np.where(free, linear, 0.0)[:, :, None])[:, :, 0]
        gradient = x @ hessian - linear
    # Rounding can keep a variable that belongs to both sides going to and fro: what is left is below that rounding.
    return np.maximum(x, 0.0) * units


def min_norm_weights(gramian: np.ndarray, *, ridge: float) -> np.ndarray:
    r"""Return the weights of the point of least norm in the convex hull of vectors.

    .. math:: w = \arg\min_{w \ge 0,\ 1^\top w = 1} w^\top G w

    The sum of 1 becomes part of the function: minimizers u ≥ 0 of :math:`u^\top G u + s (1^\top u - 1)^2` are multiples
    of w for every s > 0. The unknowns are the lengths :math:`u_i \sqrt{G_{ii}}`, and s the least squared norm, which
    keeps vectors of very different norms apart.

    Parameters
    ----------
    gramian : ndarray of shape (K, K)
        G, positive semi-definite.
    ridge : float
        Added to the diagonal of the matrix of cosines; makes w unique.

    Returns
    -------
    ndarray of shape (K,)
        w.
    """
    norms = np.sqrt(np.maximum(np.diagonal(gramian), 0.0))
    least = norms.min()
    if least <= 1e-150 or least <= 1e-15 * norms.max():
        # A zero vector is a point of the hull.
        zeros = norms <= max(1e-150, 1e-15 * norms.max())
        return zeros / zeros.sum()
    cosines = np.clip(gramian / (norms[:, None] * norms), -1.0, 1.0)
    np.fill_diagonal(cosines, 1.0 + ridge)
    ratios = least / norms
    lengths = nonnegative_minimum(cosines + ratios[:, None] * ratios, ratios)[0]
    weights = lengths * ratios
    return weights / weights.sum()


def dual_cone_weights(cosines: np.ndarray, preferences: np.ndarray) -> np.ndarray:
    r"""Return the weights of the projections of combinations of vectors on the dual cone of those vectors.

    .. math:: v_m = \arg\min_{v \ge p_m} v^\top C v

    The point :math:`\sum_i v_i u_i` is the nearest one to :math:`\sum_i p_i u_i` that has a nonnegative inner product
    with each u.

    Parameters
    ----------
    cosines : ndarray of shape (K, K)
        C, the Gramian of the vectors u, positive definite.
    preferences : ndarray of shape (M, K)
        p.

    Returns
    -------
    ndarray of shape (M, K)
        v.

    References
    ----------
    Quinton and Rey (2024), Jacobian Descent for Multi-Objective Optimization, proposition 1.
    """
    preferences = np.atleast_2d(preferences)
    return preferences + nonnegative_minimum(cosines, -preferences @ cosines)


def no_common_direction(cosines: np.ndarray, *, ridge: float) -> bool:
    """Return whether no direction has a positive product with every vector: their hull contains zero, to rounding."""
    if len(cosines) == 0:
        return True
    weights = min_norm_weights(cosines, ridge=ridge)
    return bool(weights @ cosines @ weights <= 10 * len(cosines) * ridge)
