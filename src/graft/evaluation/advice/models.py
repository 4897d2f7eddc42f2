"""Each technique as a model of the question's examples, and how right it is on held-out ones."""

from __future__ import annotations

from typing import Any

import numpy as np

from graft.data import Task, missing
from graft.evaluation.advice.question import Question
from graft.evaluation.comparison.candidates import (
    ADAPTED,
    FROZEN,
    RAW,
    SCRATCH,
    SCRATCH_FACTOR,
    TOGETHER,
    TUNED,
    image_size_of,
)
from graft.evaluation.comparison.raw_input import RawInput
from graft.techniques import DomainAdaptation, FeatureExtraction, FineTuning, MultiTask
from graft.techniques.technique import label_table, numbers


def model_of(name: str, question: Question, task: Task, *, share: float = 1.0, epochs: Any = None) -> Any:
    """Return the unfitted model of a technique for one task.

    Parameters
    ----------
    name : str
        The technique.
    question : Question
        What it is for.
    task : Task
        The task, or one of several.
    share : float
        The part of the epochs that a network is trained.
    epochs : float, optional
        How many those are; by default the question's.
    """
    common: dict[str, Any] = {"task": task.kind, "random_state": question.seed}
    if task.kind == "multilabel":
        common["label_names"] = task.classes
    if name == RAW:
        return RawInput(question.modality, **common)
    if name == FROZEN:  # on features, which are computed once
        return FeatureExtraction(None, store=False, **common)
    backbone = question.backbone
    assert backbone is not None
    common |= {"store": question.store, "views": question.views, "device": str(backbone.device)}
    asked = question.epochs if epochs is None else epochs
    if name == TUNED:
        return FineTuning(backbone, epochs=asked if asked == "auto" else share * asked, **common)
    assert name == SCRATCH
    return FineTuning(
        backbone.name,
        pretrained=False,
        image_size=image_size_of(backbone),
        layer=backbone.layer,
        pooling=backbone.pooling,
        epochs=asked if asked == "auto" else SCRATCH_FACTOR * share * asked,
        **common,
    )


def reads_features(name: str) -> bool:
    """Whether the model of a technique takes the features in the place of the inputs."""
    return name in (FROZEN, TOGETHER, ADAPTED)


def rightness(
    name: str, question: Question, learnt: np.ndarray, asked: np.ndarray, *, share: float = 1.0, epochs: Any = None
) -> np.ndarray:
    """Fit a technique to some rows and return how right it is on others, NaN where nobody knows.

    Parameters
    ----------
    name : str
        The technique.
    question : Question
        The data.
    learnt, asked : array of int
        Rows to learn from, and m rows to predict.
    share, epochs
        As in `model_of`.

    Returns
    -------
    array of shape (m, tasks)
        1 for a right class, 0 for a wrong one; the share of right cells of a multi-label row; for numbers
        1 - (y - f)² / v, with v the variance of the labels asked for: its mean is R².
    """
    if name == TOGETHER:
        return _together(question, learnt, asked)
    columns = []
    for place, task in enumerate(question.tasks):
        here, there = learnt, asked
        if question.several:
            here, there = (np.intersect1d(rows, question.known(place)) for rows in (learnt, asked))
        found = np.full(len(asked), np.nan)
        if len(there):
            labels = question.column(place) if question.several else question.labels
            predicted = _alone(name, question, task, labels, here, there, share, epochs)
            found[np.isin(asked, there)] = _right(task, labels[there], predicted)
        columns.append(found)
    return np.stack(columns, axis=1)


def _alone(
    name: str,
    question: Question,
    task: Task,
    labels: np.ndarray,
    learnt: np.ndarray,
    asked: np.ndarray,
    share: float,
    epochs: Any,
) -> np.ndarray:
    model = model_of(name, question, task, share=share, epochs=epochs)
    X = question.features if reads_features(name) else question.inputs
    groups = None if question.groups is None else question.groups[learnt]
    model.fit(X[learnt], labels[learnt], groups=groups)
    return model.predictions(X[asked]).labels


def _together(question: Question, learnt: np.ndarray, asked: np.ndarray) -> np.ndarray:
    model = multi_task(question)
    groups = None if question.groups is None else question.groups[learnt]
    model.fit(question.features[learnt], question.labels[learnt], groups=groups)
    found = model.predictions(question.features[asked])
    columns = []
    for place, task in enumerate(question.tasks):
        labels = question.column(place)[asked]
        right, known = np.full(len(asked), np.nan), ~missing(labels)
        if known.any():
            right[known] = _right(task, labels[known], np.asarray(found[task.name].labels)[known])
        columns.append(right)
    return np.stack(columns, axis=1)


def multi_task(question: Question) -> MultiTask:
    """Return the unfitted model of all tasks at once, on the features."""
    return MultiTask(
        None,
        tasks={task.name: task.kind for task in question.tasks},
        label_names=[task.name for task in question.tasks],
        compare=False,
        store=False,
        random_state=question.seed,
    )


def adapted(question: Question, *, budget: float | None) -> DomainAdaptation:
    """Return the model that is adapted to the target on features, fitted within a budget of seconds."""
    task = question.tasks[0]
    names = {"label_names": task.classes} if task.kind == "multilabel" else {}
    model = DomainAdaptation(
        None,
        task=task.kind,
        budget=budget,
        store=False,
        random_state=question.seed,
        **names,  # type: ignore[arg-type]
    )
    return model.fit(question.features, question.labels, groups=question.groups, target=question.target)


def _right(task: Task, labels: np.ndarray, predicted: Any) -> np.ndarray:
    if task.kind == "classification":
        pairs = zip(labels.ravel().tolist(), np.asarray(predicted).tolist(), strict=True)
        return np.array([float(one == other) for one, other in pairs])
    if task.kind == "multilabel":
        table = label_table(labels)
        right = np.where(np.isfinite(table), (table > 0.5) == np.asarray(predicted, bool), np.nan)
        return np.nanmean(right, axis=1)
    truth = numbers(labels).reshape(len(labels), -1)
    error = (truth - np.asarray(predicted, np.float64).reshape(truth.shape)) ** 2
    variance = truth.var(axis=0)
    return (1 - error / np.where(variance > 0, variance, 1)).mean(axis=1)
