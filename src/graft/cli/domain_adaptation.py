"""The options of ``graft fit`` that domain adaptation alone takes, and what is said about an adapted model."""

from __future__ import annotations

from textwrap import wrap
from typing import Annotated, Any

import typer

from graft.cli.options import read_for
from graft.errors import DataError, RequestError

TECHNIQUE = "domain-adaptation"
_WIDTH = 80
_PANEL = "Domain adaptation (--target DATA)"

Target = Annotated[
    str | None,
    typer.Option(
        metavar="DATA",
        help="Examples of the domain where the model is to work; DATA has the labels.",
        show_default=False,
        rich_help_panel=_PANEL,
    ),
]
Method = Annotated[
    str,
    typer.Option(
        metavar="NAME",
        help="auto, source-only, kmm, coral, tca, meda, ...; a wrong name lists all.",
        rich_help_panel=_PANEL,
    ),
]
# Where nothing else is said, seconds for trying: methods of adaptation, or techniques before a fit that takes seconds.
METHODS_BUDGET, TECHNIQUES_BUDGET = 60.0, 10.0
Budget = Annotated[
    str | None,
    typer.Option(
        metavar="TIME",
        help="With auto: for trying techniques (default 10s) or, with --target, methods (60s); such as 90s or 10m.",
        show_default=False,
    ),
]


def chosen_technique(technique: str, target: str | None, method: str) -> str:
    """Return the technique, which a target implies.

    Raises
    ------
    RequestError
        If technique, target and method do not go together.
    """
    if target is not None:
        if technique not in ("auto", TECHNIQUE):
            raise RequestError(
                "--target",
                expected=f"--technique {TECHNIQUE} beside it",
                found=f"--technique {technique}",
                remedy="Leave one of the two out.",
            )
        return TECHNIQUE
    if technique == TECHNIQUE or method != "auto":
        raise RequestError(
            "--target",
            expected="the data of the domain where the model is to work",
            found="none",
            remedy="Add --target DATA, whose labels may be missing.",
        )
    return technique


def read_target(modality: str, target: str, *, labels: list[str] | None, **columns: Any) -> tuple[Any, Any]:
    """Return the target as it is adapted to, and as it is measured on (None without labels).

    Where every example has a label, the labels measure the result and nothing else; where some have one, they are used.
    Of given splits, train is adapted to, and test is measured on.
    """
    from dataclasses import replace

    import numpy as np

    from graft.data.values import missing

    try:
        domain = read_for(modality, target, labels=labels, **columns)
    except DataError:
        if not labels:
            raise
        # A table of the target need not have the column of labels.
        domain = read_for(modality, target, labels=[], **columns)
    here, test = domain.split("train") or domain, domain.split("test")
    if here.labels is None:
        return here, None
    if np.any(missing(np.asarray(here.labels, dtype=object))):
        return here, test
    return replace(here, labels=None, tasks=()), test or here


def adaptation_lines(told: dict[str, Any]) -> list[str]:
    """Say which method adapted the model, why that one, and what the domains are like."""
    goal, shift = told["target"], told["shift"]
    lines = [f"Target: {goal['examples']} examples, {goal['labelled'] or 'none'} of them with a label."]
    kind = "no shift was found" if not shift["shift"] else shift["hint"]
    lines.append(
        f"Domains: {kind}; a classifier tells them apart with an AUC of {shift['auc']['auc']:.2f}, "
        f"overlap {shift['overlap']:.2f}."
    )
    lines.append(f"Method: {told['method']}.")
    if told["weights"] is not None:
        lines.append(
            f"  Weights: as much as {100 * shift['effective_share']:.0f} % of the source counts in effect, "
            f"the largest is {shift['largest_weight']:.1f} times the mean; flattened with exponent "
            f"{told['weights']['exponent']:g}: {told['weights']['reason']}."
        )
    contest = told.get("tournament")
    if contest is not None:
        lines += [f"  {contest['reason']}", *(f"  Warning: {warning}" for warning in contest["warnings"])]
        reasons: dict[str, list[str]] = {}
        for name, why in contest["left_out"].items():
            reasons.setdefault(why, []).append(name)
        lines += [
            f"  {', '.join(names)} {'was' if len(names) == 1 else 'were'} left out: {why}"
            for why, names in reasons.items()
        ]
    return [part for line in lines for part in wrap(line, _WIDTH, subsequent_indent="  ", break_on_hyphens=False)]


def candidate_rows(told: dict[str, Any]) -> list[tuple[str, str, str, str]]:
    """Return a row for each candidate of the tournament, the best first."""
    contest = told["tournament"]
    rows = sorted(contest["candidates"].items(), key=lambda item: -item[1]["standing"])
    return [
        (name, f"{one['standing']:.2f}", ", ".join(one["for"]) or "-", ", ".join(one["against"]) or "-")
        for name, one in rows
    ]
