"""The generalised eigenproblem of transfer components: solved symmetrically, and only for the wanted components."""

from __future__ import annotations

from collections.abc import Callable
from functools import cached_property, partial
from typing import final

import numpy as np
from scipy.linalg import eigh

# Up to this side a symmetric matrix is decomposed as a whole; above it by a block Krylov method, whose blocks are
# matrix products while a decomposition spends its time in matrix-vector products.
_DENSE_SIDE = 1000
_BLOCK = 32
# A Ritz pair is accepted when its residual is this small beside the smallest wanted eigenvalue: on 4,000 rows of a
# Gaussian kernel the components are then right to six digits, and their eigenvalues to ten.
_TOLERANCE = 1e-5
# Residuals are not asked to be smaller than this many roundings of the largest eigenvalue.
_ROUNDINGS = 10


@final
class ComponentProblem:
    r"""Directions of large variance in which given contrasts of the rows are small.

    With coordinates :math:`F` (n, r) of centred rows and contrasts :math:`E` (n, q), q small,

    .. math:: \max_W \operatorname{tr} W^T F^T F W
        \quad\text{subject to}\quad W^T (F^T E E^T F + \lambda I) W = I

    Its solution is the first k eigenvectors of :math:`F^T F w = \theta (F^T E E^T F + \lambda I) w`, by descending
    :math:`\theta`. The right-hand matrix :math:`B = \lambda I + V V^T` with :math:`V = F^T E = U S Z^T` differs from a
    multiple of the identity in at most q directions, which gives its inverse root at once,

    .. math:: B^{-1/2} = \lambda^{-1/2} (I - U (I - \sqrt{\lambda / (\lambda + S^2)}) U^T),

    and with it a symmetric problem with the same eigenvalues, :math:`B^{-1/2} F^T F B^{-1/2} v = \theta v`,
    :math:`w = B^{-1/2} v`.

    Parameters
    ----------
    coordinates : ndarray (n, r)
        F.
    """

    def __init__(self, coordinates: np.ndarray) -> None:
        self.coordinates = coordinates

    @cached_property
    def _scatter(self) -> np.ndarray:
        return self.coordinates.T @ self.coordinates

    def solve(
        self, contrasts: np.ndarray, *, ridge: float, count: int, start: np.ndarray | None = None
    ) -> tuple[np.ndarray, np.ndarray]:
        """Return W (r, k) and the eigenvalues (k,), descending.

        Parameters
        ----------
        contrasts : ndarray (n, q)
            E.
        ridge : float > 0
            λ.
        count : int
            k; fewer are returned where the rows vary in fewer directions.
        start : ndarray (r, m), optional
            Directions near the solution, for example that of a similar problem; they save time only.
        """
        side = self.coordinates.shape[1]
        count = min(count, side)
        left, singular, _ = np.linalg.svd(self.coordinates.T @ contrasts, full_matrices=False)
        shrunk = (1 - np.sqrt(ridge / (ridge + singular**2)))[:, None]

        def whitened(matrix: np.ndarray) -> np.ndarray:
            inner = shrunk * (left.T @ matrix)
            return (matrix - (left @ inner).astype(matrix.dtype, copy=False)) / matrix.dtype.type(np.sqrt(ridge))

        if side <= _DENSE_SIDE:
            matrix = whitened(whitened(self._scatter).T)
            values, vectors = eigh((matrix + matrix.T) / 2, subset_by_index=(side - count, side - 1))
        else:
            # In single precision, which is twice as fast, to directions near the solution, and from there in double.
            for dtype in (np.float32, np.float64):
                table = self.coordinates.astype(dtype, copy=False)
                values, vectors = _largest(partial(_squared, whitened, table), side, count, start, dtype)
                start = vectors
        values, vectors = values[::-1], vectors[:, ::-1]
        keep = values > max(values[0], 0.0) * np.finfo(np.float64).eps * max(self.coordinates.shape)
        return whitened(vectors[:, keep]), values[keep]


def _squared(whitened: Callable[[np.ndarray], np.ndarray], coordinates: np.ndarray, block: np.ndarray) -> np.ndarray:
    return whitened(coordinates.T @ (coordinates @ whitened(block)))


def _largest(
    operator: Callable[[np.ndarray], np.ndarray], side: int, count: int, start: np.ndarray | None, dtype: type
) -> tuple[np.ndarray, np.ndarray]:
    """Return the `count` largest eigenvalues, ascending, and eigenvectors of a symmetric positive operator.

    Block Krylov with complete reorthogonalisation (Golub and Underwood, 1977) and Rayleigh-Ritz, in the precision that
    is asked for; where a quarter of all directions does not suffice, the matrix is formed and decomposed.
    """
    # Any start that is not orthogonal to a wanted direction gives the same result to the tolerance; it is not drawn
    # from the caller's random state because nothing random is to be seen in the result.
    block: np.ndarray = np.random.default_rng(0).normal(size=(side, _BLOCK)).astype(dtype)
    if start is not None:
        near = (start / np.linalg.norm(start, axis=0)).astype(dtype)
        block = np.concatenate([near, block[:, :16] / dtype(np.sqrt(side))], axis=1)
    # A start may hold the solution already; random directions cannot hold it before there are some more of them.
    enough = 2 * count if start is None else count
    most = max(side // 4, 4 * count) + block.shape[1]
    basis, images = (np.empty((side, most), dtype=dtype, order="F") for _ in range(2))
    small = np.zeros((most, most), dtype=dtype)
    width, epsilon = 0, np.finfo(dtype).eps
    while width + block.shape[1] <= most:
        for _ in range(2):
            block = block - basis[:, :width] @ (basis[:, :width].T @ block)
            block, _ = np.linalg.qr(block)
        image = operator(block)
        before, width = width, width + block.shape[1]
        basis[:, before:width], images[:, before:width] = block, image
        small[:width, before:width] = basis[:, :width].T @ image
        if width >= enough:
            # Only the upper triangle has been filled, and is read.
            values, rotation = eigh(small[:width, :width], lower=False, subset_by_index=(width - count, width - 1))
            allowed = max(_TOLERANCE * values[0], _ROUNDINGS * epsilon * values[-1])
            # The smallest wanted pair is mostly the last to converge: the others are looked at when it has.
            for chosen in (slice(0, 1), slice(None)):
                vectors = basis[:, :width] @ rotation[:, chosen]
                residuals = images[:, :width] @ rotation[:, chosen] - vectors * values[chosen]
                if np.linalg.norm(residuals, axis=0).max() > allowed:
                    break
            else:
                return values, vectors
        block = image
    matrix = operator(np.eye(side, dtype=dtype))
    return eigh((matrix + matrix.T) / 2, subset_by_index=(side - count, side - 1))
