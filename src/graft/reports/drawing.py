"""What all charts share: the style, axes without clutter, names beside lines that do not overlap."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any

import numpy as np
from matplotlib import style
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import FuncFormatter, MaxNLocator, NullLocator

from graft.reports.palette import LIGHT
from graft.reports.wording import MINUS, shortened

TEXT = 12  # points; a chart is 440 points wide, which is about what a telephone shows of it
WIDTH = 440.0
_POINT = 1 / 72
_STYLE: dict[str, Any] = {
    "font.size": TEXT,
    "axes.titlesize": TEXT,
    "axes.labelsize": TEXT,
    "axes.edgecolor": LIGHT["muted"],
    "axes.labelcolor": LIGHT["muted"],
    "axes.facecolor": "none",
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.spines.left": False,
    "axes.axisbelow": True,
    "figure.facecolor": LIGHT["surface"],
    "grid.color": LIGHT["rule"],
    "text.color": LIGHT["ink"],
    "xtick.color": LIGHT["muted"],
    "ytick.color": LIGHT["muted"],
    "ytick.major.size": 0,
    "lines.linewidth": 2,
    "lines.markersize": 6,
}


@contextmanager
def canvas(*, width: float = WIDTH, height: float = 300, columns: int = 1) -> Iterator[tuple[Figure, Any]]:
    """Yield a figure and its axes (an array of them where there are several columns), in the style of the reports.

    A figure of its own, not one of pyplot's: nothing is registered, shown or left open. Settings of the user's
    ``matplotlibrc`` neither change it nor are changed.
    """
    with style.context(["default", _STYLE]):
        figure = Figure(figsize=(width * _POINT, height * _POINT), layout="constrained")
        yield figure, figure.subplots(1, columns)


def title_above(axes: Axes, text: str) -> None:
    """Write what the vertical axis counts above it, where it is read without turning the head."""
    axes.set_title(shortened(text, 50), loc="left", color=LIGHT["muted"], parse_math=False)


def score_axis(axes: Axes, *, percent: bool, signed: bool = False, horizontal: bool = False) -> None:
    """Let an axis count scores (or their differences)."""

    def written(value: float, _place: int) -> str:
        shown = f"{100 * value:{'+' if signed else ''}.3g}" if percent else f"{value:{'+' if signed else ''}.3g}"
        shown = "0" if float(shown) == 0 else shown
        return shown.replace("-", MINUS) + (" %" if percent and not signed else "")

    axis = axes.xaxis if horizontal else axes.yaxis
    axis.set_major_locator(MaxNLocator(5, steps=[1, 2, 2.5, 5, 10]))
    axis.set_major_formatter(FuncFormatter(written))
    axes.grid(axis="x" if horizontal else "y")


def log_ticks(axes: Axes, places: Sequence[float], words: Sequence[str], values: Sequence[float]) -> None:
    """Let the horizontal axis be logarithmic around `values`, with words at places, dropped where they would touch."""
    low, high = float(min(values)), float(max(values))
    margin = 10 ** (0.04 * np.log10(high / low)) if high > low else 1.5
    axes.set_xscale("log")
    axes.set_xlim(low / margin, high * margin)
    room = np.log(high * margin**2 / low)
    shown: list[tuple[float, str]] = []
    for place, word in sorted(zip(places, words, strict=True), reverse=True):
        # About 36 characters of this size fit below the axis; a word needs its own half and its neighbour's.
        if not shown or np.log(shown[-1][0] / place) / room > (len(word) + len(shown[-1][1]) + 2) / 2 / 36:
            shown.append((place, word))
    axes.xaxis.set_minor_locator(NullLocator())
    axes.set_xticks([place for place, _ in shown], [word for _, word in shown], parse_math=False)


def names_beside(axes: Axes, ends: Sequence[tuple[float, float, str, str]]) -> None:
    """Write names at the right of lines, apart from each other, each with a thin line to the end that it names.

    Parameters
    ----------
    axes : Axes
        Whose limits are final.
    ends : sequence of (x, y, name, colour)
        Where each line ends, in data.
    """
    if not ends:
        return
    to_axes = axes.transScale + axes.transLimits
    ends = sorted(ends, key=lambda one: one[1])
    starts = [to_axes.transform((x, y)) for x, y, _, _ in ends]
    # Names are a line high; the axes are about 230 points high.
    heights = spread([start[1] for start in starts], gap=0.075)
    for start, height, (_, _, name, colour) in zip(starts, heights, ends, strict=True):
        axes.plot(
            [start[0], 1.03],
            [start[1], height],
            transform=axes.transAxes,
            color=colour,
            linewidth=0.8,
            alpha=0.6,
            clip_on=False,
            label="_leader",
        )
        axes.text(
            1.045,
            height,
            shortened(name, 20),
            transform=axes.transAxes,
            color=colour,
            va="center",
            parse_math=False,
        )


def spread(places: Sequence[float], *, gap: float, low: float = 0.0, high: float = 1.0) -> list[float]:
    r"""Return ascending places moved apart as little as possible.

    The least squares problem :math:`\min \sum_i (q_i - p_i)^2` with :math:`q_{i+1} \ge q_i + g` is isotonic regression
    of :math:`p_i - i g`, which pooling adjacent violators solves; the result is then moved into [low, high] as a whole
    where it fits.

    Examples
    --------
    >>> [round(place, 2) for place in spread([0.5, 0.5, 0.9], gap=0.1)]
    [0.45, 0.55, 0.9]
    """
    pools: list[tuple[float, int]] = []
    for number, place in enumerate(places):
        pools.append((place - number * gap, 1))
        while len(pools) > 1 and pools[-2][0] > pools[-1][0]:
            (first, n), (second, m) = pools[-2:]
            pools[-2:] = [((n * first + m * second) / (n + m), n + m)]
    level = [value for value, count in pools for _ in range(count)]
    moved = [value + number * gap for number, value in enumerate(level)]
    if not moved:
        return moved
    shift = max(0.0, low - moved[0]) - max(0.0, moved[-1] - high)
    return [place + shift for place in moved]
