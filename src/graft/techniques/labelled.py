"""From what a user passes to `fit` to the examples that can be trained on."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np

from graft._checks import integer, one_of
from graft._progress import progress
from graft.backbones import Backbone, Unreadable, embed
from graft.backbones.embedding import input_count, input_name
from graft.backbones.store import open_store
from graft.data import IMAGE_SUFFIXES, Task, class_order, infer_task, label_array, require_trainable
from graft.data.task import written_as_booleans
from graft.data.values import filled_groups
from graft.errors import DataError, RequestError, UnreadableInputsError
from graft.techniques.kept_heads import KeptHeads
from graft.techniques.technique import Failure, labelled_rows, require_one_each, targets_of
from graft.training import prefetch

# Inputs that are read together.
_READ_TOGETHER = 16
KINDS = ("auto", "classification", "multilabel", "regression")


@dataclass(frozen=True, eq=False)
class Labelled:
    """Examples that could be read, with their labels.

    Parameters
    ----------
    task : Task
        What is predicted.
    rows : array of shape (n,)
        Which of the user's inputs they are.
    features : array of shape (n, d), or (n, views, d) for several views, or None
        Those of the frozen network; None where the inputs were read only.
    labels : array of shape (n,) or (n, columns)
        As the user wrote them.
    targets : array of shape (n,) or (n, columns)
        The labels as heads take them: numbers for a regression, 0, 1 and NaN for a multi-label table.
    sample_weight, groups : array of shape (n,) or None
        As the user passed them.
    failures : tuple of (int, str, str)
        Row, name and reason of each input that could not be read.
    unlabelled : int
        How many had no label.
    known : array of bool (n,), optional
        Which of the examples have a label, where some without one are trained on too: what stands in the place of
        their labels means nothing. None: all.
    kept : KeptHeads
        Where heads fitted on the features are kept.
    """

    task: Task
    rows: np.ndarray
    features: Any
    labels: np.ndarray
    targets: np.ndarray
    sample_weight: np.ndarray | None
    groups: np.ndarray | None
    failures: tuple[Failure, ...]
    unlabelled: int
    known: np.ndarray | None = None
    kept: KeptHeads = field(default_factory=KeptHeads)


@dataclass(frozen=True, eq=False)
class Given:
    """What a user passes to `fit`: as many labels, weights and groups as inputs, and labels that can be learnt from.

    Parameters
    ----------
    inputs : sequence of n inputs, or array
        Whether they can be read, nobody has looked yet.
    task : Task
        What is predicted.
    labels : array of shape (n,) or (n, columns)
        As the user wrote them; some may be missing.
    sample_weight, groups : array of shape (n,) or None
        As the user passed them.
    """

    inputs: Any
    task: Task
    labels: np.ndarray
    sample_weight: np.ndarray | None
    groups: np.ndarray | None


def given(
    X: Any, y: Any, *, task: str, label_names: Sequence[str] | None, sample_weight: Any = None, groups: Any = None
) -> Given:
    """Check what a user passes to `fit`, as far as that is possible before any input is read.

    Raises
    ------
    RequestError
        If there is no such task.
    DataError
        If there are not as many labels, weights or groups as inputs, or nothing can be learnt from the labels.
    """
    one_of("task", task, KINDS)
    if isinstance(X, str | bytes):
        raise RequestError(
            "X", expected="a sequence of inputs", found=f"one {type(X).__name__}", remedy="Pass [input], and [label]."
        )
    labels = label_array(y)
    if task == "multilabel":
        labels = labels.reshape(len(labels), -1)
    for subject, values in (("y", labels), ("sample_weight", sample_weight), ("groups", groups)):
        if values is not None:
            require_one_each(subject, values, input_count(X))
    predicted = _task(task, labels, getattr(y, "columns", ()) if label_names is None else label_names)
    if predicted.kind == "classification" and labels.ndim == 2 and labels.shape[1] == 1:
        labels = labels[:, 0]
    require_trainable(labels[labelled_rows(labels)], predicted)
    return Given(
        X,
        predicted,
        labels,
        None if sample_weight is None else np.asarray(sample_weight),
        None if groups is None else filled_groups(groups),
    )


def embedded(
    backbone: Backbone,
    what: Given,
    *,
    views: int,
    batch_size: int | None,
    precision: str,
    store: Any,
    strict: bool,
    random_state: int | None,
) -> Labelled:
    """Embed the inputs, and return those that could be read and have a label.

    Raises
    ------
    RequestError
        If an option cannot be used.
    DataError
        If the inputs are not what the network reads, or nothing can be learnt from those that could be read.
    UnreadableInputsError
        If no input can be read, or with `strict` if one cannot.
    """
    integer("views", views, low=1)
    if views > 1 and backbone.modality != "image":
        raise RequestError(
            "views", expected=f"1 for {backbone.modality} inputs", found=str(views), remedy="Pass views=1."
        )
    require_texts(backbone, what.inputs)
    store = open_store(store)
    embedding = embed(
        backbone,
        what.inputs,
        batch_size=batch_size,
        precision=precision,
        store=store,
        views=views,
        random_state=random_state or 0,
        strict=strict,
    )
    found = _labelled(what, embedding.rows, embedding.features, embedding.failures)
    return replace(found, kept=KeptHeads(store, backbone.name))


def readable(backbone: Backbone, what: Given, *, strict: bool) -> Labelled:
    """Read the inputs, and return those that could be read and have a label; there are no features of them.

    Raises
    ------
    DataError
        If the inputs are not what the network reads, or nothing can be learnt from those that could be read.
    UnreadableInputsError
        If no input can be read, or with `strict` if one cannot.
    """
    rows, failures = readable_rows(backbone, what.inputs, strict=strict)
    return _labelled(what, rows, None, failures)


def readable_rows(backbone: Backbone, inputs: Any, *, strict: bool) -> tuple[np.ndarray, tuple[Failure, ...]]:
    """Read inputs, and return the rows of those that could be read, and the others with the reason.

    Raises
    ------
    DataError
        If the inputs are not what the network reads.
    UnreadableInputsError
        With `strict`, if one cannot be read.
    """
    require_texts(backbone, inputs)
    sources = list(inputs)
    parts = range(0, len(sources), _READ_TOGETHER)

    def reasons(number: int) -> list[str | None]:
        items = backbone.read(sources[parts[number] : parts[number] + _READ_TOGETHER])
        return [item.reason if isinstance(item, Unreadable) else None for item in items]

    found: list[str | None] = []
    with progress("reading", len(sources), "inputs") as advance:
        for part in prefetch(reasons, range(len(parts))):
            found += part
            advance(len(part))
    failures = tuple((row, input_name(sources[row]), why) for row, why in enumerate(found) if why is not None)
    if failures and strict:
        raise UnreadableInputsError(failures, len(sources))
    return np.array([row for row, why in enumerate(found) if why is None], np.intp), failures


def _labelled(what: Given, rows: np.ndarray, features: Any, failures: tuple[Failure, ...]) -> Labelled:
    """Return the examples among readable rows that have a label."""
    if not len(rows):
        raise UnreadableInputsError(failures, len(failures))
    known = labelled_rows(what.labels[rows])
    rows = rows[known]
    labels = what.labels[rows]
    task = what.task.learnable_from(labels)
    return Labelled(
        task=task,
        rows=rows,
        features=None if features is None else features[known],
        labels=labels,
        targets=targets_of(task, labels),
        sample_weight=None if what.sample_weight is None else what.sample_weight[rows],
        groups=None if what.groups is None else what.groups[rows],
        failures=failures,
        unlabelled=int((~known).sum()),
    )


def _task(kind: str, labels: np.ndarray, columns: Sequence[Any]) -> Task:
    names = tuple(str(name) for name in columns)
    name = names[0] if len(names) == 1 else ""
    if kind == "auto":
        return infer_task(labels, name=name, columns=names if labels.ndim == 2 else ())
    if kind == "regression":
        return Task(name, "regression")
    if kind == "classification":
        return Task(name, "classification", class_order(labels))
    positions = range(labels.shape[1] if labels.ndim == 2 else 1)
    names = names or tuple(str(position) for position in positions)
    return Task("", "multilabel", names, boolean=written_as_booleans(labels))


def require_texts(backbone: Backbone, inputs: Any) -> None:
    """Refuse paths of images for a network that reads texts: it would learn from the names of the folders."""
    if backbone.modality != "text":
        return
    if all(str(value).lower().endswith(tuple(IMAGE_SUFFIXES)) for value in inputs):
        raise DataError(
            "inputs",
            expected=f"texts, which {backbone.name} reads",
            found="paths of images",
            remedy="Name a network for images, such as 'efficientnet_lite0'.",
        )
