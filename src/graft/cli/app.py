"""The commands, and the one place where an error becomes a message and an exit code."""

from __future__ import annotations

import errno
import json
import os
import sys
import warnings
from collections.abc import Sequence
from typing import Any

import typer

from graft.cli.check import check
from graft.cli.embed import embed
from graft.cli.fit import fit
from graft.cli.networks import backbones
from graft.cli.predict import evaluate, predict
from graft.cli.store import store
from graft.errors import GraftError

DONE, HARMFUL, UNUSABLE, INTERRUPTED = 0, 1, 2, 130

app = typer.Typer(
    name="graft",
    help="Carry a pretrained network over to your task, and measure what that is worth.",
    add_completion=False,
    pretty_exceptions_enable=False,
    rich_markup_mode=None,
)
for command in (fit, predict, evaluate, embed, check, backbones, store):
    app.command()(command)

# typer carries its own copy of click in some versions and depends on click in others.
_UsageError: type[Exception] = next(kind for kind in typer.BadParameter.__mro__ if kind.__name__ == "ClickException")


def main(arguments: Sequence[str] | None = None) -> int:
    """Run one command.

    Parameters
    ----------
    arguments : sequence of str, optional
        The words after ``graft``; by default those of this process.

    Returns
    -------
    int
        0: done. 1: `check` found something that would harm a training. 2: the request or the data cannot be used.
        130: interrupted.
    """
    words = list(sys.argv[1:] if arguments is None else arguments) or ["--help"]
    as_json = "--json" in words
    try:
        with warnings.catch_warnings():
            warnings.showwarning = _warn
            code = app(words, prog_name="graft", standalone_mode=False) or DONE
        sys.stdout.flush()  # here, where a reader that went away is no error, and not when the process ends
        # Depending on its version, typer turns the key into this code or into an exception.
        return _interrupted() if code == INTERRUPTED else code
    except GraftError as error:
        return _refuse(error.message, error.remedy, as_json)
    except _UsageError as error:
        return _refuse(error.format_message(), "See `graft --help`.", as_json)  # type: ignore[attr-defined]
    except OSError as error:
        if error.errno == errno.EPIPE:  # the reader of our output went away, as `head` does
            # What is left in the buffer has nowhere to go, also when the process ends.
            os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
            return DONE
        place = f" ({error.filename})" if error.filename else ""
        remedy = "Free some space." if error.errno == errno.ENOSPC else "Check the path and your rights on it."
        return _refuse(f"{error.strerror or error}{place}.", remedy, as_json)
    except (KeyboardInterrupt, typer.Abort):
        return _interrupted()


def _warn(message: Warning | str, *_place: Any, **_line: Any) -> None:
    print(f"graft: {message}", file=sys.stderr)


def _interrupted() -> int:
    print("\nInterrupted. Nothing half-written was left; features computed so far are kept.", file=sys.stderr)
    return INTERRUPTED


def _refuse(message: str, remedy: str, as_json: bool) -> int:
    if as_json:
        print(json.dumps({"error": {"message": message, "remedy": remedy}}, ensure_ascii=False))
    else:
        print(f"graft: {message}\n  {remedy}", file=sys.stderr)
    return UNUSABLE
