"""What a report asks of results: techniques in order, their curves and costs, what was left out."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from graft.evaluation.cell import SECONDS, Cell
from graft.evaluation.results import Results


def technique_names(results: Results) -> list[str]:
    """Return the techniques in the order in which they are shown; those without a description last."""
    told = [one["name"] for one in results.techniques]
    return list(dict.fromkeys([*told, *(cell.technique for cell in results.cells)]))


def technique_title(results: Results, name: str) -> str:
    """Return what a technique is called in a sentence."""
    for one in results.techniques:
        if one["name"] == name:
            return str(one.get("title") or name)
    return name


def short_name(name: str) -> str:
    """Return a technique's name as it stands beside its line: a single adaptation by its method."""
    technique, _, method = name.partition(":")
    return method or technique.replace("-", " ").replace("_", " ")


def unreadable(results: Results) -> list[Mapping[str, Any]]:
    """Return the inputs that could not be read, those of the data before those of the target."""
    target = results.data.get("target") or {}
    return [*(results.data.get("unreadable") or ()), *(target.get("unreadable") or ())]


def is_baseline(results: Results, name: str) -> bool:
    """Return whether a technique is one that others are held against: from scratch, not adapted, each task alone."""
    sides = next((one.get("sides") or () for one in results.techniques if one["name"] == name), ())
    against = {finding["without"] for finding in results.verdict.findings}
    return bool({"scratch", "unadapted", "alone"} & set(sides)) or name in against


def curve(results: Results, name: str) -> list[Mapping[str, Any]]:
    """Return the points of a technique's learning curve whose score is known, by the number of examples."""
    points = [one for one in results.summary if one["technique"] == name and one["score"]["value"] is not None]
    return sorted(points, key=lambda one: one["n_train"])


def budgets(results: Results) -> list[int | None]:
    """Return the numbers of labels that anything was measured with, ascending, all (None) last."""
    found = {one["budget"] for one in results.summary}
    numbers: list[int | None] = [*sorted(one for one in found if one is not None)]
    return [*numbers, None] if None in found else numbers


def point(results: Results, name: str, budget: int | None) -> Mapping[str, Any] | None:
    """Return the point of a technique's learning curve at a number of labels."""
    return next((one for one in results.summary if (one["technique"], one["budget"]) == (name, budget)), None)


def details_in_order(results: Results) -> list[Mapping[str, Any]]:
    """Return the details of each technique: the one that the verdict speaks for first, then as techniques are shown."""
    leading = [finding["with"] for finding in results.verdict.findings]
    order = [*leading, *technique_names(results)]
    return sorted(
        results.details, key=lambda one: order.index(one["technique"]) if one["technique"] in order else len(order)
    )


def details_of(results: Results, name: str | None) -> list[Mapping[str, Any]]:
    """Return the details of a technique, of each task that was tested; None: of the technique that is shown first."""
    ordered = details_in_order(results)
    wanted = ordered[0]["technique"] if ordered and name is None else name
    return [one for one in ordered if one["technique"] == wanted]


def detail_of(results: Results, name: str | None, task: str | None = None) -> Mapping[str, Any] | None:
    """Return the details of a technique and one of its tasks; None: of the one that is shown first."""
    return next((one for one in details_of(results, name) if task is None or task_of(one) == task), None)


def task_of(detail: Mapping[str, Any]) -> str | None:
    """Return which of several tasks details are of; None where there is one."""
    task: str | None = detail.get("task")
    return task


def wrong_title(detail: Mapping[str, Any]) -> str:
    """Return what the examples are called that a model is most wrong about."""
    return "Largest errors" if detail["predicted"] else "Most confidently wrong"


def cell_of(results: Results, detail: Mapping[str, Any]) -> Cell | None:
    """Return the cell that details are of."""
    which = (detail["technique"], detail["budget"], detail["seed"])
    return next((one for one in results.cells if one.done and (one.technique, one.budget, one.seed) == which), None)


def costs(results: Results, name: str) -> dict[str, Any] | None:
    """Return the median cost over the seeds, with the most labels that all techniques were measured with.

    If there is no such number, with the most that this technique was measured with.

    Returns
    -------
    dict or None
        ``budget``, ``n_train`` (mean), ``seconds`` (by part), ``peak_memory_mib``, ``trainable_parameters``,
        ``total_parameters``, ``flops_forward``, ``flops_training``, ``energy_joules``; what is not known is None.
    """
    done = [cell for cell in results.cells if cell.done and cell.technique == name]
    if not done:
        return None
    measured: dict[str, set[int | None]] = {}
    for cell in results.cells:
        if cell.done:
            measured.setdefault(cell.technique, set()).add(cell.budget)
    shared = set.intersection(*measured.values()) or measured[name]
    most = max(shared, key=lambda budget: (budget is None, budget or 0))
    mine = [cell for cell in done if cell.budget == most]
    return {
        "budget": most,
        "n_train": float(np.mean([cell.n_train for cell in mine])),
        "seconds": {part: _median([cell.seconds.get(part) for cell in mine]) for part in SECONDS},
        "peak_memory_mib": _median([cell.peak_memory_mib for cell in mine]),
        "trainable_parameters": _median([cell.trainable_parameters for cell in mine]),
        "total_parameters": _median([cell.total_parameters for cell in mine]),
        "flops_forward": _median([(cell.flops or {}).get("forward") for cell in mine]),
        "flops_training": _median([(cell.flops or {}).get("training") for cell in mine]),
        "energy_joules": _median([cell.energy_joules for cell in mine]),
    }


def all_costs(results: Results) -> dict[str, dict[str, Any]]:
    """Return `costs` of every technique that was measured, in the order in which they are shown."""
    found = {name: costs(results, name) for name in technique_names(results)}
    return {name: one for name, one in found.items() if one is not None}


def not_measured(results: Results) -> list[tuple[str, int | None, str, str, list[int]]]:
    """Return what was left out or failed: technique, number of labels, status, reason, and the seeds that share it."""
    found: dict[tuple[str, int | None, str, str], list[int]] = {}
    for cell in results.cells:
        if not cell.done:
            found.setdefault((cell.technique, cell.budget, cell.status, cell.reason), []).append(cell.seed)
    return [(*key, seeds) for key, seeds in found.items()]


def hardest_first(detail: Mapping[str, Any]) -> list[Mapping[str, Any]]:
    """Return the classes by their F1, the lowest first; those of which no example was tested come last."""
    return sorted(detail["per_class"], key=lambda one: one["f1"] if one["examples"] and one["f1"] is not None else 2.0)


def confusions(detail: Mapping[str, Any], count: int) -> list[tuple[Any, Any, int]]:
    """Return the most frequent confusions: the true class, what it was taken for, how often."""
    names, matrix = detail["classes"], detail["confusion"]
    found = [
        (names[true], names[taken], number)
        for true, row in enumerate(matrix or ())
        for taken, number in enumerate(row)
        if true != taken and number
    ]
    return sorted(found, key=lambda one: -one[2])[:count]


def answers(example: Mapping[str, Any]) -> tuple[Any, Any]:
    """Return what an example is, and what was predicted of it; one of several labels is there ("yes") or not ("no")."""
    pair = example["true"], example["predicted"]
    return ("yes" if pair[0] else "no", "yes" if pair[1] else "no") if "label" in example else pair


def task_gains(results: Results) -> list[Mapping[str, Any]]:
    """Return the gain of each task from learning them together."""
    return next((list(finding["tasks"]) for finding in results.verdict.findings if finding.get("tasks")), [])


def _median(values: Sequence[float | None]) -> float | None:
    there = [value for value in values if value is not None]
    return float(np.median(there)) if there else None
