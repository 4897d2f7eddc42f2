"""Votes of the nearest examples, their number chosen by leave-one-out."""

from __future__ import annotations

from collections.abc import Sequence
from typing import final

import numpy as np

from graft.heads.classifier_head import ClassifierHead, Outcome
from graft.heads.scores import best, classification_scores
from graft.heads.table import Table
from graft.heads.training_set import TrainingSet, squared_distances

NEIGHBOURS = (1, 3, 5, 9, 15, 25)


@final
class NearestNeighbors(ClassifierHead):
    r"""k nearest neighbours in the scaled features; k is chosen by leave-one-out.

    The logits are :math:`\log(v_k + \epsilon \pi_k)` with the share of votes v, the class shares π and ε = 1/(k + 1),
    so that a class without a vote keeps some probability. A neighbour votes with its weight (an example of weight 2 is
    two neighbours) and counts :math:`1 / (1 + d^2 / d_k^2)` times, so that nearer ones decide ties; :math:`d_k` is the
    distance to the farthest neighbour asked.

    Parameters
    ----------
    neighbors : sequence of int
        The values of k to try.
    scaling, class_weight, calibrate, random_state
        As in `graft.heads.LogisticPath`.

    Attributes
    ----------
    classes_ : ndarray (K,)
    n_neighbors_ : int
        The chosen k.
    examples_ : ndarray (n, d)
        Scaled.
    codes_ : ndarray (n,)
        Their classes.
    weight_ : ndarray (n,)
    temperature_ : float
    out_of_fold_ : ndarray (n, K) or None
        Logits without the example's fold, at the k chosen by leave-one-out.
    selection_ : dict

    Examples
    --------
    >>> from graft.heads import NearestNeighbors
    >>> NearestNeighbors().fit([[0.0], [0.2], [1.0], [1.1]], [0, 0, 1, 1]).predict([[0.3], [0.9]]).tolist()
    [0, 1]
    """

    def __init__(
        self,
        *,
        neighbors: Sequence[int] = NEIGHBOURS,
        scaling: str = "auto",
        class_weight: dict | str | None = None,
        calibrate: bool = True,
        random_state: int | None = None,
    ) -> None:
        self.neighbors = neighbors
        self.scaling = scaling
        self.class_weight = class_weight
        self.calibrate = calibrate
        self.random_state = random_state

    def _solve(self, training: TrainingSet) -> Outcome:
        assert training.codes is not None
        self.examples_, self.codes_, self.weight_ = training.dense, training.codes, training.weight
        totals = np.bincount(self.codes_, weights=self.weight_, minlength=training.classes)
        self.class_share_ = totals / totals.sum()
        tried = sorted({int(value) for value in self.neighbors})
        if not training.can_cross_validate:
            self.n_neighbors_ = tried[0]
            return Outcome(None, {"neighbors": self.n_neighbors_, "tried": []})
        logits = self._votes(training.dense, tried, training.groups)
        for part in logits:
            part[~training.held_out] = np.nan
        scores = [classification_scores(part, training) for part in logits]
        chosen = best(scores)
        self.n_neighbors_ = tried[chosen]
        account = [{"neighbors": k, **score} for k, score in zip(tried, scores, strict=True)]
        out_of_fold = self._votes(training.dense, [self.n_neighbors_], training.fold)[0]
        out_of_fold[~training.held_out] = np.nan
        return Outcome(out_of_fold, {"neighbors": self.n_neighbors_, "tried": account})

    def _logits(self, features: Table) -> np.ndarray:
        return self._votes(self._scaled(features).astype(self.examples_.dtype), [self.n_neighbors_], None)[0]

    def _votes(self, scaled: np.ndarray, counts: list[int], groups: np.ndarray | None) -> list[np.ndarray]:
        """Return the logits (n, K) for each k in ascending `counts`; with `groups`, each without its own group."""
        classes = len(self.class_share_)
        result = [np.empty((len(scaled), classes)) for _ in counts]
        # Weights below 1 need more neighbours to make up k.
        smallest = min(1.0, float(self.weight_.min()))
        deepest = min(len(self.examples_), max(int(np.ceil(counts[-1] / smallest)), 1))
        step = max(1, 4_000_000 // len(self.examples_))
        for first in range(0, len(scaled), step):
            rows = slice(first, first + step)
            distances = squared_distances(scaled[rows], self.examples_)
            if groups is not None:
                distances[groups[rows, None] == groups[None, :]] = np.inf
            nearest = np.argpartition(distances, deepest - 1, axis=1)[:, :deepest]
            near = np.take_along_axis(distances, nearest, axis=1)
            order = np.argsort(near, axis=1, kind="stable")
            nearest, near = np.take_along_axis(nearest, order, axis=1), np.take_along_axis(near, order, axis=1)
            weights = np.where(np.isfinite(near), self.weight_[nearest], 0)
            before = np.cumsum(weights, axis=1) - weights
            cells = np.arange(len(nearest))[:, None] * classes + self.codes_[nearest]
            for k, logits in zip(counts, result, strict=True):
                counted = np.clip(k - before, 0, weights)
                last = np.where(counted > 0, near, 0).max(axis=1, keepdims=True)
                closeness = 1 / (1 + np.where(counted > 0, near, 0) / np.maximum(last, 1e-30))
                strength = counted * closeness
                votes = np.bincount(cells.ravel(), weights=strength.ravel(), minlength=len(nearest) * classes)
                votes = votes.reshape(len(nearest), classes)
                votes = votes / np.maximum(votes.sum(axis=1, keepdims=True), 1e-30)
                logits[rows] = np.log(votes + self.class_share_ / (k + 1))
        return result
