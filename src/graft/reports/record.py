"""The sections that say what was measured and how, what was not, and every cell."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any

from graft.evaluation.results import Results
from graft.reports import contents
from graft.reports.markup import Markup, element, number, table
from graft.reports.wording import (
    UNKNOWN,
    budget_words,
    counted,
    label,
    memory,
    moment,
    quantity,
    score,
    seconds,
    span,
)

_CLASSES_LISTED = 20
_UNREADABLE_LISTED = 20


def left_out(results: Results) -> Markup | None:
    """Return what was left out or failed, with the reason."""
    found = contents.not_measured(results)
    if not found:
        return None
    rows = [
        [
            contents.short_name(name),
            reason or UNKNOWN,
            status,
            budget_words(results, budget),
            ", ".join(str(seed) for seed in seeds),
        ]
        for name, budget, status, reason, seeds in found
    ]
    return element(
        "section",
        element("h2", "What was left out"),
        table(["technique", "reason", "status", "labels", "seeds"], rows, name="left out", words=3),
        data_part="left-out",
    )


def measured(results: Results) -> Markup:
    """Return what was measured, on what, and the command that repeats it."""
    return element(
        "section",
        element("h2", "What was measured"),
        element("pre", element("code", _command(results.command))) if results.command else None,
        element("h3", "Data"),
        _facts(_data(results)),
        element("h3", "Comparison"),
        _facts(_settings(results)),
        element("h3", "Machine and versions"),
        _facts(_machine(results)),
        element("h3", "How to read it"),
        [element("p", one, class_="small") for one in _reading(results)],
        data_part="measured",
    )


def every_cell(results: Results) -> Markup | None:
    """Return a row for each cell that was measured."""
    rows = [
        [
            contents.short_name(cell.technique),
            budget_words(results, cell.budget),
            str(cell.seed),
            str(cell.n_train),
            number(score(cell.score.value, results.score), _finite(cell.score.value)) if cell.score else UNKNOWN,
            span(cell.score.low, cell.score.high, lambda value: score(value, results.score)) if cell.score else "",
            number(seconds(cell.seconds.get("total")), cell.seconds.get("total")),
            number(memory(cell.peak_memory_mib), cell.peak_memory_mib),
        ]
        for cell in results.cells
        if cell.done
    ]
    if not rows:
        return None
    title = results.score.get("title", "score")
    header = ["technique", "labels", "seed", "examples", title, "95 % interval", "time", "memory"]
    return element(
        "section",
        element(
            "details",
            element("summary", f"Every measured cell ({len(rows)})"),
            table(header, rows, name="cells"),
        ),
        data_part="cells",
    )


def _command(line: str) -> list[Any]:
    """Return a command whose options are not broken at their hyphens."""
    words = re.split(r"(\s+)", line)
    return [element("span", word) if word.startswith("--") else word for word in words]


def _data(results: Results) -> list[tuple[str, Any]]:
    data = results.data
    task: Mapping[str, Any] = data.get("task") or {}
    classes = data.get("classes") or []
    if len(classes) > _CLASSES_LISTED:
        counts = [one["examples"] for one in classes]
        listed = f"{counted(len(classes), 'class', 'classes')} of {min(counts):,d} to {max(counts):,d} examples"
    else:
        listed = ", ".join(f"{label(one['class'])} ({one['examples']:,d})" for one in classes)
    splits = data.get("splits") or []
    shown = {
        f"{one['pool']:,d} to learn from, {one['test']:,d} to test on"
        + (", as the data says" if one.get("given") else ", drawn")
        for one in splits
    }
    target = data.get("target")
    facts = [
        ("name", data.get("name")),
        ("inputs", data.get("modality")),
        ("task", " of ".join(label(part) for part in (task.get("kind"), task.get("name")) if part)),
        ("examples", _of(data.get("examples"), data.get("labelled"))),
        ("classes", listed),
        (
            "groups",
            "examples of one group are never divided between learning and testing" if data.get("groups") else "",
        ),
        ("splits", "; ".join(sorted(shown))),
        ("fingerprint", data.get("fingerprint")),
    ]
    if target:
        facts += [
            ("target", target.get("name")),
            ("target examples", _of(target.get("examples"), target.get("labelled"))),
            ("tested on", None if target.get("test") is None else f"{target['test']:,d} target examples"),
            ("target fingerprint", target.get("fingerprint")),
        ]
    unreadable = contents.unreadable(results)
    if unreadable:
        named = [f"{label(one['input'])} ({label(one['reason'])})" for one in unreadable[:_UNREADABLE_LISTED]]
        if len(unreadable) > len(named):
            named.append(f"and {len(unreadable) - len(named):,d} more, in results.json")
        facts.append((f"left out, {counted(len(unreadable), 'input')} that could not be read", "; ".join(named)))
    return facts


def _settings(results: Results) -> list[tuple[str, Any]]:
    settings = results.settings
    network: Mapping[str, Any] = settings.get("backbone") or {}
    facts: list[tuple[str, Any]] = [("decided by", results.score.get("title"))]
    if network:
        told = [
            quantity(network.get("parameters")) + " parameters" if network.get("parameters") is not None else "",
            f"{network['feature_dim']} features" if network.get("feature_dim") else "",
            label(network.get("input")),
            f"licence {network['license']}" if network.get("license") else "",
        ]
        facts += [
            ("network", ", ".join([label(network.get("name")), *(one for one in told if one)])),
            ("weights", network.get("weights_hash")),
        ]
    budgets = settings.get("budgets") or []
    allowed = settings.get("budget_seconds")
    spent = settings.get("spent_seconds")
    resumed = settings.get("resumed_cells")
    return [
        *facts,
        ("labels", ", ".join(budget_words(results, one) for one in budgets)),
        ("seeds", ", ".join(str(one) for one in settings.get("seeds") or [])),
        (
            "time spent",
            "" if spent is None else seconds(spent) + (f" of {seconds(allowed)} allowed" if allowed else ""),
        ),
        ("cells found finished", str(resumed) if resumed else ""),
        ("epochs", settings.get("epochs")),
        ("image size", settings.get("image_size")),
        ("random state", settings.get("random_state")),
    ]


def _machine(results: Results) -> list[tuple[str, Any]]:
    machine = results.machine
    size = machine.get("memory_gib")
    return [
        ("system", machine.get("system")),
        ("processor", machine.get("processor")),
        ("cores", machine.get("cores")),
        ("memory", "" if size is None else f"{size:g} GiB"),
        ("device", machine.get("device")),
        ("measured", moment(results.created)),
        ("versions", ", ".join(f"{name} {value}" for name, value in results.versions.items())),
    ]


def _reading(results: Results) -> list[str]:
    many = len({cell.seed for cell in results.cells if cell.done}) > 1
    said = [
        "All techniques learn from the same examples and are tested on the same ones; the examples drawn for few "
        "labels are among those drawn for more.",
        f"Intervals are 95 % intervals over resampled test examples{' and seeds' if many else ''}; differences are "
        "resampled as pairs. "
        "Where one side has several techniques, the one with the best mean score stands for it, and the intervals hold "
        "that choice.",
        "Features of a frozen network are charged as if they had been computed for each model, though they are kept; "
        "prediction of the test examples is in no time.",
    ]
    kind = results.machine.get("memory_is")
    if kind == "cuda":
        said.append("Memory is the most that was allocated on the device during the fit, the network included.")
    elif kind:
        said.append("Memory is the most that the fit held beyond what the process held before, the network included.")
    return said


def _facts(facts: list[tuple[str, Any]]) -> Markup | None:
    there = [(name, value) for name, value in facts if value not in (None, "", [])]
    return element("dl", [[element("dt", name), element("dd", value)] for name, value in there]) if there else None


def _of(examples: int | None, labelled: int | None) -> str:
    if examples is None:
        return ""
    return f"{examples:,d}" if labelled in (None, examples) else f"{examples:,d}, {labelled:,d} of them with labels"


def _finite(value: float) -> float | None:
    return value if value == value else None
