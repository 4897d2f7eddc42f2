"""Tables of two-valued labels with missing entries."""

from __future__ import annotations

from typing import Any

import numpy as np
from scipy import sparse

from graft._checks import one_of
from graft.errors import DataError


def label_table(labels: Any, rows: int) -> np.ndarray:
    """Return labels as an array (n, labels) or (n,), whatever holds them (a data frame, lists, a sparse indicator
    matrix).

    Raises
    ------
    DataError
        If there is not one row of labels for each example.
    """
    if labels is None:
        raise DataError(
            "y",
            expected="labels (this head requires y to be passed, but the target y is None)",
            found="None",
            remedy="Pass an array (n, labels).",
        )
    table = labels.toarray() if sparse.issparse(labels) else np.asarray(labels)
    if table.ndim not in (1, 2) or len(table) != rows or table.size == 0:
        raise DataError(
            "y",
            expected=f"a table with one row of labels for each of the {rows} examples",
            found=f"an array of shape {table.shape}",
            remedy="Pass one row of labels for each row of X.",
        )
    return table


def missing(table: np.ndarray) -> np.ndarray:
    """Return which entries are NaN or None."""
    if table.dtype.kind == "f":
        return np.isnan(table)
    if table.dtype.kind == "O":
        return np.frompyfunc(lambda value: value is None or value != value, 1, 1)(table).astype(bool)
    return np.zeros(table.shape, dtype=bool)


def encode(columns: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Return the two values (2,), the targets (n, labels) as 0 and 1 (0 where missing), and which are present.

    Raises
    ------
    DataError
        If there are more than two values, or a label has fewer.
    """
    present = ~missing(columns)
    seen = columns[present]
    if seen.dtype.kind == "f" and not np.isfinite(seen).all():
        raise DataError("y", expected="finite labels", found="infinity", remedy="Use NaN for a missing label.")
    values = np.unique(seen)
    if seen.dtype.kind == "O" and all(isinstance(value, bool | int | float) for value in values):
        values = values.astype(np.float64)
    if len(values) > 2:
        continuous = values.dtype.kind == "f" and not np.array_equal(values, np.round(values))
        raise DataError(
            "y",
            expected="two values, the same for all labels",
            found=f"{len(values)} values (Only binary classification is supported. "
            f"The type of the target is {'continuous' if continuous else 'multiclass'}. Unknown label type)",
            remedy="Use LogisticPath for one label with several classes.",
        )
    if len(values) < 2:
        raise DataError(
            "y",
            expected="examples of two values",
            found=f"{len(values)} class" if len(values) else "no label",
            remedy="Add examples of the other value.",
        )
    targets = np.where(present, columns == values[1], False).astype(np.float64)
    positives = (targets * present).sum(axis=0)
    lacking = np.flatnonzero((positives == 0) | (positives == present.sum(axis=0)))
    if len(lacking):
        raise DataError(
            f"y, column {lacking[0]}",
            expected=f"examples of both {values.tolist()[0]!r} and {values.tolist()[1]!r}",
            found="only one of them",
            remedy="Leave this label out, or add examples of the other value.",
        )
    return values, targets, present


def value_weights(class_weight: dict | str, pair: np.ndarray, targets: np.ndarray, weight: np.ndarray) -> np.ndarray:
    """Return the factor (n,) of each example for one label: a weight for each of its two values, or "balanced"."""
    if isinstance(class_weight, str):
        one_of("class_weight", class_weight, ["balanced"])
        totals = np.bincount(targets.astype(int), weights=weight, minlength=2)
        factors = totals.sum() / (2 * totals)
    else:
        factors = np.array([float(class_weight.get(value, 1.0)) for value in pair.tolist()])
    return factors[targets.astype(int)]
