"""All scores of several candidates at once, from what they answer."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np

from graft.errors import RequestError
from graft.metrics.source_risk import deep_embedded_validation, example_losses, importance_weighted_validation
from graft.metrics.target_risk import (
    RiskScore,
    calibrate,
    cluster_agreement,
    committee_agreement,
    confidence_difference,
    mean_entropy,
    mutual_information,
    nuclear_norm,
    soft_neighborhood_density,
    target_clusters,
    thresholded_confidence,
)

# Densities compare every example with every other: of more than these, a sample is taken, the same for all candidates.
_MOST_COMPARED = 4000


def score_classifiers(
    target: Mapping[str, Any],
    classes: Any,
    *,
    target_features: Any = None,
    source: Mapping[str, Any] | None = None,
    source_labels: Any = None,
    sample_weight: Any = None,
    circle: Mapping[str, RiskScore] | None = None,
    random_state: int = 0,
) -> dict[str, tuple[RiskScore, ...]]:
    """Return every score that the material allows, for each candidate.

    With held-out source answers, the target's probabilities are calibrated by them first (`calibrate`): what a model
    only claims to be sure of earns nothing.

    Parameters
    ----------
    target : mapping of str to array (n_target, K)
        Each candidate's probabilities on the target.
    classes : array (K,)
        The class of each column, the same for all.
    target_features : array (n_target, d), optional
        The features before any adaptation, for the clusters.
    source : mapping of str to array (n_source, K), optional
        Each candidate's probabilities on source examples that it was not fitted on. A candidate without them gets no
        score that needs them.
    source_labels : array (n_source,), optional
        The labels of those examples.
    sample_weight : array (n_source,), optional
        Density ratios of those examples; without them nothing is weighted, and that evidence is left out.
    circle : mapping of str to RiskScore, optional
        Scores of `reverse_validation`, which costs fits.
    random_state : int
        Starts the clusters, and draws 4,000 examples for the densities where there are more.

    Raises
    ------
    RequestError
        If tables are no probabilities, or `source` comes without labels.

    Examples
    --------
    >>> import numpy as np
    >>> from graft.metrics import choose, score_classifiers
    >>> features = np.array([[-1.0], [-1.1], [-0.9], [1.0], [1.2], [0.9]])
    >>> good = np.where(features < 0, [[0.9, 0.1]], [[0.1, 0.9]])
    >>> poor = np.array([[0.9, 0.1], [0.1, 0.9]] * 3)
    >>> scores = score_classifiers({"source-only": poor, "coral": good}, ["a", "b"], target_features=features)
    >>> [(score.name, round(score.value, 2)) for score in scores["coral"] if score.evidence == "clusters"]
    [('cluster-agreement', 1.0)]
    """
    if not target:
        raise RequestError(
            "target",
            expected="the answers of one or more candidates",
            found="none",
            remedy="Pass at least the answers of the model without adaptation.",
        )
    if source is not None and source_labels is None:
        raise RequestError(
            "source_labels",
            expected="the labels of the held-out source examples",
            found="None",
            remedy="Pass source_labels with source.",
        )
    names = np.asarray(classes)
    clusters = None
    if target_features is not None:
        features = np.asarray(target_features)
        clusters = target_clusters(features, min(len(names), len(features)), random_state=random_state)
    honest = calibrated_answers(target, names, source=source, source_labels=source_labels)
    committee = committee_agreement(honest) if len(honest) > 1 else {}
    found: dict[str, tuple[RiskScore, ...]] = {}
    rows = np.random.default_rng(random_state).permutation(len(next(iter(target.values()))))[:_MOST_COMPARED]
    for name, values in target.items():
        table = np.asarray(honest[name])
        scores = [
            mean_entropy(table),
            mutual_information(table),
            nuclear_norm(table),
            soft_neighborhood_density(table[rows]),
        ]
        if source is not None and name in source:
            held_out = np.asarray(source[name])
            scores.append(thresholded_confidence(source_labels, held_out, values, names))
            scores.append(confidence_difference(source_labels, held_out, values, names))
            if sample_weight is not None:
                losses = example_losses(source_labels, names[held_out.argmax(axis=1)])
                surprise = example_losses(source_labels, held_out, loss="log-loss", classes=names)
                scores.append(importance_weighted_validation(losses, sample_weight))
                scores.append(importance_weighted_validation(surprise, sample_weight, name="weighted-log-loss"))
                scores.append(deep_embedded_validation(losses, sample_weight))
        if clusters is not None:
            scores.append(cluster_agreement(names[table.argmax(axis=1)], clusters))
        if name in committee:
            scores.append(committee[name])
        if circle is not None and name in circle:
            scores.append(circle[name])
        found[name] = tuple(scores)
    return found


def calibrated_answers(
    target: Mapping[str, Any], classes: Any, *, source: Mapping[str, Any] | None = None, source_labels: Any = None
) -> dict[str, np.ndarray]:
    """Return each candidate's probabilities on the target as sure as it may be (`calibrate`).

    Those of a candidate without held-out source answers stay as they are.

    Parameters
    ----------
    target, classes, source, source_labels
        As in `score_classifiers`.
    """
    known = source or {}
    return {
        name: calibrate(source_labels, known[name], table, classes) if name in known else np.asarray(table)
        for name, table in target.items()
    }


def score_regressors(
    target: Mapping[str, Any],
    *,
    source: Mapping[str, Any] | None = None,
    source_labels: Any = None,
    sample_weight: Any = None,
    circle: Mapping[str, RiskScore] | None = None,
) -> dict[str, tuple[RiskScore, ...]]:
    """Return every score of numbers that the material allows, for each candidate.

    Importance-weighted squared error and DEV of it, distance to the mean of all candidates, and the circle. What rests
    on probabilities or classes has no counterpart here.

    Parameters
    ----------
    target : mapping of str to array (n_target,) or (n_target, outputs)
        Each candidate's predictions on the target.
    source, source_labels, sample_weight, circle
        As in `score_classifiers`, with predictions in place of probabilities.
    """
    committee = committee_agreement(target, numbers=True) if len(target) > 1 else {}
    found: dict[str, tuple[RiskScore, ...]] = {}
    for name in target:
        scores = []
        if source is not None and name in source and sample_weight is not None:
            losses = example_losses(source_labels, source[name], loss="squared-error")
            scores.append(importance_weighted_validation(losses, sample_weight))
            scores.append(deep_embedded_validation(losses, sample_weight))
        if name in committee:
            scores.append(committee[name])
        if circle is not None and name in circle:
            scores.append(circle[name])
        found[name] = tuple(scores)
    return found
