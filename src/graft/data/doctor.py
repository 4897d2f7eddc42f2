"""`check`: what is wrong with a data set, before a second is spent on training."""

from __future__ import annotations

import os
import warnings
from typing import Any

from graft._checks import integer
from graft.data.check_report import CheckReport, Problem, problem
from graft.data.domain import Domain
from graft.data.image_faults import image_faults
from graft.data.images import MAX_PIXELS
from graft.data.input_faults import feature_faults, text_faults
from graft.data.label_faults import duplicate_faults, label_faults
from graft.data.modality import modality_of
from graft.errors import RequestError

__all__ = ["CheckReport", "Problem", "check"]


def check(
    data: Any,
    *,
    image: str | None = None,
    text: str | None = None,
    labels: Any = None,
    group: Any = None,
    split: Any = None,
    name: str = "",
    max_pixels: int = MAX_PIXELS,
) -> CheckReport:
    """Look at every example and report what would harm a training, or its evaluation.

    Images are decoded: files that are missing, empty, truncated, broken or too large; names that promise another
    format; pictures that occur twice, whatever the files are called and however they are compressed without loss.
    Texts: empty ones, and those that differ at most in case and white space. Features: values that are not finite,
    constant columns and rows, equal rows. Labels: none at all, one class, classes with a single example, labels that
    differ only by case or white space, types that are mixed, classes that a given split lacks. Duplicates across given
    splits, and with contradicting labels. Files that were passed over.

    Parameters
    ----------
    data : Domain, or anything that `read` takes
        The data.
    image, text, labels, group, split, name
        As for `read`; not for a domain.
    max_pixels : int
        The largest image that is decoded, as for `decode_image`.

    Returns
    -------
    CheckReport
        The problems. It prints as a table; ``report.harmful`` tells whether to go on.

    Raises
    ------
    DataError
        If there is nothing to look at: no such file, no example, no such column.
    RequestError
        If columns are named for a domain.

    Examples
    --------
    >>> from graft.data import Domain, check
    >>> import numpy as np
    >>> print(check(Domain(np.array(["Hello", "hello ", "", "Bye"], dtype=object), np.array(["a", "a", "b", "b"]))))
    data: 4 texts, 2 kinds of problem, 1 harmful (!)
    <BLANKLINE>
      problem         count  where and what to do
    ! empty text          1  row 2
                             -> Remove these rows: nothing can be learnt or
                                predicted from an empty text.
      duplicate text      1  row 0 = row 1: 'Hello'
                             -> Keep one of each, or give copies one group.
    """
    integer("max_pixels", max_pixels, low=1)
    modality, domain, problems = _domain(
        data, {"image": image, "text": text, "labels": labels, "group": group, "split": split}, name
    )
    names = _names(domain, modality)
    if modality == "image":
        digests, found = image_faults(domain.inputs, names, max_pixels=max_pixels)
    elif modality == "text":
        digests, found = text_faults(domain.inputs, names)
    else:
        digests, found = feature_faults(domain.inputs, names)
    problems += found
    noun = {"image": "image", "text": "text", "features": "row"}[modality]
    calls, openings = names, []
    if modality == "text":
        calls, openings = [f"row {row}" for row in range(domain.size)], [_opening(str(text)) for text in domain.inputs]
    problems += duplicate_faults(digests, domain, calls, noun=noun, openings=openings, by_chance=modality == "features")
    problems += label_faults(domain, names)
    problems += problem(
        "skipped file",
        domain.skipped,
        "Nothing, if they are no images; convert those that are (such as .heic) to JPEG or PNG.",
        harmful=False,
    )
    problems.sort(key=lambda found: not found.harmful)
    return CheckReport(domain.name, modality, domain.size, tuple(problems))


def _domain(data: Any, columns: dict[str, Any], name: str) -> tuple[str, Domain, list[Problem]]:
    """Return the domain to look at, and what its reading had to guess."""
    if isinstance(data, Domain):
        named = next((key for key, value in columns.items() if value is not None), None)
        if named is not None:
            raise RequestError(
                named,
                expected="no column, as the data are a domain already",
                found=repr(columns[named]),
                remedy="Leave it out, or pass what the domain was read from.",
            )
        return modality_of(data.inputs), data, []
    from graft.data.readers import read_leniently

    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        modality, domain = read_leniently(data, name=name, **columns)
    guesses = [str(warning.message) for warning in caught if issubclass(warning.category, UserWarning)]
    return modality, domain, problem("guessed encoding", guesses, "Save the file as UTF-8.", harmful=False)


def _names(domain: Domain, modality: str) -> list[str]:
    """Return what to call each example: its path where it has one, else its row, counted from 0."""

    def named(row: int, value: Any) -> str:
        if isinstance(value, (str, os.PathLike)) and str(value).strip():
            return str(value) if modality == "image" else f"row {row}: {_opening(str(value))}"
        return f"row {row}"

    if modality == "features":
        return [f"row {row}" for row in range(domain.size)]
    return [named(row, domain.inputs[row]) for row in range(domain.size)]


def _opening(text: str) -> str:
    return repr(text if len(text) <= 30 else text[:29] + "…")
