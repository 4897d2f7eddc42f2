"""A classifier from probabilities that others gave, smooth along the examples it was fitted on."""

from __future__ import annotations

from typing import Any, Self, final

import numpy as np
from sklearn.utils.multiclass import check_classification_targets
from sklearn.utils.validation import check_consistent_length, column_or_1d, validate_data

from graft._checks import integer, number
from graft._runtime import generator
from graft.alignment.alignment import checked_features
from graft.alignment.direction_kernel import direction_kernel, unit_rows
from graft.alignment.neighbor_graph import normalized_laplacian
from graft.alignment.scored_classifier import ScoredClassifier
from graft.alignment.softmax_temperature import softmax_temperature
from graft.alignment.standardization import DomainStandardization
from graft.alignment.structural_risk import StructuralRisk
from graft.errors import DataError

# Probabilities are calibrated on this many examples at most; each costs one right-hand side.
_CALIBRATION_ROWS = 256


@final
class ManifoldRegularization(ScoredClassifier):
    r"""Kernel least squares on probabilities of classes, smooth on the graph of nearest neighbours.

    With probabilities :math:`p_i` of the classes of example i, their mean :math:`\bar p`, the Gaussian kernel
    :math:`k(z, z') = \exp(-\lVert z - z' \rVert^2 / 2)` and the normalised Laplacian L of the graph
    (`normalized_laplacian`), scores :math:`f = \bar p + \sum_i \beta_i k(z_i, \cdot)` minimise

    .. math:: \sum_i \lVert p_i - f(z_i) \rVert^2 + \eta \lVert f - \bar p \rVert_K^2 + \rho \operatorname{tr} f^T L f

    in closed form (`StructuralRisk`). This is Laplacian regularised least squares (Belkin, Niyogi and Sindhwani, 2006,
    equation 8), here with every example labelled, softly. Without the middle term its answer for the examples
    themselves would be :math:`(I + \rho L)^{-1} p`, the labels propagated on the graph with :math:`\alpha = \rho /
    (1 + \rho)` of Zhou, Bousquet, Lal, Weston and Schölkopf (2004); the kernel carries it to new ones. An answer that
    was given against those of all neighbours is thereby taken back.

    z is an example with standardised columns and a one behind them, divided by its length: the direction, as is usual
    for features of a network, and for few columns the place as well.

    Parameters
    ----------
    shrinkage : float
        η > 0.
    smoothness : float
        ρ ≥ 0.
    n_neighbors : int
        Neighbours in the graph.
    max_landmarks : int
        With more examples, only as many of them, drawn at random, have a coefficient.
    random_state : int, Generator or None
        Draws the landmarks.

    Attributes
    ----------
    classes_ : ndarray (C,)
    standardization_ : DomainStandardization
    examples_ : ndarray (m, d + 1)
        z of the examples, or of the landmarks.
    dual_coef_ : ndarray (m, C)
        β.
    shares_ : ndarray (C,)
        :math:`\bar p`.
    temperature_ : float
        Probabilities are softmax(f / temperature), as sure as the given ones could be foretold from those of others.

    References
    ----------
    Belkin, Niyogi and Sindhwani (2006), Manifold regularization: a geometric framework for learning from labeled and
    unlabeled examples.

    Examples
    --------
    >>> import numpy as np
    >>> from graft.alignment import ManifoldRegularization
    >>> draws = np.random.default_rng(0)
    >>> truth = np.repeat([0, 1], 40)
    >>> X = draws.normal(size=(80, 3)) + np.where(truth, 3, -3)[:, None]
    >>> told = np.where(truth[:, None] == [0, 1], 0.7, 0.3)
    >>> told[::8] = told[::8, ::-1]
    >>> model = ManifoldRegularization().fit(X, probabilities=told, classes=["ash", "elm"])
    >>> float((told.argmax(axis=1) == truth).mean())
    0.875
    >>> float((model.predict(X) == np.array(["ash", "elm"])[truth]).mean())
    1.0
    """

    def __init__(
        self,
        *,
        shrinkage: float = 0.1,
        smoothness: float = 1.0,
        n_neighbors: int = 10,
        max_landmarks: int = 5000,
        random_state: int | np.random.Generator | np.random.RandomState | None = None,
    ) -> None:
        self.shrinkage = shrinkage
        self.smoothness = smoothness
        self.n_neighbors = n_neighbors
        self.max_landmarks = max_landmarks
        self.random_state = random_state

    def fit(self, X, y=None, *, probabilities=None, classes=None) -> Self:
        """Fit to examples and what is thought of them.

        Parameters
        ----------
        X : array or sparse matrix (n, d)
            Features.
        y : array (n,), optional
            Classes; not looked at where there are probabilities.
        probabilities : array (n, C), optional
            Of the classes.
        classes : array (C,), optional
            Which class each column of the probabilities is.

        Raises
        ------
        DataError
            If there are neither classes nor probabilities, or fewer than two classes, or not one row for each example.
        """
        shrinkage = number("shrinkage", self.shrinkage, low=0.0, open_low=True)
        smoothness = number("smoothness", self.smoothness, low=0.0)
        neighbors = integer("n_neighbors", self.n_neighbors, low=1)
        most = integer("max_landmarks", self.max_landmarks, low=1)
        checked = validate_data(self, X, accept_sparse="csr", dtype=[np.float64, np.float32], ensure_min_samples=2)
        self.classes_, wanted = _wanted(checked, y, probabilities, classes)
        self.standardization_ = DomainStandardization(unit_length=False).fit(X)
        examples = self._placed(X)
        landmarks = None
        if len(examples) > most:
            landmarks = np.sort(generator(self.random_state).choice(len(examples), most, replace=False))
        self.examples_ = examples if landmarks is None else examples[landmarks]
        self.shares_ = wanted.mean(axis=0)
        kernel = direction_kernel(examples, self.examples_)
        risk = StructuralRisk(
            kernel,
            normalized_laplacian(examples, neighbors),
            np.ones(len(examples), dtype=bool),
            wanted - self.shares_,
            shrinkage=shrinkage,
            smoothness=smoothness,
            landmarks=landmarks,
        )
        self.dual_coef_ = risk.coefficients()
        rows = np.linspace(0, len(examples) - 1, min(len(examples), _CALIBRATION_ROWS)).astype(int)
        foretold = risk.left_out(kernel @ self.dual_coef_, rows) + self.shares_
        self.temperature_ = softmax_temperature(foretold, wanted[rows])
        return self

    def _scores(self, X: Any) -> np.ndarray:
        checked_features(self, X)
        return direction_kernel(self._placed(X), self.examples_) @ self.dual_coef_ + self.shares_

    def _placed(self, X: Any) -> np.ndarray:
        standardised = self.standardization_.transform(X).astype(np.float64, copy=False)
        return unit_rows(np.hstack([standardised, np.ones((len(standardised), 1))]))

    def __sklearn_tags__(self):
        tags = super().__sklearn_tags__()
        tags.input_tags.sparse = True
        return tags


def _wanted(X: Any, y: Any, probabilities: Any, classes: Any) -> tuple[np.ndarray, np.ndarray]:
    """Return the classes (C,) and their probabilities (n, C)."""
    if probabilities is None:
        if y is None:
            # The remedy in scikit-learn's own words: its checks look for them.
            raise DataError(
                "y",
                expected="classes, or probabilities in their place",
                found="None",
                remedy="ManifoldRegularization requires y to be passed, but the target y is None.",
            )
        labels = column_or_1d(y, warn=True)
        check_consistent_length(X, labels)
        check_classification_targets(labels)
        names, codes = np.unique(labels, return_inverse=True)
        table = np.eye(len(names))[codes]
    else:
        table = np.asarray(probabilities, dtype=np.float64)
        names = np.arange(table.shape[-1]) if classes is None else np.asarray(classes)
        if table.shape != (X.shape[0], len(names)) or not np.isfinite(table).all():
            raise DataError(
                "probabilities",
                expected=f"finite numbers of shape ({X.shape[0]}, {len(names)}): a row an example, a column a class",
                found=f"shape {table.shape}",
                remedy="Pass the probabilities of the same examples, and the class of each column.",
            )
    if len(names) < 2:
        raise DataError(
            "y",
            expected="examples of 2 or more classes",
            found=f"{len(names)} class",
            remedy="A classifier needs at least one more class to tell apart.",
        )
    return names, table
