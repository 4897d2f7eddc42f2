"""What every estimate looks at: features as an array, classes as numbers, targets as columns."""

from __future__ import annotations

from typing import Any

import numpy as np

from graft.errors import DataError


def feature_array(features: Any) -> np.ndarray:
    """Return features as a dense array (n, d) of float64.

    Raises
    ------
    DataError
        If they are no table of at least two rows and one column, or not finite.
    """
    from scipy.sparse import issparse

    dense = features.toarray() if issparse(features) else features
    try:
        array = np.asarray(dense, dtype=np.float64)
    except (TypeError, ValueError):
        array = np.empty(0)
    if array.ndim != 2 or array.shape[0] < 2 or array.shape[1] < 1:
        raise DataError(
            "features",
            expected="a table of numbers (n, d) with 2 rows or more",
            found=f"an array of shape {np.shape(dense)}",
            remedy="Pass a row of features for each example.",
        )
    if not np.isfinite(array).all():
        raise DataError(
            "features",
            expected="finite numbers",
            found=f"{int((~np.isfinite(array)).any(axis=1).sum())} rows with NaN or infinite values",
            remedy="Mend or leave out those examples.",
        )
    return array


def features_and_codes(features: Any, labels: Any) -> tuple[np.ndarray, np.ndarray, int]:
    """Return features (n, d), the class of each example as a number (n,), and how many classes there are.

    Raises
    ------
    DataError
        If the features are not usable, there is not one label for each row, or there is one class only.
    """
    array = feature_array(features)
    given = np.asarray(labels)
    _one_each(given, array, dimensions=(1,))
    try:
        classes, codes = np.unique(given, return_inverse=True)
    except TypeError:
        raise DataError(
            "labels",
            expected="labels of one type",
            found="several types",
            remedy="Write every label the same way, and leave out examples without one.",
        ) from None
    if len(classes) < 2:
        raise DataError(
            "labels",
            expected="2 classes or more",
            found=f"1: {classes.tolist()[0]!r}",
            remedy="Add examples of another class; one class alone cannot be told apart from anything.",
        )
    return array, codes.ravel(), len(classes)


def features_and_targets(features: Any, targets: Any) -> tuple[np.ndarray, np.ndarray]:
    """Return features (n, d) and targets (n, outputs), both of float64.

    Raises
    ------
    DataError
        If either is not usable, or a column of the targets is constant.
    """
    array = feature_array(features)
    try:
        table = np.asarray(targets, dtype=np.float64)
    except (TypeError, ValueError):
        raise DataError(
            "targets", expected="numbers", found="other values", remedy="Pass class labels as a classification."
        ) from None
    _one_each(table, array, dimensions=(1, 2))
    table = table.reshape(len(array), -1)
    constant = np.flatnonzero(np.ptp(table, axis=0) == 0) if np.isfinite(table).all() else np.arange(table.shape[1])
    if len(constant):
        raise DataError(
            "targets",
            expected="finite numbers that differ",
            found=f"column {int(constant[0])} with one value, or with NaN or infinite values",
            remedy="Leave out that column, or those examples.",
        )
    return array, table


def class_means(coordinates: np.ndarray, codes: np.ndarray, classes: int) -> tuple[np.ndarray, np.ndarray]:
    """Return the mean of each class (K, d) and its number of examples (K,)."""
    counts = np.bincount(codes, minlength=classes).astype(np.float64)
    sums = np.zeros((classes, coordinates.shape[1]))
    np.add.at(sums, codes, coordinates)
    return sums / counts[:, None], counts


def _one_each(values: np.ndarray, features: np.ndarray, *, dimensions: tuple[int, ...]) -> None:
    if values.ndim not in dimensions or len(values) != len(features):
        raise DataError(
            "labels",
            expected=f"one for each of the {len(features)} rows of features",
            found=f"an array of shape {values.shape}",
            remedy="Pass features and labels of the same length.",
        )
