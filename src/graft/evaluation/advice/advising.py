"""`advise`: measure, forecast, check, and say which technique."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import numpy as np

from graft import _runtime
from graft._checks import integer, number
from graft.backbones import FeatureBackbone, embed, load_backbone
from graft.backbones.catalogue import DEFAULT_BACKBONES
from graft.data import Domain, Task, label_array, missing, modality_of
from graft.errors import DataError, GraftError, RequestError, UnreadableInputsError
from graft.evaluation.advice.advice import Advice, AdvisedCandidate
from graft.evaluation.advice.budget import Budget
from graft.evaluation.advice.evidence import evidence
from graft.evaluation.advice.forecast import Forecast, forecasts
from graft.evaluation.advice.models import adapted
from graft.evaluation.advice.question import METRICS, Question
from graft.evaluation.advice.reasons import check_reason, conclusion, forecast_reason, measured_reasons
from graft.evaluation.advice.training_cost import TrainingCost, training_cost
from graft.evaluation.advice.trial import FOLDS, LEAST_SHARE, Trial, check, value_of_checking, worth_checking
from graft.evaluation.comparison.candidates import ADAPTED, FROZEN, RAW, SCRATCH, TOGETHER, TUNED
from graft.evaluation.comparison.training_length import BATCH, training_steps
from graft.techniques.adaptation.tournament import OUT_OF_TIME
from graft.techniques.labelled import given, require_texts
from graft.techniques.multiple.label_columns import label_columns
from graft.techniques.technique import labelled_rows, require_one_each

_TRAININGS = (TUNED, SCRATCH)
# A training that was not checked is advised where it is better with at least this probability.
_CONFIDENT = 0.8


def advise(
    X: Any,
    y: Any = None,
    *,
    target: Any = None,
    test: Any = None,
    backbone: Any = "auto",
    task: str = "auto",
    label_names: Any = None,
    groups: Any = None,
    layer: Any = None,
    pooling: str | None = None,
    image_size: Any = None,
    epochs: Any = "auto",
    views: int | None = None,
    budget: float | None = 60.0,
    device: str | None = None,
    store: Any = True,
    random_state: int = 0,
) -> Advice:
    r"""Say which technique suits the data, and why: measured on it.

    Measured, cheap things first: size, classes and imbalance, empty label cells; whether target (or test) examples have
    another distribution (a classifier and a kernel two-sample test on features); learning curves of a head on the
    frozen features and of one on the input itself (32 x 32 pixels, TF-IDF), which say how similar the task is to the
    pretraining and what room there is. From these a score with an uncertainty is forecast for each technique, and the
    two that may be the best are tried on held-out examples, fifths of the data in turn, if that can change the advice
    and fits the budget: a training step is timed first. Forecast and check are weighed by their precision.

    A target whose labels nobody knows leaves nothing to check by but what the methods of adaptation say of each other
    (the tournament of ``DomainAdaptation(method="auto")``): if none of them convinces, the source is used as it is.

    Parameters
    ----------
    X : Domain, or sequence of n inputs
        Paths, PIL images or arrays; texts; or feature vectors. A domain brings labels and groups, and of its splits
        ``train`` is learnt from and ``test`` compared with.
    y : array of shape (n,), or (n, columns)
        Labels. Several columns are one multi-label task if they hold zeros and ones only, and otherwise a task each.
        Examples without any label are left out.
    target : Domain or sequence of inputs, optional
        Examples of the domain where the model is to work. Labels, if it has any, are not looked at.
    test : sequence of inputs, optional
        Of a given test split: whether they have another distribution is said.
    backbone : str, path, Backbone, None or "auto"
        The pretrained network; by default ``efficientnet_lite0`` for images, ``minilm`` for texts, none for vectors.
    task : str
        As in `FeatureExtraction`; for one task.
    label_names : sequence of str, optional
        What the columns of labels are called.
    groups : array of shape (n,), optional
        Examples of one group are never divided.
    layer, pooling, image_size
        As in `FineTuning`.
    epochs : float or "auto"
        Of fine-tuning; from scratch a network takes four times as many.
    views : int, optional
        Of the trainings, as in `FineTuning`: 1 where what is mirrored or cut is another thing (digits).
    budget : float or None
        Seconds for all of this. What does not fit is not tried, and said. None: no end.
    device, store
        As in `FeatureExtraction`.
    random_state : int
        Seeds everything that is drawn.

    Returns
    -------
    Advice

    Raises
    ------
    RequestError
        If an option cannot be used.
    DataError
        If the inputs or labels cannot be used.

    Examples
    --------
    >>> import graft
    >>> from graft.data.samples import tickets
    >>> messages = tickets(domain="bank")
    >>> advice = graft.advise(messages.inputs, messages.labels[:, 0], budget=0)
    >>> advice.technique, advice.transfer_pays
    ('feature-extraction', True)
    """
    _runtime.require_one_process("advise")
    if budget is not None:
        number("budget", budget, low=0)
    if epochs != "auto":
        number("epochs", epochs, low=0, open_low=True)
    integer("random_state", random_state, low=0)
    clock = Budget(budget)
    if isinstance(X, Domain):
        learning, held = X.split("train") or X, X.split("test")
        y, groups, label_names = learning.labels, learning.groups, learning.tasks or label_names
        test = test if held is None else held.inputs
        X = learning.inputs
    if y is None:
        raise DataError("labels", expected="one for each input", found="none", remedy="Pass y, or a labelled domain.")
    question, beside = _question(
        X,
        y,
        target=target,
        test=test,
        backbone=backbone,
        task=task,
        label_names=label_names,
        groups=groups,
        layer=layer,
        pooling=pooling,
        image_size=image_size,
        epochs=epochs,
        views=views,
        device=device,
        store=store,
        random_state=random_state,
    )
    return advise_within(question, clock, test_features=beside)


def advise_within(question: Question, budget: Budget, *, test_features: Any = None) -> Advice:
    """Return the advice for a question whose features are known, within what is left of a budget."""
    found = evidence(question, budget, test_features=test_features)
    reasons, labels = measured_reasons(question, found), [size.labels for size in found.sizes]
    expected = forecasts(found, question.techniques, seed=question.seed)
    not_checked: dict[str, str] = {}
    trial, contest, cost = None, None, None
    shifted = question.target is not None and found.shift is not None and found.shift.found
    if question.target is not None and not shifted:
        expected.pop(ADAPTED, None)
        not_checked[ADAPTED] = "because no difference between the domains was found"
    # Cheap ones come first, and stay first where a dear one is expected to be no better.
    order = sorted(expected, key=lambda name: -float(expected[name].worth.mean()))
    if shifted:
        technique, contest, said = _adaptation(question, expected, budget)
        reasons += said
        if contest is None:
            not_checked[ADAPTED] = _spent(budget)
        for name in order:
            if name not in (FROZEN, ADAPTED):
                not_checked[name] = "because no labels of the target are looked at"
    else:
        technique = order[0]
        ahead = expected[technique]
        value = {name: value_of_checking(ahead, expected[name], found.examples) for name in order[1:]}
        second = max(value, key=lambda name: value[name], default=None)
        reasons.append(forecast_reason(expected[technique], None if second is None else expected[second]))
        if second is not None:
            trial, cost, why = _checked(question, ahead, expected[second], budget, labels)
            if trial is None:
                reasons.append(f"Not checked, {why}.")
                not_checked |= dict.fromkeys((technique, second), why)
                technique, said = _unchecked(expected, order)
                reasons += said
            else:
                technique = trial.winner
                reasons.append(check_reason(trial))
        for name in order:
            if name not in (order[0], second):
                not_checked[name] = "because others are more likely to be the best"
    # A technique with the network may be better than what is advised without it, and nobody has looked.
    undecided = technique == RAW and trial is None and order[0] not in (RAW, SCRATCH)
    reasons.append(conclusion(technique, question, found, undecided=undecided))
    order = [technique, *(name for name in order if name != technique)]
    return Advice(
        technique=technique,
        backbone=None if question.backbone is None else question.backbone.name,
        metric=_metric(question),
        transfer_pays=None if question.backbone is None or undecided else technique not in (RAW, SCRATCH),
        reasons=tuple(reasons),
        evidence=found,
        candidates=tuple(_candidate(name, expected[name], trial, cost, labels) for name in order),
        trial=trial,
        tournament=contest,
        not_checked=not_checked,
        budget=budget.seconds,
        seconds=budget.spent,
    )


def _adaptation(
    question: Question, expected: dict[str, Forecast], budget: Budget
) -> tuple[str, dict[str, Any] | None, list[str]]:
    """Return what the tournament of adaptations advises, its evidence, and sentences for it.

    Where no time is left for one, the forecast decides, and there is no evidence.
    """
    if budget.left <= 0:
        first, second = sorted((expected[FROZEN], expected[ADAPTED]), key=lambda one: -float(one.worth.mean()))
        not_held = f"The methods of adaptation did not judge each other, {_spent(budget)}."
        return first.technique, None, [forecast_reason(first, second), not_held]
    model = adapted(question, budget=None if math.isinf(budget.left) else budget.left)
    told = model.adaptation_ or {}
    contest = told["tournament"]
    kept = contest["chosen"] == "source-only"
    said = [
        "No labels of the target are looked at; the methods of adaptation judge each other by scores that need none. "
        + contest["reason"],
        *contest["warnings"],
    ]
    late = [name for name, why in contest["left_out"].items() if why == OUT_OF_TIME]
    if late:
        said.append(f"The budget was spent before {', '.join(late)} could take part.")
    return (FROZEN if kept else ADAPTED), contest, said


def _unchecked(expected: dict[str, Forecast], order: list[str]) -> tuple[str, list[str]]:
    """Return what is advised where nothing was checked: a training only if it is probably worth its time."""
    first = order[0]
    cheap = next((name for name in order if name not in _TRAININGS), first)
    if first == cheap:
        return first, []
    better = float((expected[first].worth > expected[cheap].worth).mean())
    if better >= _CONFIDENT:
        return first, []
    return cheap, [
        f"That {first} is better has a probability of {100 * better:.0f} % only: what costs less is advised until a "
        "check says otherwise."
    ]


def _checked(
    question: Question, first: Forecast, second: Forecast, budget: Budget, labels: Sequence[int]
) -> tuple[Trial | None, TrainingCost | None, str]:
    """Check two techniques if that may change the advice and fits; else return why not. `labels`: of each task."""
    # Learning tasks together is the one thing here that cross-validation has not seen yet and that costs little.
    if TOGETHER not in (first.technique, second.technique) and not worth_checking(first, second, question.examples):
        gain = value_of_checking(first, second, question.examples)
        return None, None, f"since trying both on {question.examples} examples is expected to add {gain:.4f} only"
    trained = [one for one in (first, second) if one.technique in _TRAININGS]
    if budget.left <= 0:
        return None, None, _spent(budget)
    cost, share, epochs = None, 1.0, None
    if trained:
        assert question.backbone is not None
        cost = training_cost(
            question.backbone, question.inputs, question.epochs, views=question.views, clock=budget.clock
        )
        # A network for each task, from four fifths of its labels.
        counts = [count * (FOLDS - 1) // FOLDS for count in labels]
        trainings = [(count, one.technique == SCRATCH) for one in trained for count in counts]
        needed = sum(cost.fit(count, scratch=scratch) for count, scratch in trainings)
        if needed > budget.left:
            share = cost.longest(budget.left, trainings)
            if share < LEAST_SHARE:
                more = math.ceil((budget.spent + needed) / 10) * 10
                return (
                    None,
                    cost,
                    f"since a step of {min(BATCH, question.examples)} examples takes {cost.step:.2g} s here and the "
                    f"check about {needed:.0f} s, more than is left of the budget; --budget {more} is enough",
                )
            longest = max(counts)
            epochs = training_steps(longest, epochs=cost.epochs, scratch=False) * BATCH / max(longest, BATCH)
    try:
        trial = check(question, first, second, budget, share=min(share, 1.0), epochs=epochs)
    except GraftError as error:
        return None, cost, f"since a technique cannot be fitted to four fifths of the examples ({error})"
    return trial, cost, "since the examples cannot be divided so that each class is learnt from"


def _spent(budget: Budget) -> str:
    return f"since the budget of {budget.seconds:g} s is spent"


def _candidate(
    name: str, forecast: Forecast, trial: Trial | None, cost: TrainingCost | None, labels: Sequence[int]
) -> AdvisedCandidate:
    checked, seconds = None, None
    if cost is not None and name in _TRAININGS:
        seconds = sum(cost.fit(count, scratch=name == SCRATCH) for count in labels)
    if trial is not None and name in trial.scores:
        checked = trial.scores[name]
        if name not in _TRAININGS:
            seconds = trial.seconds[name] / trial.folds
    return AdvisedCandidate(name, forecast.score, checked, seconds)


def _metric(question: Question) -> str:
    kinds = {METRICS[task.kind] for task in question.tasks}
    return kinds.pop() if len(kinds) == 1 else "score"


def _question(
    X: Any,
    y: Any,
    *,
    target: Any,
    test: Any,
    backbone: Any,
    task: str,
    label_names: Any,
    groups: Any,
    layer: Any,
    pooling: str | None,
    image_size: Any,
    epochs: Any,
    views: int | None,
    device: str | None,
    store: Any,
    random_state: int,
) -> tuple[Question, Any]:
    """Read inputs and labels, compute the features, and return the question, and the features of test examples."""
    modality = modality_of(X)
    if modality == "features" and hasattr(X, "columns"):
        X = np.asarray(X)  # rows are taken by their places, which in a data frame are names of columns
    chosen = DEFAULT_BACKBONES[modality] if isinstance(backbone, str) and backbone == "auto" else backbone
    network = load_backbone(chosen, layer=layer, pooling=pooling, image_size=image_size, device=device)
    if network.modality != modality:
        raise RequestError(
            "backbone",
            expected=f"a network that reads {modality} inputs",
            found=f"{network.name}, which reads {network.modality} inputs",
            remedy="Name another one, or leave it out.",
        )
    names = getattr(y, "columns", None) if label_names is None else label_names
    labels = label_array(y)
    if labels.ndim == 2 and labels.shape[1] == 1:
        labels = labels[:, 0]
    inputs = X if modality == "features" else _objects(X)
    for subject, values in (("y", labels), ("groups", groups)):
        if values is not None:
            require_one_each(subject, values, inputs.shape[0])
    tasks: tuple[Task, ...]
    if task == "auto" and several_tasks(labels):
        if target is not None:
            raise RequestError(
                "target",
                expected="one column of labels beside it",
                found=f"{labels.shape[1]} of them",
                remedy="Name one column: domain adaptation learns one task.",
            )
        columns = label_columns(labels, None, names)
        tasks = tuple(column.task for column in columns)
    else:
        tasks = (given(inputs, labels, task=task, label_names=names, groups=groups).task,)
    require_texts(network, inputs)
    rows = np.flatnonzero(labelled_rows(labels))
    vectors = isinstance(network, FeatureBackbone)
    embedding = embed(network, inputs[rows], store=store, strict=False)
    if not len(embedding.rows):
        raise UnreadableInputsError(embedding.failures, len(rows))
    rows = rows[embedding.rows]
    there = None
    if target is not None:
        goal = target if isinstance(target, Domain) else Domain(target if vectors else _objects(target))
        found = embed(network, (goal.split("train") or goal).inputs, store=store, strict=False)
        there = Domain(found.features, name="target")
    beside = None if test is None else embed(network, test, store=store, strict=False).features
    question = Question(
        inputs=embedding.features if vectors else inputs[rows],
        features=embedding.features,
        labels=labels[rows],
        tasks=tasks,
        groups=None if groups is None else np.asarray(groups)[rows],
        modality=modality,
        backbone=None if vectors else network,
        target=there,
        epochs=epochs,
        views=views,
        store=store,
        seed=random_state,
    )
    return question, beside


def _objects(X: Any) -> np.ndarray:
    if isinstance(X, np.ndarray):
        return X
    table = np.empty(len(X), dtype=object)
    table[:] = list(X)
    return table


def several_tasks(labels: np.ndarray) -> bool:
    """Return whether columns of labels are a task each; those of zeros and ones only are one multi-label task."""
    return labels.ndim == 2 and labels.shape[1] > 1 and not _zeros_and_ones(labels)


def _zeros_and_ones(labels: np.ndarray) -> bool:
    gaps = missing(labels)
    try:
        return {float(value) for value in labels[~gaps].tolist()} <= {0.0, 1.0}
    except (TypeError, ValueError):
        return False
