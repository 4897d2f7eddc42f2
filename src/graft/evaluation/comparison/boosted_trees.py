"""`BoostedTrees`: what learns its own representation of feature vectors from scratch, where no network is trained."""

from __future__ import annotations

import time
from typing import Any, Self, final

import numpy as np

from graft.data import Task
from graft.techniques import Predictions
from graft.techniques.technique import Failure, class_columns, label_table, numbers

# With fewer examples, leaves of twenty (the library's own least) never split.
_LEAF_SHARE, _LARGEST_LEAF = 20, 20


@final
class BoostedTrees:
    """Histogram gradient boosting of scikit-learn on the vectors, one model for each column of labels.

    A leaf holds a twentieth of the examples at least, at most twenty.

    Parameters
    ----------
    task : Task
        What is predicted.
    random_state : int
        Seeds what is held out for stopping early.

    Attributes
    ----------
    task_ : Task
        What is predicted.
    left_out_ : tuple
        Empty: every vector can be read.
    seconds_ : dict of str to float
        ``"data"`` and ``"training"``.
    """

    def __init__(self, task: Task, *, random_state: int = 0) -> None:
        self.task_ = task
        self.random_state = random_state

    def fit(self, X: Any, y: Any, groups: Any = None) -> Self:
        """Fit trees to vectors X (n, d) and labels y (n,) or (n, columns); groups are not looked at."""
        from sklearn.ensemble import HistGradientBoostingClassifier, HistGradientBoostingRegressor

        started = time.perf_counter()
        vectors, kind = _dense(X), self.task_.kind
        labels = np.asarray(y)
        if kind == "classification":
            columns = [labels.ravel()]
        elif kind == "multilabel":
            columns = list(label_table(labels).T)
        else:
            targets = numbers(labels)
            self._flat = targets.ndim == 1
            columns = list(targets.reshape(len(targets), -1).T)
        self._models: list[Any] = []
        for column in columns:
            known = np.array([value == value and value is not None for value in column.tolist()])
            leaf = max(1, min(_LARGEST_LEAF, int(known.sum()) // _LEAF_SHARE))
            family: Any = HistGradientBoostingRegressor if kind == "regression" else HistGradientBoostingClassifier
            model = family(min_samples_leaf=leaf, random_state=self.random_state)
            self._models.append(model.fit(vectors[known], column[known]))
        self.left_out_: tuple[Failure, ...] = ()
        self.seconds_ = {"data": 0.0, "training": time.perf_counter() - started}
        return self

    def predictions(self, X: Any) -> Predictions:
        """Predict; vectors with gaps are no difficulty for trees."""
        vectors, kind = _dense(X), self.task_.kind
        rows = np.arange(len(vectors))
        if kind == "regression":
            found = np.stack([model.predict(vectors) for model in self._models], axis=1)
            return Predictions(rows, found[:, 0] if self._flat else found, None, None, ())
        shares = [model.predict_proba(vectors) for model in self._models]
        if kind == "multilabel":
            held = [_share_of_one(model, share) for model, share in zip(self._models, shares, strict=True)]
            table = np.stack(held, axis=1)
            return Predictions(rows, (table >= 0.5).astype(int), table, None, ())
        known = np.asarray(self._models[0].classes_)
        found = known[shares[0].argmax(axis=1)]
        probabilities = class_columns(shares[0], known.tolist(), self.task_.classes)
        return Predictions(rows, found, probabilities, None, ())


def _dense(X: Any) -> np.ndarray:
    return np.asarray(X.toarray() if callable(getattr(X, "toarray", None)) else X, np.float32)


def _share_of_one(model: Any, share: np.ndarray) -> np.ndarray:
    """Return the probability of 1, also where all examples had one value."""
    classes = model.classes_.tolist()
    return share[:, classes.index(1.0)] if 1.0 in classes else np.zeros(len(share))
