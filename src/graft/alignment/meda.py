"""Manifold embedded distribution alignment: a classifier for the target, fitted to both domains at once."""

from __future__ import annotations

from typing import Any, Self, final

import numpy as np
from sklearn.neighbors import NearestNeighbors

from graft._checks import integer, number
from graft._runtime import generator
from graft.alignment.alignment import checked_features, classified_pair
from graft.alignment.contrasts import discrepancy_contrasts
from graft.alignment.direction_kernel import direction_kernel, unit_rows
from graft.alignment.domain_distance import balance_factor, proxy_a_distance
from graft.alignment.geodesic_flow import GeodesicFlowKernel
from graft.alignment.neighbor_graph import normalized_laplacian
from graft.alignment.scored_classifier import ScoredClassifier
from graft.alignment.softmax_temperature import softmax_temperature
from graft.alignment.structural_risk import StructuralRisk

# Probabilities are calibrated on this many labelled examples at most; each costs one right-hand side.
_CALIBRATION_ROWS = 256


@final
class MEDA(ScoredClassifier):
    r"""Manifold embedded distribution alignment (Wang, Feng, Chen, Yu, Huang and Yu, 2018).

    Both domains are mapped by the geodesic flow kernel (`GeodesicFlowKernel`) and every row is divided by its length.
    On these :math:`z`, with the Gaussian kernel :math:`k(z, z') = \exp(-\lVert z - z' \rVert^2 / 2)`, scores
    :math:`f = \sum_i \beta_i k(z_i, \cdot)` for all classes minimise (equation 4)

    .. math::
        \sum_{i \text{ labelled}} \lVert y_i - f(z_i) \rVert^2 + \eta \lVert f \rVert_K^2
        + \lambda \bar D_f(\mathcal{D}_s, \mathcal{D}_t) + \rho R_f(\mathcal{D}_s, \mathcal{D}_t)

    with the indicators :math:`y_i` of the classes, the Laplacian regularisation :math:`R_f` on the graph of nearest
    neighbours in both domains, and the dynamic distribution alignment

    .. math::
        \bar D_f = (1 - \mu) \lVert \bar f_s - \bar f_t \rVert^2
        + \mu \sum_c \lVert \bar f_s^{(c)} - \bar f_t^{(c)} \rVert^2

    between the mean scores of the domains and of each class c in them, where the target's classes are the predictions
    of the iteration before (at first, of the nearest labelled example) and μ is estimated (`balance_factor`). The
    solution is in closed form (`StructuralRisk`). Iterations end early once no prediction changes: all later ones would
    be the same.

    As in the authors' code, the first term of :math:`\bar D_f` counts as often as there are classes, its matrix is
    divided by its Frobenius norm before λ applies, μ is estimated before rows are divided by their lengths, and each
    example has a loop in the graph. Unlike it, a class that is predicted nowhere in the target takes no part in
    :math:`\bar D_f` and μ (their code draws the source's mean score for it to zero), negative cosines are no weights of
    the graph, and each domain is centred by its own mean first (their inputs were).

    Parameters
    ----------
    n_components : int, optional
        Dimension of the subspaces of the geodesic flow kernel; None: the number on which the domains agree.
    alignment : float
        λ ≥ 0.
    shrinkage : float
        η > 0.
    smoothness : float
        ρ ≥ 0.
    n_neighbors : int
        Neighbours p in the graph.
    balance : float in [0, 1], optional
        μ; None: estimated in each iteration.
    max_iter : int
        Most iterations.
    max_landmarks : int
        With more source and target inputs together, only as many of them, drawn at random, have a coefficient
        (`StructuralRisk`): time then grows with the inputs, no longer with their third power.
    random_state : int, Generator or None
        Draws the landmarks.

    Attributes
    ----------
    classes_ : ndarray (C,)
    flow_ : GeodesicFlowKernel
    examples_ : ndarray (n, k)
        z of the source, then of the target, or of the landmarks.
    dual_coef_ : ndarray (n, C)
        β.
    target_labels_ : ndarray (n_t,)
        Predictions for the target inputs of the fit, given labels where there were some.
    balance_ : float
        μ in the last iteration.
    temperature_ : float
        Probabilities are softmax(f / temperature); it minimises the log loss of labelled examples whose own label was
        left out, so that they are calibrated for the source.
    n_iter_ : int
        Iterations.

    References
    ----------
    Wang, Feng, Chen, Yu, Huang and Yu (2018), Visual domain adaptation with manifold embedded distribution alignment,
    ACM Multimedia.

    Examples
    --------
    >>> import numpy as np
    >>> from graft.alignment import MEDA
    >>> draws = np.random.default_rng(0)
    >>> y = np.repeat(["ash", "elm"], 40)
    >>> X = draws.normal(size=(80, 3)) + np.where(y == "ash", 2, -2)[:, None]
    >>> target = X[:, [1, 2, 0]] * [1, 0.5, 2] + 3
    >>> model = MEDA(n_components=2).fit(X, y, target=target)
    >>> float((model.predict(target) == y).mean()) > 0.95
    True
    """

    def __init__(
        self,
        *,
        n_components: int | None = 20,
        alignment: float = 10.0,
        shrinkage: float = 0.1,
        smoothness: float = 1.0,
        n_neighbors: int = 10,
        balance: float | None = None,
        max_iter: int = 10,
        max_landmarks: int = 5000,
        random_state: int | np.random.Generator | np.random.RandomState | None = None,
    ) -> None:
        self.n_components = n_components
        self.alignment = alignment
        self.shrinkage = shrinkage
        self.smoothness = smoothness
        self.n_neighbors = n_neighbors
        self.balance = balance
        self.max_iter = max_iter
        self.max_landmarks = max_landmarks
        self.random_state = random_state

    def fit(self, X, y, *, target=None, target_labels=None) -> Self:
        """Fit to both domains.

        Parameters
        ----------
        X : array or sparse matrix (n_s, d)
            Source features.
        y : array (n_s,)
            Source labels, of any type that sorts.
        target : array or sparse matrix (n_t, d), optional
            Target features. None: the source stands for the target as well, and there is nothing to bridge.
        target_labels : array (n_t,), optional
            Labels of the target inputs, None or NaN where they are missing. Labelled ones count like the source's.

        Raises
        ------
        DataError
            If there are fewer than two classes, the domains have different columns, labels are of another length than
            their inputs, or a target label does not occur in the source.
        """
        alignment = number("alignment", self.alignment, low=0.0)
        shrinkage = number("shrinkage", self.shrinkage, low=0.0, open_low=True)
        smoothness = number("smoothness", self.smoothness, low=0.0)
        neighbors = integer("n_neighbors", self.n_neighbors, low=1)
        balance = None if self.balance is None else number("balance", self.balance, low=0.0, high=1.0)
        rounds = integer("max_iter", self.max_iter, low=1)
        most = integer("max_landmarks", self.max_landmarks, low=1)
        pair, self.classes_, source_codes = classified_pair(self, X, y, target, target_labels)
        self.flow_ = GeodesicFlowKernel(n_components=self.n_components).fit(pair.source, target=pair.target)
        flown = self.flow_.transform_source(pair.source), self.flow_.transform(pair.target)
        examples = unit_rows(np.vstack(flown))
        landmarks = None
        if len(examples) > most:
            landmarks = np.sort(generator(self.random_state).choice(len(examples), most, replace=False))
        self.examples_ = examples if landmarks is None else examples[landmarks]

        source_rows, count = len(pair.source), len(self.classes_)
        codes = np.concatenate([source_codes, pair.target_codes])
        known = codes >= 0
        indicators = np.zeros((len(codes), count))
        indicators[known, codes[known]] = 1
        kernel = direction_kernel(examples, self.examples_)
        risk = StructuralRisk(
            kernel,
            normalized_laplacian(examples, neighbors),
            known,
            indicators,
            shrinkage=shrinkage,
            smoothness=smoothness,
            landmarks=landmarks,
        )
        if not known.all():
            nearest = NearestNeighbors(n_neighbors=1).fit(examples[known])
            codes[~known] = codes[known][nearest.kneighbors(examples[~known], return_distance=False)[:, 0]]
        marginal = proxy_a_distance(*flown) if balance is None else None
        for self.n_iter_ in range(1, rounds + 1):
            sides = codes[:source_rows], codes[source_rows:]
            self.balance_ = balance_factor(*flown, *sides, marginal=marginal) if balance is None else balance
            risk.discrepancy(np.sqrt(alignment) * discrepancy_contrasts(*sides, count, self.balance_))
            self.dual_coef_ = risk.coefficients()
            scores = kernel @ self.dual_coef_
            before = codes.copy()
            codes[~known] = scores[~known].argmax(axis=1)
            if np.array_equal(before, codes):
                break
        self.target_labels_ = self.classes_[codes[source_rows:]]
        rows = np.flatnonzero(known)
        rows = rows[np.linspace(0, len(rows) - 1, min(len(rows), _CALIBRATION_ROWS)).astype(int)]
        self.temperature_ = softmax_temperature(risk.left_out(scores, rows), np.eye(count)[codes[rows]])
        return self

    def _scores(self, X: Any) -> np.ndarray:
        features = checked_features(self, X).astype(np.float64, copy=False)
        return direction_kernel(unit_rows(self.flow_.transform(features)), self.examples_) @ self.dual_coef_

    def __sklearn_tags__(self):
        tags = super().__sklearn_tags__()
        tags.input_tags.sparse = True
        return tags
