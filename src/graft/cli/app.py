"""The commands, and the one place where an error becomes a message and an exit code."""

from __future__ import annotations

import errno
import json
import os
import shutil
import sys
import textwrap
import warnings
from collections.abc import Sequence
from itertools import pairwise
from typing import Any

import typer

from graft.cli.advise import advise
from graft.cli.check import check
from graft.cli.compare import compare
from graft.cli.embed import embed
from graft.cli.export import export
from graft.cli.fit import fit
from graft.cli.grouped import GroupedCommand
from graft.cli.networks import backbones
from graft.cli.predict import evaluate, predict
from graft.cli.rank import rank
from graft.cli.report import report
from graft.cli.show import counted
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
for command in (fit, predict, evaluate, export, embed, advise, compare, rank, report, check, backbones, store):
    app.command(cls=GroupedCommand)(command)

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
    try:
        return _run(words, as_json="--json" in words)
    except (BrokenPipeError, SystemExit) as ended:
        # The reader of our output went away, as `head` does; typer and rich turn that into an exit of their own.
        if not _broken_pipe(ended):
            raise
        _discard_output()
        return DONE


def _run(words: list[str], *, as_json: bool) -> int:
    try:
        with warnings.catch_warnings():
            warnings.showwarning = _warn
            code = app(words, prog_name="graft", standalone_mode=False) or DONE
        sys.stdout.flush()  # here, where a reader that went away is no error, and not when the process ends
        # Depending on its version, typer turns the key into this code or into an exception.
        return _interrupted(words) if code == INTERRUPTED else code
    except GraftError as error:
        return _refuse(error.message, error.remedy, as_json)
    except _UsageError as error:
        return _refuse(error.format_message(), "See `graft --help`.", as_json)  # type: ignore[attr-defined]
    except OSError as error:
        if error.errno == errno.EPIPE:
            raise
        place = f" ({error.filename})" if error.filename else ""
        remedy = "Free some space." if error.errno == errno.ENOSPC else "Check the path and your rights on it."
        return _refuse(f"{error.strerror or error}{place}.", remedy, as_json)
    except (KeyboardInterrupt, typer.Abort):
        return _interrupted(words)


def _broken_pipe(error: BaseException | None) -> bool:
    """Return whether an error is that the reader of our output went away, or came of it."""
    return error is not None and (isinstance(error, BrokenPipeError) or _broken_pipe(error.__context__))


def _discard_output() -> None:
    """Let what is left in the buffers go nowhere, so that writing it down when the process ends is no error."""
    nowhere = os.open(os.devnull, os.O_WRONLY)
    for stream in (sys.__stdout__, sys.__stderr__):
        if stream is None:
            continue
        try:
            stream.flush()
        except BrokenPipeError:
            os.dup2(nowhere, stream.fileno())
    os.close(nowhere)


def _warn(message: Warning | str, *_place: Any, **_line: Any) -> None:
    print(f"graft: {message}", file=sys.stderr)


def _interrupted(words: Sequence[str]) -> int:
    kept = "features computed so far are kept."
    if words[:1] == ["compare"]:
        from graft.evaluation.results import finished_cells

        cells = finished_cells(_value_of("--out", words))
        kept = f"{counted(cells, 'finished cell')} {'is' if cells == 1 else 'are'} kept; the same command continues."
        if not cells:
            kept = "nothing was measured yet."
    print(f"\nInterrupted. Nothing half-written was left; {kept}", file=sys.stderr)
    return INTERRUPTED


def _value_of(option: str, words: Sequence[str]) -> str:
    """Return what was written for an option: behind it, or behind its sign of equality; the last one counts."""
    found = [after for word, after in pairwise(words) if word == option]
    found += [word.removeprefix(f"{option}=") for word in words if word.startswith(f"{option}=")]
    return found[-1] if found else ""


def _refuse(message: str, remedy: str, as_json: bool) -> int:
    try:
        if as_json:
            print(json.dumps({"error": {"message": message, "remedy": remedy}}, ensure_ascii=False), flush=True)
        else:
            print(_wrapped(f"graft: {message}"), _wrapped(f"  {remedy}"), sep="\n", file=sys.stderr, flush=True)
    except BrokenPipeError:  # nobody reads it; what was asked for is refused all the same
        _discard_output()
    return UNUSABLE


def _wrapped(line: str) -> str:
    """Return a line folded between words to the width of the terminal; as it is where none is there to read it."""
    if not sys.stderr.isatty():
        return line
    width = shutil.get_terminal_size().columns
    return textwrap.fill(line, width, subsequent_indent="  ", break_long_words=False, break_on_hyphens=False)
