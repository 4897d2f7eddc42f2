"""The methods of domain adaptation on features, all with one function: from a problem to a model for the target."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any, final

import numpy as np
from scipy.special import expit
from sklearn.base import clone
from sklearn.linear_model import LogisticRegression
from sklearn.utils import get_tags

from graft import alignment, importance
from graft.alignment import AdaptationLoss, Alignment, InvariantHead
from graft.errors import DataError, RequestError
from graft.heads.classifier_head import class_weights
from graft.importance import DENSITY_RATIOS, LABEL_SHIFTS, Weights, flattening
from graft.importance.two_sample import AucTest
from graft.techniques.adaptation.adapted_head import AdaptedHead
from graft.techniques.adaptation.problem import Problem, held_out_probabilities, known_share, stacked

ANY_TASK = ("classification", "multilabel", "regression")
CLASSES_ONLY = ("classification",)


@dataclass(frozen=True, eq=False)
class Adapted:
    """A model for the target.

    Parameters
    ----------
    mapping : Alignment or None
        What takes target inputs to where the head was fitted.
    head : estimator
        Fitted.
    weights : Weights or None
        Of the source, where the method weighs it.
    scaled : bool
        Whether mapping and head take scaled features (`Problem.scaled`).
    told : mapping
        What else there is to say about it, as plain values.
    """

    mapping: Any
    head: Any
    weights: Weights | None = None
    scaled: bool = False
    told: Mapping[str, Any] = field(default_factory=dict)

    def seen(self, problem: Problem) -> Any:
        """Return the target's inputs (n_t, k) as the head takes them."""
        target = problem.scaled[1] if self.scaled else problem.target
        return target if self.mapping is None else self.mapping.transform(target)

    def served(self, problem: Problem) -> AdaptedHead:
        """Return the head that predicts target inputs as the network gives them."""
        location, scale = problem.scaling if self.scaled else (None, None)
        head = AdaptedHead(self.mapping, self.head, location=location, scale=scale, random_state=problem.random_state)
        return head.fit(problem.target)


class Method(ABC):
    """A way of adapting, with its options; nothing changes in it."""

    @property
    @abstractmethod
    def tasks(self) -> tuple[str, ...]:
        """The kinds of task that it can be used for."""

    @abstractmethod
    def adapt(self, problem: Problem) -> Adapted:
        """Return a model for the target."""


@final
class SourceOnly(Method):
    """No adaptation: the head is fitted on the source (and on what is labelled of the target)."""

    @property
    def tasks(self) -> tuple[str, ...]:
        return ANY_TASK

    def adapt(self, problem: Problem) -> Adapted:
        return Adapted(None, problem.fit_head(problem.source, problem.target))


@final
class Reweighting(Method):
    """Source examples count as much as they look like the target: see `graft.importance.DENSITY_RATIOS`.

    How far the weights are flattened is chosen by importance-weighted cross-validation (`graft.importance.flattening`).

    Parameters
    ----------
    name : str
        The method of estimation.
    """

    def __init__(self, name: str) -> None:
        self._name = name

    @property
    def tasks(self) -> tuple[str, ...]:
        return ANY_TASK

    def adapt(self, problem: Problem) -> Adapted:
        own = self._name == "classifier"
        estimated = problem.ratio if own else importance.method(self._name)(problem.source, problem.target)
        return _weighted(problem, estimated, {}, domains=problem.tests[0])


@final
class LabelShift(Method):
    """Classes count as much as they are frequent in the target: see `graft.importance.LABEL_SHIFTS`.

    The weights are flattened as those of `Reweighting`.

    Parameters
    ----------
    name : str
        The method of estimation.
    """

    def __init__(self, name: str) -> None:
        self._name = name

    @property
    def tasks(self) -> tuple[str, ...]:
        return CLASSES_ONLY

    def adapt(self, problem: Problem) -> Adapted:
        plain = problem.fit_head(problem.source, problem.target)
        estimated = importance.method(self._name)(
            problem.targets,
            held_out_probabilities(plain, len(problem.targets)),
            plain.predict_proba(problem.target),
            classes=list(plain.classes_),
        )
        return _weighted(problem, estimated, {0.0: plain}, domains=None)


def _weighted(problem: Problem, estimated: Weights, heads: dict[float, Any], *, domains: AucTest | None) -> Adapted:
    """Return a head fitted with weights that are flattened as far as validation says.

    Parameters
    ----------
    problem : Problem
    estimated : Weights
    heads : dict of float to head
        Heads that were fitted already, by the exponent.
    domains : AucTest or None
        How well the domains can be told apart, where the weights need their overlap.
    """

    def head_for(weights: Weights) -> Any:
        exponent = float(weights.parameters.get("exponent", 1.0))
        if exponent not in heads:
            heads[exponent] = problem.weighted(weights.sample_weight).fit_head(problem.source, problem.target)
        return heads[exponent]

    chosen = flattening(estimated, lambda weights: _held_out_losses(head_for(weights), problem), domains=domains)
    told = {"exponent": chosen.exponent, "reason": chosen.reason}
    return Adapted(None, head_for(chosen.weights), chosen.weights, told=told)


def _held_out_losses(head: Any, problem: Problem) -> np.ndarray:
    """Return the loss of each source example (n_s,) by heads that had not seen it; NaN where there is none."""
    rows = len(problem.targets)
    scores = getattr(head, "out_of_fold_", None)
    if scores is None:
        return np.full(rows, np.nan)
    if problem.task.kind == "classification":
        places = np.searchsorted(head.classes_, problem.targets)
        own = held_out_probabilities(head, rows)[np.arange(rows), places]
        return -np.log(np.maximum(own, 1e-300))
    targets = problem.targets.reshape(rows, -1)
    answers = scores[:rows].reshape(rows, -1)
    if problem.task.kind == "multilabel":
        errors = (expit(answers / head.temperature_) - targets) ** 2
        known = np.isfinite(errors)
        return np.where(known, errors, 0.0).sum(axis=1) / np.where(known.any(axis=1), known.sum(axis=1), np.nan)
    return (((answers - targets) / targets.std(axis=0)) ** 2).mean(axis=1)


@final
class Aligned(Method):
    """The head is fitted where both domains look alike.

    Parameters
    ----------
    alignment : Alignment
        Unfitted.
    """

    def __init__(self, alignment: Alignment) -> None:
        self._alignment = alignment

    @property
    def tasks(self) -> tuple[str, ...]:
        return CLASSES_ONLY if get_tags(self._alignment).target_tags.required else ANY_TASK

    def adapt(self, problem: Problem) -> Adapted:
        mapping, labels, known = clone(self._alignment), None, None
        if self.tasks == CLASSES_ONLY:
            labels, known = problem.targets, problem.target_labels()
        source, target = problem.scaled
        mapping.fit(source, labels, target=target, target_labels=known)
        head = problem.fit_head(mapping.transform_source(source), mapping.transform(target))
        return Adapted(mapping, head, scaled=True)


@final
class JointlyFitted(Method):
    """A classifier that is fitted to both domains at once.

    Parameters
    ----------
    classifier : estimator
        Unfitted; its ``fit`` takes ``target`` and ``target_labels``.
    """

    def __init__(self, classifier: Any) -> None:
        self._classifier = classifier

    @property
    def tasks(self) -> tuple[str, ...]:
        return CLASSES_ONLY

    def adapt(self, problem: Problem) -> Adapted:
        classifier = clone(self._classifier)
        if "random_state" in classifier.get_params():
            classifier.set_params(random_state=problem.random_state)
        source, target = problem.scaled
        classifier.fit(source, problem.targets, target=target, target_labels=problem.target_labels())
        return Adapted(None, classifier, scaled=True)


@final
class Invariant(Method):
    """A small network on the features, which stay as they are, trained to hold in both domains.

    Parameters
    ----------
    head : InvariantHead
        Unfitted.
    """

    def __init__(self, head: InvariantHead) -> None:
        self._head = head

    @property
    def tasks(self) -> tuple[str, ...]:
        return CLASSES_ONLY

    def adapt(self, problem: Problem) -> Adapted:
        head, weight = clone(self._head), problem.weight
        if head.random_state is None:
            head.set_params(random_state=problem.random_state)
        if problem.class_weight is not None:
            classes, codes = np.unique(problem.targets, return_inverse=True)
            weight = weight * class_weights(problem.class_weight, classes, codes, weight)[codes]
        head.fit(
            problem.source,
            problem.targets,
            target=problem.target,
            target_labels=problem.target_labels(),
            source_weight=weight,
            target_weight=known_share(len(weight), len(problem.known)) if len(problem.known) else 1.0,
        )
        return Adapted(None, head)


@final
class Boosted(Method):
    """Boosting that follows the target's labels, and lets source examples that contradict them lose their weight.

    See `graft.importance.TrAdaBoostClassifier`, here with logistic regressions on the scaled features, whose weights
    are arrays that a run can hold.
    """

    @property
    def tasks(self) -> tuple[str, ...]:
        return CLASSES_ONLY

    def adapt(self, problem: Problem) -> Adapted:
        if not len(problem.known):
            raise DataError(
                "labels of the target",
                expected="labels of a few target examples, which method='tradaboost' follows",
                found="none",
                remedy="Pass target=Domain(inputs, labels), None where a label is missing (in a table: an empty cell), "
                "or take a method that needs none.",
            )
        source, target = problem.scaled
        features = stacked(source, target[problem.known])
        labels = np.concatenate([problem.targets, problem.known_targets])
        base = LogisticRegression(max_iter=1000)
        booster = importance.TrAdaBoostClassifier(base, random_state=problem.random_state)
        booster.fit(features, labels, in_target=np.arange(len(labels)) >= len(problem.targets))
        return Adapted(None, booster, scaled=True)


# Closed-form alignments, and how they are made: the package's names are imported when asked for.
ALIGNMENTS: dict[str, Callable[[], Alignment]] = {
    "standardization": lambda: alignment.DomainStandardization(),
    "coral": lambda: alignment.CORAL(),
    "subspace-alignment": lambda: alignment.SubspaceAlignment(),
    "geodesic-flow": lambda: alignment.GeodesicFlowKernel(),
    "tca": lambda: alignment.TransferComponentAnalysis(),
    "jda": lambda: alignment.JointDistributionAdaptation(),
    "bda": lambda: alignment.JointDistributionAdaptation(balance=None),
    "transport": lambda: alignment.OptimalTransport(),
    "sinkhorn": lambda: alignment.OptimalTransport("entropic"),
    "class-transport": lambda: alignment.OptimalTransport("class"),
    "linear-transport": lambda: alignment.LinearTransport(),
}
JOINTLY_FITTED = ("centroids", "meda")
# Losses for networks as heads on features: what is invariant is a bottleneck, and adversaries are as small as it.
INVARIANT_HEADS: dict[str, Callable[[], AdaptationLoss]] = {
    "mcc-head": lambda: alignment.MCC(),
    "cdan-head": lambda: alignment.CDAN(hidden=(128,)),
    "dann-head": lambda: alignment.DANN(hidden=(128,)),
    "mdd-head": lambda: alignment.MDD(hidden=128),
}
BOOSTED = "tradaboost"
FEATURE_METHODS = (
    "source-only",
    *DENSITY_RATIOS,
    *LABEL_SHIFTS,
    *ALIGNMENTS,
    *JOINTLY_FITTED,
    *INVARIANT_HEADS,
    BOOSTED,
)


def feature_method(method: Any) -> Method:
    """Return the method on features of a name, or around an unfitted alignment or head.

    Parameters
    ----------
    method : str, Alignment or InvariantHead
        One of `FEATURE_METHODS`, or an alignment or head with options of one's own.
    """
    if isinstance(method, Alignment):
        return Aligned(method)
    if isinstance(method, InvariantHead):
        return Invariant(method)
    if method == "source-only":
        return SourceOnly()
    if method in DENSITY_RATIOS:
        return Reweighting(method)
    if method in LABEL_SHIFTS:
        return LabelShift(method)
    if method in JOINTLY_FITTED:
        return JointlyFitted(alignment.MEDA() if method == "meda" else alignment.CentroidRefinement())
    if method in INVARIANT_HEADS:
        return Invariant(InvariantHead(INVARIANT_HEADS[method]()))
    if method == BOOSTED:
        return Boosted()
    return Aligned(ALIGNMENTS[method]())


def require_task(name: str, method: Method, kind: str, names: Mapping[str, Method]) -> None:
    """Check that a method can be used for a kind of task.

    Raises
    ------
    RequestError
        If not; it says which can.
    """
    if kind in method.tasks:
        return
    able = ", ".join(other for other, one in names.items() if kind in one.tasks)
    raise RequestError(
        "method",
        expected=f"a method for {kind} tasks",
        found=f"{name!r}, which is for {' and '.join(method.tasks)}",
        remedy=f"These can: {able}.",
    )


def require_no_head(method: Any, asked: Mapping[str, Any]) -> None:
    """Refuse what concerns the head, or what examples count, beside a method that is a classifier of its own.

    Parameters
    ----------
    method : str, Alignment or InvariantHead
    asked : mapping
        Options by name; None: not asked for. An invariant head heeds all of them but ``"head"``.

    Raises
    ------
    RequestError
        If one was asked for.
    """
    weighs = isinstance(method, InvariantHead) or method in INVARIANT_HEADS
    given = [name for name, value in asked.items() if value is not None and (name == "head" or not weighs)]
    if (weighs or (isinstance(method, str) and method in (*JOINTLY_FITTED, BOOSTED))) and given:
        name = method if isinstance(method, str) else type(method).__name__
        raise RequestError(
            given[0],
            expected="a method beside it that fits a head",
            found=f"method={name!r}, a classifier of its own"
            + ("" if weighs else ", which lets all source examples count the same"),
            remedy="Leave it out, or take another method.",
        )
