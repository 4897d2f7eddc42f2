"""`embed`: from inputs to features, in batches, decoding beside computing."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from graft._checks import integer, one_of
from graft._progress import progress as progress_bar
from graft.backbones.backbone import Backbone, Unreadable, Views
from graft.backbones.feature_backbone import FeatureBackbone, feature_table
from graft.errors import DataError, UnreadableInputsError

PRECISIONS = ("auto", "float32", "bfloat16")
_BATCH = {"image": 32, "text": 64, "features": 1024}
# Inputs that are read, sorted and computed together. What is held in memory is bounded by this.
_WINDOW = {"image": 256, "text": 4096, "features": 65_536}
_UNITS = {"image": "photos", "text": "texts", "features": "rows"}


@dataclass(frozen=True, eq=False)
class Embedding:
    """The features of the inputs that could be read.

    Parameters
    ----------
    features : array of shape (n, d), or (n, views, d) for several views, float32
        The features (a sparse matrix for sparse feature vectors).
    rows : array of shape (n,)
        Which input each one belongs to, ascending.
    failures : tuple of (int, str, str)
        Row, name and reason of each input that could not be read.
    """

    features: Any
    rows: np.ndarray
    failures: tuple[tuple[int, str, str], ...]


def embed(
    backbone: Backbone,
    inputs: Any,
    *,
    batch_size: int | None = None,
    precision: str = "auto",
    store: Any = True,
    views: int = 1,
    random_state: int = 0,
    progress: bool | None = None,
    strict: bool = True,
) -> Embedding:
    """Return the features of inputs.

    Parameters
    ----------
    backbone : Backbone
        From `load_backbone` or `module_backbone`.
    inputs : sequence of n inputs
        Paths, PIL images or arrays; texts; feature vectors (dense or sparse).
    batch_size : int, optional
        Examples in a forward pass.
    precision : str
        ``"float32"``, ``"bfloat16"`` or ``"auto"``.
    store : bool or path
        Keep the features on disk and look there first.
    views : int
        For images: how many views of each, the plain one included; the others are seeded random crops and mirrorings.
    random_state : int
        Seeds those.
    progress : bool, optional
        Show a bar; by default where standard error is a terminal.
    strict : bool
        Raise when some inputs cannot be read, instead of leaving them out.

    Raises
    ------
    RequestError
        If an option cannot be used.
    DataError
        If there are no inputs.
    UnreadableInputsError
        If some inputs cannot be read and `strict` is set.

    Examples
    --------
    >>> from graft.backbones import embed, load_backbone
    >>> result = embed(load_backbone("minilm"), ["A short text.", 3], store=False, strict=False)
    >>> result.features.shape, result.rows, result.failures
    ((1, 384), array([0]), ((1, '3', 'not a text but int'),))
    """
    parts = list(
        iter_embed(
            backbone,
            inputs,
            batch_size=batch_size,
            precision=precision,
            store=store,
            views=views,
            random_state=random_state,
            progress=progress,
        )
    )
    failures = tuple(failure for part in parts for failure in part.failures)
    if failures and strict:
        raise UnreadableInputsError(failures, _length(inputs))
    features = parts[0].features if len(parts) == 1 else np.concatenate([part.features for part in parts])
    return Embedding(features, np.concatenate([part.rows for part in parts]), failures)


def iter_embed(
    backbone: Backbone,
    inputs: Any,
    *,
    batch_size: int | None = None,
    precision: str = "auto",
    store: Any = True,
    views: int = 1,
    random_state: int = 0,
    progress: bool | None = None,
) -> Iterator[Embedding]:
    """Yield the features of inputs part by part, in their order; memory stays bounded however many there are.

    Parameters
    ----------
    backbone, inputs, batch_size, precision, store, views, random_state, progress
        As in `embed`.

    Yields
    ------
    Embedding
        The features of the next inputs; `rows` counts over all of them.
    """
    one_of("precision", precision, PRECISIONS)
    plan = Views(integer("views", views, low=1), random_state)
    size = _BATCH[backbone.modality] if batch_size is None else integer("batch_size", batch_size, low=1)
    total = _length(inputs)
    if total == 0:
        raise DataError("inputs", expected="one input or more", found="none", remedy="Pass some inputs.")
    if isinstance(backbone, FeatureBackbone):
        yield _identity(backbone, inputs, plan)
        return
    window = _WINDOW[backbone.modality]
    with progress_bar("embedding", total, _UNITS[backbone.modality], enabled=progress) as advance:
        for start in range(0, total, window):
            rows = range(start, min(start + window, total))
            yield _window(backbone, [inputs[row] for row in rows], start, plan, size, advance)


def _window(backbone: Backbone, sources: Sequence[Any], start: int, views: Views, size: int, advance) -> Embedding:
    items = backbone.read(sources, views=views)
    failures = tuple(
        (start + row, _name(sources[row]), item.reason)
        for row, item in enumerate(items)
        if isinstance(item, Unreadable)
    )
    good = [row for row, item in enumerate(items) if not isinstance(item, Unreadable)]
    flat = [item for row in good for item in (items[row] if views.count > 1 else (items[row],))]
    order = sorted(range(len(flat)), key=lambda place: backbone.item_size(flat[place]), reverse=True)
    features = np.zeros((len(flat), backbone.feature_dim), np.float32)
    for at in range(0, len(order), size):
        places = order[at : at + size]
        features[places] = backbone.forward_features(backbone.collate([flat[place] for place in places])).numpy()
        advance(len(places) / views.count)
    advance(len(failures))
    if views.count > 1:
        features = features.reshape(len(good), views.count, -1)
    return Embedding(features, np.array([start + row for row in good], dtype=np.intp), failures)


def _identity(backbone: FeatureBackbone, inputs: Any, views: Views) -> Embedding:
    table = feature_table(inputs)
    values = table.data if callable(getattr(table, "toarray", None)) else table
    if np.isfinite(values).all():
        rows = np.arange(table.shape[0])
        failures: tuple[tuple[int, str, str], ...] = ()
    else:
        sums = np.asarray(table.sum(axis=1)).ravel()
        rows = np.flatnonzero(np.isfinite(sums))
        bad = np.flatnonzero(~np.isfinite(sums))
        failures = tuple((int(row), f"row {row}", "NaN or infinite values") for row in bad)
        table = table[rows]
    if views.count > 1:
        table = np.repeat(np.asarray(table)[:, None], views.count, axis=1)
    return Embedding(table, rows, failures)


def _length(inputs: Any) -> int:
    shape = getattr(inputs, "shape", None)
    return int(shape[0]) if shape else len(inputs)


def _name(source: Any) -> str:
    text = str(source)
    return text if len(text) <= 200 else text[:197] + "..."
