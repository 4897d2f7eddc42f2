"""A head for the target domain: the way to where the source's labels hold, and the head that was fitted there."""

from __future__ import annotations

from typing import Any, Self, final

import numpy as np
from sklearn.utils.validation import validate_data

from graft.heads.head import Head
from graft.heads.novelty import fit_novelty
from graft.heads.table import Table
from graft.heads.training_set import apply_scaling, prepare


@final
class AdaptedHead(Head):
    """Predicts target inputs with a head that was fitted on the source, where both are alike.

    Parameters
    ----------
    mapping : Alignment or None
        Fitted; its ``transform`` takes scaled target inputs to where the head was fitted. None: they stay as they are.
    head : estimator
        Fitted; its answers are the answers.
    location, scale : array (d,), optional
        Features are scaled, (x - location) / scale, before they are mapped; None: they stay as they are.
    scaling, random_state
        As in `graft.heads.LogisticPath`, for the distances to the target examples: what is foreign to the domain where
        the model works is foreign, not what is foreign to the source.
    """

    def __init__(
        self,
        mapping: Any = None,
        head: Any = None,
        *,
        location: Any = None,
        scale: Any = None,
        scaling: str = "auto",
        random_state: int | None = None,
    ) -> None:
        self.mapping = mapping
        self.head = head
        self.location = location
        self.scale = scale
        self.scaling = scaling
        self.random_state = random_state

    def fit(self, X: Any, y: Any = None) -> Self:
        """Learn what target inputs (n, d) look like; mapping and head are fitted already, and `y` is not looked at."""
        features = validate_data(self, X, accept_sparse="csr", dtype=[np.float64, np.float32])
        training = prepare(
            features,
            weight=np.ones(features.shape[0]),
            groups=None,
            codes=None,
            classes=0,
            targets=np.zeros((features.shape[0], 1)),
            scaling=self.scaling,
            random_state=self.random_state,
        )
        self.location_, self.scale_ = training.location, training.scale
        self.novelty_rows_, self.novelty_scores_ = fit_novelty(training)
        return self

    @property
    def classes_(self) -> np.ndarray:
        return self.head.classes_

    @property
    def selection_(self) -> dict[str, Any]:
        """How the head within was chosen."""
        return getattr(self.head, "selection_", {})

    def predict_proba(self, X: Any) -> np.ndarray:
        """Return the probabilities (n, K) of target inputs, calibrated on the source."""
        return self.head.predict_proba(self._mapped(self._checked(X)))

    def decision_function(self, X: Any) -> np.ndarray:
        """Return the head's scores of target inputs, as scikit-learn shapes them."""
        return self.head.decision_function(self._mapped(self._checked(X)))

    def _answers(self, features: Table) -> np.ndarray:
        return self.head.predict(self._mapped(features))

    def _mapped(self, features: Table) -> Table:
        placed = features if self.location is None else apply_scaling(features, self.location, self.scale)
        return placed if self.mapping is None else self.mapping.transform(placed)
