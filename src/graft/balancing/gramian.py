"""Inner products of task gradients: as norms and cosines, in float64, whatever their scale."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import final

import numpy as np
import torch

from graft.errors import RequestError

# Entries of each gradient that are multiplied at once.
_SLICE = 1 << 13


@final
@dataclass(frozen=True, eq=False)
class Inner:
    r"""The inner products of K gradients, :math:`G_{ij} = s^2 n_i n_j C_{ij}`.

    Attributes
    ----------
    scale : float
        s, the largest norm; 1 where all gradients are zero.
    norms : ndarray of shape (K,)
        n, from 0 to 1.
    cosines : ndarray of shape (K, K)
        C; the row and column of a gradient of norm zero are zero.
    rounding : float
        The relative precision of the products.
    """

    scale: float
    norms: np.ndarray
    cosines: np.ndarray
    rounding: float

    @property
    def ridge(self) -> float:
        """What a solver may add to the diagonal of C: as far as rounding may have moved it, and pivots stay apart."""
        return max(1e-12, 4 * self.rounding)

    @property
    def count(self) -> int:
        """K."""
        return len(self.norms)

    @property
    def alive(self) -> np.ndarray:
        """Which gradients are not zero, (K,)."""
        return self.norms > 0

    @property
    def products(self) -> np.ndarray:
        """G / s², (K, K)."""
        return self.norms[:, None] * self.norms * self.cosines

    @property
    def definite(self) -> np.ndarray:
        """C made positive definite, with a diagonal of 1 + ridge, (K, K)."""
        return self.cosines + np.diag(1.0 + self.ridge - np.diagonal(self.cosines))

    def per_length(self, lengths: np.ndarray) -> np.ndarray:
        """Return weights of the gradients (in units of 1 / s) from weights of their directions; 0 for zero ones."""
        return np.divide(lengths, self.norms, out=np.zeros_like(lengths), where=self.alive)


def inner(gramian: torch.Tensor) -> Inner:
    """Return a Gramian as norms and cosines.

    Raises
    ------
    RequestError
        If it is no square matrix of finite numbers with a nonnegative diagonal.
    """
    if gramian.ndim != 2 or gramian.shape[0] != gramian.shape[1] or not gramian.is_floating_point():
        raise RequestError(
            "gramian",
            expected="a matrix (K, K) of floating-point numbers: the inner products of the task gradients",
            found=f"shape {tuple(gramian.shape)} of {gramian.dtype}",
            remedy="Pass gradients @ gradients.T, or call the aggregator with the gradients (K, dim).",
        )
    values = gramian.detach().to("cpu", torch.float64).numpy()
    squares = np.diagonal(values)
    if not np.isfinite(values).all() or (squares < 0).any():
        raise RequestError(
            "gramian",
            expected="finite inner products, with a nonnegative diagonal",
            found="others: a task's gradient is infinite or NaN" if (squares >= 0).all() else "a negative square",
            remedy="Look for the task whose loss is not finite, or lower the learning rate.",
        )
    norms = np.sqrt(squares)
    scale = float(norms.max(initial=0.0)) or 1.0
    # Divided one side at a time: the product of two norms may overflow, or vanish.
    rows = np.where(norms > 0, norms, np.inf)
    cosines = np.clip((values + values.T) / 2 / rows[:, None] / rows, -1.0, 1.0)
    np.fill_diagonal(cosines, norms > 0)
    return Inner(scale, norms / scale, cosines, float(torch.finfo(gramian.dtype).eps))


def gramian_of(rows: Sequence[torch.Tensor]) -> torch.Tensor:
    """Return the inner products of K tensors of one shape, (K, K), in float32 or float64.

    In slices, so that no second copy of the tensors is made. Where squares leave the range of float32, in float64.
    """
    gramian = _summed_products(rows, torch.promote_types(rows[0].dtype, torch.float32))
    squares = gramian.diagonal()
    if rows[0].dtype == torch.float64:
        return gramian
    if bool(((squares > 1e-30) & (squares < 1e37)).all()):
        return gramian.float()
    return _summed_products(rows, torch.float64)


def _summed_products(rows: Sequence[torch.Tensor], dtype: torch.dtype) -> torch.Tensor:
    flat = [row.detach().reshape(-1) for row in rows]
    gramian = torch.zeros(len(rows), len(rows), dtype=torch.float64, device=flat[0].device)
    for start in range(0, len(flat[0]), _SLICE):
        part = torch.stack([row[start : start + _SLICE] for row in flat]).to(dtype)
        gramian += part @ part.T
    return gramian
