"""What learning tasks together is worth: every task beside its single-task twin."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch

from graft.metrics import Statistic, bootstrap
from graft.techniques.material import Material
from graft.techniques.multiple.joint_material import targets_of

ALONE, TOGETHER = "alone", "together"
# What a task is measured by, and whether more of it is better.
_METRICS = {"classification": ("accuracy", True), "multilabel": ("accuracy", True), "regression": ("rmse", False)}


@dataclass(frozen=True)
class TaskGain:
    """A task learnt together with others beside the same task alone, on the same held-out examples.

    Parameters
    ----------
    task : str
        Its name.
    metric : str
        ``"accuracy"`` (larger is better), or ``"rmse"`` in the task's own unit (smaller is better).
    labels : int
        How many labels there are to learn from.
    alone, together : float
        The metric of both.
    twin : str
        Which of the single-task solutions was the better one: ``"network"`` or ``"probe"``.
    gain : dict of str to float or None
        ``value``, ``low``, ``high``: how much less is lost together than alone, with the 95 % interval of the paired
        difference: log loss in nats of calibrated probabilities (each of the two at its best temperature), or squared
        error with the variance as the unit. Positive where learning together is better. (A few hundred labels tell
        a difference in log loss from none where that in accuracy is lost in noise.)
    change : float
        The relative change of the metric in per cent, positive where learning together is better.
    verdict : {"helped", "harmed", "no difference"}
        By whether the interval excludes zero.
    served : {"together", "alone"}
        What predicts the task.
    """

    task: str
    metric: str
    labels: int
    alone: float
    together: float
    twin: str
    gain: dict[str, float | None]
    change: float
    verdict: str
    served: str


@dataclass(frozen=True)
class MultiTaskVerdict:
    r"""What learning together is worth.

    Parameters
    ----------
    tasks : tuple of TaskGain
        Each of them.
    delta : float
        :math:`\Delta_m = \frac{100}{K} \sum_k s_k \frac{M_k - B_k}{B_k}` in per cent, with M the metric together, B
        alone, and s = 1 where more is better, else -1: positive where learning together is better. Tasks with B = 0 are
        left out.

    References
    ----------
    Maninis, Radosavovic and Kokkinos (2019), Attentive Single-Tasking of Multiple Tasks.
    """

    tasks: tuple[TaskGain, ...]
    delta: float

    def to_dict(self) -> dict[str, Any]:
        """Return plain values."""
        return {"delta": _finite(self.delta), "tasks": [_plain(one) for one in self.tasks]}

    @classmethod
    def from_dict(cls, plain: Mapping[str, Any]) -> MultiTaskVerdict:
        """Return what `to_dict` wrote."""
        tasks = []
        for one in plain["tasks"]:
            values: dict[str, Any] = {key: math.nan if value is None else value for key, value in one.items()}
            tasks.append(TaskGain(**values))
        return cls(tuple(tasks), math.nan if plain["delta"] is None else plain["delta"])

    def __str__(self) -> str:
        lines = []
        if math.isfinite(self.delta):
            lines = [f"Learning together changes the tasks by {self.delta:+.1f} % on average (positive is better)."]
        harmed = [one.task for one in self.tasks if one.verdict == "harmed"]
        helped = [one.task for one in self.tasks if one.verdict == "helped"]
        if helped:
            lines.append(f"It helps {', '.join(helped)}.")
        if harmed:
            kept = [one.task for one in self.tasks if one.verdict == "harmed" and one.served == ALONE]
            saved = f"; {', '.join(kept)} kept the single-task solution" if kept else ""
            lines.append(f"Negative transfer: it harms {', '.join(harmed)}{saved}.")
        if not harmed and not helped:
            lines.append("No task differs by more than its interval.")
        return " ".join(lines)


def task_gain(
    material: Material,
    candidates: Mapping[str, torch.Tensor],
    held: np.ndarray,
    *,
    protect: bool,
) -> TaskGain:
    """Compare learning together with the better one of the single-task solutions.

    Parameters
    ----------
    material : Material
        The task.
    candidates : mapping of str to tensor (m, outputs)
        The outputs of ``"together"``, ``"network"`` (the twin) and ``"probe"`` for held-out examples.
    held : array of bool (n,)
        Which those are; all of them have a label.
    protect : bool
        Serve the single-task solution where learning together harms.
    """
    targets = targets_of(material)[torch.from_numpy(held)]
    groups = None if material.found.groups is None else material.found.groups[held]
    found = {name: material.goal.score(outputs, targets) for name, outputs in candidates.items()}
    singles = [name for name in candidates if name != TOGETHER]
    twin = max(singles, key=lambda name: found[name]["score"] if math.isfinite(found[name]["score"]) else -math.inf)
    less = material.goal.shares(candidates[TOGETHER], targets) - material.goal.shares(candidates[twin], targets)
    gain = bootstrap({"gain": Statistic(less[:, None], lambda means: means[..., 0])}, groups=groups)["gain"].to_dict()
    metric, larger = _METRICS[material.kind]
    alone, together = (found[name][metric] for name in (twin, TOGETHER))
    low, high = gain["low"], gain["high"]
    says = "no difference"
    if low is not None and high is not None:
        says = "helped" if low > 0 else "harmed" if high < 0 else says
    change = 100 * (together - alone) / alone * (1 if larger else -1) if alone else math.nan
    return TaskGain(
        task=material.found.task.name,
        metric=metric,
        labels=int(material.known.sum()),
        alone=alone,
        together=together,
        twin=twin,
        gain=gain,
        change=change,
        verdict=says,
        served=ALONE if protect and says == "harmed" else TOGETHER,
    )


def verdict_of(tasks: list[TaskGain]) -> MultiTaskVerdict:
    """Return the verdict over tasks."""
    changes = [one.change for one in tasks if math.isfinite(one.change)]
    return MultiTaskVerdict(tuple(tasks), float(np.mean(changes)) if changes else math.nan)


def _finite(value: float) -> float | None:
    return value if math.isfinite(value) else None


def _plain(one: TaskGain) -> dict[str, Any]:
    return {key: _finite(value) if isinstance(value, float) else value for key, value in vars(one).items()}
