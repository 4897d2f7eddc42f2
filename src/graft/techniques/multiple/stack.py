"""Stacking: the head of each task reads the features and what the other tasks' heads say."""

from __future__ import annotations

from typing import Any, final

import numpy as np
from scipy import sparse
from scipy.special import expit, softmax
from sklearn.base import BaseEstimator

from graft.heads.classifier_head import ClassifierHead
from graft.heads.multi_label_head import MultiLabelHead
from graft.heads.regressor_head import RegressorHead

# Probabilities below this are not told apart.
LEAST = 1e-4


@final
class Stack(BaseEstimator):
    r"""Features (n, d) as each task's head reads them: :math:`[x, \; o_k(x), \; z_{-k}(x)]`, or x alone.

    o(x) are the outputs of all tasks' first heads: logarithms of probabilities, logits, or numbers; z(x) are the
    probabilities or numbers, standardised, and :math:`z_{-k}` those of the other tasks. (Probabilities, not their
    logarithms: what is all but excluded is not told apart, and would be the largest part of the variance.)
    `graft.techniques.multiple.fusion` says what a task's second head makes of them, and whether it is better than the
    first one, which reads x alone.

    What the first heads say of the examples that they were fitted to is taken from the folds in which these were left
    out: otherwise the second heads would trust them too much.

    Parameters
    ----------
    first : dict of str to head
        The fitted first head of each task.
    fused : sequence of str
        The tasks that have a second head.

    Attributes
    ----------
    location_, scale_ : dict of str to array
        Mean and deviation of each task's probabilities or numbers among the training examples.

    References
    ----------
    Wolpert (1992), Stacked Generalization. Spyromitros-Xioufis, Tsoumakas, Groves and Vlahavas (2016), Multi-target
    Regression via Input Space Expansion (stacked single-target, corrected by cross-validation).
    """

    def __init__(self, first: dict[str, Any], fused: tuple[str, ...] = ()) -> None:
        self.first = first
        self.fused = fused

    def fit(self, outputs: dict[str, np.ndarray]) -> Stack:
        """Learn the scales from outputs (n, columns) of each task for the same examples."""
        self.location_, self.scale_ = {}, {}
        for name, logits in outputs.items():
            values = _bounded(self.first[name], logits)
            deviation = values.std(axis=0)
            self.location_[name] = values.mean(axis=0)
            self.scale_[name] = np.where(deviation > 1e-9, deviation, np.inf)
        return self

    def others(self, outputs: dict[str, np.ndarray], task: str) -> np.ndarray:
        """Return the standardised outputs (n, columns) of all tasks but one."""
        found = []
        for name, logits in outputs.items():
            if name != task:
                found.append((_bounded(self.first[name], logits) - self.location_[name]) / self.scale_[name])
        return np.concatenate(found, axis=1)

    def representations(self, features: Any) -> dict[str, Any]:
        """Return what the head of each task reads, for features (n, d) of new examples."""
        outputs = {name: signals(head, features) for name, head in self.first.items()} if self.fused else {}
        found = dict.fromkeys(self.first, features)
        for name in self.fused:
            more = np.concatenate([outputs[name], self.others(outputs, name)], axis=1).astype(features.dtype)
            if sparse.issparse(features):
                found[name] = sparse.hstack([features, sparse.csr_matrix(more)], format="csr")
            else:
                found[name] = np.concatenate([features, more], axis=1)
        return found


def signals(head: Any, features: Any) -> np.ndarray:
    """Return the outputs (n, columns) of a head: logarithms of probabilities, logits, or numbers."""
    if isinstance(head, RegressorHead):
        return np.asarray(head.predict(features), dtype=np.float64).reshape(features.shape[0], -1)
    return _logarithms(head, np.asarray(head.predict_proba(features), dtype=np.float64))


def _bounded(head: Any, outputs: np.ndarray) -> np.ndarray:
    """Return the probabilities that outputs of a head stand for; numbers as they are."""
    if isinstance(head, RegressorHead):
        return outputs
    return expit(outputs) if isinstance(head, MultiLabelHead) else np.exp(outputs)


def left_out_signals(head: Any, features: Any, fitted: np.ndarray) -> np.ndarray:
    """Return the outputs (n, columns) of a head for all examples; of those that it was fitted to, without them.

    Parameters
    ----------
    head : head
        Fitted.
    features : array (n, d)
        Of all examples.
    fitted : array of bool (n,)
        Those that it was fitted to, in their order.
    """
    found = signals(head, features)
    scores = head.out_of_fold_
    if scores is None:
        return found
    scores = np.asarray(scores, dtype=np.float64).reshape(int(fitted.sum()), -1)
    if isinstance(head, ClassifierHead):
        scores = _logarithms(head, softmax(scores / head.temperature_, axis=1))
    elif isinstance(head, MultiLabelHead):
        scores = _logarithms(head, expit(scores / head.temperature_))
    found[fitted] = np.where(np.isfinite(scores), scores, found[fitted])
    return found


def _logarithms(head: Any, probabilities: np.ndarray) -> np.ndarray:
    bounded = np.clip(probabilities, LEAST, 1 - LEAST)
    return np.log(bounded) - (np.log1p(-bounded) if isinstance(head, MultiLabelHead) else 0.0)
