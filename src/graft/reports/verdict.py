"""The top of the page: what the comparison is of, the verdict, its three figures."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from graft.evaluation.results import NO_INTERVAL, Results
from graft.reports.markup import Markup, element, number
from graft.reports.wording import UNKNOWN, counted, figure_words, moment

_SUBJECTS = {"transfer": "Transfer", "adaptation": "Adaptation", "sharing": "Learning the tasks together"}
_SAYS = {
    "pays": ("✓", "{} pays here"),
    "does not pay": ("✗", "{} does not pay here"),
    "mixed": ("~", "{} pays in part here"),
    "inconclusive": ("~", "{}: no clear difference here"),
    "not measured": (UNKNOWN, "Not measured"),
}


def headline(results: Results) -> tuple[str, str]:
    """Return a sign and a sentence for the outcome."""
    findings = results.verdict.findings
    subject = _SUBJECTS.get(findings[0]["question"], "Transfer") if findings else "Transfer"
    sign, sentence = _SAYS[results.verdict.outcome]
    return sign, sentence.format(subject)


def title_of(results: Results) -> str:
    """Return what the comparison is called."""
    target, name = results.data.get("target"), results.data.get("name") or "A comparison"
    return f"{name}, adapted to {target['name']}" if target else name


def paragraph(results: Results) -> str:
    """Return the verdict without the sentences of its figures, which stand right below it."""
    text = results.verdict.text
    for figure in results.verdict.figures:
        for said in (figure.get("sentence"), figure.get("text")):
            text = text.replace(said or "\0", "")
    return " ".join(text.split())


def heading(results: Results) -> Markup:
    """Return what the comparison is of."""
    data = results.data
    network = (results.settings.get("backbone") or {}).get("name")
    facts = []
    if data.get("examples") is not None:
        facts.append(counted(data["examples"], "example"))
    if data.get("classes"):
        facts.append(counted(len(data["classes"]), "class", "classes"))
    if network:
        facts.append(f"network {network}")
    if results.created:
        facts.append(f"measured {moment(results.created)}")
    return element("header", element("h1", title_of(results)), element("div", " · ".join(facts), class_="small quiet"))


def verdict(results: Results) -> Markup:
    """Return the verdict: one paragraph and three figures."""
    sign, sentence = headline(results)
    kind = results.verdict.outcome.replace(" ", "-")
    return element(
        "section",
        element("h2", element("span", sign, class_=f"mark {kind}", aria_hidden="true"), " ", sentence),
        element("p", paragraph(results)) if paragraph(results) else None,
        element("ul", [_tile(one) for one in results.verdict.figures], class_="figures")
        if results.verdict.figures
        else None,
        class_="verdict",
        data_part="verdict",
    )


def _tile(figure: Mapping[str, Any]) -> Markup:
    shown, words, interval = figure_words(figure)
    if figure["value"] is not None:
        interval = f"95 % interval {interval}" if interval else NO_INTERVAL
    return element(
        "li",
        element("strong", number(shown, figure["value"])),
        element("b", words),
        element("p", figure.get("text", "")),
        element("p", interval, class_="small quiet") if interval else None,
    )
