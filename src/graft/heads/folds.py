"""Cross-validation folds that depend on what the examples are, not on the order in which they come.

Every example gets a 64-bit identity from its feature values. Equal examples have equal identities, hence they are one
group and never stand on both sides of a split (a duplicate would otherwise be predicted from its twin); and the order
of identities replaces the order of rows, so that a permutation of the rows permutes the folds with them.
"""

from __future__ import annotations

import numpy as np
from scipy import sparse
from scipy.sparse.csgraph import connected_components

from graft._runtime import generator
from graft.errors import DataError
from graft.heads.table import Table

FOLDS = 5
_STEPS = 2.0**30


def identities(features: Table, *, random_state: int | None) -> np.ndarray:
    """Return a 64-bit hash of each row (n,), equal for equal rows.

    Each column is put on a grid of 2^30 steps between its extremes, so that neither units nor origin change the
    result, and the steps q are mixed and summed with random odd multipliers a, modulo 2^64:
    :math:`h = \\sum_j a_j \\, m(q_j)`. Integer sums are exact: the result depends neither on the row's position nor on
    how a sum is split.
    """
    # A seed of None must still give the same folds on each call: heads are deterministic unless seeded otherwise.
    numbers = generator(0 if random_state is None else random_state)
    columns = features.shape[1]
    multipliers = numbers.integers(0, 2**63, size=columns, dtype=np.uint64) * np.uint64(2) + np.uint64(1)
    if sparse.issparse(features):
        table = sparse.csr_matrix(features, copy=True)
        table.sum_duplicates()
        table.eliminate_zeros()
        largest = abs(table).max(axis=0).toarray().ravel().astype(np.float64)
        steps = np.rint(table.data / largest[table.indices] * _STEPS).astype(np.int64).view(np.uint64)
        bounds = np.zeros(len(steps) + 1, dtype=np.uint64)
        np.cumsum(_mixed(steps) * multipliers[table.indices], out=bounds[1:])
        return bounds[table.indptr[1:]] - bounds[table.indptr[:-1]]
    low = features.min(axis=0).astype(np.float64)
    width = features.max(axis=0).astype(np.float64) - low
    scale = np.divide(_STEPS, width, out=np.zeros(columns), where=width > 0)
    result = np.empty(features.shape[0], dtype=np.uint64)
    # A block of rows at a time keeps the integer copy in the cache.
    rows = max(1, 2**18 // max(columns, 1))
    for first in range(0, len(result), rows):
        steps = np.rint((features[first : first + rows] - low) * scale).astype(np.int64).view(np.uint64)
        result[first : first + rows] = (_mixed(steps) * multipliers).sum(axis=1, dtype=np.uint64)
    return result


def _mixed(steps: np.ndarray) -> np.ndarray:
    """Return integers whose sums no longer follow the sums of `steps`; zero stays zero."""
    spread = steps * np.uint64(0x9E3779B97F4A7C15)
    return spread ^ (spread >> np.uint64(29))


def group_codes(identity: np.ndarray, groups: np.ndarray | None) -> np.ndarray:
    """Return a group number for each row (n,): rows with the same identity or the same group are in one group."""
    _, twins = np.unique(identity, return_inverse=True)
    if groups is None:
        return twins
    named = np.asarray(groups)
    if named.shape != (len(identity),):
        raise DataError(
            "groups",
            expected=f"one group for each of the {len(identity)} examples",
            found=f"an array of shape {named.shape}",
            remedy="Pass a one-dimensional array as long as X.",
        )
    _, given = np.unique(named, return_inverse=True)
    if twins.max() + 1 == len(twins):
        return given
    # Rows are edges between their given group and their set of twins: what hangs together is one group.
    vertices = given.max() + 1 + twins.max() + 1
    edges = sparse.coo_matrix((np.ones(len(given)), (given, given.max() + 1 + twins)), shape=(vertices, vertices))
    _, component = connected_components(edges, directed=False)
    return component[given]


def fold_numbers(
    identity: np.ndarray, groups: np.ndarray, codes: np.ndarray | None, *, folds: int = FOLDS
) -> np.ndarray:
    """Return the fold of each row (n,), from 0 to `folds` - 1; -1 for rows that are never held out.

    Groups are dealt out class by class, in the order of their identities, so that each class is spread evenly. The
    only group of a class is never held out: no model could know that class without it.

    Parameters
    ----------
    identity : ndarray (n,)
        From `identities`.
    groups : ndarray (n,)
        From `group_codes`.
    codes : ndarray (n,) of int, optional
        Classes to spread evenly; none for regression.
    folds : int
        How many.
    """
    count = int(groups.max()) + 1
    # A group is known by the smallest identity in it (which copies of a member do not change), and counts for the
    # class that most of its members have (the first of equals).
    name = np.full(count, np.iinfo(np.uint64).max, dtype=np.uint64)
    np.minimum.at(name, groups, identity)
    stratum = np.zeros(count, dtype=np.int64)
    if codes is not None:
        pairs, sizes = np.unique(np.stack([groups, codes], axis=1), axis=0, return_counts=True)
        order = np.lexsort((pairs[:, 1], -sizes, pairs[:, 0]))
        first = np.unique(pairs[order, 0], return_index=True)[1]
        stratum = pairs[order][first, 1]
    order = np.lexsort((name, stratum))
    sorted_stratum = stratum[order]
    starts = np.flatnonzero(np.r_[True, sorted_stratum[1:] != sorted_stratum[:-1]])
    sizes = np.diff(np.r_[starts, count])
    rank = np.arange(count) - np.repeat(starts, sizes)
    # Where dealing starts differs between classes (classes with fewer groups than folds would otherwise all sit in
    # the first folds).
    offset = np.repeat(np.add.reduceat(name[order], starts) % np.uint64(folds), sizes).astype(np.int64)
    dealt = (rank + offset) % folds
    result = np.empty(count, dtype=np.int64)
    result[order] = dealt
    fold = result[groups]
    if codes is None and count < 2:
        fold[:] = -1
    if codes is not None:
        for code in np.flatnonzero(_groups_per_class(groups, codes) < 2):
            fold[np.isin(groups, groups[codes == code])] = -1
    return fold


def _groups_per_class(groups: np.ndarray, codes: np.ndarray) -> np.ndarray:
    pairs = np.unique(np.stack([codes, groups], axis=1), axis=0)
    return np.bincount(pairs[:, 0])
