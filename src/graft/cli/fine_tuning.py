"""The options of ``graft fit`` for techniques that train the network."""

from __future__ import annotations

import sys
from collections.abc import Collection, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Annotated, Any

import typer

from graft.cli.options import as_number
from graft.errors import RequestError

_PANEL = "Training (fine-tuning, multi-task, or a --method that trains the network)"
_QUIET: Any = {"show_default": False, "rich_help_panel": _PANEL}

Train = Annotated[
    str | None,
    typer.Option(
        metavar="PART",
        help="all, gradual, biases, lora, dora, or how many of the last layer groups.",
        show_default=False,
        rich_help_panel=_PANEL,
    ),
]
FromScratch = Annotated[
    bool,
    typer.Option("--from-scratch", help="Start from random weights, to compare with.", rich_help_panel=_PANEL),
]
Epochs = Annotated[
    float | None,
    typer.Option(metavar="N", help="How often each example is seen.", show_default=False, rich_help_panel=_PANEL),
]
BatchSize = Annotated[
    int | None,
    typer.Option(metavar="N", min=1, help="Examples in a step.", show_default=False, rich_help_panel=_PANEL),
]
LearningRate = Annotated[str, typer.Option(metavar="RATE", help="A number, auto, or find.", rich_help_panel=_PANEL)]
LayerDecay = Annotated[
    str,
    typer.Option(
        metavar="FACTOR", help="Of the rate from one layer group to the one before: 0 to 1.", rich_help_panel=_PANEL
    ),
]
Objective = Annotated[
    str,
    typer.Option(
        metavar="NAME",
        help="supervised, or contrastive: draw each class together, then fit a head.",
        rich_help_panel=_PANEL,
    ),
]
RegularizerName = Annotated[
    str | None,
    typer.Option("--regularizer", metavar="NAME", help="l2-sp, delta, bi-tuning or co-tuning.", rich_help_panel=_PANEL),
]
Strength = Annotated[
    float | None,
    typer.Option(metavar="X", help="How much the regularizer counts.", show_default=False, rich_help_panel=_PANEL),
]
LabelSmoothing = Annotated[
    float, typer.Option(metavar="X", help="How far targets move to all classes alike.", rich_help_panel=_PANEL)
]
Mixup = Annotated[
    float, typer.Option(metavar="ALPHA", help="Mix pairs of pictures; 0.2 is usual.", rich_help_panel=_PANEL)
]
Cutmix = Annotated[
    float, typer.Option(metavar="ALPHA", help="Put pieces of pictures into others.", rich_help_panel=_PANEL)
]
Augment = Annotated[
    float, typer.Option(metavar="X", help="How strongly pictures are varied, 0 to 10.", rich_help_panel=_PANEL)
]
Mirror = Annotated[str, typer.Option(metavar="WORD", help="Mirror pictures: auto, yes or no.", rich_help_panel=_PANEL)]
WeightDecay = Annotated[
    float | None,
    typer.Option(metavar="X", help="Of the optimizer, for matrices.", show_default=False, rich_help_panel=_PANEL),
]
Warmup = Annotated[
    float | None,
    typer.Option(metavar="X", help="The part of all steps in which the rate rises.", **_QUIET),
]
Clip = Annotated[
    str | None,
    typer.Option(metavar="NORM", help="The largest norm of the gradient, or none.", **_QUIET),
]
ClassWeight = Annotated[
    str | None,
    typer.Option(metavar="NAME", help="balanced: rare classes count as much as others.", **_QUIET),
]
Parts = Annotated[
    int | None,
    typer.Option(metavar="N", min=1, help="Compute every step in N parts: less memory.", **_QUIET),
]
Recompute = Annotated[
    bool,
    typer.Option("--recompute", help="Gradient checkpointing: less memory, more time.", rich_help_panel=_PANEL),
]
Average = Annotated[
    float | None,
    typer.Option(metavar="DECAY", help="Average the weights over the steps, as by 0.99.", **_QUIET),
]
Patience = Annotated[
    int | None,
    typer.Option(metavar="N", min=1, help="End after N evaluations without a better one.", **_QUIET),
]
Soup = Annotated[
    int | None,
    typer.Option(metavar="N", min=1, help="Average up to N of the best checkpoints.", **_QUIET),
]
NoGuard = Annotated[
    bool,
    typer.Option("--no-guard", help="Serve the trained network, better or not.", rich_help_panel=_PANEL),
]
HeldOut = Annotated[
    float | None,
    typer.Option("--validation", metavar="X", help="The part of DATA to hold out: 0.2.", **_QUIET),
]
Rank = Annotated[
    int | None,
    typer.Option(metavar="N", min=1, help="Of the matrices of lora and dora.", **_QUIET),
]
KeepAdapters = Annotated[
    bool,
    typer.Option("--keep-adapters", help="Save them alone: a small run.", rich_help_panel=_PANEL),
]
BatchNorm = Annotated[
    str | None,
    typer.Option(metavar="NAME", help="auto, frozen or train: its statistics.", **_QUIET),
]
NoCache = Annotated[
    bool,
    typer.Option("--no-cache", help="Compute frozen layers in every epoch.", rich_help_panel=_PANEL),
]
Precision = Annotated[str, typer.Option(metavar="NAME", help="auto, float32 or bfloat16.", rich_help_panel=_PANEL)]
LogFolder = Annotated[
    str | None,
    typer.Option(metavar="FOLDER", help="Write loss and figures there for TensorBoard.", rich_help_panel=_PANEL),
]
Resume = Annotated[bool, typer.Option("--resume", help="Continue an interrupted training.", rich_help_panel=_PANEL)]

# What an option is called on the command line, where that is not its name in Python.
_CALLED = {"pretrained": "--from-scratch", "guard": "--no-guard", "cache": "--no-cache"}


def yes_or_no(option: str, text: str) -> Any:
    """Return what was written for an option that a fit may decide: "auto", or whether.

    Raises
    ------
    RequestError
        If it is neither auto nor yes nor no.
    """
    from graft._checks import one_of

    return {"auto": "auto", "yes": True, "no": False}[one_of(option, text, ["auto", "yes", "no"])]


def given_options(options: Mapping[str, Any]) -> dict[str, Any]:
    """Return those of the options of `graft.FineTuning`, by name, that are not what they are by default."""
    from inspect import signature

    from graft.techniques import FineTuning

    defaults = {name: option.default for name, option in signature(FineTuning).parameters.items()}
    return {name: value for name, value in options.items() if value != defaults[name]}


def refuse_training(given: Collection[str], technique: str) -> None:
    """Refuse options of a training beside a technique that does not take them.

    Raises
    ------
    RequestError
        If one was given.
    """
    for name in given:
        raise RequestError(
            _CALLED.get(name, f"--{name.replace('_', '-')}"),
            expected="--technique fine-tuning beside it",
            found=f"--technique {technique}",
            remedy="Leave the option out, or fine-tune on data of one domain.",
        )


@contextmanager
def resumable(checkpoints: str) -> Iterator[None]:
    """Say how to go on where a training is interrupted that left checkpoints."""
    try:
        yield
    except KeyboardInterrupt:
        if Path(checkpoints).is_dir():
            print(f"\nThe training stands in {checkpoints}: give the same command with --resume.", file=sys.stderr)
        raise


def number_or_word(option: str, text: str, *words: str) -> str | float:
    """Return what was written for an option: one of some words, or a number.

    Raises
    ------
    RequestError
        If it is neither.
    """
    return text if text in words else as_number(option, text)
