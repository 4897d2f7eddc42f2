"""What a report shows of one fitted model: classes, calibration, the worst examples, both domains in a plane."""

from __future__ import annotations

import base64
import io
from typing import Any

import numpy as np

from graft.backbones import embed
from graft.backbones.embedding import input_name
from graft.data import Domain, Task, decode_image, label_array, missing
from graft.errors import GraftError
from graft.heads.training_set import apply_scaling
from graft.metrics import Evaluation
from graft.metrics.evaluation import CALIBRATION_BINS
from graft.techniques import Predictions
from graft.techniques.adaptation.adapted_head import AdaptedHead
from graft.techniques.technique import label_table

SHOWN, SHOWN_OF_A_TASK = 12, 6  # examples of a kind; of each of several tasks
_PIXELS = 96  # of a thumbnail's side
_POINTS = 200  # of each domain in the plane
_PAIRS = 500  # true and predicted numbers
_INPUT_LENGTH = 500  # characters of a text


def evidence(
    domain: Domain,
    modality: str,
    rows: np.ndarray,
    labels: np.ndarray,
    found: Predictions,
    task: Task,
    evaluation: Evaluation,
    *,
    shown: int = SHOWN,
) -> dict[str, Any]:
    """Return what is shown of the predictions of some rows of a domain, as plain values.

    Parameters
    ----------
    domain : Domain
        Whose inputs were predicted.
    modality : str
        Of its inputs.
    rows : array of shape (m,)
        Those that were predicted.
    labels : array of shape (m,), or (m, labels) for multi-label tasks
        What is right.
    found : Predictions
        Of these rows, in their order.
    task : Task
        What was predicted.
    evaluation : Evaluation
        Of the same predictions.
    shown : int
        Examples of a kind.
    """

    def example(place: int, true: Any, predicted: Any, p: float | None) -> dict[str, Any]:
        source = domain.inputs[rows[place]]
        return {
            "row": int(rows[place]),
            "input": _name(source),
            "thumbnail": thumbnail(source) if modality == "image" else None,
            "true": _plain(true),
            "predicted": _plain(predicted),
            "p": p,
        }

    def answer(labels: Any) -> Any:
        """Return what a row says: of several labels, the names of those that it has."""
        if task.kind != "multilabel":
            return labels.ravel()[0] if isinstance(labels, np.ndarray) and labels.size == 1 else labels
        return ", ".join(str(name) for name, given in zip(task.classes, labels, strict=True) if given == 1) or "none"

    wrong: list[dict[str, Any]] = []
    calibration: list[dict[str, Any]] = []
    pairs, sure = None, None
    if task.kind == "regression":
        truth, guess = np.asarray(labels, np.float64), np.asarray(found.labels, np.float64)
        error = np.abs(guess.reshape(len(guess), -1) - truth.reshape(len(truth), -1)).mean(axis=1)
        for place in np.argsort(-error, kind="stable")[:shown]:
            wrong.append(example(int(place), truth[place], guess[place], None))
        pairs = {"true": truth[:_PAIRS].tolist(), "predicted": guess[:_PAIRS].tolist()}
    elif task.kind == "multilabel":
        assert found.probabilities is not None
        table, shares = label_table(labels), found.probabilities
        guessed = (shares >= 0.5).astype(float)
        known = np.isfinite(table)
        sure = np.where(guessed == 1, shares, 1 - shares)
        calibration = calibration_bins(sure[known], (guessed == table)[known])
        order = np.argsort(-np.where(known & (guessed != table), sure, -1), axis=None)[:shown]
        for place, column in zip(*np.unravel_index(order, table.shape), strict=True):
            if known[place, column] and guessed[place, column] != table[place, column]:
                one = example(int(place), table[place, column], guessed[place, column], float(sure[place, column]))
                wrong.append({**one, "label": str(task.classes[column])})
    else:
        assert found.probabilities is not None
        truth, guess = labels.ravel(), np.asarray(found.labels)
        right = np.array([one == other for one, other in zip(truth.tolist(), guess.tolist(), strict=True)])
        place_of = {value: column for column, value in enumerate(task.classes)}
        columns = np.array([place_of[value] for value in guess.tolist()])
        sure = found.probabilities[np.arange(len(guess)), columns]
        calibration = calibration_bins(sure, right)
        for place in np.argsort(np.where(right, 1, -sure), kind="stable")[: min(shown, int((~right).sum()))]:
            wrong.append(example(int(place), truth[place], guess[place], float(sure[place])))
    foreign: list[dict[str, Any]] = []
    if found.ood_scores is not None:
        for place in np.argsort(-found.ood_scores, kind="stable")[:shown]:
            p = float(sure[place]) if sure is not None and sure.ndim == 1 else None
            one = example(int(place), answer(labels[place]), answer(found.labels[place]), p)
            foreign.append({**one, "score": float(found.ood_scores[place])})
    whole = evaluation.to_dict()
    return {
        "task": None,
        "examples": evaluation.examples,
        "classes": whole.get("classes", []),
        "confusion": whole.get("confusion"),
        "per_class": whole.get("per_class", []),
        "calibration": calibration,
        "wrong": wrong,
        "foreign": foreign,
        "coordinates": None,
        "predicted": pairs,
    }


def calibration_bins(confidence: np.ndarray, right: np.ndarray) -> list[dict[str, Any]]:
    """Return the bins of equal width that hold predictions: how sure they were, and how often they were right."""
    bins = np.minimum((confidence * CALIBRATION_BINS).astype(int), CALIBRATION_BINS - 1)
    return [
        {
            "low": number / CALIBRATION_BINS,
            "high": (number + 1) / CALIBRATION_BINS,
            "examples": int(mine.sum()),
            "confidence": float(confidence[mine].mean()),
            "accuracy": float(right[mine].mean()),
        }
        for number in range(CALIBRATION_BINS)
        if (mine := bins == number).any()
    ]


def thumbnail(source: Any) -> str | None:
    """Return an image as a data URI of a JPEG of at most 96 pixels a side, or None where it cannot be read."""
    try:
        image = decode_image(source)
    except GraftError:
        return None
    image.thumbnail((_PIXELS, _PIXELS))
    held = io.BytesIO()
    image.save(held, "JPEG", quality=80)
    return f"data:image/jpeg;base64,{base64.b64encode(held.getvalue()).decode()}"


def planes(
    model: Any, backbone: Any, source: Domain, learnt: np.ndarray, target: Domain, *, store: Any, seed: int
) -> dict[str, Any]:
    """Return source and target in the plane of their two principal components, before and after an adaptation.

    Before: the features of the frozen network. After: those of the model's own network, target examples where its
    mapping puts them and source examples where it was fitted. Methods that reweigh move nothing.

    Parameters
    ----------
    model : DomainAdaptation
        Fitted.
    backbone : Backbone
        The frozen network.
    source, target : Domain
        The domains.
    learnt : array of shape (n,)
        The source rows that the model was fitted to.
    store : bool or path
        Where features are kept.
    seed : int
        Draws the points.
    """
    draw = np.random.default_rng((seed, 0x2D))
    here = np.sort(draw.permutation(learnt)[:_POINTS])
    there = np.sort(draw.permutation(target.size)[:_POINTS])

    def features(network: Any, store: Any) -> tuple[Any, Any]:
        options: dict[str, Any] = {"store": store, "strict": False, "progress": False}
        return embed(network, source.inputs[here], **options), embed(network, target.inputs[there], **options)

    first, second = features(backbone, store)
    words = {
        "source_labels": _words(source.labels, here[first.rows]),
        "target_labels": _words(target.labels, there[second.rows]),
    }
    before = _plane(_array(first.features), _array(second.features))
    # Of a network that is thrown away in a moment, nothing is worth keeping.
    own = features(model.backbone_, False) if model.backbone_ is not backbone else (first, second)
    after = _plane(*_placed(model.head_, _array(own[0].features), _array(own[1].features)))
    return {"before": {**before, **words}, "after": {**after, **words}}


def _placed(head: Any, source: np.ndarray, target: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Return features where the head sees them."""
    if not isinstance(head, AdaptedHead):
        return source, target
    if head.location is not None:
        source, target = (apply_scaling(one, head.location, head.scale) for one in (source, target))
    if head.mapping is None:
        return source, target
    return np.asarray(head.mapping.transform_source(source)), np.asarray(head.mapping.transform(target))


def _plane(source: np.ndarray, target: np.ndarray) -> dict[str, list[list[float]]]:
    both = np.concatenate([source, target]).astype(np.float64)
    both = both - both.mean(axis=0)
    _, _, directions = np.linalg.svd(both, full_matrices=False)
    # The sign of a direction is arbitrary: let its largest entry be positive, so that a repetition looks the same.
    chosen = (
        directions[:2]
        * np.sign(directions[:2][np.arange(len(directions[:2])), np.abs(directions[:2]).argmax(1)])[:, None]
    )
    points = np.zeros((len(both), 2))
    points[:, : len(chosen)] = both @ chosen.T
    rounded = np.round(points, 5).tolist()
    return {"source": rounded[: len(source)], "target": rounded[len(source) :]}


def _array(features: Any) -> np.ndarray:
    return np.asarray(features.toarray() if callable(getattr(features, "toarray", None)) else features)


def _words(labels: Any, rows: np.ndarray) -> list[Any]:
    if labels is None:
        return [None] * len(rows)
    values = label_array(labels)[rows]
    gaps = missing(values)
    if values.ndim > 1:
        return [None] * len(rows)
    return [None if gap else _plain(value) for value, gap in zip(values, gaps, strict=True)]


def _name(source: Any) -> str | None:
    """Return the path or the text of an input; pictures and vectors in memory have no name."""
    if isinstance(source, str):
        return source if len(source) <= _INPUT_LENGTH else f"{source[: _INPUT_LENGTH - 3]}..."
    return input_name(source) if callable(getattr(source, "__fspath__", None)) else None


def _plain(value: Any) -> Any:
    if isinstance(value, np.ndarray):
        return value.tolist()
    return value.item() if isinstance(value, np.generic) else value
