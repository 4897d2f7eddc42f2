"""`Results`: what a comparison found, as one value and one file, ``results.json``, with its cells in ``results.csv``.

The file's schema is told in ``docs/results.md``. A report is rendered from it alone.
"""

from __future__ import annotations

import csv
import io
import json
import math
import os
import re
import textwrap
from collections.abc import Mapping
from dataclasses import dataclass, field, fields
from pathlib import Path
from typing import Any, Self

from graft._checks import one_of
from graft.errors import GraftError, RequestError, RunError
from graft.metrics.estimate import Estimate
from graft.persistence import whole_file

FORMAT = 2
KIND = "graft comparison"
JSON_FILE, CSV_FILE, CELLS = "results.json", "results.csv", "cells"

_BEGINNING = re.compile(rb'\s*\{\s*"format"\s*:')  # of a file that a comparison wrote

DONE, LEFT_OUT, FAILED = "done", "left out", "failed"
STATUSES = (DONE, LEFT_OUT, FAILED)
NO_INTERVAL = "no interval: one split, all alike, or beyond what was measured"
OUTCOMES = ("pays", "does not pay", "mixed", "inconclusive", "not measured")
_SHOWN = 200  # characters of the verdict where results are printed
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


@dataclass(frozen=True)
class Verdict:
    """What the cells say.

    Parameters
    ----------
    outcome : {"pays", "does not pay", "mixed", "inconclusive", "not measured"}
        Whether transfer (or adaptation, where nothing else was compared) pays on this data.
    text : str
        One paragraph.
    figures : tuple of dict
        Three, or none where no question was answered: ``name`` (``"time"``, ``"labels"``, ``"memory"``), ``title``,
        ``text``, ``sentence`` (with the interval), ``value``, ``low``, ``high``; the values are None where they cannot
        be told.
    findings : tuple of dict
        One for each question asked, with every figure that the paragraph rests on.
    """

    outcome: str
    text: str
    figures: tuple[Mapping[str, Any], ...] = ()
    findings: tuple[Mapping[str, Any], ...] = ()

    def __post_init__(self) -> None:
        one_of("outcome", self.outcome, OUTCOMES)

    def to_dict(self) -> dict[str, Any]:
        """Return plain values that JSON can hold."""
        return {
            "outcome": self.outcome,
            "text": self.text,
            "figures": [dict(one) for one in self.figures],
            "findings": [dict(one) for one in self.findings],
        }

    @classmethod
    def from_dict(cls, plain: Mapping[str, Any]) -> Self:
        """Return the verdict of which `to_dict` made `plain`."""
        return cls(plain["outcome"], plain["text"], tuple(plain["figures"]), tuple(plain["findings"]))


@dataclass(frozen=True)
class Results:
    """What a comparison found; plain values, so that a report needs nothing else.

    Parameters
    ----------
    created : str
        When, in UTC, ISO 8601.
    command : str
        What repeats it.
    versions : dict of str to str
        Of Python, Graft and the libraries that compute.
    machine : dict
        ``system``, ``processor``, ``cores``, ``memory_gib``, ``device``.
    data : dict
        What was measured on; see ``docs/results.md``.
    settings : dict
        How it was measured.
    score : dict
        ``name``, ``title`` and ``percent`` (whether it reads in percent) of the metric that decides.
    techniques : tuple of dict
        ``name``, ``title``, ``sides`` and ``description`` of each technique compared.
    cells : tuple of Cell
        Everything that was measured, and what was not, with the reason.
    summary : tuple of dict
        The learning curves: for each technique and budget the score over the seeds, with its interval, and its cost.
    verdict : Verdict
    details : tuple of dict
        For each technique, of each task that was tested, its cell with most labels in full: classes, confusion,
        calibration, examples.

    Examples
    --------
    >>> from graft.evaluation.results import Cell, Results, Verdict
    >>> cell = Cell("feature-extraction", 5, 0, 10, "left out", "needs about 90 s, 20 s were left")
    >>> found = Results(command="graft compare photos/ --out report", cells=(cell,))
    >>> Results.from_dict(found.to_dict()) == found
    True
    """

    created: str = ""
    command: str = ""
    versions: Mapping[str, str] = field(default_factory=dict)
    machine: Mapping[str, Any] = field(default_factory=dict)
    data: Mapping[str, Any] = field(default_factory=dict)
    settings: Mapping[str, Any] = field(default_factory=dict)
    score: Mapping[str, Any] = field(default_factory=dict)
    techniques: tuple[Mapping[str, Any], ...] = ()
    cells: tuple[Cell, ...] = ()
    summary: tuple[Mapping[str, Any], ...] = ()
    verdict: Verdict = field(default_factory=lambda: Verdict("not measured", ""))
    details: tuple[Mapping[str, Any], ...] = ()

    def __repr__(self) -> str:
        """Return what was compared and what came out, in three lines; `graft.reports.show` prints everything."""
        done = sum(cell.done for cell in self.cells)
        cells = f"{done} of {len(self.cells)} cells measured"
        target = self.data.get("target") or {}
        of = [self.data.get("name"), target and f"adapted to {target['name']}"]
        named = list(dict.fromkeys(cell.technique for cell in self.cells))
        lines = [
            f"Results of {', '.join(one for one in of if one) or 'a comparison'}: {cells}",
            f"  techniques: {', '.join(named) or 'none'}",
            f"  verdict: {self.verdict.outcome}",
        ]
        if self.verdict.text:
            lines[-1] += f". {textwrap.shorten(self.verdict.text, _SHOWN, placeholder=' …')}"
        return "\n".join(lines)

    def to_dict(self) -> dict[str, Any]:
        """Return plain values that JSON can hold, as ``results.json`` has them."""
        plain = {one.name: getattr(self, one.name) for one in fields(self)}
        return {
            "format": FORMAT,
            "kind": KIND,
            **plain,
            "techniques": [dict(one) for one in self.techniques],
            "cells": [cell.to_dict() for cell in self.cells],
            "summary": [dict(one) for one in self.summary],
            "verdict": self.verdict.to_dict(),
            "details": [dict(one) for one in self.details],
        }

    @classmethod
    def from_dict(cls, plain: Mapping[str, Any], *, subject: str = "results") -> Self:
        """Return the results of which `to_dict` made `plain`.

        Raises
        ------
        RunError
            If they are of another kind, of a newer format, or lack a part.
        """
        if not isinstance(plain, Mapping) or plain.get("kind") != KIND:
            raise _other_file(subject)
        if not isinstance(plain.get("format"), int) or plain["format"] > FORMAT:
            raise NewerResultsError(
                subject,
                expected=f"results of format {FORMAT} or older",
                found=f"format {plain.get('format')}, written by graft {plain.get('versions', {}).get('graft', '?')}",
                remedy="Install a newer version (pip install --upgrade graft-learn), or name another folder.",
            )
        try:
            parts = {one.name: plain[one.name] for one in fields(cls)}
            return cls(
                **{
                    **parts,
                    "techniques": tuple(plain["techniques"]),
                    "cells": tuple(Cell.from_dict(one) for one in plain["cells"]),
                    "summary": tuple(plain["summary"]),
                    "verdict": Verdict.from_dict(plain["verdict"]),
                    "details": tuple(plain["details"]),
                }
            )
        except (KeyError, TypeError, AttributeError, ValueError) as error:
            raise RunError(
                subject,
                expected="the file as it was written",
                found=f"one without {error}" if isinstance(error, KeyError) else "one with a part of another kind",
                remedy="Run the comparison again: what it has measured is kept beside the file.",
            ) from error

    def write(self, folder: str | os.PathLike[str]) -> Path:
        """Write ``results.json`` and ``results.csv`` into a folder, each whole or not at all, and return the former.

        Raises
        ------
        RequestError
            If `folder` is a file.
        GraftError
            If the disk does not take them.
        """
        path = Path(folder)
        require_folder(path)
        text = json.dumps(self.to_dict(), indent=1, ensure_ascii=False, allow_nan=False)
        write_whole(path / CSV_FILE, self.to_csv())
        return write_whole(path / JSON_FILE, text + "\n")

    def to_csv(self) -> str:
        """Return a table with a row for each cell; a figure that is not known is an empty cell.

        The metrics of several tasks follow their mean, in columns ``task:metric``.
        """
        metrics = [_by_column(cell) for cell in self.cells]
        own = sorted({name for cell in self.cells for name in cell.metrics})
        # As the tasks follow each other in the data.
        names = [*own, *(name for name in dict.fromkeys(name for one in metrics for name in one) if name not in own)]
        measured = [f"{name}{part}" for name in names for part in ("", "_low", "_high")]
        header = ["technique", "budget", "seed", "n_train", "status", "reason", *measured]
        header += [f"seconds_{part}" for part in SECONDS]
        header += ["peak_memory_mib", "trainable_parameters", "total_parameters", "flops_forward", "flops_training"]
        sheet = io.StringIO()
        rows = csv.writer(sheet, lineterminator="\n")
        rows.writerow([*header, "energy_joules"])
        for cell, figures in zip(self.cells, metrics, strict=True):
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


class NewerResultsError(RunError):
    """The results are of a format that a newer version of Graft writes."""


def read_results(path: str | os.PathLike[str]) -> Results:
    """Read ``results.json``, or the folder that it lies in.

    Raises
    ------
    RequestError
        If there is no such file.
    RunError
        If it is not the results of a comparison.
    """
    place = Path(path)
    file = place / JSON_FILE if place.is_dir() else place
    if not file.is_file():
        if kept := finished_cells(place):
            raise RequestError(
                str(place),
                expected=f"a {JSON_FILE}, written at the end of a comparison",
                found=f"a comparison that has not ended, with {kept} finished cell{'' if kept == 1 else 's'}",
                remedy="The same `graft compare` command continues it.",
            )
        raise RequestError(
            str(place),
            expected=f"a {JSON_FILE}, or the folder that holds one",
            found="none",
            remedy="Name the folder that `graft compare --out` wrote.",
        )
    content = file.read_bytes()
    try:
        plain = json.loads(content)
    except ValueError as error:
        if not _BEGINNING.match(content):
            raise _other_file(str(file)) from error
        raise RunError(
            str(file),
            expected="the whole file of a comparison",
            found="one that is cut off or damaged",
            remedy="The same `graft compare` command continues with the cells beside it, and writes it again.",
        ) from error
    return Results.from_dict(plain, subject=str(file))


def factor_text(value: float) -> str:
    """Return how many times, with two digits.

    Examples
    --------
    >>> factor_text(1.234), factor_text(15.9), factor_text(123456)
    ('1.2', '16', '120,000')
    """
    if value < 9.95:
        return f"{value:.1f}"
    power = 10 ** max(0, math.floor(math.log10(value)) - 1)
    return f"{round(value / power) * power:,d}"


def _other_file(subject: str) -> RunError:
    return RunError(
        subject,
        expected=f"a {JSON_FILE}, the results of a comparison",
        found="something else",
        remedy="Name the folder that `graft compare --out` wrote.",
    )


def earlier_results(folder: str | os.PathLike[str]) -> Results | None:
    """Return the results that are in a folder, or None: there are none, or none that can be read.

    Raises
    ------
    NewerResultsError
        If a newer version of Graft wrote them: they are whole, and nothing here could write them again.
    """
    try:
        return read_results(Path(folder))
    except NewerResultsError:
        raise
    except (GraftError, OSError):
        return None


def finished_cells(folder: str | os.PathLike[str]) -> int:
    """Return how many finished cells of a comparison are in its folder."""
    return sum(1 for _ in (Path(folder) / CELLS).glob("*.json"))


def require_folder(folder: Path) -> None:
    """Check that a report can be written into `folder`: that no file stands in its place.

    Raises
    ------
    RequestError
        If one does.
    """
    if folder.exists() and not folder.is_dir():
        raise RequestError(
            str(folder), expected="a folder for the report", found="a file", remedy="Name another folder."
        )


def write_whole(file: Path, text: str) -> Path:
    """Write a text whole or not at all (`graft.persistence.whole_file`), and return its path."""
    with whole_file(file) as partial:
        partial.write_text(text, encoding="utf-8")
    return file


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
