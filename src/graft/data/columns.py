"""`choose_columns`: which column of a table holds the inputs, the labels, the groups and the given splits."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from graft._checks import did_you_mean
from graft.data.folders import SPLIT_NAMES
from graft.data.formats import is_image_name
from graft.data.tables import Table
from graft.errors import DataError

LABEL_NAMES = ("label", "labels", "class", "target", "y", "category")
IMAGE_NAMES = tuple(
    "image images img image_path image_file path file file_name filename filepath file_path".split()  # noqa: SIM905
)
TEXT_NAMES = tuple(
    "text texts message body sentence content review comment question utterance document".split()  # noqa: SIM905
)

_LOOKED_AT = 256  # cells of a column: enough to tell paths, sentences and codes apart
_SENTENCE = 20  # characters: the mean length from which a column of strings is prose rather than codes


@dataclass(frozen=True)
class Choice:
    """The names of the chosen columns.

    Parameters
    ----------
    modality : {"image", "text", "features"}
        What the inputs are.
    inputs : str or None
        The column of the inputs; None for features, which are all the columns of numbers that are left.
    labels : tuple of str
        The label columns.
    is_table : bool
        Whether the labels stay a table (n, tasks), however many columns there are.
    group, split : str or None
        The columns of the groups and of the given splits.
    """

    modality: str
    inputs: str | None
    labels: tuple[str, ...]
    is_table: bool
    group: str | None
    split: str | None


def choose_columns(
    table: Table,
    *,
    modality: str | None = None,
    image: str | None = None,
    text: str | None = None,
    labels: str | Sequence[str] | None = None,
    group: str | None = None,
    split: str | None = None,
) -> Choice:
    """Choose the columns: those that are named, and for the rest the obvious ones.

    Inputs: a column called like `IMAGE_NAMES` that holds image names or encoded images, or like `TEXT_NAMES` that
    holds strings; else the only column of image names, or the only one of long strings; else, unless images or texts
    are asked for, all columns of numbers. Labels: a column called like `LABEL_NAMES`; else, beside images and texts,
    the only column left, and beside features the only one that holds no numbers; else none. `labels=[]` means none.
    A column called ``group`` or ``groups``, and one called ``split`` that holds only names of splits, are such.

    Raises
    ------
    DataError
        If a named column does not exist (the nearest is suggested), or no column or several could be the input.
    """
    named = [labels] if isinstance(labels, str) else list(labels) if labels is not None else []
    for column in (image, text, group, split, *named):
        if column is not None and column not in table.names:
            raise _no_column(table, column)
    taken = {column for column in (group, split, *named) if column is not None}
    free = [column for column in table.names if column not in taken]
    if group is None:
        group = _called(free, ("group", "groups"))
        free = [column for column in free if column != group]
    if split is None:
        candidate = _called(free, ("split",))
        if candidate is not None and all(_is_split(cell) for cell in table.cells(candidate)):
            split = candidate
            free = [column for column in free if column != split]
    found, inputs = _inputs(table, free, modality, image, text)
    free = [column for column in free if column != inputs]
    chosen = tuple(named)
    if labels is None:
        called = _called(free, LABEL_NAMES)
        left = free if found != "features" else [column for column in free if table.numbers(column) is None]
        if called is not None:
            chosen = (called,)
        elif len(left) == 1:
            chosen = (left[0],)
    is_table = labels is not None and not isinstance(labels, str)
    return Choice(found, inputs, chosen, is_table, group, split)


def _inputs(
    table: Table, free: list[str], modality: str | None, image: str | None, text: str | None
) -> tuple[str, str | None]:
    """Return the modality and the column of the inputs."""
    if image is not None and text is not None:
        raise DataError(
            table.name,
            expected="images or texts",
            found=f"image={image!r} and text={text!r}",
            remedy="Name one of the two.",
        )
    if image is not None or text is not None:
        return ("image", image) if image is not None else ("text", text)
    if modality == "features":
        return modality, None
    images = [column for column in free if _holds_images(table, column)] if modality != "text" else []
    words = [column for column in free if _holds_strings(table, column) and column not in images]
    if modality == "image":
        words = []
    called = [_called(images, IMAGE_NAMES), _called(words, TEXT_NAMES)]
    if called[0] is not None and called[1] is None:
        return "image", called[0]
    if called[1] is not None and called[0] is None:
        return "text", called[1]
    if called == [None, None]:
        if len(images) == 1:
            return "image", images[0]
        others = [column for column in words if column.casefold() not in LABEL_NAMES]
        prose = [column for column in others if _is_prose(table, column)]
        if not images and len(prose) == 1:
            return "text", prose[0]
        if modality == "text" and len(others) == 1:
            return "text", others[0]
        numeric = [column for column in free if table.numbers(column) is not None]
        if modality is None and not images and not prose and numeric and len(free) - len(numeric) <= 1:
            return "features", None
    wanted, option = {
        "image": ("a column of image paths", "image (--image)"),
        "text": ("a column of texts", "text (--text)"),
    }.get(modality or "", ("one column of image paths or of texts, or only numbers", "image or text (--image, --text)"))
    raise DataError(
        table.name,
        expected=wanted,
        found=f"the columns {', '.join(map(repr, table.names))}",
        remedy=f"Name the column with the option {option}.",
    )


def _no_column(table: Table, column: str) -> DataError:
    return DataError(
        table.name,
        expected=f"a column {column!r}",
        found=f"the columns {', '.join(map(repr, table.names))}",
        remedy=did_you_mean(column, table.names, otherwise="Name one of those."),
    )


def _called(columns: Sequence[str], names: Sequence[str]) -> str | None:
    """Return the column with the first of `names` that occurs, whatever its case."""
    folded = {column.strip().casefold(): column for column in reversed(columns)}
    return next((folded[name] for name in names if name in folded), None)


def _is_split(cell: Any) -> bool:
    return isinstance(cell, str) and cell.strip().casefold() in SPLIT_NAMES


def _some(table: Table, column: str) -> list[Any]:
    """Return the first filled cells of a column."""
    values = table.columns[table.names.index(column)][:_LOOKED_AT]
    if type(values).__module__.split(".")[0] == "pyarrow":
        values = values.to_pylist()
    return [value for value in values if value is not None and value != ""]


def _holds_images(table: Table, column: str) -> bool:
    cells = _some(table, column)

    def is_image(cell: Any) -> bool:
        if isinstance(cell, dict):  # how Hugging Face stores an image
            return "bytes" in cell or "path" in cell
        module = type(cell).__module__.split(".")[0]
        return isinstance(cell, bytes) or is_image_name(cell) or module == "PIL" or module == "pathlib"

    return bool(cells) and all(is_image(cell) for cell in cells)


def _holds_strings(table: Table, column: str) -> bool:
    """Return whether a column holds strings that are not all numbers."""
    cells = _some(table, column)
    return (
        bool(cells) and all(isinstance(cell, str) for cell in cells) and (table.typed or table.numbers(column) is None)
    )


def _is_prose(table: Table, column: str) -> bool:
    cells = _some(table, column)
    return sum(map(len, cells)) >= _SENTENCE * len(cells)
