"""How foreign an input is to the examples a head was fitted on."""

from __future__ import annotations

from typing import Any

import numpy as np
from scipy import sparse

from graft.heads.training_set import TrainingSet, squared_distances

# How many examples are kept as reference, and how many of the nearest are averaged over.
_REFERENCE = 4096
_NEIGHBOURS = 3
_EMBEDDING_COLUMNS = 32


def fit_novelty(training: TrainingSet) -> tuple[np.ndarray | dict[str, Any], np.ndarray]:
    """Return the reference rows (m, d or d + 1), and the sorted scores of the training examples without their group.

    The score of an input is its mean distance to the three nearest reference rows (after Sun, Ming, Zhu and Li, 2022,
    who take the k-th distance of features brought to length 1). In an embedding, 32 or more columns of one unit, the
    direction says what an input is and the length how clear it is: distances are between
    :math:`(z / \\lVert z \\rVert, \\log \\lVert z \\rVert)`, where the logarithm keeps what is far out foreign.
    (Classes left out of the training were told from known ones with an area under the curve of 0.99 so and of 0.85 by
    plain distances, for photos; 0.84 and 0.83 for texts.) In a table an outlier is far out, not turned away: there
    distances are between the scaled features z as they are.

    The training examples' own scores leave out everything of their group: they are scores of inputs that the reference
    does not hold, so that their quantiles are thresholds for chosen false-alarm rates.
    """
    features = training.features.astype(np.float32)
    if not sparse.issparse(features) and is_embedding(training.scale):
        features = _directions(features)
    order = np.argsort(training.identity, kind="stable")
    # One of each set of equal rows is enough; rows in the order of their identities are a random sample.
    _, first = np.unique(training.identity[order], return_index=True)
    chosen = order[first[:_REFERENCE]]
    kept = features[chosen]
    scores = _nearest(features, kept, training.groups, training.groups[chosen])
    if sparse.issparse(kept):
        kept = sparse.csr_matrix(kept)
        return {
            "data": kept.data,
            "indices": kept.indices.astype(np.int64),
            "indptr": kept.indptr.astype(np.int64),
        }, scores
    return np.ascontiguousarray(kept), scores


def novelty_score(features: Any, rows: np.ndarray | dict[str, Any]) -> np.ndarray:
    """Return the mean distance (n,) of scaled features to their nearest reference rows."""
    reference: Any = rows
    if isinstance(rows, dict):
        shape = (len(rows["indptr"]) - 1, features.shape[1])
        reference = sparse.csr_matrix((rows["data"], rows["indices"], rows["indptr"]), shape=shape)
    table = features.astype(np.float32)
    # The reference's extra column says that it holds directions and lengths.
    if not isinstance(rows, dict) and rows.shape[1] == features.shape[1] + 1:
        table = _directions(table.toarray() if sparse.issparse(table) else table)
    return _nearest(table, reference, None, None)


def is_embedding(scale: np.ndarray) -> bool:
    """Return whether columns were scaled by one number, and are many."""
    return len(scale) >= _EMBEDDING_COLUMNS and bool((scale == scale[0]).all())


def _directions(features: np.ndarray) -> np.ndarray:
    """Return each row's direction and the logarithm of its length, (n, d + 1)."""
    lengths = np.maximum(np.sqrt(np.einsum("ij,ij->i", features, features)), 1e-6)[:, None]
    return np.hstack([features / lengths, np.log(lengths)])


def threshold(scores: np.ndarray, rate: float) -> float:
    """Return the score that inputs like the training examples exceed with probability `rate` at most.

    The split-conformal quantile: the ceil((n + 1)(1 - rate))-th smallest of the n scores; infinite where n is too
    small to promise the rate.
    """
    position = int(np.ceil((len(scores) + 1) * (1 - rate) - 1e-9))
    return float("inf") if position > len(scores) else float(scores[max(position, 1) - 1])


def _nearest(features: Any, rows: Any, groups: np.ndarray | None, row_groups: np.ndarray | None) -> np.ndarray:
    count = rows.shape[0]
    result = np.empty(features.shape[0], dtype=np.float64)
    step = max(1, 4_000_000 // max(count, 1))
    for first in range(0, len(result), step):
        part = features[first : first + step]
        if sparse.issparse(part) or sparse.issparse(rows):
            distances = _sparse_distances(part, rows)
        else:
            distances = squared_distances(part, rows)
        if groups is not None and row_groups is not None:
            distances[groups[first : first + step, None] == row_groups[None, :]] = np.inf
        nearest = np.partition(distances, min(_NEIGHBOURS, count) - 1, axis=1)[:, :_NEIGHBOURS]
        finite = np.isfinite(nearest)
        total = np.sqrt(np.where(finite, nearest, 0)).sum(axis=1)
        result[first : first + step] = np.where(finite.any(axis=1), total / np.maximum(finite.sum(axis=1), 1), np.nan)
    return np.sort(result[np.isfinite(result)]) if groups is not None else result


def _sparse_distances(part: Any, rows: Any) -> np.ndarray:
    left, right = sparse.csr_matrix(part), sparse.csr_matrix(rows)
    squares = [np.asarray(table.multiply(table).sum(axis=1)).ravel() for table in (left, right)]
    return np.maximum(squares[0][:, None] + squares[1][None, :] - 2 * (left @ right.T).toarray(), 0)
