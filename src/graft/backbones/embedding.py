"""`embed` and `iter_embed`: from inputs to features, decoding beside computing, nothing computed twice."""

from __future__ import annotations

import time
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np

from graft._checks import integer, one_of
from graft._progress import progress as progress_bar
from graft.backbones.backbone import Backbone, Views
from graft.backbones.engine import PRECISIONS, Engine
from graft.backbones.feature_backbone import FeatureBackbone, feature_table
from graft.backbones.lanes import Lanes, Result
from graft.backbones.space import Space, space_of
from graft.backbones.store import FeatureStore, open_store
from graft.errors import DataError, RequestError, UnreadableInputsError

# Inputs that are looked up, sorted and computed together: what is held in memory beside the result.
_WINDOW = {"image": 1024, "text": 8192, "features": 65_536}
_UNITS = {"image": "photos", "text": "texts", "features": "rows"}
# Seconds after which finished features are written down, so that an interrupted embedding resumes there.
_FLUSH = 5.0


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
        Examples in a forward pass. By default 8 photos or 1,024 tokens for each processor core (such batches stay in
        its cache), and larger ones on a GPU.
    precision : str
        ``"float32"``, ``"bfloat16"``, or ``"auto"``: bfloat16 where the device has it and the features of a few of
        these inputs agree with those in float32 (cosine of 0.999 or more).
    store : bool, path or FeatureStore
        Keep the features on disk and look there first; a path names another place than the default.
    views : int
        For images: how many views of each, the plain one included; the others are random cuts and mirrorings.
    random_state : int
        Seeds those.
    progress : bool, optional
        Show a bar with rate and time left; by default where standard error is a terminal.
    strict : bool
        Raise when some inputs cannot be read, instead of leaving them out.

    Returns
    -------
    Embedding

    Raises
    ------
    RequestError
        If an option cannot be used.
    DataError
        If there are no inputs.
    UnreadableInputsError
        If some inputs cannot be read and `strict` is set; it lists every one.

    Examples
    --------
    >>> from graft.backbones import embed, load_backbone
    >>> result = embed(load_backbone("minilm"), ["A short text.", 3], store=False, strict=False)
    >>> result.features.shape, result.rows, result.failures
    ((1, 384), array([0]), ((1, '3', 'not a text but int'),))
    """
    options: dict[str, Any] = {
        "batch_size": batch_size,
        "precision": precision,
        "store": store,
        "views": views,
        "random_state": random_state,
        "progress": progress,
    }
    parts = iter_embed(backbone, inputs, **options)
    if isinstance(backbone, FeatureBackbone):
        result = next(parts)
    else:
        # One array of the final size, filled part by part: no second copy of the result ever stands in memory.
        total = input_count(inputs)
        shape = (total, backbone.feature_dim) if views == 1 else (total, views, backbone.feature_dim)
        features: np.ndarray = np.empty(shape, np.float32)
        rows: np.ndarray = np.empty(total, np.intp)
        failed: list[tuple[int, str, str]] = []
        filled = 0
        for part in parts:
            features[filled : filled + len(part.rows)] = part.features
            rows[filled : filled + len(part.rows)] = part.rows
            filled += len(part.rows)
            failed += part.failures
        result = Embedding(features[:filled], rows[:filled], tuple(failed))
    if result.failures and strict:
        raise UnreadableInputsError(result.failures, input_count(inputs))
    return result


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

    Raises
    ------
    RequestError
        If an option cannot be used.
    DataError
        If there are no inputs.
    """
    one_of("precision", precision, PRECISIONS)
    plan = Views(tuple(range(integer("views", views, low=1))), random_state)
    if batch_size is not None:
        integer("batch_size", batch_size, low=1)
    if views > 1 and backbone.modality != "image":
        raise RequestError(
            "views", expected=f"1, because {backbone.modality} inputs are not varied", found=str(views),
            remedy="Pass views=1.",
        )  # fmt: skip
    if isinstance(inputs, str | bytes):
        raise RequestError(
            "inputs", expected="a sequence of inputs", found=f"one {type(inputs).__name__}", remedy="Pass [input]."
        )
    total = input_count(inputs)
    if total == 0:
        raise DataError("inputs", expected="one input or more", found="none", remedy="Pass some inputs.")
    if isinstance(backbone, FeatureBackbone):
        yield _identity(inputs, backbone)
        return
    # Data frames' columns and the like are indexed by position, whatever labels their rows carry.
    rows: Any = inputs if isinstance(inputs, list | tuple | np.ndarray) else list(inputs)
    kept = open_store(store)
    engine = Engine(backbone, rows, precision, kept)
    spaces = [space_of(backbone, engine.precision, plan, number) for number in plan.numbers]
    window = _WINDOW[backbone.modality]
    with (
        progress_bar("embedding", total, _UNITS[backbone.modality], enabled=progress) as advance,
        Lanes(backbone, engine, plan, batch_size, keyed=kept is not None) as lanes,
    ):
        for start in range(0, total, window):
            part = [rows[row] for row in range(start, min(start + window, total))]
            yield _window(lanes, part, start, kept, spaces, advance)


def _window(
    lanes: Lanes, sources: list[Any], start: int, store: FeatureStore | None, spaces: list[Space], advance: Any
) -> Embedding:
    """Look the inputs up, compute those that are missing, and write these down."""
    count, width = len(spaces), spaces[0].feature_dim
    features = np.zeros((len(sources), count, width), np.float32)
    done = np.zeros(len(sources), bool)
    failures: list[tuple[int, str, str]] = []
    if store is not None:
        keys = lanes.keys(sources, start)
        known = np.array([row for row, key in enumerate(keys) if key is not None], np.intp)
        asked = [key for key in keys if key is not None]
        held = np.ones(len(asked), bool)
        for number, space in enumerate(spaces):
            found, values = store.read(space, asked)
            features[known, number] = values
            held &= found
        done[known] = held
        advance(int(held.sum()))
    missing = np.flatnonzero(~done)
    if len(missing):
        fresh: list[Result] = []
        flushed = time.monotonic()
        try:
            for result in lanes.run([(int(row), sources[row]) for row in missing]):
                features[result.rows] = result.features
                done[result.rows] = True
                failures += [(start + row, input_name(sources[row]), reason) for row, reason in result.failures]
                fresh.append(result)
                advance(len(result.rows) + len(result.failures))
                if store is not None and time.monotonic() - flushed > _FLUSH:
                    _keep(store, spaces, fresh)
                    fresh, flushed = [], time.monotonic()
        finally:
            # Also on Ctrl-C: what is computed is kept.
            if store is not None:
                _keep(store, spaces, fresh)
    rows = np.flatnonzero(done)
    shown = features[rows, 0] if count == 1 else features[rows]
    return Embedding(shown, rows + start, tuple(sorted(failures)))


def _keep(store: FeatureStore, spaces: list[Space], fresh: list[Result]) -> None:
    keys = [key for result in fresh for key in result.keys]
    if not keys:
        return
    features = np.concatenate([result.features for result in fresh])
    for number, space in enumerate(spaces):
        store.write(space, keys, features[:, number])


def _identity(inputs: Any, backbone: FeatureBackbone) -> Embedding:
    """Return feature vectors as they are; a row with a value that is not finite is one that cannot be read."""
    table = feature_table(inputs, backbone.stated_dim)
    sparse = callable(getattr(table, "tocsr", None))
    if np.isfinite(table.data if sparse else table).all():
        return Embedding(table, np.arange(table.shape[0]), ())
    if sparse:
        finite = np.ones(table.shape[0], bool)
        holders = np.repeat(np.arange(table.shape[0]), np.diff(table.indptr))
        finite[holders[~np.isfinite(table.data)]] = False
    else:
        finite = np.isfinite(table).all(axis=1)
    rows = np.flatnonzero(finite)
    failures = tuple((int(row), f"row {row}", "NaN or infinite values") for row in np.flatnonzero(~finite))
    return Embedding(table[rows], rows, failures)


def input_count(inputs: Any) -> int:
    """Return the number of inputs of an array, a sparse matrix or a sequence."""
    shape = getattr(inputs, "shape", None)
    return int(shape[0]) if shape else len(inputs)


def input_name(source: Any) -> str:
    """Return what to call an input in a message: its path or its text, shortened."""
    text = str(source) if isinstance(source, str | int | float) or hasattr(source, "__fspath__") else repr(source)
    return text if len(text) <= 200 else f"{text[:197]}..."
