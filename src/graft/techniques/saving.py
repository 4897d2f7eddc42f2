"""Saving a fitted technique as a run."""

from __future__ import annotations

import os
import sys
from collections.abc import Mapping
from importlib.metadata import version
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from graft.backbones.saved import backbone_facts, backbone_tensors
from graft.data import Task
from graft.persistence import dismantle, write_run
from graft.techniques.card import model_card
from graft.techniques.curve import curve_files

if TYPE_CHECKING:
    from sklearn.base import BaseEstimator

    from graft.backbones import Backbone
    from graft.techniques.technique import Technique

# One row per training example: needed to validate, not to predict.
TRAINING_ROWS = frozenset({"out_of_fold_"})


def save(model: Technique, folder: str | os.PathLike[str]) -> Path:
    """Write a fitted technique; see `Technique.save`."""
    backbone = model.backbone_
    tensors = backbone_tensors(backbone)
    config = {
        "technique": model.technique,
        "params": dismantle(params_of(model, model.backbone_), "params", tensors, leave_out=TRAINING_ROWS),
        "backbone": backbone_facts(backbone),
        "task": task_facts(model.task_),
        "head": dismantle(model.head_, "head", tensors, leave_out=TRAINING_ROWS),
        "left_out": [list(failure) for failure in model.left_out_],
        "unlabelled": model.unlabelled_,
        "seconds": model.seconds_,
        "training": model.training_,
        "adaptation": model.adaptation_,
        "validation": None if model.validation_ is None else model.validation_.to_dict(),
        "versions": versions(),
    }
    pages = {} if model.training_ is None else curve_files(model.training_)
    return write_run(folder, config=config, tensors=tensors, card=model_card(config), pages=pages)


def task_facts(task: Task) -> dict[str, Any]:
    """Return a task as plain values."""
    return {
        "name": task.name,
        "kind": task.kind,
        "classes": [plain(label) for label in task.classes],
        "boolean": task.boolean,
    }


def task_of(plain: Mapping[str, Any]) -> Task:
    """Return the task of which `task_facts` made `plain`."""
    return Task(plain["name"], plain["kind"], tuple(plain["classes"]), boolean=plain.get("boolean", False))


def params_of(model: BaseEstimator, backbone: Backbone) -> dict[str, Any]:
    """Return the constructor's parameters as plain values: the backbone by its name, without places of this machine."""
    params = model.get_params(deep=False)
    store = params["store"] if isinstance(params["store"], bool) else True
    here = {"checkpoints": None, "log_folder": None, "resume": False}
    return {**params, "backbone": backbone.name, "store": store} | {
        name: value for name, value in here.items() if name in params
    }


def versions() -> dict[str, str]:
    """Return the versions of Python, Graft and the libraries that decide a prediction."""
    libraries = {name: version(name) for name in ("torch", "timm", "transformers", "scikit-learn", "numpy")}
    return {"python": ".".join(map(str, sys.version_info[:3])), "graft": version("graft-learn"), **libraries}


def plain(value: Any) -> Any:
    """Return a label as Python's own type, which JSON can hold."""
    return value.item() if isinstance(value, np.generic) else value
