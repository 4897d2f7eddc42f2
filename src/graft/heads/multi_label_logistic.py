"""Several yes-or-no labels at once: one logistic path per label, missing labels allowed."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import Self, final

import numpy as np
from scipy import sparse
from sklearn.base import BaseEstimator, ClassifierMixin
from sklearn.utils.validation import _check_sample_weight, check_is_fitted, validate_data

from graft._checks import number, one_of
from graft.heads.calibration import fit_temperature
from graft.heads.classifier_head import SCALINGS
from graft.heads.folds import FOLDS, fold_numbers
from graft.heads.label_table import encode, label_table, missing, value_weights
from graft.heads.logistic_path import STRENGTHS, two_columns
from graft.heads.novelty import fit_novelty, novelty_score, threshold
from graft.heads.path_solver import Binomial, Design, solve_path
from graft.heads.scores import best, classification_scores
from graft.heads.table import Table
from graft.heads.training_set import TrainingSet, apply_scaling, prepare


@final
class MultiLabelLogistic(ClassifierMixin, BaseEstimator):
    r"""Binary logistic regressions, one per label, solved together; each has its own C, chosen by cross-validation.

    Every label minimises :math:`C_l \sum_i w_i \, \ell(x_i^T w_l + b_l, y_{il}) + \frac12 \lVert w_l \rVert^2` over
    the examples that have it. All labels, folds and strengths share the scaled features, their eigenbasis, and the
    matrix products.

    Parameters
    ----------
    Cs : sequence of float
        Inverse penalties to try.
    scaling, class_weight, calibrate, random_state
        As in `graft.heads.LogisticPath`; of the class weights only "balanced" makes sense for several labels, a dict
        serves a single one.

    Attributes
    ----------
    classes_ : ndarray (2,)
        The two values of every label, sorted.
    coef_ : ndarray (labels, d)
    intercept_ : ndarray (labels,)
    C_ : ndarray (labels,)
    temperature_ : ndarray (labels,)
    out_of_fold_ : ndarray (n, labels) or None
        Logits of the second value; NaN where a label was never held out.
    selection_ : dict

    Examples
    --------
    >>> import numpy as np
    >>> from graft.heads import MultiLabelLogistic
    >>> X = np.random.default_rng(0).normal(size=(60, 4))
    >>> Y = (X[:, :2] > 0).astype(float)
    >>> Y[::3, 1] = np.nan
    >>> MultiLabelLogistic().fit(X, Y).predict([[2.0, -2.0, 0.0, 0.0]]).tolist()
    [[1.0, 0.0]]
    """

    def __init__(
        self,
        *,
        Cs: Sequence[float] = STRENGTHS,
        scaling: str = "auto",
        class_weight: dict | str | None = None,
        calibrate: bool = True,
        random_state: int | None = None,
    ) -> None:
        self.Cs = Cs
        self.scaling = scaling
        self.class_weight = class_weight
        self.calibrate = calibrate
        self.random_state = random_state

    def fit(self, X, y, sample_weight=None, groups=None) -> Self:
        """Fit one path per label.

        Parameters
        ----------
        X : array or sparse matrix (n, d)
            Features.
        y : array or data frame (n, labels), or (n,)
            The same two values in every column (0 and 1, "no" and "yes"); NaN or None where a label is missing.
        sample_weight : array (n,), optional
            An integer weight equals as many copies of the example.
        groups : array (n,), optional
            Examples of one group never stand on both sides of a split.

        Raises
        ------
        DataError
            If a label does not have both values among the examples that have it.
        """
        one_of("scaling", self.scaling, SCALINGS)
        X = validate_data(self, X, accept_sparse="csr", dtype=[np.float64, np.float32], ensure_min_samples=2)
        table = label_table(y, X.shape[0])
        weight = _check_sample_weight(sample_weight, X, dtype=np.float64, ensure_non_negative=True)
        used = weight > 0
        self.single_label_ = table.ndim == 1
        columns = table.reshape(len(table), -1)[used]
        values, targets, present = encode(columns)
        self.classes_ = values
        weights = weight[used, None] * present
        if self.class_weight is not None:
            for at in range(columns.shape[1]):
                weights[:, at] *= value_weights(self.class_weight, values, targets[:, at], weights[:, at])
        training = prepare(
            X[used],
            weight=weight[used],
            groups=None if groups is None else np.asarray(groups)[used],
            codes=None,
            classes=0,
            targets=None,
            scaling=self.scaling,
            random_state=self.random_state,
        )
        folds = _folds(training, targets, present)
        out_of_fold = self._solve(training, targets, weights, folds)
        self.novelty_rows_, self.novelty_scores_ = fit_novelty(training)
        self.out_of_fold_ = None
        if out_of_fold is not None:
            whole = np.full((len(table), columns.shape[1]), np.nan)
            whole[used] = out_of_fold
            if not used.all():
                whole[~used] = self._label_logits(X[~used])
            self.out_of_fold_ = whole
        return self

    def _solve(
        self, training: TrainingSet, targets: np.ndarray, weights: np.ndarray, folds: np.ndarray
    ) -> np.ndarray | None:
        """Choose each label's C and fit; return the out-of-fold logits (n, labels)."""
        import torch

        labels = targets.shape[1]
        spectrum = training.spectrum
        features = training.features if spectrum is None else spectrum.coordinates
        small = features.shape[0] * features.shape[1] * labels <= 20_000_000
        dtype = torch.float64 if small else torch.float32
        design = Design(features, dtype=dtype)
        strengths = sorted(float(value) for value in self.Cs)
        chosen = np.full(labels, int(np.argmin(np.abs(np.log(strengths) - np.log(10.0)))))
        self.temperature_ = np.ones(labels)
        scores: list[list[dict[str, float]]] = [[] for _ in range(labels)]
        out_of_fold = None
        if (folds >= 0).any():
            paths = _cross_validate(
                design,
                strengths,
                targets,
                weights,
                folds,
                1e-17 if features.shape[0] * features.shape[1] * labels <= 100_000 else 1e-6,
            )
            out_of_fold = np.full(targets.shape, np.nan)
            for at in range(labels):
                if not (folds[:, at] >= 0).any():
                    continue
                part = _one_label(training, targets[:, at], weights[:, at], folds[:, at])
                rows = weights[:, at] > 0
                held = [two_columns(path[rows, at, None]) for path in paths]
                scores[at] = [classification_scores(logits, part) for logits in held]
                chosen[at] = best(scores[at])
                out_of_fold[rows, at] = paths[chosen[at]][rows, at]
                if self.calibrate:
                    kept = part.held_out
                    assert part.codes is not None
                    self.temperature_[at] = fit_temperature(held[chosen[at]][kept], part.codes[kept], part.weight[kept])
        self.C_ = np.array([strengths[at] for at in chosen])
        loss = Binomial(torch.from_numpy(targets).to(dtype), torch.from_numpy(weights).to(dtype))
        (point,) = solve_path(
            design,
            loss,
            [self.C_],
            problems=labels,
            outputs=1,
            tolerance=1e-13 if small else 1e-6,
            memory=10,
            max_iterations=2000,
            polish=labels == 1,
        )
        parameters = point.parameters[..., 0].numpy().astype(np.float64)
        slopes = parameters[:-1] if spectrum is None else spectrum.basis.astype(np.float64) @ parameters[:-1]
        slopes = slopes / training.scale[:, None]
        self.coef_ = np.ascontiguousarray(slopes.T)
        self.intercept_ = parameters[-1] - training.location @ slopes
        self.location_, self.scale_ = training.location, training.scale
        self.selection_ = {
            "labels": [
                {
                    "C": float(self.C_[at]),
                    "tried": [{"C": C, **score} for C, score in zip(strengths, scores[at], strict=False)],
                }
                for at in range(labels)
            ]
        }
        return out_of_fold

    def decision_function(self, X) -> np.ndarray:
        """Return the logit of each label's second value, (n, labels) or (n,)."""
        logits = self._label_logits(self._checked(X))
        return logits[:, 0] if self.single_label_ else logits

    def predict_proba(self, X) -> np.ndarray:
        """Return the probability of each label's second value (n, labels); for one-dimensional y, of both (n, 2)."""
        probability = _sigmoid(self._label_logits(self._checked(X)) / self.temperature_)
        return np.hstack([1 - probability, probability]) if self.single_label_ else probability

    def predict(self, X, reject: float | None = None) -> np.ndarray:
        """Return the more probable value of each label, (n, labels) or (n,).

        Parameters
        ----------
        X : array or sparse matrix (n, d)
            Features.
        reject : float in (0, 1), optional
            The false-alarm rate: inputs that are more foreign than all but this fraction of inputs like the training
            examples get None.
        """
        features = self._checked(X)
        answers = self.classes_[(self._label_logits(features) > 0).astype(int)]
        answers = answers[:, 0] if self.single_label_ else answers
        if reject is None:
            return answers
        answers = answers.astype(object)
        answers[self._novelty(features) > self.ood_threshold(reject)] = None
        return answers

    def score(self, X, y, sample_weight=None) -> float:
        """Return the fraction of labels present that are predicted rightly."""
        table = label_table(y, X.shape[0] if sparse.issparse(X) else len(X))
        right = self.predict(X) == table
        weight = np.ones(len(table)) if sample_weight is None else np.asarray(sample_weight, dtype=float)
        present = ~missing(table)
        share = present * (weight if table.ndim == 1 else weight[:, None])
        return float((right * share).sum() / share.sum())

    def ood_score(self, X) -> np.ndarray:
        """Return how foreign each input is (n,): its mean distance to the nearest training examples."""
        return self._novelty(self._checked(X))

    def ood_threshold(self, rate: float) -> float:
        """Return the score that a fraction `rate` at most of inputs like the training examples exceeds."""
        check_is_fitted(self)
        return threshold(self.novelty_scores_, number("reject", rate, low=0.0, high=1.0, open_low=True))

    def _checked(self, X) -> Table:
        check_is_fitted(self)
        return validate_data(self, X, reset=False, accept_sparse="csr", dtype=[np.float64, np.float32])

    def _label_logits(self, features: Table) -> np.ndarray:
        return np.asarray(features @ self.coef_.T) + self.intercept_

    def _novelty(self, features: Table) -> np.ndarray:
        return novelty_score(apply_scaling(features, self.location_, self.scale_), self.novelty_rows_)

    def __sklearn_tags__(self):
        tags = super().__sklearn_tags__()
        tags.input_tags.sparse = True
        tags.classifier_tags.multi_class = False
        tags.classifier_tags.multi_label = True
        tags.target_tags.multi_output = True
        return tags


def _folds(training: TrainingSet, targets: np.ndarray, present: np.ndarray) -> np.ndarray:
    """Return the fold of each example for each label (n, labels); -1 where it is missing or cannot be held out."""
    folds = np.full(targets.shape, -1)
    for at in range(targets.shape[1]):
        rows = np.flatnonzero(present[:, at])
        _, groups = np.unique(training.groups[rows], return_inverse=True)
        folds[rows, at] = fold_numbers(training.identity[rows], groups, targets[rows, at].astype(np.int64))
    return folds


def _cross_validate(
    design: Design,
    strengths: list[float],
    targets: np.ndarray,
    weights: np.ndarray,
    folds: np.ndarray,
    tolerance: float,
) -> list[np.ndarray]:
    """Return for each strength the logits (n, labels) of each example from the models that did not see its fold."""
    import torch

    rows, labels = targets.shape
    in_training = folds[:, :, None] != np.arange(FOLDS)
    problem_weights = (weights[:, :, None] * in_training).reshape(rows, -1)
    problem_targets = np.repeat(targets, FOLDS, axis=1)
    loss = Binomial(
        torch.from_numpy(problem_targets).to(design.dtype), torch.from_numpy(problem_weights).to(design.dtype)
    )
    own = np.maximum(folds, 0)[:, :, None]
    result = []
    for point in solve_path(design, loss, strengths, problems=labels * FOLDS, outputs=1, tolerance=tolerance):
        logits = point.logits.reshape(rows, labels, FOLDS).numpy().astype(np.float64)
        held = np.take_along_axis(logits, own, axis=2)[..., 0]
        held[folds < 0] = np.nan
        result.append(held)
    return result


def _one_label(training: TrainingSet, targets: np.ndarray, weights: np.ndarray, folds: np.ndarray) -> TrainingSet:
    """Return the training set of one label, for scoring: without features, and without the examples that lack it."""
    rows = weights > 0
    return replace(
        training,
        features=np.empty((int(rows.sum()), 0)),
        weight=weights[rows],
        groups=training.groups[rows],
        identity=training.identity[rows],
        fold=folds[rows],
        codes=targets[rows].astype(np.int64),
        classes=2,
    )


def _sigmoid(logits: np.ndarray) -> np.ndarray:
    from scipy.special import expit

    return expit(logits)
