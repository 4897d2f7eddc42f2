"""The check: the two techniques that the forecast puts first are tried on held-out examples, within a budget."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
from scipy.stats import norm

from graft.data import Domain, split
from graft.errors import DataError, GraftError
from graft.evaluation.advice.budget import Budget
from graft.evaluation.advice.forecast import Forecast
from graft.evaluation.advice.models import rightness
from graft.evaluation.advice.question import Question
from graft.metrics import Estimate, Statistic, bootstrap

FOLDS = 5
# A check that is expected to add less than this to the score is not worth its seconds.
_HOPELESS = 0.003
# With fewer of the steps than this a training says nothing of the whole one.
LEAST_SHARE = 0.3
# Beyond so many standard deviations no further fold is needed.
_DECIDED = 2.5
Rightness = Callable[..., np.ndarray]


@dataclass(frozen=True)
class Trial:
    """Two techniques on the same held-out examples.

    Parameters
    ----------
    first, second : str
        The one that was expected to be better, and the other.
    folds, examples : int
        Fifths of the examples that were held out, and how many examples those are.
    scores : dict of str to Estimate
        Of both.
    gain : Estimate
        By how much the first is better, on the same examples; with its 95 % interval.
    share : float
        The part of the steps that trainings took; below 1 where the budget did not allow all.
    seconds : dict of str to float
        What each took.
    winner : str
        Which is better by the forecast and this check together.
    """

    first: str
    second: str
    folds: int
    examples: int
    scores: dict[str, Estimate]
    gain: Estimate
    share: float
    seconds: dict[str, float]
    winner: str

    def to_dict(self) -> dict[str, Any]:
        """Return plain values."""
        return {
            "first": self.first,
            "second": self.second,
            "folds": self.folds,
            "examples": self.examples,
            "scores": {name: one.to_dict() for name, one in self.scores.items()},
            "gain": self.gain.to_dict(),
            "share_of_steps": self.share,
            "seconds": self.seconds,
            "winner": self.winner,
        }


def value_of_checking(first: Forecast, second: Forecast, examples: int) -> float:
    r"""Return what a check on so many held-out examples is expected to add to the score.

    With a difference d ~ N(m, s²) as forecast and a measurement of it with noise v, the mean of d given the measurement
    is normal around m with deviation :math:`r = s^2 / \sqrt{s^2 + v^2}`. Whoever follows it gains, on average,
    :math:`r \phi(m / r) - m \Phi(-m / r)` over the first: the value of the information (Raiffa and Schlaifer, 1961).
    """
    difference = first.worth - second.worth
    mean, spread = float(difference.mean()), float(difference.std())
    reach = spread**2 / math.sqrt(spread**2 + _noise(first, second, examples) ** 2)
    if reach < 1e-12:
        return max(0.0, -mean)
    return float(reach * norm.pdf(mean / reach) - mean * norm.cdf(-mean / reach))


def worth_checking(first: Forecast, second: Forecast, examples: int) -> bool:
    """Return whether a check on so many held-out examples may change the advice by enough."""
    return value_of_checking(first, second, examples) >= _HOPELESS


def check(
    question: Question,
    first: Forecast,
    second: Forecast,
    budget: Budget,
    *,
    share: float = 1.0,
    epochs: Any = None,
    measure: Rightness = rightness,
) -> Trial | None:
    """Try two techniques on fifths of the examples until it is clear which is better, or the next does not fit.

    Parameters
    ----------
    question : Question
        The data.
    first, second : Forecast
        What is expected of them.
    budget : Budget
        That is kept.
    share, epochs
        The part of the epochs that is trained, and how many they are.
    measure : callable
        As `rightness`.

    Returns
    -------
    Trial or None
        None where the examples cannot be divided.

    Raises
    ------
    GraftError
        If a technique cannot be fitted to four fifths of the examples.
    """
    fold = _folds(question)
    if fold is None:
        return None
    names = (first.technique, second.technique)
    tables: dict[str, list[np.ndarray]] = {name: [] for name in names}
    rows: list[np.ndarray] = []
    seconds = dict.fromkeys(names, 0.0)
    longest, trial = 0.0, None
    for number in range(FOLDS):
        if number and longest > budget.left:
            break
        learnt, asked = np.flatnonzero(fold != number), np.flatnonzero(fold == number)
        began = budget.clock()
        try:
            for name in names:
                started = budget.clock()
                tables[name].append(measure(name, question, learnt, asked, share=share, epochs=epochs))
                seconds[name] += budget.clock() - started
        except GraftError:
            if trial is None:
                raise
            return trial
        rows.append(asked)
        longest = max(longest, budget.clock() - began)
        both = [np.concatenate(tables[name]) for name in names]
        groups = None if question.groups is None else question.groups[np.concatenate(rows)]
        scores, gain = _compared(both[0], both[1], groups)
        mean, spread = _together(first, second, gain, len(both[0]), doubt=2.0 if share < 1 else 1.0)
        trial = Trial(
            *names,
            folds=number + 1,
            examples=len(both[0]),
            scores=dict(zip(names, scores, strict=True)),
            gain=gain,
            share=share,
            seconds=dict(seconds),
            winner=names[0] if mean >= 0 else names[1],
        )
        if abs(mean) > _DECIDED * spread:
            break
    return trial


def _noise(first: Forecast, second: Forecast, examples: int) -> float:
    """Return the standard deviation of a measured difference: half of the errors are of one technique alone."""
    errors = np.clip([1 - first.draws.mean(), 1 - second.draws.mean()], 0.01, 1)
    return math.sqrt(float(errors.sum()) / 2 / max(examples, 1))


def _together(first: Forecast, second: Forecast, gain: Estimate, examples: int, *, doubt: float) -> tuple[float, float]:
    """Return mean and standard deviation of the difference, by forecast and measurement, weighed by precision."""
    difference = first.worth - second.worth
    costs = float((difference - (first.draws - second.draws)).mean())
    prior, spread = float(difference.mean()), max(float(difference.std()), 1e-4)
    measured = (gain.high - gain.low) / 3.92
    # An interval of few examples can be of no width; what the forecast expects of the noise bounds it from below.
    noise = doubt * max(measured if math.isfinite(measured) else 0.0, 0.5 * _noise(first, second, examples))
    weight = np.array([1 / spread**2, 1 / noise**2])
    mean = float(weight @ [prior, gain.value + costs] / weight.sum())
    return mean, float(weight.sum() ** -0.5)


def _compared(one: np.ndarray, other: np.ndarray, groups: Any) -> tuple[list[Estimate], Estimate]:
    """Return both scores and their difference, on cells that both speak of: means over tasks."""
    known = np.isfinite(one) & np.isfinite(other)
    columns = known.any(axis=0)
    known, tables = known[:, columns], [np.where(known, table, 0)[:, columns] for table in (one, other)]
    width = known.shape[1]

    def mean(means: np.ndarray) -> np.ndarray:
        total, count = means[..., :width], means[..., width:]
        with np.errstate(invalid="ignore", divide="ignore"):
            return np.nanmean(np.where(count > 0, total / count, np.nan), axis=-1)

    rows = {"first": tables[0], "second": tables[1], "gain": tables[0] - tables[1]}
    statistics = {name: Statistic(np.concatenate([table, known], axis=1), mean) for name, table in rows.items()}
    found = bootstrap(statistics, groups=groups)
    return [found["first"], found["second"]], found["gain"]


def _folds(question: Question) -> np.ndarray | None:
    """Return the fold of each example (n,), classes of a single task spread evenly; None where that cannot be."""
    single = question.tasks[0].kind == "classification" and not question.several
    rows = np.arange(question.examples)
    labels = question.labels if single else None
    whole = Domain(rows.astype(np.float64)[:, None], labels, groups=question.groups)
    fold = np.empty(question.examples, np.intp)
    try:
        parts = split(whole, fractions={str(n): 1 / FOLDS for n in range(FOLDS)}, random_state=question.seed)
    except DataError:
        return None
    for name, part in parts.items():
        fold[np.asarray(part.inputs)[:, 0].astype(np.intp)] = int(name)
    if single:  # what is learnt from must have every class
        codes = question.tasks[0].codes(question.labels)
        for number in range(FOLDS):
            if len(np.unique(codes[fold != number])) < len(np.unique(codes)):
                return None
    return fold
