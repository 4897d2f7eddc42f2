"""The best classifier for the features at hand, by cross-validation."""

from __future__ import annotations

from typing import Any, final

import numpy as np
from scipy import sparse

from graft.heads.calibration import log_probabilities
from graft.heads.classifier_head import ClassifierHead, Outcome
from graft.heads.kernel_ridge import KernelRidgeClassifier
from graft.heads.logistic_path import LogisticPath
from graft.heads.nearest_neighbors import NearestNeighbors
from graft.heads.prototype import Prototype
from graft.heads.scores import best, classification_scores, paired_difference
from graft.heads.shrinkage_discriminant import ShrinkageDiscriminant
from graft.heads.stacking import stacking_weights
from graft.heads.table import Table
from graft.heads.training_set import TrainingSet

# Heads of different kinds err differently; the simpler two add nothing to these, and serve where they win.
_BLENDED = ("logistic", "kernel-ridge", "discriminant")


@final
class AutoHead(ClassifierHead):
    r"""The best of all heads on held-out examples, or the best sum of them.

    The candidates (logistic, kernel ridge, discriminant, prototype, nearest neighbours) share the scaled features, the
    folds, the distances and the eigendecompositions, and are compared on the same held-out examples. The first three
    are stacked: their calibrated log probabilities are added up with the weights that have the lowest log loss on
    held-out examples. (Over four data sets of 2 to 80 examples per class, five seeds each, stacking had the highest
    mean accuracy and the lowest log loss of twelve rules; serving the most accurate head alone cost 0.4 points, and
    dropping members that hardly lower the log loss up to 0.1 where examples are few.) The other two serve where they
    are measurably better. With a single example per class nothing can be held out, and the prototype serves.

    Parameters
    ----------
    scaling, class_weight, calibrate, random_state
        As in `graft.heads.LogisticPath`.
    blend : bool
        Stack the heads; otherwise the most accurate one serves alone.

    Attributes
    ----------
    classes_ : ndarray (K,)
    heads_ : dict of str to ClassifierHead
        The chosen ones, fitted.
    weights_ : ndarray (m,)
        Their weights; 1 for a single one.
    temperature_ : float
    out_of_fold_ : ndarray (n, K) or None
    selection_ : dict
        Every candidate ("tried") with its accuracy, standard error, macro-F1 and log loss; the most accurate one
        ("best") and its lead over the next; what serves ("chosen"), with its weights and the scores of the blend.

    Examples
    --------
    >>> import numpy as np
    >>> from graft.heads import AutoHead
    >>> X = np.random.default_rng(0).normal(size=(80, 2))
    >>> head = AutoHead().fit(X, np.where((X ** 2).sum(axis=1) > 1.4, "far", "near"))
    >>> head.selection_["best"], head.predict([[0.1, 0.1], [3.0, 0.0]]).tolist()
    ('kernel-ridge', ['near', 'far'])
    """

    def __init__(
        self,
        *,
        scaling: str = "auto",
        blend: bool = True,
        class_weight: dict | str | None = None,
        calibrate: bool = True,
        random_state: int | None = None,
    ) -> None:
        self.scaling = scaling
        self.blend = blend
        self.class_weight = class_weight
        self.calibrate = calibrate
        self.random_state = random_state

    def _solve(self, training: TrainingSet) -> Outcome:
        candidates = self._candidates(training)
        outcomes: dict[str, Outcome] = {}
        tried: list[dict[str, Any]] = []
        for name, head in candidates.items():
            head.classes_, head.n_features_in_ = self.classes_, training.features.shape[1]
            outcomes[name] = head._adopt(training)
            out_of_fold = outcomes[name].out_of_fold
            scores = classification_scores(out_of_fold, training) if out_of_fold is not None else {}
            options = {key: value for key, value in outcomes[name].selection.items() if key != "tried"}
            tried.append({"head": name, **scores, "options": options})
        leader = tried[best(tried) if len(tried) > 1 else 0]
        name = str(leader["head"])
        selection: dict[str, Any] = {"score": "accuracy", "tried": tried, "best": name, "lead": None}
        blend, out_of_fold = {name: 1.0}, outcomes[name].out_of_fold
        if len(tried) > 1 and out_of_fold is not None:
            selection["lead"] = leader["accuracy"] - max(row["accuracy"] for row in tried if row is not leader)
            if self.blend:
                calibrated = {
                    member: log_probabilities(part, candidates[member].temperature_)
                    for member in _BLENDED
                    if (part := outcomes[member].out_of_fold) is not None
                }
                weights, stacked = _stack(calibrated, training)
                ahead, error = paired_difference(out_of_fold, stacked, training)
                if len(weights) == 1 and (name in _BLENDED or ahead <= error):
                    # A single member serves with its own logits, whose scale its weight would change.
                    (member,) = weights
                    blend, out_of_fold = {member: 1.0}, outcomes[member].out_of_fold
                elif name in _BLENDED or ahead <= error:
                    blend, out_of_fold = weights, stacked
                    selection["blend"] = classification_scores(out_of_fold, training)
        selection["chosen"], selection["weights"] = list(blend), list(blend.values())
        self.weights_ = np.array(selection["weights"])
        self.heads_ = {member: candidates[member] for member in selection["chosen"]}
        for member in self.heads_:
            finish = outcomes[member].finish
            if finish is not None:
                finish()
        return Outcome(out_of_fold, selection)

    def _candidates(self, training: TrainingSet) -> dict[str, ClassifierHead]:
        options: dict[str, Any] = {
            "scaling": self.scaling,
            "class_weight": self.class_weight,
            "random_state": self.random_state,
        }
        if sparse.issparse(training.features):
            return {"logistic": LogisticPath(**options)}
        if not training.can_cross_validate:
            return {"prototype": Prototype(**options)}
        return {
            "logistic": LogisticPath(**options),
            "kernel-ridge": KernelRidgeClassifier(**options),
            "discriminant": ShrinkageDiscriminant(**options),
            "prototype": Prototype(**options),
            "nearest-neighbors": NearestNeighbors(**options),
        }

    def _logits(self, features: Table) -> np.ndarray:
        members = list(self.heads_.values())
        if len(members) == 1:
            return members[0]._logits(features)
        parts = [log_probabilities(head._logits(features), head.temperature_) for head in members]
        return np.tensordot(self.weights_, np.stack(parts), axes=1)


def _stack(calibrated: dict[str, np.ndarray], training: TrainingSet) -> tuple[dict[str, float], np.ndarray]:
    """Return the weights of the members that have one, and the weighted sum of their log probabilities (n, K)."""
    held_out = training.held_out
    assert training.codes is not None
    parts = np.stack([table[held_out] for table in calibrated.values()])
    weights, _ = stacking_weights(parts, training.codes[held_out], training.weight[held_out])
    blend = {name: float(value) for name, value in zip(calibrated, weights, strict=True) if value > 0}
    return blend, np.tensordot(list(blend.values()), np.stack([calibrated[name] for name in blend]), axes=1)
