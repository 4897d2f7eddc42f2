"""HTML as values: whatever is not markup already is escaped, so that names and texts of users stay text."""

from __future__ import annotations

import html
from collections.abc import Iterable
from typing import Any

from graft.reports.wording import clean

_VOID = {"img", "meta", "br"}


class Markup(str):
    """Text that is HTML already. Final."""

    __slots__ = ()


def element(name: str, /, *content: Any, **attributes: Any) -> Markup:
    """Return an element with its content.

    Parameters
    ----------
    name : str
        Of the element.
    *content
        `Markup` as it is, iterables of content one after the other, None as nothing, everything else as escaped text.
    **attributes
        A trailing underscore is dropped (``class_``), other underscores become hyphens (``aria_label``); None and False
        are left out, True is an attribute without a value.

    Examples
    --------
    >>> element("p", "a < b ", element("b", "& c"), class_="note")
    '<p class="note">a &lt; b <b>&amp; c</b></p>'
    """
    written = "".join(_attribute(key, value) for key, value in attributes.items())
    if name in _VOID:
        return Markup(f"<{name}{written}>")
    return Markup(f"<{name}{written}>{joined(content)}</{name}>")


def joined(content: Iterable[Any]) -> Markup:
    """Return pieces of content one after the other, escaped where they are not markup."""
    return Markup("".join(_piece(one) for one in content))


def _piece(one: Any) -> str:
    if one is None:
        return ""
    if isinstance(one, Markup):
        return one
    if isinstance(one, list | tuple) or hasattr(one, "__next__"):
        return joined(one)
    return html.escape(clean(one), quote=False)


def _attribute(key: str, value: Any) -> str:
    name = key.rstrip("_").replace("_", "-")
    if value is None or value is False:
        return ""
    return f" {name}" if value is True else f' {name}="{html.escape(clean(value))}"'


def number(text: str, value: float | None) -> Markup:
    """Return a figure as it is read together with what it is exactly: ``<data value="0.8731">87.3 %</data>``."""
    return element("data", text, value=None if value is None else repr(value))


def table(header: Iterable[Any], rows: Iterable[Iterable[Any]], *, name: str, words: int = 1) -> Markup:
    """Return a table that scrolls by itself where it is wider than the page.

    Parameters
    ----------
    header : iterable
        The heads of the columns.
    rows : iterable of iterable
        Their cells; the first is the head of its row.
    name : str
        What the table is called by those who hear it.
    words : int
        So many columns, from the left, hold words and not figures.
    """
    heads = [element("th", one, scope="col", class_="words" if n < words else None) for n, one in enumerate(header)]
    body = [
        element(
            "tr",
            [
                element("td" if n else "th", one, scope=None if n else "row", class_="words" if n < words else None)
                for n, one in enumerate(row)
            ],
        )
        for row in rows
    ]
    whole = element("table", element("thead", element("tr", heads)), element("tbody", body))
    return element("div", whole, class_="scroll", role="region", aria_label=name, tabindex="0")
