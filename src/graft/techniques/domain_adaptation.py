"""Domain adaptation: labels in one domain, predictions in another."""

from __future__ import annotations

import time
import warnings
from collections.abc import Mapping
from typing import Any, Self

import numpy as np
from sklearn.base import clone

from graft._checks import number, one_of
from graft.alignment import Alignment
from graft.backbones import Backbone, Embedding, embed, load_backbone
from graft.data import Domain, Task, check_classes
from graft.errors import DataError, RequestError, UnreadableInputsError
from graft.heads import HEADS, make_head
from graft.importance import diagnose, method
from graft.techniques.adaptation.methods import (
    FEATURE_METHODS,
    Adapted,
    feature_method,
    held_out_probabilities,
    require_task,
)
from graft.techniques.adaptation.problem import Problem
from graft.techniques.adaptation.tournament import BASELINE, tournament
from graft.techniques.labelled import Labelled, embedded, given
from graft.techniques.technique import (
    Technique,
    held_out_evaluation,
    label_table,
    labelled_rows,
    numbers,
    require_one_each,
    task_labels,
)


class DomainAdaptation(Technique):
    r"""Fit a model for a target domain, whose examples have no labels (or few), to a labelled source domain.

    Two ways bridge the difference of their distributions: **reweighting the source**, so that its examples count as
    much as they resemble the target, :math:`\min_h \sum_i w_i\, \ell(h(x_i), y_i)` with
    :math:`w_i \approx p_t(x_i) / p_s(x_i)`; and **invariant representations**, in which both domains look alike.

    Target labels never choose anything. ``method="auto"`` lets methods of both kinds compete on the features, and is
    decided by scores of their target predictions that need no labels; *source only* is always among them, and stays
    unless another one is better by most of the evidence.

    Parameters
    ----------
    backbone : str, path, Backbone or None
        What `load_backbone` takes. None: the inputs are feature vectors already.
    method : str or Alignment
        ``"auto"``; ``"source-only"``; a density ratio of `graft.importance.DENSITY_RATIOS` (``"classifier"``,
        ``"kliep"``, ``"ulsif"``, ``"rulsif"``, ``"kmm"``, ``"nearest-neighbors"``); a label shift of
        `graft.importance.LABEL_SHIFTS` (``"bbse"``, ``"rlls"``, ``"maximum-likelihood"``); an alignment (``"coral"``,
        ``"subspace-alignment"``, ``"geodesic-flow"``, ``"tca"``, ``"jda"``, ``"bda"``, ``"transport"``,
        ``"sinkhorn"``, ``"class-transport"``, ``"linear-transport"``), or an unfitted `graft.alignment.Alignment` with
        options of one's own; ``"meda"``.
    head : str or head
        As in `FeatureExtraction`; ``"auto"`` picks by cross-validation on the source.
    task, label_names, layer, pooling, class_weight, calibrate, strict, batch_size, device, precision, store
        As in `FeatureExtraction`.
    budget : float or None
        With ``method="auto"``: seconds after which no further method begins.
    random_state : int or None
        Seeds folds and whatever a method draws.

    Attributes
    ----------
    backbone_, head_, task_, classes_, left_out_, unlabelled_, seconds_
        See `Technique`. ``left_out_`` and ``unlabelled_`` speak of the source.
    validation_ : Evaluation or None
        Cross-validated on the *source*: what the model is worth there. Nobody knows the target's labels.
    adaptation_ : dict
        ``"method"``; ``"shift"``, whether there is one and of which kind, with the weights' diagnostics; with
        ``method="auto"`` the ``"tournament"``: every candidate's scores, the choice, the reason, warnings.

    Raises
    ------
    RequestError
        From `fit`, if an option cannot be used, or a method cannot be used for the task.
    DataError
        From `fit`, if the inputs or labels cannot be used.

    References
    ----------
    Shimodaira (2000), Improving predictive inference under covariate shift by weighting the log-likelihood function.
    Ben-David et al. (2010), A theory of learning from different domains.

    Examples
    --------
    >>> import numpy as np
    >>> from graft import Domain, DomainAdaptation
    >>> draws = np.random.default_rng(0)
    >>> X = draws.normal(size=(200, 2)) + np.repeat([[0, 0], [4, 0]], 100, axis=0)
    >>> y = np.repeat(["ash", "elm"], 100)
    >>> moved = X + [2.5, 0]
    >>> plain = DomainAdaptation(method="source-only").fit(X, y, target=Domain(moved))
    >>> model = DomainAdaptation(method="coral").fit(X, y, target=Domain(moved))
    >>> plain.score(moved, y) < 0.8 < 0.95 < model.score(moved, y)
    True
    """

    technique = "domain-adaptation"

    def __init__(
        self,
        backbone: Any = None,
        *,
        method: Any = "auto",
        head: Any = "auto",
        task: str = "auto",
        label_names: Any = None,
        layer: Any = None,
        pooling: str | None = None,
        class_weight: Any = None,
        calibrate: bool = True,
        strict: bool = False,
        batch_size: int | None = None,
        device: str | None = None,
        precision: str = "auto",
        store: Any = True,
        budget: float | None = 60.0,
        random_state: int | None = 0,
    ) -> None:
        self.backbone = backbone
        self.method = method
        self.head = head
        self.task = task
        self.label_names = label_names
        self.layer = layer
        self.pooling = pooling
        self.class_weight = class_weight
        self.calibrate = calibrate
        self.strict = strict
        self.batch_size = batch_size
        self.device = device
        self.precision = precision
        self.store = store
        self.budget = budget
        self.random_state = random_state

    def fit(
        self,
        X: Any,
        y: Any,
        sample_weight: Any = None,
        groups: Any = None,
        *,
        target: Domain | None = None,
        domains: Any = None,
    ) -> Self:
        """Embed both domains, adapt, and fit the head.

        Parameters
        ----------
        X : sequence of n inputs
            The source: paths, PIL images or arrays; texts; or, with ``backbone=None``, vectors of shape (n, d).
        y : array of shape (n,), or (n, labels) for multi-label tasks
            The source's labels. Examples without one are left out and counted in ``unlabelled_``.
        sample_weight : array of shape (n,), optional
            What each source example counts.
        groups : array of shape (n,), optional
            Source examples of one group are never divided by a fold.
        target : Domain
            The target. What it has of labels is used (None or NaN where they are missing), by every method. Without a
            target there is nothing to adapt to: the source stands for it, and a warning says so.
        domains : array of shape (n,), optional
            Which of several source domains each example is from: each domain counts as much as it resembles the target
            (the mean density ratio of its examples).

        Returns
        -------
        DomainAdaptation
            Itself.
        """
        started = time.perf_counter()
        self._check_options()
        backbone = self._backbone()
        what = given(X, y, task=self.task, label_names=self.label_names, sample_weight=sample_weight, groups=groups)
        goal = _target(target, X, what.task)
        if domains is not None:
            domains = np.asarray(domains)
            require_one_each("domains", domains, len(what.labels))
        if self.method != "auto":
            names = {name: feature_method(name) for name in FEATURE_METHODS}
            require_task(str(self.method), feature_method(self.method), what.task.kind, names)
        found = embedded(
            backbone,
            what,
            views=1,
            batch_size=self.batch_size,
            precision=self.precision,
            store=self.store,
            strict=self.strict,
            random_state=self.random_state,
        )
        there = embed(
            backbone,
            goal.inputs,
            batch_size=self.batch_size,
            precision=self.precision,
            store=self.store,
            strict=self.strict,
        )
        if not len(there.rows):
            raise UnreadableInputsError(there.failures, total=len(there.failures))
        prepared = time.perf_counter()
        problem = self._problem(found, there, goal)
        told: dict[str, Any] = {}
        if domains is not None:
            problem, told["domains"] = _weighted_domains(problem, domains[found.rows])
        adapted = self._adapt(problem, told)
        head = adapted.served(problem)

        self.backbone_, self.head_, self.task_ = backbone, head, found.task
        self.left_out_, self.unlabelled_, self.training_ = found.failures, found.unlabelled, None
        self.validation_ = held_out_evaluation(found.task, adapted.head, found.labels)
        told["target"] = {"examples": len(there.rows), "labelled": len(problem.known), "left_out": len(there.failures)}
        self.adaptation_ = told
        ended = time.perf_counter()
        self.seconds_ = {"features": prepared - started, "training": ended - prepared, "total": ended - started}
        return self

    def _check_options(self) -> None:
        """Refuse what cannot be used, before the network runs."""
        if isinstance(self.head, str):
            one_of("head", self.head, dict.fromkeys(name for heads in HEADS.values() for name in heads))
        if not isinstance(self.method, Alignment):
            one_of("method", self.method, ("auto", *FEATURE_METHODS))
        if self.budget is not None:
            number("budget", self.budget, low=0)

    def _backbone(self) -> Backbone:
        if isinstance(self.backbone, Backbone):
            chosen = (self.layer, self.pooling) != (None, None)
            return self.backbone.with_output(layer=self.layer, pooling=self.pooling) if chosen else self.backbone
        return load_backbone(self.backbone, layer=self.layer, pooling=self.pooling, device=self.device)

    def _problem(self, found: Labelled, there: Embedding, goal: Domain) -> Problem:
        """Return what is to be adapted."""
        source, target = found.features, there.features
        if source.shape[1] != target.shape[1]:
            raise DataError(
                "target",
                expected=f"{source.shape[1]} values in each vector, as in the source",
                found=str(target.shape[1]),
                remedy="Pass the same columns for both domains.",
            )
        known, labels = np.array([], np.intp), found.targets[:0]
        if goal.labels is not None:
            given_labels = task_labels(found.task, goal.labels)[there.rows]
            known = np.flatnonzero(labelled_rows(given_labels))
            to_targets = {"regression": numbers, "multilabel": label_table}.get(found.task.kind, np.asarray)
            labels = to_targets(given_labels[known])
        return Problem(
            task=found.task,
            source=source,
            targets=found.targets,
            weight=np.ones(len(found.rows)) if found.sample_weight is None else found.sample_weight.astype(np.float64),
            groups=found.groups,
            target=target,
            known=known,
            known_targets=labels.astype(found.targets.dtype) if len(known) else labels,
            new_head=lambda: self._head(found.task),
            random_state=self.random_state or 0,
        )

    def _head(self, task: Task) -> Any:
        if not isinstance(self.head, str):
            return clone(self.head)
        return make_head(
            self.head,
            task.kind,
            class_weight=self.class_weight,
            calibrate=self.calibrate,
            random_state=self.random_state,
        )

    def _adapt(self, problem: Problem, told: dict[str, Any]) -> Adapted:
        """Adapt by the method, or by the one that wins, and note what there is to say."""
        if self.method == "auto":
            outcome = tournament(problem, budget=self.budget)
            everyone, name = outcome.adapted, outcome.choice.chosen
            told["tournament"] = outcome.to_dict()
        else:
            name = self.method if isinstance(self.method, str) else type(self.method).__name__
            everyone = {name: feature_method(self.method).adapt(problem)}
        adapted, told["method"] = everyone[name], name
        weights = adapted.weights or method("classifier")(problem.source, problem.target)
        evidence: dict[str, Any] = {}
        if problem.task.kind == "classification":
            plain = everyone.get(BASELINE) or feature_method(BASELINE).adapt(problem)
            evidence = {
                "labels": problem.targets,
                "source_probabilities": held_out_probabilities(plain.head, len(problem.targets)),
                "target_probabilities": plain.head.predict_proba(problem.target),
            }
        told["weights"] = weights.method if adapted.weights is not None else None
        told["shift"] = diagnose(weights, problem.source, problem.target, **evidence).to_dict()
        return adapted

    def _saved_params(self) -> Mapping[str, Any]:
        params = self.get_params(deep=False)
        return {
            **params,
            "backbone": self.backbone_.name,
            "store": self.store if isinstance(self.store, bool) else True,
        }


def _target(target: Any, X: Any, task: Task) -> Domain:
    """Return the target domain, checked as far as that is possible before any input is read."""
    if target is None:
        warnings.warn(
            "No target was given: the source stands for it, and there is nothing to adapt to. Pass target=Domain(...).",
            UserWarning,
            stacklevel=3,
        )
        return Domain(X)
    if not isinstance(target, Domain):
        raise RequestError(
            "target",
            expected="a Domain",
            found=f"a {type(target).__name__}",
            remedy="Pass graft.Domain(inputs): scikit-learn cuts any array as long as X in half with it.",
        )
    if target.labels is not None and task.kind == "classification":
        labels = task_labels(task, target.labels)
        check_classes(task.classes, labels[labelled_rows(labels)], subject="labels of the target")
    return target


def _weighted_domains(problem: Problem, domains: np.ndarray) -> tuple[Problem, dict[str, float]]:
    """Return the problem with the weights of its source domains, and these."""
    ratio = method("classifier")(problem.source, problem.target).sample_weight
    names, codes = np.unique(domains, return_inverse=True)
    means = np.bincount(codes, ratio) / np.bincount(codes)
    weight = means[codes]
    weight = weight / weight.mean()
    shares = dict(zip(names.astype(str).tolist(), (means / means.sum()).tolist(), strict=True))
    return problem.weighted(weight), shares
