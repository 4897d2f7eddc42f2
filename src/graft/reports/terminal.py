"""The same figures as tables in a terminal, within 80 columns."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

from graft.evaluation.results import NO_INTERVAL, Results
from graft.reports import contents
from graft.reports.soundness import check_sound
from graft.reports.verdict import headline, paragraph, title_of
from graft.reports.wording import (
    MINUS,
    SIZES,
    TIME_AND_MEMORY,
    UNKNOWN,
    budget_words,
    clean,
    counted,
    factor,
    figure_words,
    gain,
    known,
    known_columns,
    percent,
    score,
    shortened,
    span,
)

if TYPE_CHECKING:
    from rich.console import Console

_CLASSES, _EXAMPLES = 8, 5
_LONGEST_WORD = 20  # that no column breaks
_WIDEST = 100  # columns: longer lines are hard to read


def show(results: Results, *, models: bool = False, console: Console | None = None) -> None:
    """Print what a comparison found: the verdict, its figures, scores, costs, gains, and what was left out.

    Parameters
    ----------
    results : Results
        Of a comparison.
    models : bool
        Show the model that the verdict speaks for too: its hardest classes, its calibration, its worst examples.
    console : rich.console.Console, optional
        Where to; by default standard output.

    Raises
    ------
    RunError
        If the results lack what is shown.
    """
    check_sound(results)
    console = _console() if console is None else console
    sign, sentence = headline(results)
    _title(console, f"{sign} {sentence}")
    if paragraph(results):
        _say(console, paragraph(results))
    _figures(console, results)
    _scores(console, results)
    _costs(console, results)
    for finding in results.verdict.findings:
        _gains(console, results, finding)
    tasks = contents.task_gains(results)
    if tasks:
        rows = [[one["task"], *_gain_cells(results, one)] for one in tasks]
        _table(console, "Gain of each task, learnt with the others", ["task", "gain", "95 % interval"], rows)
    for detail in contents.details_of(results, None) if models else ():
        _model(console, results, detail)
    _left_out(console, results)


def show_headlines(everything: Sequence[Results], *, console: Console | None = None) -> None:
    """Print the outcome of each of several comparisons.

    Parameters
    ----------
    everything : sequence of Results
        Of comparisons.
    console : rich.console.Console, optional
        Where to; by default standard output.

    Raises
    ------
    RunError
        If one of the results lacks what is shown.
    """
    console = _console() if console is None else console
    rows = []
    for one in everything:
        check_sound(one)
        sign, sentence = headline(one)
        rows.append([title_of(one), f"{sign} {sentence}"])
    _table(console, None, ["", ""], rows, words=(0, 1))


def _console() -> Console:
    from rich.console import Console

    console = Console(markup=False, highlight=False, emoji=False)
    console.width = min(console.width, _WIDEST)
    return console


def _figures(console: Console, results: Results) -> None:
    rows = []
    for figure in results.verdict.figures:
        shown, words, interval = figure_words(figure)
        if not interval and figure["value"] is not None:
            interval = NO_INTERVAL
        rows.append([f"{shown} {words}", interval, figure.get("text", "")])
    if rows:
        _table(console, None, ["", "95 % interval", ""], rows, words=(0, 1, 2))


def _scores(console: Console, results: Results) -> None:
    budgets = contents.budgets(results)
    if not budgets:
        return
    decimals = 1 if len(budgets) <= 5 else 0
    rows = []
    for name in contents.technique_names(results):
        points = [contents.point(results, name, budget) for budget in budgets]
        if any(points):
            rows.append([contents.short_name(name), *(_score_cell(results, one, decimals) for one in points)])
    per_class = results.settings.get("budget_unit") == "per class"
    title = f"{results.score.get('title', 'score')} by the number of labels{' per class' if per_class else ''}"
    heads = ["all" if one is None else f"{one:,d}" for one in budgets]
    _table(console, f"{title[:1].upper()}{title[1:]}, with 95 % intervals", ["", *heads], rows)


def _score_cell(results: Results, point: Mapping[str, Any] | None, decimals: int) -> str:
    if point is None:
        return UNKNOWN
    estimate = point["score"]

    def written(value: float) -> str:
        shown = f"{100 * value:.{decimals}f}" if results.score.get("percent") else f"{value:.{decimals + 1}f}"
        return shown.replace("-", MINUS)

    shown = score(estimate["value"], results.score)
    low, high = estimate["low"], estimate["high"]
    return f"{shown}\n{written(low)}\N{EN DASH}{written(high)}" if known(low) and known(high) else shown


def _costs(console: Console, results: Results) -> None:
    costs = contents.all_costs(results)
    if not costs:
        return
    labels = [f"{cost['n_train']:,.0f}" for cost in costs.values()]
    columns = known_columns(TIME_AND_MEMORY, costs.values())
    rows = [
        [contents.short_name(name), number, *(one.written(one.read(cost)) for one in columns)]
        for (name, cost), number in zip(costs.items(), labels, strict=True)
    ]
    _table(console, "What it costs with the most labels", ["", "labels", *(one.heading for one in columns)], rows)
    columns = known_columns(SIZES, costs.values())
    rows = [
        [contents.short_name(name), *(one.written(one.read(cost)) for one in columns)] for name, cost in costs.items()
    ]
    if columns:
        _table(console, "How large it is, with as many labels", ["", *(one.heading for one in columns)], rows)


def _gains(console: Console, results: Results, finding: Mapping[str, Any]) -> None:
    labels = {one["budget"]: one for one in finding["labels"]}
    rows = []
    for one in finding["gains"]:
        equal = labels.get(one["budget"])
        worth, times = UNKNOWN, UNKNOWN
        if equal is not None:
            bound = equal.get("bound") or ""
            worth = {"at least": "> ", "at most": "≤ "}.get(bound, "") + f"{equal['equals']:,.0f}"
            times = {"at least": "> ", "at most": "≤ "}.get(bound, "") + factor(equal["factor"])
        shown = [budget_words(results, one["budget"]), f"{one['n_train']:,.0f}", *_gain_cells(results, one)]
        rows.append([*shown, worth, times])
    first, second = (contents.short_name(finding[side]) for side in ("with", "without"))
    header = ["labels", "examples", "gain", "95 % interval", f"{second} needs", "times"]
    _table(console, f"{first} against {second}", header, rows)
    if finding.get("text") and finding["text"] not in results.verdict.text:  # which stands above
        _say(console, finding["text"])


def _gain_cells(results: Results, one: Mapping[str, Any]) -> tuple[str, str]:
    interval = span(one["low"], one["high"], lambda value: gain(value, results.score, unit=False))
    return gain(one["value"], results.score), interval


def _model(console: Console, results: Results, detail: Mapping[str, Any]) -> None:
    name = contents.technique_title(results, detail["technique"])
    of = "" if contents.task_of(detail) is None else f": {contents.task_of(detail)}"
    _title(console, f"{name}, learnt from {counted(detail['n_train'], 'example')}{of}")
    classes = contents.hardest_first(detail)
    if classes:
        rows = [
            [
                shortened(one["class"], 40),
                str(one["examples"]),
                *(percent(one[p]) for p in ("precision", "recall", "f1")),
            ]
            for one in classes[:_CLASSES]
        ]
        title = "The hardest classes" if len(classes) > _CLASSES else "Classes, the hardest first"
        _table(console, title, ["class", "examples", "precision", "recall", "F1"], rows)
    mixed = contents.confusions(detail, _EXAMPLES)
    if mixed:
        rows = [[shortened(true, 30), shortened(taken, 30), str(count)] for true, taken, count in mixed]
        _table(console, "Most frequent confusions", ["true class", "taken for", "examples"], rows, words=(0, 1))
    if detail["calibration"]:
        rows = [
            [percent(one["confidence"]), percent(one["accuracy"]), str(one["examples"])]
            for one in detail["calibration"]
        ]
        _table(console, "Calibration", ["how sure", "how often right", "predictions"], rows, words=())
    for title, part in (
        (contents.wrong_title(detail), "wrong"),
        ("Least like the training data", "foreign"),
    ):
        rows = [
            [
                shortened(one.get("input") or f"row {one['row']}", 90),
                *([shortened(one["label"], 20)] if "label" in one else []),
                *(shortened(answer, 20) for answer in contents.answers(one)),
                percent(one["p"]),
            ]
            for one in detail[part][:_EXAMPLES]
        ]
        if rows:
            about = ["label"] if len(rows[0]) == 5 else []
            _table(console, title, ["example", *about, "is", "predicted", "sure"], rows)


def _left_out(console: Console, results: Results) -> None:
    unreadable = contents.unreadable(results)
    if unreadable:
        console.print()
        _say(console, f"{counted(len(unreadable), 'input')} could not be read, left out:")
        for one in unreadable[:_EXAMPLES]:
            # Not folded: a path that is broken over two lines could not be copied.
            line = f"  {clean(one['input'])}: {clean(one['reason'])}"
            console.print(line, soft_wrap=True, markup=False, highlight=False, emoji=False)
        if len(unreadable) > _EXAMPLES:
            _say(console, f"  and {len(unreadable) - _EXAMPLES:,d} more (results.json lists every one)")
    rows = [
        [contents.short_name(name), budget_words(results, budget), ", ".join(map(str, seeds)), f"{status}: {reason}"]
        for name, budget, status, reason, seeds in contents.not_measured(results)
    ]
    if rows:
        _table(console, "What was left out", ["", "labels", "seeds", "why"], rows, words=(0, 3))


def _title(console: Console, text: str) -> None:
    console.print()
    console.print(clean(text), style="bold", markup=False, highlight=False, emoji=False)


def _say(console: Console, text: str) -> None:
    console.print(clean(text), markup=False, highlight=False, emoji=False)


def _table(
    console: Console,
    title: str | None,
    header: Sequence[str],
    rows: Sequence[Sequence[str]],
    *,
    words: Sequence[int] = (0,),
) -> None:
    """Print a table; the columns in `words` are aligned to the left, the others hold figures."""
    from rich.box import SIMPLE_HEAD
    from rich.table import Table
    from rich.text import Text

    if title is not None:
        _title(console, title)
    drawn = Table(box=SIMPLE_HEAD, pad_edge=False, show_edge=False, collapse_padding=True, show_header=any(header))
    for place, column in enumerate(header):
        # A name is broken between its words, if at all.
        longest = max((len(word) for row in rows for word in clean(row[place]).split()), default=0)
        least = min(longest, _LONGEST_WORD) if place in words else None
        drawn.add_column(
            Text(clean(column)), justify="left" if place in words else "right", overflow="fold", min_width=least
        )
    for row in rows:
        drawn.add_row(*(Text(clean(one)) for one in row))
    console.print(drawn)
