"""How a score grows with the number of examples, and where it goes from there."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np

from graft.data import Task
from graft.metrics import Estimate, Evaluation

# The exponent of a power law of errors, and its standard deviation, before anything is measured.
EXPONENT, SPREAD = 0.3, 0.15
# Of every example that cross-validation learns from, it holds out a quarter (five folds).
LEARNT = 0.8
# The parts of the examples that are learnt from: what matters most comes first.
PARTS = (1.0, 0.5, 0.25)
_LEAST = 20
# No log error is less certain than this.
_LARGEST = 0.7


@dataclass(frozen=True)
class LearningCurve:
    r"""Cross-validated scores at growing numbers of examples.

    The error :math:`1 - s` is taken to fall as :math:`n^{-c}`. Each step of the curve estimates c; the estimates are
    averaged by their precision, together with an exponent of 0.3 ± 0.15 that stands for what is known before.

    Parameters
    ----------
    examples : tuple of int
        How many there were, ascending.
    scores : tuple of Estimate
        With each number.
    """

    examples: tuple[int, ...]
    scores: tuple[Estimate, ...]

    @property
    def score(self) -> Estimate:
        """The score with all of them."""
        return self.scores[-1]

    @property
    def log_error(self) -> tuple[float, float]:
        """The logarithm of the error with all examples, as cross-validation sees it, and its standard deviation."""
        return self._log_error(len(self.examples) - 1)

    @property
    def exponent(self) -> tuple[float, float]:
        """c, and its standard deviation."""
        precision, total = 1 / SPREAD**2, EXPONENT / SPREAD**2
        for place in range(1, len(self.examples)):
            (before, one), (after, other) = self._log_error(place - 1), self._log_error(place)
            reach = math.log(self.examples[place] / self.examples[place - 1])
            if reach <= 0:
                continue
            weight = reach**2 / (one**2 + other**2)
            precision, total = precision + weight, total + weight * (before - after) / reach
        return max(total / precision, 0.0), precision**-0.5

    def at(self, examples: float) -> tuple[float, float]:
        """Return the log error of a model that learns from so many examples, and its standard deviation."""
        value, spread = self.log_error
        exponent, doubt = self.exponent
        reach = math.log(examples / (LEARNT * self.examples[-1]))
        return value - exponent * reach, math.hypot(spread, doubt * reach)

    def to_dict(self) -> dict[str, Any]:
        """Return plain values."""
        return {
            "examples": list(self.examples),
            "scores": [one.to_dict() for one in self.scores],
            "exponent": self.exponent[0],
        }

    def _log_error(self, place: int) -> tuple[float, float]:
        # Nothing is without error: with n examples, half of one is the least that can be claimed.
        error = max(1 - self.scores[place].value, 0.5 / self.examples[place])
        low, high = self.scores[place].low, self.scores[place].high
        spread = (high - low) / 3.92 if math.isfinite(high - low) else 0.5
        return math.log(error), min(max(spread, 0.5 / self.examples[place]) / error, _LARGEST)


def learning_curve(
    evaluate: Callable[[np.ndarray], Evaluation | None],
    labels: np.ndarray,
    task: Task,
    metric: str,
    *,
    seed: int,
    more: Callable[[], bool] = lambda: True,
) -> LearningCurve | None:
    """Measure a learning curve on nested parts of the examples; None where there are too few for any score.

    Parameters
    ----------
    evaluate : callable
        From rows to the cross-validated evaluation of a model of them.
    labels : array of shape (n,) or (n, columns)
        Of the examples.
    task : Task
        What they say.
    metric : str
        The score.
    seed : int
        Draws the parts.
    more : callable
        Whether there is time for another part; all examples, which come first, are evaluated in any case.
    """
    rank = _ranks(labels, task, seed)
    points: list[tuple[int, Estimate]] = []
    for part in PARTS:
        rows = np.flatnonzero(rank < part) if part < 1 else np.arange(len(labels))
        # Of many small classes a part keeps two examples each, and may be no smaller than the part before.
        if part < 1 and (len(rows) < _LEAST or len(rows) == points[-1][0] or not more()):
            break
        found = evaluate(rows)
        if found is None or not math.isfinite(found.metrics[metric].value):
            break
        points.append((len(rows), found.metrics[metric]))
    if not points:
        return None
    points.reverse()
    return LearningCurve(tuple(count for count, _ in points), tuple(score for _, score in points))


def _ranks(labels: np.ndarray, task: Task, seed: int) -> np.ndarray:
    """Return a number from 0 to 1 for each example (n,): the parts of a class are as large as those of all."""
    order = np.random.default_rng(seed).permutation(len(labels))
    if task.kind != "classification":
        rank = np.empty(len(labels))
        rank[order] = np.arange(len(labels)) / len(labels)
        return rank
    codes, rank = task.codes(labels), np.empty(len(labels))
    for code in np.unique(codes):
        mine = order[codes[order] == code]
        # Two of each class at least: one cannot be held out.
        rank[mine] = np.maximum(np.arange(len(mine)) - 1, 0) / max(len(mine) - 1, 1)
    return rank
