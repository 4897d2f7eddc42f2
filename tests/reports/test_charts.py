"""Charts hold the figures of the results, and are None where there is nothing to draw."""

import dataclasses
import importlib

import numpy as np
import pytest
from matplotlib.figure import Figure

from graft import reports
from graft.reports import contents
from graft.reports.charts import class_shifts
from graft.reports.drawing import spread
from graft.reports.palette import technique_style

ALL = (
    "learning_curves",
    "score_against_seconds",
    "gains",
    "task_gains",
    "calibration",
    "confusion_matrix",
    "predictions",
    "domains",
)


def lines(figure, panel=0):
    """Return the data of each line of a chart, by its label; helpers have labels that begin with an underscore."""
    found = {}
    for line in figure.axes[panel].get_lines():
        if not line.get_label().startswith("_"):
            found.setdefault(line.get_label(), np.asarray(line.get_xydata()))
    return found


def texts(figure, panel=0):
    return [text.get_text() for text in figure.axes[panel].texts]


@pytest.mark.parametrize("name", ALL)
def test_every_chart_is_a_figure_of_its_own_or_none(name, results):
    chart = getattr(reports, name)
    first, second = chart(results), chart(results)
    assert first is None or (isinstance(first, Figure) and first is not second)
    assert getattr(importlib.import_module("graft.reports.charts"), name).__doc__


@pytest.mark.parametrize(("name", "across"), [("learning_curves", "n_train"), ("score_against_seconds", "seconds")])
def test_curves_run_through_the_measured_points(name, across, results):
    figure = getattr(reports, name)(results)
    if figure is None:
        assert not results.summary
        return
    drawn = lines(figure)
    assert list(drawn) == [one for one in contents.technique_names(results) if contents.curve(results, one)]
    for technique, points in drawn.items():
        expected = [(one[across], one["score"]["value"]) for one in contents.curve(results, technique)]
        np.testing.assert_allclose(points, expected)
        assert technique.replace("-", " ") in texts(figure)
    axes = figure.axes[0]
    assert axes.get_xscale() == "log"
    low, high = axes.get_ylim()
    assert all(low <= one["score"]["value"] <= high for one in results.summary)


def test_bands_are_the_intervals(made):
    results = made["images"]
    axes = reports.learning_curves(results).axes[0]
    points = contents.curve(results, "raw-input")
    corners = {tuple(np.round(corner, 9)) for corner in axes.collections[0].get_paths()[0].vertices}
    for point in points:
        for end in ("low", "high"):
            assert (round(point["n_train"], 9), round(point["score"][end], 9)) in corners


def test_an_interval_that_is_not_known_leaves_no_band(made):
    results = made["images"]
    unknown = tuple(
        {**one, "score": {"value": one["score"]["value"], "low": None, "high": None}} for one in results.summary
    )
    figure = reports.learning_curves(dataclasses.replace(results, summary=unknown))
    assert list(lines(figure)) == list(lines(reports.learning_curves(results)))


def test_gains_are_the_paired_differences(made):
    for name in ("images", "domains", "tasks", "numbers"):
        finding = made[name].verdict.findings[0]
        figure = reports.gains(made[name], question=finding["question"])
        drawn = lines(figure)["gain"]
        np.testing.assert_allclose(drawn[:, 0], [one["value"] for one in finding["gains"]])
        whiskers = [line.get_xdata() for line in figure.axes[0].get_lines() if line.get_label() == "_interval"]
        np.testing.assert_allclose(whiskers, [[one["low"], one["high"]] for one in finding["gains"]])
    assert reports.gains(made["images"], question="sharing") is None


def test_gains_of_tasks_name_the_tasks(made):
    figure = reports.task_gains(made["tasks"])
    rows = made["tasks"].verdict.findings[0]["tasks"]
    np.testing.assert_allclose(lines(figure)["gain"][:, 0], [one["value"] for one in rows])
    assert [label.get_text() for label in figure.axes[0].get_yticklabels()] == [one["task"] for one in rows]


def test_calibration_is_of_the_technique_asked_for(made):
    results = made["images"]
    for technique in (None, "from-scratch"):
        detail = contents.detail_of(results, technique)
        drawn = lines(reports.calibration(results, technique=technique))[detail["technique"]]
        np.testing.assert_allclose(drawn, [[one["confidence"], one["accuracy"]] for one in detail["calibration"]])
    assert contents.detail_of(results, None)["technique"] == results.verdict.findings[0]["with"]


def test_the_confusion_matrix_writes_every_count(made):
    results = made["images"]
    detail = contents.detail_of(results, "raw-input")
    figure = reports.confusion_matrix(results, technique="raw-input")
    matrix = np.array(detail["confusion"])
    rows, columns = np.nonzero(matrix)
    written = {(round(text.get_position()[1]), round(text.get_position()[0])): text for text in figure.axes[0].texts}
    assert {place: text.get_text() for place, text in written.items()} == {
        (row, column): str(matrix[row, column]) for row, column in zip(rows, columns, strict=True)
    }
    assert [label.get_text() for label in figure.axes[0].get_yticklabels()] == detail["classes"]


def test_many_classes_are_drawn_without_names(made):
    figure = reports.confusion_matrix(made["many classes"])
    assert not texts(figure)
    cells = figure.axes[0].collections[0].get_paths()
    assert len(cells) == np.count_nonzero(contents.detail_of(made["many classes"], None)["confusion"])


def test_predictions_are_pairs(made):
    detail = contents.detail_of(made["numbers"], None)
    drawn = lines(reports.predictions(made["numbers"]))[detail["technique"]]
    np.testing.assert_allclose(drawn.T, [detail["predicted"]["true"], detail["predicted"]["predicted"]])


def test_both_domains_are_shown_before_and_after(made):
    view = contents.detail_of(made["domains"], "domain-adaptation")["coordinates"]
    figure = reports.domains(made["domains"])
    for panel, when in enumerate(("before", "after")):
        drawn = lines(figure, panel)
        for side in ("source", "target"):
            np.testing.assert_allclose(drawn[side], view[when][side])
    before, after = (
        np.mean([np.linalg.norm(here - there) for _, here, there in class_shifts(view[when])]) for when in view
    )
    assert after < before


def test_shifts_are_between_means_of_the_same_class():
    view = {
        "source": [[0, 0], [2, 0], [5, 5]],
        "target": [[1, 1], [3, 3], [9, 9]],
        "source_labels": ["a", "a", "b"],
        "target_labels": ["a", None, "c"],
    }
    ((name, here, there),) = class_shifts(view)
    assert (name, here.tolist(), there.tolist()) == ("a", [1, 0], [1, 1])
    assert class_shifts({"source": [[0, 0]], "target": [[1, 1]]}) == []


def test_names_with_dollars_are_no_formulas(made):
    results = made["images"]
    named = tuple({**one, "classes": ["$a^2", "b$", "$c$", "\\frac"]} for one in results.details)
    figure = reports.confusion_matrix(dataclasses.replace(results, details=named))
    figure.canvas.draw()
    assert [label.get_text() for label in figure.axes[0].get_yticklabels()] == ["$a^2", "b$", "$c$", "\\frac"]


def test_many_techniques_are_told_apart(made):
    plain = [{"name": f"domain-adaptation:method{place}", "sides": ["adapted"]} for place in range(40)]
    results = dataclasses.replace(made["images"], techniques=tuple(plain), cells=(), summary=())
    looks = {tuple(technique_style(results, one["name"]).values()) for one in plain}
    assert len(looks) == 40


def test_lines_differ_without_colour(made):
    results = made["images"]
    looks = [technique_style(results, name) for name in contents.technique_names(results)]
    assert len({look["marker"] for look in looks}) == len(looks)
    assert {
        name for name, look in zip(contents.technique_names(results), looks, strict=True) if look["linestyle"] == "--"
    } == {
        "raw-input",
        "from-scratch",
    }


@pytest.mark.parametrize("seed", range(20))
def test_names_are_moved_apart_as_little_as_possible(seed):
    from scipy.optimize import minimize

    draw = np.random.default_rng(seed)
    places = np.sort(draw.random(draw.integers(1, 8))) * 0.5 + 0.25
    moved = np.array(spread(list(places), gap=0.06, low=-5, high=5))
    assert np.all(np.diff(moved) >= 0.06 - 1e-12)
    gaps = {"type": "ineq", "fun": lambda found: np.diff(found) - 0.06}
    best = minimize(lambda found: ((found - places) ** 2).sum(), moved, constraints=[gaps] if len(places) > 1 else [])
    assert ((moved - places) ** 2).sum() <= best.fun + 1e-6
    inside = spread(list(places + 0.5), gap=0.06)
    assert max(inside) <= 1.0 or len(places) * 0.06 > 1
