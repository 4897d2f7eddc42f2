"""Domain adaptation: labels in one domain, predictions in another."""

from __future__ import annotations

import time
from dataclasses import fields
from inspect import signature
from typing import Any, Self

import numpy as np

from graft._checks import number, one_of
from graft.alignment import AdaptationLoss, Alignment, InvariantHead
from graft.backbones import Backbone, embed, load_backbone
from graft.data import Domain, Task
from graft.errors import UnreadableInputsError
from graft.heads import HEADS, make_head
from graft.techniques.adaptation.adapted_head import AdaptedHead
from graft.techniques.adaptation.both_domains import both_domains
from graft.techniques.adaptation.given_target import checked_target
from graft.techniques.adaptation.methods import (
    FEATURE_METHODS,
    Adapted,
    feature_method,
    require_no_head,
    require_task,
)
from graft.techniques.adaptation.problem import Problem, problem_of, weighted_domains
from graft.techniques.adaptation.through_network import NETWORK_METHODS, adapt_network, require_alone, require_usable
from graft.techniques.adaptation.tournament import BASELINE, tournament
from graft.techniques.choosing import calibrated
from graft.techniques.labelled import Labelled, embedded, given, require_texts
from graft.techniques.phases import Phases, require_folder
from graft.techniques.settings import Settings
from graft.techniques.technique import (
    Technique,
    held_out_evaluation,
    require_one_each,
)

# Options that mean something for the one way of adapting alone.
_ON_FEATURES = ("head", "budget")
_THROUGH_NETWORK = (
    "pretrained",
    "train",
    "image_size",
    "epochs",
    "learning_rate",
    "layer_decay",
    "weight_decay",
    "augment",
    "views",
    "batch_norm",
    "average",
    "validation",
    "checkpoints",
    "resume",
)
# Examples of a step, half of each domain, where nothing else is asked for.
BATCH = 64


class DomainAdaptation(Technique):
    r"""Fit a model for a target domain, whose examples have no labels (or few), to a labelled source domain.

    Two ways bridge the difference of their distributions: **reweighting the source**, so that its examples count as
    much as they resemble the target, :math:`\min_h \sum_i w_i\, \ell(h(x_i), y_i)` with
    :math:`w_i \approx p_t(x_i) / p_s(x_i)`; and **invariant representations**, in which both domains look alike.

    Target labels never choose anything. ``method="auto"`` lets methods of both kinds compete on the features, and is
    decided by scores of their target predictions that need no labels; *source only* is always among them, and stays
    unless another one is better by most of the evidence. For numbers and several labels the best one is served; for
    classes the consensus of all, each heard by its standing, as one `graft.alignment.ManifoldRegularization` that is
    fitted to the target's features with the mean of their probabilities.

    Parameters
    ----------
    backbone : str, path, Backbone or None
        What `load_backbone` takes. None: the inputs are feature vectors already.
    method : str, Alignment, InvariantHead or AdaptationLoss
        ``"auto"``; ``"source-only"``; a density ratio of `graft.importance.DENSITY_RATIOS` (``"classifier"``,
        ``"kliep"``, ``"ulsif"``, ``"rulsif"``, ``"kmm"``, ``"nearest-neighbors"``); a label shift of
        `graft.importance.LABEL_SHIFTS` (``"bbse"``, ``"rlls"``, ``"maximum-likelihood"``); an alignment
        (``"standardization"``, ``"coral"``, ``"subspace-alignment"``, ``"geodesic-flow"``, ``"tca"``, ``"jda"``,
        ``"bda"``, ``"transport"``, ``"sinkhorn"``, ``"class-transport"``, ``"linear-transport"``), or an unfitted
        `graft.alignment.Alignment` with options of one's own; ``"centroids"`` and ``"meda"``, which are classifiers of
        their own and take no head and no weights; likewise ``"tradaboost"``
        (`graft.importance.TrAdaBoostClassifier` of logistic regressions), which needs labels of a few target examples,
        for where the source misleads; ``"mcc-head"``, ``"cdan-head"``, ``"dann-head"`` and ``"mdd-head"``, small
        networks on the features that are trained to hold in both domains, which take weights and no head, or an
        unfitted `graft.alignment.InvariantHead` with another loss or other options. These work on features of the
        frozen network, in seconds; a loss without ``-head`` behind its name trains the network.

        Through the network, whose layers are trained: one of `graft.alignment.ADAPTATION_LOSSES` (``"deep-coral"``,
        ``"dan"``, ``"jan"``, ``"dann"``, ``"cdan"``, ``"mcd"``, ``"mdd"``, ``"mcc"``, ``"afn"``, ``"bsp"``,
        ``"deep-jdot"``), or an `AdaptationLoss` with options of one's own, is minimised together with the loss of the
        labelled examples. After a training on the source alone: ``"shot"`` adapts the layers to the target, with the
        head as it is; ``"tent"`` scales and shifts of normalisations; ``"adabn"`` their statistics; ``"t3a"`` the head.
    head : str or head
        As in `FeatureExtraction`; ``"auto"`` picks by cross-validation on the source.
    task, label_names, layer, pooling, class_weight, calibrate, strict, batch_size, device, precision, store
        As in `FeatureExtraction`. Through the network, `batch_size` is that of a step, half of each domain; None: 64.
    budget : float or None
        With ``method="auto"``: seconds after which no further method begins.
    pretrained, train, image_size, epochs, learning_rate, layer_decay, weight_decay, augment, views, batch_norm, average
        Through the network alone, and as in `FineTuning`. With ``pretrained=False``, a network of one's own starts
        from the weights that it has, with the recipe for random ones.
    validation : float
        Through the network: the fraction of the source that is held out, to measure and to calibrate; it may be 0.
        Nothing is chosen by it: the last weights are served, since what is best for the source need not be for the
        target, whose labels nobody knows. For the same reason there is no guard as in `FineTuning`.
    checkpoints, resume
        Through the network, as in `FineTuning`.
    random_state : int or None
        Seeds folds and whatever a method draws.

    Attributes
    ----------
    backbone_, head_, task_, classes_, left_out_, unlabelled_, seconds_
        See `Technique`. ``left_out_`` and ``unlabelled_`` speak of the source.
    validation_ : Evaluation or None
        Cross-validated, or held out, on the *source*: what the model is worth there. Nobody knows the target's labels.
    training_ : dict or None
        Through the network, how the training went, as in `FineTuning`; ``stages`` says how many steps each part took.
    adaptation_ : dict
        ``"method"``, for the consensus of ``"auto"`` ``"consensus"``; ``"shift"``, whether there is one and of which
        kind, with the weights' diagnostics, on features before any training; with ``method="auto"`` the
        ``"tournament"``: scores, the choice, the reason, warnings.

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
        pretrained: bool = True,
        train: str | int = "all",
        image_size: Any = None,
        epochs: Any = "auto",
        learning_rate: Any = "auto",
        layer_decay: Any = "auto",
        weight_decay: float = 0.05,
        augment: float = 0.0,
        views: int | None = None,
        batch_norm: str = "auto",
        average: float | None = None,
        validation: float = 0.1,
        checkpoints: Any = None,
        resume: bool = False,
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
        self.pretrained = pretrained
        self.train = train
        self.image_size = image_size
        self.epochs = epochs
        self.learning_rate = learning_rate
        self.layer_decay = layer_decay
        self.weight_decay = weight_decay
        self.augment = augment
        self.views = views
        self.batch_norm = batch_norm
        self.average = average
        self.validation = validation
        self.checkpoints = checkpoints
        self.resume = resume
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
        """Adapt to the target: features and a head, or the network.

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
            The target. What it has of labels is used (None or NaN where they are missing), by every method. Of given
            splits, that called train is adapted to. Without a
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
        goal = checked_target(target, X, what.task)
        if domains is not None:
            domains = np.asarray(domains)
            require_one_each("domains", domains, len(what.labels))
        if self._trains:
            require_usable(self.method, what.task.kind, backbone)
            self._settings().require_suited(backbone)
        elif self.method != "auto":
            names = {name: feature_method(name) for name in FEATURE_METHODS}
            require_task(str(self.method), feature_method(self.method), what.task.kind, names)
            require_no_head(self.method, {"sample_weight": sample_weight, "domains": domains})
        require_texts(backbone, goal.inputs)
        found = embedded(
            backbone,
            what,
            views=1,
            batch_size=None if self._trains else self.batch_size,
            precision=self.precision,
            store=self.store,
            strict=self.strict,
            random_state=self.random_state,
        )
        there = embed(
            backbone,
            goal.inputs,
            batch_size=None if self._trains else self.batch_size,
            precision=self.precision,
            store=self.store,
            strict=self.strict,
        )
        if not len(there.rows):
            raise UnreadableInputsError(there.failures, total=len(there.failures))
        prepared = time.perf_counter()
        problem = problem_of(
            found,
            there,
            goal,
            lambda: self._head(found.task),
            class_weight=self.class_weight,
            random_state=self._seed,
        )
        told: dict[str, Any] = {}
        if domains is not None:
            problem, told["domains"] = weighted_domains(problem, domains[found.rows])
        if self._trains:
            here, beyond = list(X), list(goal.inputs)
            inputs = [here[row] for row in found.rows] + [beyond[row] for row in there.rows]
            self._train_network(backbone, inputs, found, problem, told)
        else:
            adapted = self._adapt(problem, told)
            self.backbone_, self.head_, self.training_ = backbone, adapted.served(problem), None
            self.validation_ = held_out_evaluation(found.task, adapted.head, found.labels, groups=found.groups)
        self.task_, self.left_out_, self.unlabelled_ = found.task, found.failures, found.unlabelled
        told["target"] = {"examples": len(there.rows), "labelled": len(problem.known), "left_out": len(there.failures)}
        self.adaptation_ = told
        ended = time.perf_counter()
        self.seconds_ = {"features": prepared - started, "training": ended - prepared, "total": ended - started}
        return self

    def _check_options(self) -> None:
        """Refuse what cannot be used, before the network runs."""
        if not isinstance(self.method, Alignment | AdaptationLoss | InvariantHead):
            one_of("method", self.method, ("auto", *FEATURE_METHODS, *NETWORK_METHODS))
        plain, apart = signature(type(self)).parameters, _ON_FEATURES if self._trains else _THROUGH_NETWORK
        found = {name: getattr(self, name) for name in apart if getattr(self, name) != plain[name].default}
        if self._trains:
            require_alone(found, self.method, FEATURE_METHODS, "works on features")
            self._settings()
            number("validation", self.validation, low=0, high=0.9)
            if isinstance(self.class_weight, str):
                one_of("class_weight", self.class_weight, ["balanced"])
            require_folder(self.checkpoints, resume=self.resume)
            return
        require_alone(found, self.method, NETWORK_METHODS, "trains the network")
        if isinstance(self.head, str):
            one_of("head", self.head, dict.fromkeys(name for heads in HEADS.values() for name in heads))
        if self.budget is not None:
            number("budget", self.budget, low=0)
        asked = {"head": None if isinstance(self.head, str) and self.head == "auto" else self.head}
        require_no_head(self.method, asked | {"class_weight": self.class_weight})

    def _backbone(self) -> Backbone:
        return load_backbone(
            self.backbone,
            layer=self.layer,
            pooling=self.pooling,
            pretrained=self.pretrained or isinstance(self.backbone, Backbone),  # one's own starts where it is
            image_size=self.image_size,
            device=self.device,
            random_state=self._seed,
        )

    def _head(self, task: Task) -> Any:
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
            everyone, name = outcome.adapted, outcome.served
            told["tournament"] = outcome.to_dict()
        else:
            name = self.method if isinstance(self.method, str) else type(self.method).__name__
            everyone = {name: feature_method(self.method).adapt(problem)}
        adapted, told["method"] = everyone[name], name
        plain = None
        if problem.task.kind == "classification":
            plain = (everyone.get(BASELINE) or feature_method(BASELINE).adapt(problem)).head
        weights = adapted.weights
        told["weights"] = None if weights is None else {"method": weights.method, **adapted.told}
        told["shift"] = problem.diagnosis(weights, plain=plain)
        return adapted

    @property
    def _trains(self) -> bool:
        """Whether the method trains the network."""
        return isinstance(self.method, AdaptationLoss) or (
            isinstance(self.method, str) and self.method in NETWORK_METHODS
        )

    @property
    def _seed(self) -> int:
        return 0 if self.random_state is None else int(self.random_state)

    def _settings(self) -> Settings:
        own = {
            name: getattr(self, name) for name in (field.name for field in fields(Settings)) if name in _THROUGH_NETWORK
        }
        size = BATCH if self.batch_size is None else self.batch_size
        return Settings(**own, batch_size=size, precision=self.precision, seed=self._seed)

    def _train_network(
        self, backbone: Backbone, inputs: list[Any], source: Labelled, problem: Problem, told: dict[str, Any]
    ) -> None:
        """Train the network on both domains, and set the fitted state."""
        told["weights"], told["shift"] = None, problem.diagnosis(None)  # what it may refuse, before the training
        both = both_domains(
            backbone,
            inputs,
            source,
            problem,
            class_weight=self.class_weight,
            augment=self.augment,
            validation=self.validation,
            random_state=self.random_state,
        )
        material, held = both.material, both.held
        phases = Phases(self.checkpoints, self.get_params(deep=False), resume=self.resume)
        adapted = adapt_network(material, self._settings(), self.method, target=both.target, held=held, phases=phases)
        self.validation_, temperature = None, 1.0
        if held.any():
            self.validation_, temperature = calibrated(material, adapted.outputs(np.flatnonzero(held)), held)
        head = material.trained_head(adapted.layer, temperature if self.calibrate else 1.0)
        head.fit(adapted.features[~both.target], source.targets)
        self.backbone_ = adapted.backbone
        self.head_ = AdaptedHead(None, head, random_state=self._seed).fit(adapted.features[both.target])
        self.training_ = {**adapted.to_dict(), "served": "adapted"}
        told["method"] = self.method if isinstance(self.method, str) else type(self.method).__name__
        phases.clear()
