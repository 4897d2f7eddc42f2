"""Colours of charts and pages: by name, for light and for dark, and told apart without seeing colour.

The hues of lines are those of Okabe and Ito (2008), Color Universal Design, made darker or lighter until each has a
contrast of at least 3 to 1 with its ground (WCAG 2.2, criterion 1.4.11); lines differ in their markers too, and
baselines are dashed.
"""

from __future__ import annotations

from typing import Any

from graft.evaluation.results import Results
from graft.reports.contents import is_baseline, technique_names

LINES = ("line0", "line1", "line2", "line3", "line4", "line5", "line6", "line7")
MARKERS = ("o", "s", "^", "D", "v", "P", "X", "p")
# Every name has a colour that no other one has: it is found again in the SVG by its digits.
LIGHT = {
    "ink": "#1b1f24",
    "muted": "#57606a",
    "rule": "#d5dae0",
    "surface": "#ffffff",
    "cell": "#0068b3",
    "on-cell": "#fefefe",
    "line0": "#0068b4",
    "line1": "#c84e00",
    "line2": "#00805b",
    "line3": "#a8478f",
    "line4": "#7a6800",
    "line5": "#4f5b67",
    "line6": "#1c86ae",
    "line7": "#8c2d2e",
}
DARK = {
    "ink": "#e7eaee",
    "muted": "#a3adb8",
    "rule": "#39424d",
    "surface": "#171b21",
    "cell": "#62b0f1",
    "on-cell": "#10151b",
    "line0": "#62b0f2",
    "line1": "#ff9a52",
    "line2": "#3fcfa0",
    "line3": "#e59ad0",
    "line4": "#d9c34a",
    "line5": "#aeb9c4",
    "line6": "#7fd6f2",
    "line7": "#f08a8a",
}


def technique_style(results: Results, name: str) -> dict[str, Any]:
    """Return the colour, marker and line style that stand for a technique in every chart."""
    turn, place = divmod(technique_names(results).index(name), len(LINES))
    dashed = is_baseline(results, name)
    return {
        "color": LIGHT[LINES[place]],
        # Where colours repeat, markers differ.
        "marker": MARKERS[(place + turn) % len(MARKERS)],
        "linestyle": "--" if dashed else "-",
    }


def style_sheet() -> str:
    """Return the colours as variables of CSS, dark ones for screens of people who prefer them."""
    light, dark = ("".join(f"--{name}:{value};" for name, value in colours.items()) for colours in (LIGHT, DARK))
    return (
        f":root{{color-scheme:light;{light}}}\n"
        f"@media screen and (prefers-color-scheme:dark){{:root{{color-scheme:dark;{dark}}}}}"
    )
