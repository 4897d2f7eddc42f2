"""Figures in words: examples in docstrings, limits, and what they never do."""

import doctest
import importlib

import pytest

from graft.reports import wording


@pytest.mark.parametrize("module", ["wording", "markup", "drawing", "page"])
def test_docstring_examples(module):
    found = doctest.testmod(importlib.import_module(f"graft.reports.{module}"))
    assert found.failed == 0
    assert found.attempted > 0


@pytest.mark.parametrize(
    "written",
    [
        wording.percent,
        wording.seconds,
        wording.memory,
        wording.quantity,
        wording.factor,
        lambda value: wording.gain(value, {"percent": True}),
        lambda value: wording.score(value, {"percent": False}),
        lambda value: wording.metric("rmse", value),
    ],
)
def test_what_is_not_known_is_a_dash(written):
    assert written(None) == written(float("nan")) == written(float("inf")) == wording.UNKNOWN


@pytest.mark.parametrize("value", [0.004, 0.09, 0.5, 0.94, 1, 1.04, 9.96, 10.4, 99.7, 123, 1e6])
def test_a_factor_keeps_two_digits(value):
    assert float(wording.factor(value).removesuffix("×").replace(",", "")) == pytest.approx(value, rel=0.051)


@pytest.mark.parametrize("name", ["labels", "time", "memory"])
@pytest.mark.parametrize("bound", [None, "at least", "at most"])
def test_a_figure_turned_round_says_the_same(name, bound):
    plain = {"name": name, "value": 4.0, "low": 2.0, "high": 5.0, "bound": bound}
    other = {"at least": "at most", "at most": "at least"}.get(bound)
    turned = {"name": name, "value": 0.25, "low": 0.2, "high": 0.5, "bound": other}
    (one, better, interval), (two, worse, same) = wording.figure_words(plain), wording.figure_words(turned)
    assert (one, interval) == (two, same)
    assert better != worse
    assert wording.figure_words({**plain, "value": 1.01})[1] == (
        better if bound else f"as {'many' if name == 'labels' else 'much'} {name}"
    )


def test_a_bound_on_labels_is_not_reached():
    """Scoring more than the other does with as many labels is worth more than one times the labels, not one or more."""
    figure = {"name": "labels", "value": 1.0, "low": 1.0, "high": None, "bound": "at least"}
    assert wording.figure_words(figure) == ("> 1.0×", "fewer labels", "from 1.0×")


@pytest.mark.parametrize(
    ("value", "shown"),
    [(999.4, "999 J"), (999.7, "1.0 kJ"), (999_400, "999 kJ"), (999_960, "1.0 MJ"), (0.25, "0.25 J")],
)
def test_a_quantity_is_written_with_the_prefix_that_it_rounds_to(value, shown):
    assert wording.quantity(value, "J") == shown


def test_an_open_interval_says_so():
    assert wording.span(2.0, None, wording.factor) == "from 2.0×"
    assert wording.span(None, 2.0, wording.factor) == wording.factor_span(0.0, 2.0) == "up to 2.0×"
    assert wording.span(None, None, wording.factor) == ""


def test_a_rounded_zero_has_no_sign():
    assert wording.gain(-0.0001, {"percent": True}) == wording.gain(0.0001, {"percent": True}) == "0.0 points"
    assert wording.score(-0.0001, {"percent": False}) == "0.000"


def test_text_is_freed_of_what_obeys():
    assert (
        wording.clean("a\x00b\x1b[0m\nc\ud800\u202e")
        == "a\N{REPLACEMENT CHARACTER}b\N{REPLACEMENT CHARACTER}[0m\nc" + 2 * "\N{REPLACEMENT CHARACTER}"
    )
    assert wording.shortened("two\nlines " * 9, 12) == "two lines t…"
