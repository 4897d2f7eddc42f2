"""What a vector of weights is worth: whether there is a shift, of which kind, and what the weights leave of it."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
from scipy.stats import chi2

from graft._checks import integer
from graft.errors import DataError
from graft.importance.domain_pair import (
    DomainPair,
    content_ranks,
    domain_pair,
    drawn_rows,
    gaussian,
    median_distance,
    squared_distances,
)
from graft.importance.label_shift import maximum_likelihood
from graft.importance.two_sample import AucTest, MmdTest, auc_of, mmd_of
from graft.importance.weights import Weights

_LEVEL = 0.05
_ROWS = 1000
_LEAST_KEPT = 20


@dataclass(frozen=True)
class Diagnosis:
    """The diagnostics of one vector of weights.

    Attributes
    ----------
    effective_sample_size : float
        :math:`(\\sum w)^2 / \\sum w^2`.
    effective_share : float
        Of the source's size.
    largest_weight : float
        Times the mean weight.
    overlap : float
        At most this share of mass the densities have in common: twice the error of a classifier of the domains.
    auc : AucTest
        The classifier two-sample test.
    mmd : MmdTest
        The kernel two-sample test, without the weights.
    weighted_mmd : float
        The squared discrepancy, on the same examples, before and after weighting is `unweighted_mmd`, `weighted_mmd`.
    unweighted_mmd : float
    shift : bool
        Whether one of the tests finds a difference, at a level of 5 % for both together.
    hint : {"none", "label shift", "covariate shift", "shift of unknown kind"}
        "label shift" where the classes' shares alone explain the difference; "covariate shift" where they do not;
        without labels and probabilities the kind stays unknown.
    """

    effective_sample_size: float
    effective_share: float
    largest_weight: float
    overlap: float
    auc: AucTest
    mmd: MmdTest
    unweighted_mmd: float
    weighted_mmd: float
    shift: bool
    hint: str

    def to_dict(self) -> dict[str, Any]:
        """Return everything as plain values, which JSON can hold."""
        return asdict(self)


def diagnose(
    weights: Weights,
    source: Any,
    target: Any,
    *,
    labels: Any = None,
    source_probabilities: Any = None,
    target_probabilities: Any = None,
    permutations: int = 200,
    standardize: bool = True,
    random_state: int = 0,
    tests: tuple[AucTest, MmdTest] | None = None,
) -> Diagnosis:
    """Diagnose weights of the source.

    The hint is "label shift" where the predicted shares of the classes differ (Hotelling's test) and the source,
    weighted by class with greatest likelihood, no longer differs from the target: neither by the kernel test with
    weights, nor by the classifier test on rows drawn with them, while as few rows drawn without them do. A target that
    is moved exactly from one class towards another cannot be told from one with other shares.

    Parameters
    ----------
    weights : Weights
        As a method returned them for this source.
    source : array or sparse matrix (n_source, d)
        Features of the source.
    target : array or sparse matrix (n_target, d)
        Features of the target.
    labels : array (n_source,), optional
        Of the source.
    source_probabilities : array (n_source, K), optional
        Out of fold, columns in the order of the sorted labels. With `labels` and `target_probabilities` they decide
        between label shift and covariate shift.
    target_probabilities : array (n_target, K), optional
        Of the same classifier.
    permutations : int
        Of the kernel test.
    standardize : bool
        Divide each column by its standard deviation.
    random_state : int
        Deals folds, draws examples and permutations.
    tests : (AucTest, MmdTest), optional
        What `domain_auc` and `mmd_test` found for the same features, where that is known already.

    Returns
    -------
    Diagnosis

    Raises
    ------
    DataError
        If a sample cannot be used, or there is not one weight for each source example.

    Examples
    --------
    >>> import numpy as np
    >>> from graft.importance import diagnose, kmm
    >>> draws = np.random.default_rng(0)
    >>> source, target = draws.normal(size=(200, 2)), draws.normal(1, 1, size=(200, 2))
    >>> found = diagnose(kmm(source, target), source, target)
    >>> found.shift, found.weighted_mmd < found.unweighted_mmd
    (True, True)
    """
    integer("permutations", permutations, low=19)
    pair = domain_pair(source, target, standardize=standardize)
    sample_weight = weights.sample_weight
    if len(sample_weight) != pair.sizes[0]:
        raise DataError(
            "source",
            expected=f"{len(sample_weight)} examples, one for each weight",
            found=str(pair.sizes[0]),
            remedy="Pass the source that the weights were estimated on.",
        )
    auc, mmd = _tests(pair, permutations, random_state) if tests is None else tests
    shift = differ(auc, mmd)
    hint = "none"
    if shift:
        given = [value is not None for value in (labels, source_probabilities, target_probabilities)]
        hint = "shift of unknown kind"
        if all(given):
            evidence = labels, source_probabilities, target_probabilities
            explained = _classes_explain(pair, *evidence, permutations, random_state)
            hint = "label shift" if explained else "covariate shift"
    before, after = _discrepancies(pair, sample_weight, random_state)
    return Diagnosis(
        effective_sample_size=weights.effective_sample_size,
        effective_share=weights.effective_sample_size / len(sample_weight),
        largest_weight=float(sample_weight.max()),
        overlap=float(min(1.0, 2 * auc.balanced_error)),
        auc=auc,
        mmd=mmd,
        unweighted_mmd=before,
        weighted_mmd=after,
        shift=shift,
        hint=hint,
    )


def differ(auc: AucTest, mmd: MmdTest) -> bool:
    """Return whether one of the tests tells the domains apart, at a level of 5 % for both together."""
    # Two tests: each at half the level.
    return 2 * min(auc.p_value, mmd.p_value) < _LEVEL


def _tests(pair: DomainPair, permutations: int, random_state: int) -> tuple[AucTest, MmdTest]:
    auc = auc_of(pair, random_state=random_state)
    return auc, mmd_of(pair, permutations=permutations, random_state=random_state)


def _classes_explain(
    pair: DomainPair,
    labels: Any,
    source_probabilities: Any,
    target_probabilities: Any,
    permutations: int,
    random_state: int,
) -> bool:
    """Return whether the source, weighted by class, passes for the target, and could not have passed unweighted."""
    if _shares_p_value(source_probabilities, target_probabilities) >= _LEVEL:
        return False
    codes = np.unique(np.asarray(labels), return_inverse=True)[1]
    weight = maximum_likelihood(labels, source_probabilities, target_probabilities).sample_weight
    if _weighted_p_value(pair, weight, codes, permutations, random_state) < _LEVEL / 2:
        return False
    # The classifier test takes no weights: rows are kept with probability w / max(w), because drawing with replacement
    # would repeat rows, which tests take for news.
    draws = np.random.default_rng(random_state)
    order = content_ranks(pair.given_source)
    chances = draws.random((2, int(order.max()) + 1))[:, order]
    kept = chances[0] < weight / weight.max()
    if kept.sum() < _LEAST_KEPT:
        return False
    if auc_of(pair.part(kept), random_state=random_state).p_value < _LEVEL / 2:
        return False
    # As few rows drawn without regard to class must still show the shift, else nothing was explained: with fewer rows
    # every test sees less.
    alike = np.argsort(chances[1], kind="stable")[: kept.sum()]
    return differ(*_tests(pair.part(np.sort(alike)), permutations, random_state))


def _shares_p_value(source_probabilities: Any, target_probabilities: Any) -> float:
    """Return the p-value of the domains' having the same mean predicted probabilities, as equal class shares imply.

    Hotelling's two-sample statistic with its limit, chi-squared. (The detection of label shift by a black box:
    Lipton, Wang and Smola, 2018.)
    """
    tables = [np.asarray(table, dtype=np.float64) for table in (source_probabilities, target_probabilities)]
    tables = [table[np.isfinite(table).all(axis=1)] for table in tables]
    gap = tables[0].mean(axis=0) - tables[1].mean(axis=0)
    spread = sum(np.atleast_2d(np.cov(table.T)) / len(table) for table in tables)
    values, vectors = np.linalg.eigh(spread)
    # Probabilities sum to one: along the vector of ones nothing varies.
    known = values > 1e-10 * max(float(values.max()), 1e-300)
    statistic = float((((gap @ vectors[:, known]) ** 2) / values[known]).sum())
    return float(chi2.sf(statistic, max(int(known.sum()), 1)))


def _weighted_p_value(
    pair: DomainPair, weight: np.ndarray, codes: np.ndarray, draws_wanted: int, random_state: int
) -> float:
    r"""Return the p-value of the target's being the source, weighted by class, by the kernel test on all rows.

    :math:`v^\top K v`, :math:`v = (w / \sum w, -1 / m)`, beside its values for v multiplied by Gaussian numbers, a
    multiplier bootstrap of both means in the kernel's space. The numbers are centred: within each class of the source,
    whose weights follow the target's own shares, and over the target.
    """
    rows = [drawn_rows(given, _ROWS, random_state) for given in (pair.given_source, pair.given_target)]
    source, target = pair.source[rows[0]], pair.target[rows[1]]
    sigma = median_distance(pair)
    within = [gaussian(squared_distances(table, table), sigma) for table in (source, target)]
    across = gaussian(squared_distances(source, target), sigma)
    kernel = np.block([[within[0], across], [across.T, within[1]]])
    n, m = len(rows[0]), len(rows[1])
    shares = weight[rows[0]] / max(weight[rows[0]].sum(), 1e-300)
    signs = np.concatenate([shares, np.full(m, -1 / m)])
    groups = np.concatenate([codes[rows[0]], np.full(m, codes.max() + 1)])
    noise = np.random.default_rng(random_state).normal(size=(n + m, draws_wanted))
    for group in np.unique(groups):
        inside = groups == group
        # Weights are the same within a group.
        noise[inside] -= noise[inside].mean(axis=0)
    drawn = signs[:, None] * noise
    found = np.einsum("ij,ij->j", drawn, kernel @ drawn)
    return float((1 + np.count_nonzero(found >= signs @ kernel @ signs)) / (draws_wanted + 1))


def _discrepancies(pair: DomainPair, sample_weight: np.ndarray, random_state: int) -> tuple[float, float]:
    """Return the squared discrepancy of the source from the target before and after weighting."""
    draws = np.random.default_rng(random_state)
    rows = [np.sort(draws.permutation(size)[:_ROWS]) for size in pair.sizes]
    source, target = pair.source[rows[0]], pair.target[rows[1]]
    sigma = median_distance(pair)
    within = gaussian(squared_distances(source, source), sigma)
    between = gaussian(squared_distances(source, target), sigma).mean(axis=1)
    own = float(gaussian(squared_distances(target, target), sigma).mean())
    found = []
    for weight in (np.ones(len(rows[0])), sample_weight[rows[0]]):
        share = weight / max(weight.sum(), 1e-300)
        found.append(max(float(share @ within @ share - 2 * share @ between) + own, 0.0))
    return found[0], found[1]
