"""Label shift: the classes' shares differ between the domains, the examples of a class do not."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, final

import numpy as np
from scipy.optimize import brentq, minimize

from graft._checks import number, one_of
from graft.errors import DataError
from graft.importance.mixture import mixture_proportions
from graft.importance.weights import Ratio, Weights, weights_of

CALIBRATIONS = ("bias-corrected", "temperature", "none")


@final
@dataclass(frozen=True)
class ClassRatio(Ratio):
    """The ratio of the shares of each class, as a function of labels."""

    classes: np.ndarray
    values: np.ndarray

    def __call__(self, points: Any) -> np.ndarray:
        return self.values[_codes(np.asarray(points), self.classes, "labels")]


@dataclass(frozen=True)
class _Evidence:
    """Checked inputs: what is known of the labelled source and of the unlabelled target."""

    classes: np.ndarray
    labels: np.ndarray  # all source labels, as codes
    codes: np.ndarray  # of the source rows that have probabilities
    source: np.ndarray
    target: np.ndarray

    @property
    def shares(self) -> np.ndarray:
        return np.bincount(self.labels, minlength=len(self.classes)) / len(self.labels)


def _codes(labels: np.ndarray, classes: np.ndarray, subject: str) -> np.ndarray:
    order = np.argsort(classes, kind="stable")
    places = np.searchsorted(classes, labels, sorter=order)
    codes = order[np.minimum(places, len(classes) - 1)]
    unknown = classes[codes] != labels
    if np.any(unknown):
        raise DataError(
            subject,
            expected=f"labels among {classes.tolist()}",
            found=repr(np.asarray(labels)[unknown].tolist()[0]),
            remedy="Pass the classes in the order of the probabilities' columns as classes=….",
        )
    return codes


def _evidence(labels: Any, source_probabilities: Any, target_probabilities: Any, classes: Sequence | None) -> _Evidence:
    names = np.asarray(labels)
    kinds = np.unique(names) if classes is None else np.asarray(classes)
    source = np.asarray(source_probabilities, dtype=np.float64)
    target = np.asarray(target_probabilities, dtype=np.float64)
    for subject, table in (("source_probabilities", source), ("target_probabilities", target)):
        if table.ndim != 2 or table.shape[1] != len(kinds) or len(table) == 0:
            raise DataError(
                subject,
                expected=f"shape (examples, {len(kinds)}), a column for each class",
                found=f"shape {table.shape}",
                remedy="Pass predict_proba's result, and its classes_ as classes=… where a class has no source label.",
            )
    if len(source) != len(names):
        raise DataError(
            "source_probabilities",
            expected=f"{len(names)} rows, as many as labels",
            found=str(len(source)),
            remedy="Pass out-of-fold probabilities: a row for each labelled example.",
        )
    known = np.isfinite(source).all(axis=1)
    if not known.any() or not np.isfinite(target).all():
        raise DataError(
            "source_probabilities" if not known.any() else "target_probabilities",
            expected="finite probabilities",
            found="NaN or infinite values",
            remedy="Only source rows that could not be held out may be NaN.",
        )
    tables = []
    for subject, table in (("source_probabilities", source[known]), ("target_probabilities", target)):
        totals = table.sum(axis=1, keepdims=True)
        if (table < 0).any() or not np.allclose(totals, 1, atol=1e-3):
            raise DataError(
                subject,
                expected="rows of probabilities that sum to one",
                found=f"rows that sum to {float(totals.min()):.3g} to {float(totals.max()):.3g}",
                remedy="Pass predict_proba's result, not logits.",
            )
        tables.append(table / totals)
    codes = _codes(names, kinds, "source_labels")
    return _Evidence(kinds, codes, codes[known], *tables)


def _class_weights(method: str, evidence: _Evidence, values: np.ndarray, parameters: dict[str, Any]) -> Weights:
    values = np.maximum(values, 0)
    # Shares of the target must sum to one under the weights; a class without source examples can have no weight.
    shares = evidence.shares
    mass = float(shares @ values)
    values = np.where(shares > 0, values, 0) / mass if mass > 0 else values
    named = dict(zip(evidence.classes.tolist(), values.tolist(), strict=True))
    return weights_of(
        method,
        values[evidence.labels],
        {**parameters, "target_shares": dict(zip(named, (shares * values).tolist(), strict=True))},
        ratio=ClassRatio(evidence.classes, values),
        class_weight=named,
    )


def _confusion(evidence: _Evidence, soft: bool) -> tuple[np.ndarray, np.ndarray]:
    """Return C_ij = P_source(predicted i, class j) (K, K) and mu_i = P_target(predicted i) (K,)."""
    count = len(evidence.classes)
    predicted = [table if soft else np.eye(count)[table.argmax(axis=1)] for table in (evidence.source, evidence.target)]
    confusion = predicted[0].T @ np.eye(count)[evidence.codes] / len(evidence.codes)
    return confusion, predicted[1].mean(axis=0)


def bbse(
    source_labels: Any,
    source_probabilities: Any,
    target_probabilities: Any,
    *,
    classes: Sequence | None = None,
    soft: bool = False,
) -> Weights:
    r"""Black box shift estimation.

    Solves :math:`C w = \mu`, :math:`C_{ij} = P_s(\hat y = i, y = j)`, :math:`\mu_i = P_t(\hat y = i)`; negative weights
    become zero. (Lipton, Wang and Smola, 2018, equation 4 and algorithm 1.) A classifier that never tells two classes
    apart leaves C singular: the solution of least norm about 1 is then taken.

    Parameters
    ----------
    source_labels : array (n_source,)
        Of the labelled source.
    source_probabilities : array (n_source, K)
        Out of fold: each row from a classifier that did not see the example; NaN rows take no part.
    target_probabilities : array (n_target, K)
        Of the unlabelled target.
    classes : sequence, optional
        The class of each column; by default the sorted source labels.
    soft : bool
        Mean probabilities instead of counts of the most probable class.

    Returns
    -------
    Weights
        With `class_weight`; `Weights.evaluate` takes labels.

    Raises
    ------
    DataError
        If shapes, labels or probabilities do not fit.

    Examples
    --------
    >>> import numpy as np
    >>> from graft.importance import bbse
    >>> labels = np.repeat(["a", "b"], 50)
    >>> told = np.repeat([[1.0, 0.0], [0.0, 1.0]], 50, axis=0)
    >>> target = np.repeat([[1.0, 0.0], [0.0, 1.0]], [20, 80], axis=0)
    >>> {name: round(value, 3) for name, value in bbse(labels, told, target).class_weight.items()}
    {'a': 0.4, 'b': 1.6}
    """
    evidence = _evidence(source_labels, source_probabilities, target_probabilities, classes)
    confusion, target = _confusion(evidence, soft)
    values = 1 + np.linalg.lstsq(confusion, target - confusion.sum(axis=1), rcond=1e-8)[0]
    smallest = float(np.linalg.svd(confusion, compute_uv=False)[-1])
    return _class_weights("bbse", evidence, values, {"soft": soft, "smallest_singular_value": smallest})


def rlls(
    source_labels: Any,
    source_probabilities: Any,
    target_probabilities: Any,
    *,
    classes: Sequence | None = None,
    soft: bool = False,
    confidence: float = 0.95,
    strength: float = 0.01,
    trust: float = 1.0,
) -> Weights:
    r"""Regularised learning under label shift.

    With :math:`w = 1 + \gamma \theta`,

    .. math:: \hat\theta = \arg\min_\theta \lVert C \theta - (\mu - C 1) \rVert_2 + \Delta \lVert \theta \rVert_2,
        \quad \Delta = 3 s \Bigl( \tfrac{2 \log(2 K / \delta)}{3 n_s} + \sqrt{\tfrac{2 \log(2 K / \delta)}{n_s}} \Bigr)

    with C and μ as in `bbse`. (Azizzadenesheli, Liu, Yang and Anandkumar, 2019, equation 6 and theorem 1.) The theory
    has s = 1, which shrinks all to one unless n_s is huge; the authors' experiments scale it down.

    Parameters
    ----------
    source_labels : array (n_source,)
        Of the labelled source.
    source_probabilities : array (n_source, K)
        Out of fold; NaN rows take no part.
    target_probabilities : array (n_target, K)
        Of the unlabelled target.
    classes : sequence, optional
        The class of each column; by default the sorted source labels.
    soft : bool
        Mean probabilities instead of counts of the most probable class.
    confidence : float in (0, 1)
        1 - δ.
    strength : float
        s; 0 is `bbse`.
    trust : float in [0, 1]
        γ; smaller for a small target.

    Returns
    -------
    Weights
        With `class_weight`; `Weights.evaluate` takes labels.

    Raises
    ------
    DataError
        If shapes, labels or probabilities do not fit.
    """
    number("confidence", confidence, low=0.01, high=0.9999)
    number("strength", strength, low=0)
    number("trust", trust, low=0, high=1)
    evidence = _evidence(source_labels, source_probabilities, target_probabilities, classes)
    confusion, target = _confusion(evidence, soft)
    tail = np.log(2 * len(evidence.classes) / (1 - confidence))
    rows = len(evidence.codes)
    penalty = 3 * strength * (2 * tail / (3 * rows) + np.sqrt(2 * tail / rows))
    theta = _norm_penalized(confusion, target - confusion.sum(axis=1), float(penalty))
    return _class_weights(
        "rlls", evidence, 1 + trust * theta, {"soft": soft, "penalty": float(penalty), "trust": trust}
    )


def _norm_penalized(matrix: np.ndarray, right: np.ndarray, penalty: float) -> np.ndarray:
    r"""Minimise :math:`\lVert C \theta - b \rVert + \Delta \lVert \theta \rVert` (norms, not squares).

    Where neither norm is zero the minimiser is the ridge solution whose penalty λ satisfies
    :math:`\lVert C^\top r \rVert = \Delta \lVert r \rVert`, r its residual: one equation in one number.
    """
    left, values, right_vectors = np.linalg.svd(matrix)
    rotated = left.T @ right

    def slack(log_ridge: float) -> float:
        ridge = np.exp(log_ridge)
        residual = rotated * ridge / (values**2 + ridge)
        return float(np.linalg.norm(values * residual) - penalty * np.linalg.norm(residual))

    if not rotated.any() or np.linalg.norm(values * rotated) <= penalty * np.linalg.norm(rotated):
        return np.zeros(len(values))
    low, high = np.log(1e-14), np.log(1e6)
    ridge = np.exp(low if slack(low) > 0 else brentq(slack, low, high, xtol=1e-12))
    return right_vectors.T @ (values * rotated / (values**2 + ridge))


def maximum_likelihood(
    source_labels: Any,
    source_probabilities: Any,
    target_probabilities: Any,
    *,
    classes: Sequence | None = None,
    calibration: str = "bias-corrected",
    tolerance: float = 1e-8,
) -> Weights:
    r"""The target's class shares of greatest likelihood.

    Maximises :math:`\frac{1}{n_t} \sum_j \log \sum_k \pi_k \, P_s(k \mid z_j) / P_s(k)` over the shares π, the fixed
    point of the expectation maximisation of Saerens, Latinne and Decaestecker (2002, equation 2.9); the likelihood is
    concave and Newton's method reaches its maximum to within `tolerance`. It is only as good as the probabilities are
    calibrated, hence the calibration on held-out source examples, with a bias for each class beside the temperature.
    (Alexandari, Kundaje and Shrikumar, 2020, section 2.)

    Parameters
    ----------
    source_labels : array (n_source,)
        Of the labelled source.
    source_probabilities : array (n_source, K)
        Out of fold; NaN rows take no part.
    target_probabilities : array (n_target, K)
        Of the unlabelled target.
    classes : sequence, optional
        The class of each column; by default the sorted source labels.
    calibration : {"bias-corrected", "temperature", "none"}
        What is fitted to the held-out source first.
    tolerance : float
        On the mean log likelihood, in nats.

    Returns
    -------
    Weights
        With `class_weight`; `Weights.evaluate` takes labels.

    Raises
    ------
    DataError
        If shapes, labels or probabilities do not fit.
    """
    one_of("calibration", calibration, CALIBRATIONS)
    evidence = _evidence(source_labels, source_probabilities, target_probabilities, classes)
    source, target = evidence.source, evidence.target
    temperature, bias = 1.0, np.zeros(len(evidence.classes))
    if calibration != "none":
        temperature, bias = _calibration(source, evidence.codes, calibration == "bias-corrected")
        source, target = (calibrated(table, temperature, bias) for table in (source, target))
    shares = evidence.shares
    there = shares > 0
    table = target[:, there] / shares[there]
    # A target example of classes that the source does not have says nothing of the others' shares.
    table = table[table.max(axis=1) > 1e-300]
    proportions = np.zeros(len(shares))
    if not len(table):
        raise DataError(
            "target_probabilities",
            expected="examples of classes that the source has",
            found="none",
            remedy="Check that the columns are in the order of classes.",
        )
    proportions[there] = mixture_proportions(table, tolerance=tolerance)
    values = np.divide(proportions, shares, out=np.zeros_like(shares), where=there)
    parameters = {"calibration": calibration, "temperature": temperature, "bias": bias.tolist()}
    return _class_weights("maximum-likelihood", evidence, values, parameters)


def calibrated(probabilities: np.ndarray, temperature: float, bias: np.ndarray) -> np.ndarray:
    r"""Return :math:`\mathrm{softmax}(\log p / T + b)` along the last axis."""
    logits = np.log(np.maximum(probabilities, 1e-12)) / temperature + bias
    logits -= logits.max(axis=1, keepdims=True)
    np.exp(logits, out=logits)
    return logits / logits.sum(axis=1, keepdims=True)


def _calibration(probabilities: np.ndarray, codes: np.ndarray, with_bias: bool) -> tuple[float, np.ndarray]:
    """Return the temperature and the biases of least log loss.

    A weak prior (1e-4 of a squared nat) keeps finite what no example pins down: the bias of a class without examples,
    the temperature of a classifier without errors.
    """
    logits = np.log(np.maximum(probabilities, 1e-12))
    rows, count = logits.shape
    truth = np.eye(count)[codes]

    def loss(parameters: np.ndarray) -> tuple[float, np.ndarray]:
        inverse, bias = np.exp(parameters[0]), parameters[1:] * with_bias
        shown = inverse * logits + bias
        top = shown.max(axis=1, keepdims=True)
        shown = shown - top
        normalizer = np.log(np.exp(shown).sum(axis=1, keepdims=True))
        gap = (np.exp(shown - normalizer) - truth) / rows
        value = float((normalizer[:, 0] - shown[np.arange(rows), codes]).mean()) + 5e-5 * float(parameters @ parameters)
        slope = np.concatenate([[inverse * float((gap * logits).sum())], gap.sum(axis=0) * with_bias])
        return value, slope + 1e-4 * parameters

    solved = minimize(loss, np.zeros(count + 1), jac=True, method="L-BFGS-B", tol=1e-12)
    return float(np.exp(-solved.x[0])), solved.x[1:] * with_bias
