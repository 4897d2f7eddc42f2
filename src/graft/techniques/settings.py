"""How a network is trained: the options that every training of a network has."""

from __future__ import annotations

from dataclasses import dataclass
from importlib.util import find_spec
from typing import Any

from graft._checks import integer, number, one_of
from graft.backbones import Backbone
from graft.errors import MissingDependencyError, RequestError
from graft.training import PARTS, recompute_activations

# What is trained beside the parts of a network: adapters, small matrices beside its layers.
ADAPTERS = ("lora", "dora")
PRECISIONS = ("auto", "float32", "bfloat16")
BATCH_NORMS = ("auto", "frozen", "train")


@dataclass(frozen=True, kw_only=True)
class Settings:
    """How a network is trained; `FineTuning` says what each one means.

    What has a default here is no option of every technique.

    Raises
    ------
    RequestError
        If one of them cannot be used.
    """

    pretrained: bool
    train: str | int
    epochs: Any
    batch_size: int
    parts: int = 1
    learning_rate: Any
    rank: int = 8
    layer_decay: Any
    weight_decay: float
    warmup: float = 0.1
    clip: float | None = 1.0
    mixup: float = 0.0
    cutmix: float = 0.0
    augment: float
    views: int | None
    cache: bool = True
    batch_norm: str
    precision: str
    recompute: bool = False
    average: float | None
    patience: int | None = None
    soup: int = 1
    seed: int

    def __post_init__(self) -> None:
        one_of("precision", self.precision, PRECISIONS)
        one_of("batch_norm", self.batch_norm, BATCH_NORMS)
        for name in ("parts", "soup", "batch_size", "rank"):
            integer(name, getattr(self, name), low=1)
        for name in ("views", "patience"):
            if getattr(self, name) is not None:
                integer(name, getattr(self, name), low=1)
        for name in ("epochs", "learning_rate", "layer_decay"):
            if getattr(self, name) != "auto" and (name, getattr(self, name)) != ("learning_rate", "find"):
                number(name, getattr(self, name), low=0, open_low=True)
        for name in ("mixup", "cutmix", "weight_decay"):
            number(name, getattr(self, name), low=0)
        number("augment", self.augment, low=0, high=10)
        number("warmup", self.warmup, low=0, high=1)
        if self.average is not None:
            number("average", self.average, low=0, high=1)
        if self.clip is not None:
            number("clip", self.clip, low=0, open_low=True)
        if isinstance(self.train, str):
            one_of("train", self.train, (*PARTS, *ADAPTERS))

    def require_suited(self, backbone: Backbone) -> None:
        """Refuse what cannot be done with a network, before anything is computed with it.

        Raises
        ------
        RequestError
            If it has no layers to train, fewer layer groups than are to be trained, cannot compute activations again,
            or reads no pictures where those are to be varied or mixed.
        MissingDependencyError
            If adapters are to be trained, and PEFT is not installed.
        """
        if not any(True for _ in backbone.module.parameters()):
            raise RequestError(
                "backbone",
                expected="a network whose layers can be trained",
                found=f"{backbone.name}, which has none",
                remedy="Name a network, or fit the vectors with FeatureExtraction(backbone=None).",
            )
        if not isinstance(self.train, str):
            integer("train", self.train, low=0, high=len(backbone.layer_groups()))
        if self.adapters:
            require_package("train", "peft", install="peft")
        if self.recompute:
            recompute_activations(backbone.copy_module())
        varied = {"mixup": self.mixup, "cutmix": self.cutmix, "augment": self.augment, "views": (self.views or 1) - 1}
        for name in (name for name, value in varied.items() if value > 0 and backbone.modality != "image"):
            raise RequestError(
                name,
                expected=f"none for {backbone.modality} inputs",
                found=repr(getattr(self, name)),
                remedy="Leave it out: only pictures are varied and mixed.",
            )

    @property
    def adapters(self) -> bool:
        """Whether adapters are trained beside the layers, not the layers themselves."""
        return self.train in ADAPTERS


def require_package(option: str, name: str, *, install: str) -> None:
    """Refuse an option that needs a package which is not installed.

    Raises
    ------
    MissingDependencyError
        If it is not there.
    """
    if find_spec(name) is None:
        raise MissingDependencyError(
            option,
            expected=f"the package {name}",
            found="it is not installed",
            remedy=f"Run: pip install {install}",
        )
