"""Centroids of the classes, drawn from the source's classifier to where the target's examples lie."""

from __future__ import annotations

from typing import Any, Self, final

import numpy as np
from scipy.special import softmax
from sklearn.base import clone
from sklearn.linear_model import LogisticRegression

from graft._checks import integer, number
from graft.alignment.alignment import checked_features, classified_pair
from graft.alignment.scored_classifier import ScoredClassifier
from graft.alignment.standardization import DomainStandardization


@final
class CentroidRefinement(ScoredClassifier):
    r"""Classes are the directions in which the target's own examples lie.

    On standardised features of unit length z (`DomainStandardization`), a classifier that was fitted on the source
    begins with probabilities :math:`p_{ik}` of the target's examples; then, in turns,

    .. math::
        c_k = \frac{\sum_i p_{ik} z_i}{\lVert \sum_i p_{ik} z_i \rVert}, \qquad
        p_{ik} = \mathrm{softmax}_k(z_i \cdot c_k / \tau).

    These are the pseudo-labels of SHOT (Liang, Hu and Feng, 2020, Do we really need to access the source data?, section
    3.2), soft and until they settle; the features stay as they are. Labelled target examples keep their labels. A class
    that no target example takes keeps the source's centroid.

    Parameters
    ----------
    temperature : float
        τ > 0.
    max_iter : int
        Most turns.
    classifier : classifier with ``predict_proba``, optional
        For the beginning; by default scikit-learn's LogisticRegression(C=10).

    Attributes
    ----------
    classes_ : ndarray (K,)
    standardization_ : DomainStandardization
    centroids_ : ndarray (K, d)
        Of unit length.
    n_iter_ : int
        Turns.

    Examples
    --------
    >>> import numpy as np
    >>> from graft.alignment import CentroidRefinement
    >>> draws = np.random.default_rng(0)
    >>> y = np.repeat(["ash", "elm"], 40)
    >>> X = draws.normal(size=(80, 3)) + np.where(y == "ash", 2, -2)[:, None]
    >>> target = X @ [[1, 0.5, 0], [0, 1, 0.5], [0.5, 0, 1]] + 3
    >>> float((CentroidRefinement().fit(X, y, target=target).predict(target) == y).mean()) > 0.95
    True
    """

    temperature_ = 1.0  # the scores are cosines over τ already

    def __init__(self, *, temperature: float = 0.1, max_iter: int = 20, classifier: Any = None) -> None:
        self.temperature = temperature
        self.max_iter = max_iter
        self.classifier = classifier

    def fit(self, X, y, *, target=None, target_labels=None) -> Self:
        """Fit to both domains.

        Parameters
        ----------
        X : array or sparse matrix (n_s, d)
            Source features.
        y : array (n_s,)
            Source labels, of any type that sorts.
        target : array or sparse matrix (n_t, d), optional
            Target features. None: the source stands for the target as well.
        target_labels : array (n_t,), optional
            Labels of the target inputs, None or NaN where they are missing.

        Raises
        ------
        DataError
            If there are fewer than two classes, the domains have different columns, labels are of another length than
            their inputs, or a target label does not occur in the source.
        """
        temperature = number("temperature", self.temperature, low=0.0, open_low=True)
        turns = integer("max_iter", self.max_iter, low=1)
        pair, self.classes_, source_codes = classified_pair(self, X, y, target, target_labels)
        self.standardization_ = DomainStandardization().fit(pair.source, target=pair.target)
        source = self.standardization_.transform_source(pair.source)
        goal = self.standardization_.transform(pair.target)
        first = LogisticRegression(C=10.0, max_iter=1000) if self.classifier is None else clone(self.classifier)
        known = np.flatnonzero(pair.target_codes >= 0)
        given = np.eye(len(self.classes_))[pair.target_codes[known]]
        first.fit(np.concatenate([source, goal[known]]), np.concatenate([source_codes, pair.target_codes[known]]))
        shares = first.predict_proba(goal)
        shares[known] = given
        own = _directions(np.eye(len(self.classes_))[source_codes].T @ source)
        before = shares.argmax(axis=1)
        for self.n_iter_ in range(1, turns + 1):
            taken = np.bincount(shares.argmax(axis=1), minlength=len(own)) > 0
            self.centroids_ = np.where(taken[:, None], _directions(shares.T @ goal), own)
            shares = softmax(goal @ self.centroids_.T / temperature, axis=1)
            shares[known] = given
            labels = shares.argmax(axis=1)
            if np.array_equal(labels, before) and self.n_iter_ > 1:
                break
            before = labels
        return self

    def _scores(self, X: Any) -> np.ndarray:
        features = checked_features(self, X).astype(np.float64)
        return self.standardization_.transform(features) @ self.centroids_.T / self.temperature

    def __sklearn_tags__(self):
        tags = super().__sklearn_tags__()
        tags.input_tags.sparse = True
        return tags


def _directions(vectors: np.ndarray) -> np.ndarray:
    lengths = np.linalg.norm(vectors, axis=1, keepdims=True)
    return vectors / np.where(lengths > 0, lengths, 1.0)
