"""``method="auto"``: methods on features compete, judged by scores that need no target labels.

Where classes are predicted and a candidate convinces, none of the candidates is served but their consensus: the scores
tell much better whether to adapt at all than which of several good candidates is the best.
"""

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
from graft.alignment import ManifoldRegularization
from graft.errors import GraftError
from graft.metrics import (
    Choice,
    calibrated_answers,
    choose,
    class_warnings,
    consensus,
    predicted_shares,
    score_classifiers,
    score_regressors,
)
from graft.techniques.adaptation.methods import JOINTLY_FITTED, Adapted, feature_method
from graft.techniques.adaptation.problem import Problem, held_out_probabilities

BASELINE = "source-only"
CONSENSUS = "consensus"
# Why a candidate is left out whose turn came too late.
OUT_OF_TIME = "the budget of seconds was spent"
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
        "cdan-head",
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
    served : str
        Whose model is to be used: a candidate's, or that of the consensus.
    reason : str
        Why.
    warnings : tuple of str
        What the user should know before trusting it.
    choice : Choice
        Which candidate is the best by itself, and every score.
    adapted : dict of str to Adapted
        What each candidate made, and the consensus where it is served.
    left_out : dict of str to str
        Candidates that could not take part, with the reason.
    seconds : dict of str to float
        That each candidate took.
    """

    served: str
    reason: str
    warnings: tuple[str, ...]
    choice: Choice
    adapted: dict[str, Adapted]
    left_out: dict[str, str]
    seconds: dict[str, float]

    def to_dict(self) -> dict[str, Any]:
        """Return plain values, which JSON can hold."""
        own = {"chosen": self.served, "reason": self.reason, "warnings": list(self.warnings)}
        return {**self.choice.to_dict(), **own, "left_out": self.left_out, "seconds": self.seconds}


def tournament(problem: Problem, *, budget: float | None) -> Outcome:
    """Let the candidates for a task adapt, score what they predict, and choose or average.

    Where two tests find no difference between the domains there is nothing to adapt to, and the baseline is alone. A
    candidate that answers like another one before it takes no part: two copies would have two voices.

    Parameters
    ----------
    problem : Problem
        Source and target.
    budget : float or None
        Seconds after which no further candidate begins; None: all do.
    """
    names = CANDIDATES[problem.task.kind]
    adapted: dict[str, Adapted] = {}
    answers: dict[str, np.ndarray] = {}
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
                    one = feature_method(name).adapt(problem)
                said = _answers(one, problem)
                copied = next((other for other, known in answers.items() if _alike(said, known)), None)
                if copied is None:
                    adapted[name], answers[name] = one, said
                else:
                    left_out[name] = f"it answers like {copied!r}"
            except GraftError as error:
                if name == BASELINE:
                    raise
                left_out[name] = str(error)
            seconds[name] = time.monotonic() - started
            advance(1, name)
    if problem.task.kind == "classification":
        return _classes_judged(problem, adapted, answers, left_out, seconds)
    choice = _numbers_judged(problem, adapted, answers)
    said_of = (*choice.warnings, *_alike_warning(problem))
    return Outcome(choice.chosen, choice.reason, said_of, choice, adapted, left_out, seconds)


def _left_out(name: str, problem: Problem, late: bool) -> str:
    """Return why a candidate does not take part; empty if it does."""
    if late:
        return OUT_OF_TIME
    if name in JOINTLY_FITTED and not problem.even:
        return "it lets all source examples count the same, and here they do not"
    return "" if problem.shifted else "no difference between the domains was found"


def _answers(one: Adapted, problem: Problem) -> np.ndarray:
    """Return what a candidate says of the target: probabilities, which squared errors measure as well, or numbers."""
    features = one.seen(problem)
    regression = problem.task.kind == "regression"
    answer = one.head.predict(features) if regression else one.head.predict_proba(features)
    return np.asarray(answer, dtype=np.float64).reshape(features.shape[0], -1)


def _alike(one: np.ndarray, other: np.ndarray) -> bool:
    return bool(np.allclose(one, other, rtol=1e-9, atol=1e-12))


def _alike_warning(problem: Problem) -> tuple[str, ...]:
    if not problem.made_alike:
        return ()
    return (
        f"The domains' means agree more closely than by chance (AUC {problem.tests[0].auc:.2f}), as if each had been "
        "standardised by itself: no test can tell whether they differ, and adaptation was tried.",
    )


def _ratio(problem: Problem) -> np.ndarray:
    """Return the density ratio of the source (n_s,) as it was estimated.

    What a candidate flattened would weigh the source's errors like the source.
    """
    return problem.ratio.sample_weight * problem.weight


def _numbers_judged(problem: Problem, adapted: Mapping[str, Adapted], answers: Mapping[str, np.ndarray]) -> Choice:
    rows = problem.source.shape[0]
    labels = problem.task.kind == "multilabel"
    held_out, usable = _held_out(adapted, rows, partial(_own_numbers, labels=labels))
    targets = problem.targets.reshape(rows, -1)
    usable &= np.isfinite(targets).all(axis=1)
    scores = score_regressors(
        answers,
        source={name: table[usable] for name, table in held_out.items()} if usable.any() else None,
        source_labels=targets[usable],
        sample_weight=_ratio(problem)[usable],
    )
    return choose(scores, baseline=BASELINE)


def _classes_judged(
    problem: Problem,
    adapted: dict[str, Adapted],
    answers: dict[str, np.ndarray],
    left_out: dict[str, str],
    seconds: dict[str, float],
) -> Outcome:
    """Return the baseline where no candidate convinces, and else the consensus of all that took part."""
    # Every candidate saw the same classes, and has them in the same order.
    classes = np.asarray(adapted[BASELINE].head.classes_)
    held_out, usable = _held_out(adapted, problem.source.shape[0], held_out_probabilities)
    source = {name: table[usable] for name, table in held_out.items()} if usable.any() else None
    dense = problem.target.toarray() if sparse.issparse(problem.target) else problem.target
    scores = score_classifiers(
        answers,
        classes,
        target_features=dense,
        source=source,
        source_labels=problem.targets[usable],
        sample_weight=_ratio(problem)[usable],
        random_state=problem.random_state,
    )
    shares = {name: predicted_shares(table) for name, table in answers.items()}
    choice = choose(scores, baseline=BASELINE, shares=shares)
    served, reason, told = BASELINE, choice.reason, answers[BASELINE]
    if choice.convincing:
        started = time.monotonic()
        honest = calibrated_answers(answers, classes, source=source, source_labels=problem.targets[usable])
        served, reason = CONSENSUS, _why_all(choice)
        adapted[served] = _distilled(problem, consensus(honest, choice.voices), classes)
        told = _answers(adapted[served], problem)
        seconds[served] = time.monotonic() - started
    counts = np.array([np.sum(problem.targets == label) for label in classes], dtype=np.float64)
    said_of = (
        *choice.warnings,
        *class_warnings(predicted_shares(told), shares, counts / counts.sum(), classes, len(dense)),
        *_alike_warning(problem),
    )
    return Outcome(served, reason, said_of, choice, adapted, left_out, seconds)


def _distilled(problem: Problem, probabilities: np.ndarray, classes: np.ndarray) -> Adapted:
    """Return one classifier of the target's features that says what the probabilities (n_t, K) say.

    It is smaller than the candidates together, and corrects what they say of an example by what they say of those
    around it. What is labelled of the target keeps its label.
    """
    wanted = probabilities.copy()
    wanted[problem.known] = problem.known_targets[:, None] == classes
    student = ManifoldRegularization(random_state=problem.random_state)
    return Adapted(None, student.fit(problem.target, probabilities=wanted, classes=classes))


def _why_all(choice: Choice) -> str:
    heard = sum(voice > 0 for voice in choice.voices.values())
    names = [repr(name) for name in choice.convincing]
    some = ", ".join(names[:3]) + (f" and {len(names) - 3} more" if len(names) > 3 else "")
    return (
        f"The consensus of {heard} candidates, each heard by its standing, is served: {len(names)} of them beat "
        f"{BASELINE!r} by most of the evidence ({some})."
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


def _own_numbers(head: Any, rows: int, labels: bool) -> np.ndarray:
    scores = head.out_of_fold_[:rows].reshape(rows, -1)
    return expit(scores / head.temperature_) if labels else scores
