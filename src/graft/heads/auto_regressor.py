"""The best regressor for the features at hand, by leave-one-out."""

from __future__ import annotations

from typing import Any, final

import numpy as np
from scipy import sparse

from graft.heads.classifier_head import Outcome
from graft.heads.kernel_ridge import KernelRidgeRegressor
from graft.heads.regressor_head import RegressorHead
from graft.heads.ridge_path import RidgePath
from graft.heads.scores import regression_scores
from graft.heads.table import Table
from graft.heads.training_set import TrainingSet


@final
class AutoRegressor(RegressorHead):
    """Ridge or kernel ridge, whichever predicts examples left out with the lower squared error.

    Parameters
    ----------
    scaling, random_state
        As in `graft.heads.LogisticPath`.

    Attributes
    ----------
    head_ : RidgePath or KernelRidgeRegressor
        The chosen one, fitted.
    ridge_ : RidgePath
        The linear one, fitted, chosen or not: a training of the features may start from it.
    out_of_fold_ : ndarray (n,) or (n, outputs), or None
    selection_ : dict
        Every candidate with its error (in units of the target's variance) and standard error, the chosen one, and by
        how much it leads.

    Examples
    --------
    >>> import numpy as np
    >>> from graft.heads import AutoRegressor
    >>> X = np.linspace(-3, 3, 60)[:, None]
    >>> AutoRegressor().fit(X, np.sin(2 * X[:, 0])).selection_["chosen"]
    'kernel-ridge'
    """

    def __init__(self, *, scaling: str = "auto", random_state: int | None = None) -> None:
        self.scaling = scaling
        self.random_state = random_state

    def _solve(self, training: TrainingSet) -> Outcome:
        candidates: dict[str, RegressorHead] = {
            "ridge": RidgePath(scaling=self.scaling, random_state=self.random_state),
        }
        if not sparse.issparse(training.features) and training.can_cross_validate:
            candidates["kernel-ridge"] = KernelRidgeRegressor(scaling=self.scaling, random_state=self.random_state)
        outcomes: dict[str, Outcome] = {}
        tried: list[dict[str, Any]] = []
        for name, head in candidates.items():
            head.n_features_in_ = training.features.shape[1]
            head.single_output_ = self.single_output_
            head.target_location_, head.target_scale_ = self.target_location_, self.target_scale_
            outcomes[name] = head._adopt(training)
            out_of_fold = outcomes[name].out_of_fold
            scores = regression_scores(out_of_fold, training) if out_of_fold is not None else {}
            options = {key: value for key, value in outcomes[name].selection.items() if key != "tried"}
            tried.append({"head": name, **scores, "options": options})
        at = min(range(len(tried)), key=lambda index: tried[index].get("mean_squared_error", 0.0))
        chosen = tried[at]["head"]
        self.head_, self.ridge_ = candidates[chosen], candidates["ridge"]
        others = [row["mean_squared_error"] for row in tried if row is not tried[at]]
        lead = min(others) - tried[at]["mean_squared_error"] if others else None
        return Outcome(
            outcomes[chosen].out_of_fold,
            {"score": "mean_squared_error", "tried": tried, "chosen": chosen, "lead": lead},
        )

    def _values(self, features: Table) -> np.ndarray:
        return self.head_._values(features)
