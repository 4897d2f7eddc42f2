"""`Ranking`: which of several pretrained networks suits a task, as values, as JSON and as text."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

from graft.metrics import METRIC_TITLES, Estimate

ESTIMATE_TITLES = {"h_score": "H-score", "logme": "LogME", "nleep": "NLEEP", "gbc": "GBC", "knn": "kNN"}
_WIDTH = 80  # columns of a terminal
_PERCENT = ("accuracy", "macro_f1")


@dataclass(frozen=True, eq=False)
class RankedBackbone:
    """A network, with features taken at one place, and what speaks for it.

    Parameters
    ----------
    backbone : str
        What it is called.
    layer : tuple of str or None
        Where the features are taken; None: the network's own output.
    pooling : str or None
        How positions become one vector; None: the network's own way.
    feature_dim : int
        The width of the features.
    parameters : int
        How many the network has.
    estimates : dict of str to float or None
        ``h_score``, ``logme``, ``nleep``, ``gbc``, ``knn`` (leave-one-out accuracy, or R² of numbers), larger is
        better; None where an estimate does not apply to the task.
    mean_rank : float
        The mean over the estimates of its place among all candidates; 1 is first by all of them.
    score : Estimate or None
        The cross-validated score of the probe; None where it was not on the shortlist.
    seconds : dict of str to float
        Wall time of ``"features"`` (a lookup where they were in the store), ``"estimates"`` and ``"probe"``.
    """

    backbone: str
    layer: tuple[str, ...] | None
    pooling: str | None
    feature_dim: int
    parameters: int
    estimates: dict[str, float | None]
    mean_rank: float
    score: Estimate | None
    seconds: dict[str, float]

    @property
    def place(self) -> str:
        """The layers and the pooling in words."""
        where = "own output" if self.layer is None else " + ".join(self.layer)
        return where if self.pooling is None else f"{where}, {self.pooling}"

    def to_dict(self) -> dict[str, Any]:
        """Return plain values that JSON can hold."""
        return {
            "backbone": self.backbone,
            "layer": None if self.layer is None else list(self.layer),
            "pooling": self.pooling,
            "feature_dim": self.feature_dim,
            "parameters": self.parameters,
            "estimates": dict(self.estimates),
            "mean_rank": self.mean_rank,
            "score": None if self.score is None else self.score.to_dict(),
            "seconds": dict(self.seconds),
        }


@dataclass(frozen=True, eq=False)
class Ranking:
    """Pretrained networks in the order in which they suit a task; `rank_backbones` makes it.

    Parameters
    ----------
    task : str
        ``"classification"``, ``"multilabel"`` or ``"regression"``.
    metric : str
        What the probe's score is: ``"accuracy"``, ``"macro_f1"`` (multi-label) or ``"r2"``.
    examples : int
        How many the probe saw.
    folds : int
        Of the cross-validation.
    rows : tuple of RankedBackbone
        Those on the shortlist, the highest score first; then the others, by the estimates.
    lead : Estimate or None
        By how much the first is ahead of the second, on the same examples, with its 95 % interval; None where one
        network only was probed.
    disagreement : dict of str to float or None
        Kendall's tau of each estimate, and of their mean rank (``"mean_rank"``), with the probe's score over the
        shortlist: 1 is the same order, -1 the opposite one. None where it is not defined: fewer than two networks, or
        all of them equal.
    agreement : float or None
        The mean of Kendall's tau over the pairs of estimates, over all candidates.
    left_out : tuple of (int, str, str)
        Row, name and reason of each input that could not be read.
    unlabelled : int
        How many inputs had no label.
    passed_over : tuple of (str, str)
        Networks found here that could not be used, with the reason.
    """

    task: str
    metric: str
    examples: int
    folds: int
    rows: tuple[RankedBackbone, ...]
    lead: Estimate | None
    disagreement: dict[str, float | None]
    agreement: float | None
    left_out: tuple[tuple[int, str, str], ...] = ()
    unlabelled: int = 0
    passed_over: tuple[tuple[str, str], ...] = field(default=())

    @property
    def best(self) -> RankedBackbone:
        """The network with the highest score of the probe."""
        return self.rows[0]

    @property
    def shortlist(self) -> tuple[RankedBackbone, ...]:
        """The networks that were probed, the best first."""
        return tuple(row for row in self.rows if row.score is not None)

    @property
    def measurable(self) -> bool:
        """Whether the first is ahead of the second by more than chance: the interval of the lead excludes 0."""
        return self.lead is not None and self.lead.low > 0

    def to_dict(self) -> dict[str, Any]:
        """Return plain values that JSON can hold."""
        return {
            "task": self.task,
            "metric": self.metric,
            "examples": self.examples,
            "folds": self.folds,
            "best": {"backbone": self.best.backbone, "layer": self.best.to_dict()["layer"]},
            "lead": None if self.lead is None else self.lead.to_dict(),
            "rows": [row.to_dict() for row in self.rows],
            "disagreement": dict(self.disagreement),
            "agreement": self.agreement,
            "left_out": [{"row": row, "input": name, "reason": reason} for row, name, reason in self.left_out],
            "unlabelled": self.unlabelled,
            "passed_over": [{"backbone": name, "reason": reason} for name, reason in self.passed_over],
        }

    def tables(self) -> list[tuple[str, tuple[str, ...], list[tuple[str, ...]]]]:
        """Return what is shown as tables: title, columns, rows of text."""
        title = METRIC_TITLES[self.metric]
        unit = " %" if self.metric in _PERCENT else ""
        probed: list[tuple[str, ...]] = [
            (
                row.backbone,
                row.place,
                str(row.feature_dim),
                "" if row.score is None else self._written(row.score.value),
                "" if row.score is None else self._interval(row.score),
                f"{sum(row.seconds.values()):.1f}",
            )
            for row in self.rows
        ]
        names = [name for name in ESTIMATE_TITLES if any(row.estimates[name] is not None for row in self.rows)]
        estimated: list[tuple[str, ...]] = [
            (row.backbone, row.place, *(_short(row.estimates[name]) for name in names), f"{row.mean_rank:.1f}")
            for row in self.rows
        ]
        taus = [self.disagreement[name] for name in (*names, "mean_rank")]
        if any(tau is not None for tau in taus):
            estimated.append(("tau with probe", "", *(_short(tau) for tau in taus)))
        columns = ("backbone", "layer", *(ESTIMATE_TITLES[name] for name in names), "rank")
        return [
            (
                f"Probe, {self.folds} folds, {self.examples} examples",
                ("backbone", "layer", "dim", title + unit, "95 %", "seconds"),
                probed,
            ),
            ("Estimates (larger is better; rank: mean over them)", columns, estimated),
        ]

    def verdict(self) -> str:
        """Return in words what was found."""
        best = self.best
        assert best.score is not None
        unit = " %" if self.metric in _PERCENT else ""
        said = (
            f"Best: {best.backbone}, {best.place}: {METRIC_TITLES[self.metric]} {self._written(best.score.value)}{unit}"
        )
        if self.lead is None:
            return said + ", the only one that was probed."
        second = self.rows[1]
        points = " points" if unit else ""
        span = f"{self._written(self.lead.value)}{points}, 95 %: {self._interval(self.lead)}"
        if self.measurable:
            said += f", ahead of {second.backbone}, {second.place} ({span})."
        else:
            said += f", not measurably ahead of {second.backbone}, {second.place} ({span})."
        first = min(self.rows, key=lambda row: row.mean_rank)
        if first is not best:
            said += f" The estimates alone would have put {first.backbone}, {first.place} first."
        return said

    def __str__(self) -> str:
        from io import StringIO

        from rich.box import SIMPLE_HEAD
        from rich.console import Console
        from rich.table import Table

        text = StringIO()
        console = Console(file=text, width=_WIDTH, markup=False, highlight=False, color_system=None)
        for title, columns, rows in self.tables():
            # Two columns between columns, not three: the longest of the usual names is not folded.
            table = Table(box=SIMPLE_HEAD, pad_edge=False, show_edge=False, padding=(0, 1, 0, 0))
            for place, column in enumerate(columns):
                table.add_column(column, justify="left" if place < 2 else "right", overflow="fold")
            for row in rows:
                table.add_row(*row)
            console.print(title)
            console.print(table)
        console.print(self.verdict())
        return "\n".join(line.rstrip() for line in text.getvalue().rstrip().split("\n"))

    def _written(self, value: float) -> str:
        return f"{100 * value:.1f}" if self.metric in _PERCENT else f"{value:.3f}"

    def _interval(self, estimate: Estimate) -> str:
        if not math.isfinite(estimate.low):
            return ""
        return f"{self._written(estimate.low)} to {self._written(estimate.high)}"


def _short(value: float | None) -> str:
    """Return a number in at most seven characters."""
    if value is None:
        return ""
    if abs(value) >= 1000:
        return f"{value:.2g}" if abs(value) >= 1e5 else f"{value:.0f}"
    return f"{value:.3f}" if abs(value) < 10 else f"{value:.1f}"


def mean_ranks(estimates: Sequence[dict[str, float | None]]) -> list[float]:
    """Return for each candidate the mean over the estimates of its rank, 1 for the largest; ties share their ranks."""
    from scipy.stats import rankdata

    names = [name for name in estimates[0] if all(one[name] is not None for one in estimates)]
    ranks = [rankdata([-one[name] for one in estimates]) for name in names]  # type: ignore[operator]
    return [float(sum(rank[place] for rank in ranks) / len(ranks)) for place in range(len(estimates))]


def kendall(first: Sequence[float], second: Sequence[float]) -> float | None:
    """Return Kendall's tau-b of two orders; None where it is not defined."""
    from scipy.stats import kendalltau

    if len(set(first)) < 2 or len(set(second)) < 2:
        return None
    tau = float(kendalltau(first, second).statistic)
    return tau if math.isfinite(tau) else None
