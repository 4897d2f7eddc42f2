"""The Gaussian kernel of directions: rows of length one, and how alike they are."""

from __future__ import annotations

import numpy as np


def unit_rows(rows: np.ndarray) -> np.ndarray:
    """Return rows of length 1; a row of zeros stays one, and is all there is without a column."""
    if not rows.shape[1]:
        return np.zeros((len(rows), 1))
    lengths = np.linalg.norm(rows, axis=1, keepdims=True)
    return rows / np.where(lengths > 0, lengths, 1)


def direction_kernel(left: np.ndarray, right: np.ndarray) -> np.ndarray:
    r"""Return :math:`\exp(-\lVert a - b \rVert^2 / 2)`, (n, m)."""
    exponent = left @ right.T
    exponent -= np.einsum("ij,ij->i", left, left)[:, None] / 2
    exponent -= np.einsum("ij,ij->i", right, right)[None, :] / 2
    return np.exp(np.minimum(exponent, 0, out=exponent), out=exponent)
