"""Principal coordinates: what of features does not depend on a rotation or a shift."""

from __future__ import annotations

import numpy as np


def eigenpairs(features: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    r"""Return the left singular vectors U (n, r) of features X (n, d) and the squares of the singular values (r,).

    The largest comes first; values that are zero within rounding are left out. The eigenvectors of the smaller of
    :math:`X^\top X` and :math:`X X^\top` are computed.
    """
    rows, columns = features.shape
    wide = columns > rows
    scatter = features @ features.T if wide else features.T @ features
    values, vectors = np.linalg.eigh(scatter)
    values, vectors = values[::-1], vectors[:, ::-1]
    kept = values > max(values[0], 0.0) * np.finfo(np.float64).eps * max(rows, columns)
    values, vectors = values[kept], vectors[:, kept]
    return (vectors if wide else features @ vectors / np.sqrt(values)), values


def principal_coordinates(features: np.ndarray) -> np.ndarray:
    """Return the centred features in their principal axes (n, r), the widest first.

    The sign of each axis, which no decomposition fixes, is the one that makes the sum of the cubed coordinates
    positive: neither the order of the rows nor a rotation changes it. Constant features have no axes (r = 0).
    """
    # Less the first row, columns that are constant are exactly zero: the mean of copies can differ in the last digit.
    moved = features - features[0]
    vectors, values = eigenpairs(moved - moved.mean(axis=0))
    coordinates = vectors * np.sqrt(values)
    return coordinates * np.where((coordinates**3).sum(axis=0) < 0, -1.0, 1.0)
