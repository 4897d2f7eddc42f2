"""A multi-task model as a run, and back."""

from __future__ import annotations

import os
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import torch

from graft.backbones import Backbone
from graft.backbones.saved import backbone_facts, backbone_of_run, backbone_tensors
from graft.metrics import Evaluation
from graft.persistence import Run, assemble, dismantle, write_run
from graft.techniques.card import multi_task_card
from graft.techniques.multiple.joint_head import Middle
from graft.techniques.multiple.part import Part
from graft.techniques.multiple.stack import Stack
from graft.techniques.multiple.verdict import MultiTaskVerdict
from graft.techniques.saving import TRAINING_ROWS, params_of, task_facts, task_of, versions

if TYPE_CHECKING:
    from graft.techniques.multi_task import MultiTask


def save_tasks(model: MultiTask, folder: str | os.PathLike[str]) -> Path:
    """Write a fitted multi-task model; see `Technique.save`. The first part's network is the run's backbone."""
    tensors: dict[str, np.ndarray] = {}
    parts = [_part(part, place, tensors) for place, part in enumerate(model.parts_)]
    params = params_of(model, model.parts_[0].backbone)
    params["tasks"] = None  # what they are is said by the tasks themselves
    config = {
        "technique": model.technique,
        "params": dismantle(params, "params", tensors),
        "backbone": backbone_facts(model.parts_[0].backbone),
        "tasks": [task_facts(task) for task in model.tasks_],
        "parts": parts,
        "groups": [list(group) for group in model.groups_],
        "affinity": None if model.affinity_ is None else np.asarray(model.affinity_).tolist(),
        "left_out": [list(failure) for failure in model.left_out_],
        "unlabelled": model.unlabelled_,
        "seconds": model.seconds_,
        "training": model.training_,
        "validation": {name: None if one is None else one.to_dict() for name, one in model.validation_.items()},
        "verdict": None if model.verdict_ is None else model.verdict_.to_dict(),
        "versions": versions(),
    }
    return write_run(folder, config=config, tensors=tensors, card=multi_task_card(config))


def restore_tasks(model: MultiTask, run: Run, classes: Mapping[str, type], *, backbone: Backbone | None) -> MultiTask:
    """Set the fitted state of a model as a run has it."""
    config = run.config
    known: list[tuple[dict[str, Any], Backbone]] = []
    parts = []
    for place, one in enumerate(config["parts"]):
        prefix = _prefix(place)
        own = {name.removeprefix(prefix): values for name, values in run.tensors.items() if name.startswith(prefix)}
        same = [network for facts, network in known if facts == one["backbone"]]
        network = (
            same[0] if same else backbone_of_run(Run(run.folder, {"backbone": one["backbone"]}, own), backbone=backbone)
        )
        known.append((one["backbone"], network))
        heads = {name: assemble(head, run.tensors, classes) for name, head in one["heads"].items()}
        facts = one["middle"]
        middle: Middle | Stack | None = None
        if facts is not None and "sharing" not in facts:
            middle = assemble(facts, run.tensors, {**classes, "Stack": Stack})
        elif facts is not None:
            middle = Middle(facts["sharing"], facts["n_tasks"], facts["feature_dim"], options=facts["options"])
            state = {
                name.removeprefix("middle/"): torch.from_numpy(np.array(values))
                for name, values in own.items()
                if name.startswith("middle/")
            }
            middle.load_state_dict(state)
            middle.eval()
        parts.append(Part(network, middle, heads))
    model.parts_ = tuple(parts)
    model.tasks_ = tuple(task_of(one) for one in config["tasks"])
    model.groups_ = tuple(tuple(group) for group in config["groups"])
    model.affinity_ = None if config["affinity"] is None else np.array(config["affinity"])
    model.left_out_ = tuple((row, name, reason) for row, name, reason in config["left_out"])
    model.unlabelled_, model.seconds_, model.training_ = config["unlabelled"], config["seconds"], config["training"]
    model.validation_ = {
        name: None if one is None else Evaluation.from_dict(one) for name, one in config["validation"].items()
    }
    model.verdict_ = None if config["verdict"] is None else MultiTaskVerdict.from_dict(config["verdict"])
    return model


def _part(part: Part, place: int, tensors: dict[str, np.ndarray]) -> dict[str, Any]:
    prefix = _prefix(place)
    tensors |= {f"{prefix}{name}": values for name, values in backbone_tensors(part.backbone).items()}
    middle: Any = None
    match part.middle:
        case Stack():
            middle = dismantle(part.middle, f"{prefix}stack", tensors, leave_out=TRAINING_ROWS)
        case Middle():
            middle = part.middle.facts
            for name, values in part.middle.state_dict().items():
                tensors[f"{prefix}middle/{name}"] = values.cpu().numpy()
    return {
        "backbone": backbone_facts(part.backbone),
        "middle": middle,
        "heads": {
            name: dismantle(head, f"{prefix}head.{number}", tensors, leave_out=TRAINING_ROWS)
            for number, (name, head) in enumerate(part.heads.items())
        },
    }


def _prefix(place: int) -> str:
    """Return what the names of a part's tensors begin with; the first one's network is where every run has it."""
    return f"part{place}." if place else ""
