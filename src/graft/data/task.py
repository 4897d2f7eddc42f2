"""`Task`: what is to be predicted, as the labels themselves say it."""

from __future__ import annotations

import warnings
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np

from graft._checks import one_of
from graft.data.values import label_array, missing
from graft.errors import DataError

KINDS = ("classification", "multilabel", "regression")
# So many different whole numbers may name classes in any case; more do if this share of the numbers up to the largest
# one is among them.
_FEW, _COUNTED = 20, 0.9


@dataclass(frozen=True)
class Task:
    """What is to be predicted: a frozen value.

    Parameters
    ----------
    name : str
        What the prediction is called, such as ``"species"``; may be empty.
    kind : {"classification", "multilabel", "regression"}
        One class of several, any number of labels at once, or a number.
    classes : tuple
        Classification: the classes in their order. Multi-label: the names of the label columns. Regression: empty.
    boolean : bool
        Multi-label: whether the labels are written True and False, not 1 and 0.

    Raises
    ------
    RequestError
        If there is no such kind.
    DataError
        If a class is named twice.

    Examples
    --------
    >>> from graft.data import Task
    >>> Task("species", "classification", ("maple", "oak")).codes(["oak", None, "maple"])
    array([ 1, -1,  0])
    """

    name: str
    kind: str
    classes: tuple = ()
    boolean: bool = field(default=False, repr=False, compare=False)

    def __post_init__(self) -> None:
        one_of("kind", self.kind, KINDS)
        twice = [value for position, value in enumerate(self.classes) if value in self.classes[:position]]
        if twice:
            raise DataError(
                f"classes of task {self.name!r}",
                expected="every class once",
                found=f"{twice[0]!r} twice",
                remedy="Name each class once.",
            )

    def codes(self, labels: Any) -> np.ndarray:
        """Return the position of each label in `classes`, as ``int64`` (n,), with -1 where it is missing.

        Raises
        ------
        DataError
            If this is no classification, or a label is not among the classes.
        """
        if self.kind != "classification":
            raise DataError(
                f"task {self.name!r}",
                expected="a classification",
                found=f"a {self.kind}",
                remedy="Only classes have codes; use the labels as numbers.",
            )
        array = label_array(labels, subject=_subject(self.name))
        check_classes(self.classes, array, subject=_subject(self.name))
        place = {value: position for position, value in enumerate(self.classes)}
        cells, gaps = array.tolist(), missing(array)
        return np.array([-1 if gap else place[cell] for cell, gap in zip(cells, gaps, strict=True)], dtype=np.int64)

    def learnable_from(self, labels: Any) -> Task:
        """Return the task that is left for `labels`: a classification without the classes of which none has an example.

        Warns where there are such classes: their examples could not be read.

        Raises
        ------
        DataError
            If nothing can be learnt from these labels; see `require_trainable`.
        """
        require_trainable(labels, self)
        if self.kind != "classification":
            return self
        counts = np.bincount(self.codes(labels) + 1, minlength=len(self.classes) + 1)[1:]
        lost = [str(name) for name, count in zip(self.classes, counts, strict=True) if count == 0]
        if not lost:
            return self
        warnings.warn(
            f"{_subject(self.name)}: no example of {', '.join(lost)} could be read, so it is not among the classes.",
            UserWarning,
            stacklevel=4,
        )
        return replace(self, classes=tuple(name for name, count in zip(self.classes, counts, strict=True) if count))


def class_order(*labels: Any, subject: str = "labels") -> tuple:
    """Return the classes found in all of `labels` together, in sorted order, as plain Python values.

    Numbers sort by value, strings by code point. Whole floats are integers that once shared a column with a gap, and
    become integers again (they compare equal). Missing cells are no class.

    Parameters
    ----------
    *labels : array of shape (n,)
        The labels of every split; None stands for a split without labels.
    subject : str
        What to call them in the message.

    Raises
    ------
    DataError
        If strings, numbers and booleans are mixed: no order is natural, and one of them is usually a slip.

    Examples
    --------
    >>> from graft.data import class_order
    >>> class_order(["10", "9"], ["a", None]), class_order([10, 9], [float("nan"), 1.0])
    (('10', '9', 'a'), (1, 9, 10))
    """
    found: dict[str, dict[Any, None]] = {}
    for part in labels:
        if part is None:
            continue
        array = label_array(part, subject=subject)
        if array.ndim != 1:
            raise DataError(
                subject,
                expected="one column of labels",
                found=f"a table of shape {array.shape}",
                remedy="Pass one column at a time.",
            )
        values = array[~missing(array)]
        distinct = np.unique(values).tolist() if values.dtype != object else dict.fromkeys(values.tolist())
        for value in distinct:
            kind = "boolean" if isinstance(value, bool) else "number" if isinstance(value, (int, float)) else "string"
            found.setdefault(kind, {})[value] = None
    if len(found) > 1:
        shown = " and ".join(f"the {kind} {next(iter(values))!r}" for kind, values in sorted(found.items()))
        raise DataError(
            subject,
            expected="labels of one type",
            found=shown,
            remedy="Write every label the same way: all as strings, or all as numbers.",
        )
    classes = sorted(next(iter(found.values()))) if found else []
    if "number" in found and all(float(value).is_integer() for value in classes):
        classes = [int(value) for value in classes]
    return tuple(classes)


def check_classes(expected: Sequence[Any], found: Any, *, subject: str = "labels", complete: bool = False) -> None:
    """Hold the labels of a later data set against the classes of a model.

    Parameters
    ----------
    expected : sequence
        The classes that are known, as `class_order` returned them.
    found : array of shape (n,)
        The labels of the later data set.
    subject : str
        What to call the later data set in the message.
    complete : bool
        Whether every expected class must occur, too.

    Raises
    ------
    DataError
        If a label is none of the expected classes, or, with `complete`, an expected class does not occur.
    """
    from graft._checks import did_you_mean

    order = class_order(found)
    known = set(expected)
    added = [value for value in order if value not in known]
    if added:
        words = [value for value in expected if isinstance(value, str)]
        otherwise = "Correct those labels, leave those examples out, or fit the model again with them."
        as_text = {str(value) for value in expected}
        if all(str(value) in as_text for value in added):
            otherwise = "They are written as another type: convert them to the type of the classes."
        raise DataError(
            subject,
            expected=f"the {len(expected)} known classes {_listed(expected)}",
            found=f"the unknown {'class' if len(added) == 1 else 'classes'} {_listed(added)}",
            remedy=did_you_mean(added[0], words, otherwise=otherwise) if isinstance(added[0], str) else otherwise,
        )
    present = set(order)
    lacking = [value for value in expected if value not in present]
    if complete and lacking:
        raise DataError(
            subject,
            expected=f"all of the {len(expected)} classes {_listed(expected)}",
            found=f"no example of {_listed(lacking)}",
            remedy="Add examples of what is lacking, or do not ask for a complete set.",
        )


def infer_task(labels: Any, *, name: str = "", columns: Sequence[str] = ()) -> Task:
    """Return the task that the labels state.

    Strings and booleans name classes. Numbers with fractions are a regression, and so are more than 20 different whole
    numbers (years, prices, points), unless they count up from 0 or 1 as numbers of classes do: nine tenths of the
    numbers up to the largest one are there. Other whole numbers name classes. A table of zeros, ones and gaps with
    several columns is multi-label. Missing cells (None, NaN, empty) are passed over.

    Parameters
    ----------
    labels : array of shape (n,) or (n, labels)
        The labels; a table of one column counts as that column.
    name : str
        The name of the task.
    columns : sequence of str
        Multi-label: the names of the columns; by default their positions, ``"0"``, ``"1"``, …

    Raises
    ------
    DataError
        If every cell is missing, the types are mixed, or a table is not of zeros and ones (see `infer_tasks`).

    Examples
    --------
    >>> from graft.data import infer_task
    >>> infer_task(["oak", "", "maple"], name="species")
    Task(name='species', kind='classification', classes=('maple', 'oak'))
    >>> infer_task([0.5, 1.0]).kind, infer_task([[0, 1], [1, None]]).kind
    ('regression', 'multilabel')
    """
    subject = _subject(name)
    array = label_array(labels, subject=subject)
    gaps = missing(array)
    if array.size == 0 or gaps.all():
        raise DataError(
            subject,
            expected="at least one label",
            found="only empty cells" if array.size else "no examples",
            remedy="Fill in labels, or name the column that holds them.",
        )
    if array.ndim == 2 and array.shape[1] == 1:
        array, gaps = array[:, 0], gaps[:, 0]
    if array.ndim == 1:
        values = array[~gaps]
        numbers = values.dtype.kind == "f" or {type(value) for value in values.tolist()} <= {int, float}
        if numbers and not _name_classes(values.astype(np.float64)):
            return Task(name, "regression")
        return Task(name, "classification", class_order(array, subject=subject))
    if array.ndim == 2 and all(value in (0, 1) for value in array[~gaps].tolist()):
        names = tuple(columns) if len(columns) else tuple(str(position) for position in range(array.shape[1]))
        if len(names) != array.shape[1]:
            raise DataError(
                "columns",
                expected=f"{array.shape[1]} names, one for each label column",
                found=str(len(names)),
                remedy="Name every column.",
            )
        return Task(name, "multilabel", names, boolean=written_as_booleans(array))
    raise DataError(
        subject,
        expected="one column, or a table of zeros and ones",
        found=f"a table of shape {array.shape} with other values",
        remedy="Pass task='regression' for several numbers; several different tasks are multi-task learning; else pick "
        "one column.",
    )


def _name_classes(values: np.ndarray) -> bool:
    """Return whether numbers are names of classes rather than measured; see `infer_task`."""
    if not np.array_equal(values, np.round(values)) or not np.isfinite(values).all():
        return False
    different = np.unique(values)
    counted = different[0] >= 0 and len(different) >= _COUNTED * different[-1]
    return len(different) <= _FEW or bool(counted)


def written_as_booleans(labels: np.ndarray) -> bool:
    """Return whether every cell of a table that is not missing is True or False."""
    return all(type(value) is bool for value in labels[~missing(labels)].tolist())


def infer_tasks(labels: Any, *, columns: Sequence[str] = ()) -> tuple[Task, ...]:
    """Return one task for each column of a label table (n, tasks), each as `infer_task` sees it.

    Raises
    ------
    DataError
        If a column is empty or mixes types; the message names it.
    """
    array = label_array(labels)
    if array.ndim == 1:
        array = array[:, None]
    names = tuple(columns) if len(columns) else tuple(str(position) for position in range(array.shape[1]))
    if len(names) != array.shape[1]:
        raise DataError(
            "columns",
            expected=f"{array.shape[1]} names, one for each label column",
            found=str(len(names)),
            remedy="Name every column.",
        )
    return tuple(infer_task(array[:, position], name=name) for position, name in enumerate(names))


def require_trainable(labels: Any, task: Task) -> None:
    """Check that something can be learnt from `labels`.

    Raises
    ------
    DataError
        If there is no label; if a classification has one class, a regression one value or a value that is not finite,
        or no column of a multi-label table holds both zeros and ones.
    """
    subject = _subject(task.name)
    array = label_array(labels, subject=subject)
    values = array[~missing(array)]
    if values.size == 0:
        raise DataError(
            subject,
            expected="labelled examples",
            found="none",
            remedy="Label some, or put the images into a folder per class.",
        )
    if task.kind == "classification":
        classes = class_order(values, subject=subject)
        if len(classes) < 2:
            raise DataError(
                subject,
                expected="at least 2 classes",
                found=f"1: {classes[0]!r}",
                remedy="Add examples of another class; one class alone cannot be told apart from anything.",
            )
        return
    if any(isinstance(value, str) for value in values.tolist()):
        multilabel = task.kind == "multilabel"
        raise DataError(
            subject,
            expected="zeros and ones, for a multi-label task" if multilabel else f"numbers, for a {task.kind}",
            found=repr(next(value for value in values.tolist() if isinstance(value, str))),
            remedy="Correct those cells, or "
            + ("learn each column as a task." if multilabel else "fit a classification."),
        )
    if task.kind == "regression":
        numbers = values.astype(np.float64)
        if not np.isfinite(numbers).all() or np.all(numbers == numbers[0]):
            raise DataError(
                subject,
                expected="at least 2 different, finite values",
                found=f"only {numbers[0]:g}" if np.isfinite(numbers).all() else "an infinite value",
                remedy="Correct the column, or name another one.",
            )
    elif not any(len(np.unique(column[~missing(column)].astype(np.float64))) == 2 for column in array.T):
        raise DataError(
            subject,
            expected="a label column with both zeros and ones",
            found="none",
            remedy="Correct the table, or name other columns.",
        )


def _subject(name: str) -> str:
    return f"labels {name!r}" if name else "labels"


def _listed(values: Sequence[Any]) -> str:
    """Return the first few values, and how many more there are."""
    shown = ", ".join(repr(value) for value in values[:6])
    return shown + (f" and {len(values) - 6} more" if len(values) > 6 else "")
