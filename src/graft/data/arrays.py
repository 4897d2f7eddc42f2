"""Arrays, lists and ``.npy``/``.npz`` files as a domain."""

from __future__ import annotations

import os
from collections.abc import Sequence
from typing import Any

import numpy as np

from graft._checks import did_you_mean, one_of
from graft.data.domain import Domain
from graft.data.folders import split_name
from graft.data.modality import modality_of
from graft.data.values import label_array, missing, objects, tidy
from graft.errors import DataError, RequestError

ARRAY_SUFFIXES = (".npz", ".npy")


def read_array_file(modality: str | None, path: str, columns: dict[str, Any], name: str) -> tuple[str, Domain]:
    """Read ``.npy`` or ``.npz``; pickled objects, which could run code, are refused."""
    if modality == "text":
        raise DataError(path, expected="a table of texts", found="an array file", remedy="Use CSV, JSONL or Parquet.")
    try:
        loaded = np.load(path, mmap_mode="r" if path.lower().endswith(".npy") else None, allow_pickle=False)
        if isinstance(loaded, np.ndarray):
            return from_arrays(modality, loaded, columns, name, path)
        with loaded:
            held = {key: loaded[key] for key in loaded.files}
    except (ValueError, OSError, EOFError, SyntaxError, KeyError) as error:
        pickled = "allow_pickle" in str(error)
        raise DataError(
            path,
            expected="arrays of numbers and of strings",
            found="pickled Python objects" if pickled else " ".join(str(error).split())[:100] or "a broken file",
            remedy="Save strings as y.astype(str)." if pickled else "Save it again with numpy.savez.",
        ) from error
    except Exception as error:  # zipfile and zlib raise their own
        raise DataError(
            path, expected="an .npz archive", found=str(error)[:100], remedy="Save it again with numpy.savez."
        ) from error
    inputs = next((key for key in ("X", "x", "features", "inputs", "images", "data") if key in held), None)
    if inputs is None:
        raise DataError(
            path,
            expected="an array 'X'",
            found=f"the arrays {', '.join(map(repr, held)) or 'none'}",
            remedy="Save it with numpy.savez(path, X=features, y=labels).",
        )
    wanted = columns["labels"]
    if isinstance(wanted, str):
        if wanted not in held:
            raise DataError(
                path,
                expected=f"an array {wanted!r}",
                found=f"the arrays {', '.join(map(repr, held))}",
                remedy=did_you_mean(wanted, held, otherwise="Name one of those."),
            )
        labels = held[wanted]
    elif wanted is None:
        labels = next((held[key] for key in ("y", "Y", "labels", "label", "target", "targets") if key in held), None)
    else:
        labels = wanted
    named = {
        key: held[value] if isinstance(value, str) and value in held else value
        for key, value in (("group", columns["group"]), ("split", columns["split"]))
    }
    if named["group"] is None:
        named["group"] = held.get("groups", held.get("group"))
    if named["split"] is None:
        named["split"] = held.get("splits", held.get("split"))
    return from_arrays(modality, held[inputs], {**columns, "labels": labels, **named}, name, path)


def from_arrays(
    modality: str | None, source: Any, columns: dict[str, Any], name: str, subject: str = "inputs"
) -> tuple[str, Domain]:
    """Return the domain of inputs and labels that are arrays or lists already."""
    for key in ("image", "text", "labels", "group", "split"):
        if isinstance(columns[key], str):
            raise RequestError(
                key,
                expected="a data frame or a table file, when a column is named",
                found=f"{columns[key]!r} for {type(source).__name__ if subject == 'inputs' else subject}",
                remedy="Pass the values themselves.",
            )
    inputs = _input_array(modality, source, subject)
    found = modality if modality is not None else modality_of(inputs)
    one_of("modality", found, ("image", "text", "features"))
    if found == "text":
        odd = next((value for value in inputs if not isinstance(value, str)), None)
        if odd is not None:
            raise DataError(
                subject, expected="strings", found=f"{odd!r:.60}", remedy="Pass the texts as strings, '' where empty."
            )
    given = columns["labels"]
    labels = None if given is None or (isinstance(given, (list, tuple)) and not given) else label_array(given)
    if labels is not None and labels.size and missing(labels).all():
        raise DataError(
            "labels",
            expected="at least one label",
            found=f"{len(labels)} empty cells",
            remedy="Fill them in, or pass labels=None for data without labels.",
        )
    groups = None if columns["group"] is None else tidy(np.asarray(columns["group"]).tolist(), subject="group")
    splits = columns["split"]
    if splits is not None:
        splits = objects([split_name(cell, "split") for cell in np.asarray(splits).tolist()])
    return found, Domain(inputs, labels, name, groups=groups, splits=splits)


def _input_array(modality: str | None, source: Any, subject: str) -> Any:
    """Return inputs as something that can be indexed by an array: as they are, or as an array of objects or numbers."""
    if type(source).__module__.startswith("scipy.sparse"):
        inputs = source.tocsr()
    elif type(source).__module__.split(".")[0] == "torch":
        inputs = source.detach().cpu().numpy()
    elif isinstance(source, np.ndarray):
        inputs = source if source.dtype.kind not in "UT" else source.astype(object)
    elif isinstance(source, Sequence) or type(source).__name__ == "Series":
        cells = list(source)
        rows = cells and all(isinstance(cell, (list, tuple, np.ndarray)) and np.ndim(cell) == 1 for cell in cells)
        if modality == "features" or (modality is None and rows):
            try:
                inputs = np.asarray(cells, dtype=np.float64)
            except (ValueError, TypeError) as error:
                raise DataError(
                    subject,
                    expected="rows of numbers, all of one length",
                    found=" ".join(str(error).split())[:100],
                    remedy="Pass an array (n, d).",
                ) from error
        else:
            inputs = objects([os.fspath(cell) if isinstance(cell, os.PathLike) else cell for cell in cells])
    else:
        raise DataError(
            subject,
            expected="a path, a data frame, an array or a list",
            found=f"a {type(source).__name__}",
            remedy="Pass one of those.",
        )
    if inputs.shape == () or inputs.shape[0] == 0:
        raise DataError(subject, expected="at least one example", found="none", remedy="Check what was passed.")
    if modality == "features" and (len(inputs.shape) != 2 or inputs.dtype.kind not in "biuf"):
        raise DataError(
            subject,
            expected="numbers of shape (n, d)",
            found=f"{inputs.dtype} of shape {inputs.shape}",
            remedy="Give each example one row of numbers; .reshape(len(X), -1) flattens.",
        )
    return inputs
