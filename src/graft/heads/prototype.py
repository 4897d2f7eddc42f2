"""The nearest class mean by cosine: for one or two examples per class."""

from __future__ import annotations

from typing import final

import numpy as np
from scipy import sparse

from graft.heads.classifier_head import ClassifierHead, Outcome
from graft.heads.scores import classification_scores
from graft.heads.table import Table
from graft.heads.training_set import TrainingSet

# Cosines lie within one of each other; contrastive training divides them by 0.05 to 0.1 before the softmax.
SHARPNESS = 10.0


@final
class Prototype(ClassifierHead):
    r"""Cosine similarity to class means: the logits are :math:`10 \cos(x, m_k) + \log \pi_k` with the class shares π,
    calibrated by the temperature.

    Features are scaled and centred first (the mean of all examples), then brought to length 1 (Snell, Swersky and
    Zemel, 2017, with the cosine of Vinyals et al., 2016). Nothing is tuned, so that one example per class is enough;
    the out-of-fold logits leave each example's fold out of all class means.

    Parameters
    ----------
    scaling, class_weight, calibrate, random_state
        As in `graft.heads.LogisticPath`. Class weights change no class mean; they count in the class shares and in the
        calibration.

    Attributes
    ----------
    classes_ : ndarray (K,)
    prototypes_ : ndarray (K, d)
        Unit vectors in the scaled features.
    log_share_ : ndarray (K,)
        log π.
    temperature_ : float
    out_of_fold_ : ndarray (n, K) or None
    selection_ : dict

    Examples
    --------
    >>> from graft.heads import Prototype
    >>> Prototype().fit([[2.0, 0.1], [0.1, 3.0]], ["right", "up"]).predict([[5.0, 1.0]]).tolist()
    ['right']
    """

    def __init__(
        self,
        *,
        scaling: str = "auto",
        class_weight: dict | str | None = None,
        calibrate: bool = True,
        random_state: int | None = None,
    ) -> None:
        self.scaling = scaling
        self.class_weight = class_weight
        self.calibrate = calibrate
        self.random_state = random_state

    def _solve(self, training: TrainingSet) -> Outcome:
        assert training.codes is not None
        unit = _unit(training.dense).astype(np.float64)
        codes, weight = training.codes, training.weight
        indicators = sparse.csr_matrix((weight, (codes, np.arange(training.rows))), (training.classes, training.rows))
        sums = np.asarray(indicators @ unit)
        self.prototypes_ = _unit(sums)
        totals = np.bincount(codes, weights=weight, minlength=training.classes)
        self.log_share_ = np.log(totals / totals.sum())
        if not training.can_cross_validate:
            return Outcome(None, {"tried": []})
        logits = np.full((training.rows, training.classes), np.nan)
        for fold in np.unique(training.fold[training.held_out]):
            out = training.fold == fold
            inside = sums - np.asarray(indicators[:, out] @ unit[out])
            shares = totals - np.bincount(codes[out], weights=weight[out], minlength=training.classes)
            logits[out] = SHARPNESS * unit[out] @ _unit(inside).T + np.log(shares / shares.sum())
        return Outcome(logits, {"tried": [classification_scores(logits, training)]})

    def _logits(self, features: Table) -> np.ndarray:
        unit = _unit(self._scaled(features)).astype(np.float64)
        return SHARPNESS * unit @ self.prototypes_.T + self.log_share_


def _unit(rows: np.ndarray) -> np.ndarray:
    """Return rows of length 1; a row of zeros stays."""
    lengths = np.sqrt(np.einsum("ij,ij->i", rows, rows))
    return rows / np.where(lengths > 0, lengths, 1)[:, None]
