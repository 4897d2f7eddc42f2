"""`Curves`: learning curves over seeds and test examples, all under the same resamples."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from graft.evaluation.comparison.example_scores import mean_of_tasks
from graft.evaluation.comparison.measuring import Measured
from graft.metrics import Estimate

RESAMPLES = 1000
_TAIL = 2.5  # percent on each side

Drawn = tuple[float, np.ndarray]
"""A figure, and the same figure of every resample."""


class Curves:
    """The scores of techniques at numbers of labels, each with its resamples. Final.

    Parameters
    ----------
    measured : sequence of Measured
        The cells; those that are not done are passed over.
    groups : array of shape (n,), optional
        The group of each row that can be tested on: whole groups share a weight. By default every row is one.
    seed : int
        Draws the resamples.
    """

    def __init__(self, measured: Sequence[Measured], *, groups: np.ndarray | None = None, seed: int = 0) -> None:
        done = [one for one in measured if one.cell.done]
        self.seeds = sorted({one.cell.seed for one in done})
        rows = np.unique(np.concatenate([one.rows for one in done])) if done else np.empty(0, np.intp)
        names = rows if groups is None else np.asarray(groups, dtype=str)[rows]
        _, units = np.unique(names, return_inverse=True)
        draw = np.random.default_rng((seed, 0xB007))
        count = int(units.max()) + 1 if len(units) else 1
        example_weight = resampled_weights(count, RESAMPLES, draw)
        self._seed_weight = resampled_weights(max(1, len(self.seeds)), RESAMPLES, draw)
        self._points: dict[tuple[str, int | None], dict[int, tuple[Measured, np.ndarray]]] = {}
        for one in done:
            mine = units[np.searchsorted(rows, one.rows)]
            drawn = example_weight @ np.stack(
                [np.bincount(mine, column, minlength=count) for column in _columns(one)], axis=1
            )
            scores = mean_of_tasks(drawn)
            point = self._points.setdefault((one.cell.technique, one.cell.budget), {})
            point[one.cell.seed] = (one, scores)

    def budgets(self, name: str) -> list[int | None]:
        """Return the numbers of labels that a technique was measured with, ascending, all (None) last."""
        return _in_order(budget for technique, budget in self._points if technique == name)

    def measured_seeds(self, name: str, budget: int | None) -> list[int]:
        """Return the seeds that a technique was measured with at a number of labels."""
        return sorted(self._points.get((name, budget), {}))

    def cells(self, name: str, budget: int | None) -> dict[int, Measured]:
        """Return the cells of a technique at a number of labels, by seed."""
        return {seed: one for seed, (one, _) in self._points.get((name, budget), {}).items()}

    def n_train(self, name: str, budget: int | None) -> float:
        """Return the mean number of examples learnt from."""
        return float(np.mean([one.cell.n_train for one in self.cells(name, budget).values()]))

    def score(self, name: str, budget: int | None, seeds: Sequence[int] | None = None) -> Drawn:
        """Return the mean score over seeds (by default all measured), and its resamples (NaN where none is drawn)."""
        point = self._points[(name, budget)]
        chosen = sorted(point) if seeds is None else list(seeds)
        weight = self._seed_weight[:, [self.seeds.index(seed) for seed in chosen]]
        drawn = np.stack([point[seed][1] for seed in chosen], axis=1)
        total = weight.sum(axis=1)
        with np.errstate(invalid="ignore", divide="ignore"):
            resampled = np.where(total > 0, (weight * drawn).sum(axis=1) / total, np.nan)
        return float(np.mean([point[seed][0].values.mean() for seed in chosen])), resampled

    def estimate(self, name: str, budget: int | None) -> Estimate:
        """Return the mean score over the seeds with its interval over seeds and test examples."""
        return interval(*self.score(name, budget))

    def cost(self, costs: dict[int, float], seeds: Sequence[int]) -> Drawn:
        """Return the median over seeds of what a cell costs, and its resamples (NaN where none is drawn)."""
        values = np.array([costs[seed] for seed in seeds])
        weight = self._seed_weight[:, [self.seeds.index(seed) for seed in seeds]]
        return float(np.median(values)), weighted_medians(values, weight)


def _columns(one: Measured) -> list[np.ndarray]:
    """Return what each example adds to the score (of several tasks, to that of each), then what share it has in it."""
    if one.tasks:
        known = [np.isfinite(each) for each in one.tasks.values()]
        return [*map(np.nan_to_num, one.tasks.values()), *known]
    return [one.values, np.ones(len(one.rows)) if one.shares is None else one.shares]


def weighted_medians(values: np.ndarray, weights: np.ndarray) -> np.ndarray:
    """Return the median of values (n,) under each row of weights (resamples, n); NaN where a row is zero."""
    order = np.argsort(values)
    below = np.cumsum(weights[:, order], axis=1)
    total = below[:, -1:]
    # Where exactly half of the weight lies below, the median is the middle of two values.
    low, high = ((below >= total / 2 - 1e-12).argmax(axis=1), (below > total / 2 + 1e-12).argmax(axis=1))
    found = (values[order][low] + values[order][high]) / 2
    return np.where(total[:, 0] > 0, found, np.nan)


def resampled_weights(units: int, resamples: int, draw: np.random.Generator) -> np.ndarray:
    r"""Return weights of shape (resamples, units) that sum to one, under which a mean varies as it does in truth.

    They are Dirichlet(a, …, a) with :math:`a = (n - 2) / n` for n units. A weighted mean of values of variance
    :math:`s^2` (divided by n) then has variance :math:`s^2 / (n a + 1) = s^2 / (n - 1)`, the unbiased estimate of the
    variance of a mean; the plain bootstrap gives :math:`s^2 / n`, a third too little for three seeds. Of two units one
    is drawn, the limit of that; of one there is nothing to draw.

    Parameters
    ----------
    units : int
        n.
    resamples : int
        How many.
    draw : Generator
        Draws them.

    References
    ----------
    Rubin (1981), The Bayesian Bootstrap (a = 1).
    Owen (2007), The pigeonhole bootstrap: examples and seeds are drawn apart, and their weights multiplied.
    """
    if units == 1:
        return np.ones((resamples, 1))
    if units == 2:
        return np.eye(2)[draw.integers(2, size=resamples)]
    drawn = draw.standard_gamma((units - 2) / units, size=(resamples, units))
    total = drawn.sum(axis=1, keepdims=True)
    return drawn / np.where(total > 0, total, 1)


def interval(value: float, drawn: Sequence[float] | np.ndarray) -> Estimate:
    """Return a value with the 95 % interval of its resamples, which may be infinite; NaN where there is none."""
    known = np.asarray(drawn, np.float64)
    known = known[~np.isnan(known)]
    if not len(known) or np.all(known == known[0]):
        return Estimate(float(value), float("nan"), float("nan"))
    # Nearest ranks: between a number and infinity nothing can be interpolated.
    low, high = np.percentile(known, [_TAIL, 100 - _TAIL], method="nearest")
    return Estimate(float(value), float(low), float(high))


def _in_order(budgets) -> list[int | None]:
    found = set(budgets)
    numbers: list[int | None] = [*sorted(number for number in found if number is not None)]
    return [*numbers, None] if None in found else numbers
