"""`Domain`: inputs from one distribution, with the labels that are known for them."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from graft.data.values import filled_groups
from graft.errors import DataError


@dataclass(frozen=True, eq=False)
class Domain:
    """Examples drawn from one distribution: a frozen value.

    A domain deliberately has no length, shape or array interface: scikit-learn's splitters slice every fit parameter
    that is as long as `X`, and would cut a target domain in half inside ``cross_val_score``.

    Parameters
    ----------
    inputs : array of shape (n,) or (n, ...)
        Paths of images, texts, PIL images, image arrays or feature vectors. Paths stay paths until an image is needed.
    labels : array of shape (n,) or (n, tasks), optional
        The labels as the user wrote them; None when there are none.
    name : str
        What to call this domain in messages and reports.
    groups : array of shape (n,), optional
        Examples of one group (a patient, a document) are never divided by a split; one whose group is empty becomes a
        group of its own.
    splits : array of shape (n,), optional
        The given split of each example: ``"train"``, ``"val"`` or ``"test"``.
    tasks : tuple of str
        The names of the columns of a label table; empty where `labels` is one column.
    skipped : tuple of str
        The names of what lay beside the inputs and was left out when they were read: hidden files, files that are no
        images, empty folders. It belongs to the whole reading: a part of a domain has none.

    Raises
    ------
    DataError
        If the columns are not equally long, or `tasks` does not name the columns of `labels`.

    Examples
    --------
    >>> import numpy as np
    >>> from graft.data import Domain
    >>> reviews = Domain(np.array(["good", "bad"], dtype=object), np.array(["+", "-"]), name="reviews")
    >>> reviews.size, reviews.take([1]).inputs
    (2, array(['bad'], dtype=object))
    >>> reviews
    <Domain 'reviews': 2 examples, labels>
    """

    inputs: Any
    labels: Any = None
    name: str = ""
    groups: Any = None
    splits: Any = None
    tasks: tuple[str, ...] = ()
    skipped: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        for column in ("labels", "groups", "splits"):
            values = getattr(self, column)
            if values is not None and _count(values) != self.size:
                raise DataError(
                    f"{column} of domain {self.name!r}",
                    expected=f"{self.size} values, one for each input",
                    found=str(_count(values)),
                    remedy=f"Pass inputs and {column} of the same length.",
                )
        if self.groups is not None:
            object.__setattr__(self, "groups", filled_groups(self.groups))
        columns = np.shape(self.labels)[1] if np.ndim(self.labels) == 2 else 0
        if self.tasks and len(self.tasks) != columns:
            raise DataError(
                f"tasks of domain {self.name!r}",
                expected=f"{columns} names, one for each label column",
                found=str(len(self.tasks)),
                remedy="Name every column of the label table.",
            )

    def __repr__(self) -> str:
        said = [f"{self.size} examples"]
        if self.labels is not None:
            said.append(f"labels of {', '.join(self.tasks)}" if self.tasks else "labels")
        said += [column for column in ("groups", "splits") if getattr(self, column) is not None]
        return f"<Domain {self.name!r}: {', '.join(said)}>"

    @property
    def size(self) -> int:
        """The number of examples."""
        return _count(self.inputs)

    def take(self, rows: Any) -> Domain:
        """Return the domain of the examples at `rows` (indices or a boolean mask), in that order."""
        index = np.asarray(rows)
        index = np.flatnonzero(index) if index.dtype == bool else index.astype(np.intp)

        def column(values: Any) -> Any:
            return None if values is None else values[index]

        return replace(
            self,
            inputs=self.inputs[index],
            labels=column(self.labels),
            groups=column(self.groups),
            splits=column(self.splits),
            skipped=(),
        )

    def split(self, name: str) -> Domain | None:
        """Return the examples of the given split ``"train"``, ``"val"`` or ``"test"``, or None if there are none."""
        if self.splits is None:
            return None
        rows = np.flatnonzero(np.asarray(self.splits) == name)
        return self.take(rows) if len(rows) else None


def _count(values: Any) -> int:
    """Return the number of rows of an array, a sparse matrix or a sequence."""
    shape = getattr(values, "shape", None)
    return int(shape[0]) if shape else len(values)
