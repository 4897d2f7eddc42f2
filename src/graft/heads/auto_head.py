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
from graft.heads.table import Table
from graft.heads.training_set import TrainingSet

# Heads of different kinds err differently, and their average is worth having; the simpler two only stand in where
# they win.
_BLENDED = ("logistic", "kernel-ridge", "discriminant")


@final
class AutoHead(ClassifierHead):
    r"""The head that classifies held-out examples best: logistic, kernel ridge, discriminant, prototype or nearest
    neighbours.

    All candidates share the scaled features, the folds, the distances and the eigendecompositions, and are compared on
    the same held-out examples. The most accurate one leads. Heads of other kinds join it, one by one, as long as they
    lower the log loss on held-out examples and cost the leader no measurable accuracy (one standard error of the
    paired difference); the logits are then the mean of the members' calibrated log probabilities. With a single
    example per class nothing can be held out, and the prototype serves.

    Parameters
    ----------
    scaling, class_weight, calibrate, random_state
        As in `graft.heads.LogisticPath`.
    blend : bool
        Let other heads (logistic, kernel ridge, discriminant) join the best one; otherwise the best alone.

    Attributes
    ----------
    classes_ : ndarray (K,)
    heads_ : dict of str to ClassifierHead
        The chosen ones, fitted.
    temperature_ : float
    out_of_fold_ : ndarray (n, K) or None
    selection_ : dict
        Every candidate with its accuracy, standard error, macro-F1 and log loss; the chosen ones; and by how much the
        best leads the next.

    Examples
    --------
    >>> import numpy as np
    >>> from graft.heads import AutoHead
    >>> X = np.random.default_rng(0).normal(size=(80, 2))
    >>> head = AutoHead().fit(X, np.where((X ** 2).sum(axis=1) > 1.4, "far", "near"))
    >>> head.selection_["chosen"], head.predict([[0.1, 0.1], [3.0, 0.0]]).tolist()
    (['kernel-ridge'], ['near', 'far'])
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
        selection: dict[str, Any] = {"score": "accuracy", "tried": tried, "chosen": [name], "lead": None}
        out_of_fold = outcomes[name].out_of_fold
        if len(tried) > 1 and out_of_fold is not None:
            selection["lead"] = leader["accuracy"] - max(row["accuracy"] for row in tried if row is not leader)
            if self.blend and name in _BLENDED:
                calibrated = {
                    member: log_probabilities(part, candidates[member].temperature_)
                    for member in _BLENDED
                    if member in candidates and (part := outcomes[member].out_of_fold) is not None
                }
                members, blended = _blend(calibrated, name, training)
                if len(members) > 1:
                    out_of_fold = blended
                    selection["chosen"] = members
                    selection["blend"] = classification_scores(out_of_fold, training)
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
        return np.mean([log_probabilities(head._logits(features), head.temperature_) for head in members], axis=0)


def _blend(calibrated: dict[str, np.ndarray], leader: str, training: TrainingSet) -> tuple[list[str], np.ndarray]:
    """Return the members, and the mean of their calibrated log probabilities.

    From the leader on, one by one, the member that lowers the log loss most joins, as long as the blend's accuracy
    stays within one standard error of the leader's.
    """
    members, blended = [leader], calibrated[leader]
    loss = classification_scores(blended, training)["log_loss"]
    while True:
        options = []
        for name in calibrated:
            if name in members:
                continue
            mean = (blended * len(members) + calibrated[name]) / (len(members) + 1)
            deficit, error = paired_difference(calibrated[leader], mean, training)
            if deficit <= error:
                options.append((classification_scores(mean, training)["log_loss"], name, mean))
        if not options or min(options, key=lambda option: option[0])[0] >= loss:
            return members, blended
        loss, name, blended = min(options, key=lambda option: option[0])
        members = [*members, name]
