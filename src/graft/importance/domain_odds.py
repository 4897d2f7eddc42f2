"""The ratio of densities from a classifier that tells target from source."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, final

import numpy as np
import scipy.sparse
from scipy.optimize import minimize
from scipy.special import expit
from sklearn.linear_model import LogisticRegression

from graft._checks import integer, number
from graft.importance.domain_pair import DomainPair, Scaling, deal_folds, domain_pair
from graft.importance.weights import Ratio, Weights, weights_of

STRENGTHS = (1e-5, 1e-4, 1e-3, 1e-2, 1e-1, 1.0)
# With squares the classifier can tell Gaussians of different widths apart; beyond this many columns they are noise.
_SQUARED_COLUMNS = 64
_FURTHEST = 30.0  # of a log ratio: e^30 is more than any sample can tell


@final
@dataclass(frozen=True)
class LogisticRatio(Ratio):
    r"""The ratio :math:`\exp(\theta^\top f(x) + b)`, f the scaled features, with or without their squares."""

    scaling: Scaling
    squares: bool
    coefficients: np.ndarray
    intercept: float

    def __call__(self, points: Any) -> np.ndarray:
        table = self.scaling.place(points)
        logits = (_with_squares(table) if self.squares else table) @ self.coefficients + self.intercept
        return np.exp(np.clip(logits, -_FURTHEST, _FURTHEST))


def _with_squares(table: np.ndarray) -> np.ndarray:
    return np.hstack([table, table**2])


@dataclass(frozen=True)
class OutOfFold:
    """A domain classifier's logits of examples that it did not see.

    Attributes
    ----------
    source, target : ndarray (n_source,), (n_target,)
        Logits of "target".
    coefficients, intercept
        The mean of the folds' classifiers.
    squares : bool
        Whether they see squared features too.
    C : float
        The chosen inverse penalty.
    log_loss : float
        Out of fold, in nats.
    """

    source: np.ndarray
    target: np.ndarray
    coefficients: np.ndarray
    intercept: float
    squares: bool
    C: float
    log_loss: float

    def logits(self, table: Any) -> np.ndarray:
        """Return the logits (n,) of other scaled rows, by the mean of the folds' classifiers."""
        return (_with_squares(table) if self.squares else table) @ self.coefficients + self.intercept


def cross_fit(
    pair: DomainPair, *, Cs: Sequence[float], squares: bool | None, folds: int, random_state: int
) -> OutOfFold:
    """Return the out-of-fold logits of the classifier whose penalty and form have the smallest out-of-fold loss.

    Equal rows share a fold: a twin in the other domain would otherwise teach its own negation. The path of each form
    ends when the loss rises.
    """
    rows = pair.sizes[0]
    sparse = scipy.sparse.issparse(pair.source)
    stack = stacked(pair.source, pair.target)
    domain = np.repeat([0, 1], pair.sizes)
    fold = deal_folds(stacked(pair.given_source, pair.given_target), folds, random_state, stratum=domain == 1)
    forms = [bool(squares)] if squares is not None else [False, True]
    if sparse or stack.shape[1] > _SQUARED_COLUMNS:
        forms = [False]
    best: OutOfFold | None = None
    for form in forms:
        table = _with_squares(stack) if form else stack
        simpler, previous = best, np.inf
        for C in sorted(Cs):
            logits, coefficients, intercept = _one_strength(table, domain, fold, C)
            losses = _log_losses(logits, domain)
            loss = float(losses.mean())
            if best is None or best is simpler or loss < best.log_loss:
                found = OutOfFold(logits[:rows], logits[rows:], coefficients, intercept, form, C, loss)
                if best is None or best is not simpler or _clearly_less(losses, best, domain):
                    best = found
            if loss > previous:
                break
            previous = loss
    assert best is not None
    return best


def _log_losses(logits: np.ndarray, domain: np.ndarray) -> np.ndarray:
    return np.logaddexp(0, np.where(domain == 1, -logits, logits))


def _clearly_less(losses: np.ndarray, simpler: OutOfFold, domain: np.ndarray) -> bool:
    """Return whether the mean of the losses is less by more than its standard error, example by example."""
    gain = _log_losses(np.concatenate([simpler.source, simpler.target]), domain) - losses
    return bool(gain.mean() > gain.std() / np.sqrt(len(gain)) + 1e-12)


def stacked(source: Any, target: Any) -> Any:
    """Return both samples as one table, the source first."""
    if scipy.sparse.issparse(source):
        return scipy.sparse.csr_array(scipy.sparse.vstack([source, target]))
    return np.vstack([source, target])


def _one_strength(table: Any, domain: np.ndarray, fold: np.ndarray, C: float) -> tuple[np.ndarray, np.ndarray, float]:
    logits = np.zeros(len(domain))
    coefficients, intercepts = [], []
    wide = table.shape[1] > 200 or scipy.sparse.issparse(table)
    for held_out in range(int(fold.max()) + 1):
        inside = fold == held_out
        kinds = np.unique(domain[~inside])
        if len(kinds) < 2:
            continue
        model = LogisticRegression(
            C=C, solver="lbfgs" if wide else "newton-cholesky", tol=1e-4 if wide else 1e-8, max_iter=300
        ).fit(table[~inside], domain[~inside])
        logits[inside] = model.decision_function(table[inside]) if inside.any() else []
        coefficients.append(model.coef_[0])
        intercepts.append(float(model.intercept_[0]))
    if not coefficients:
        return logits, np.zeros(table.shape[1]), 0.0
    return logits, np.mean(coefficients, axis=0), float(np.mean(intercepts))


def domain_classifier(
    source: Any,
    target: Any,
    *,
    Cs: Sequence[float] = STRENGTHS,
    squares: bool | None = None,
    calibrate: bool = True,
    folds: int = 5,
    standardize: bool = True,
    random_state: int = 0,
) -> Weights:
    r"""The ratio from the odds of a logistic classifier of the domains.

    By Bayes' rule :math:`p_t(x) / p_s(x) = \frac{n_s}{n_t} \, \frac{P(t \mid x)}{1 - P(t \mid x)}`. (Bickel, Brückner
    and Scheffer, 2009, section 4; Sugiyama, Suzuki and Kanamori, 2012, chapter 4.)

    Each example is judged by a classifier that did not see it; the logits are then calibrated, a slope of zero or more
    and an offset (Platt, 1999), because the odds of an overconfident classifier are wild weights.

    Parameters
    ----------
    source : array or sparse matrix (n_source, d)
        Features of the source.
    target : array or sparse matrix (n_target, d)
        Features of the target.
    Cs : sequence of float
        Inverse penalties to try; the smallest out-of-fold loss wins.
    squares : bool, optional
        Let the classifier see squared features; by default where that lowers the loss. Dense features of up to 64
        columns only.
    calibrate : bool
        Calibrate the out-of-fold logits.
    folds : int
        Their number.
    standardize : bool
        Divide each column by its standard deviation.
    random_state : int
        Deals the folds.

    Returns
    -------
    Weights
        `Weights.evaluate` uses the mean of the folds' classifiers.

    Raises
    ------
    DataError
        If a sample cannot be used.

    Examples
    --------
    >>> import numpy as np
    >>> from graft.importance import domain_classifier
    >>> draws = np.random.default_rng(0)
    >>> weights = domain_classifier(draws.normal(size=(300, 1)), draws.normal(0.5, 1, size=(300, 1)))
    >>> bool(weights.evaluate([[1.0]]) > weights.evaluate([[-1.0]]))
    True
    """
    integer("folds", folds, low=2)
    strengths = [number("Cs", value, low=0, open_low=True) for value in Cs]
    pair = domain_pair(source, target, standardize=standardize)
    fitted = cross_fit(pair, Cs=strengths, squares=squares, folds=folds, random_state=random_state)
    slope, offset = _platt(fitted.source, fitted.target) if calibrate else (1.0, 0.0)
    prior = float(np.log(pair.sizes[0] / pair.sizes[1]))
    ratio = LogisticRatio(
        pair.scaling, fitted.squares, slope * fitted.coefficients, slope * fitted.intercept + offset + prior
    )
    values = np.exp(np.clip(slope * fitted.source + offset + prior, -_FURTHEST, _FURTHEST))
    parameters = {
        "C": fitted.C,
        "squares": fitted.squares,
        "slope": slope,
        "offset": offset,
        "log_loss": fitted.log_loss,
    }
    return weights_of("classifier", values, parameters, ratio=ratio)


def _platt(source: np.ndarray, target: np.ndarray) -> tuple[float, float]:
    """Return the slope >= 0 and the offset that minimise the log loss of the logits.

    A pseudo-example of either domain at each of the mean logits keeps the slope finite where the domains are apart.
    """
    logits = np.concatenate([source, target, [source.mean(), target.mean()]])
    spread = float(np.abs(logits).max())
    if spread < 1e-9:
        return 1.0, 0.0
    scaled = logits / spread
    domain = np.concatenate([np.zeros(len(source)), np.ones(len(target)), [1.0, 0.0]])

    def loss(parameters: np.ndarray) -> tuple[float, np.ndarray]:
        shown = parameters[0] * scaled + parameters[1]
        gap = expit(shown) - domain
        value = float((np.logaddexp(0, shown) - domain * shown).mean())
        return value, np.array([gap @ scaled, gap.sum()]) / len(scaled)

    start = np.array([spread, 0.0])
    solved = minimize(loss, start, jac=True, method="L-BFGS-B", bounds=[(0, None), (None, None)], tol=1e-12)
    return float(solved.x[0] / spread), float(solved.x[1])
