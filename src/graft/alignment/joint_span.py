"""The span of both domains' examples, outside of which nothing is known of either."""

from __future__ import annotations

import numpy as np
from scipy.linalg import qr


def joint_span(source: np.ndarray, target: np.ndarray) -> np.ndarray | None:
    """Return an orthonormal basis (d, r) of the span of centred rows (n_s, d) and (n_t, d); None: all directions.

    Covariances of d columns that come from fewer than d examples are zero, or what is added to their diagonal, on all
    directions but r <= n_s + n_t: matrices of r rows then say all that matrices of d rows would.
    """
    if len(source) + len(target) >= source.shape[1]:
        return None
    basis, _ = qr(np.concatenate([source, target]).T, mode="economic")
    return basis


def within(basis: np.ndarray | None, centred: np.ndarray) -> np.ndarray:
    """Return rows (n, d) in the coordinates of a basis, (n, r)."""
    return centred if basis is None else centred @ basis


def widened(basis: np.ndarray | None, inner: np.ndarray, outside: float) -> np.ndarray:
    """Return the matrix (d, d) that is `inner` on the span of a basis, and `outside` times a direction out of it."""
    if basis is None:
        return inner
    matrix = basis @ (inner - outside * np.eye(len(inner))) @ basis.T
    matrix[np.diag_indices(len(basis))] += outside
    return matrix
