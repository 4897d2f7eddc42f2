"""`modality_of`: whether inputs are images, texts or features, from what they are made of."""

from __future__ import annotations

import os
from typing import Any

import numpy as np

from graft.data.formats import is_image_name
from graft.errors import DataError

_LOOKED_AT = 64  # inputs: enough to tell paths from texts, whatever the size of the domain


def modality_of(inputs: Any) -> str:
    """Return ``"image"``, ``"text"`` or ``"features"``.

    Numbers in rows (n, d), dense, sparse or in a data frame, are features; arrays of three or four dimensions are
    images (n, height, width[, channels]). Strings are images when the first of them end like image files, else texts.
    Path objects, bytes, PIL images and single arrays of pixels are images.

    Raises
    ------
    DataError
        If the inputs are none of those.

    Examples
    --------
    >>> import numpy as np
    >>> from graft.data import modality_of
    >>> modality_of(["a.jpg", "b.png"]), modality_of(["first text", "second"]), modality_of(np.zeros((5, 3)))
    ('image', 'text', 'features')
    """
    if type(inputs).__module__.startswith("scipy.sparse"):
        return "features"
    shape = getattr(inputs, "shape", None)
    kind = getattr(getattr(inputs, "dtype", None), "kind", "O")
    if shape is not None and kind not in "OUST":
        if len(shape) in (2, 3, 4):
            return "features" if len(shape) == 2 else "image"
        raise _unknown(f"an array of shape {tuple(shape)}")
    if shape is not None and len(shape) == 2 and hasattr(inputs, "columns"):
        return "features"  # a data frame, which has a dtype for each column, and iterates over their names
    first = list(inputs[:_LOOKED_AT])
    if not first:
        raise _unknown("no inputs")
    if all(isinstance(value, str) for value in first):
        filled = [value for value in first if value.strip()]
        return "image" if filled and all(is_image_name(value) for value in filled) else "text"
    if shape is not None and len(shape) == 2:
        return "features"
    if all(_holds_image(value) for value in first):
        return "image"
    if all(np.ndim(value) == 1 for value in first):
        return "features"
    odd = next((value for value in first if not _holds_image(value)), first[0])
    raise _unknown(f"{type(odd).__name__} {odd!r:.40}")


def _holds_image(value: Any) -> bool:
    if isinstance(value, (str, os.PathLike, bytes, bytearray, memoryview)):
        return not isinstance(value, str) or not value or is_image_name(value)  # "": no path was given
    if isinstance(value, dict):
        return "bytes" in value or "path" in value
    if type(value).__module__.split(".")[0] == "PIL":
        return True
    return getattr(value, "ndim", None) in (2, 3)


def _unknown(found: str) -> DataError:
    return DataError(
        "inputs",
        expected="paths of images, images, texts, or an array of features (n, d)",
        found=found,
        remedy="Pass one kind of input, one for each example.",
    )
