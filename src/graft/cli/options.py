"""The arguments and options that several commands share."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import TYPE_CHECKING, Annotated, Any

import typer

from graft.errors import BackboneError, DataError, RequestError

if TYPE_CHECKING:
    from graft.backbones import Backbone
    from graft.data import Domain

Data = Annotated[
    str,
    typer.Argument(
        metavar="DATA",
        help="A folder with a folder per class (optionally in train/ val/ test/), "
        "a CSV/TSV/JSONL/Parquet table, or an .npz/.npy of features.",
    ),
]
Run = Annotated[str, typer.Argument(metavar="RUN", help="The folder that `graft fit --out` wrote.")]
Image = Annotated[str | None, typer.Option(metavar="COL", help="The column of a table that holds image paths.")]
Text = Annotated[str | None, typer.Option(metavar="COL", help="The column of a table that holds texts.")]
Label = Annotated[
    list[str] | None, typer.Option(metavar="COL", help="The column that holds the labels; may be repeated.")
]
Group = Annotated[str | None, typer.Option(metavar="COL", help="The column of groups that no split divides.")]
Layer = Annotated[
    list[str] | None, typer.Option(metavar="NAME", help="Take the features at this layer; may be repeated.")
]
Pooling = Annotated[
    str | None, typer.Option(metavar="NAME", help="How positions become one vector, e.g. avg, cls, gem.")
]
ImageSize = Annotated[
    int | None,
    typer.Option(metavar="PIXELS", min=1, help="The side of the network's input, not its own.", show_default=False),
]
Strict = Annotated[bool, typer.Option("--strict", help="Make an unreadable input an error instead of leaving it out.")]
Seed = Annotated[int, typer.Option(metavar="N", min=0, help="Seeds everything that is drawn.")]
Json = Annotated[bool, typer.Option("--json", help="Print exactly one JSON object on standard output.")]

# What may stand behind the number of a time.
_UNITS = {"s": 1, "m": 60, "h": 3600}


def read_data(
    source: str,
    *,
    image: str | None = None,
    text: str | None = None,
    labels: list[str] | None = None,
    group: str | None = None,
    ignore: Sequence[str] = (),
) -> tuple[str, Domain]:
    """Read DATA; returns its modality and its domain. No `labels` at all ([]) reads none; None looks for them.

    Columns of a table that are named in `ignore` are passed over where they occur.
    """
    from graft.data import read

    return read(source, image=image, text=text, labels=label_columns(labels), group=group, ignore=ignore)


def label_columns(labels: list[str] | None) -> Any:
    """Return the label columns of the command line as the readers take them: one name is a column, not a table."""
    return labels[0] if labels and len(labels) == 1 else labels


def read_for(modality: str, source: str, **columns: Any) -> Domain:
    """Read DATA for a model of `modality`.

    Raises
    ------
    DataError
        If the data is of another modality.
    """
    found, domain = read_data(source, **columns)
    if found != modality:
        raise DataError(
            source,
            expected=f"{modality} inputs, as the model was fitted on",
            found=f"{found} inputs",
            remedy="Pass data of the same kind, or name the column with --text or --image.",
        )
    return domain


def network_for(modality: str, source: str, name: str | None, **output: Any) -> Backbone | None:
    """Return the network that was asked for, or the default for the data; None for feature vectors.

    Raises
    ------
    DataError
        If it does not read such data: an encoder of texts would take paths of images for texts.
    """
    from graft.backbones import load_backbone
    from graft.backbones.catalogue import DEFAULT_BACKBONES

    chosen = DEFAULT_BACKBONES[modality] if name is None else name
    if chosen is None:
        return None
    network = load_backbone(chosen, **output)
    if network.modality != modality:
        default = DEFAULT_BACKBONES[modality]
        raise DataError(
            source,
            expected=f"{network.modality} inputs, which {network.name} reads",
            found=f"{modality} inputs",
            remedy=f"Pass --backbone {default}, for example." if default else "Leave out --backbone.",
        )
    return network


def chosen_layer(layer: list[str] | None) -> Any:
    """Return the layers of the command line as `load_backbone` takes them: names, or indices written as numbers."""
    if not layer:
        return None
    return [int(name) if is_whole(name.removeprefix("-")) else name for name in layer]


def is_whole(word: str) -> bool:
    """Return whether a word is written in digits alone, so that `int` reads it: '²' is a digit, but no number."""
    return word.isascii() and word.isdigit()


@contextmanager
def naming_options(options: Mapping[str, str]) -> Iterator[None]:
    """Let errors of arguments of Python, by their names in `options`, name the options that stand for them."""
    try:
        yield
    except (RequestError, DataError, BackboneError) as error:
        if error.subject not in options:
            raise
        raise type(error)(
            options[error.subject], expected=error.expected, found=error.found, remedy=error.remedy
        ) from error


def as_number(option: str, text: str) -> float:
    """Return the number that was written for an option.

    Raises
    ------
    RequestError
        If it is none.
    """
    try:
        return float(text)
    except ValueError:
        raise RequestError(option, expected="a number", found=repr(text), remedy=f"Pass {option} 1e-4.") from None


def as_seconds(option: str, text: str) -> float:
    """Return the seconds of a time that was written for an option: 90, 90s, 10m or 1h.

    Raises
    ------
    RequestError
        If it is none.
    """
    amount, unit = (text[:-1], _UNITS[text[-1]]) if text and text[-1] in _UNITS else (text, 1)
    try:
        value = float(amount) * unit
    except ValueError:
        value = -1
    if not 0 <= value < float("inf"):
        raise RequestError(
            option, expected="a time such as 90s, 10m or 1h", found=repr(text), remedy=f"Pass {option} 10m."
        )
    return value
