"""What ``graft fit``, ``predict`` and ``evaluate`` do with several tasks at once."""

from __future__ import annotations

import csv
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from graft.cli.show import counted, format_metric, input_cell, label_cell, print_json, print_table
from graft.errors import RequestError

if TYPE_CHECKING:
    from graft.data import Domain

TECHNIQUE = "multi-task"
_PANEL = "Several tasks (--technique multi-task --label A --label B ...)"

_COLUMNS = ("task", "metric", "value", "95 % interval", "examples")

Kind = Annotated[
    list[str] | None,
    typer.Option(
        metavar="COL=KIND",
        help="What a column is: classification or regression; may be repeated.",
        show_default=False,
        rich_help_panel=_PANEL,
    ),
]
Sharing = Annotated[
    str,
    typer.Option(
        metavar="NAME",
        help="auto, stacked, hard, mmoe, ple, cross-stitch, adapters, features or common-and-own.",
        rich_help_panel=_PANEL,
    ),
]
Balancing = Annotated[
    str,
    typer.Option(
        metavar="NAME",
        help="How losses or gradients are balanced: equal, uncertainty, upgrad, ...; a wrong name lists all.",
        rich_help_panel=_PANEL,
    ),
]
Together = Annotated[
    list[str] | None,
    typer.Option(
        metavar="A,B",
        help="Columns that are learnt together, or auto; may be repeated. Default: all.",
        show_default=False,
        rich_help_panel=_PANEL,
    ),
]
Protect = Annotated[
    bool,
    typer.Option("--protect", help="Keep the single-task solution of a harmed task.", rich_help_panel=_PANEL),
]


def options_of(kind: list[str] | None, together: list[str] | None, columns: tuple[str, ...]) -> dict[str, Any]:
    """Return what was written for tasks and groups, as `graft.MultiTask` takes it.

    Raises
    ------
    RequestError
        If a kind is not written as COL=KIND.
    """
    stated: dict[str, Any] = dict.fromkeys(columns, "auto")
    for text in kind or []:
        column, mark, value = text.partition("=")
        if not mark:
            raise RequestError(
                "--kind", expected="COL=KIND", found=repr(text), remedy=f"Pass --kind {text}=regression."
            )
        stated[column] = value
    grouping: Any = None
    if together == ["auto"]:
        grouping = "auto"
    elif together:
        grouping = [[name.strip() for name in group.split(",")] for group in together]
    return {"tasks": stated, "grouping": grouping}


def told(model: Any, run: str, measured: Mapping[str, Mapping[str, Any]]) -> dict[str, Any]:
    """Return the summary of a fit as plain values."""
    return {
        "run": run,
        "technique": model.technique,
        "backbone": model.parts_[0].backbone.name,
        "tasks": [{"name": task.name, "kind": task.kind, "classes": list(task.classes)} for task in model.tasks_],
        "groups": [list(group) for group in model.groups_],
        "verdict": None if model.verdict_ is None else model.verdict_.to_dict(),
        "seconds": model.seconds_,
        **{
            split: {name: None if one is None else one.to_dict() for name, one in found.items()}
            for split, found in measured.items()
        },
        "left_out": [{"row": row, "input": name, "reason": reason} for row, name, reason in model.left_out_],
        "unlabelled": model.unlabelled_,
    }


def show(model: Any, run: str, examples: int, measured: Mapping[str, Mapping[str, Any]]) -> None:
    """Print the summary of a fit."""
    from textwrap import fill

    name = model.parts_[0].backbone.name
    network = "no network" if model.parts_[0].backbone.modality == "features" else name
    print(f"Fitted {model.technique} on {examples} examples, {counted(len(model.tasks_), 'task')}, with {network}.")
    for row, what, reason in model.left_out_[:5]:
        print(f"  Row {row} could not be read, left out: {what}: {reason}")
    if len(model.left_out_) > 5:
        print(f"  and {len(model.left_out_) - 5} more (graft check lists every one)")
    if model.unlabelled_:
        print(f"{counted(model.unlabelled_, 'example')} without any label, left out.")
    if len(model.groups_) > 1:
        print("Learnt together: " + "; ".join(" + ".join(group) for group in model.groups_) + ".")
    if model.verdict_ is not None:
        rows = [
            (
                one.task,
                str(one.labels),
                format_metric(one.metric, one.alone),
                format_metric(one.metric, one.together),
                _gain(one),
                "-" if one.verdict == "no difference" else one.verdict,
            )
            for one in model.verdict_.tasks
        ]
        columns = ("task", "labels", "alone", "together", "loss saved (95 %)", "verdict")
        print_table(columns, rows, title="Each task beside its single-task twin, on held-out examples")
        print(fill(_units({task.kind for task in model.tasks_}), 80))
        print(fill(str(model.verdict_), 80))
    for split, found in measured.items():
        if found:
            print_table(
                ("task", "metric", "value", "95 % interval", "examples"), _rows(found), title=split.capitalize()
            )
    took = ", ".join(f"{model.seconds_[name]:.1f} {name}" for name in ("features", "training", "total"))
    print(f"Seconds: {took}.")
    print(f"Saved in {run}. Next: graft predict {run} DATA")


def show_evaluations(found: Mapping[str, Any], examples: int, *, json: bool) -> None:
    """Print the evaluation of each task on so many examples, each on those of them that have its label."""
    if json:
        print_json({"examples": examples, "tasks": {name: one.to_dict() for name, one in found.items()}})
        return
    print_table(_COLUMNS, _rows(found))


def write_predictions(path: Path, domain: Domain, model: Any, *, json: bool) -> None:
    """Predict every task of every input, write the table whole or not at all, and say so."""
    from graft.persistence import whole_file

    found = model.predictions(domain.inputs)
    first = next(iter(found.values()))
    place = {int(row): index for index, row in enumerate(first.rows)}
    errors = {row: reason for row, _, reason in first.failures}
    modality = model.parts_[0].backbone.modality
    header = [title for task in model.tasks_ for title in _titles(task, found[task.name])]
    with whole_file(path) as partial, partial.open("w", newline="", encoding="utf-8") as file:
        table = csv.writer(file)
        table.writerow(["row", "input", *header, "error"])
        for row in range(domain.size):
            name = "" if modality == "features" else input_cell(domain.inputs[row])
            if (index := place.get(row)) is None:
                table.writerow([row, name, *[""] * len(header), errors[row]])
                continue
            cells = [cell for task in model.tasks_ for cell in _cells(task, found[task.name], index)]
            table.writerow([row, name, *cells, ""])
    if json:
        unreadable = [{"row": row, "input": name, "reason": reason} for row, name, reason in first.failures]
        print_json({"predictions": str(path), "examples": len(first.rows), "unreadable": unreadable})
        return
    tasks = ", ".join(task.name for task in model.tasks_)
    print(f"Predicted {tasks} of {counted(len(first.rows), 'input')}; the table is {path}.")
    if first.failures:
        print(f"{counted(len(first.failures), 'input')} could not be read (column error).")


def _units(kinds: set[str]) -> str:
    """Say what the losses of a verdict are."""
    number = "squared error, with the variance as the unit"
    if kinds == {"regression"}:
        return f"The loss: {number}."
    text = "The loss: log loss, of which few labels tell more than of accuracy"
    return text + (f"; of numbers, {number}." if "regression" in kinds else ".")


def _gain(one: Any) -> str:
    value, low, high = one.gain["value"], one.gain["low"], one.gain["high"]
    if value is None:
        return ""
    return f"{value:+.3f}" + ("" if low is None else f" ({low:+.3f} to {high:+.3f})")


def _rows(found: Mapping[str, Any]) -> list[tuple[str, ...]]:
    """Return a row for each task with the figure that matters most for it, and its second."""
    from graft.metrics import METRIC_TITLES

    rows: list[tuple[str, ...]] = []
    for name, one in found.items():
        if one is None:
            rows.append((name, "too few labels", "", "", ""))
            continue
        for metric in [key for key in ("accuracy", "macro_f1", "rmse", "r2") if key in one.metrics]:
            estimate = one.metrics[metric]
            low, high = format_metric(metric, estimate.low), format_metric(metric, estimate.high)
            interval = "" if estimate.low != estimate.low else f"{low} to {high}"
            title = METRIC_TITLES.get(metric, metric)
            rows.append((name, title, format_metric(metric, estimate.value), interval, str(one.examples)))
            name = ""
    return rows


def _titles(task: Any, found: Any) -> list[str]:
    names = [str(one) for one in task.classes] if task.kind == "multilabel" else [task.name]
    titles = [f"prediction_{name}" for name in names]
    if found.probabilities is not None:
        titles += [f"p_{task.name}_{label_cell(one)}" for one in task.classes] + [f"ood_score_{task.name}"]
    return titles


def _cells(task: Any, found: Any, index: int) -> list[Any]:
    import numpy as np

    labels = np.atleast_1d(np.asarray(found.labels[index], dtype=object))
    cells = [value if task.kind == "regression" else label_cell(value) for value in labels.tolist()]
    if found.probabilities is not None:
        cells += [f"{p:.6g}" for p in found.probabilities[index]] + [f"{found.ood_scores[index]:.6g}"]
    return cells
