"""`split` and `few_shot`: seeded, stratified divisions of a domain that never divide a group."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

import numpy as np

from graft._checks import integer, number
from graft._runtime import generator
from graft.data.domain import Domain
from graft.data.task import infer_task
from graft.data.values import label_array, missing
from graft.errors import DataError, RequestError

_BINS = 10  # of a regression's values: a part then differs from the whole by less than a tenth of the range of ranks


def split(
    domain: Domain,
    *,
    fractions: Mapping[str, float] | None = None,
    random_state: Any = 0,
    stratify: bool = True,
) -> dict[str, Domain]:
    """Divide a domain at random into named parts that together are the domain.

    With `stratify`, each part gets its share of every class: class c with :math:`n_c` examples gives a part of fraction
    f either :math:`\\lfloor f n_c \\rfloor` or :math:`\\lceil f n_c \\rceil` of them where there are two parts, and
    within one of that for more. The rounding errors of the classes are carried over from one to the next, from a
    random start, so that the part itself has :math:`f n` examples to the nearest integer. Then, should the first part
    lack a class that has examples elsewhere, it gets one of them. A regression is stratified by tenths of its values, a
    multi-label table by the rarest label of each example (after Sechidis, Tsoumakas and Vlahavas, 2011, who serve the
    rarest label first), any other label table by which cells are filled. Unlabelled examples are a stratum.

    Where the domain has groups, whole groups are dealt, the largest first, each to the part that is furthest below its
    share of the group's classes; the shares are then met as well as the sizes of the groups allow. An example whose
    group is missing is a group of its own.

    Parameters
    ----------
    domain : Domain
        What to divide. Given splits are ignored (see `Domain.split` for those) and kept.
    fractions : dict of str to float
        The share of each part; they sum to 1. By default 0.8 for ``"train"`` and 0.2 for ``"test"``. The first, or the
        one called ``"train"``, is the part that is given every class.
    random_state : None, int, Generator or RandomState
        The seed: the same seed gives the same parts.
    stratify : bool
        Whether the parts shall resemble each other in their labels.

    Returns
    -------
    dict of str to Domain
        The parts, each in the order of the domain.

    Raises
    ------
    RequestError
        If the fractions are not positive or do not sum to 1.
    DataError
        If there are fewer examples, or groups, than parts.

    Examples
    --------
    >>> import numpy as np
    >>> from graft.data import Domain, split
    >>> parts = split(Domain(np.arange(10)[:, None], np.repeat(["a", "b"], 5)), random_state=7)
    >>> {name: part.labels.tolist() for name, part in parts.items()}
    {'train': ['a', 'a', 'a', 'a', 'b', 'b', 'b', 'b'], 'test': ['a', 'b']}
    """
    shares = _shares({"train": 0.8, "test": 0.2} if fractions is None else fractions)
    names = list(shares)
    first = names.index("train") if "train" in names else 0
    rng = generator(random_state)
    strata = _strata(domain) if stratify else np.zeros(domain.size, dtype=np.int64)
    units = np.arange(domain.size) if domain.groups is None else _group_codes(domain.groups)
    count = int(units.max()) + 1 if domain.size else 0
    if count < len(names):
        kind = "examples" if domain.groups is None else "groups"
        raise DataError(
            f"domain {domain.name!r}",
            expected=f"at least {len(names)} {kind}, one for each part",
            found=str(count),
            remedy="Ask for fewer parts, or bring more data.",
        )
    fraction = np.array(list(shares.values()))
    if domain.groups is None:
        part = _deal_examples(strata, fraction, rng)
        part = _fill(part, strata, np.arange(domain.size), first, rng)
    else:
        part = _deal_groups(units, strata, fraction, rng)
        part = _fill(part, strata, units, first, rng)
    part = _no_part_empty(part, strata, units, len(names), rng)
    return {name: domain.take(np.flatnonzero(part == position)) for position, name in enumerate(names)}


def few_shot(domain: Domain, k: int, *, random_state: Any = 0) -> tuple[Domain, Domain]:
    """Draw `k` examples of every class at random, and return them and the rest.

    With one seed, the draw for a larger `k` contains that for a smaller one, so that a learning curve adds examples and
    never swaps them. Unlabelled examples are in the rest. Where the domain has groups, examples whose group was drawn
    are left out of the rest, so that no group is on both sides.

    Parameters
    ----------
    domain : Domain
        A classification: one column of labels.
    k : int
        How many examples of each class.
    random_state : None, int, Generator or RandomState
        The seed.

    Returns
    -------
    few, rest : Domain
        Each in the order of `domain`.

    Raises
    ------
    DataError
        If a class has fewer than `k` examples, or the labels are not classes.

    Examples
    --------
    >>> import numpy as np
    >>> from graft.data import Domain, few_shot
    >>> few, rest = few_shot(Domain(np.arange(6)[:, None], np.array(list("aababb"))), 1, random_state=3)
    >>> few.labels.tolist(), rest.size
    (['a', 'b'], 4)
    """
    integer("k", k, low=1)
    subject = f"labels of domain {domain.name!r}"
    task = infer_task(domain.labels)
    if task.kind != "classification":
        raise DataError(
            subject,
            expected="classes, to draw examples of each",
            found=f"a {task.kind}",
            remedy="Use split(domain, fractions=…) instead.",
        )
    codes = task.codes(np.ravel(label_array(domain.labels)))
    counts = np.bincount(codes[codes >= 0], minlength=len(task.classes))
    if counts.min() < k:
        scarce = task.classes[int(counts.argmin())]
        raise DataError(
            subject,
            expected=f"at least {k} examples of every class",
            found=f"{counts.min()} of {scarce!r}",
            remedy=f"Draw k={counts.min()}, or leave out the small classes.",
        )
    order = generator(random_state).permutation(domain.size)
    order = order[np.argsort(codes[order], kind="stable")]
    ordered = codes[order]
    start = np.searchsorted(ordered, np.arange(len(task.classes)))
    drawn = np.sort(np.concatenate([order[begin : begin + k] for begin in start]))
    left = np.ones(domain.size, dtype=bool)
    left[drawn] = False
    if domain.groups is not None:
        groups = _group_codes(domain.groups)
        left &= ~np.isin(groups, groups[drawn])
    return domain.take(drawn), domain.take(np.flatnonzero(left))


def _shares(fractions: Mapping[str, float]) -> dict[str, float]:
    shares = {
        str(name): number(f"fractions[{name!r}]", value, low=0, open_low=True) for name, value in fractions.items()
    }
    total = math.fsum(shares.values())
    if not shares or abs(total - 1) > 1e-9:
        raise RequestError(
            "fractions",
            expected="fractions that sum to 1",
            found=f"{total:g}",
            remedy="Pass, for example, fractions={'train': 0.8, 'test': 0.2}.",
        )
    return shares


def _strata(domain: Domain) -> np.ndarray:
    """Return the stratum of each example, as integers from 0."""
    if domain.labels is None:
        return np.zeros(domain.size, dtype=np.int64)
    labels = label_array(domain.labels)
    gaps = missing(labels)
    if gaps.all():
        return np.zeros(domain.size, dtype=np.int64)
    if labels.ndim == 2 and labels.shape[1] == 1:
        labels, gaps = labels[:, 0], gaps[:, 0]
    if labels.ndim == 2:
        try:
            multilabel = infer_task(labels).kind == "multilabel"
        except DataError:
            multilabel = False
        if multilabel:
            positive = np.where(gaps, 0, labels).astype(np.int64)
            frequency = positive.sum(axis=0)
            rarest = np.where(positive == 1, frequency, np.iinfo(np.int64).max).argmin(axis=1)
            return np.unique(np.where(positive.any(axis=1), rarest, -1), return_inverse=True)[1]
        return np.unique(gaps, axis=0, return_inverse=True)[1].ravel()
    task = infer_task(labels)
    if task.kind == "classification":
        return np.unique(task.codes(labels), return_inverse=True)[1]
    values = np.where(gaps, np.nan, labels).astype(np.float64)
    edges = np.quantile(values[~gaps], np.linspace(0, 1, _BINS + 1)[1:-1])
    return np.unique(np.where(gaps, -1, np.searchsorted(edges, values, side="right")), return_inverse=True)[1]


def _group_codes(groups: Any) -> np.ndarray:
    """Return the group of each example as integers from 0; a missing group is one of its own."""
    array = label_array(groups, subject="groups")
    codes: dict[Any, int] = {}
    keys = [
        ("none", row) if gap else ("some", value)
        for row, (value, gap) in enumerate(zip(array.tolist(), missing(array).tolist(), strict=True))
    ]
    return np.array([codes.setdefault(key, len(codes)) for key in keys], dtype=np.int64)


def _deal_examples(strata: np.ndarray, fraction: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """Deal the examples of each stratum in proportion, carrying the rounding from stratum to stratum."""
    part = np.zeros(len(strata), dtype=np.int64)
    rows = rng.permutation(len(strata))
    rank = rng.permutation(int(strata.max()) + 1)
    rows = rows[np.argsort(rank[strata[rows]], kind="stable")]
    # Part by part, from the last: each takes its share of what is left, evenly along the sorted examples.
    for position in range(len(fraction) - 1, 0, -1):
        share = fraction[position] / fraction[: position + 1].sum()
        # A random start, as in systematic sampling, favours no class by the rounding; its range keeps the sum nearest.
        over = len(rows) * share + 1e-9
        over -= math.floor(over)
        start = rng.uniform(0, 1 - over) if over < 0.5 else rng.uniform(1 - over, 1)
        steps = np.floor(np.arange(len(rows) + 1) * share + start + 1e-9)
        taken = np.diff(steps) > 0
        part[rows[taken]] = position
        rows = rows[~taken]
    return part


def _deal_groups(groups: np.ndarray, strata: np.ndarray, fraction: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """Deal whole groups, the largest first, each where it leaves the counts nearest to the shares."""
    counts = np.zeros((groups.max() + 1, strata.max() + 1))
    np.add.at(counts, (groups, strata), 1.0)
    sizes = counts.sum(axis=1)
    order = rng.permutation(len(counts))
    order = order[np.argsort(-sizes[order], kind="stable")]
    total = counts.sum(axis=0)
    target = fraction[:, None] * total
    # A stratum's squared shortfall counts relative to its size; the size of the part itself counts as one stratum more.
    weight = 1.0 / total
    held = np.zeros_like(target)
    part = np.zeros(len(counts), dtype=np.int64)
    for group in order:
        more = counts[group]
        there = more > 0
        gap = held[:, there] - target[:, there]
        # what the sum over parts of (held - target)^2 grows by, if this part takes the group
        growth = ((2 * gap + more[there]) * more[there] * weight[there]).sum(axis=1)
        whole = held.sum(axis=1) - fraction * len(groups)
        growth += (2 * whole + sizes[group]) * sizes[group] / len(groups)
        best = int(np.argmin(growth))
        part[group] = best
        held[best] += more
    return part[groups]


def _fill(part: np.ndarray, strata: np.ndarray, units: np.ndarray, first: int, rng: np.random.Generator) -> np.ndarray:
    """Move to the first part one unit of each stratum that it lacks: the smallest one, so as to shift little."""
    lacking = np.setdiff1d(np.arange(strata.max() + 1), strata[part == first])
    sizes = np.bincount(units)
    for stratum in lacking:
        candidates = rng.permutation(np.unique(units[strata == stratum]))
        moved = candidates[np.argmin(sizes[candidates])]
        part = np.where(units == moved, first, part)
    return part


def _no_part_empty(
    part: np.ndarray, strata: np.ndarray, units: np.ndarray, parts: int, rng: np.random.Generator
) -> np.ndarray:
    """Give an empty part the smallest unit of the part with most units; if possible not the last of a stratum there."""
    sizes = np.bincount(units)
    for position in range(parts):
        if np.any(part == position):
            continue
        donor = int(np.argmax([len(np.unique(units[part == other])) for other in range(parts)]))
        pairs = np.unique(np.stack([units, strata])[:, part == donor], axis=1)
        last = np.bincount(pairs[1])[pairs[1]] == 1
        spare = np.setdiff1d(pairs[0], pairs[0][last])
        members = rng.permutation(spare if len(spare) else np.unique(pairs[0]))
        part = np.where(units == members[np.argmin(sizes[members])], position, part)
    return part
