"""Feature extraction: the pretrained network is frozen, and a new head is fitted on its features."""

from __future__ import annotations

import time
from typing import Any, Self

import numpy as np

from graft._checks import one_of
from graft.backbones import Backbone, load_backbone
from graft.heads import HEADS, make_head
from graft.techniques.labelled import embedded, given
from graft.techniques.technique import Technique, held_out_evaluation


class FeatureExtraction(Technique):
    r"""Fit a head on the features of a frozen pretrained network.

    The model is :math:`h(\phi(x))`: the backbone :math:`\phi` stays as it was trained, the head :math:`h` is fitted in
    closed form or as a convex problem, its hyperparameters and family chosen by cross-validation on the features. The
    features go to the feature store, so that another head, fold or technique on the same inputs costs no forward pass,
    and so does the fitted head: the same fit again costs next to nothing.

    Parameters
    ----------
    backbone : str, path, Backbone or None
        What `load_backbone` takes, such as ``"efficientnet_lite0"`` or ``"minilm"``. None: the inputs are feature
        vectors already.
    head : str or head
        ``"auto"`` picks by cross-validation; otherwise a name of `graft.heads.HEADS` or an unfitted head.
    task : {"auto", "classification", "multilabel", "regression"}
        ``"auto"`` tells from the labels: numbers with fractions and many whole ones (see `graft.data.infer_task`) are a
        regression, a table of 0 and 1 is multi-label, everything else a classification.
    label_names : sequence of str, optional
        What the label column, or each column of a multi-label table, is called; by default the columns of a data
        frame, or their positions.
    layer, pooling : optional
        Where in the network the features are taken and how positions become one vector; see `load_backbone`.
    views : int
        How many views of each image are trained on: the plain one, and ``views - 1`` random crops and flips.
    class_weight : "balanced", dict or None
        The weight of each class in the head's loss.
    calibrate : bool
        Fit a temperature on out-of-fold scores, so that probabilities mean what they say.
    strict : bool
        Make an unreadable training input an error instead of leaving it out and listing it in ``left_out_``.
    batch_size : int, optional
        Inputs per forward pass; chosen by default.
    device : str, optional
        Where the network runs; by default the best device here.
    precision : {"auto", "float32", "bfloat16"}
        The precision of the frozen network; ``"auto"`` takes bfloat16 where the device has it and it agrees.
    store : bool or path
        Whether (and where) features and fitted heads are kept on disk.
    random_state : int or None
        Seeds folds and views.

    Attributes
    ----------
    backbone_, head_, task_, classes_, left_out_, unlabelled_, seconds_, validation_
        See `Technique`. ``validation_`` is cross-validated: each training example is predicted by a head that was
        fitted without it.

    Raises
    ------
    RequestError
        From `fit`, if an option cannot be used.
    DataError
        From `fit`, if the inputs or labels cannot be used.

    References
    ----------
    Donahue et al. (2014), DeCAF: A Deep Convolutional Activation Feature for Generic Visual Recognition.
    Kornblith, Shlens and Le (2019), Do Better ImageNet Models Transfer Better?, section 3 (fixed feature extractor).

    Examples
    --------
    >>> from sklearn.datasets import load_iris
    >>> from graft import FeatureExtraction
    >>> X, y = load_iris(return_X_y=True)
    >>> model = FeatureExtraction().fit(X[::2], y[::2])
    >>> model.score(X[1::2], y[1::2]) > 0.9
    True
    """

    technique = "feature-extraction"

    def __init__(
        self,
        backbone: Any = None,
        *,
        head: Any = "auto",
        task: str = "auto",
        label_names: Any = None,
        layer: Any = None,
        pooling: str | None = None,
        views: int = 1,
        class_weight: Any = None,
        calibrate: bool = True,
        strict: bool = False,
        batch_size: int | None = None,
        device: str | None = None,
        precision: str = "auto",
        store: Any = True,
        random_state: int | None = 0,
    ) -> None:
        self.backbone = backbone
        self.head = head
        self.task = task
        self.label_names = label_names
        self.layer = layer
        self.pooling = pooling
        self.views = views
        self.class_weight = class_weight
        self.calibrate = calibrate
        self.strict = strict
        self.batch_size = batch_size
        self.device = device
        self.precision = precision
        self.store = store
        self.random_state = random_state

    def fit(self, X: Any, y: Any, sample_weight: Any = None, groups: Any = None) -> Self:
        """Embed the inputs and fit the head.

        Parameters
        ----------
        X : sequence of n inputs
            Paths, PIL images or arrays; texts; or, with ``backbone=None``, vectors of shape (n, d), sparse or dense.
        y : array of shape (n,), or (n, labels) for multi-label tasks and (n, outputs) for several numbers
            Examples without a label (None, NaN, an empty string) are left out and counted in ``unlabelled_``.
        sample_weight : array of shape (n,), optional
            The weight of each example in the head's loss.
        groups : array of shape (n,), optional
            Examples of one group are never divided by a fold of the cross-validation.

        Returns
        -------
        FeatureExtraction
            Itself.
        """
        started = time.perf_counter()
        backbone = self._backbone()
        if isinstance(self.head, str):  # before the network runs, not after it
            one_of("head", self.head, dict.fromkeys(name for heads in HEADS.values() for name in heads))
        what = given(X, y, task=self.task, label_names=self.label_names, sample_weight=sample_weight, groups=groups)
        found = embedded(
            backbone,
            what,
            views=self.views,
            batch_size=self.batch_size,
            precision=self.precision,
            store=self.store,
            strict=self.strict,
            random_state=self.random_state,
        )
        prepared = time.perf_counter()
        head = make_head(
            self.head,
            found.task.kind,
            class_weight=self.class_weight,
            calibrate=self.calibrate,
            random_state=self.random_state,
        )

        def repeated(values: Any) -> Any:
            return None if values is None else np.repeat(values, self.views, axis=0)

        features, together = found.features, found.groups
        if self.views > 1:
            # The views of one image are one example seen often: a fold must never hold them apart.
            together = np.arange(len(found.rows)) if together is None else together
            features = features.reshape(-1, features.shape[-1])
        weight = repeated(found.sample_weight)
        targets, together = repeated(found.targets), repeated(together)
        head = found.kept.fit(head, features, targets, sample_weight=weight, groups=together)

        self.backbone_, self.head_, self.task_ = backbone, head, found.task
        self.left_out_, self.unlabelled_, self.training_ = found.failures, found.unlabelled, None
        self.validation_ = held_out_evaluation(found.task, head, found.labels, views=self.views, groups=found.groups)
        ended = time.perf_counter()
        self.seconds_ = {
            "features": prepared - started,
            "training": ended - prepared,
            "total": ended - started,
        }
        return self

    def _backbone(self) -> Backbone:
        return load_backbone(self.backbone, layer=self.layer, pooling=self.pooling, device=self.device)
