"""Which examples are held out of a training, to choose by."""

from __future__ import annotations

from typing import Any

import numpy as np

from graft.data import Domain, label_array, split
from graft.errors import DataError
from graft.techniques.labelled import Labelled
from graft.techniques.technique import require_one_each

# Held-out examples beyond which more would hardly change a choice.
_MOST_HELD_OUT = 2000


def joined(
    X: Any, y: Any, sample_weight: Any, groups: Any, validation: Domain | None
) -> tuple[list[Any], Any, Any, Any, np.ndarray]:
    """Return inputs, labels, weights and groups with given held-out examples behind them, and which those are (n,).

    Raises
    ------
    DataError
        If the held-out examples have no labels, or there are not as many labels, weights or groups as inputs.
    """
    inputs = list(X)
    held = np.zeros(len(inputs), bool)
    for subject, values in (("y", y), ("sample_weight", sample_weight), ("groups", groups)):
        if values is not None:
            require_one_each(subject, values, len(inputs))
    if validation is None:
        return inputs, y, sample_weight, groups, held
    if validation.labels is None:
        raise DataError("validation", expected="labelled examples", found="no labels", remedy="Pass labelled ones.")
    more = list(validation.inputs)
    labels = np.concatenate([label_array(y), label_array(validation.labels)])
    weight = None if sample_weight is None else np.concatenate([np.asarray(sample_weight), np.ones(len(more))])
    if groups is not None:
        apart = [f"held out {row}" for row in range(len(more))] if validation.groups is None else validation.groups
        groups = np.concatenate([np.asarray(groups, dtype=object), np.asarray(apart, dtype=object)])
    return inputs + more, labels, weight, groups, np.concatenate([held, np.ones(len(more), bool)])


def hold_out(found: Labelled, fraction: float, random_state: int | None) -> np.ndarray:
    """Return which examples (n,) are held out: a fraction, of each class its share, groups undivided."""
    count = len(found.rows)
    share = min(fraction, _MOST_HELD_OUT / count)
    whole = Domain(np.arange(count), found.labels, groups=found.groups)
    parts = split(whole, fractions={"train": 1 - share, "val": share}, random_state=random_state)
    held = np.zeros(count, bool)
    held[np.asarray(parts["val"].inputs)] = True
    return held


def require_both(found: Labelled, held: np.ndarray) -> None:
    """Refuse a division in which nothing is held out, or a class has no example to learn from.

    Raises
    ------
    DataError
        If it is one.
    """
    lacking: list[Any] = []
    if found.task.kind == "classification":
        lacking = sorted(set(found.task.classes) - set(found.targets[~held].tolist()), key=str)
    if lacking or held.all() or not held.any():
        raise DataError(
            "validation",
            expected="examples of every class to learn from, and some to hold out",
            found=f"no example of {lacking[0]!r} to learn from" if lacking else f"{held.sum()} held out of {len(held)}",
            remedy="Label more examples, or pass other groups or held-out examples.",
        )
