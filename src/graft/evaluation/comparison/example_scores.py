"""What each test example adds to a score, so that a score is a weighted mean under any weights of the examples."""

from __future__ import annotations

from typing import Any

import numpy as np

from graft.data import Task, label_array
from graft.techniques import Predictions
from graft.techniques.technique import label_table


def mean_of_tasks(means: np.ndarray) -> np.ndarray:
    """Return the mean over K tasks of what their labelled examples have on average (...,).

    Parameters
    ----------
    means : array of shape (..., 2 K)
        For each task the mean over all examples of what they add to its score, 0 without a label; then the share of
        the examples that have one.
    """
    total, share = np.split(means, 2, axis=-1)
    known = share > 0
    each = np.divide(total, share, out=np.zeros_like(total), where=known)
    with np.errstate(invalid="ignore"):
        return each.sum(axis=-1) / known.sum(axis=-1)


def known_shares(labels: Any) -> np.ndarray:
    """Return the known cells of each row of a label table (n,), divided by their mean."""
    known = np.isfinite(label_table(np.asarray(labels))).sum(axis=1)
    return known / known.mean()


def score_values(task: Task, labels: Any, found: Predictions) -> np.ndarray:
    r"""Return what each example adds to the score, so that the score is the mean.

    Classification: 1 where the prediction is right. Multi-label: the right cells, divided by the mean number of known
    cells. Regression: :math:`1 - (y_i - \hat y_i)^2 / s^2` with the variance :math:`s^2` of these labels, averaged over
    the outputs, whose mean is R².
    """
    if task.kind == "multilabel":
        table = label_table(np.asarray(labels))
        known = np.isfinite(table)
        assert found.probabilities is not None
        right = ((found.probabilities >= 0.5) == (table == 1)) & known
        return right.sum(axis=1) / known.sum(axis=1).mean()
    if task.kind == "regression":
        truth = np.asarray(labels, np.float64).reshape(len(labels), -1)
        squares = (np.asarray(found.labels, np.float64).reshape(truth.shape) - truth) ** 2
        return (1 - squares / np.maximum(truth.var(axis=0), np.finfo(np.float64).tiny)).mean(axis=1)
    pairs = zip(label_array(labels).ravel().tolist(), np.asarray(found.labels).tolist(), strict=True)
    return np.array([float(one == other) for one, other in pairs])
