"""What the heads of other tasks add to what a task's own head says."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from scipy.optimize import minimize
from scipy.special import expit, logsumexp, softmax

from graft.techniques.material import Material

# λ, for columns of variance 1 and a sum of losses over examples.
STRENGTHS = (3.0, 10.0, 30.0, 100.0, 300.0, 1000.0)
FOLDS = 10
# Of the held-out likelihood: with half of it or more on the head alone, that is served.
_ENOUGH = 0.5


@dataclass(frozen=True, eq=False)
class Fusion:
    """B (columns, outputs) and b (outputs,): what is added to the own head's outputs; the share of each λ in them."""

    coefficients: np.ndarray
    intercept: np.ndarray
    shares: dict[float, float]


def fuse(
    kind: str,
    own: np.ndarray,
    columns: np.ndarray,
    targets: np.ndarray,
    weight: np.ndarray,
    seed: int,
    *,
    groups: np.ndarray | None = None,
) -> Fusion | None:
    r"""Return what columns add to outputs of a head, or None where they add nothing.

    .. math:: B_\lambda, b_\lambda = \arg\min_{B, b} \sum_i w_i \, \ell(y_i, \; o_i + z_i B + b)
        + \tfrac{\lambda}{2} \lVert B \rVert^2, \qquad
        B = \sum_\lambda p_\lambda B_\lambda, \quad p_\lambda \propto \exp \Bigl(-\sum_i w_i \, \ell_i(\lambda)\Bigr)

    with ℓ the cross-entropy, the logistic loss of each label, or the squared error over twice the head's own mean
    squared error; w has mean 1. The held-out losses ℓ(λ) are those of cross-validation, and the head alone (λ = ∞,
    B = 0) takes part in the sum. Weighing the strengths instead of choosing one matters where labels are few: the best
    of noisy losses is often one that was lucky (pseudo-BMA).

    Parameters
    ----------
    kind : {"classification", "multilabel", "regression"}
        Of the task.
    own : array of shape (n, outputs)
        o, for examples that the head was not fitted to: logarithms of probabilities, logits, or numbers.
    columns : array of shape (n, columns)
        z, standardised.
    targets : array of shape (n, outputs)
        y: 1 for the class of an example; 0, 1 or NaN for labels; numbers of variance 1.
    weight : array of shape (n,)
        w, of any scale.
    seed : int
        Deals the folds.
    groups : array of shape (n,), optional
        Examples of one group are never divided by a fold.

    References
    ----------
    Yao, Vehtari, Simpson and Gelman (2018), Using Stacking to Average Bayesian Predictive Distributions (pseudo-BMA).
    """
    count = len(own)
    weight = weight * (count / weight.sum())
    names, unit_of = (None, np.arange(count)) if groups is None else np.unique(groups.astype(str), return_inverse=True)
    units = count if names is None else len(names)
    if units < 2:
        return None
    fold = np.random.default_rng(seed).permutation(np.arange(units) % min(FOLDS, units))[unit_of]
    alone = float(weight @ _losses(kind, own, targets))
    if not alone > 0:
        return None
    unit = alone / count if kind == "regression" else 0.5
    evidence = [-alone / (2 * unit)]
    for strength in STRENGTHS:
        predicted = np.empty_like(own)
        for number in range(fold.max() + 1):
            rest, left = fold != number, fold == number
            added, shift = _solved(kind, own[rest], columns[rest], targets[rest], weight[rest], strength)
            predicted[left] = own[left] + columns[left] @ added + shift
        evidence.append(-float(weight @ _losses(kind, predicted, targets)) / (2 * unit))
    found = softmax(evidence)
    if found[0] >= _ENOUGH:
        return None
    shares = dict(zip(STRENGTHS, found[1:].tolist(), strict=True))
    coefficients, intercept = np.zeros((columns.shape[1], own.shape[1])), np.zeros(own.shape[1])
    for strength, share in shares.items():
        added, shift = _solved(kind, own, columns, targets, weight, strength)
        coefficients += share * added
        intercept += share * shift
    return Fusion(coefficients, intercept, shares)


def second_layer(
    task: Material, head: Any, rows: np.ndarray, width: int, own: np.ndarray, others: np.ndarray, seed: int
) -> Any:
    """Return the linear layer of a task on `Stack`'s representation, or None where its first head is as good.

    Parameters
    ----------
    task : Material
        The task.
    head : head
        Its first head.
    rows : array of bool
        The examples that it was fitted to, m of all.
    width : int
        d, of the features.
    own, others : array of shape (m, columns)
        What the first heads say of those examples, each left out.
    seed : int
        Deals the folds.
    """
    if head.out_of_fold_ is None:
        return None
    targets = task.found.targets[rows]
    places, outputs, scale = np.arange(own.shape[1]), own.shape[1], 1.0
    if task.kind == "classification":
        places = np.flatnonzero(np.isin(np.asarray(task.found.task.classes), head.classes_))
        outputs = len(task.found.task.classes)
        targets = (np.asarray(targets)[:, None] == np.asarray(head.classes_)[None]).astype(np.float64)
    else:
        targets = np.asarray(targets, dtype=np.float64).reshape(len(own), -1)
    if task.kind == "regression":
        scale = float(targets.std())
        targets = targets / scale
    weight = task.found.sample_weight
    counts = np.ones(len(own)) if weight is None else np.asarray(weight, dtype=np.float64)[rows]
    groups = None if task.found.groups is None else np.asarray(task.found.groups)[rows]
    found = fuse(task.kind, own / scale, others, targets, counts, seed, groups=groups)
    if found is None:
        return None
    weights = np.zeros((outputs, width + own.shape[1] + others.shape[1]))
    # A class without an example is all but impossible.
    intercept = np.full(outputs, np.log(1e-12))
    weights[places, width + np.arange(own.shape[1])] = 1.0
    weights[places, width + own.shape[1] :] = scale * found.coefficients.T
    intercept[places] = scale * found.intercept
    return task.layer(weights, intercept)


def _solved(
    kind: str, own: np.ndarray, columns: np.ndarray, targets: np.ndarray, weight: np.ndarray, strength: float
) -> tuple[np.ndarray, np.ndarray]:
    """Return B and b."""
    wide = np.column_stack([columns, np.ones(len(columns))])
    # The shift is held almost free: it moves with the proportions of the classes.
    heavy = np.full(wide.shape[1], strength)
    heavy[-1] = 1e-3 * strength
    if kind == "regression":
        normal = (wide * weight[:, None]).T @ wide + np.diag(heavy)
        solved = np.linalg.solve(normal, (wide * weight[:, None]).T @ (targets - own))
        return solved[:-1], solved[-1]
    shape = wide.shape[1], own.shape[1]
    known = np.isfinite(targets)

    def loss(flat: np.ndarray) -> tuple[float, np.ndarray]:
        values = flat.reshape(shape)
        logits = own + wide @ values
        if kind == "classification":
            likely = np.exp(logits - logsumexp(logits, axis=1, keepdims=True))
        else:
            likely = expit(logits)
        slope = weight[:, None] * np.where(known, likely - targets, 0.0)
        total = float(weight @ _losses(kind, logits, targets)) + float(heavy @ np.square(values).sum(axis=1)) / 2
        return total, (wide.T @ slope + heavy[:, None] * values).ravel()

    solved = minimize(loss, np.zeros(shape).ravel(), jac=True, method="L-BFGS-B", options={"maxiter": 200}).x
    solved = solved.reshape(shape)
    return solved[:-1], solved[-1]


def _losses(kind: str, outputs: np.ndarray, targets: np.ndarray) -> np.ndarray:
    """Return the loss of each example (n,); of labels, the sum over those that are known."""
    if kind == "classification":
        return logsumexp(outputs, axis=1) - (outputs * targets).sum(axis=1)
    if kind == "regression":
        return np.square(targets - outputs).sum(axis=1) / 2
    each = np.logaddexp(0, outputs) - np.nan_to_num(targets) * outputs
    return np.where(np.isfinite(targets), each, 0.0).sum(axis=1)
