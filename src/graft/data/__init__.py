"""The data: domains, tasks, readers, splits, the data doctor, and built-in example data."""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from graft.data.content import content_hash, image_bytes
    from graft.data.doctor import CheckReport, Problem, check
    from graft.data.domain import Domain
    from graft.data.formats import IMAGE_SUFFIXES
    from graft.data.images import MAX_PIXELS, decode_image
    from graft.data.joining import join_tasks
    from graft.data.modality import modality_of
    from graft.data.readers import read, read_features, read_images, read_texts
    from graft.data.splits import few_shot, split
    from graft.data.task import Task, check_classes, class_order, infer_task, infer_tasks, require_trainable
    from graft.data.values import label_array, missing

_HOME = {
    "CheckReport": "doctor",
    "Domain": "domain",
    "IMAGE_SUFFIXES": "formats",
    "MAX_PIXELS": "images",
    "Problem": "doctor",
    "Task": "task",
    "check": "doctor",
    "check_classes": "task",
    "class_order": "task",
    "content_hash": "content",
    "decode_image": "images",
    "few_shot": "splits",
    "image_bytes": "content",
    "infer_task": "task",
    "infer_tasks": "task",
    "join_tasks": "joining",
    "label_array": "values",
    "missing": "values",
    "modality_of": "modality",
    "read": "readers",
    "read_features": "readers",
    "read_images": "readers",
    "read_texts": "readers",
    "require_trainable": "task",
    "split": "splits",
}

__all__ = [
    "IMAGE_SUFFIXES",
    "MAX_PIXELS",
    "CheckReport",
    "Domain",
    "Problem",
    "Task",
    "check",
    "check_classes",
    "class_order",
    "content_hash",
    "decode_image",
    "few_shot",
    "image_bytes",
    "infer_task",
    "infer_tasks",
    "join_tasks",
    "label_array",
    "missing",
    "modality_of",
    "read",
    "read_features",
    "read_images",
    "read_texts",
    "require_trainable",
    "split",
]


def __getattr__(name: str) -> Any:
    """Import the module of a public name when it is first asked for."""
    if name not in _HOME:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    value = getattr(import_module(f"{__name__}.{_HOME[name]}"), name)
    globals()[name] = value
    return value
