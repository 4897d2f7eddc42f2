"""The sections that show what was found over all cells: curves, costs, what transfer is worth, domains, tasks."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from graft.evaluation.results import Results
from graft.reports import charts, contents
from graft.reports.embedded import chart, estimated, gained
from graft.reports.markup import Markup, element, number, table
from graft.reports.palette import LIGHT, technique_style
from graft.reports.wording import (
    SIZES,
    TIME_AND_MEMORY,
    UNKNOWN,
    budget_words,
    factor,
    factor_span,
    figure_words,
    gain,
    known_columns,
    label,
    memory,
    score,
    seconds,
    span,
)

_QUESTIONS = {
    "transfer": "Pretrained, or from scratch?",
    "adaptation": "Adapted to the target, or not?",
    "sharing": "All tasks together, or each alone?",
}


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
            chart(
                curves,
                "learning-curves",
                "Learning curves",
                f"{title[:1].upper()}{title[1:]} on the test examples, the mean over the seeds with 95 % bands, "
                f"against the {labels}.",
                _spoken(results, "n_train", lambda value: f"{value:.0f} examples"),
            ),
            chart(
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
        data_part="curves",
    )


def score_table(results: Results) -> Markup:
    """Return the score of each technique at each number of labels."""
    budgets = contents.budgets(results)
    rows = []
    for name in contents.technique_names(results):
        points = [contents.point(results, name, budget) for budget in budgets]
        if any(points):
            rows.append([contents.short_name(name), *(estimated(results, one and one["score"]) for one in points)])
    per_class = results.settings.get("budget_unit") == "per class"
    heads = ["all" if one is None else f"{one:,d}" for one in budgets]
    return table(["labels per class" if per_class else "labels", *heads], rows, name="scores")


def cost_table(results: Results) -> Markup:
    """Return what each technique costs with the most labels that all were measured with."""
    costs = contents.all_costs(results)
    columns = known_columns((*TIME_AND_MEMORY, *SIZES), costs.values())
    rows = [
        [
            contents.short_name(name),
            [
                number(f"{cost['n_train']:,.0f}", cost["n_train"]),
                element("small", budget_words(results, cost["budget"])),
            ],
            *(number(one.written(one.read(cost)), one.read(cost)) for one in columns),
        ]
        for name, cost in costs.items()
    ]
    return table(["technique", "examples", *(one.heading for one in columns)], rows, name="costs")


def worth(results: Results) -> Markup | None:
    """Return each question with its gains by the number of labels, what those are worth in labels, time and memory."""
    if not results.verdict.findings:
        return None
    return element(
        "section",
        element("h2", "What it is worth"),
        [_finding(results, one, place) for place, one in enumerate(results.verdict.findings)],
        data_part="worth",
    )


def _finding(results: Results, finding: Mapping[str, Any], place: int) -> Markup:
    first, second = finding["with"], finding["without"]
    labels = {one["budget"]: one for one in finding["labels"]}
    rows = []
    for one in finding["gains"]:
        equal = labels.get(one["budget"])
        examples = element("small", number(f"{one['n_train']:,.0f}", one["n_train"]), " examples")
        rows.append([[budget_words(results, one["budget"]), examples], gained(results, one), *_equal_labels(equal)])
    return element(
        "div",
        element("h3", _QUESTIONS.get(finding["question"], finding["question"])),
        element("p", finding.get("text") or _gain_sentence(results, finding)),
        element(
            "p",
            f"{contents.short_name(first)} against {contents.short_name(second)}:",
            [_cost_words(results, finding[part], part) for part in ("seconds", "memory") if finding.get(part)],
            class_="small quiet",
        )
        if finding.get("seconds") or finding.get("memory")
        else None,
        element(
            "div",
            chart(
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


def _gain_sentence(results: Results, finding: Mapping[str, Any]) -> Markup:
    mean = finding["gain"]
    interval = span(mean["low"], mean["high"], lambda value: gain(value, results.score, unit=False))
    return element(
        "span",
        element("b", contents.technique_title(results, finding["with"])),
        " against ",
        element("b", contents.technique_title(results, finding["without"])),
        ": ",
        number(gain(mean["value"], results.score), mean["value"]),
        " on average over the numbers of labels",
        f" (95 % interval {interval})." if interval else ".",
    )


def _equal_labels(equal: Mapping[str, Any] | None) -> tuple[Any, Any]:
    if equal is None:
        return UNKNOWN, UNKNOWN
    mark = {"at least": "> ", "at most": "≤ "}.get(equal.get("bound") or "", "")
    interval = factor_span(equal["low"], equal["high"])
    return (
        [mark, number(f"{equal['equals']:,.0f}", equal["equals"])],
        [mark, number(factor(equal["factor"]), equal["factor"]), element("small", interval) if interval else None],
    )


def _cost_words(results: Results, cost: Mapping[str, Any], part: str) -> Markup:
    written, name = (seconds, "time") if part == "seconds" else (memory, "memory")
    times, words, interval = figure_words({"name": name, "value": cost["factor"], **cost})
    budget = cost["budget"]
    return element(
        "span",
        " ",
        number(times, cost["factor"]),
        f" {words}{f' ({interval})' if interval else ''} with ",
        "all labels" if budget is None else budget_words(results, budget),
        ", ",
        number(written(cost["with"]), cost["with"]),
        " against ",
        number(written(cost["without"]), cost["without"]),
        ".",
    )


def domains(results: Results) -> Markup | None:
    """Return the plane of source and target before and after each adaptation."""
    views = [one for one in contents.details_in_order(results) if one["coordinates"]]
    if not views:
        return None
    target = (results.data.get("target") or {}).get("name", "the target")
    found = [
        chart(
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
            "source with its mean in the target. Methods that weigh examples, and the consensus of several, move none.",
        ),
        element("div", found, class_="pair"),
        data_part="domains",
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
            chart(
                charts.task_gains(results),
                "tasks",
                "Learnt together, against alone",
                "With 95 % intervals; right of zero the task is better for being learnt with the others.",
                "; ".join(f"{label(one['task'])}: {gain(one['value'], results.score)}" for one in rows),
            ),
            table(["task", "gain"], [[one["task"], gained(results, one)] for one in rows], name="gains of tasks"),
            class_="pair",
        ),
        data_part="tasks",
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
