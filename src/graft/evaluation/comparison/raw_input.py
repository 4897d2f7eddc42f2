"""`RawInput`: the best simple head on the input itself, with no network: what any transfer has to beat."""

from __future__ import annotations

import time
from typing import Any, Self, final

import numpy as np

from graft.backbones.embedding import input_name
from graft.data import Task, decode_image
from graft.errors import GraftError, UnreadableInputsError
from graft.techniques import FeatureExtraction, Predictions

# Pixels on a side, at most: a photo of 32 x 32 still shows colours and coarse shapes, in 3,072 numbers.
SIDE = 32
_LOOKED_AT = 16  # images whose size is looked at


@final
class RawInput:
    """A head on pixels, word counts or vectors: logistic regression, a kernel, a discriminant, by cross-validation.

    Images become at most 32 x 32 pixels (never more than the smallest of the first few has) with values from 0 to 1,
    one channel where all of them are grey; texts become TF-IDF weights of words and pairs of words, learnt from the
    training texts; vectors stay as they are. The head is the one that `FeatureExtraction` would fit.

    Parameters
    ----------
    modality : {"image", "text", "features"}
        What the inputs are.
    task : str
        The kind of the task.
    label_names : sequence of str, optional
        As in `FeatureExtraction`.
    head : str
        As in `FeatureExtraction`.
    random_state : int
        Seeds folds.

    Attributes
    ----------
    task_, head_ : Task, estimator
        What is predicted, and the fitted head.
    left_out_ : tuple of (int, str, str)
        Row, name and reason of each training input that could not be read.
    seconds_ : dict of str to float
        ``"data"`` for making the vectors, ``"training"`` for the head.
    """

    def __init__(
        self, modality: str, *, task: str, label_names: Any = None, head: str = "auto", random_state: int = 0
    ) -> None:
        self.modality = modality
        self._model = FeatureExtraction(
            None, task=task, label_names=label_names, head=head, store=False, random_state=random_state
        )
        self._side, self._grey = SIDE, False
        self._words: Any = None

    def fit(self, X: Any, y: Any, groups: Any = None) -> Self:
        """Fit the head on the vectors of inputs X (n,) and labels y (n,) or (n, columns)."""
        started = time.perf_counter()
        if self.modality == "text":
            from sklearn.feature_extraction.text import TfidfVectorizer

            self._words = TfidfVectorizer(sublinear_tf=True, ngram_range=(1, 2)).fit([str(text) for text in X])
        elif self.modality == "image":
            self._look(X)
        vectors, rows, self.left_out_ = self._vectors(X)
        made = time.perf_counter()
        self._model.fit(vectors, y[rows], groups=None if groups is None else groups[rows])
        self.seconds_ = {"data": made - started, "training": time.perf_counter() - made}
        return self

    def predictions(self, X: Any) -> Predictions:
        """Predict what can be read, and list what cannot."""
        vectors, rows, failures = self._vectors(X)
        found = self._model.predictions(vectors)
        return Predictions(rows, found.labels, found.probabilities, found.ood_scores, failures)

    @property
    def task_(self) -> Task:
        return self._model.task_

    @property
    def head_(self) -> Any:
        return self._model.head_

    def _look(self, X: Any) -> None:
        """Find the number of pixels and channels from the first images."""
        images = [image for source in X[:_LOOKED_AT] if not isinstance(image := _decoded(source), str)]
        if images:
            self._side = min(SIDE, *(min(image.size) for image in images))
            pixels = [np.asarray(image) for image in images]
            self._grey = all(np.ptp(one, axis=2).max() == 0 for one in pixels)

    def _vectors(self, X: Any) -> tuple[Any, np.ndarray, tuple[tuple[int, str, str], ...]]:
        """Return vectors, the rows that they are of, and what could not be read."""
        if self.modality == "features":
            return X, np.arange(X.shape[0]), ()
        if self.modality == "text":
            return self._words.transform([str(text) for text in X]).astype(np.float32), np.arange(len(X)), ()
        from PIL import Image

        made, rows, failures = [], [], []
        for row, source in enumerate(X):
            image = _decoded(source)
            if isinstance(image, str):
                failures.append((row, input_name(source), image))
                continue
            # Averaging, not picking: what is thrown away shall not flicker.
            small = image.resize((self._side, self._side), Image.Resampling.BOX)
            pixels = np.asarray(small, np.float32) / 255
            made.append((pixels[..., 0] if self._grey else pixels).ravel())
            rows.append(row)
        if not made:
            raise UnreadableInputsError(failures, len(failures))
        return np.stack(made), np.array(rows, np.intp), tuple(failures)


def _decoded(source: Any) -> Any:
    """Return an image, or why it cannot be read."""
    try:
        return decode_image(source)
    except GraftError as error:
        return error.found
