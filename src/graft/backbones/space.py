"""What decides a feature vector, the space and the content of the input; how the feature store lists what it holds."""

from __future__ import annotations

import hashlib
import json
from dataclasses import asdict, dataclass
from typing import Any

from graft.backbones.backbone import PLAIN, Backbone, Views
from graft.errors import DataError


@dataclass(frozen=True)
class Space:
    """Everything that decides a feature vector except the input.

    Parameters
    ----------
    network : str
        The name, for people; it is not part of the key.
    weights : str
        SHA-256 of the weights.
    preprocessing : str
        Its plain data as JSON, the decode path included.
    layer : tuple of str or None
        The layers.
    pooling : str or None
        The pooling.
    precision : str
        ``"float32"`` or ``"bfloat16"``.
    view : str
        ``"plain"``, or the kind, seed and number of a variation.
    feature_dim : int
        The width of a vector.
    """

    network: str
    weights: str
    preprocessing: str
    layer: tuple[str, ...] | None
    pooling: str | None
    precision: str
    view: str
    feature_dim: int

    @property
    def key(self) -> str:
        """Return 32 hexadecimal digits that stand for the space; names of folders on any file system."""
        facts = {name: value for name, value in asdict(self).items() if name != "network"}
        return hashlib.sha256(json.dumps(facts, sort_keys=True).encode()).hexdigest()[:32]


def space_of(backbone: Backbone, precision: str, views: Views = PLAIN, number: int = 0) -> Space:
    """Return the space of a network's features of one view, in a precision."""
    from graft.backbones.image_views import VARIATION

    return Space(
        network=backbone.name,
        weights=backbone.weights_hash,
        preprocessing=json.dumps(backbone.preprocessing.to_dict(), sort_keys=True),
        layer=backbone.layer,
        pooling=backbone.pooling,
        precision=precision,
        view="plain" if number == 0 else f"{VARIATION} seed {views.seed} number {number}",
        feature_dim=backbone.feature_dim,
    )


@dataclass(frozen=True)
class StoreEntry:
    """One space of the store, or the heads fitted on one network's features, as `graft store` lists it.

    Parameters
    ----------
    kind : {"features", "heads"}
        What is kept.
    key : str
        The space's key; empty for heads.
    network, precision, view : str
        What the features are of.
    layer : tuple of str or None
        The layers.
    pooling : str or None
        The pooling.
    rows, bytes : int
        How many feature vectors (or heads), and how much room they take.
    last_used : float
        Seconds since 1970.
    """

    kind: str
    key: str
    network: str
    layer: tuple[str, ...] | None
    pooling: str | None
    precision: str
    view: str
    rows: int
    bytes: int
    last_used: float


def content_key(source: Any, modality: str) -> bytes | None:
    """Return the hash of an input's content, or None for one that cannot be opened."""
    from graft.data.images import content_hash

    if modality == "text" and not isinstance(source, str):
        return None
    try:
        return content_hash(source, modality=modality)
    except (DataError, OSError, TypeError, ValueError):
        return None  # reading it says why
