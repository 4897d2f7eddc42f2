"""Heads: scikit-learn estimators on features, with calibrated probabilities and a score for foreign inputs."""

from __future__ import annotations

from importlib import import_module
from typing import Any

from graft._checks import one_of

# The name of each head, by task: module and class, imported when asked for.
HEADS: dict[str, dict[str, str]] = {
    "classification": {
        "auto": "graft.heads.auto_head:AutoHead",
        "logistic": "graft.heads.logistic_path:LogisticPath",
        "kernel-ridge": "graft.heads.kernel_ridge:KernelRidgeClassifier",
        "discriminant": "graft.heads.shrinkage_discriminant:ShrinkageDiscriminant",
        "prototype": "graft.heads.prototype:Prototype",
        "nearest-neighbors": "graft.heads.nearest_neighbors:NearestNeighbors",
    },
    "multilabel": {
        "auto": "graft.heads.multi_label_logistic:MultiLabelLogistic",
        "logistic": "graft.heads.multi_label_logistic:MultiLabelLogistic",
    },
    "regression": {
        "auto": "graft.heads.auto_regressor:AutoRegressor",
        "ridge": "graft.heads.ridge_path:RidgePath",
        "kernel-ridge": "graft.heads.kernel_ridge:KernelRidgeRegressor",
    },
}

_CLASSES = {path.split(":")[1]: path for names in HEADS.values() for path in names.values()} | {
    "ClassifierHead": "graft.heads.classifier_head:ClassifierHead",
    "LinearClassifier": "graft.heads.trained_linear:LinearClassifier",
    "LinearMultiLabel": "graft.heads.trained_linear:LinearMultiLabel",
    "LinearRegressor": "graft.heads.trained_linear:LinearRegressor",
    "MultiLabelHead": "graft.heads.multi_label_head:MultiLabelHead",
    "RegressorHead": "graft.heads.regressor_head:RegressorHead",
}

__all__ = [
    "HEADS",
    "AutoHead",
    "AutoRegressor",
    "ClassifierHead",
    "KernelRidgeClassifier",
    "KernelRidgeRegressor",
    "LinearClassifier",
    "LinearMultiLabel",
    "LinearRegressor",
    "LogisticPath",
    "MultiLabelHead",
    "MultiLabelLogistic",
    "NearestNeighbors",
    "Prototype",
    "RegressorHead",
    "RidgePath",
    "ShrinkageDiscriminant",
    "head_class",
    "make_head",
]


def head_class(name: str, task: str = "classification") -> type:
    """Return the class of the head called `name` for a task.

    Raises
    ------
    RequestError
        If there is no such task, or no such head for it; with the nearest name.
    """
    heads = HEADS[one_of("task", task, HEADS)]
    module, _, attribute = heads[one_of("head", name, heads)].partition(":")
    return getattr(import_module(module), attribute)


def make_head(
    head: Any = "auto",
    task: str = "classification",
    *,
    class_weight: dict | str | None = None,
    calibrate: bool = True,
    random_state: int | None = None,
) -> Any:
    """Return a new head.

    Parameters
    ----------
    head : str or head
        A key of ``HEADS[task]``; or an unfitted head, of which a copy is returned with the options that it has.
    task : {"classification", "multilabel", "regression"}
        What is predicted.
    class_weight : dict or "balanced", optional
        For classification.
    calibrate : bool
        For classification and multilabel: temperatures on out-of-fold logits.
    random_state : int, optional
        Another number deals other folds.

    Raises
    ------
    RequestError
        If there is no such head.

    Examples
    --------
    >>> from graft.heads import make_head
    >>> make_head("discriminant")
    ShrinkageDiscriminant()
    >>> make_head("kernel-rigde")
    Traceback (most recent call last):
        ...
    graft.errors.RequestError: head: expected one of 'auto', 'logistic', 'kernel-ridge', 'discriminant', 'prototype', \
'nearest-neighbors', found 'kernel-rigde'. Did you mean 'kernel-ridge'?
    """
    if not isinstance(head, str):
        from sklearn.base import clone

        return clone(head)
    made = head_class(head, task)
    if task == "regression":
        return made(random_state=random_state)
    return made(class_weight=class_weight, calibrate=calibrate, random_state=random_state)


def __getattr__(name: str) -> Any:
    if name in _CLASSES:
        module, _, attribute = _CLASSES[name].partition(":")
        return getattr(import_module(module), attribute)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")


def __dir__() -> list[str]:
    return sorted(__all__)
