"""The section that shows a model of each technique: metrics, classes, confusion, calibration, examples."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping, Sequence
from functools import partial
from pathlib import PurePath
from typing import Any

from graft.evaluation.cell import Cell
from graft.evaluation.results import Results
from graft.metrics.estimate import Estimate
from graft.reports import charts, contents
from graft.reports.embedded import chart
from graft.reports.markup import Markup, element, number, table
from graft.reports.wording import METRICS, counted, known, label, metric, percent, score, shortened, span

_ROWS_SHOWN = 20  # classes, before the others are folded away
_PICTURE = re.compile(r"data:image/(jpeg|png|webp);base64,[A-Za-z0-9+/]+={0,2}")


def models(results: Results) -> Markup | None:
    """Return each technique's model with most labels: classes, confusion, calibration, examples."""
    if not results.details:
        return None
    names = dict.fromkeys(one["technique"] for one in contents.details_in_order(results))
    return element(
        "section",
        element("h2", "Where it is right, and where it is wrong"),
        element("p", "One model of each technique, learnt from the most labels, on its test examples.", class_="quiet"),
        [_model(results, contents.details_of(results, name), place) for place, name in enumerate(names)],
        data_part="models",
    )


def _model(results: Results, details: Sequence[Mapping[str, Any]], place: int) -> Markup:
    """Return a technique's model: of one task what it shows, of several each task's to unfold."""
    first = details[0]
    cell = contents.cell_of(results, first)
    says = "" if cell is None or cell.score is None else f": {score(cell.score.value, results.score)}"
    which = f"Learnt from {counted(first['n_train'], 'example')}, seed {first['seed']}"
    if contents.task_of(first) is None:
        shown, which = _shown(results, first, f"{place}"), f"{which}; tested on {_tested(first)}."
    else:
        shown = [_task(results, one, cell, place, number) for number, one in enumerate(details)]
        which = f"{which}."
    return element(
        "details",
        element("summary", element("h3", f"{contents.technique_title(results, first['technique'])}{says}")),
        element("p", which, class_="small quiet"),
        _metrics(results, cell),
        shown,
        class_="model",
        open=place == 0,
        data_part=f"model{place}",
    )


def _task(results: Results, detail: Mapping[str, Any], cell: Cell | None, place: int, number: int) -> Markup:
    """Return what is shown of one of several tasks."""
    task = contents.task_of(detail)
    says = "" if cell is None else _task_score(cell.tasks.get(str(task), {}))
    return element(
        "details",
        element("summary", element("h4", f"{label(task)}{says}")),
        element("p", f"Tested on {_tested(detail)}.", class_="small quiet"),
        _shown(results, detail, f"{place}-{number}"),
        class_="task",
        open=place == number == 0,
        data_part=f"task{place}-{number}",
    )


def _task_score(metrics: Mapping[str, Estimate]) -> str:
    """Return the metric of a task that decides, in words: accuracy, of numbers R²."""
    found = ((name, metrics[name].value) for name in ("accuracy", "r2") if name in metrics)
    return "".join(f": {metric(name, value)} {METRICS.get(name, name)}" for name, value in found)


def _tested(detail: Mapping[str, Any]) -> str:
    return counted(detail["examples"], "test example") if detail["examples"] is not None else "its test examples"


def _shown(results: Results, detail: Mapping[str, Any], key: str) -> list[Markup | None]:
    """Return the charts of a model and a task, its classes and its examples."""
    which: dict[str, Any] = {"technique": detail["technique"], "task": contents.task_of(detail)}
    return [
        element(
            "div",
            chart(
                charts.confusion_matrix(results, **which),
                f"confusion{key}",
                "Confusion matrix",
                "Examples of each class (row) by the class that they were taken for (column); "
                "the darker, the larger the share of the row.",
                _spoken_confusions(detail),
            ),
            chart(
                charts.calibration(results, **which),
                f"calibration{key}",
                "Calibration",
                "On the dotted line the model is right as often as it claims; below it, it is too sure. "
                "Larger points hold more predictions.",
                "; ".join(
                    f"{percent(one['confidence'], decimals=0)} sure, {percent(one['accuracy'], decimals=0)} right"
                    for one in detail["calibration"]
                ),
            ),
            chart(
                charts.predictions(results, **which),
                f"predictions{key}",
                "Predicted against true",
                "Each point is a test example; on the dotted line both agree.",
                "Predicted against true values of the test examples.",
            ),
            class_="pair",
        ),
        _classes(detail),
        _examples(detail["wrong"], contents.wrong_title(detail), "wrong", results),
        _examples(detail["foreign"], "Least like the training data", "foreign", results),
    ]


def _metrics(results: Results, cell: Cell | None) -> Markup | None:
    if cell is None:
        return None
    deciding = results.score.get("name")
    rows: list[list[Any]] = []
    for name, one in cell.metrics.items():
        if name == deciding:
            rows.append([results.score.get("title", name), *_figures(one, lambda value: score(value, results.score))])
        else:
            rows.append([METRICS.get(name, name), *_figures(one, partial(metric, name))])
    for task, metrics in cell.tasks.items():
        for name, one in metrics.items():
            rows.append([f"{label(task)}: {METRICS.get(name, name)}", *_figures(one, partial(metric, name))])
    return table(["metric", "value", "95 % interval"], rows, name="metrics") if rows else None


def _figures(estimate: Estimate, written: Callable[[float | None], str]) -> tuple[Any, Any]:
    value = estimate.value if known(estimate.value) else None
    return number(written(value), value), span(estimate.low, estimate.high, written)


def _classes(detail: Mapping[str, Any]) -> Markup | None:
    rows = contents.hardest_first(detail)
    if not rows:
        return None
    many = len(rows) > _ROWS_SHOWN
    found = contents.confusions(detail, 8)
    title = f"The {_ROWS_SHOWN} hardest of {len(rows)} classes" if many else "Classes, the hardest first"
    others = element("details", element("summary", "All other classes"), _class_table(rows[_ROWS_SHOWN:]))
    mixed = [[true, taken, number(str(count), count)] for true, taken, count in found]
    return element(
        "div",
        element("div", element("h4", title), _class_table(rows[:_ROWS_SHOWN]), others if many else None),
        element(
            "div",
            element("h4", "Most frequent confusions"),
            table(["true class", "taken for", "examples"], mixed, name="confusions", words=2),
        )
        if found
        else None,
        class_="pair",
    )


def _class_table(rows: list[Mapping[str, Any]]) -> Markup:
    parts = ("precision", "recall", "f1")
    return table(
        ["class", "examples", "precision", "recall", "F1"],
        [
            [one["class"], str(one["examples"]), *(number(percent(one[part]), one[part]) for part in parts)]
            for one in rows
        ],
        name="classes",
    )


def _examples(examples: list[Mapping[str, Any]], title: str, kind: str, results: Results) -> Markup | None:
    if not examples:
        return None
    pictures = any(one.get("thumbnail") for one in examples)
    items = [element("li", _seen(one, results), _said(one), class_="example") for one in examples]
    return element(
        "div",
        element("h4", title),
        element("ul", items, class_=f"examples {kind} {'pictures' if pictures else 'texts'}"),
    )


def _seen(one: Mapping[str, Any], results: Results) -> list[Markup]:
    """Return what an example looks like: its picture, its text, or where it stands."""
    given, row = one.get("input"), element("small", f"row {one['row']}", class_="quiet")
    if results.data.get("modality") == "text" and given:
        return [element("blockquote", given), row]
    picture = one.get("thumbnail")
    shown = []
    if isinstance(picture, str) and _PICTURE.fullmatch(picture):
        shown.append(element("img", src=picture, alt=f"test example in row {one['row']}"))
    if not given:
        return [*shown, row]
    tail = PurePath(label(given).replace("\\", "/")).name
    return [*shown, element("small", shortened(tail, 60), class_="quiet", title=given)]


def _said(one: Mapping[str, Any]) -> Markup:
    """Return what was predicted of an example, and whether it is so."""
    sure = [" (", number(percent(one["p"]), one["p"]), ")"] if one["p"] is not None else None
    true, predicted = contents.answers(one)
    about = [element("b", one["label"]), ": "] if "label" in one else None
    right = one["true"] == one["predicted"]
    return element(
        "div",
        about,
        "taken for " if sure else "predicted ",
        element("span", predicted, class_="said"),
        sure,
        ", rightly" if right else [", is ", element("span", true, class_="said")],
    )


def _spoken_confusions(detail: Mapping[str, Any]) -> str:
    found = contents.confusions(detail, 3)
    return (
        "; ".join(f"{label(true)} taken for {label(taken)}: {count}" for true, taken, count in found) or "No confusion."
    )
