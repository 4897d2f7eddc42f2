"""Target risk from labelled source examples: by weighting them, or by going to the target and back."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import numpy as np

from graft._checks import integer, one_of
from graft.errors import RequestError
from graft.metrics.target_risk import RiskScore, check_probabilities, check_same_length

LOSSES = ("error", "log-loss", "squared-error")
# A mean of fewer examples than this has a standard error of up to 0.16 in accuracy: no candidates are told apart by it.
_FEWEST_EFFECTIVE = 10


def example_losses(labels: Any, answers: Any, *, loss: str = "error", classes: Any = None) -> np.ndarray:
    r"""Return the loss of each labelled example, (n,).

    ``"error"``: :math:`1[\hat y_i \ne y_i]`; ``"log-loss"``: :math:`-\log p_{i,y_i}` in nats, of probabilities no
    smaller than :math:`10^{-12}`; ``"squared-error"``: :math:`\lVert y_i - \hat y_i \rVert^2`.

    Parameters
    ----------
    labels : array (n,) or (n, outputs)
        The truth.
    answers : array
        Predicted labels (n,) for the error, probabilities (n, K) for the log loss, numbers shaped like the labels for
        the squared error.
    loss : {"error", "log-loss", "squared-error"}
        Which one.
    classes : array (K,)
        The class of each column, for the log loss.

    Raises
    ------
    RequestError
        If shapes do not agree, or a label is not among the classes.
    """
    one_of("loss", loss, LOSSES)
    truth = np.asarray(labels)
    if loss == "log-loss":
        names = np.asarray(classes)
        table = check_probabilities("answers", answers)
        check_same_length("answers", len(table), len(truth))
        hit = truth[:, None] == names[None, :]
        if hit.shape != table.shape or not hit.any(axis=1).all():
            raise RequestError(
                "classes",
                expected=f"the class of each of the {table.shape[1]} columns, every label among them",
                found=f"{len(names)} classes",
                remedy="Pass the model's classes_ and examples of those classes.",
            )
        return -np.log(np.clip(table[np.arange(len(truth)), hit.argmax(axis=1)], 1e-12, 1.0))
    guess = np.asarray(answers)
    if guess.shape != truth.shape:
        raise RequestError(
            "answers",
            expected=f"shape {truth.shape}, as the labels have",
            found=str(guess.shape),
            remedy="Pass one answer for each label.",
        )
    if loss == "error":
        return (guess != truth).astype(np.float64)
    squares = (guess.astype(np.float64) - truth.astype(np.float64)) ** 2
    return squares if squares.ndim == 1 else squares.sum(axis=1)


def importance_weighted_validation(losses: Any, sample_weight: Any, *, name: str = "importance-weighted") -> RiskScore:
    r"""Return the target risk as the weighted mean of losses on held-out source examples.

    .. math:: \hat R = \frac{\sum_i w_i \ell_i}{\sum_i w_i}, \qquad w_i = p_T(x_i) / p_S(x_i)

    The paper divides by n. The ratio of sums is as consistent (true weights have mean one), never leaves the range of
    the losses, and varies less where the weights do. It is blind to changes of p(y | x), and says nothing (NaN) where
    the weights leave fewer than ten effective examples, :math:`(\sum w)^2 / \sum w^2`: the domains do not overlap.

    Parameters
    ----------
    losses : array (n,)
        Of source examples that the model was not fitted on (`example_losses`): error, log loss or squared error.
    sample_weight : array (n,)
        Density ratios of the same examples, estimated without them (cross-fitted).
    name : str
        Of the score, where several losses are weighted.

    Raises
    ------
    RequestError
        If lengths differ, a weight is negative, or all are zero.

    References
    ----------
    Sugiyama, Krauledat and Müller (2007), Covariate Shift Adaptation by Importance Weighted Cross Validation.

    Examples
    --------
    >>> from graft.metrics import importance_weighted_validation
    >>> importance_weighted_validation([0.0, 1.0] * 10, [3.0, 1.0] * 10).value
    0.25
    """
    loss, weight = _weighted(losses, sample_weight)
    value = weight @ loss / weight.sum() if _overlap(weight) else math.nan
    return RiskScore(name, float(value), False, "weighted source")


def deep_embedded_validation(losses: Any, sample_weight: Any) -> RiskScore:
    r"""Return DEV: importance-weighted validation with the weights as a control variate.

    .. math:: \hat R = \overline{w\ell} + \eta\,(\overline{w} - 1), \qquad
        \eta = -\frac{\operatorname{Cov}(w\ell, w)}{\operatorname{Var}(w)}

    True density ratios have expectation one; what their sample mean misses of it, the losses' mean misses alike, and η
    takes it back. Hence the weights must *not* be rescaled to mean one: on such weights DEV is the plain weighted mean.
    Where importance-weighted validation says nothing, nor does DEV.

    Parameters
    ----------
    losses, sample_weight : array (n,)
        As in `importance_weighted_validation`. The paper estimates the weights in the space of each model's features.

    References
    ----------
    You, Wang, Long and Jordan (2019), Towards Accurate Model Selection in Deep Unsupervised Domain Adaptation.
    """
    loss, weight = _weighted(losses, sample_weight)
    if not _overlap(weight):
        return RiskScore("dev", math.nan, False, "weighted source")
    weighted = weight * loss
    spread = float(weight.var())
    # The variance of equal weights is rounding, and carries no correction.
    eta = 0.0
    if spread > 1e-12 * weight.mean() ** 2:
        eta = -float(np.mean((weighted - weighted.mean()) * (weight - weight.mean()))) / spread
    return RiskScore("dev", float(weighted.mean() + eta * (weight.mean() - 1)), False, "weighted source")


def reverse_validation(
    fit: Callable[[np.ndarray, np.ndarray, np.ndarray], Callable[[np.ndarray], np.ndarray]],
    source_features: Any,
    source_labels: Any,
    target_features: Any,
    *,
    loss: str = "error",
    folds: int = 3,
    random_state: int = 0,
) -> RiskScore:
    """Return the loss after the way there and back: adapt, label the target, adapt back, compare on held-out source.

    Of each fold, the rest of the source is adapted to the target, whose predicted labels then teach a model for the
    source; its loss is taken on the fold. The paper takes the accuracy on all of the source; held-out examples keep
    models that memorise from being right by memory (so Ganin et al., 2016).

    Parameters
    ----------
    fit : callable
        ``fit(features, labels, other_features)`` adapts labelled features to the other domain and returns
        ``predict(features)`` for examples of that other domain.
    source_features, source_labels, target_features : array
        (n_source, d), (n_source,), (n_target, d).
    loss : {"error", "squared-error"}
        For classes, or for numbers.
    folds : int
        The source is dealt into so many parts, classes in equal shares.
    random_state : int
        Deals them.

    References
    ----------
    Zhong, Fan, Yang, Verscheure and Ren (2010), Cross Validation Framework to Choose amongst Models and Datasets for
    Transfer Learning.
    """
    from sklearn.model_selection import KFold, StratifiedKFold

    one_of("loss", loss, ("error", "squared-error"))
    source, labels = np.asarray(source_features), np.asarray(source_labels)
    target = np.asarray(target_features)
    integer("folds", folds, low=2, high=len(source))
    stratified = loss == "error" and np.unique(labels, return_counts=True)[1].min() >= folds
    dealer = (StratifiedKFold if stratified else KFold)(folds, shuffle=True, random_state=random_state)
    losses = []
    for rest, held_out in dealer.split(source, labels):
        pseudo = np.asarray(fit(source[rest], labels[rest], target)(target))
        if loss == "error" and len(np.unique(pseudo)) < 2:
            # Nothing can be learnt from one class; the circle answers with it.
            back = np.full(len(held_out), pseudo[0])
        else:
            back = np.asarray(fit(target, pseudo, source[rest])(source[held_out]))
        losses.append(example_losses(labels[held_out], back, loss=loss))
    return RiskScore("reverse-validation", float(np.concatenate(losses).mean()), False, "circle")


def _weighted(losses: Any, sample_weight: Any) -> tuple[np.ndarray, np.ndarray]:
    loss, weight = np.asarray(losses, dtype=np.float64), np.asarray(sample_weight, dtype=np.float64)
    check_same_length("sample_weight", len(weight), len(loss))
    if not (np.isfinite(weight).all() and (weight >= 0).all() and weight.sum() > 0):
        raise RequestError(
            "sample_weight",
            expected="weights of zero or more, not all zero",
            found=f"values from {weight.min():g} to {weight.max():g}",
            remedy="Pass density ratios p_target / p_source, such as those of graft.importance.",
        )
    return loss, weight


def _overlap(weight: np.ndarray) -> bool:
    return bool(weight.sum() ** 2 >= _FEWEST_EFFECTIVE * (weight @ weight))
