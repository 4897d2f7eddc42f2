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

# How much all that the others say counts beside the features: its variance as a fraction of theirs, rooted.
GAINS = (0.0, 0.3, 1.0, 3.0)
# Probabilities below this are not told apart.
_LEAST = 1e-4


@final
class Stack(BaseEstimator):
    r"""Features (n, d) as each task's head reads them: :math:`[x, \; γ_k s \, z_{-k}(x)]`.

    z(x) are the outputs of all tasks' first heads, standardised: logarithms of probabilities, logits, or numbers;
    :math:`z_{-k}` without task k's own. s makes the variance of z as large as that of the features, and
    :math:`γ_k` is chosen for each task by cross-validation, 0 (the task alone) among its values.

    What the first heads say of the examples that they were fitted to is taken from the folds in which these were left
    out: otherwise the second heads would trust them too much.

    Parameters
    ----------
    first : dict of str to head
        The fitted first head of each task.
    gains : dict of str to float
        γ of each task.

    Attributes
    ----------
    location_, scale_ : dict of str to array
        Mean and deviation of each task's outputs among the training examples; the scale includes s.

    References
    ----------
    Wolpert (1992), Stacked Generalization. Spyromitros-Xioufis, Tsoumakas, Groves and Vlahavas (2016), Multi-target
    Regression via Input Space Expansion, section 3 (stacked single-target, corrected by cross-validation).
    """

    def __init__(self, first: dict[str, Any], gains: dict[str, float]) -> None:
        self.first = first
        self.gains = gains

    def fit(self, features: Any, outputs: dict[str, np.ndarray]) -> Stack:
        """Learn the scales from outputs (n, columns) of each task for features (n, d) of the same examples."""
        columns = max(1, sum(values.shape[1] for values in outputs.values()))
        spread = np.sqrt(_variance(features) / columns)
        self.location_, self.scale_ = {}, {}
        for name, values in outputs.items():
            deviation = values.std(axis=0)
            self.location_[name] = values.mean(axis=0)
            self.scale_[name] = np.where(deviation > 1e-9, deviation, np.inf) / max(spread, 1e-12)
        return self

    def beside(self, features: Any, outputs: dict[str, np.ndarray], task: str, gain: float) -> Any:
        """Return the features with the other tasks' outputs beside them."""
        others = [
            gain * (values - self.location_[name]) / self.scale_[name]
            for name, values in outputs.items()
            if name != task
        ]
        if gain == 0 or not others:
            return features
        more = np.concatenate(others, axis=1)
        if sparse.issparse(features):
            return sparse.hstack([features, sparse.csr_matrix(more.astype(features.dtype))], format="csr")
        return np.concatenate([features, more.astype(features.dtype)], axis=1)

    def representations(self, features: Any) -> dict[str, Any]:
        """Return what the head of each task reads, for features (n, d) of new examples."""
        outputs = {name: signals(head, features) for name, head in self.first.items()}
        return {name: self.beside(features, outputs, name, self.gains[name]) for name in self.first}


def signals(head: Any, features: Any) -> np.ndarray:
    """Return the outputs (n, columns) of a head: logarithms of probabilities, logits, or numbers."""
    if isinstance(head, RegressorHead):
        return np.asarray(head.predict(features), dtype=np.float64).reshape(features.shape[0], -1)
    return _logarithms(head, np.asarray(head.predict_proba(features), dtype=np.float64))


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
    bounded = np.clip(probabilities, _LEAST, 1 - _LEAST)
    return np.log(bounded) - (np.log1p(-bounded) if isinstance(head, MultiLabelHead) else 0.0)


def _variance(features: Any) -> float:
    """Return the sum of the variances of the columns."""
    if sparse.issparse(features):
        square = features.multiply(features).mean(axis=0)
        return float(np.asarray(square).sum() - np.square(np.asarray(features.mean(axis=0))).sum())
    return float(np.asarray(features, dtype=np.float64).var(axis=0).sum())
