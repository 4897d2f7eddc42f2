"""How figures, labels and numbers of labels are written, the same in a page, in a terminal and on an axis."""

from __future__ import annotations

import math
import re
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from graft.evaluation.results import Results, factor_text

MINUS = "\N{MINUS SIGN}"
UNKNOWN = "\N{EN DASH}"
_TIMES = "\N{MULTIPLICATION SIGN}"
# Characters that no document may hold or that a terminal obeys: controls but tab and new line, halves of surrogate
# pairs, what is no character, and the marks that turn the direction of the text that follows.
_UNSAFE = re.compile("[\x00-\x08\x0b-\x1f\x7f-\x9f\ud800-\udfff\ufffe\uffff\u202a-\u202e\u2066-\u2069]")

METRICS = {
    "accuracy": "accuracy",
    "macro_f1": "macro-F1",
    "log_loss": "log loss",
    "ece": "calibration error",
    "rmse": "RMSE",
    "mae": "MAE",
    "r2": "R²",
}
_SHARES = {"accuracy", "macro_f1", "ece"}
# What a factor of each figure of the verdict counts: (better, worse, neither).
_FIGURES = {
    "labels": ("fewer labels", "more labels", "as many labels"),
    "time": ("less time", "more time", "as much time"),
    "memory": ("less memory", "more memory", "as much memory"),
}


def clean(value: Any) -> str:
    """Return text that can stand in a document and in a terminal: control characters become a replacement mark."""
    return _UNSAFE.sub("\N{REPLACEMENT CHARACTER}", label(value))


def label(value: Any) -> str:
    """Return a label as users write it: whole numbers without a point, lists with commas, nothing where there is none.

    Examples
    --------
    >>> label(True), label(3.0), label(0.12345678), label([1.0, 2.5]), label(None)
    ('true', '3', '0.1235', '1, 2.5', '')
    """
    if value is None:
        return ""
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, float):
        return str(int(value)) if value.is_integer() and abs(value) < 1e15 else f"{value:.4g}"
    if isinstance(value, list | tuple):
        return ", ".join(label(one) for one in value)
    return str(value)


def shortened(value: Any, length: int) -> str:
    """Return text of at most so many characters, on one line."""
    text = " ".join(clean(value).split())
    return text if len(text) <= length else f"{text[: length - 1]}…"


def known(value: Any) -> bool:
    """Return whether there is a number."""
    return value is not None and math.isfinite(value)


def percent(value: float | None, *, decimals: int = 1) -> str:
    """Return a share in percent.

    Examples
    --------
    >>> percent(0.8731)
    '87.3 %'
    """
    return f"{100 * value:.{decimals}f} %" if value is not None and known(value) else UNKNOWN


def score(value: float | None, of: Mapping[str, Any]) -> str:
    """Return a score, in percent where `of` (the results' ``score``) says so."""
    if value is None or not known(value):
        return UNKNOWN
    return percent(value) if of.get("percent") else _signless(f"{value:.3f}")


def metric(name: str, value: float | None) -> str:
    """Return a metric: shares in percent, others as numbers."""
    return score(value, {"percent": name in _SHARES})


def gain(value: float | None, of: Mapping[str, Any], *, unit: bool = True) -> str:
    """Return a difference of scores with its sign, in percentage points where the score is read in percent.

    Examples
    --------
    >>> gain(0.0312, {"percent": True}), gain(-0.2, {"percent": False})
    ('+3.1 points', '−0.200')
    """
    if value is None or not known(value):
        return UNKNOWN
    if of.get("percent"):
        return _signless(f"{100 * value:+.1f}") + (" points" if unit else "")
    return _signless(f"{value:+.3f}")


def span(low: float | None, high: float | None, written: Any) -> str:
    """Return an interval in the words of `written`, a function of one number; nothing where neither end is known."""
    if not known(low) and not known(high):
        return ""
    if not known(low):
        return f"up to {written(high)}"
    return f"{written(low)} to {written(high)}" if known(high) else f"from {written(low)}"


def factor(value: float | None) -> str:
    """Return how many times.

    Examples
    --------
    >>> factor(1.234), factor(15.9), factor(123456)
    ('1.2×', '16×', '120,000×')
    """
    if value is None or not known(value):
        return UNKNOWN
    if 0 < value < 0.095:
        return f"{value:.2g}{_TIMES}"
    return f"{factor_text(value)}{_TIMES}"


def figure_words(figure: Mapping[str, Any]) -> tuple[str, str, str]:
    """Return a figure of the verdict as it is read: the factor, what of, and its interval.

    A factor below one is turned round: a quarter as little time is four times as much.

    Examples
    --------
    >>> figure_words({"name": "time", "value": 0.25, "low": 0.2, "high": 0.5, "bound": None})
    ('4.0×', 'more time', '2.0× to 5.0×')
    """
    better, worse, neither = _FIGURES.get(figure["name"], ("less", "more", "as much"))
    value, low, high = (figure.get(part) for part in ("value", "low", "high"))
    bound = figure.get("bound")
    if value is None or not known(value):
        return UNKNOWN, str(figure.get("title") or better), ""
    if factor(value) == f"1.0{_TIMES}":
        words = better if bound else neither  # "at most 1.0 times fewer": none are saved
    elif value > 1 or value <= 0:
        words = better
    else:
        words = worse
        value = 1 / value
        low, high = (1 / high if high else None, 1 / low if low else None)
        bound = {"at least": "at most", "at most": "at least"}.get(bound or "")
    mark = {"at least": "> ", "at most": "≤ "}.get(bound or "", "")
    return f"{mark}{factor(value)}", words, factor_span(low, high)


def factor_span(low: float | None, high: float | None) -> str:
    """Return the interval of a factor; one that begins at zero has no lower end."""
    return span(low or None, high, factor)


def seconds(value: float | None) -> str:
    """Return a duration.

    Examples
    --------
    >>> seconds(0.0123), seconds(3.21), seconds(95), seconds(5400)
    ('0.01 s', '3.2 s', '95 s', '1.5 h')
    """
    if value is None or not known(value):
        return UNKNOWN
    if value < 1:
        return f"{value:.2f} s"
    if value < 120:
        return f"{value:.1f} s" if value < 10 else f"{value:.0f} s"
    return f"{value / 60:.1f} min" if value < 3600 else f"{value / 3600:.1f} h"


def memory(mib: float | None) -> str:
    """Return an amount of memory.

    Examples
    --------
    >>> memory(12.34), memory(800), memory(3000)
    ('12 MiB', '800 MiB', '2.9 GiB')
    """
    if mib is None or not known(mib):
        return UNKNOWN
    return f"{mib:.1f} MiB" if mib < 9.95 else f"{mib:.0f} MiB" if mib < 1000 else f"{mib / 1024:.1f} GiB"


def quantity(value: float | None, unit: str = "") -> str:
    """Return a large number with a prefix.

    Examples
    --------
    >>> quantity(4_652_008), quantity(3.9e8, "FLOP"), quantity(12)
    ('4.7 M', '390 MFLOP', '12')
    """
    if value is None or not known(value):
        return UNKNOWN
    size = abs(value)
    for power, prefix in ((1e15, "P"), (1e12, "T"), (1e9, "G"), (1e6, "M"), (1e3, "k")):
        if size >= 0.9995 * power:  # from where on three digits are of the next prefix
            shown = value / power
            return f"{shown:.1f} {prefix}{unit}" if abs(shown) < 9.95 else f"{shown:.0f} {prefix}{unit}"
    return f"{value:.3g} {unit}".strip()


@dataclass(frozen=True)
class CostColumn:
    """A column of a table of costs: its heading, its figure in one of `contents.costs`, how that is written."""

    heading: str
    read: Callable[[Mapping[str, Any]], float | None]
    written: Callable[[float | None], str]


# What grows with the labels, and what is of a size.
TIME_AND_MEMORY = (
    CostColumn("reading", lambda one: one["seconds"]["data"], seconds),
    CostColumn("features", lambda one: one["seconds"]["features"], seconds),
    CostColumn("training", lambda one: one["seconds"]["training"], seconds),
    CostColumn("in all", lambda one: one["seconds"]["total"], seconds),
    CostColumn("memory", lambda one: one["peak_memory_mib"], memory),
)
SIZES = (
    CostColumn("trained parameters", lambda one: one["trainable_parameters"], quantity),
    CostColumn("all parameters", lambda one: one["total_parameters"], quantity),
    CostColumn("operations for one", lambda one: one["flops_forward"], quantity),
    CostColumn("in the fit", lambda one: one["flops_training"], quantity),
    CostColumn("energy", lambda one: one["energy_joules"], lambda value: quantity(value, "J")),
)


def known_columns(columns: Sequence[CostColumn], costs: Iterable[Mapping[str, Any]]) -> list[CostColumn]:
    """Return the columns of which anything is known: energy, on most machines, is not."""
    rows = list(costs)
    return [one for one in columns if any(one.read(row) is not None for row in rows)]


def budget_words(results: Results, budget: int | None) -> str:
    """Return a number of labels as it was asked for: ``"10 per class"``, ``"50"`` or ``"all"``."""
    if budget is None:
        return "all"
    per_class = results.settings.get("budget_unit") == "per class"
    return f"{budget:,d} per class" if per_class else f"{budget:,d}"


def moment(created: str) -> str:
    """Return a time in UTC as people read it.

    Examples
    --------
    >>> moment("2025-03-01T12:00:30+00:00"), moment("2025-03-01T12:00:30Z")
    ('2025-03-01 12:00 UTC', '2025-03-01 12:00 UTC')
    """
    found = re.fullmatch(r"(\d{4}-\d\d-\d\d)T(\d\d:\d\d)[:.\d]*(Z|\+00:00)", created)
    return f"{found[1]} {found[2]} UTC" if found else created


def counted(count: float, noun: str, plural: str | None = None) -> str:
    """Return a count with its noun.

    Examples
    --------
    >>> counted(1, "class", "classes"), counted(1234, "example")
    ('1 class', '1,234 examples')
    """
    number = f"{count:,.0f}" if float(count).is_integer() else f"{count:,.1f}"
    return f"{number} {noun if count == 1 else plural or f'{noun}s'}"


def _signless(text: str) -> str:
    """Return a number with a minus sign of the width of a plus; a rounded zero has no sign."""
    if float(text) == 0:
        text = text.lstrip("+-")
    return text.replace("-", MINUS)
