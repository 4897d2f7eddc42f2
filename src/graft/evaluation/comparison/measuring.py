"""`measure`: fit one technique to one draw of the examples, and say how good it is and what it cost."""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field, replace
from functools import cache
from typing import Any, Self

import numpy as np

from graft.backbones import Backbone, embed
from graft.data import Domain, Task, label_array
from graft.errors import DataError, GraftError
from graft.evaluation.cell import Cell
from graft.evaluation.comparison.boosted_trees import BoostedTrees
from graft.evaluation.comparison.candidates import FROZEN, Candidate, model_of
from graft.evaluation.comparison.each_task import EachTask
from graft.evaluation.comparison.energy import EnergyMeter
from graft.evaluation.comparison.evidence import SHOWN_OF_A_TASK, evidence, planes
from graft.evaluation.comparison.example_scores import known_shares, mean_of_tasks, score_values
from graft.evaluation.comparison.memory import peak_memory
from graft.evaluation.comparison.setup import Job, Setup
from graft.metrics import Estimate, Statistic, bootstrap
from graft.techniques import MultiTask, Predictions
from graft.techniques.adaptation.tournament import OUT_OF_TIME
from graft.techniques.multiple.label_columns import known_columns
from graft.techniques.multiple.stack import Stack
from graft.techniques.technique import Failure, class_columns, evaluate, numbers, task_labels

SCORES = {"classification": "accuracy", "multilabel": "accuracy", "regression": "r2", "multi-task": "score"}
# What a prediction is made of, and what of it is learnt.
_LINEAR = ("coef_", "intercept_", "dual_coef_", "prototypes_", "temperature_", "weights_")
_ADAPTED = ("centroids_", "bottleneck_", "bottleneck_intercept_", "map_", "target_map_", "matrix_", "images_")
_LEARNT = (*_LINEAR, *_ADAPTED)
_SCALING = ("centers_", "location_", "scale_", "location", "scale", "mean_", "target_mean_", "target_scale_")
_KEPT = (*_LEARNT, *_SCALING, "examples_", "codes_")
_PARTS = ("head", "head_", "mapping", "flow_", "standardization_")
# A backward pass costs two forward passes.
_STEP = 3
_FEW = 24  # vectors that a technique is fitted to before any cost is measured


@dataclass(frozen=True, eq=False)
class Measured:
    """A cell, and what is needed beside it to compare it with others.

    Parameters
    ----------
    cell : Cell
        It.
    rows : array of shape (t,)
        The rows that were tested on and could be read.
    values : array of shape (t,)
        What each of them adds to the score: their mean is the score.
    tasks : dict of str to array (t,)
        Several tasks: what each of them adds to the score of that task, NaN where its label is not known.
    seconds : float
        Training and prediction, without embedding: what a like cell will take.
    details : tuple of dict
        For the report: of each task that was tested.
    unread, untested : tuple of (int, str, str)
        Row, name and reason of each input that could not be read: of those to learn from, and of those to test on.
    shares : array of shape (t,) or None
        Multi-label: the known cells of each row, divided by their mean; under other weights than equal ones the score
        is the weighted mean of the values, divided by that of the shares. None: all are 1.
    cut_short : bool
        Whether the time that was left ended it, which no later comparison is to continue with.
    """

    cell: Cell
    rows: np.ndarray = field(default_factory=lambda: np.empty(0, np.intp))
    values: np.ndarray = field(default_factory=lambda: np.empty(0))
    tasks: Mapping[str, np.ndarray] = field(default_factory=dict)
    seconds: float = 0.0
    details: tuple[Mapping[str, Any], ...] = ()
    unread: tuple[Failure, ...] = ()
    untested: tuple[Failure, ...] = ()
    shares: np.ndarray | None = None
    cut_short: bool = False

    def to_dict(self) -> dict[str, Any]:
        """Return plain values that JSON can hold."""
        return {
            "cell": self.cell.to_dict(),
            "rows": self.rows.tolist(),
            "values": self.values.tolist(),
            "tasks": {name: [None if np.isnan(one) else one for one in each] for name, each in self.tasks.items()},
            "seconds": self.seconds,
            "details": [dict(one) for one in self.details],
            "unread": [list(one) for one in self.unread],
            "untested": [list(one) for one in self.untested],
            "shares": None if self.shares is None else self.shares.tolist(),
        }

    def of_task(self, name: str) -> Measured:
        """Return the same cell as if one of several tasks, of `tasks`, were all that was measured."""
        known = ~np.isnan(self.tasks[name])
        return replace(self, rows=self.rows[known], values=self.tasks[name][known], tasks={})

    @classmethod
    def from_dict(cls, plain: Mapping[str, Any]) -> Self:
        """Return what `to_dict` made `plain` of."""
        unread, untested = (
            tuple((row, name, why) for row, name, why in plain[part]) for part in ("unread", "untested")
        )
        return cls(
            Cell.from_dict(plain["cell"]),
            np.array(plain["rows"], np.intp),
            np.array(plain["values"], np.float64),
            {name: np.array(each, np.float64) for name, each in plain["tasks"].items()},
            float(plain["seconds"]),
            tuple(plain["details"]),
            unread,
            untested,
            None if plain["shares"] is None else np.array(plain["shares"], np.float64),
        )


def measure(setup: Setup, job: Job, meter: EnergyMeter, *, seconds: float | None = None) -> Measured:
    """Fit, predict the test examples, and return what was found; `seconds` are left of the budget (None: no end)."""
    candidate, deal, rows, domain = job.candidate, job.deal, job.rows, setup.domain
    adapts = candidate.method is not None
    model = model_of(
        candidate,
        setup.tasks,
        modality=setup.modality,
        backbone=setup.backbone,
        device=setup.device,
        epochs=setup.epochs,
        store=setup.store,
        label_names=setup.label_names,
        seed=deal.seed,
        seconds=seconds,
    )
    learnt = domain.take(rows)
    further: dict[str, Any] = {"target": setup.unlabelled_target} if adapts else {}
    network = setup.backbone if candidate.embeds and setup.store is not False else None
    if network is not None:
        # Before the meters run: what the frozen network takes is charged to every cell alike, from a sample.
        seen = [learnt, setup.adapted_to] if adapts and setup.adapted_to is not None else [learnt]
        for one in seen if candidate.trains else [*seen, setup.tested.take(deal.test)]:
            embed(network, one.inputs, store=setup.store, strict=False, progress=False)
    _warm(candidate, setup.tasks)
    before = meter.reading()
    with peak_memory(None if setup.backbone is None else setup.backbone.device) as peak:
        model.fit(learnt.inputs, learnt.labels, groups=learnt.groups, **further)
    joules = meter.joules_since(before)
    started = time.perf_counter()
    tested = setup.tested.take(deal.test)
    if candidate.trains:
        model.store = False  # features of a network that is thrown away in a moment are not worth keeping
    answers = model.predictions(tested.inputs)
    judged = (
        _judge_each(setup, deal.test, tested, answers)
        if len(setup.tasks) > 1
        else _judge(setup, deal.test, tested, answers, model)
    )
    predicting = time.perf_counter() - started
    if "adapted" in candidate.sides:
        assert setup.target is not None
        frozen = model.backbone_ if setup.backbone is None else setup.backbone
        points = planes(model, frozen, domain, rows, setup.target, store=setup.store, seed=deal.seed)
        judged.details[0]["coordinates"] = points
    n_train = len(rows) - len(model.left_out_)
    more = setup.adapted_to.size if adapts and setup.adapted_to is not None else 0
    embedded = n_train + more if candidate.embeds else 0
    cell = Cell(
        candidate.name,
        job.budget,
        deal.seed,
        n_train,
        score=judged.score,
        metrics=judged.metrics,
        tasks=judged.tasks,
        seconds=_seconds(setup, job, model, embedded),
        peak_memory_mib=_peak(setup, job, peak.mib),
        energy_joules=_joules(setup, joules, 0 if network is None else embedded),
        flops=_flops(setup, job, model, embedded),
        **_parameters(setup, job, model),
    )
    which = {name: getattr(cell, name) for name in ("technique", "budget", "seed", "n_train")}
    return Measured(
        cell,
        judged.rows,
        judged.values,
        judged.task_values,
        cell.seconds["training"] + predicting,
        tuple({**which, **one} for one in judged.details),
        _failures(rows, model.left_out_),
        _failures(deal.test, _first(answers).failures),
        judged.shares,
        cut_short=seconds is not None and candidate.method == "auto" and _cut_short(model, seconds),
    )


def _cut_short(model: Any, seconds: float) -> bool:
    """Return whether a tournament would have tried further methods, had there been more than so many seconds."""
    return model.budget == seconds and OUT_OF_TIME in model.adaptation_["tournament"]["left_out"].values()


def _first(answers: Any) -> Predictions:
    """Return the predictions, of several tasks those of the first: all are of the same inputs."""
    found: Predictions = next(iter(answers.values())) if isinstance(answers, Mapping) else answers
    return found


def _failures(rows: np.ndarray, failures: Sequence[Failure]) -> tuple[Failure, ...]:
    """Return what could not be read of some rows, by its row of the domain."""
    return tuple((int(rows[row]), name, reason) for row, name, reason in failures)


@cache
def _warm(candidate: Candidate, tasks: tuple[Task, ...]) -> None:
    """Fit a technique to a few drawn vectors, once in a process.

    What libraries load and keep when they are first used would else be a cost of the first cell.
    """
    # Heads come before a training, too; the network itself was run when its cost was measured.
    like = replace(candidate, name=FROZEN, method=None) if candidate.trains else candidate
    few = [replace(task, classes=task.classes[:2]) for task in tasks]
    draw = np.random.default_rng(0)
    vectors = draw.normal(size=(_FEW, 3)).astype(np.float32)
    columns: list[Any] = []
    for task in few:
        if task.kind == "classification":
            columns.append([task.classes[row % 2] for row in range(_FEW)])
        elif task.kind == "multilabel":
            columns += (draw.normal(size=(len(task.classes), _FEW)) > 0).astype(float).tolist()
        else:
            columns.append(draw.normal(size=_FEW).tolist())
    labels = label_array(columns[0] if len(columns) == 1 else [list(row) for row in zip(*columns, strict=True)])
    names = [task.name for task in few] if len(few) > 1 else None
    model = model_of(
        like,
        few,
        modality="features",
        backbone=None,
        device=None,
        epochs="auto",
        store=False,
        label_names=names,
        seed=0,
    )
    further = {} if like.method is None else {"target": Domain(vectors + 1)}
    with suppress(GraftError, ValueError):  # what cannot be fitted says so in its cell
        model.fit(vectors, labels, groups=None, **further)
        model.predictions(vectors)


@dataclass(frozen=True, eq=False)
class _Judged:
    """What the predictions of the test examples are worth."""

    score: Estimate
    metrics: dict[str, Estimate]
    tasks: dict[str, dict[str, Estimate]]
    rows: np.ndarray
    values: np.ndarray
    task_values: dict[str, np.ndarray]
    details: list[dict[str, Any]]
    shares: np.ndarray | None = None


def _judge(setup: Setup, rows: np.ndarray, tested: Domain, found: Predictions, model: Any) -> _Judged:
    task = setup.task
    if task.kind == "classification":
        assert found.probabilities is not None
        # A model that was fitted to few examples knows the classes among them, and no others.
        found = replace(found, probabilities=class_columns(found.probabilities, model.task_.classes, task.classes))
    labels = task_labels(task, tested.labels, columns=tested.tasks)[found.rows]
    groups = None if tested.groups is None else np.asarray(tested.groups)[found.rows]
    if task.kind == "regression" and (np.ptp(numbers(labels).reshape(len(labels), -1), axis=0) == 0).any():
        raise _untestable("different numbers, to have an R²", "one and the same")
    evaluation = evaluate(task, labels, found.labels, found.probabilities, groups=groups)
    details = evidence(setup.tested, setup.modality, rows[found.rows], labels, found, task, evaluation)
    values = score_values(task, labels, found)
    metrics = evaluation.metrics
    shares = known_shares(labels) if task.kind == "multilabel" else None
    return _Judged(metrics[SCORES[task.kind]], metrics, {}, rows[found.rows], values, {}, [details], shares)


def _judge_each(setup: Setup, rows: np.ndarray, tested: Domain, found: Mapping[str, Predictions]) -> _Judged:
    r"""Judge several tasks.

    The score is the mean over the K tasks of their scores (a resample without a label of one: of the others). With
    :math:`n_k` of n examples labelled for task k, an example adds :math:`\frac1K \sum_k \frac{n}{n_k} v_{ik}` over the
    tasks that it has a label of. A task without labels among them, or with equal numbers, has no score and is passed
    over.
    """
    read = _first(found).rows
    groups = None if tested.groups is None else np.asarray(tested.groups)[read]
    metrics: dict[str, dict[str, Estimate]] = {}
    task_values: dict[str, np.ndarray] = {}
    details: list[dict[str, Any]] = []
    for column in known_columns(tested.labels, setup.tasks, setup.label_names):
        task, known = column.task, column.known[read]
        varies = task.kind != "regression" or len(np.unique(column.labels[read][known].astype(np.float64))) > 1
        if not known.any() or not varies:  # without a label nothing can be said, and of equal numbers there is no R²
            continue
        one = found[task.name]
        labels = column.labels[read]
        evaluation = evaluate(task, labels, one.labels, one.probabilities, groups=groups)
        metrics[task.name] = evaluation.metrics
        part = Predictions(
            read[known],
            np.asarray(one.labels)[known],
            None if one.probabilities is None else one.probabilities[known],
            None if one.ood_scores is None else one.ood_scores[known],
            (),
        )
        told = evidence(
            setup.tested,
            setup.modality,
            rows[read[known]],
            labels[known],
            part,
            task,
            evaluation,
            shown=SHOWN_OF_A_TASK,
        )
        details.append({**told, "task": task.name})
        task_values[task.name] = np.full(len(read), np.nan)
        task_values[task.name][known] = score_values(task, labels[known], part)
    if not task_values:
        raise _untestable("labels of one task or more that differ", "none")
    table = np.stack(list(task_values.values()), axis=1)
    present = np.isfinite(table)
    values = (np.nan_to_num(table) / present.mean(axis=0)).mean(axis=1)
    numbered = any(task.kind == "regression" for task in setup.tasks)
    statistic = Statistic(
        np.concatenate([np.nan_to_num(table), present], axis=1), mean_of_tasks, (-np.inf if numbered else 0, 1)
    )
    score = bootstrap({"score": statistic}, groups=groups)["score"]
    return _Judged(score, {"score": score}, metrics, rows[read], values, task_values, details)


def _untestable(expected: str, found: str) -> DataError:
    return DataError("labels that are tested on", expected=expected, found=found, remedy="Test on more examples.")


def head_numbers(head: Any) -> tuple[int, int]:
    """Return how many numbers of a head were learnt, and how many a prediction needs."""
    learnt = kept = 0
    held = vars(head)
    for name in _KEPT:
        if isinstance(held.get(name), np.ndarray):
            kept += held[name].size
            learnt += held[name].size if name in _LEARNT else 0
    members = [held[name] for name in _PARTS if held.get(name) is not None and not isinstance(held[name], str)]
    heads = held.get("heads_", {})
    members += list(heads.values() if isinstance(heads, dict) else heads)
    for member in members:
        one, other = head_numbers(member)
        learnt, kept = learnt + one, kept + other
    return learnt, kept


def _seconds(setup: Setup, job: Job, model: Any, embedded: int) -> dict[str, float]:
    told = model.seconds_
    if job.candidate.embeds:
        data, features = embedded * setup.cost.data_seconds, embedded * setup.cost.feature_seconds
    elif job.candidate.trains:
        data, features = told["features"], 0.0  # nothing is embedded: it is the time in which the inputs were read
    else:
        data, features = told.get("data", 0.0), 0.0
    training = told["training"]
    return {"data": data, "features": features, "training": training, "total": data + features + training}


def _peak(setup: Setup, job: Job, mib: float | None) -> float | None:
    if mib is None or not job.candidate.embeds:
        return mib
    return max(mib, setup.cost.peak_mib or 0.0) + setup.cost.network_mib


def _joules(setup: Setup, joules: float | None, embedded: int) -> float | None:
    return None if joules is None else joules + embedded * (setup.cost.energy_joules or 0.0)


def _parameters(setup: Setup, job: Job, model: Any) -> dict[str, Any]:
    if isinstance(model, BoostedTrees):  # trees have no parameters that could be counted beside others
        return {}
    learnt, kept = (sum(pair) for pair in zip(*(head_numbers(one) for one in _heads(model)), strict=True))
    if job.candidate.trains:
        networks = sum(one.parameters for one in _networks(model))
        trained = sum(told["trained_parameters"] for told in _trainings(model) if told.get("served") != "probe")
        if all(told.get("served") == "probe" for told in _trainings(model)):
            trained = learnt
        return {"trainable_parameters": trained, "total_parameters": networks + kept}
    network = setup.backbone.parameters if setup.backbone is not None and job.candidate.embeds else 0
    return {"trainable_parameters": learnt, "total_parameters": network + kept}


def _heads(model: Any) -> list[Any]:
    """Return what stands behind the network, or in its place."""
    match model:
        case EachTask():
            return [one.head_ for one in model.models_.values()]
        case MultiTask():
            found = [head for part in model.parts_ for head in part.heads.values()]
            # Of a stack, the heads that are read first weigh most; what is added to them are a few numbers.
            stacks = [part.middle for part in model.parts_ if isinstance(part.middle, Stack)]
            return found + [stack.first[name] for stack in stacks for name in stack.fused]
        case _:
            return [model.head_]


def _networks(model: Any) -> list[Backbone]:
    """Return the networks that a model which was trained has: of each task alone its own."""
    match model:
        case EachTask():
            return [one.backbone_ for one in model.models_.values()]
        case MultiTask():
            return [part.backbone for part in model.parts_]
        case _:
            return [model.backbone_]


def _trainings(model: Any) -> list[Mapping[str, Any]]:
    """Return how each training of a model went."""
    match model:
        case EachTask():
            return [one.training_ for one in model.models_.values()]
        case MultiTask():
            return list(model.training_)
        case _:
            return [model.training_]


def _flops(setup: Setup, job: Job, model: Any, embedded: int) -> dict[str, float] | None:
    forward = setup.cost.flops
    if forward is None or not (job.candidate.embeds or job.candidate.trains):
        return None
    passes: float = embedded
    if job.candidate.trains:
        passes += sum(_STEP * told["examples_seen"] + told["examples_evaluated"] for told in _trainings(model))
    return {"forward": forward, "training": forward * passes}
