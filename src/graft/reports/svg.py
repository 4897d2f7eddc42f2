"""A matplotlib figure as SVG that stands inside a page: its colours are the page's, its text is text."""

from __future__ import annotations

import hashlib
import io
import re
import warnings
from typing import TYPE_CHECKING
from xml.etree import ElementTree

from graft.reports.markup import Markup
from graft.reports.palette import LIGHT
from graft.reports.wording import clean

if TYPE_CHECKING:
    from matplotlib.figure import Figure

_VARIABLE = {value: f"var(--{name})" for name, value in LIGHT.items()}
_LONG_NUMBER = re.compile(r"-?\d+\.\d{3,}")
_REFERENCE = re.compile(r"url\(#([^)]+)\)")
_FONT_FAMILY = re.compile(r"font-family:[^;]*;?\s*")
_TURNED_BY_ZERO = re.compile(r"rotate\(-?0(\.0*)? [^)]*\)")
_LARGEST = 1.15  # pixels of the page for a point of the figure
_POSITIONS = ("d", "x", "y", "width", "height", "transform", "viewBox")


def inline_svg(figure: Figure, *, name: str, description: str) -> Markup:
    """Return a figure as an ``<svg>`` element.

    Colours of the palette become variables (``var(--ink)``), so that the chart follows the page into the dark; the
    font is the page's; ids begin with `name` and a digest of the chart, so that those of several charts do not clash;
    there is no date and no random id in it: the same figure gives the same text.

    Parameters
    ----------
    figure : matplotlib.figure.Figure
        Drawn with the colours of the palette.
    name : str
        Of the chart.
    description : str
        What is to be seen, for those who do not see it.
    """
    drawn = _drawn(figure)
    root, name = ElementTree.fromstring(drawn), f"{name}-{hashlib.sha256(drawn).hexdigest()[:8]}"
    referenced: set[str] = set()
    for node in root.iter():
        node.tag = _local(node.tag)
        for key in list(node.attrib):
            node.attrib[_local(key)] = node.attrib.pop(key)
        if node.get("href"):
            referenced.add(node.attrib["href"].removeprefix("#"))
        referenced.update(_REFERENCE.findall(node.get("clip-path", "")))
    for node in root.iter():
        _mend(node, name, referenced)
    for child in list(root):
        # What matplotlib says of itself, and a style element whose selector would reach the whole page.
        if child.tag == "metadata" or (child.tag == "defs" and child.find("style") is not None):
            root.remove(child)
    viewed = root.attrib["viewBox"]
    root.attrib.clear()
    # Its text is to have the size of the page's, whatever room there is.
    widest = f"max-width:{float(viewed.split()[2]) * _LARGEST:.0f}px"
    root.attrib.update(
        {"class": "chart", "style": widest, "viewBox": viewed, "role": "img", "aria-label": clean(description)}
    )
    return Markup(ElementTree.tostring(root, encoding="unicode"))


def _drawn(figure: Figure) -> bytes:
    import matplotlib as mpl
    from matplotlib.backends.backend_svg import FigureCanvasSVG

    held = io.BytesIO()
    before = figure.canvas
    try:
        # Both settings are read while it is drawn, and put back afterwards; matplotlib measures text in its own font,
        # which lacks many scripts; the reader's browser has them.
        with mpl.rc_context({"svg.fonttype": "none", "svg.hashsalt": "graft"}), warnings.catch_warnings():
            warnings.filterwarnings("ignore", message="Glyph .* missing from font")
            FigureCanvasSVG(figure).print_svg(held, metadata={"Date": None})
    finally:
        figure.set_canvas(before)
    return held.getvalue()


def _mend(node: ElementTree.Element, name: str, referenced: set[str]) -> None:
    node.tail = None
    if node.tag != "text":
        node.text = None
    known = node.attrib.pop("id", None)
    if known in referenced:
        node.set("id", f"{name}-{known}")
    if node.get("href"):
        node.set("href", f"#{name}-{node.attrib['href'].removeprefix('#')}")
    if node.get("clip-path"):
        node.set("clip-path", _REFERENCE.sub(rf"url(#{name}-\1)", node.attrib["clip-path"]))
    if node.get("style"):
        style = _FONT_FAMILY.sub("", _rounded(node.attrib["style"]))
        for colour, variable in _VARIABLE.items():
            style = style.replace(colour, variable)
        node.set("style", style.replace("; ", ";").replace(": ", ":"))
    if node.get("transform"):
        turned = _TURNED_BY_ZERO.sub("", node.attrib["transform"]).strip()
        if turned:
            node.set("transform", turned)
        else:
            del node.attrib["transform"]
    for key in _POSITIONS:
        if node.get(key):
            node.set(key, " ".join(_rounded(node.attrib[key]).split()))


def _rounded(text: str) -> str:
    return _LONG_NUMBER.sub(lambda found: f"{float(found.group()):.2f}".rstrip("0").rstrip("."), text)


def _local(name: str) -> str:
    return name.rpartition("}")[2]
