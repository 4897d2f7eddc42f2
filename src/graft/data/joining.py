"""One label table from one data set for each task."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np

from graft.data.domain import Domain
from graft.data.values import label_array
from graft.errors import DataError


def join_tasks(domains: Mapping[str, Domain]) -> Domain:
    """Return the examples of one labelled data set for each task, with one label table for all of them.

    The table has a column for each task, which is empty where examples come from another task's data set.

    Parameters
    ----------
    domains : mapping of str to Domain
        The data set of each task, with one label for each example; of different sizes.

    Raises
    ------
    DataError
        If a data set has no labels, or a table of them.

    Examples
    --------
    >>> import numpy as np
    >>> from graft.data import Domain, join_tasks
    >>> books = Domain(np.array(["dull", "a joy"], dtype=object), np.array(["bad", "good"]))
    >>> films = Domain(np.array(["too long"], dtype=object), np.array(["bad"]))
    >>> join_tasks({"books": books, "films": films}).labels.tolist()
    [['bad', None], ['good', None], [None, 'bad']]
    """
    names = tuple(str(name) for name in domains)
    if not names:
        raise DataError("domains", expected="one data set or more", found="none", remedy="Pass {name: Domain}.")
    inputs: list[Any] = []
    table = np.full((sum(domain.size for domain in domains.values()), len(names)), None, dtype=object)
    groups: list[Any] = []
    for place, (name, domain) in enumerate(domains.items()):
        if domain.labels is None or np.ndim(domain.labels) != 1:
            raise DataError(
                f"domains[{name!r}]",
                expected="one label for each example",
                found="none" if domain.labels is None else "a table of labels",
                remedy="Pass Domain(inputs, labels) with labels of shape (n,).",
            )
        table[len(inputs) : len(inputs) + domain.size, place] = label_array(domain.labels).astype(object)
        groups += [f"{name} {row}" for row in range(domain.size)] if domain.groups is None else list(domain.groups)
        inputs += list(domain.inputs)
    arrays = all(isinstance(domain.inputs, np.ndarray) for domain in domains.values())
    whole: Any = np.concatenate([domain.inputs for domain in domains.values()]) if arrays else inputs
    grouped = any(domain.groups is not None for domain in domains.values())
    return Domain(whole, table, groups=np.array(groups, dtype=object) if grouped else None, tasks=names)
