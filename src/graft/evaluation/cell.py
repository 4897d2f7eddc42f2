"""`Cell`: one technique, fitted to one number of labels, with one seed; and the table of cells, ``results.csv``."""

from __future__ import annotations

import csv
import io
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, fields
from typing import Any, Self

from graft._checks import one_of
from graft.metrics.estimate import Estimate

DONE, LEFT_OUT, FAILED = "done", "left out", "failed"
STATUSES = (DONE, LEFT_OUT, FAILED)
SECONDS = ("data", "features", "training", "total")


@dataclass(frozen=True)
class Cell:
    """One technique, fitted to one number of labels, with one seed.

    Parameters
    ----------
    technique : str
        Its name, one of ``techniques`` of the results.
    budget : int or None
        The labelled examples of each class (where there are no classes: the labelled examples); None: all there are.
    seed : int
        Of the split, the examples drawn and the training.
    n_train : int
        The labelled examples that it was fitted to, without those that could not be read.
    status : {"done", "left out", "failed"}
    reason : str
        Why it was left out or failed; empty where it is done.
    score : Estimate or None
        The metric that comparisons are decided by, on the test examples, with its 95 % interval.
    metrics : dict of str to Estimate
        Every metric of the evaluation.
    tasks : dict of str to dict of str to Estimate
        Several tasks: the metrics of each; empty otherwise.
    seconds : dict of str to float
        ``"data"`` (reading, decoding), ``"features"`` (the frozen network, beyond that), ``"training"``, ``"total"``.
    peak_memory_mib : float or None
        What the fit needs at most beyond what the process held before it, the network included.
    trainable_parameters, total_parameters : int or None
        The numbers that were trained, and all that a prediction needs.
    flops : dict of str to float, or None
        ``"forward"``: operations of the network for one example; ``"training"``: of the whole fit.
    energy_joules : float or None
        What the machine says that the fit took; None where it says nothing.
    """

    technique: str
    budget: int | None
    seed: int
    n_train: int
    status: str = DONE
    reason: str = ""
    score: Estimate | None = None
    metrics: Mapping[str, Estimate] = field(default_factory=dict)
    tasks: Mapping[str, Mapping[str, Estimate]] = field(default_factory=dict)
    seconds: Mapping[str, float] = field(default_factory=dict)
    peak_memory_mib: float | None = None
    trainable_parameters: int | None = None
    total_parameters: int | None = None
    flops: Mapping[str, float] | None = None
    energy_joules: float | None = None

    def __post_init__(self) -> None:
        one_of("status", self.status, STATUSES)

    @property
    def done(self) -> bool:
        """Whether it was measured."""
        return self.status == DONE

    def to_dict(self) -> dict[str, Any]:
        """Return plain values that JSON can hold."""
        plain = {one.name: getattr(self, one.name) for one in fields(self)}
        return {
            **plain,
            "score": None if self.score is None else self.score.to_dict(),
            "metrics": _plain_estimates(self.metrics),
            "tasks": {task: _plain_estimates(metrics) for task, metrics in self.tasks.items()},
            "seconds": dict(self.seconds),
            "flops": None if self.flops is None else dict(self.flops),
        }

    @classmethod
    def from_dict(cls, plain: Mapping[str, Any]) -> Self:
        """Return the cell of which `to_dict` made `plain`."""
        score = plain["score"]
        return cls(
            **{
                **{one.name: plain[one.name] for one in fields(cls)},
                "score": None if score is None else Estimate.from_dict(score),
                "metrics": _estimates(plain["metrics"]),
                "tasks": {task: _estimates(metrics) for task, metrics in plain["tasks"].items()},
            }
        )


def cells_table(cells: Sequence[Cell]) -> str:
    """Return a table as CSV with a row for each cell; a figure that is not known is an empty cell.

    The metrics of several tasks follow their mean, in columns ``task:metric``.
    """
    metrics = [_by_column(cell) for cell in cells]
    own = sorted({name for cell in cells for name in cell.metrics})
    # As the tasks follow each other in the data.
    names = [*own, *(name for name in dict.fromkeys(name for one in metrics for name in one) if name not in own)]
    measured = [f"{name}{part}" for name in names for part in ("", "_low", "_high")]
    header = ["technique", "budget", "seed", "n_train", "status", "reason", *measured]
    header += [f"seconds_{part}" for part in SECONDS]
    header += ["peak_memory_mib", "trainable_parameters", "total_parameters", "flops_forward", "flops_training"]
    sheet = io.StringIO()
    rows = csv.writer(sheet, lineterminator="\n")
    rows.writerow([*header, "energy_joules"])
    for cell, figures in zip(cells, metrics, strict=True):
        row: list[Any] = [cell.technique, "all" if cell.budget is None else cell.budget, cell.seed, cell.n_train]
        row += [cell.status, cell.reason]
        for name in names:
            found = figures.get(name)
            row += ["", "", ""] if found is None else [found.value, found.low, found.high]
        row += [cell.seconds.get(part, "") for part in SECONDS]
        row += [cell.peak_memory_mib, cell.trainable_parameters, cell.total_parameters]
        row += [(cell.flops or {}).get(part, "") for part in ("forward", "training")]
        rows.writerow([_cell(value) for value in [*row, cell.energy_joules]])
    return sheet.getvalue()


def _estimates(plain: Mapping[str, Any]) -> dict[str, Estimate]:
    return {name: Estimate.from_dict(one) for name, one in plain.items()}


def _plain_estimates(metrics: Mapping[str, Estimate]) -> dict[str, Any]:
    return {name: estimate.to_dict() for name, estimate in metrics.items()}


def _by_column(cell: Cell) -> dict[str, Estimate]:
    """Return every metric of a cell by the name of its column in the table."""
    of_tasks = {f"{task}:{name}": one for task, metrics in cell.tasks.items() for name, one in metrics.items()}
    return {**cell.metrics, **of_tasks}


def _cell(value: Any) -> Any:
    return "" if value is None or (isinstance(value, float) and not math.isfinite(value)) else value
