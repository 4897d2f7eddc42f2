"""``method="auto"``: methods on features compete, judged by scores that need no target labels."""

from __future__ import annotations

import time
import warnings
from collections.abc import Mapping
from dataclasses import dataclass
from functools import partial
from typing import Any

import numpy as np
from scipy import sparse
from scipy.special import expit

from graft._progress import progress
from graft.errors import GraftError
from graft.metrics import Choice, choose, predicted_shares, score_classifiers, score_regressors
from graft.techniques.adaptation.methods import JOINTLY_FITTED, Adapted, feature_method
from graft.techniques.adaptation.problem import Problem, held_out_probabilities

BASELINE = "source-only"
# Cheap ones first: where time is short, the dear ones are left out.
CANDIDATES: dict[str, tuple[str, ...]] = {
    "classification": (
        BASELINE,
        "classifier",
        "maximum-likelihood",
        "standardization",
        "centroids",
        "coral",
        "subspace-alignment",
        "geodesic-flow",
        "linear-transport",
        "sinkhorn",
        "tca",
        "bda",
        "meda",
    ),
    "multilabel": (BASELINE, "classifier", "nearest-neighbors", "coral", "linear-transport"),
    "regression": (BASELINE, "classifier", "nearest-neighbors", "ulsif", "kmm", "coral", "linear-transport"),
}


@dataclass(frozen=True, eq=False)
class Outcome:
    """What the tournament found.

    Parameters
    ----------
    choice : Choice
        Which candidate, why, and every score.
    adapted : dict of str to Adapted
        What each candidate made.
    left_out : dict of str to str
        Candidates that could not take part, with the reason.
    seconds : dict of str to float
        That each candidate took.
    """

    choice: Choice
    adapted: dict[str, Adapted]
    left_out: dict[str, str]
    seconds: dict[str, float]

    def to_dict(self) -> dict[str, Any]:
        """Return plain values, which JSON can hold."""
        return {**self.choice.to_dict(), "left_out": self.left_out, "seconds": self.seconds}


def tournament(problem: Problem, *, budget: float | None) -> Outcome:
    """Let the candidates for a task adapt, score what they predict, and choose.

    Where two tests find no difference between the domains there is nothing to adapt to, and the baseline is alone.

    Parameters
    ----------
    problem : Problem
        Source and target.
    budget : float or None
        Seconds after which no further candidate begins; None: all do.
    """
    names = CANDIDATES[problem.task.kind]
    adapted: dict[str, Adapted] = {}
    left_out: dict[str, str] = {}
    seconds: dict[str, float] = {}
    began = time.monotonic()
    with progress("adapting", len(names), "methods") as advance:
        for name in names:
            if name != BASELINE:
                why = _left_out(name, problem, budget is not None and time.monotonic() - began > budget)
                if why:
                    left_out[name] = why
                    continue
            started = time.monotonic()
            try:
                with warnings.catch_warnings():
                    warnings.simplefilter("ignore", RuntimeWarning)
                    adapted[name] = feature_method(name).adapt(problem)
            except GraftError as error:
                if name == BASELINE:
                    raise
                left_out[name] = str(error)
            seconds[name] = time.monotonic() - started
            advance(1, name)
    return Outcome(_choice(problem, adapted), adapted, left_out, seconds)


def _left_out(name: str, problem: Problem, late: bool) -> str:
    """Return why a candidate does not take part; empty if it does."""
    if late:
        return "the budget of seconds was spent"
    if name in JOINTLY_FITTED and not problem.even:
        return "it lets all source examples count the same, and here they do not"
    return "" if problem.shifted else "no difference between the domains was found"


def _choice(problem: Problem, adapted: Mapping[str, Adapted]) -> Choice:
    rows = problem.source.shape[0]
    # The ratio as it was estimated: what a candidate flattened would weigh the source's errors like the source.
    sample_weight = problem.ratio.sample_weight * problem.weight
    if problem.task.kind != "classification":
        labels = problem.task.kind == "multilabel"
        target = {name: _numbers(one, problem, labels) for name, one in adapted.items()}
        held_out, usable = _held_out(adapted, rows, partial(_own_numbers, labels=labels))
        targets = problem.targets.reshape(rows, -1)
        usable &= np.isfinite(targets).all(axis=1)
        scores = score_regressors(
            target,
            source={name: table[usable] for name, table in held_out.items()} if usable.any() else None,
            source_labels=targets[usable],
            sample_weight=sample_weight[usable],
        )
        return choose(scores, baseline=BASELINE)
    classes = np.asarray(adapted[BASELINE].head.classes_)
    # Every candidate saw the same classes, and has them in the same order.
    target = {name: one.head.predict_proba(one.seen(problem)) for name, one in adapted.items()}
    held_out, usable = _held_out(adapted, rows, held_out_probabilities)
    dense = problem.target.toarray() if sparse.issparse(problem.target) else problem.target
    scores = score_classifiers(
        target,
        classes,
        target_features=dense,
        source={name: table[usable] for name, table in held_out.items()} if usable.any() else None,
        source_labels=problem.targets[usable],
        sample_weight=sample_weight[usable],
        random_state=problem.random_state,
    )
    counts = np.array([np.sum(problem.targets == label) for label in classes], dtype=np.float64)
    return choose(
        scores,
        baseline=BASELINE,
        shares={name: predicted_shares(table) for name, table in target.items()},
        source_shares=counts / counts.sum(),
        classes=classes,
        examples=len(dense),
    )


def _held_out(adapted: Mapping[str, Adapted], rows: int, answers: Any) -> tuple[dict[str, np.ndarray], np.ndarray]:
    """Return what heads say of source examples that they had not seen, and which rows all of them speak of."""
    tables = {}
    for name, one in adapted.items():
        if getattr(one.head, "out_of_fold_", None) is not None and len(one.head.out_of_fold_) >= rows:
            tables[name] = answers(one.head, rows)
    usable = np.ones(rows, dtype=bool)
    for table in tables.values():
        usable &= np.isfinite(table).all(axis=1)
    return tables, usable if tables else np.zeros(rows, dtype=bool)


def _numbers(one: Adapted, problem: Problem, labels: bool) -> np.ndarray:
    """Return predicted numbers, or probabilities of labels, which squared errors measure as well (Brier)."""
    features = one.seen(problem)
    answer = one.head.predict_proba(features) if labels else one.head.predict(features)
    return np.asarray(answer, dtype=np.float64).reshape(features.shape[0], -1)


def _own_numbers(head: Any, rows: int, labels: bool) -> np.ndarray:
    scores = head.out_of_fold_[:rows].reshape(rows, -1)
    return expit(scores / head.temperature_) if labels else scores
