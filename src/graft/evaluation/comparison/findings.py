"""`find`: one side against the other: gain at every number of labels, labels that it is worth, time, memory."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from graft.evaluation.comparison.curves import RESAMPLES, Curves, Drawn, interval
from graft.metrics import Estimate

Budget = int | None
# What an interval of a gain has to be away from zero by to exclude it: three digits, a tenth of a point, show no less.
_SHOWN = 0.0005
# Below that a cost is as good as none: a fit of small arrays grows the process by two pages, or by none at all.
_LEAST_COST = {"seconds": 1e-3, "memory": 1.0}  # s, MiB


def best_of(curves: Curves, names: Sequence[str]) -> tuple[str, list[Budget], np.ndarray] | None:
    """Return the technique of a side with the best mean score over the budgets that all of the side were measured with.

    Of each budget, only seeds that all of them were measured with are looked at: some splits are easier than others.

    Parameters
    ----------
    curves : Curves
        All scores.
    names : sequence of str
        The techniques of the side.

    Returns
    -------
    name : str
        The best one.
    budgets : list
        That it was chosen by.
    chosen : array of shape (resamples,)
        Which of `names` is best in each resample: what is said of the best one has an interval that holds the choice.
    """
    there = [name for name in names if curves.budgets(name)]
    if not there:
        return None
    common = [budget for budget in curves.budgets(there[0]) if common_seeds(curves, there, budget)]
    while not common:  # one that was measured with other numbers of labels alone cannot be held against the others
        there.remove(min(there, key=lambda name: len(curves.budgets(name))))
        common = [budget for budget in curves.budgets(there[0]) if common_seeds(curves, there, budget)]
    means, drawn = [], []
    for name in there:
        scores = [curves.score(name, budget, common_seeds(curves, there, budget)) for budget in common]
        means.append(np.mean([value for value, _ in scores]))
        drawn.append(np.mean([resampled for _, resampled in scores], axis=0))
    best, table = int(np.argmax(means)), np.stack(drawn)
    places = np.array([list(names).index(name) for name in there])
    # A resample in which none of those seeds is drawn says nothing of the choice.
    told = ~np.isnan(table).all(axis=0)
    return there[best], common, places[np.where(told, np.nan_to_num(table, nan=-np.inf).argmax(axis=0), best)]


def find(curves: Curves, question: str, with_: Sequence[str], without: Sequence[str]) -> dict[str, Any] | None:
    """Return what the cells say of a question, as plain values; None where one side was not measured, or never alike.

    Parameters
    ----------
    curves : Curves
        All scores.
    question : str
        What the finding is called.
    with_, without : sequence of str
        The techniques of both sides.
    """
    first, second = best_of(curves, with_), best_of(curves, without)
    if first is None or second is None:
        return None
    name, other = first[0], second[0]
    common = [budget for budget in curves.budgets(name) if budget in curves.budgets(other)]
    paired = {budget: common_seeds(curves, (name, other), budget) for budget in common}
    common = [budget for budget in common if paired[budget]]
    if not common:
        return None
    gains: list[dict[str, Any]] = []
    values, drawn = [], []
    for budget in common:
        seeds = paired[budget]
        value = curves.score(name, budget, seeds)[0] - curves.score(other, budget, seeds)[0]
        resampled = _of_chosen(curves, with_, first[2], budget, seeds) - _of_chosen(
            curves, without, second[2], budget, seeds
        )
        values.append(value)
        drawn.append(resampled)
        one = interval(value, resampled).to_dict()
        gains.append({"budget": budget, "n_train": curves.n_train(name, budget), **one, "seeds": len(seeds)})
    overall = interval(float(np.mean(values)), np.mean(drawn, axis=0))
    labels = [_labels(curves, name, other, budget) for budget in curves.budgets(name)]
    return {
        "question": question,
        "with": name,
        "without": other,
        "outcome": outcome(gains, overall),
        "gain": overall.to_dict(),
        "gains": gains,
        "labels": [one for one in labels if one is not None],
        "seconds": _cost(curves, name, other, common, "seconds"),
        "memory": _cost(curves, name, other, common, "memory"),
        "tasks": [],
    }


def outcome(gains: Sequence[dict[str, Any]], overall: Estimate) -> str:
    """Return what gains (with intervals) at several numbers of labels, and their mean, say together."""
    better, worse = any(map(is_ahead, gains)), any(map(is_behind, gains))
    if better and worse:
        return "mixed"
    if is_ahead(overall.to_dict()):
        return "pays"
    if is_behind(overall.to_dict()):
        return "does not pay"
    return "mixed" if better or worse else "inconclusive"


def is_ahead(gain: Mapping[str, Any]) -> bool:
    """Return whether the interval of a gain lies above zero, as it is shown."""
    return gain["low"] is not None and gain["low"] >= _SHOWN


def is_behind(gain: Mapping[str, Any]) -> bool:
    """Return whether the interval of a gain lies below zero, as it is shown."""
    return gain["high"] is not None and gain["high"] <= -_SHOWN


def equal_labels(score: float, numbers: np.ndarray, scores: np.ndarray) -> tuple[float, str | None]:
    r"""Return how many examples a learning curve needs for a score, and whether that is a bound.

    The curve is made to rise (isotonic regression: more examples do no harm, what looks so is noise), and runs straight
    between its points over the logarithm of the number of examples.

    Parameters
    ----------
    score : float
        What is to be reached.
    numbers, scores : array of shape (m,)
        Its points, numbers ascending.

    Returns
    -------
    number : float
    bound : {"at least", "at most", None}
        ``"at least"`` the largest number where the curve ends below the score; ``"at most"`` the smallest one where it
        begins at the score or above.
    """
    from sklearn.isotonic import isotonic_regression

    rising = isotonic_regression(scores)
    if score > rising[-1]:
        return float(numbers[-1]), "at least"
    if score <= rising[0]:
        return float(numbers[0]), None if score == rising[0] else "at most"
    right = int(np.searchsorted(rising, score))  # the first point that is not below the score
    left = right - 1
    share = (score - rising[left]) / (rising[right] - rising[left])
    logs = np.log(numbers[[left, right]])
    return float(np.exp(logs[0] + share * (logs[1] - logs[0]))), None


def _labels(curves: Curves, name: str, other: str, budget: Budget) -> dict[str, Any] | None:
    """Return how many examples `other` needs for what `name` reaches with a number of labels, on the same seeds.

    None where no seed was measured on both sides.
    """
    number = curves.n_train(name, budget)
    seeds, points = curves.measured_seeds(name, budget), []
    for one in curves.budgets(other):
        shared = [seed for seed in seeds if seed in curves.measured_seeds(other, one)]
        if shared:
            seeds = shared
            points.append(one)
    if not points:
        return None
    numbers = np.array([curves.n_train(other, one) for one in points])
    goal, goals = curves.score(name, budget, seeds)
    scores: list[Drawn] = [curves.score(other, one, seeds) for one in points]
    equals, bound = equal_labels(goal, numbers, np.array([value for value, _ in scores]))
    table = np.stack([drawn for _, drawn in scores], axis=1)
    factors = np.full(RESAMPLES, np.nan)
    for place in np.flatnonzero(np.isfinite(goals) & np.isfinite(table).all(axis=1)):
        reached, how = equal_labels(goals[place], numbers, table[place])
        factors[place] = {"at least": np.inf, "at most": 0.0, None: reached / number}[how]
    span = interval(equals / number, factors)
    # Of a resample beyond the curve's ends nothing is known but that it lies there.
    low = numbers[-1] / number if np.isposinf(span.low) else span.low
    high = numbers[0] / number if span.high == 0 else span.high
    return {
        "budget": budget,
        "n_train": number,
        "equals": equals,
        "factor": equals / number,
        "low": float(low) if np.isfinite(low) else None,
        "high": float(high) if np.isfinite(high) else None,
        "bound": bound,
    }


def _cost(curves: Curves, name: str, other: str, common: Sequence[Budget], what: str) -> dict[str, Any] | None:
    """Return what both sides cost with the largest number of labels that both were measured with, and their ratio."""

    def costs(technique: str) -> dict[int, float]:
        found = curves.cells(technique, budget).items()
        if what == "seconds":
            return {seed: one.cell.seconds["total"] for seed, one in found}
        return {seed: one.cell.peak_memory_mib for seed, one in found if one.cell.peak_memory_mib is not None}

    budget = common[-1]
    mine, theirs = costs(name), costs(other)
    shared = [seed for seed in mine if seed in theirs]
    if not shared:
        return None
    (with_, with_drawn), (without, without_drawn) = (curves.cost(one, shared) for one in (mine, theirs))
    least = _LEAST_COST[what]
    drawn = np.maximum(without_drawn, least) / np.maximum(with_drawn, least)
    ratio = interval(max(without, least) / max(with_, least), drawn).to_dict()
    return {
        "budget": budget,
        "with": with_,
        "without": without,
        "factor": ratio["value"],
        "low": ratio["low"],
        "high": ratio["high"],
    }


def _of_chosen(
    curves: Curves, names: Sequence[str], chosen: np.ndarray, budget: Budget, seeds: Sequence[int]
) -> np.ndarray:
    """Return the resampled scores of the technique that each resample chose; NaN where it was not measured."""
    drawn = np.full(RESAMPLES, np.nan)
    for place, name in enumerate(names):
        mine = chosen == place
        if mine.any() and set(seeds) <= set(curves.measured_seeds(name, budget)):
            drawn[mine] = curves.score(name, budget, seeds)[1][mine]
    return drawn


def common_seeds(curves: Curves, names: Sequence[str], budget: Budget) -> list[int]:
    """Return the seeds that all of some techniques were measured with at a number of labels, ascending."""
    return sorted(set.intersection(*(set(curves.measured_seeds(name, budget)) for name in names)))
