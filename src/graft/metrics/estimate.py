"""Metrics as functions of means, and their bootstrap intervals by one matrix product."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, Self

import numpy as np

from graft._checks import integer, number


@dataclass(frozen=True)
class Estimate:
    """A measured value with its interval; `low` and `high` are NaN where no interval can be given.

    Examples
    --------
    >>> from graft.metrics import Estimate
    >>> print(Estimate(0.85833, 0.79167, 0.91667))
    0.858 (0.792 to 0.917)
    """

    value: float
    low: float
    high: float

    def __str__(self) -> str:
        value, low, high = (
            f"{one:.3f}" if abs(one) < 10 else f"{one:,.4g}" for one in (self.value, self.low, self.high)
        )
        return value if np.isnan(self.low) and np.isnan(self.high) else f"{value} ({low} to {high})"

    def to_dict(self) -> dict[str, float | None]:
        """Return the three numbers; what is not finite (R² of constant labels) becomes None, which JSON can hold."""
        return {name: float(v) if np.isfinite(v) else None for name, v in vars(self).items()}

    @classmethod
    def from_dict(cls, plain: Mapping[str, float | None]) -> Self:
        """Return the estimate of which `to_dict` made `plain`."""
        return cls(**{name: float("nan") if value is None else value for name, value in plain.items()})


@dataclass(frozen=True)
class Statistic:
    r"""A metric of the form :math:`g(\frac1n \sum_i s_i)`.

    Accuracy, F1, log loss, calibration error, RMSE and R² are all of this form, so that the metric of B resamples is
    `combine` of one product: weights (B, n) times `rows` (n, m).

    Parameters
    ----------
    rows : array of shape (n, m)
        The per-example statistics :math:`s_i`.
    combine : callable
        :math:`g`: takes means of shape (..., m), returns values of shape (...).
    bounds : (float, float)
        The smallest and the largest value that the metric can take.
    """

    rows: np.ndarray
    combine: Callable[[np.ndarray], np.ndarray]
    bounds: tuple[float, float] = (-np.inf, np.inf)

    @property
    def value(self) -> float:
        """The metric of the examples as they are."""
        return float(self.combine(self.rows.mean(axis=0)))


def bootstrap(
    statistics: dict[str, Statistic],
    *,
    groups: Any = None,
    resamples: int = 1000,
    coverage: float = 0.95,
    random_state: int = 0,
) -> dict[str, Estimate]:
    r"""Return each metric with its bootstrap interval.

    With :math:`q_a` the quantiles of the resampled metric and :math:`\hat\theta` its value, the interval is
    :math:`[q_{\alpha/2}, q_{1-\alpha/2}] + \hat\theta - q_{1/2}`, within the metric's bounds: the percentile interval,
    moved so that the resamples' median lies at the value. Resamples repeat examples, which biases sums of absolute
    values (the calibration error) upwards and F1 downwards; unmoved, an interval can miss its own value.

    Every resample draws n examples with replacement, all metrics on the same resamples. With `groups`, whole groups
    are drawn instead of examples (the cluster bootstrap), because examples of one group are not independent.

    Parameters
    ----------
    statistics : dict of str to Statistic
        The metrics, all over the same n examples.
    groups : array of shape (n,), optional
        The group of each example.
    resamples : int
        B, the number of resamples.
    coverage : float
        The nominal coverage of the interval.
    random_state : int
        The seed: the same seed gives the same interval.

    Returns
    -------
    dict of str to Estimate

    References
    ----------
    Efron and Tibshirani (1993), An Introduction to the Bootstrap, chapters 10 (bias) and 13 (percentile interval).

    Examples
    --------
    >>> import numpy as np
    >>> from graft.metrics import Statistic, bootstrap
    >>> correct = np.array([[1.0], [1.0], [1.0], [0.0]])
    >>> bootstrap({"accuracy": Statistic(correct, lambda means: means[..., 0])})["accuracy"].value
    0.75
    """
    integer("resamples", resamples, low=1)
    number("coverage", coverage, low=0, high=1)
    if not statistics:
        return {}
    names = list(statistics)
    table = np.concatenate([statistics[name].rows for name in names], axis=1).astype(np.float64)
    ends = np.cumsum([statistics[name].rows.shape[1] for name in names])
    if groups is None:
        sizes = np.ones(len(table))
    else:
        # A resample of groups only needs each group's sums: the table shrinks to a row a group.
        _, member = np.unique(np.asarray(groups, dtype=str), return_inverse=True)
        sums = np.zeros((int(member.max()) + 1, table.shape[1]))
        np.add.at(sums, member, table)
        sizes, table = np.bincount(member).astype(np.float64), sums
    draws = np.random.default_rng(random_state)
    units = len(table)
    chunk = max(1, int(2e7) // max(units, 1))  # 160 MB of weights at a time
    values: dict[str, list[np.ndarray]] = {name: [] for name in names}
    for start in range(0, resamples, chunk):
        count = min(chunk, resamples - start)
        # How often each unit is drawn: drawing and counting is five times as fast as drawing the counts.
        drawn_units = draws.integers(0, units, size=(count, units), dtype=np.int32)
        drawn_units += np.arange(count, dtype=np.int32)[:, None] * units
        weight = np.bincount(drawn_units.ravel(), minlength=count * units).reshape(count, units).astype(np.float64)
        means = (weight @ table) / (weight @ sizes)[:, None]
        for name, end in zip(names, ends, strict=True):
            width = statistics[name].rows.shape[1]
            values[name].append(statistics[name].combine(means[:, end - width : end]))
    tail = (1 - coverage) / 2
    result = {}
    for name in names:
        drawn = np.concatenate(values[name])
        drawn = drawn[np.isfinite(drawn)]
        value = statistics[name].value
        if units < 2 or not len(drawn):
            result[name] = Estimate(value, float("nan"), float("nan"))
            continue
        low, middle, high = np.quantile(drawn, [tail, 0.5, 1 - tail])
        low, high = np.clip(np.array([low, high]) + value - middle, *statistics[name].bounds)
        result[name] = Estimate(value, float(low), float(high))
    return result
