"""Whether results hold what a report reads: a file may have been changed by hand, or written by something else."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

from graft.errors import RunError
from graft.evaluation.results import Results

NUMBER, MAYBE, COUNT, BUDGET, TEXT, ANY = (
    "a number",
    "a number or null",
    "a count",
    "a count or null",
    "text",
    "a value",
)
Shape = str | list["Shape"] | dict[str, "Shape"]

_ESTIMATE: Shape = {"value": MAYBE, "low": MAYBE, "high": MAYBE}
_EXAMPLE: Shape = {"row": COUNT, "input?": ANY, "thumbnail?": ANY, "true": ANY, "predicted": ANY, "p": MAYBE}
_COST: Shape = {"budget": BUDGET, "with": MAYBE, "without": MAYBE, "factor": MAYBE, "low": MAYBE, "high": MAYBE}
_TASK: Shape = {"task": ANY, "value": MAYBE, "low": MAYBE, "high": MAYBE}
_GAIN: Shape = {"budget": BUDGET, "n_train": NUMBER, "value": MAYBE, "low": MAYBE, "high": MAYBE, "seeds": COUNT}
_LABELS: Shape = {
    "budget": BUDGET,
    "n_train": NUMBER,
    "equals": NUMBER,
    "factor": NUMBER,
    "low": MAYBE,
    "high": MAYBE,
}
_VIEW: Shape = {"source": [[NUMBER]], "target": [[NUMBER]], "source_labels?": [ANY], "target_labels?": [ANY]}
_UNREADABLE: Shape = {"row": COUNT, "input": ANY, "reason": TEXT}
# What stands where, of docs/results.md; a key with a question mark may be absent or null. Keys beyond are passed over.
_SHAPE: dict[str, Shape] = {
    "data": {
        "classes?": [{"class": ANY, "examples": COUNT}],
        "splits?": [{"pool": COUNT, "test": COUNT}],
        "task?": {},
        "target?": {"name": ANY, "unreadable?": [_UNREADABLE]},
        "unreadable?": [_UNREADABLE],
        "examples?": COUNT,
        "labelled?": COUNT,
    },
    "settings": {
        "backbone?": {"parameters?": NUMBER},
        "budgets?": [BUDGET],
        "seeds?": [ANY],
        "budget_seconds?": NUMBER,
        "spent_seconds?": NUMBER,
    },
    "versions": {},
    "machine": {"memory_gib?": NUMBER},
    "score": {},
    "techniques": [{"name": TEXT, "sides?": [TEXT]}],
    "summary": [
        {
            "technique": TEXT,
            "budget": BUDGET,
            "n_train": NUMBER,
            "seeds?": ANY,
            "score": _ESTIMATE,
            "seconds": MAYBE,
            "peak_memory_mib?": NUMBER,
        }
    ],
    "figures": [{"name": TEXT, "text?": TEXT, "sentence?": TEXT, "value": MAYBE, "low": MAYBE, "high": MAYBE}],
    "findings": [
        {
            "question": TEXT,
            "with": TEXT,
            "without": TEXT,
            "text?": TEXT,
            "gain": _ESTIMATE,
            "gains": [_GAIN],
            "labels": [_LABELS],
            "seconds?": _COST,
            "memory?": _COST,
            "tasks?": [_TASK],
        }
    ],
    "details": [
        {
            "technique": TEXT,
            "task?": TEXT,
            "budget": BUDGET,
            "seed": COUNT,
            "n_train": COUNT,
            "examples": BUDGET,
            "classes": [ANY],
            "confusion?": [[NUMBER]],
            "per_class": [{"class": ANY, "examples": COUNT, "precision": MAYBE, "recall": MAYBE, "f1": MAYBE}],
            "calibration": [{"examples": COUNT, "confidence": NUMBER, "accuracy": NUMBER}],
            "wrong": [_EXAMPLE],
            "foreign": [_EXAMPLE],
            "coordinates?": {"before": _VIEW, "after": _VIEW},
            "predicted?": {"true": [ANY], "predicted": [ANY]},
        }
    ],
}


def check_sound(results: Results) -> None:
    """Pass over results that a report can be made of.

    Raises
    ------
    RunError
        Naming the first part that is missing or is not what it should be.
    """
    parts: dict[str, Any] = {name: getattr(results, name) for name in _SHAPE if name not in ("figures", "findings")}
    parts["figures"], parts["findings"] = results.verdict.figures, results.verdict.findings
    for name, part in parts.items():
        _check(part, _SHAPE[name], name)
    for place, detail in enumerate(results.details):
        matrix, names = detail.get("confusion"), detail["classes"]
        if matrix and not len(matrix) == len(names) == min(map(len, matrix)) == max(map(len, matrix)):
            _refuse(f"details[{place}].confusion", "a row and a column for each class", "another size")
        for when, view in (detail.get("coordinates") or {}).items():
            for side in ("source", "target"):
                labels = view.get(f"{side}_labels")
                pairs = all(len(point) == 2 for point in view[side])
                if not pairs or (labels and len(labels) != len(view[side])):
                    _refuse(f"details[{place}].coordinates.{when}.{side}", "pairs, each with its label", "another size")
        numbers = detail.get("predicted")
        if numbers and len(numbers["true"]) != len(numbers["predicted"]):
            _refuse(f"details[{place}].predicted", "as many predictions as true values", "another size")
    known = {one["name"] for one in results.techniques} | {cell.technique for cell in results.cells}
    named = [one["technique"] for one in (*results.summary, *results.details)]
    named += [finding[side] for finding in results.verdict.findings for side in ("with", "without")]
    for name in named:
        if name not in known:
            _refuse("techniques", f"one that is named {name!r}, as other parts do", "none")


def _check(value: Any, shape: Shape, where: str) -> None:
    if isinstance(shape, dict):
        if not isinstance(value, Mapping):
            _refuse(where, "names with values", _found(value))
        for key, inner in shape.items():
            name = key.removesuffix("?")
            if name not in value or (value[name] is None and key != name):
                if key == name:
                    _refuse(
                        f"{where}.{name}", inner if isinstance(inner, str) else "what docs/results.md says", "nothing"
                    )
                continue
            _check(value[name], inner, f"{where}.{name}")
    elif isinstance(shape, list):
        if not isinstance(value, list | tuple):
            _refuse(where, "a list", _found(value))
        for place, one in enumerate(value):
            _check(one, shape[0], f"{where}[{place}]")
    elif not _fits(value, shape):
        _refuse(where, shape, _found(value))


def _fits(value: Any, shape: str) -> bool:
    if shape == ANY:
        return True
    if shape == TEXT:
        return isinstance(value, str)
    if value is None:
        return shape in (MAYBE, BUDGET)
    if isinstance(value, bool) or not isinstance(value, int | float) or not math.isfinite(value):
        return False
    return shape in (NUMBER, MAYBE) or (isinstance(value, int) and value >= 0)


def _found(value: Any) -> str:
    text = "null" if value is None else repr(value)
    return text if len(text) <= 60 else f"{text[:57]}..."


def _refuse(where: str, expected: str, found: str) -> None:
    raise RunError(
        where,
        expected=expected,
        found=found,
        remedy="Run the comparison again: what it has measured is kept beside the file.",
    )
