"""Where results come from: the data, the machine and the libraries, as plain values."""

from __future__ import annotations

import os
import platform
from collections.abc import Mapping, Sequence
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

import numpy as np

from graft.backbones import Backbone
from graft.data import label_array
from graft.evaluation.comparison.deals import Deal, labelled
from graft.evaluation.comparison.measuring import Measured
from graft.evaluation.comparison.memory import total_memory_gib
from graft.evaluation.comparison.setup import Setup
from graft.techniques.technique import Failure

_LIBRARIES = {
    "image": ("numpy", "scikit-learn", "torch", "torchvision", "timm", "pillow"),
    "text": ("numpy", "scikit-learn", "torch", "transformers"),
    "features": ("numpy", "scikit-learn", "torch"),
}


def data_facts(setup: Setup, deals: Sequence[Deal], measured: Sequence[Measured]) -> dict[str, Any]:
    """Return what ``results.json`` says of the data: its task, its classes, its splits, its target.

    What no cell could read is listed and counts nowhere.
    """
    domain, target, tasks = setup.domain, setup.target, setup.tasks
    unread = {one[0]: one for cell in measured for one in cell.unread}
    untested = {one[0]: one for cell in measured for one in cell.untested}
    if target is None:  # one domain is learnt from and tested on
        unread = untested = {**unread, **untested}
    readable = _without(domain.size, unread)
    tested = readable if target is None else _without(target.size, untested)
    labels = label_array(domain.labels)
    known = labelled(domain) & readable
    counts: list[dict[str, Any]] = []
    if setup.kind == "classification":
        codes = tasks[0].codes(labels[known].ravel())
        values = [str(value) for value in tasks[0].classes]
        counts = [{"class": value, "examples": int((codes == place).sum())} for place, value in enumerate(values)]
    elif setup.kind == "multilabel":
        for place, name in enumerate(tasks[0].classes):
            held = sum(value == 1 for value in labels[readable, place].tolist())
            counts.append({"class": str(name), "examples": int(held)})
    classes = [str(one.name) for one in tasks] if len(tasks) > 1 else [str(value) for value in tasks[0].classes]
    return {
        "name": domain.name,
        "modality": setup.modality,
        "task": {"kind": setup.kind, "name": "" if len(tasks) > 1 else tasks[0].name, "classes": classes},
        "examples": int(readable.sum()),
        "labelled": int(known.sum()),
        "classes": counts,
        "groups": domain.groups is not None,
        "splits": [
            {
                "seed": one.seed,
                "pool": int(readable[one.pool].sum()),
                "test": int(tested[one.test].sum()),
                "given": one.given,
            }
            for one in deals
        ],
        "unreadable": _listed(unread),
        "fingerprint": setup.fingerprint,
        "target": None
        if target is None
        else {
            "name": target.name,
            "examples": int(tested.sum()),
            "test": int(tested[deals[0].test].sum()),
            "labelled": int((labelled(target) & tested).sum()),
            "unreadable": _listed(untested),
            "fingerprint": setup.target_fingerprint,
        },
    }


def _without(size: int, failures: Mapping[int, Failure]) -> np.ndarray:
    there = np.ones(size, bool)
    there[list(failures)] = False
    return there


def _listed(failures: Mapping[int, Failure]) -> list[dict[str, Any]]:
    rows = (failures[row] for row in sorted(failures))
    return [{"row": row, "input": name, "reason": reason} for row, name, reason in rows]


def machine_facts(network: Backbone | None) -> dict[str, Any]:
    """Return what it says of the machine, and of the device that computed."""
    import torch

    device = "cpu"
    on_card = network is not None and network.device.type == "cuda"
    if network is not None and on_card:
        device = f"cuda: {torch.cuda.get_device_name(network.device)}"
    elif network is not None:
        device = network.device.type
    names = []
    info = Path("/proc/cpuinfo")
    if info.exists():
        lines = info.read_text(errors="replace").splitlines()
        names = [line.split(":", 1)[1].strip() for line in lines if line.startswith("model name")]
    affinity = getattr(os, "sched_getaffinity", None)
    return {
        "system": f"{platform.system()} {platform.machine()}",
        "processor": names[0] if names else platform.processor(),
        "cores": os.cpu_count() if affinity is None else len(affinity(0)),
        "memory_gib": total_memory_gib(),
        "device": device,
        "memory_is": "cuda" if on_card else "resident",
    }


def library_versions(modality: str) -> dict[str, str]:
    """Return the versions of Python, Graft and the libraries that this kind of data needs."""
    import graft

    found = {"python": platform.python_version(), "graft": graft.__version__}
    for name in _LIBRARIES[modality]:
        try:
            found[name] = version(name)
        except PackageNotFoundError:
            continue
    return found


def input_words(network: Backbone) -> str:
    """Return what a network reads, in a few words."""
    plan = network.preprocessing.to_dict()
    size = plan.get("size")
    if isinstance(size, list | tuple) and len(size) == 2:
        return f"{size[1]} x {size[0]} pixels"
    length = plan.get("max_length")
    return f"{length} tokens" if length else network.modality
