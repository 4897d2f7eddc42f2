"""The sections that show what was found: curves, what transfer is worth, both domains, tasks, each model in detail."""

from __future__ import annotations

import re
from collections.abc import Mapping
from pathlib import PurePath
from typing import TYPE_CHECKING, Any

from graft.evaluation.results import Results
from graft.reports import charts, contents
from graft.reports.markup import Markup, element, number, table
from graft.reports.palette import LIGHT, technique_style
from graft.reports.svg import inline_svg
from graft.reports.wording import (
    METRICS,
    UNKNOWN,
    budget_words,
    counted,
    factor,
    figure_words,
    gain,
    label,
    memory,
    metric,
    percent,
    quantity,
    score,
    seconds,
    shortened,
    span,
)

if TYPE_CHECKING:
    from matplotlib.figure import Figure

_QUESTIONS = {
    "transfer": "Pretrained, or from scratch?",
    "adaptation": "Adapted to the target, or not?",
    "sharing": "All tasks together, or each alone?",
}
_ROWS_SHOWN = 20  # classes, before the others are folded away
_PICTURE = re.compile(r"data:image/(jpeg|png|webp);base64,[A-Za-z0-9+/]+={0,2}")


def learning(results: Results) -> Markup | None:
    """Return the learning curves and the scores against seconds, with their figures as tables."""
    curves = charts.learning_curves(results)
    if curves is None:
        return None
    title = results.score.get("title", "score")
    per_class = results.settings.get("budget_unit") == "per class"
    labels = "labelled examples per class" if per_class else "labelled examples"
    return element(
        "section",
        element("h2", "How much it learns from how many labels"),
        element(
            "div",
            _chart(
                curves,
                "learning-curves",
                "Learning curves",
                f"Mean {title} on the test examples over the seeds, with 95 % bands, against the {labels}.",
                _spoken(results, "n_train", lambda value: f"{value:.0f} examples"),
            ),
            _chart(
                charts.score_against_seconds(results),
                "seconds",
                f"{title[:1].upper()}{title[1:]} against time",
                "A point for each number of labels: up is better, left is faster. The time is that of reading the "
                "examples, passing them through the frozen network where there is one, and training.",
                _spoken(results, "seconds", seconds),
            ),
            class_="pair",
        ),
        _key(results),
        element("h3", f"{title[:1].upper()}{title[1:]} on the test examples"),
        score_table(results),
        element("h3", "What it costs with the most labels"),
        cost_table(results),
        id="curves",
    )


def score_table(results: Results) -> Markup:
    """Return the score of each technique at each number of labels."""
    budgets = contents.budgets(results)
    rows = []
    for name in contents.technique_names(results):
        points = [contents.point(results, name, budget) for budget in budgets]
        if any(points):
            rows.append([contents.short_name(name), *(_estimate(results, one and one["score"]) for one in points)])
    per_class = results.settings.get("budget_unit") == "per class"
    heads = ["all" if one is None else f"{one:,d}" for one in budgets]
    return table(["labels per class" if per_class else "labels", *heads], rows, name="scores")


def cost_table(results: Results) -> Markup:
    """Return what each technique costs with the most labels that it was measured with."""
    found = {name: contents.costs(results, name) for name in contents.technique_names(results)}
    costs = {name: one for name, one in found.items() if one is not None}
    columns: list[tuple[str, Any, Any]] = [
        ("reading", lambda one: one["seconds"]["data"], seconds),
        ("features", lambda one: one["seconds"]["features"], seconds),
        ("training", lambda one: one["seconds"]["training"], seconds),
        ("in all", lambda one: one["seconds"]["total"], seconds),
        ("memory", lambda one: one["peak_memory_mib"], memory),
        ("trained parameters", lambda one: one["trainable_parameters"], quantity),
        ("all parameters", lambda one: one["total_parameters"], quantity),
        ("operations for one", lambda one: one["flops_forward"], quantity),
        ("in the fit", lambda one: one["flops_training"], quantity),
        ("energy", lambda one: one["energy_joules"], lambda value: quantity(value, "J")),
    ]
    # A column of which nothing is known (energy, on most machines) is not shown.
    columns = [one for one in columns if any(one[1](cost) is not None for cost in costs.values())]
    rows = [
        [
            contents.short_name(name),
            [
                number(f"{cost['n_train']:,.0f}", cost["n_train"]),
                element("small", budget_words(results, cost["budget"])),
            ],
            *(number(written(read(cost)), read(cost)) for _, read, written in columns),
        ]
        for name, cost in costs.items()
    ]
    return table(["technique", "examples", *(one[0] for one in columns)], rows, name="costs")


def worth(results: Results) -> Markup | None:
    """Return each question with its gains by the number of labels, what those are worth in labels, time and memory."""
    if not results.verdict.findings:
        return None
    return element(
        "section",
        element("h2", "What it is worth"),
        [_finding(results, one, place) for place, one in enumerate(results.verdict.findings)],
        id="worth",
    )


def _finding(results: Results, finding: Mapping[str, Any], place: int) -> Markup:
    first, second = finding["with"], finding["without"]
    labels = {one["budget"]: one for one in finding["labels"]}
    rows = []
    for one in finding["gains"]:
        equal = labels.get(one["budget"])
        examples = element("small", number(f"{one['n_train']:,.0f}", one["n_train"]), " examples")
        rows.append(
            [[budget_words(results, one["budget"]), examples], _with_interval(results, one), *_equal_labels(equal)]
        )
    mean = finding["gain"]
    mean_words = gain(mean["value"], results.score)
    interval = span(mean["low"], mean["high"], lambda value: gain(value, results.score, unit=False))
    return element(
        "div",
        element("h3", _QUESTIONS.get(finding["question"], finding["question"])),
        element("p", finding.get("text", "")),
        element(
            "p",
            element("b", contents.technique_title(results, first)),
            " against ",
            element("b", contents.technique_title(results, second)),
            ": ",
            number(mean_words, mean["value"]),
            " on average over the numbers of labels",
            f" (95 % interval {interval})." if interval else ".",
            [_cost_sentence(results, finding[part], part) for part in ("seconds", "memory") if finding.get(part)],
        ),
        element(
            "div",
            _chart(
                charts.gains(results, question=finding["question"]),
                f"gains{place}",
                "Gain at each number of labels",
                "Differences on the same splits, seeds and test examples, with 95 % intervals; right of zero "
                f"{contents.short_name(first)} is better.",
                "; ".join(
                    f"{budget_words(results, one['budget'])}: {gain(one['value'], results.score)}"
                    for one in finding["gains"]
                ),
            ),
            table(
                ["labels", "gain", f"{contents.short_name(second)} needs", "times as many"],
                rows,
                name=f"gains of {contents.short_name(first)}",
            ),
            class_="pair",
        )
        if rows
        else None,
    )


def _equal_labels(equal: Mapping[str, Any] | None) -> tuple[Any, Any]:
    if equal is None:
        return UNKNOWN, UNKNOWN
    mark = {"at least": "> ", "at most": "≤ "}.get(equal.get("bound") or "", "")
    sign = {"at least": "≥ ", "at most": "≤ "}.get(equal.get("bound") or "", "")
    interval = span(equal["low"], equal["high"], factor)
    return (
        [mark, number(f"{equal['equals']:,.0f}", equal["equals"])],
        [sign, number(factor(equal["factor"]), equal["factor"]), element("small", interval) if interval else None],
    )


def _cost_sentence(results: Results, cost: Mapping[str, Any], part: str) -> Markup:
    written, name = (seconds, "time") if part == "seconds" else (memory, "memory")
    times, words, interval = figure_words({"name": name, "value": cost["factor"], **cost})
    budget = cost["budget"]
    labels = "all labels" if budget is None else budget_words(results, budget)
    return element(
        "span",
        f" {name.capitalize()} with {labels}: ",
        number(written(cost["with"]), cost["with"]),
        " against ",
        number(written(cost["without"]), cost["without"]),
        ", ",
        number(times, cost["factor"]),
        f" {words} ({interval})." if interval else f" {words}.",
    )


def domains(results: Results) -> Markup | None:
    """Return the plane of source and target before and after each adaptation."""
    views = [one for one in contents.details_in_order(results) if one["coordinates"]]
    if not views:
        return None
    target = (results.data.get("target") or {}).get("name", "the target")
    found = [
        _chart(
            charts.domains(results, technique=one["technique"]),
            f"domains{place}",
            contents.technique_title(results, one["technique"]),
            "",
            f"{len(one['coordinates']['before']['source'])} source and "
            f"{len(one['coordinates']['before']['target'])} target examples in a plane, before and after.",
        )
        for place, one in enumerate(views)
    ]
    return element(
        "section",
        element("h2", "Source and target"),
        element(
            "p",
            f"Features of {results.data.get('name', 'the source')} (source) and {target} (target) in the plane of "
            "their principal components, before and after the adaptation. A line joins the mean of a class in the "
            "source with its mean in the target. Methods that weigh examples move none.",
        ),
        element("div", found, class_="pair"),
        id="domains",
    )


def tasks(results: Results) -> Markup | None:
    """Return the gain of each task from learning them together."""
    rows = contents.task_gains(results)
    if not rows:
        return None
    return element(
        "section",
        element("h2", "Gain of each task"),
        element(
            "div",
            _chart(
                charts.task_gains(results),
                "tasks",
                "Learnt together, against alone",
                "With 95 % intervals; right of zero the task is better for being learnt with the others.",
                "; ".join(f"{label(one['task'])}: {gain(one['value'], results.score)}" for one in rows),
            ),
            table(
                ["task", "gain"], [[one["task"], _with_interval(results, one)] for one in rows], name="gains of tasks"
            ),
            class_="pair",
        ),
        id="tasks",
    )


def models(results: Results) -> Markup | None:
    """Return each technique's model with most labels: classes, confusion, calibration, examples."""
    details = contents.details_in_order(results)
    if not details:
        return None
    return element(
        "section",
        element("h2", "Where it is right, and where it is wrong"),
        element("p", "One model of each technique, learnt from the most labels, on its test examples.", class_="quiet"),
        [_model(results, one, place) for place, one in enumerate(details)],
        id="models",
    )


def _model(results: Results, detail: Mapping[str, Any], place: int) -> Markup:
    name = detail["technique"]
    cell = contents.cell_of(results, detail)
    says = "" if cell is None or cell.score is None else f": {score(cell.score.value, results.score)}"
    examples = counted(detail["examples"], "test example") if detail["examples"] is not None else "its test examples"
    which = f"Learnt from {counted(detail['n_train'], 'example')}, seed {detail['seed']}; tested on {examples}."
    return element(
        "details",
        element("summary", element("h3", f"{contents.technique_title(results, name)}{says}")),
        element("p", which, class_="small quiet"),
        _metrics(cell),
        element(
            "div",
            _chart(
                charts.confusion_matrix(results, technique=name),
                f"confusion{place}",
                "Confusion matrix",
                "Examples of each class (row) by the class that they were taken for (column); "
                "the darker, the larger the share of the row.",
                _spoken_confusions(detail),
            ),
            _chart(
                charts.calibration(results, technique=name),
                f"calibration{place}",
                "Calibration",
                "On the dotted line the model is right as often as it claims; below it, it is too sure. "
                "Larger points hold more predictions.",
                "; ".join(
                    f"{percent(one['confidence'], decimals=0)} sure, {percent(one['accuracy'], decimals=0)} right"
                    for one in detail["calibration"]
                ),
            ),
            _chart(
                charts.predictions(results, technique=name),
                f"predictions{place}",
                "Predicted against true",
                "Each point is a test example; on the dotted line both agree.",
                "Predicted against true values of the test examples.",
            ),
            class_="pair",
        ),
        _classes(detail),
        _examples(detail["wrong"], _wrong_title(results), "wrong", results),
        _examples(detail["foreign"], "Least like the training data", "foreign", results),
        class_="model",
        open=place == 0,
        id=f"model{place}",
    )


def _metrics(cell: Any) -> Markup | None:
    if cell is None:
        return None
    rows: list[list[Any]] = [[METRICS.get(name, name), *_metric(name, one)] for name, one in cell.metrics.items()]
    for task, metrics in cell.tasks.items():
        rows += [[f"{label(task)}: {METRICS.get(name, name)}", *_metric(name, one)] for name, one in metrics.items()]
    return table(["metric", "value", "95 % interval"], rows, name="metrics") if rows else None


def _metric(name: str, estimate: Any) -> tuple[Any, Any]:
    value = estimate.value if estimate.value == estimate.value else None
    return number(metric(name, value), value), span(estimate.low, estimate.high, lambda one: metric(name, one))


def _classes(detail: Mapping[str, Any]) -> Markup | None:
    rows = sorted(detail["per_class"], key=lambda one: one["f1"] if one["f1"] is not None else 2.0)
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


def _wrong_title(results: Results) -> str:
    kind = (results.data.get("task") or {}).get("kind")
    return "Largest errors" if kind == "regression" else "Most confidently wrong"


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
    sure = [" (", number(percent(one["p"]), one["p"]), ")"] if one["p"] is not None else None
    about = f"{label(one['label'])}: " if "label" in one else ""
    right = one["true"] == one["predicted"]
    return element(
        "div",
        about,
        "taken for " if sure else "predicted ",
        element("span", one["predicted"], class_="said"),
        sure,
        ", rightly" if right else [", is ", element("span", one["true"], class_="said")],
    )


def _key(results: Results) -> Markup:
    """Return what each line is."""
    items = []
    measured = {one["technique"] for one in results.summary}
    for one in results.techniques:
        if one["name"] not in measured:
            continue
        look = technique_style(results, one["name"])
        colour = next(name for name, value in LIGHT.items() if value == look["color"])
        dashed = " dashed" if look["linestyle"] == "--" else ""
        items.append(
            element(
                "li",
                element("span", class_=f"swatch{dashed}", style=f"border-color:var(--{colour})"),
                element("b", contents.short_name(one["name"])),
                f": {label(one.get('title'))}. ",
                element("span", one.get("description", ""), class_="quiet"),
            )
        )
    return element("ul", items, class_="key small")


def _chart(figure: Figure | None, name: str, title: str, caption: str, description: str) -> Markup | None:
    if figure is None:
        return None
    drawn = inline_svg(figure, name=name, description=f"{title}. {description}")
    return element("figure", element("figcaption", element("b", title), caption), drawn)


def _estimate(results: Results, estimate: Mapping[str, Any] | None) -> Any:
    if estimate is None:
        return UNKNOWN
    interval = span(estimate["low"], estimate["high"], lambda value: score(value, results.score).removesuffix(" %"))
    shown = number(score(estimate["value"], results.score), estimate["value"])
    return [shown, element("small", interval) if interval else None]


def _with_interval(results: Results, one: Mapping[str, Any]) -> list[Any]:
    interval = span(one["low"], one["high"], lambda value: gain(value, results.score, unit=False))
    return [number(gain(one["value"], results.score), one["value"]), element("small", interval) if interval else None]


def _spoken(results: Results, across: str, written: Any) -> str:
    """Return curves in words: where each begins and where it ends."""
    said = []
    for name in contents.technique_names(results):
        points = [one for one in contents.curve(results, name) if one[across] is not None]
        ends = [points[0], points[-1]] if len(points) > 1 else points
        if ends:
            words = " to ".join(
                f"{score(one['score']['value'], results.score)} at {written(one[across])}" for one in ends
            )
            said.append(f"{contents.short_name(name)}: {words}")
    return "; ".join(said)


def _spoken_confusions(detail: Mapping[str, Any]) -> str:
    found = contents.confusions(detail, 3)
    return (
        "; ".join(f"{label(true)} taken for {label(taken)}: {count}" for true, taken, count in found) or "No confusion."
    )
