"""TrAdaBoost: boosting with a few labelled target examples, while source examples that mislead lose their weight."""

from __future__ import annotations

from typing import Any, Self, final

import numpy as np
from sklearn.base import BaseEstimator, ClassifierMixin, clone
from sklearn.tree import DecisionTreeClassifier
from sklearn.utils.multiclass import check_classification_targets
from sklearn.utils.validation import check_is_fitted, validate_data

from graft._checks import integer
from graft.errors import DataError


def target_rows(in_target: Any, rows: int) -> np.ndarray:
    """Return `in_target` as a mask (n,) with at least one target example; None means that all are.

    Raises
    ------
    DataError
        If it is no mask of that length, or marks no example.
    """
    if in_target is None:
        return np.ones(rows, dtype=bool)
    mask = np.asarray(in_target)
    if mask.shape != (rows,) or mask.dtype != bool:
        raise DataError(
            "in_target",
            expected=f"a mask of shape ({rows},) of bool",
            found=f"shape {mask.shape} of {mask.dtype}",
            remedy="Mark each row of X: True for a labelled target example, False for one of the source.",
        )
    if not mask.any():
        raise DataError(
            "in_target",
            expected="at least one labelled target example",
            found="none",
            remedy="Boosting follows the target's labels; without any, estimate density ratios instead.",
        )
    return mask


@final
class TrAdaBoostClassifier(ClassifierMixin, BaseEstimator):
    r"""TrAdaBoost for classification.

    In each of N rounds an estimator is fitted to all examples with weights w. With ε its weighted error on the target,
    :math:`\beta_t = \epsilon / (1 - \epsilon)` and :math:`\beta = 1 / (1 + \sqrt{2 \ln n_s / N})`, wrongly answered
    source examples get :math:`w \beta`, wrongly answered target examples :math:`w / \beta_t`. The estimators of the
    second half of the rounds vote with :math:`\log 1/\beta_t`. (Dai, Yang, Xue and Yu, 2007, figure 1.)

    With K classes the vote and the target's factor become :math:`\log 1/\beta_t + \log(K - 1)`, as in SAMME (Zhu, Zou,
    Rosset and Hastie, 2009); for two classes that is the paper. Where ε is as bad as guessing, the paper stops: here
    the estimator has no vote, the source keeps its weights (to disagree with a wrong answer is no fault), and the wrong
    target examples get w / β, until the target is heard.

    Parameters
    ----------
    estimator : classifier that takes ``sample_weight``, optional
        By default a decision tree of depth 3.
    rounds : int
        N.
    correct_drift : bool
        Multiply the source's weights by :math:`2 (1 - \epsilon)` (Al-Stouhi and Reddy, 2011, theorem 2): without it
        they vanish even where the source is right.
    random_state : int
        Of the estimators that have one.

    Attributes
    ----------
    classes_ : ndarray (K,)
    estimators_ : list
        Those that vote.
    votes_ : ndarray
        Their weights.
    sample_weight_ : ndarray (n,)
        The final weights, of mean one.

    Examples
    --------
    >>> import numpy as np
    >>> from graft.importance import TrAdaBoostClassifier
    >>> draws = np.random.default_rng(0)
    >>> X = draws.normal(size=(120, 2))
    >>> in_target = np.arange(120) >= 100
    >>> y = np.where(X[:, 0] > 0, "right", "left")
    >>> y[:30] = np.where(X[:30, 1] > 0, "right", "left")  # a part of the source follows another rule
    >>> float(TrAdaBoostClassifier().fit(X, y, in_target=in_target).score(X[30:], y[30:])) > 0.9
    True
    """

    def __init__(
        self, estimator: Any = None, *, rounds: int = 20, correct_drift: bool = False, random_state: int = 0
    ) -> None:
        self.estimator = estimator
        self.rounds = rounds
        self.correct_drift = correct_drift
        self.random_state = random_state

    def fit(self, X: Any, y: Any, in_target: Any = None) -> Self:
        """Fit to the source and the few labelled target examples together.

        Parameters
        ----------
        X : array (n, d)
            Features of both domains.
        y : array (n,)
            Labels.
        in_target : array (n,) of bool, optional
            Which rows belong to the target: a mask, which cross-validation slices along with X. By default all, and
            this is AdaBoost.

        Raises
        ------
        DataError
            If the mask does not fit, or there are fewer than two classes.
        """
        integer("rounds", self.rounds, low=1)
        X, y = validate_data(self, X, y, accept_sparse="csr")
        check_classification_targets(y)
        mask = target_rows(in_target, len(y))
        self.classes_, codes = np.unique(y, return_inverse=True)
        count = len(self.classes_)
        if count < 2:
            raise DataError(
                "y", expected="examples of 2 or more classes", found=f"{count} class", remedy="Add another class."
            )
        base = DecisionTreeClassifier(max_depth=3) if self.estimator is None else self.estimator
        sources = int((~mask).sum())
        beta = 1 / (1 + np.sqrt(2 * np.log(max(sources, 1)) / self.rounds))
        weight = np.ones(len(y))
        least = 1 / (2 * max(int(mask.sum()), 1)) ** 2
        fitted, votes = [], []
        for number_of_round in range(self.rounds):
            # Of mean one: to a penalised estimator, smaller weights would be fewer examples.
            weight = weight / weight.mean()
            model = seeded(base, self.random_state + number_of_round).fit(X, codes, sample_weight=weight)
            wrong = model.predict(X) != codes
            error = float(weight[mask] @ wrong[mask] / weight[mask].sum())
            guessing = error >= 1 - 1 / count
            error = max(error, least)
            vote = 0.0 if guessing else np.log((1 - error) / error) + np.log(count - 1)
            fitted.append(model)
            votes.append(vote)
            factor = np.ones(len(y))
            factor[mask & wrong] = 1 / beta if guessing else np.exp(vote)
            if not guessing:
                factor[~mask & wrong] = beta
                if self.correct_drift:
                    factor[~mask] *= 2 * (1 - error)
            weight = weight * factor
        half = self.rounds // 2
        self.estimators_, self.votes_ = fitted[half:], np.array(votes[half:])
        if not self.votes_.any():
            self.votes_ = np.ones(len(self.estimators_))
        self.sample_weight_ = weight / weight.mean()
        return self

    def decision_function(self, X: Any) -> np.ndarray:
        """Return the votes (n, K), shares of all; for two classes the second's minus the first's (n,)."""
        shares = self._shares(X)
        return shares[:, 1] - shares[:, 0] if shares.shape[1] == 2 else shares

    def predict_proba(self, X: Any) -> np.ndarray:
        """Return the shares of the votes (n, K), columns as in `classes_`.

        One more vote of the mean size knows nothing: no class is ever impossible. They are not calibrated.
        """
        shares = self._shares(X)
        count = len(self.votes_)
        return (count * shares + 1 / shares.shape[1]) / (count + 1)

    def _shares(self, X: Any) -> np.ndarray:
        check_is_fitted(self)
        X = validate_data(self, X, reset=False, accept_sparse="csr")
        shares = np.zeros((X.shape[0], len(self.classes_)))
        for model, vote in zip(self.estimators_, self.votes_, strict=True):
            shares[np.arange(len(shares)), model.predict(X)] += vote
        return shares / self.votes_.sum()

    def predict(self, X: Any) -> np.ndarray:
        """Return the class of most votes (n,)."""
        votes = self.decision_function(X)
        return self.classes_[(votes > 0).astype(int) if votes.ndim == 1 else votes.argmax(axis=1)]

    def __sklearn_tags__(self):
        tags = super().__sklearn_tags__()
        tags.input_tags.sparse = True
        return tags


def seeded(estimator: Any, seed: int) -> Any:
    """Return a clone with `seed` where it has a random state of its own and none is set."""
    copy = clone(estimator)
    if copy.get_params(deep=False).get("random_state", 0) is None:
        copy.set_params(random_state=seed)
    return copy
