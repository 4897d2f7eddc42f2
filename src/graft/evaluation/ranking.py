"""`rank_backbones`: which pretrained network, and which of its layers, without training it."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import reduce
from itertools import combinations
from typing import Any

import numpy as np

from graft._checks import integer, one_of
from graft.backbones import Backbone, available, load_backbone
from graft.data import Domain, Task, modality_of, split
from graft.errors import DataError, GraftError, RequestError
from graft.evaluation.probe import METRICS, Probe, fold_numbers, lead, probe
from graft.evaluation.ranking_table import ESTIMATE_TITLES, RankedBackbone, Ranking, kendall, mean_ranks
from graft.heads import HEADS
from graft.metrics import gbc, h_score, knn_accuracy, knn_r2, logme, nleep
from graft.techniques.labelled import Given, Labelled, embedded, given

# The estimates see at most so many examples: their order is settled long before, and neighbours cost the square.
_ESTIMATED = 5000


@dataclass(frozen=True, eq=False)
class _Candidate:
    title: str
    network: Backbone


@dataclass(eq=False)
class _Looked:
    """A candidate with its features and what was found of it so far."""

    candidate: _Candidate
    found: Labelled
    estimates: dict[str, float | None]
    seconds: dict[str, float]
    probed: Probe | None = None


def rank_backbones(
    X: Any,
    y: Any,
    backbones: Any = None,
    *,
    layers: Any = None,
    pooling: str | None = None,
    head: Any = "auto",
    shortlist: int = 3,
    folds: int = 5,
    task: str = "auto",
    groups: Any = None,
    precision: str = "auto",
    store: Any = True,
    strict: bool = False,
    random_state: int = 0,
) -> Ranking:
    """Rank pretrained networks, and layers of them, by how well their features suit a task; none is trained.

    Every candidate embeds the inputs once (features go to the feature store). Five estimates that fit no head
    (`graft.evaluation.h_score`, `logme`, `nleep`, `gbc` and `knn_accuracy`) rank all of them; the candidates with the
    best mean rank make the shortlist; and of those the probe decides: the head that `FeatureExtraction` would fit,
    cross-validated on the same folds for all. How far estimates and probe disagree is part of the result. The head is
    chosen anew without each fold, so that the score is a little below the one that `FeatureExtraction` tells of the
    head that it chose by the same examples.

    Numbers (regression) and multi-label tables have the estimates LogME and kNN (R²), the mean over the columns.

    Parameters
    ----------
    X : sequence of n inputs
        Paths, PIL images or arrays; texts; or feature vectors.
    y : array of shape (n,), or (n, labels)
        Examples without a label (None, NaN, an empty string) are left out.
    backbones : sequence, or dict of names, optional
        What `load_backbone` takes, several of them; None among them is the identity, for feature vectors. In a dict,
        the keys are what the networks are called in the result. By default all networks that can be used here without
        a download and read such inputs (``graft backbones`` lists them).
    layers : sequence, optional
        Where to take the features: names, indices, sequences of those (side by side), or None for the network's own
        output, each of them a candidate for each network. A name that only some networks have stands for those. By
        default the output that a network has.
    pooling : str, optional
        How positions become one vector; see `load_backbone`.
    head : str or head
        Of the probe, as in `FeatureExtraction`.
    shortlist : int
        How many candidates are probed.
    folds : int
        Of the probe's cross-validation.
    task : {"auto", "classification", "multilabel", "regression"}
        As in `FeatureExtraction`.
    groups : array of shape (n,), optional
        Examples of one group are never divided by a fold, and are no neighbours of each other.
    precision, store, strict
        As in `FeatureExtraction`.
    random_state : int
        Seeds folds, heads and the mixture of NLEEP.

    Returns
    -------
    Ranking

    Raises
    ------
    RequestError
        If an option cannot be used, or no network has a layer that is named.
    DataError
        If inputs or labels cannot be used, or no network here reads such inputs.
    BackboneError
        If a network that is named cannot be had.

    Examples
    --------
    >>> import graft
    >>> from graft.data.samples import tickets
    >>> messages = tickets(domain="bank")
    >>> ranking = graft.rank_backbones(
    ...     messages.inputs, messages.labels[:, 0], ["minilm"], layers=[0, 3, None], shortlist=2, head="discriminant"
    ... )
    >>> ranking.best.backbone, ranking.best.layer
    ('minilm', None)
    """
    integer("shortlist", shortlist, low=1)
    integer("folds", folds, low=2)
    if isinstance(head, str):
        one_of("head", head, dict.fromkeys(name for heads in HEADS.values() for name in heads))
    what = given(X, y, task=task, label_names=None, groups=groups)
    networks, passed_over = _networks(backbones, X)
    candidates = _candidates(networks, layers, pooling)
    looked = []
    for candidate in candidates:
        started = time.perf_counter()
        found = _embedded(candidate, what, precision=precision, store=store, strict=strict, seed=random_state)
        looked.append(_Looked(candidate, found, {}, {"features": time.perf_counter() - started}))
    # What one network cannot read, no other is measured on either.
    common = reduce(np.intersect1d, [one.found.rows for one in looked])
    kept = [np.isin(one.found.rows, common) for one in looked]
    first, here = looked[0].found, kept[0]
    labels, targets = first.labels[here], first.targets[here]
    group = None if first.groups is None else first.groups[here]
    if len(labels) < folds:
        raise DataError(
            "inputs",
            expected=f"at least {folds} labelled examples, one for each fold",
            found=str(len(labels)),
            remedy="Bring more examples, or pass fewer folds.",
        )
    fold = fold_numbers(labels, group, first.task, folds, random_state)
    features = [one.found.features[mask] for one, mask in zip(looked, kept, strict=True)]
    rows = _estimated_rows(labels, random_state)
    for one, table in zip(looked, features, strict=True):
        started = time.perf_counter()
        part = None if group is None else group[rows]
        one.estimates = _estimates(table[rows], targets[rows], first.task, part, random_state)
        one.seconds["estimates"] = time.perf_counter() - started
    ranks = mean_ranks([one.estimates for one in looked])
    chosen = np.argsort(ranks, kind="stable")[:shortlist]
    for place in chosen:
        started = time.perf_counter()
        looked[place].probed = probe(
            features[place], labels, targets, first.task, fold, head=head, groups=group, random_state=random_state
        )
        looked[place].seconds["probe"] = time.perf_counter() - started
    return _ranking(
        looked,
        ranks,
        first.task,
        lambda best, second: lead(first.task, targets, best, second, groups=group),
        examples=len(labels),
        folds=folds,
        left_out=tuple({one[0]: one for seen in looked for one in seen.found.failures}.values()),
        unlabelled=first.unlabelled,
        passed_over=passed_over,
    )


def _networks(backbones: Any, inputs: Any) -> tuple[list[_Candidate], tuple[tuple[str, str], ...]]:
    """Return the networks under the names of the result, and those found here that could not be loaded."""
    if backbones is None:
        return _usable_here(modality_of(inputs))
    if isinstance(backbones, Mapping):
        named = [(str(name), network) for name, network in backbones.items()]
    else:
        single = isinstance(backbones, str | Backbone) or not isinstance(backbones, Sequence)
        asked = [backbones] if single else list(backbones)
        unique = [one for place, one in enumerate(asked) if not any(one is e or one == e for e in asked[:place])]
        named = [("", network) for network in unique]
    if not named:
        raise RequestError(
            "backbones", expected="one network or more", found="none", remedy="Name one, or pass None for all here."
        )
    loaded: list[_Candidate] = []
    for name, one in named:
        network = load_backbone(one)
        title = name or network.name
        again = sum(title == other.title or other.title.startswith(f"{title} #") for other in loaded)
        loaded.append(_Candidate(f"{title} #{again + 1}" if again else title, network))
    modality = modality_of(inputs)
    for candidate in loaded:
        if candidate.network.modality != modality:
            raise DataError(
                "inputs",
                expected=f"{candidate.network.modality} inputs, which {candidate.title} reads",
                found=f"{modality} inputs",
                remedy="Pass networks that read the inputs; `graft backbones` lists what each reads.",
            )
    return loaded, ()


def _usable_here(modality: str) -> tuple[list[_Candidate], tuple[tuple[str, str], ...]]:
    if modality == "features":
        return [_Candidate("identity", load_backbone(None))], ()
    usable, passed_over = [], []
    for network in available():
        if network.modality == modality:
            try:
                usable.append(_Candidate(network.name, load_backbone(network.name)))
            except GraftError as error:
                passed_over.append((network.name, error.message))
    if not usable:
        raise DataError(
            "inputs",
            expected=f"a network here that reads {modality} inputs",
            found="; ".join(reason for _, reason in passed_over) or "none",
            remedy="Run: pip install 'graft-learn[offline]', or name a network.",
        )
    return usable, tuple(passed_over)


def _candidates(networks: list[_Candidate], layers: Any, pooling: str | None) -> list[_Candidate]:
    """Return every network at every layer that it has."""
    if layers is None:
        if pooling is None:
            return networks
        return [
            _Candidate(one.title, one.network.with_output(layer=one.network.layer, pooling=pooling)) for one in networks
        ]
    asked = [layers] if isinstance(layers, str | int) else list(layers)
    if not asked:
        raise RequestError("layers", expected="one layer or more", found="none", remedy="Name one, or pass None.")
    usable = {
        (place, number): _has(one.network, layer)
        for place, one in enumerate(networks)
        for number, layer in enumerate(asked)
    }
    for number, layer in enumerate(asked):
        if not any(usable[place, number] for place in range(len(networks))):
            networks[0].network.with_output(layer=layer)  # whose message lists the layers that there are
    made: dict[tuple[str, Any], _Candidate] = {}
    for place, one in enumerate(networks):
        if not any(usable[place, number] for number in range(len(asked))):
            one.network.with_output(layer=asked[0])
        for number, layer in enumerate(asked):
            if usable[place, number]:
                network = one.network.with_output(layer=layer, pooling=pooling)
                made.setdefault((one.title, network.layer), _Candidate(one.title, network))
    return list(made.values())


def _has(network: Backbone, layer: Any) -> bool:
    try:
        network.with_output(layer=layer)
    except RequestError:
        return False
    return True


def _embedded(candidate: _Candidate, what: Given, *, precision: str, store: Any, strict: bool, seed: int) -> Labelled:
    return embedded(
        candidate.network,
        what,
        views=1,
        batch_size=None,
        precision=precision,
        store=store,
        strict=strict,
        random_state=seed,
    )


def _estimated_rows(labels: np.ndarray, seed: int) -> np.ndarray:
    """Return the rows that the estimates look at: all, or a stratified draw."""
    count = len(labels)
    if count <= _ESTIMATED:
        return np.arange(count)
    rows = Domain(np.arange(count, dtype=np.float64)[:, None], labels)
    shares = {"train": _ESTIMATED / count, "rest": 1 - _ESTIMATED / count}
    return np.asarray(split(rows, fractions=shares, random_state=seed)["train"].inputs)[:, 0].astype(np.intp)


def _estimates(
    features: Any, targets: np.ndarray, task: Task, groups: np.ndarray | None, seed: int
) -> dict[str, float | None]:
    """Return every estimate of features for targets, as heads take them; None where one does not apply."""
    values: dict[str, float | None] = dict.fromkeys(ESTIMATE_TITLES)
    if task.kind == "classification":
        values["h_score"] = h_score(features, targets)
        values["logme"] = logme(features, targets)
        values["nleep"] = nleep(features, targets, random_state=seed)
        if np.unique(targets, return_counts=True)[1].max() > 1:
            values["gbc"] = gbc(features, targets)
        values["knn"] = knn_accuracy(features, targets, groups=groups)
        return values
    columns = targets.reshape(len(targets), -1).astype(np.float64)
    known = np.isfinite(columns)
    parts = (
        [(known.all(axis=1), columns)]
        if known.all()
        else [(k, c[:, None]) for k, c in zip(known.T, columns.T, strict=True)]
    )
    evidence, neighbours, weights = [], [], []
    for rows, part in parts:
        varying = part[rows][:, np.ptp(part[rows], axis=0) > 0] if rows.sum() > 1 else part[:0, :0]
        if not varying.shape[1]:
            continue
        own = None if groups is None else groups[rows]
        scaled = varying / varying.std(axis=0)  # in units of their spread, so that no output outweighs another
        evidence.append(logme(features[rows], scaled, task="regression", centered=True))
        if own is None or len(np.unique(own.astype(str))) > 1:
            neighbours.append(knn_r2(features[rows], varying, groups=own))
        weights.append(varying.shape[1])
    values["logme"] = float(np.average(evidence, weights=weights))
    if len(neighbours) == len(evidence):
        values["knn"] = float(np.average(neighbours, weights=weights))
    return values


def _ranking(
    looked: list[_Looked],
    ranks: list[float],
    task: Task,
    difference: Callable[[Probe, Probe], Any],
    *,
    examples: int,
    folds: int,
    left_out: tuple[tuple[int, str, str], ...],
    unlabelled: int,
    passed_over: tuple[tuple[str, str], ...],
) -> Ranking:
    def order(place: int) -> tuple[bool, float, float]:
        found = looked[place].probed
        return found is None, 0.0 if found is None else -found.score(task.kind).value, ranks[place]

    places = sorted(range(len(looked)), key=order)
    rows = tuple(
        RankedBackbone(
            backbone=one.candidate.title,
            layer=one.candidate.network.layer,
            pooling=one.candidate.network.pooling,
            feature_dim=int(one.found.features.shape[-1]),
            parameters=one.candidate.network.parameters,
            estimates=one.estimates,
            mean_rank=ranks[place],
            score=None if one.probed is None else one.probed.score(task.kind),
            seconds=one.seconds,
        )
        for place, one in ((place, looked[place]) for place in places)
    )
    probed = [row for row in rows if row.score is not None]
    scores = [row.score.value for row in probed if row.score is not None]
    names = [name for name in ESTIMATE_TITLES if all(row.estimates[name] is not None for row in rows)]

    def column(name: str, of: Sequence[RankedBackbone]) -> list[float]:
        return [value for row in of if (value := row.estimates[name]) is not None]

    disagreement: dict[str, float | None] = {
        name: kendall(column(name, probed), scores) if name in names else None for name in ESTIMATE_TITLES
    }
    disagreement["mean_rank"] = kendall([-row.mean_rank for row in probed], scores)
    pairs = [kendall(column(one, rows), column(other, rows)) for one, other in combinations(names, 2)]
    agreed = [tau for tau in pairs if tau is not None]
    ahead = None
    if len(probed) > 1:
        one, other = looked[places[0]].probed, looked[places[1]].probed
        assert one is not None
        assert other is not None
        ahead = difference(one, other)
    return Ranking(
        task=task.kind,
        metric=METRICS[task.kind],
        examples=examples,
        folds=folds,
        rows=rows,
        lead=ahead,
        disagreement=disagreement,
        agreement=float(np.mean(agreed)) if agreed else None,
        left_out=left_out,
        unlabelled=unlabelled,
        passed_over=passed_over,
    )
