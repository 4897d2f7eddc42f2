"""Charts of results, as matplotlib figures.

Each function makes a `matplotlib.figure.Figure` of its own from `Results` alone; pyplot is not used. A notebook shows
the figure; ``figure.savefig("curves.pdf")`` writes it. Where there is nothing to draw it is None.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D

from graft.evaluation.results import Results
from graft.reports import contents
from graft.reports.drawing import canvas, log_ticks, names_beside, score_axis, title_above
from graft.reports.palette import LIGHT, LINES, technique_style
from graft.reports.wording import budget_words, known, shortened

_SECONDS = (0.001, 0.003, 0.01, 0.03, 0.1, 0.3, 1, 3, 10, 30, 60, 180, 600, 1800, 3600, 10800, 36000, 86400, 360000)
_NUMBERED_CLASSES, _NAMED_CLASSES, _NAMED_MEANS = 14, 40, 8
_UPRIGHT = 2  # characters of class names that stand beside each other
_WHITE_TEXT_FROM = 0.55  # share of a row at which a cell of the confusion matrix is too dark for dark text


def learning_curves(results: Results) -> Figure | None:
    """Return the score of each technique against the number of labelled examples, with 95 % bands.

    Parameters
    ----------
    results : Results
        Of a comparison.

    Returns
    -------
    Figure or None
        None where nothing was measured.
    """
    curves = {name: contents.curve(results, name) for name in contents.technique_names(results)}
    curves = {name: points for name, points in curves.items() if points}
    if not curves:
        return None
    ticks = {
        point["budget"]: point["n_train"] for points in curves.values() for point in points if point["n_train"] > 0
    }
    words = ["all" if budget is None else f"{budget:,d}" for budget in ticks]
    with canvas() as (figure, axes):
        for name, points in curves.items():
            _line_with_band(axes, points, [point["n_train"] for point in points], technique_style(results, name), name)
        log_ticks(axes, list(ticks.values()), words, [p["n_train"] for points in curves.values() for p in points])
        axes.set_xlabel(
            "labelled examples per class"
            if results.settings.get("budget_unit") == "per class"
            else "labelled examples to learn from"
        )
        _finish_scores(axes, results)
        names_beside(axes, [_end(results, name, points, "n_train") for name, points in curves.items()])
    return figure


def score_against_seconds(results: Results) -> Figure | None:
    """Return the score of each technique against what it took: a point for each number of labels.

    Parameters
    ----------
    results : Results
        Of a comparison.

    Returns
    -------
    Figure or None
        None where no time was measured.
    """
    curves = {
        name: [point for point in contents.curve(results, name) if known(point["seconds"]) and point["seconds"] > 0]
        for name in contents.technique_names(results)
    }
    curves = {name: points for name, points in curves.items() if points}
    if not curves:
        return None
    spent = [point["seconds"] for points in curves.values() for point in points]
    places = [place for place in _SECONDS if min(spent) <= place <= max(spent)] or [float(np.median(spent))]
    with canvas() as (figure, axes):
        for name, points in curves.items():
            axes.plot(
                [point["seconds"] for point in points],
                [point["score"]["value"] for point in points],
                **technique_style(results, name),
                label=name,
            )
        log_ticks(axes, places, [_duration(place) for place in places], spent)
        axes.set_xlabel("time to data, features and model")
        _finish_scores(axes, results)
        names_beside(axes, [_end(results, name, points, "seconds") for name, points in curves.items()])
    return figure


def gains(results: Results, *, question: str | None = None) -> Figure | None:
    """Return what one side gains over the other at each number of labels, with paired 95 % intervals.

    Parameters
    ----------
    results : Results
        Of a comparison.
    question : str, optional
        ``"transfer"``, ``"adaptation"`` or ``"sharing"``; by default the one that the verdict's figures are of.

    Returns
    -------
    Figure or None
        None where the question was not asked.
    """
    found = [one for one in results.verdict.findings if question in (None, one["question"]) and one["gains"]]
    if not found:
        return None
    points = [one for one in found[0]["gains"] if known(one["value"])]
    if not points:
        return None
    rows = [(_budget_row(results, one), one) for one in points]
    return _whiskers(results, rows, technique_style(results, found[0]["with"])["color"])


def task_gains(results: Results) -> Figure | None:
    """Return what each task gains from being learnt together with the others, with 95 % intervals.

    Parameters
    ----------
    results : Results
        Of a comparison of several tasks.

    Returns
    -------
    Figure or None
        None where there are not several tasks.
    """
    rows = [(shortened(one["task"], 20), one) for one in contents.task_gains(results) if known(one["value"])]
    return _whiskers(results, rows, LIGHT[LINES[0]]) if rows else None


def calibration(results: Results, *, technique: str | None = None, task: str | None = None) -> Figure | None:
    """Return how often predictions are right against how sure they are; on the diagonal they are neither too sure nor
    too doubtful. The larger a point, the more predictions.

    Parameters
    ----------
    results : Results
        Of a comparison.
    technique : str, optional
        Whose; by default of the technique that the verdict speaks for.
    task : str, optional
        Of several tasks, which; by default the first.

    Returns
    -------
    Figure or None
        None for numbers, which have no probabilities.
    """
    detail = contents.detail_of(results, technique, task)
    if detail is None or not detail["calibration"]:
        return None
    bins = detail["calibration"]
    shares = np.array([one["examples"] for one in bins], np.float64)
    with canvas(width=340, height=320) as (figure, axes):
        axes.plot([0, 1], [0, 1], color=LIGHT["muted"], linewidth=1, linestyle=":", label="_diagonal")
        sure, right = ([one[part] for one in bins] for part in ("confidence", "accuracy"))
        axes.plot(sure, right, color=LIGHT[LINES[0]], linewidth=1.5, alpha=0.35, label=detail["technique"])
        axes.scatter(sure, right, s=6 + 240 * shares / shares.sum(), color=LIGHT[LINES[0]], zorder=3, clip_on=False)
        axes.set_xlim(0, 1)
        axes.set_ylim(0, 1)
        score_axis(axes, percent=True)
        score_axis(axes, percent=True, horizontal=True)
        axes.set_xlabel("how sure the model is")
        title_above(axes, "how often it is right")
        axes.set_aspect("equal")
    return figure


def confusion_matrix(results: Results, *, technique: str | None = None, task: str | None = None) -> Figure | None:
    """Return how many examples of each class (row) were taken for each class (column); dark: a large share of the row.

    Parameters
    ----------
    results : Results
        Of a comparison.
    technique : str, optional
        Whose; by default of the technique that the verdict speaks for.
    task : str, optional
        Of several tasks, which; by default the first.

    Returns
    -------
    Figure or None
        None where there are no classes.
    """
    from matplotlib.collections import PatchCollection
    from matplotlib.patches import Rectangle
    from matplotlib.ticker import NullLocator

    detail = contents.detail_of(results, technique, task)
    if detail is None or not detail["confusion"]:
        return None
    matrix = np.array(detail["confusion"], np.float64)
    count = len(matrix)
    share = matrix / np.maximum(matrix.sum(axis=1, keepdims=True), 1)
    names = [shortened(name, 16) for name in detail["classes"]]
    side = 170 + 26 * min(count, 9) + 3 * max(0, min(count - 9, 20))
    with canvas(width=side, height=side) as (figure, axes):
        filled = list(zip(*np.nonzero(matrix), strict=True))
        cells = [Rectangle((column - 0.48, row - 0.48), 0.96, 0.96) for row, column in filled]
        colours = [(LIGHT["cell"], 0.08 + 0.92 * share[row, column]) for row, column in filled]
        axes.add_collection(PatchCollection(cells, facecolors=colours, edgecolors="none"))
        if count <= _NUMBERED_CLASSES:
            for row, column in filled:
                dark = share[row, column] >= _WHITE_TEXT_FROM
                axes.text(
                    column,
                    row,
                    f"{matrix[row, column]:.0f}",
                    ha="center",
                    va="center",
                    fontsize=12 if count <= 10 else 10,
                    color=LIGHT["on-cell"] if dark else LIGHT["ink"],
                )
        axes.set_xlim(-0.5, count - 0.5)
        axes.set_ylim(count - 0.5, -0.5)
        axes.set_aspect("equal")
        if count <= _NAMED_CLASSES:
            size = 12 if count <= 12 else 10 if count <= 22 else 7
            if max(map(len, names)) <= _UPRIGHT:
                axes.set_xticks(range(count), names, fontsize=size, parse_math=False)
            else:
                turned = {"rotation": 45, "ha": "right", "rotation_mode": "anchor"}
                axes.set_xticks(range(count), names, fontsize=size, parse_math=False, **turned)
            axes.set_yticks(range(count), names, fontsize=size, parse_math=False)
        else:
            axes.xaxis.set_major_locator(NullLocator())
            axes.yaxis.set_major_locator(NullLocator())
        axes.tick_params(length=0)
        axes.set_xlabel("predicted")
        title_above(axes, "true class")
        axes.spines["bottom"].set_visible(False)
    return figure


def predictions(results: Results, *, technique: str | None = None, task: str | None = None) -> Figure | None:
    """Return predicted numbers against true ones; on the diagonal they agree.

    Parameters
    ----------
    results : Results
        Of a comparison of regressions.
    technique : str, optional
        Whose; by default of the technique that the verdict speaks for.
    task : str, optional
        Of several tasks, which; by default the first.

    Returns
    -------
    Figure or None
        None where classes are predicted.
    """
    detail = contents.detail_of(results, technique, task)
    if detail is None or not detail["predicted"] or not detail["predicted"]["true"]:
        return None
    true, guessed = (np.array(detail["predicted"][part], np.float64) for part in ("true", "predicted"))
    true, guessed = true.reshape(len(true), -1), guessed.reshape(len(guessed), -1)
    low, high = min(true.min(), guessed.min()), max(true.max(), guessed.max())
    margin = 0.04 * (high - low) or 1.0
    with canvas(width=340, height=320) as (figure, axes):
        axes.plot([low, high], [low, high], color=LIGHT["muted"], linewidth=1, linestyle=":", label="_diagonal")
        for output in range(true.shape[1]):
            axes.plot(
                true[:, output],
                guessed[:, output],
                linestyle="none",
                marker=".",
                color=LIGHT[LINES[output % len(LINES)]],
                alpha=0.6,
                label=detail["technique"],
            )
        for limits in (axes.set_xlim, axes.set_ylim):
            limits(low - margin, high + margin)
        axes.set_xlabel("true value")
        title_above(axes, "predicted value")
        axes.grid()
        axes.set_aspect("equal")
    return figure


def domains(results: Results, *, technique: str | None = None) -> Figure | None:
    """Return source and target in the plane of their principal components, before and after adaptation.

    A line runs from where a class lies in the source to where it lies in the target (the means of their points): the
    shorter it is, the better the classes of both domains lie on each other.

    Parameters
    ----------
    results : Results
        Of a comparison with a target.
    technique : str, optional
        Whose; by default the first one that has such a view.

    Returns
    -------
    Figure or None
        None without a target.
    """
    if technique is None:
        technique = next((one["technique"] for one in contents.details_in_order(results) if one["coordinates"]), None)
    detail = None if technique is None else contents.detail_of(results, technique)
    if detail is None or not detail["coordinates"]:
        return None
    colours, markers = {"source": LIGHT[LINES[0]], "target": LIGHT[LINES[1]]}, {"source": "o", "target": "^"}
    with canvas(height=258, columns=2) as (figure, both):
        for axes, when in zip(both, ("before", "after"), strict=True):
            view = detail["coordinates"][when]
            for side, marker in markers.items():
                points = np.array(view[side], np.float64).reshape(-1, 2)
                axes.plot(
                    *points.T,
                    linestyle="none",
                    marker=marker,
                    markersize=3.5,
                    markeredgewidth=0,
                    alpha=0.5,
                    color=colours[side],
                    label=side,
                )
            shifts = class_shifts(view)
            for name, here, there in shifts:
                axes.plot(*np.array([here, there]).T, color=LIGHT["ink"], linewidth=1.2, label=f"_{name}")
                axes.plot(*here, "o", color=colours["source"], markeredgecolor=LIGHT["ink"], label="_mean")
                axes.plot(*there, "^", color=colours["target"], markeredgecolor=LIGHT["ink"], label="_mean")
                if len(shifts) <= _NAMED_MEANS:
                    axes.annotate(
                        shortened(name, 14),
                        here,
                        xytext=(6, 4),
                        textcoords="offset points",
                        fontsize=11,
                        annotation_clip=False,
                        parse_math=False,
                    )
            title_above(axes, when)
            axes.set_xticks([])
            axes.set_yticks([])
            for spine in axes.spines.values():
                spine.set_visible(True)
                spine.set_color(LIGHT["rule"])
        keys = [
            Line2D([], [], linestyle="none", marker=marker, markersize=7, color=colours[side], label=side)
            for side, marker in markers.items()
        ]
        figure.legend(handles=keys, loc="outside lower center", ncols=2, frameon=False)
    return figure


def class_shifts(view: Mapping[str, Any]) -> list[tuple[Any, np.ndarray, np.ndarray]]:
    """Return the mean place of each class in the source and in the target, of a view of both; known labels only."""
    means: list[dict[Any, np.ndarray]] = []
    for side in ("source", "target"):
        points = np.array(view[side], np.float64).reshape(-1, 2)
        labels = view.get(f"{side}_labels") or []
        there = dict.fromkeys(name for name in labels if isinstance(name, str | int | bool))
        means.append({name: points[[one == name for one in labels]].mean(axis=0) for name in there})
    return [(name, means[0][name], means[1][name]) for name in means[0] if name in means[1]]


def _line_with_band(
    axes: Axes, points: Sequence[Mapping[str, Any]], places: Sequence[float], look: dict[str, Any], name: str
) -> None:
    values, low, high = (
        np.array([np.nan if point["score"][part] is None else point["score"][part] for point in points], np.float64)
        for part in ("value", "low", "high")
    )
    axes.plot(places, values, **look, label=name)
    if len(points) > 1:
        axes.fill_between(places, low, high, color=look["color"], alpha=0.13, linewidth=0)
    else:
        axes.vlines(places, low, high, color=look["color"], linewidth=1.5, alpha=0.6)


def _finish_scores(axes: Axes, results: Results) -> None:
    score_axis(axes, percent=bool(results.score.get("percent")))
    title_above(axes, f"{shortened(results.score.get('title', 'score'), 30)}, test examples")
    low, high = axes.get_ylim()
    if results.score.get("percent"):
        low, high = max(low, 0), min(high, 1.005)
    axes.set_ylim(low, high)


def _end(
    results: Results, name: str, points: Sequence[Mapping[str, Any]], across: str
) -> tuple[float, float, str, str]:
    last = points[-1]
    return last[across], last["score"]["value"], contents.short_name(name), technique_style(results, name)["color"]


def _whiskers(results: Results, rows: Sequence[tuple[str, Mapping[str, Any]]], colour: str) -> Figure:
    """Return differences of scores as points with their intervals, a row for each, around a line at zero."""
    percent = bool(results.score.get("percent"))
    with canvas(height=90 + 30 * len(rows)) as (figure, axes):
        axes.axvline(0, color=LIGHT["muted"], linewidth=1)
        for place, (_, one) in enumerate(rows):
            if known(one["low"]) and known(one["high"]):
                axes.plot([one["low"], one["high"]], [place, place], color=colour, linewidth=2, label="_interval")
        axes.plot(
            [one["value"] for _, one in rows],
            range(len(rows)),
            linestyle="none",
            marker="o",
            markersize=8,
            color=colour,
            label="gain",
        )
        axes.set_ylim(len(rows) - 0.5, -0.5)
        axes.set_yticks(range(len(rows)), [word for word, _ in rows], parse_math=False)
        score_axis(axes, percent=percent, signed=True, horizontal=True)
        low, high = axes.get_xlim()
        axes.set_xlim(min(low, 0), max(high, 0))
        of = shortened(results.score.get("title", "score"), 30)
        axes.set_xlabel(f"gain in {of}, percentage points" if percent else f"gain in {of}", parse_math=False)
    return figure


def _budget_row(results: Results, one: Mapping[str, Any]) -> str:
    words = budget_words(results, one["budget"])
    return f"{words} ({one['n_train']:,.0f})" if one["budget"] is None else words


def _duration(place: float) -> str:
    if place < 60:
        return f"{place:g} s"
    return f"{place / 60:g} min" if place < 3600 else f"{place / 3600:g} h"
