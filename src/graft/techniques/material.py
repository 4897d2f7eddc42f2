"""The examples of one `fit`, as trainings and heads take them."""

from __future__ import annotations

import hashlib
import os
from dataclasses import dataclass, replace
from functools import cached_property
from typing import Any

import numpy as np
import torch
from scipy.special import log_softmax
from torch import nn

from graft.backbones import Backbone, Views
from graft.heads import AutoHead, AutoRegressor, LinearClassifier, LinearMultiLabel, LinearRegressor, make_head
from graft.heads.classifier_head import class_weights
from graft.heads.label_table import value_weights
from graft.techniques.kept_heads import KeptHeads
from graft.techniques.labelled import Labelled
from graft.training import Examples, Numbers, Supervision, linear_head, supervision

# The share of left-out examples that the probe has to have wrong for its features to be far from the task.
_FAR = 0.1
_LINEAR = {"classification": "logistic", "multilabel": "logistic", "regression": "ridge"}
_TRAINED = {"classification": LinearClassifier, "multilabel": LinearMultiLabel, "regression": LinearRegressor}


def goal_of(found: Labelled, learning: np.ndarray, *, smoothing: float = 0.0, class_weight: Any = None) -> Supervision:
    """Return how outputs are compared with labels, by what the examples to learn from (mask of shape (n,)) say.

    Of several labels, `class_weight` weighs the two values of each, as the heads do; where every example has one class,
    it is part of the weight of the examples instead.
    """
    targets, table = found.targets[learning], None
    if class_weight is not None and found.task.kind == "multilabel":
        weight = np.ones(len(targets)) if found.sample_weight is None else found.sample_weight[learning]
        table = np.ones((targets.shape[1], 2))
        for place, column in enumerate(targets.T):
            known = np.isfinite(column)
            factors = value_weights(class_weight, np.array([0.0, 1.0]), column[known], weight[known])
            for value in (0, 1):
                table[place, value] = factors[column[known] == value][0] if (column[known] == value).any() else 1.0
    return supervision(found.task, targets, smoothing=smoothing, value_weight=table)


@dataclass(frozen=True, eq=False)
class Material:
    """What the trainings of one `fit` share.

    Parameters
    ----------
    backbone : Backbone
        The network that they start from.
    inputs : list of n inputs
        The examples.
    found : Labelled
        Their labels, weights and frozen features.
    goal : Supervision
        How outputs are compared with labels.
    class_weight : "balanced", dict or None
        The weight of each class, or of the two values of each label.
    views : Views
        Seed and strength of the variations of images.
    """

    backbone: Backbone
    inputs: list[Any]
    found: Labelled
    goal: Supervision
    class_weight: Any
    views: Views

    @property
    def kind(self) -> str:
        """The kind of the task."""
        return self.found.task.kind

    @property
    def known(self) -> np.ndarray:
        """Which examples (n,) have a label."""
        return np.ones(len(self.inputs), bool) if self.found.known is None else self.found.known

    @cached_property
    def _all(self) -> Examples:
        """All examples: texts are cut into tokens once."""
        weight = np.ones(len(self.inputs)) if self.found.sample_weight is None else self.found.sample_weight
        targets = self.goal.targets(self.found.targets)
        targets = targets.masked_fill(torch.from_numpy(~self.known)[:, None], torch.nan)
        return Examples(self.backbone, self.inputs, targets, weight=weight, views=self.views)

    def seen_as(self, views: Views) -> Material:
        """Return the same examples with other variations; heads that were fitted are kept."""
        other = replace(self, views=views)
        vars(other)["_probes"] = self._probes
        return other

    def examples(self, chosen: np.ndarray) -> Examples:
        """Return the examples of a mask (n,); their classes are balanced among themselves."""
        rows = np.flatnonzero(chosen)
        part = self._all.subset(rows)
        if self.class_weight is not None and self.kind == "classification":
            factors = np.ones(len(rows))
            seen = self.known[rows]
            if seen.any():
                weight = part.weight.double().numpy()[seen]
                factors[seen] = self._class_factors(rows[seen], weight)
            part.weight = part.weight * torch.from_numpy(factors.astype(np.float32))
        return part

    def _class_factors(self, rows: np.ndarray, weight: np.ndarray) -> np.ndarray:
        """Return the factor (m,) of each of some examples, by its class, as the heads weigh them."""
        classes, codes = np.unique(self.found.targets[rows], return_inverse=True)
        return class_weights(self.class_weight, classes, codes, weight)[codes]

    def head(self, name: str, features: Any, chosen: np.ndarray, seed: int | None) -> Any:
        """Return a head fitted to features (of all examples) and labels of the chosen ones."""
        # A head on the features of a network that was trained here is not asked for again.
        kept = self.found.kept if features is self.found.features else KeptHeads()
        return self._fit(self._unfitted(name, seed), features[chosen], chosen, kept)

    def _fit(self, head: Any, features: Any, chosen: np.ndarray, kept: KeptHeads) -> Any:
        found = self.found
        weight = None if found.sample_weight is None else found.sample_weight[chosen]
        groups = None if found.groups is None else found.groups[chosen]
        return kept.fit(head, features, found.targets[chosen], sample_weight=weight, groups=groups)

    def probe(self, chosen: np.ndarray, seed: int | None) -> Any:
        """Return the best head for the frozen features, fitted to the chosen examples; each is fitted once."""
        key = chosen.tobytes(), seed
        if key not in self._probes:
            self._probes[key] = self.head("auto", self.found.features, chosen, seed)
        return self._probes[key]

    def is_far(self, chosen: np.ndarray, seed: int | None) -> bool:
        """Return whether the probe of the chosen examples is wrong about more than a tenth of them, each left out.

        The frozen features then lack what the task needs. Only of single classes is this asked.
        """
        outputs = self.left_out_outputs(self.probe(chosen, seed)) if self.kind == "classification" else None
        if outputs is None:
            return False
        codes = self.goal.targets(self.found.targets[chosen]).argmax(dim=1)
        return float((outputs.argmax(dim=1) != codes).double().mean()) > _FAR

    @cached_property
    def _probes(self) -> dict[tuple[bytes, int | None], Any]:
        return {}

    def _unfitted(self, name: str, seed: int | None) -> Any:
        return make_head(name, self.kind, class_weight=self.class_weight, random_state=seed)

    def _linear(self, chosen: np.ndarray, seed: int | None) -> Any:
        """Return the linear head of the frozen features; where the probe of the same examples holds it, that one."""
        wanted = self._unfitted(_LINEAR[self.kind], seed)
        probe = self._probes.get((chosen.tobytes(), seed))
        members: list[Any] = [probe]
        match probe:
            case AutoHead():
                members = list(probe.heads_.values())
            case AutoRegressor():
                members = [probe.ridge_]
        for member in members:
            if type(member) is type(wanted) and member.get_params() == wanted.get_params():
                return member
        return self.head(_LINEAR[self.kind], self.found.features, chosen, seed)

    def start(self, chosen: np.ndarray, seed: int | None) -> nn.Linear:
        """Return the converged linear head of the frozen features, in the units of the targets."""
        head = self._linear(chosen, seed)
        return self.layer(np.atleast_2d(head.coef_), np.atleast_1d(head.intercept_))

    def layer(self, weights: np.ndarray, intercept: np.ndarray) -> nn.Linear:
        """Return a linear model (outputs, d), in the user's units, as a layer in the units of the targets.

        One row of weights for two classes is the logit of the second one.
        """
        if self.kind == "classification" and len(weights) == 1:
            weights, intercept = np.vstack([-weights / 2, weights / 2]), np.hstack([-intercept / 2, intercept / 2])
        if isinstance(self.goal, Numbers):
            weights, intercept = weights / self.goal.scale[:, None], (intercept - self.goal.location) / self.goal.scale
        return linear_head(weights, intercept)

    def random_head(self, seed: int) -> nn.Linear:
        """Return a linear head with random weights."""
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(seed)
            return nn.Linear(self.backbone.feature_dim, self.goal.outputs)

    def trained_head(self, layer: Any, temperature: Any) -> Any:
        """Return a trained linear layer as a head, its logits divided by temperatures; not fitted yet."""
        weights = layer.weight.detach().double().cpu().numpy()
        intercept = layer.bias.detach().double().cpu().numpy()
        if isinstance(self.goal, Numbers):
            scale = self.goal.scale
            weights, intercept = weights * scale[:, None], intercept * scale + self.goal.location
        else:
            weights, intercept = weights / np.reshape(temperature, (-1, 1)), intercept / temperature
        return _TRAINED[self.kind](weights, intercept)

    def head_outputs(self, head: Any, features: np.ndarray) -> torch.Tensor:
        """Return a fitted head's outputs (n, outputs) for features, in the units of the network's."""
        if self.kind == "classification":
            # A class without an example among those that the head was fitted to is all but impossible.
            known = np.isin(np.asarray(self.found.task.classes), head.classes_)
            found = np.full((features.shape[0], self.goal.outputs), 1e-12)
            found[:, known] = np.maximum(head.predict_proba(features), 1e-12)
            return torch.from_numpy(np.log(found)).float()
        if self.kind == "multilabel":
            logits = head.decision_function(features).reshape(len(features), -1)
            return torch.from_numpy(logits / head.temperature_).float()
        return self.goal.targets(head.predict(features))

    def left_out_outputs(self, head: Any) -> torch.Tensor | None:
        """Return a fitted head's outputs, as `head_outputs`, for its own examples, each left out; None: too few."""
        scores = head.out_of_fold_
        if scores is None or not np.isfinite(np.asarray(scores)).all():
            return None
        if self.kind == "regression":
            return self.goal.targets(scores)
        if self.kind == "multilabel":
            return torch.from_numpy(np.reshape(scores, (len(scores), -1)) / head.temperature_).float()
        known = np.isin(np.asarray(self.found.task.classes), head.classes_)
        found = np.full((len(scores), self.goal.outputs), np.log(1e-12))
        found[:, known] = log_softmax(scores / head.temperature_, axis=1)
        return torch.from_numpy(found).float()

    def facts(self, held: np.ndarray) -> dict[str, Any]:
        """Return what tells these examples and this network from others, of which a mask (n,) is held out."""
        found = self.found
        seen = [found.targets, held, found.rows, found.sample_weight, found.groups, found.known]
        inputs = [str(one) if isinstance(one, str | os.PathLike) else "" for one in self.inputs]
        data = repr([None if one is None else np.asarray(one).tolist() for one in seen] + inputs)
        return {
            "network": self.backbone.weights_hash,
            "preprocessing": self.backbone.preprocessing.to_dict(),
            "data": hashlib.sha256(data.encode()).hexdigest(),
        }
