"""``graft predict`` and ``graft evaluate``: a saved run on new data."""

from __future__ import annotations

import csv
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from graft.cli.multi_task import show_evaluations, write_predictions
from graft.cli.options import Data, Group, Image, Json, Label, Run, Text, read_for
from graft.cli.show import counted, input_cell, label_cell, metric_rows, print_json, print_table
from graft.errors import DataError, RequestError

if TYPE_CHECKING:
    import numpy as np

    from graft.data import Domain


def predict(
    run: Run,
    data: Data,
    *,
    out: Annotated[str, typer.Option(metavar="CSV", help="The table to write.")] = "predictions.csv",
    text: Text = None,
    image: Image = None,
    label: Label = None,
    reject: Annotated[
        float | None,
        typer.Option(metavar="RATE", help="Leave the label empty for foreign inputs, at this false-alarm rate."),
    ] = None,
    json: Json = False,
) -> None:
    """Predict every input of DATA with a saved run.

    The table has a row per input: label, probability per class, out-of-distribution score, and an error where the
    input could not be read.
    """
    import numpy as np

    from graft.persistence import require_writable
    from graft.techniques import MultiTask, load

    path = Path(out)
    if path.is_dir():
        raise RequestError(
            "--out", expected="a file", found=f"the folder {out}", remedy=f"Pass --out {path / 'predictions.csv'}."
        )
    require_writable(path)  # before the network runs, not after it
    model = load(run)
    if isinstance(model, MultiTask):
        if reject is not None:
            raise RequestError(
                "--reject",
                expected="a run of one task",
                found=f"one of {len(model.tasks_)} tasks",
                remedy="Leave it out, and use the columns ood_score of the table.",
            )
        modality = model.parts_[0].backbone.modality
        several: list[str] | None = None if modality == "features" else []
        ignore = () if label else tuple(model.columns_)
        domain = read_for(modality, data, image=image, text=text, labels=label or several, ignore=ignore)
        write_predictions(path, domain, model, json=json)
        return
    if reject is not None:
        if model.task_.kind == "regression":
            raise RequestError(
                "--reject", expected="a classification", found="a regression", remedy="Leave out --reject."
            )
        model.head_.ood_threshold(reject)  # a rate that cannot be is refused before the network runs
    modality = model.backbone_.modality
    # Labels are not needed, and a column of them may be empty; only beside numbers it must be told from the inputs:
    # by the names in the run, and where it has none as `graft fit` found it.
    unread: list[str] | None = None if modality == "features" else []
    ignore = () if label else _label_names(model)
    domain = read_for(modality, data, image=image, text=text, labels=label or unread, ignore=ignore)
    found = model.predictions(domain.inputs)
    labels = found.labels.astype(object)
    rejected = np.zeros(len(labels), dtype=bool)
    if reject is not None and found.ood_scores is not None:
        rejected = found.ood_scores > model.head_.ood_threshold(reject)
        labels[rejected] = None
    _write_predictions(path, domain, model, found, labels)
    facts = {
        "predictions": str(path),
        "examples": len(found.rows),
        "rejected": int(rejected.sum()),
        "unreadable": [{"row": row, "input": name, "reason": reason} for row, name, reason in found.failures],
    }
    if json:
        print_json(facts)
        return
    print(f"Predicted {counted(len(found.rows), 'input')}; the table is {path}.")
    if model.task_.kind == "classification" and not rejected.all():
        shown = [label_cell(value) for value in labels[~rejected]]
        values, counts = np.unique(shown, return_counts=True)
        order = np.argsort(-counts, kind="stable")[:20]
        print_table(("predicted", "inputs"), [(values[i], str(counts[i])) for i in order])
    if rejected.any():
        print(f"No label for {counted(int(rejected.sum()), 'input')} foreign to the training data.")
    if found.failures:
        print(f"{counted(len(found.failures), 'input')} could not be read (column error):")
        for _, name, reason in found.failures[:5]:
            print(f"  {name}: {reason}")


def evaluate(
    run: Run,
    data: Data,
    *,
    text: Text = None,
    image: Image = None,
    label: Label = None,
    group: Group = None,
    json: Json = False,
) -> None:
    """Measure a saved run on labelled DATA, every figure with its interval.

    Where DATA has given splits, its test split is measured (or val, where there is no test).
    """
    from graft.techniques import MultiTask, load

    model = load(run)
    if isinstance(model, MultiTask):
        columns = label or list(model.columns_)
        modality = model.parts_[0].backbone.modality
        domain = read_for(modality, data, image=image, text=text, labels=columns, group=group)
        domain = domain.split("test") or domain.split("val") or domain
        measured = model.set_params(label_names=columns).evaluate(domain.inputs, domain.labels, groups=domain.groups)
        show_evaluations(measured, domain.size, json=json)
        return
    table = Path(data).is_file() and not data.endswith((".npz", ".npy"))
    if model.task_.kind == "multilabel" and table:
        label = _columns_of(model, label)
    elif model.task_.name and table:
        label = label or [model.task_.name]
    domain = read_for(model.backbone_.modality, data, image=image, text=text, labels=label, group=group)
    domain = domain.split("test") or domain.split("val") or domain
    if domain.labels is None:
        raise DataError(
            data, expected="labelled examples", found="no labels", remedy="Name the label column with --label."
        )
    found = model.evaluate(domain.inputs, domain.labels, groups=domain.groups)
    if json:
        print_json(found.to_dict())
        return
    title = f"{found.examples} of {domain.size} examples"
    print_table(("metric", "value", "95 % interval"), metric_rows(found.metrics), title=title)
    if found.per_class:
        rows = [
            (
                label_cell(row["class"]),
                str(row["examples"]),
                *(_share(row[key]) for key in ("precision", "recall", "f1")),
            )
            for row in found.per_class
        ]
        print_table(("class", "examples", "precision", "recall", "F1"), rows)
    if found.confusion is not None and (mixed := _confusions(found)):
        print_table(("true", "predicted as", "examples"), mixed, title="Most often confused")


def _label_names(model: Any) -> tuple[str, ...]:
    """Return the label columns that the model was fitted on, as far as the run names them."""
    task = model.task_
    return tuple(map(str, task.classes)) if task.kind == "multilabel" else (task.name,) if task.name else ()


def _columns_of(model: Any, label: list[str] | None) -> list[str]:
    """Return the label columns in the order of the model, whatever the order in which they were named."""
    names = list(_label_names(model))
    if label is not None and sorted(label) != sorted(names):
        raise RequestError(
            "--label",
            expected=f"the labels of the model, {', '.join(map(repr, names))}",
            found=", ".join(map(repr, label)),
            remedy="Leave out --label, or name exactly those columns.",
        )
    return names


def _share(value: float | None) -> str:
    return "" if value is None else f"{100 * value:.1f} %"


def _confusions(found: Any, most: int = 5) -> list[tuple[str, str, str]]:
    import numpy as np

    wrong = found.confusion - np.diag(np.diag(found.confusion))
    order = np.argsort(-wrong, axis=None, kind="stable")[:most]
    pairs = [(*np.unravel_index(place, wrong.shape), wrong.flat[place]) for place in order if wrong.flat[place]]
    return [(label_cell(found.classes[i]), label_cell(found.classes[j]), str(count)) for i, j, count in pairs]


def _write_predictions(path: Path, domain: Domain, model: Any, found: Any, labels: np.ndarray) -> None:
    import numpy as np

    from graft.persistence import whole_file

    task = model.task_
    outputs = [f"prediction_{name}" for name in task.classes] if task.kind == "multilabel" else ["prediction"]
    scores = [f"p_{label_cell(name)}" for name in task.classes] if found.probabilities is not None else []
    foreign = ["ood_score"] if found.ood_scores is not None else []
    numbers = task.kind == "regression"
    place = {int(row): index for index, row in enumerate(found.rows)}
    errors = {row: (name, reason) for row, name, reason in found.failures}
    with whole_file(path) as partial, partial.open("w", newline="", encoding="utf-8") as file:
        table = csv.writer(file)
        table.writerow(["row", "input", *outputs, *scores, *foreign, "error"])
        for row in range(domain.size):
            name = "" if model.backbone_.modality == "features" else input_cell(domain.inputs[row])
            index = place.get(row)
            if index is None:
                empty = [""] * (len(outputs) + len(scores) + len(foreign))
                table.writerow([row, name, *empty, errors[row][1]])
                continue
            label = labels[index]
            cells = [value if numbers else label_cell(value) for value in np.atleast_1d(label)]
            if scores:
                cells += [f"{p:.6g}" for p in found.probabilities[index]]
            if foreign:
                cells.append(f"{found.ood_scores[index]:.6g}")
            table.writerow([row, name, *cells, ""])
