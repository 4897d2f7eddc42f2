"""Values as users write them: which are missing, and which type a column of them has."""

from __future__ import annotations

import datetime
import decimal
import re
from collections.abc import Sequence
from typing import Any

import numpy as np

from graft.errors import DataError

_INTEGER = re.compile(r"[+-]?(0|[1-9][0-9]*)")
_DECIMAL = re.compile(r"[+-]?((0|[1-9][0-9]*)(\.[0-9]*)?|\.[0-9]+)([eE][+-]?[0-9]+)?")
_INFINITE = re.compile(r"[+-]?inf(inity)?", re.IGNORECASE)
_INT64 = range(-(2**63), 2**63)


def is_missing(value: Any) -> bool:
    """Return whether one cell is empty: None, NaN, pandas' NA and NaT, or nothing but white space."""
    if value is None:
        return True
    if isinstance(value, str):
        return not value or value.isspace()
    if isinstance(value, (float, np.floating)):
        return bool(value != value)
    return type(value).__name__ in ("NAType", "NaTType")


def missing(values: Any) -> np.ndarray:
    """Return a boolean array, of the shape of `values`, that is true where a cell is empty (see `is_missing`)."""
    array = values if isinstance(values, np.ndarray) else label_array(values)
    if array.dtype.kind == "f":
        return np.isnan(array)
    if array.dtype.kind in "biu":
        return np.zeros(array.shape, dtype=bool)
    if array.dtype.kind == "M":
        return np.isnat(array)
    if array.dtype.kind == "U":
        return np.char.strip(array) == ""
    flat = np.fromiter((is_missing(value) for value in array.ravel().tolist()), dtype=bool, count=array.size)
    return flat.reshape(array.shape)


def filled_groups(groups: Any) -> np.ndarray:
    """Return groups (n,) of which none is empty: an example without one is a group of its own.

    Others may compare and sort what is returned; where nothing is empty, it is what was passed.
    """
    array = np.asarray(groups)
    gaps = np.flatnonzero(missing(array)) if array.ndim == 1 else ()
    if not len(gaps):
        return array
    if array.dtype.kind == "f":
        known = array[np.isfinite(array)]
        filled = array.astype(np.float64)
        filled[gaps] = (known.max() if len(known) else 0.0) + 1 + np.arange(len(gaps))
        return filled
    filled = np.array([str(value) for value in array.tolist()], dtype=object)
    filled[gaps] = [f"(row {row}, no group)" for row in gaps]
    return filled


def plain(value: Any, *, subject: str = "labels") -> Any:
    """Return one cell as None, bool, int, float or str.

    Raises
    ------
    DataError
        If it is none of those, nor a date, a decimal number or UTF-8 bytes.
    """
    if is_missing(value):
        return None
    if isinstance(value, np.generic):
        value = value.item()
    if isinstance(value, (bool, int, float)):
        return value
    if isinstance(value, str):
        return str(value)
    if isinstance(value, decimal.Decimal):
        return float(value)
    if isinstance(value, (datetime.date, datetime.time)):
        return value.isoformat()
    if isinstance(value, bytes):
        return value.decode("utf-8", "backslashreplace")
    raise DataError(
        subject,
        expected="numbers, strings or booleans, one in each cell",
        found=f"a {type(value).__name__}: {str(value)[:40]}",
        remedy="Give every task a column of its own.",
    )


def tidy(cells: Sequence[Any], *, subject: str = "labels") -> np.ndarray:
    """Return one column of typed cells as an array.

    All booleans become ``bool``, all integers ``int64``, all numbers ``float64``; numbers with gaps become ``float64``
    with NaN in the gaps. Everything else is an object array with None in the gaps; cells of several types are kept as
    they are, for `class_order` to name.
    """
    values = [plain(cell, subject=subject) for cell in cells]
    kinds = {type(value) for value in values if value is not None}
    gaps = any(value is None for value in values)
    if kinds == {bool} and not gaps:
        return np.array(values, dtype=bool)
    if kinds == {int} and not gaps and all(value in _INT64 for value in values):
        return np.array(values, dtype=np.int64)
    exact = all(abs(value) <= 2**53 for value in values if type(value) is int)  # beyond, a float would merge neighbours
    if kinds and kinds <= {int, float} and exact:
        return np.array([np.nan if value is None else value for value in values], dtype=np.float64)
    column = np.empty(len(values), dtype=object)
    column[:] = values
    return column


def parse(cells: Sequence[str | None]) -> np.ndarray:
    """Return one column of a text file, whose cells have no type yet, as `tidy` returns typed ones.

    Integers and decimal numbers become numbers when every filled cell is one; so do the booleans ``True``/``False`` and
    ``true``/``false``. A number with leading zeros is a code and stays a string with its whole column. Words such as
    ``"NA"``, ``"null"`` or ``"None"`` are labels like any other; ``"nan"`` and ``"inf"`` are too, except among numbers,
    where they are an empty cell and an infinite number.

    Examples
    --------
    >>> from graft.data.values import parse
    >>> parse(["1", "2.5", ""]), parse(["None", "nan", "1"])
    (array([1. , 2.5, nan]), array(['None', 'nan', '1'], dtype=object))
    """
    typed: dict[str, Any] = {cell: None for cell in cells if not is_missing(cell)}  # type: ignore[misc]
    words = {cell: cell.strip() for cell in typed}
    numbers = {cell: word for cell, word in words.items() if word not in ("nan", "NaN")}
    finite = [word for word in numbers.values() if not _INFINITE.fullmatch(word)]
    spellings = set(words.values())
    if spellings and (spellings <= {"True", "False"} or spellings <= {"true", "false"}):
        typed = {cell: word.lower() == "true" for cell, word in words.items()}
    elif numbers and all(_INTEGER.fullmatch(word) for word in numbers.values()):
        typed = {cell: int(words[cell]) if cell in numbers else None for cell in typed}
    elif finite and all(_DECIMAL.fullmatch(word) for word in finite):
        typed = {cell: float(words[cell]) if cell in numbers else None for cell in typed}
    else:
        typed = {cell: cell for cell in typed}
    return tidy([typed.get(cell) for cell in cells])  # type: ignore[arg-type]


def label_array(labels: Any, *, subject: str = "labels") -> np.ndarray:
    """Return labels, one column or a table, as an array without losing their types.

    ``np.asarray(["a", 1])`` makes a string of the 1, and of None; here mixed columns stay objects. A data frame or a
    list of rows becomes a table (n, tasks): of floats with NaN in the gaps if every column is numeric (integers if
    all are), else of objects with None in the gaps.

    Raises
    ------
    DataError
        If there are no labels, the rows are of unequal length, or a cell is neither a number, a string nor a boolean.
    """
    if labels is None:
        raise DataError(subject, expected="a label for each input", found="None", remedy="Pass the labels.")
    if type(labels).__module__.split(".")[0] == "torch":
        labels = labels.detach().cpu().numpy()
    elif type(labels).__module__.split(".")[0] == "polars":
        labels = [list(row) for row in labels.rows()] if type(labels).__name__ == "DataFrame" else labels.to_list()
    elif type(labels).__module__.split(".")[0] == "pyarrow":
        labels = labels.to_pylist()
    array = labels if isinstance(labels, np.ndarray) else None
    if array is None and not isinstance(labels, (list, tuple)):
        # pandas: a column of its strings or nullable integers converts to objects, and each column keeps its type
        array = np.asarray(labels)
    if array is not None and array.ndim == 0:
        raise DataError(subject, expected="a label for each input", found=repr(labels), remedy="Pass a list or array.")
    if array is not None and array.dtype.kind in "biuf":
        return array
    rows = list(labels) if array is None else array.tolist()
    if rows and isinstance(rows[0], (list, tuple, np.ndarray)):
        widths = sorted({len(row) if isinstance(row, (list, tuple, np.ndarray)) else 1 for row in rows})
        if len(widths) > 1:
            raise DataError(
                subject,
                expected="rows of equal length",
                found=f"rows of {widths[0]} and of {widths[-1]} cells",
                remedy="Fill missing cells with None.",
            )
        return table([tidy([row[column] for row in rows], subject=subject) for column in range(widths[0])])
    return tidy(rows, subject=subject)


def table(columns: Sequence[np.ndarray]) -> np.ndarray:
    """Return label columns side by side (n, tasks): numbers if all are numeric, else objects with None in the gaps."""
    if all(column.dtype.kind in "biuf" for column in columns):
        return np.stack(columns, axis=1)
    stacked = np.empty((len(columns[0]), len(columns)), dtype=object)
    for position, column in enumerate(columns):
        stacked[:, position] = [None if is_missing(value) else value for value in column.tolist()]
    return stacked


def objects(values: Sequence[Any]) -> np.ndarray:
    """Return a one-dimensional array of objects, also where they are arrays of equal shape."""
    array = np.empty(len(values), dtype=object)
    for position, value in enumerate(values):
        array[position] = value
    return array
