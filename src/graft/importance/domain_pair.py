"""The two samples that every method compares: checked, scaled alike, and in an order of their own."""

from __future__ import annotations

from dataclasses import dataclass, replace
from itertools import pairwise
from typing import Any

import numpy as np
import scipy.sparse
from sklearn.utils import check_array
from sklearn.utils.extmath import safe_sparse_dot

from graft.errors import DataError

# Rows of each sample among which distances are measured for the median heuristic.
_MEDIAN_ROWS = 250


@dataclass(frozen=True)
class Scaling:
    """What is done to features before distances are taken: (x - location) / scale, columnwise."""

    location: np.ndarray
    scale: np.ndarray

    def place(self, points: Any, *, subject: str = "points") -> Any:
        """Return a scaled copy of points (n, d); a sparse matrix is scaled but not moved.

        Raises
        ------
        DataError
            If they are not finite numbers in d columns.
        """
        table = checked_table(points, subject)
        if table.shape[1] != len(self.scale):
            raise DataError(
                subject,
                expected=f"{len(self.scale)} columns, as in the source",
                found=f"{table.shape[1]}",
                remedy="Pass features that were made in the same way.",
            )
        if scipy.sparse.issparse(table):
            return scipy.sparse.csr_array(table.multiply(1 / self.scale))
        placed = table - self.location
        placed /= self.scale
        return placed


@dataclass(frozen=True)
class DomainPair:
    """Source features (n_source, d) and target features (n_target, d), scaled alike, and as they were given.

    Distances do not change when both samples are moved, so that sparse features stay sparse. What is drawn or dealt
    goes by the features as given: scaled ones differ in their last digits when the rows are shuffled.
    """

    source: Any
    target: Any
    given_source: Any
    given_target: Any
    scaling: Scaling

    @property
    def sizes(self) -> tuple[int, int]:
        """The numbers of rows: n_source, n_target."""
        return self.source.shape[0], self.target.shape[0]

    def part(self, source_rows: np.ndarray, target_rows: np.ndarray | None = None) -> DomainPair:
        """Return the pair of these rows, scaled as they are; without `target_rows` of the whole target."""
        chosen = replace(self, source=self.source[source_rows], given_source=self.given_source[source_rows])
        if target_rows is None:
            return chosen
        return replace(chosen, target=self.target[target_rows], given_target=self.given_target[target_rows])


def checked_table(table: Any, subject: str) -> Any:
    """Return finite float64 features (n, d), dense or CSR; never a view that is written to."""
    try:
        return check_array(table, accept_sparse="csr", dtype=np.float64)
    except (ValueError, TypeError) as error:
        raise DataError(
            subject,
            expected="a table of finite numbers, a row an example",
            found=str(error).split("\n")[0].rstrip("."),
            remedy="Pass an array of shape (examples, features), without missing values.",
        ) from error


def domain_pair(source: Any, target: Any, *, standardize: bool = True) -> DomainPair:
    """Return both samples, each column divided by its standard deviation about the middle of both domains.

    Both domains count the same for the scale, whatever their sizes; a constant column is left at zero.

    Raises
    ------
    DataError
        If a sample is no table of finite numbers, has fewer than two rows, or they differ in their columns.
    """
    tables = checked_table(source, "source"), checked_table(target, "target")
    for subject, table in zip(("source", "target"), tables, strict=True):
        if table.shape[0] < 2:
            raise DataError(
                subject,
                expected="2 or more examples",
                found=str(table.shape[0]),
                remedy="A distribution cannot be compared by a single example.",
            )
    columns = tables[0].shape[1]
    means, squares = zip(*(_moments(table) for table in tables), strict=True)
    if len(means[1]) != columns:
        raise DataError(
            "target",
            expected=f"{columns} columns, as in the source",
            found=f"{len(means[1])}",
            remedy="Pass features of both domains that were made in the same way.",
        )
    location = (means[0] + means[1]) / 2
    # About the location, not from raw squares: those lose every digit of a column far from zero.
    spread = np.sqrt(sum(squares) / 2 + sum((mean - location) ** 2 for mean in means) / 2)
    scale = np.ones(columns)
    if standardize:
        moving = spread > 1e-10 * np.maximum(np.abs(location), 1e-300)
        scale[moving] = spread[moving]
    scaling = Scaling(location, scale)
    return DomainPair(scaling.place(tables[0]), scaling.place(tables[1]), *tables, scaling)


def _moments(table: Any) -> tuple[np.ndarray, np.ndarray]:
    """Return the mean and the variance of each column."""
    if scipy.sparse.issparse(table):
        mean = np.asarray(table.mean(axis=0)).ravel()
        return mean, np.maximum(np.asarray(table.multiply(table).mean(axis=0)).ravel() - mean**2, 0)
    return table.mean(axis=0), table.var(axis=0)


def squared_distances(left: Any, right: Any) -> np.ndarray:
    """Return the squared Euclidean distances (n, m) between rows, none below zero."""
    product = safe_sparse_dot(left, right.T, dense_output=True)
    product *= -2
    product += squared_norms(left)[:, None]
    product += squared_norms(right)[None, :]
    return np.maximum(product, 0, out=product)


def squared_norms(table: Any) -> np.ndarray:
    """Return the squared norms (n,) of rows."""
    if scipy.sparse.issparse(table):
        return np.asarray(table.multiply(table).sum(axis=1)).ravel()
    return np.einsum("ij,ij->i", table, table)


def gaussian(distances: np.ndarray, bandwidth: float) -> np.ndarray:
    r"""Return :math:`\exp(-d^2 / 2 \sigma^2)` of squared distances."""
    kernel = distances * (-0.5 / bandwidth**2)
    return np.exp(kernel, out=kernel)


def median_distance(pair: DomainPair) -> float:
    """Return the median distance between different examples of either domain; 1 where all are the same.

    Measured on at most 250 rows of each, taken evenly by content.
    """
    rows = [
        table[_even_rows(given, _MEDIAN_ROWS)]
        for table, given in ((pair.source, pair.given_source), (pair.target, pair.given_target))
    ]
    both = scipy.sparse.vstack(rows) if scipy.sparse.issparse(rows[0]) else np.concatenate(rows)
    squared = squared_distances(both, both)
    # Each pair once. Expanding the square leaves rounding errors between equal rows.
    pooled = squared[np.tri(len(squared), k=-1, dtype=bool)]
    pooled = pooled[pooled > 1e-12 * max(float(pooled.max()), 1e-300)]
    if not len(pooled):
        return 1.0
    # As numpy.median, which searches for missing values and orders two places, at ten times the cost.
    middle = len(pooled) // 2
    pooled.partition(middle)
    upper = float(pooled[middle])
    lower = upper if len(pooled) % 2 else float(pooled[:middle].max())
    return float(np.sqrt((lower + upper) / 2))


def _even_rows(table: Any, count: int) -> np.ndarray:
    rows = table.shape[0]
    if rows <= count:
        return np.arange(rows)
    order = np.argsort(content_ranks(table), kind="stable")
    return order[np.linspace(0, rows - 1, count).astype(int)]


def content_ranks(table: Any) -> np.ndarray:
    """Return a number for each row, the same for equal rows, that depends on what is in the table, not on its order.

    What is drawn or dealt by these numbers does not change when the rows are shuffled.
    """
    if scipy.sparse.issparse(table):
        csr = scipy.sparse.csr_array(table)
        csr.sum_duplicates()
        ends = csr.indptr
        keys = [csr.indices[a:b].astype(np.int64).tobytes() + b"|" + csr.data[a:b].tobytes() for a, b in pairwise(ends)]
        rank = {key: number for number, key in enumerate(sorted(set(keys)))}
        return np.array([rank[key] for key in keys])
    order = np.argsort(table[:, 0], kind="stable")
    if (np.diff(table[order, 0]) > 0).all():
        # One column says it all, at a fraction of the cost of comparing whole rows.
        ranks = np.empty(len(order), dtype=int)
        ranks[order] = np.arange(len(order))
        return ranks
    rows = np.ascontiguousarray(table + 0.0)  # + 0.0: -0.0 and 0.0 are one number of two bit patterns
    whole = rows.view(np.dtype((np.void, rows.dtype.itemsize * rows.shape[1]))).ravel()
    return np.unique(whole, return_inverse=True)[1]


def drawn_rows(table: Any, count: int, random_state: int) -> np.ndarray:
    """Return the places of at most `count` rows, drawn by content: the same rows whatever their order."""
    order = np.argsort(content_ranks(table), kind="stable")
    if len(order) > count:
        order = order[np.sort(np.random.default_rng(random_state).permutation(len(order))[:count])]
    return order


def deal_folds(table: Any, folds: int, random_state: int, *, stratum: np.ndarray | None = None) -> np.ndarray:
    """Return the fold of each row (n,): equal rows share one, and the order of the rows does not matter.

    Parameters
    ----------
    table : array or sparse matrix (n, d)
        The rows.
    folds : int
        Their number.
    random_state : int
        Another number deals other folds.
    stratum : array (n,) of bool, optional
        Rows of either kind are spread evenly.
    """
    ranks = content_ranks(table)
    kinds = int(ranks.max()) + 1
    order = np.random.default_rng(random_state).permutation(kinds)
    if stratum is not None:
        share = np.bincount(ranks, weights=stratum, minlength=kinds) / np.bincount(ranks, minlength=kinds)
        order = order[np.argsort(share[order], kind="stable")]
    fold = np.empty(kinds, dtype=int)
    fold[order] = np.arange(kinds) % folds
    return fold[ranks]
