"""Nearest neighbours, each example left out: how far labels agree with those of similar examples."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import numpy as np

from graft._checks import integer
from graft.errors import DataError
from graft.metrics.transferability.labelled_features import feature_array, features_and_codes, features_and_targets

_CELLS = 4_000_000  # of the table of similarities that stands in memory at a time
_EQUAL = 1e-9  # similarities (cosines) that differ by less are equal


def knn_accuracy(features: Any, labels: Any, *, neighbors: int = 5, groups: Any = None) -> float:
    """Return the share of examples whose class most of their nearest neighbours have.

    Nearest by cosine. Each example is left out of its own neighbours, and so are all examples of its group. What is
    equally near shares the votes that are left, and classes with equally many votes share the example, so that nothing
    depends on the order of rows or classes; constant features have the accuracy of guessing the larger class.

    Parameters
    ----------
    features : array of shape (n, d)
        Of n examples.
    labels : array of shape (n,)
        Their classes.
    neighbors : int
        How many vote.
    groups : array of shape (n,), optional
        Examples of one group (pictures of one object) never vote for each other.

    Raises
    ------
    RequestError
        If an option cannot be used.
    DataError
        If the features are no table of finite numbers, there are fewer than two classes, or one group only.

    Examples
    --------
    >>> from sklearn.datasets import load_iris
    >>> from graft.evaluation import knn_accuracy
    >>> X, y = load_iris(return_X_y=True)
    >>> round(knn_accuracy(X, y), 3)
    0.967
    """
    array, codes, classes = features_and_codes(features, labels)
    members = np.eye(classes)[codes]
    right = 0.0
    for rows, votes in _votes(array, neighbors, groups):
        counted = votes @ members
        leading = counted >= counted.max(axis=1, keepdims=True) - _EQUAL
        right += float((leading[np.arange(len(rows)), codes[rows]] / leading.sum(axis=1)).sum())
    return right / len(codes)


def knn_r2(features: Any, targets: Any, *, neighbors: int = 5, groups: Any = None) -> float:
    """Return R² of predicting each example's number by the mean of its nearest neighbours', itself left out.

    Parameters
    ----------
    features : array of shape (n, d)
        Of n examples.
    targets : array of shape (n,) or (n, outputs)
        Numbers; with several outputs, R² is the mean of the outputs'.
    neighbors, groups
        As in `knn_accuracy`.

    Raises
    ------
    RequestError
        If an option cannot be used.
    DataError
        If features or targets are not usable, an output is constant, or there is one group only.

    Examples
    --------
    >>> import numpy as np
    >>> from graft.evaluation import knn_r2
    >>> angle = np.linspace(0, 3, 50)
    >>> knn_r2(np.stack([np.cos(angle), np.sin(angle)], axis=1), angle) > 0.98
    True
    """
    array, table = features_and_targets(features, targets)
    error = np.zeros(table.shape[1])
    for rows, votes in _votes(array, neighbors, groups):
        error += ((votes @ table / votes.sum(axis=1, keepdims=True) - table[rows]) ** 2).sum(axis=0)
    return float((1 - error / ((table - table.mean(axis=0)) ** 2).sum(axis=0)).mean())


def _votes(features: np.ndarray, neighbors: int, groups: Any) -> Iterator[tuple[np.ndarray, np.ndarray]]:
    """Yield rows (b,) and the votes (b, n) of all examples for each of them."""
    wanted = integer("neighbors", neighbors, low=1)
    array = feature_array(features)
    count = len(array)
    _, group = np.unique(np.arange(count) if groups is None else np.asarray(groups, dtype=str), return_inverse=True)
    if len(group) != count or group.max() == 0:
        raise DataError(
            "groups",
            expected=f"a group for each of the {count} examples, and 2 groups or more",
            found=f"{len(group)} values, {int(group.max()) + 1} groups",
            remedy="Pass a group for each example, or none.",
        )
    length = np.linalg.norm(array, axis=1, keepdims=True)
    unit = np.divide(array, length, out=np.zeros_like(array), where=length > 0)
    for start in range(0, count, max(1, _CELLS // count)):
        rows = np.arange(start, min(count, start + max(1, _CELLS // count)))
        similarity = unit[rows] @ unit.T
        own = group[rows][:, None] == group
        similarity[own] = -np.inf
        # An example with a large group has fewer others than it may ask.
        asked = np.minimum(wanted, count - own.sum(axis=1))
        ranked = -np.partition(-similarity, min(wanted, count) - 1, axis=1)[:, : min(wanted, count)]
        ranked = -np.sort(-ranked, axis=1)
        last = ranked[np.arange(len(rows)), asked - 1][:, None]
        nearer = similarity > last + _EQUAL
        tied = ~own & ~nearer & (similarity >= last - _EQUAL)
        left = asked - nearer.sum(axis=1)
        yield rows, nearer + tied * (left / tied.sum(axis=1))[:, None]
