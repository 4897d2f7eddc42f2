"""`Evidence`: what is measured of the data before anything is recommended, in the order in which it costs."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from typing import Any

import numpy as np

from graft.data import Task, missing
from graft.evaluation.advice.budget import Budget
from graft.evaluation.advice.learning_curve import LearningCurve, learning_curve
from graft.evaluation.advice.models import model_of, reads_features
from graft.evaluation.advice.question import METRICS, Question
from graft.evaluation.comparison.candidates import FROZEN, RAW
from graft.importance import domain_auc, mmd_test
from graft.importance.diagnosis import differ
from graft.metrics import Evaluation
from graft.techniques.technique import held_out_evaluation, labelled_rows

# Examples of each domain that the tests of a shift look at.
_COMPARED = 1000


@dataclass(frozen=True)
class TaskSize:
    """How much there is to learn a task from.

    Parameters
    ----------
    name, kind : str
        Of the task; the name may be empty.
    labels : int
        Examples that have a label of it.
    classes : int
        How many; 0 for numbers.
    smallest, median, largest : int or None
        Examples of a class; None where an example has no single class.
    chance : float
        The score of always giving the commonest answer.
    """

    name: str
    kind: str
    labels: int
    classes: int
    smallest: int | None
    median: int | None
    largest: int | None
    chance: float


@dataclass(frozen=True)
class Shift:
    """How the labelled examples differ from those that the model is for.

    Parameters
    ----------
    against : str
        ``"target"`` or ``"test split"``.
    examples : int
        How many those are.
    auc, low, high : float
        How well a classifier tells the two apart (0.5: not at all), with its 95 % interval.
    p_value : float
        The smaller one of the classifier test's and the kernel test's, times two.
    found : bool
        Whether there is a difference, at a level of 5 % for both tests together.
    """

    against: str
    examples: int
    auc: float
    low: float
    high: float
    p_value: float
    found: bool


@dataclass(frozen=True)
class Evidence:
    """What was measured.

    Parameters
    ----------
    examples : int
        Labelled ones.
    sizes : tuple of TaskSize
        One for each task.
    missing : float
        The share of empty cells of the label table.
    shift : Shift or None
        None where there is nothing to compare with.
    frozen, raw : tuple of (LearningCurve or None)
        For each task, of a head on the frozen features and of one on the input itself; None where there are too few
        examples, or (raw) the inputs are vectors already.
    """

    examples: int
    sizes: tuple[TaskSize, ...]
    missing: float
    shift: Shift | None
    frozen: tuple[LearningCurve | None, ...]
    raw: tuple[LearningCurve | None, ...]

    @property
    def imbalance(self) -> float:
        """The examples of the largest class for one of the smallest, in the task where that is most."""
        return max((one.largest / max(one.smallest or 0, 1) for one in self.sizes if one.largest), default=1.0)

    def to_dict(self) -> dict[str, Any]:
        """Return plain values."""
        return {
            "examples": self.examples,
            "tasks": [asdict(one) for one in self.sizes],
            "imbalance": self.imbalance,
            "missing_cells": self.missing,
            "shift": None if self.shift is None else asdict(self.shift),
            "frozen_features": [None if one is None else one.to_dict() for one in self.frozen],
            "raw_input": [None if one is None else one.to_dict() for one in self.raw],
        }


def evidence(question: Question, budget: Budget, *, test_features: Any = None) -> Evidence:
    """Measure size, classes, missing cells, shift, and learning curves of two heads that cost little.

    Once the budget is spent, the heads are fitted to all examples alone, and the curves have one point.

    Parameters
    ----------
    question : Question
        The data.
    budget : Budget
        That is kept.
    test_features : array, optional
        Of a given test split, to compare with where there is no target.
    """
    gaps = missing(question.labels)
    columns = [(task, *_labels_of(question, place)) for place, task in enumerate(question.tasks)]
    raw = RAW in question.techniques
    return Evidence(
        question.examples,
        tuple(_size(task, labels) for task, labels, _ in columns),
        float(gaps.mean()) if gaps.ndim == 2 else 0.0,
        _shift(question, test_features),
        tuple(_curve(FROZEN, question, budget, task, labels, rows) for task, labels, rows in columns),
        tuple(_curve(RAW, question, budget, task, labels, rows) if raw else None for task, labels, rows in columns),
    )


def _labels_of(question: Question, place: int) -> tuple[np.ndarray, np.ndarray]:
    """Return the labels of a task that are known, and their rows."""
    if question.several:
        rows = question.known(place)
        return question.column(place)[rows], rows
    return question.labels, np.arange(question.examples)


def _size(task: Task, labels: np.ndarray) -> TaskSize:
    if task.kind == "classification":
        _, counts = np.unique(task.codes(labels), return_counts=True)
        each = (int(counts.min()), int(np.median(counts)), int(counts.max()))
        return TaskSize(
            task.name, task.kind, len(labels), len(task.classes), *each, chance=float(counts.max() / len(labels))
        )
    chance = 0.0
    if task.kind == "multilabel":
        known = ~missing(labels)
        share = np.where(known, np.where(known, labels, 0).astype(np.float64), 0).sum(axis=0) / np.maximum(
            known.sum(axis=0), 1
        )
        chance = float(np.maximum(share, 1 - share).mean())
    return TaskSize(task.name, task.kind, len(labels), len(task.classes), None, None, None, chance)


def _shift(question: Question, test_features: Any) -> Shift | None:
    there, against = test_features, "test split"
    if question.target is not None:
        there, against = question.target.inputs, "target"
    if there is None:
        return None
    draws = np.random.default_rng(question.seed)
    here, beyond = (
        table[np.sort(draws.permutation(table.shape[0])[:_COMPARED])] for table in (question.features, there)
    )
    auc = domain_auc(here, beyond, random_state=question.seed)
    mmd = mmd_test(here, beyond, random_state=question.seed)
    p_value = min(2 * min(auc.p_value, mmd.p_value), 1.0)
    return Shift(against, there.shape[0], auc.auc, auc.low, auc.high, p_value, bool(differ(auc, mmd)))


def _curve(
    name: str, question: Question, budget: Budget, task: Task, labels: np.ndarray, rows: np.ndarray
) -> LearningCurve | None:
    """Return the learning curve of a technique whose head is chosen by cross-validation: that is its score."""
    X = question.features if reads_features(name) else question.inputs

    def measured(chosen: np.ndarray) -> Evaluation | None:
        some = labels[chosen]
        if not labelled_rows(some).any():
            return None
        model = model_of(name, question, task)
        groups = None if question.groups is None else question.groups[rows[chosen]]
        model.fit(X[rows[chosen]], some, groups=groups)
        return held_out_evaluation(model.task_, model.head_, some, groups=groups)

    # Of several tasks there are many heads to fit: one number of examples each has to do.
    more = (lambda: False) if question.several else (lambda: budget.left > 0)
    return learning_curve(measured, labels, task, METRICS[task.kind], seed=question.seed, more=more)
