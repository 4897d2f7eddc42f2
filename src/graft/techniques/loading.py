"""Loading a saved run: every technique by its name."""

from __future__ import annotations

import os
from collections.abc import Iterable
from typing import Any

import numpy as np
from sklearn.linear_model import LogisticRegression

from graft import alignment
from graft.backbones import Backbone
from graft.backbones.saved import backbone_of_run
from graft.errors import RunError
from graft.heads import HEADS, LinearClassifier, LinearMultiLabel, LinearRegressor, head_class
from graft.importance import TrAdaBoostClassifier
from graft.metrics import Evaluation
from graft.persistence import assemble, read_run
from graft.techniques.adaptation import AdaptedHead
from graft.techniques.domain_adaptation import DomainAdaptation
from graft.techniques.feature_extraction import FeatureExtraction
from graft.techniques.fine_tuning import FineTuning
from graft.techniques.multi_task import MultiTask
from graft.techniques.multiple.saving import restore_tasks
from graft.techniques.saving import plain, task_of
from graft.techniques.technique import Technique

TECHNIQUES: dict[str, type[Technique]] = {
    kind.technique: kind for kind in (FeatureExtraction, FineTuning, DomainAdaptation)
}
# What an adapted head may hold.
_ALIGNMENTS = (
    alignment.CORAL,
    alignment.CentroidRefinement,
    alignment.DomainStandardization,
    alignment.GeodesicFlowKernel,
    alignment.InvariantHead,
    alignment.JointDistributionAdaptation,
    alignment.LinearTransport,
    alignment.MEDA,
    alignment.ManifoldRegularization,
    alignment.OptimalTransport,
    alignment.SubspaceAlignment,
    alignment.TransferComponentAnalysis,
)


def load(folder: str | os.PathLike[str], *, backbone: Backbone | None = None, classes: Iterable[type] = ()) -> Any:
    """Load a fitted model from the folder that `save` wrote.

    Parameters
    ----------
    folder : path
        The folder of the run.
    backbone : Backbone, optional
        The network, where the run was fitted on one of the user's own; by default it is obtained by its name.
    classes : iterable of type
        Estimators and losses of the user's own that the run holds, such as a subclass of `graft.alignment.Alignment`.
        A run names them and keeps their parameters and fitted attributes, but no code: it is for the caller to say
        which class a name stands for. None of them replaces one of Graft's.

    Returns
    -------
    Technique or MultiTask
        Fitted; it predicts what the saved model predicted.

    Raises
    ------
    RunError
        If the folder is not a run, was written by a newer version, was changed, or if the network that can be had
        here has other weights or another preprocessing than the one that the run was fitted on.
    BackboneError
        If the network cannot be obtained.
    """
    run = read_run(folder)
    config = run.config
    heads: list[type] = [head_class(name, task) for task, names in HEADS.items() for name in names]
    heads += [LinearClassifier, LinearMultiLabel, LinearRegressor, AdaptedHead, *_ALIGNMENTS]
    heads += [TrAdaBoostClassifier, LogisticRegression]
    heads += [getattr(alignment, name) for name in alignment.ADAPTATION_LOSSES.values()]
    known_classes = {kind.__name__: kind for kind in (*classes, *heads)}
    try:
        if config["technique"] == MultiTask.technique:
            several = MultiTask(**assemble(config["params"], run.tensors, known_classes))
            return restore_tasks(several, run, known_classes, backbone=backbone)
        kind = TECHNIQUES[config["technique"]]
        task = config["task"]
        params = assemble(config["params"], run.tensors, known_classes)
        head = assemble(config["head"], run.tensors, known_classes)
    except (KeyError, TypeError) as error:
        raise RunError(
            str(run.folder),
            expected=f"a run of {' or '.join((*TECHNIQUES, MultiTask.technique))}",
            found=f"no {error}",
            remedy="Install the version of Graft that wrote the run.",
        ) from error
    network = backbone_of_run(run, backbone=backbone)
    known = getattr(head, "classes_", ())
    if task["kind"] == "classification" and [plain(one) for one in np.asarray(known, dtype=object)] != task["classes"]:
        raise RunError(
            str(run.folder),
            expected=f"a head for the {len(task['classes'])} classes of the run",
            found="one for other classes",
            remedy="Fit the model again.",
        )
    model = kind(**params)
    model.backbone_, model.head_ = network, head
    model.task_ = task_of(task)
    model.left_out_ = tuple((row, name, reason) for row, name, reason in config["left_out"])
    model.unlabelled_, model.seconds_ = config["unlabelled"], config["seconds"]
    model.training_, model.adaptation_ = config.get("training"), config.get("adaptation")
    model.validation_ = None if config["validation"] is None else Evaluation.from_dict(config["validation"])
    return model
