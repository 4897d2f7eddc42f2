"""What heads fitted on the same examples share: scaled features, weights, folds and decompositions."""

from __future__ import annotations

from dataclasses import dataclass, replace
from functools import cached_property

import numpy as np
from scipy import sparse

from graft.errors import DataError
from graft.heads.folds import fold_numbers, group_codes, identities
from graft.heads.table import Table

# Above this many values a computation runs in float32, below it in float64: small problems get exactness, large ones
# speed.
_FLOAT64_VALUES = 200_000
# Sparse tables up to this many cells are made dense (160 MB as float64), larger ones stay sparse.
DENSE_CELLS = 20_000_000
# Column scales further apart than this make a table; embeddings, whose columns have one unit, stay well below.
_TABLE_SPREAD = 30.0


@dataclass(frozen=True)
class Spectrum:
    """Coordinates of the scaled features in the eigenbasis of their scatter: z = x V.

    Attributes
    ----------
    coordinates : ndarray (n, r)
    basis : ndarray (d, r)
    """

    coordinates: np.ndarray
    basis: np.ndarray


@dataclass(frozen=True)
class TrainingSet:
    """Examples ready for any head.

    Attributes
    ----------
    features : ndarray (n, d) or sparse matrix
        (X - location) / scale: centred (unless sparse), and of mean squared norm 1.
    location : ndarray (d,)
    scale : ndarray (d,)
    weight : ndarray (n,)
        Positive; an integer weight means as many copies.
    groups : ndarray (n,)
        Rows of one group are held out together.
    identity : ndarray (n,)
        A hash of each row.
    fold : ndarray (n,)
        -1 where a row is never held out.
    codes : ndarray (n,) of int, or None
        Classes, 0 to `classes` - 1.
    classes : int
        0 for regression.
    targets : ndarray (n, outputs) or None
        Of a regression.
    """

    features: Table
    location: np.ndarray
    scale: np.ndarray
    weight: np.ndarray
    groups: np.ndarray
    identity: np.ndarray
    fold: np.ndarray
    codes: np.ndarray | None
    classes: int
    targets: np.ndarray | None

    @property
    def rows(self) -> int:
        """n."""
        return self.features.shape[0]

    @property
    def held_out(self) -> np.ndarray:
        """Which rows are held out by some fold, (n,) of bool."""
        return self.fold >= 0

    @property
    def can_cross_validate(self) -> bool:
        """Whether any row can be held out."""
        return bool(self.held_out.any())

    def sample(self, size: int) -> np.ndarray:
        """Return at most `size` rows that stand for all: in the order of identities, each class in turn."""
        order = np.argsort(self.identity, kind="stable")
        if self.codes is not None:
            by_class = order[np.argsort(self.codes[order], kind="stable")]
            sizes = np.bincount(self.codes, minlength=self.classes)
            # Position within the class, as a fraction: the first m of all rows hold every class in its proportion.
            share = (np.arange(self.rows) - np.repeat(np.cumsum(sizes) - sizes, sizes) + 0.5) / np.repeat(sizes, sizes)
            order = by_class[np.argsort(share, kind="stable")]
        return order[:size]

    def subset(self, rows: np.ndarray) -> TrainingSet:
        """Return the training set of some rows, scaled as the whole."""
        return replace(
            self,
            features=self.features[rows],
            weight=self.weight[rows],
            groups=self.groups[rows],
            identity=self.identity[rows],
            fold=self.fold[rows],
            codes=None if self.codes is None else self.codes[rows],
            targets=None if self.targets is None else self.targets[rows],
        )

    @cached_property
    def one_hot(self) -> np.ndarray:
        """Class indicators (n, K) in the precision of the features."""
        assert self.codes is not None
        table = np.zeros((self.rows, self.classes), dtype=self.features.dtype)
        table[np.arange(self.rows), self.codes] = 1
        return table

    @cached_property
    def dense(self) -> np.ndarray:
        """The features as a dense array.

        Raises
        ------
        DataError
            If they are a sparse table that is too large to be made dense.
        """
        if not sparse.issparse(self.features):
            return self.features
        raise DataError(
            "X",
            expected=f"a dense array, or a sparse one of at most {DENSE_CELLS:,} cells, for this head",
            found=f"a sparse table of {self.rows:,} x {self.features.shape[1]:,}",
            remedy="Use the logistic head (classification) or the ridge head (regression), which keep it sparse.",
        )

    @cached_property
    def spectrum(self) -> Spectrum | None:
        """The eigenbasis, of at most min(n, d) directions; None for a sparse table with many rows and columns."""
        rows, columns = self.features.shape
        if sparse.issparse(self.features) and min(rows, columns) > 3000:
            return None
        if columns <= rows:
            scatter = _product(self.features.T, self.features)
            values, vectors = symmetric_eigen(scatter)
            keep = _numerical_rank(values, max(rows, columns))
            basis = vectors[:, keep]
            return Spectrum(np.asarray(self.features @ basis), basis)
        values, vectors = symmetric_eigen(_product(self.features, self.features.T))
        keep = _numerical_rank(values, max(rows, columns))
        roots = np.sqrt(values[keep])
        basis = np.asarray(self.features.T @ (vectors[:, keep] / roots))
        return Spectrum(vectors[:, keep] * roots, basis)

    @cached_property
    def squared_distances(self) -> np.ndarray:
        """Squared Euclidean distances (n, n) between the scaled features."""
        return squared_distances(self.dense, self.dense)


def prepare(
    features: Table,
    *,
    weight: np.ndarray,
    groups: np.ndarray | None,
    codes: np.ndarray | None,
    classes: int,
    targets: np.ndarray | None,
    scaling: str,
    random_state: int | None,
) -> TrainingSet:
    """Return the training set of validated examples, all of positive weight."""
    identity = identities(features, random_state=random_state)
    group = group_codes(identity, groups)
    fold = fold_numbers(identity, group, codes)
    precision = np.float64 if features.shape[0] * features.shape[1] <= _FLOAT64_VALUES else np.float32
    if sparse.issparse(features) and features.shape[0] * features.shape[1] <= DENSE_CELLS:
        features = features.toarray()
    location, scale = location_and_scale(features, weight, scaling=scaling)
    scaled = apply_scaling(features, location, scale).astype(precision, copy=False)
    return TrainingSet(scaled, location, scale, weight, group, identity, fold, codes, classes, targets)


def location_and_scale(features: Table, weight: np.ndarray, *, scaling: str) -> tuple[np.ndarray, np.ndarray]:
    r"""Return the location and scale (d,) of each column, so that the scaled features have mean squared norm 1.

    ``"global"`` divides by one number, :math:`\sqrt{\sum_j v_j}` with the column variances v, and keeps the geometry
    of an embedding; ``"columns"`` divides column j by :math:`\sqrt{v_j d}`, right where columns have units of their
    own; ``"auto"`` takes the latter when the columns' standard deviations lie more than a factor of 30 apart (15th to
    85th percentile over the columns that vary); ``"none"`` leaves everything as it is. A sparse table is not centred.
    """
    columns = features.shape[1]
    if scaling == "none":
        return np.zeros(columns), np.ones(columns)
    share = weight / weight.sum()
    if sparse.issparse(features):
        mean = np.asarray(features.T @ share)
        variance = np.asarray(features.multiply(features).T @ share)
        location = np.zeros(columns)
    else:
        # Weighted sums in float64, with a shift by the first row against cancellation.
        shift = features[0].astype(np.float64)
        moved = features - shift.astype(features.dtype)
        mean = share.astype(moved.dtype) @ moved
        centred = moved - mean
        variance = np.einsum("i,ij,ij->j", share, centred, centred, dtype=np.float64)
        location = shift + mean
    deviation = np.sqrt(variance)
    magnitude = np.maximum(np.abs(location), deviation)
    varying = deviation > 1e-7 * np.maximum(magnitude, np.finfo(np.float64).tiny)
    if not varying.any():
        return location, np.ones(columns)
    # Of few examples, units of a network that are nearly silent lie far below the others; dividing by what they happen
    # to vary by would blow up new examples. 10 to 600 photos: factor 24 to 6; the 11 columns of a table of wines: 60.
    low, high = np.percentile(deviation[varying], [15, 85])
    if scaling == "columns" or (scaling == "auto" and not sparse.issparse(features) and high > _TABLE_SPREAD * low):
        scale = np.where(varying, deviation, 1.0) * np.sqrt(np.count_nonzero(varying))
        # A constant column says nothing; dividing by infinity removes it for good.
        return location, np.where(varying, scale, np.inf)
    return location, np.full(columns, np.sqrt(variance[varying].sum()))


def apply_scaling(features: Table, location: np.ndarray, scale: np.ndarray) -> Table:
    """Return (X - location) / scale; a sparse table stays sparse where the location is zero."""
    if not sparse.issparse(features):
        return (features - location.astype(features.dtype)) / scale.astype(features.dtype)
    if location.any():
        return apply_scaling(features.toarray(), location, scale)
    return sparse.csr_matrix(features.multiply(1 / scale))


def squared_distances(left: np.ndarray, right: np.ndarray) -> np.ndarray:
    """Return squared Euclidean distances (a, b), never negative, exactly zero on a set's own diagonal."""
    result = left @ right.T
    result *= -2
    result += np.einsum("ij,ij->i", left, left)[:, None]
    result += np.einsum("ij,ij->i", right, right)[None, :]
    np.maximum(result, 0, out=result)
    if left is right:
        np.fill_diagonal(result, 0)
    return result


def symmetric_eigen(matrix: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Return ascending eigenvalues and eigenvectors of a symmetric matrix (in torch: about twice NumPy's speed)."""
    import torch

    values, vectors = torch.linalg.eigh(torch.from_numpy(np.ascontiguousarray(matrix)))
    return values.numpy(), vectors.numpy()


def _numerical_rank(values: np.ndarray, side: int) -> np.ndarray:
    return values > values[-1] * np.finfo(values.dtype).eps * side


def _product(left: Table, right: Table) -> np.ndarray:
    result = left @ right
    return result.toarray() if sparse.issparse(result) else result
