"""What Graft raises.

::

    Exception
    └── GraftError             every error that Graft raises on purpose: subject, expected, found, remedy
        ├── RequestError       an argument, an option or a name cannot be used (also a ValueError)
        ├── DataError          the data cannot be used (also a ValueError)
        │   └── UnreadableInputsError  some inputs (files, images) could not be read; lists every one of them
        ├── BackboneError      a pretrained network cannot be obtained, or is not the one it claims to be
        ├── RunError           a saved run cannot be loaded, or a model cannot be exported
        ├── TrainingError      a training cannot go on
        └── MissingDependencyError  an optional package is needed (also an ImportError)

Every message has four parts: the *subject* (which argument, file or column), what was *expected*, what was *found*,
and the *remedy*. The command line prints the same two sentences and ends with exit code 2.
"""

from __future__ import annotations

from collections.abc import Sequence


class GraftError(Exception):
    """An error with its remedy.

    Parameters
    ----------
    subject : str
        The argument, file, column or object at fault, as the user wrote it.
    expected : str
        What would have been usable, as a noun phrase.
    found : str
        What was there instead, as a noun phrase.
    remedy : str
        One sentence: what to do about it.

    Examples
    --------
    >>> from graft.errors import RequestError
    >>> raise RequestError("folds", expected="an integer of 2 or more", found="1", remedy="Pass folds=5.")
    Traceback (most recent call last):
        ...
    graft.errors.RequestError: folds: expected an integer of 2 or more, found 1. Pass folds=5.
    """

    def __init__(self, subject: str, *, expected: str, found: str, remedy: str) -> None:
        self.subject = subject
        self.expected = expected
        self.found = found
        self.remedy = remedy
        self.message = f"{subject}: expected {expected}, found {found}."
        super().__init__(f"{self.message} {remedy}")


class RequestError(GraftError, ValueError):
    """An argument, an option or a name cannot be used."""


class DataError(GraftError, ValueError):
    """The data cannot be used."""


class UnreadableInputsError(DataError):
    """Some inputs could not be read.

    Attributes
    ----------
    failures : tuple of (int, str, str)
        For each one: its row, its name (the path where it has one) and the reason.
    """

    def __init__(self, failures: Sequence[tuple[int, str, str]], total: int) -> None:
        self.failures = tuple(failures)
        shown = "; ".join(f"{name} ({reason})" for _, name, reason in self.failures[:3])
        more = f"; and {len(self.failures) - 3} more" if len(self.failures) > 3 else ""
        mend = "Mend or remove them (`graft check` lists every one)"
        without = ", or leave them out: strict=False in Python, no --strict on the command line."
        super().__init__(
            "inputs",
            expected=f"{total} readable inputs",
            found=f"{len(self.failures)} unreadable: {shown}{more}",
            # Without any of them nothing would be left.
            remedy=mend + (without if len(self.failures) < total else "."),
        )


class BackboneError(GraftError):
    """A pretrained network cannot be obtained, or is not the one it claims to be."""


class RunError(GraftError):
    """A saved run cannot be loaded, or a model cannot be exported."""


class TrainingError(GraftError):
    """A training cannot go on: its loss is not finite, or memory has run out."""


class MissingDependencyError(GraftError, ImportError):
    """An optional package is needed for what was asked."""
