"""Groups of tasks that are best trained together, from an affinity matrix."""

from __future__ import annotations

from typing import Any

import numpy as np

from graft._checks import integer
from graft.errors import DataError

# Exact up to here: 3^10 sums, a tenth of a second.
_MOST_EXACT = 10


def group_tasks(affinity: Any, *, max_groups: int | None = None) -> list[tuple[int, ...]]:
    r"""Return the partition of the tasks whose groups hold the most affinity.

    .. math:: \max_{G_1 ∪ … ∪ G_m} \sum_g \sum_{i \ne j \in G_g} A_{ij}

    A task that is better off alone is a group of itself (0). Up to ten tasks the best partition is found by dynamic
    programming over subsets; beyond, groups are merged, the pair that gains most first, and single tasks then moved for
    as long as that gains.

    Parameters
    ----------
    affinity : array (K, K)
        A, what task i does for task j; positive helps. The diagonal is not read. NaN counts as 0: nothing is known.
    max_groups : int, optional
        The most groups (networks) there may be; by default as many as there are tasks.

    Returns
    -------
    list of tuple of int
        The groups, each sorted, by their first task.

    Raises
    ------
    DataError
        If the matrix is not square, or infinite somewhere.

    References
    ----------
    Fifty et al. (2021), Efficiently Identifying Task Groupings for Multi-Task Learning, section 3.2 (whose groups may
    overlap, and which averages the affinity onto a task over its group).

    Examples
    --------
    >>> from graft.sharing import group_tasks
    >>> group_tasks([[0, 0.5, -0.2], [0.3, 0, -0.1], [0.1, -0.3, 0]])
    [(0, 1), (2,)]
    """
    table = np.asarray(affinity, dtype=np.float64)
    if table.ndim != 2 or table.shape[0] != table.shape[1] or not len(table) or np.isinf(table).any():
        raise DataError(
            "affinity",
            expected="a square table of finite numbers, a row and a column for each task",
            found=f"shape {table.shape}" + (", with infinite entries" if np.isinf(table).any() else ""),
            remedy="Pass what gradient_affinity, lookahead_affinity or probe_affinity returns.",
        )
    count = len(table)
    most = count if max_groups is None else min(integer("max_groups", max_groups, low=1), count)
    table = np.nan_to_num(table, nan=0.0)
    gain = table + table.T
    np.fill_diagonal(gain, 0.0)
    groups = _exact(gain, most) if count <= _MOST_EXACT else _improved(gain, _merged(gain, most), most)
    return sorted(tuple(sorted(group)) for group in groups)


def _exact(gain: np.ndarray, most: int) -> list[list[int]]:
    """Return the best partition into at most so many groups."""
    count = len(gain)
    inside = np.zeros(1 << count)
    for subset in range(1, 1 << count):
        top = subset.bit_length() - 1
        rest = subset ^ (1 << top)
        inside[subset] = inside[rest] + sum(gain[top, task] for task in range(top) if rest >> task & 1)
    # best[subset]: of partitions into at most as many groups as rounds so far. The group of the lowest task is chosen.
    best, choice = inside.copy(), [list(range(1 << count))]
    # Without a limit one round suffices: parts of a subset are smaller numbers, which are done already.
    for _ in range(1, most if most < count else 2):
        better, chosen = (best.copy() if most < count else best), choice[-1].copy()
        for subset in range(1, 1 << count):
            low = subset & -subset
            others = subset ^ low
            part = others
            found, at = -np.inf, subset
            while True:
                # The group is all but `part`, which is partitioned with one group less. Smallest groups come first:
                # tasks of which nothing is known stay alone.
                value = inside[subset ^ part] + best[part]
                if value > found + 1e-12:
                    found, at = value, subset ^ part
                if not part:
                    break
                part = (part - 1) & others
            better[subset], chosen[subset] = found, at
        choice = [*choice, chosen] if most < count else [chosen]
        best = better
    groups, rest, depth = [], (1 << count) - 1, len(choice) - 1
    while rest:
        group = choice[depth][rest]
        groups.append([task for task in range(count) if group >> task & 1])
        rest ^= group
        depth = max(depth - 1, 0)
    return groups


def _merged(gain: np.ndarray, most: int) -> list[list[int]]:
    """Return groups, merged in pairs for as long as that gains, or there are too many."""
    groups = [[task] for task in range(len(gain))]
    between = gain.copy()
    np.fill_diagonal(between, -np.inf)
    while len(groups) > 1:
        first, second = sorted(divmod(int(between.argmax()), len(groups)))
        if between[first, second] <= 0 and len(groups) <= most:
            break
        groups[first] += groups.pop(second)
        between[first] += between[second]
        between[:, first] += between[:, second]
        between[first, first] = -np.inf
        between = np.delete(np.delete(between, second, axis=0), second, axis=1)
    return groups


def _improved(gain: np.ndarray, groups: list[list[int]], most: int) -> list[list[int]]:
    """Return groups after single tasks have been moved for as long as the total rises."""
    label = np.empty(len(gain), dtype=np.intp)
    for place, group in enumerate(groups):
        label[group] = place
    for _ in range(100 * len(gain)):
        best = (1e-12, -1, -1)
        used = np.unique(label)
        free = np.setdiff1d(np.arange(len(gain)), used)[:1] if len(used) < most else np.empty(0, dtype=np.intp)
        for task in range(len(gain)):
            here = gain[task, label == label[task]].sum()
            for other in (*used, *free):
                rise = gain[task, label == other].sum() - here
                if other != label[task] and rise > best[0]:
                    best = (rise, task, int(other))
        if best[1] < 0:
            break
        label[best[1]] = best[2]
    return [np.flatnonzero(label == place).tolist() for place in np.unique(label)]
