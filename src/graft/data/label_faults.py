"""What can be wrong with labels: none, too few, several spellings, other ones in another split, contradictions."""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Sequence
from typing import Any

import numpy as np

from graft.data.check_report import Problem, problem
from graft.data.domain import Domain
from graft.data.input_faults import normalized
from graft.data.task import infer_task
from graft.data.values import label_array, missing
from graft.errors import DataError


def label_faults(domain: Domain, names: Sequence[str]) -> list[Problem]:
    """Return the problems of the labels of a domain, column by column."""
    if domain.labels is None:
        return []
    labels = label_array(domain.labels)
    if labels.ndim == 1:
        return _column_faults(labels, "", domain.splits, names)
    gaps = missing(labels)
    if labels.shape[1] > 1 and all(value in (0, 1) for value in labels[~gaps].tolist()):
        return _indicator_faults(labels, gaps, domain)
    titles = domain.tasks or tuple(str(column) for column in range(labels.shape[1]))
    return [
        found
        for column, title in enumerate(titles)
        for found in _column_faults(labels[:, column], f"{title}: ", domain.splits, names)
    ]


def _column_faults(labels: np.ndarray, title: str, splits: Any, names: Sequence[str]) -> list[Problem]:
    """Return the problems of one column; `title` leads the places where there are several columns."""
    gaps = missing(labels)
    column = title.removesuffix(": ") or "labels"
    if gaps.all():
        remedy = "Fill it in, name another column, or read the data without labels."
        return problem("empty label column", [column], remedy, harmful=True)
    found = problem(
        "missing label",
        [title + names[row] for row in np.flatnonzero(gaps).tolist()],
        "Nothing, if they are meant to be unlabelled: a training leaves them out.",
        harmful=False,
    )
    try:
        task = infer_task(labels[~gaps])
    except DataError as error:
        return found + problem("mixed label types", [f"{column}: {error.found}"], error.args[0], harmful=True)
    values = labels[~gaps].tolist()
    if task.kind == "regression":
        filled = np.flatnonzero(~gaps).tolist()
        infinite = [title + names[row] for row in filled if not np.isfinite(float(labels[row]))]
        return found + problem("infinite label", infinite, "Correct these values.", harmful=True)
    counts = Counter(values)
    if len(counts) == 1:
        remedy = "Add examples of another class: one class alone cannot be told apart from anything."
        found += problem("one class", [f"{title}{task.classes[0]!r}"], remedy, harmful=True)
    small = [f"{title}{value!r}" for value in task.classes if counts[value] < 2]
    remedy = "Add examples or leave the class out: it cannot be in the training and in a test at once."
    found += problem("class with 1 example", small, remedy, harmful=True)
    spellings: dict[str, list[str]] = defaultdict(list)
    for value in task.classes:
        if isinstance(value, str):
            spellings[normalized(value)].append(value)
    variants = [title + " / ".join(map(repr, same)) for same in spellings.values() if len(same) > 1]
    remedy = "Write each label one way; now they count as different classes."
    found += problem("label spelled in several ways", variants, remedy, harmful=True)
    return found + _split_faults(labels, gaps, title, splits)


def _split_faults(labels: np.ndarray, gaps: np.ndarray, title: str, splits: Any) -> list[Problem]:
    """Return classes that are tested but never trained on, or trained on but never tested."""
    if splits is None:
        return []
    parts = np.asarray(splits)
    held = {name: set(labels[(parts == name) & ~gaps].tolist()) for name in ("train", "val", "test")}
    if not held["train"]:
        return []
    foreign = [
        f"{title}{value!r} in {name}"
        for name in ("val", "test")
        for value in sorted(held[name] - held["train"], key=repr)
    ]
    untested = [f"{title}{value!r}" for value in sorted(held["train"] - held["test"], key=repr)] if held["test"] else []
    return problem(
        "class not in train", foreign, "Move some of its examples to train, or the class out of it all.", harmful=True
    ) + problem("class not in test", untested, "Move some of its examples to test to measure it.", harmful=False)


def _indicator_faults(labels: np.ndarray, gaps: np.ndarray, domain: Domain) -> list[Problem]:
    """Return the problems of a multi-label table: columns that are empty or always the same, rare labels."""
    titles = domain.tasks or tuple(str(column) for column in range(labels.shape[1]))
    ones = np.where(gaps, 0, labels).astype(np.int64).sum(axis=0)
    filled = (~gaps).sum(axis=0)
    empty = [title for title, count in zip(titles, filled, strict=True) if count == 0]
    constant = [title for title, one, count in zip(titles, ones, filled, strict=True) if count and one in (0, count)]
    rare = [title for title, one, count in zip(titles, ones, filled, strict=True) if 0 < min(one, count - one) < 2]
    return (
        problem("empty label column", empty, "Fill it in, or leave the column out.", harmful=True)
        + problem(
            "constant label", constant, "Leave the column out, or add examples with the other value.", harmful=True
        )
        + problem("class with 1 example", rare, "Add examples, or leave the column out.", harmful=True)
    )


def duplicate_faults(
    digests: Sequence[bytes | None],
    domain: Domain,
    names: Sequence[str],
    *,
    noun: str,
    openings: Sequence[str] = (),
    by_chance: bool = False,
) -> list[Problem]:
    """Return inputs that occur more than once: across splits, with other labels, or otherwise.

    `names` call each input, and `openings`, where given, add what a text begins with. `by_chance` tells that equal
    inputs need be no slip, as rows of a few discrete features; then contradicting labels are noise rather than a fault.
    """
    rows: dict[bytes, list[int]] = defaultdict(list)
    for row, digest in enumerate(digests):
        if digest is not None:
            rows[digest].append(row)
    labels = None if domain.labels is None else label_array(domain.labels)

    def listed(shown: Sequence[tuple[int, str]], total: int) -> str:
        more = f" and {total - len(shown)} more" if total > len(shown) else ""
        opening = f": {openings[shown[0][0]]}" if openings else ""
        return " = ".join(names[row] + note for row, note in shown) + more + opening

    across, conflicting, plain = [], [], []
    for same in rows.values():
        if len(same) < 2:
            continue
        parts = {} if domain.splits is None else {str(domain.splits[row]): row for row in reversed(same)}
        kinds = {} if labels is None else {_written(labels[row]): row for row in reversed(same)}
        if len(parts) > 1:
            across.append(listed([(row, f" ({part})") for part, row in sorted(parts.items())], len(same)))
        if len(kinds) > 1:
            first = sorted(kinds.items(), key=lambda item: item[1])[:2]
            conflicting.append(listed([(row, f" ({kind})") for kind, row in first], len(same)))
        if len(parts) < 2 and len(kinds) < 2:
            plain.append(listed([(row, "") for row in same[:2]], len(same)))
    return (
        problem(
            f"duplicate {noun} across splits",
            across,
            "Keep each in one split: a test that was trained on measures nothing.",
            harmful=True,
        )
        + problem(
            f"duplicate {noun}, labels differ",
            conflicting,
            "Decide on one label, or remove all copies.",
            harmful=not by_chance,
        )
        + problem(f"duplicate {noun}", plain, "Keep one of each, or give copies one group.", harmful=False)
    )


def _written(label: Any) -> str:
    """Return a label, or a row of them, as it is printed."""
    return repr(label.tolist() if isinstance(label, (np.ndarray, np.generic)) else label)
