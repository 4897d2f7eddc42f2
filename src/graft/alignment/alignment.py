"""What every alignment of two domains on arrays does in the same way: checks, missing labels, precision."""

from __future__ import annotations

from abc import ABC, abstractmethod
from dataclasses import dataclass
from typing import Any, Self, final

import numpy as np
from scipy import sparse
from sklearn.base import BaseEstimator, ClassNamePrefixFeaturesOutMixin, TransformerMixin
from sklearn.utils.multiclass import check_classification_targets
from sklearn.utils.validation import _check_y, check_array, check_consistent_length, check_is_fitted, validate_data

from graft.errors import DataError

# Sparse inputs up to this many cells are made dense (800 MB as float64): every method needs them centred.
_DENSE_CELLS = 100_000_000


@dataclass(frozen=True)
class DomainPair:
    """The two domains, checked, in float64.

    Attributes
    ----------
    source : ndarray (n_s, d)
    target : ndarray (n_t, d)
    classes : ndarray (K,) or None
        The source's labels, sorted; None without labels.
    source_codes : ndarray (n_s,) of int, or None
        Positions in `classes`.
    target_codes : ndarray (n_t,) of int
        Positions in `classes`, -1 where the label is missing.
    """

    source: np.ndarray
    target: np.ndarray
    classes: np.ndarray | None
    source_codes: np.ndarray | None
    target_codes: np.ndarray


def domain_pair(
    estimator: BaseEstimator, X: Any, y: Any, target: Any, target_labels: Any, *, labelled: bool
) -> DomainPair:
    """Return the checked arguments of a ``fit`` (as in `Alignment.fit`), and note the columns on the estimator.

    Parameters
    ----------
    labelled : bool
        Whether the labels are used; otherwise they are not even looked at.
    """
    X = validate_data(estimator, X, accept_sparse="csr", dtype=[np.float64, np.float32], ensure_min_samples=2)
    source = _dense("X", X)
    if target is None:
        goal = source
    else:
        goal = check_array(
            target,
            accept_sparse="csr",
            dtype=[np.float64, np.float32],
            ensure_min_samples=2,
            estimator=estimator,
            input_name="target",
        )
        if goal.shape[1] != source.shape[1]:
            raise DataError(
                "target",
                expected=f"the source's {source.shape[1]} columns",
                found=f"{goal.shape[1]} columns",
                remedy="Compute the features of both domains in the same way.",
            )
        goal = _dense("target", goal)
    classes, source_codes = None, None
    target_codes = np.full(len(goal), -1)
    if labelled:
        if y is None:
            # The remedy in scikit-learn's own words: its checks look for them.
            raise DataError(
                "y",
                expected="the labels of the source",
                found="None",
                remedy=f"{type(estimator).__name__} requires y to be passed, but the target y is None.",
            )
        y = _check_y(y, estimator=estimator)
        check_consistent_length(X, y)
        check_classification_targets(y)
        classes, source_codes = np.unique(y, return_inverse=True)
        if target_labels is not None:
            target_codes = _label_codes(target_labels, classes, len(goal))
    return DomainPair(
        source.astype(np.float64, copy=False),
        goal.astype(np.float64, copy=False),
        classes,
        source_codes,
        target_codes,
    )


def classified_pair(
    estimator: BaseEstimator, X: Any, y: Any, target: Any, target_labels: Any
) -> tuple[DomainPair, np.ndarray, np.ndarray]:
    """Return the checked arguments of a classifier's ``fit``, its classes (K,) and the source's codes (n_s,).

    Raises
    ------
    DataError
        As `Alignment.fit` does, and if there are fewer than two classes.
    """
    pair = domain_pair(estimator, X, y, target, target_labels, labelled=True)
    assert pair.classes is not None
    assert pair.source_codes is not None
    if len(pair.classes) < 2:
        raise DataError(
            "y",
            expected="examples of 2 or more classes",
            found="1 class",
            remedy="A classifier needs at least one more class to tell apart.",
        )
    return pair, pair.classes, pair.source_codes


def checked_features(estimator: BaseEstimator, X: Any) -> np.ndarray:
    """Return what a fitted estimator is asked about, checked and dense, in its own precision."""
    check_is_fitted(estimator)
    X = validate_data(estimator, X, reset=False, accept_sparse="csr", dtype=[np.float64, np.float32])
    return _dense("X", X)


class Alignment(ClassNamePrefixFeaturesOutMixin, TransformerMixin, BaseEstimator, ABC):
    """Maps a source and a target domain to where they look alike.

    Abstract: a method provides ``_solve``, ``_map_source`` and ``_map_target``, all in float64; and says with
    ``_needs_labels`` whether it uses labels. What users call stands here, final.

    ``transform`` maps *target* inputs, because that is what a fitted model is asked for later; ``transform_source``
    maps source inputs, on which the classifier is fitted. In a pipeline, accordingly, ``fit_transform`` returns the
    source.
    """

    n_outputs_: int

    @abstractmethod
    def _solve(self, pair: DomainPair) -> int:
        """Fit to checked domains: set the fitted attributes and return the number of output columns."""

    @abstractmethod
    def _map_source(self, features: np.ndarray) -> np.ndarray:
        """Return the representation (n, k) of source inputs (n, d)."""

    @abstractmethod
    def _map_target(self, features: np.ndarray) -> np.ndarray:
        """Return the representation (n, k) of target inputs (n, d)."""

    @property
    @abstractmethod
    def _needs_labels(self) -> bool:
        """Whether the method uses labels; a marginal method ignores them."""

    @final
    def fit(self, X, y=None, *, target=None, target_labels=None) -> Self:
        """Fit the alignment.

        Parameters
        ----------
        X : array or sparse matrix (n_s, d)
            Source features.
        y : array (n_s,), optional
            Source labels; ignored by methods that align the marginal distributions alone.
        target : array or sparse matrix (n_t, d), optional
            Target features. None: the source stands for the target as well, and there is nothing to bridge.
        target_labels : array (n_t,), optional
            Labels of the target inputs, None or NaN where they are missing. Ignored by methods that align the
            marginal distributions alone; these profit from labelled target inputs when they are put with the source.

        Raises
        ------
        DataError
            If the domains have different columns, labels are of another length than their inputs, or a target label
            does not occur in the source.
        """
        pair = domain_pair(self, X, y, target, target_labels, labelled=self._needs_labels)
        self.n_outputs_ = self._solve(pair)
        return self

    @final
    def transform(self, X) -> np.ndarray:
        """Return the representation (n, k) of *target* inputs (n, d), those of the fit or new ones."""
        return self._mapped(X, self._map_target)

    @final
    def transform_source(self, X) -> np.ndarray:
        """Return the representation (n, k) of source inputs (n, d), those of the fit or new ones."""
        return self._mapped(X, self._map_source)

    @final
    def fit_transform(self, X, y=None, *, target=None, target_labels=None) -> np.ndarray:
        """Fit, and return the representation (n_s, k) of the *source*.

        The mixin of scikit-learn would return ``transform`` of it, as if the source were target inputs; but a step that
        follows in a pipeline is to be fitted on labelled inputs, and these are the source.
        """
        return self.fit(X, y, target=target, target_labels=target_labels).transform_source(X)

    @property
    def _n_features_out(self) -> int:
        return self.n_outputs_

    def _mapped(self, X, mapping) -> np.ndarray:
        features = checked_features(self, X)
        return mapping(features.astype(np.float64, copy=False)).astype(features.dtype, copy=False)

    def __sklearn_tags__(self):
        tags = super().__sklearn_tags__()
        tags.input_tags.sparse = True
        tags.target_tags.required = self._needs_labels
        tags.transformer_tags.preserves_dtype = ["float64", "float32"]
        return tags


def _dense(subject: str, features: Any) -> np.ndarray:
    if not sparse.issparse(features):
        return features
    rows, columns = features.shape
    if rows * columns > _DENSE_CELLS:
        raise DataError(
            subject,
            expected=f"a dense array, or a sparse one of at most {_DENSE_CELLS:,} cells",
            found=f"a sparse table of {rows:,} x {columns:,}",
            remedy="Reduce its columns first, for example with sklearn.decomposition.TruncatedSVD.",
        )
    return features.toarray()


def _label_codes(labels: Any, classes: np.ndarray, rows: int) -> np.ndarray:
    """Return positions in `classes` (n_t,), -1 where a label is None or NaN."""
    values = np.asarray(labels, dtype=object)
    if values.shape != (rows,):
        raise DataError(
            "target_labels",
            expected=f"one label for each of the {rows} target inputs, None or NaN where it is missing",
            found=f"an array of shape {values.shape}",
            remedy="Give every target input an entry.",
        )
    position = {name: code for code, name in enumerate(classes.tolist())}
    codes = np.full(rows, -1)
    for row, value in enumerate(values.tolist()):
        if value is None or value != value:
            continue
        if value not in position:
            raise DataError(
                "target_labels",
                expected="labels that occur in the source, None or NaN where they are missing",
                found=f"{value!r} in row {row}",
                remedy="Add these labelled target inputs to the source, so that it has examples of every class.",
            )
        codes[row] = position[value]
    return codes
