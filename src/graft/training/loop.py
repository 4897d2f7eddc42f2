"""The one training loop."""

from __future__ import annotations

import math
import signal
import threading
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import torch
from torch import nn

from graft._progress import progress as progress_bar
from graft.errors import TrainingError
from graft.training.averaging import Snapshot, Weights, put, take, update_average
from graft.training.batches import Batch, prefetch
from graft.training.checkpoint import Checkpoints
from graft.training.gradients import Loss, mean_gradients
from graft.training.memory import freed_memory_kept
from graft.training.network import set_trained
from graft.training.optimizer import Recipe, make_optimizer, schedule
from graft.training.processes import Processes
from graft.training.state import Progress, pack, unpack

# Steps in a row whose loss is not finite: the rate is halved after so many, the training given up after so many.
_HALVE_AFTER = 3
_GIVE_UP_AFTER = 12


@dataclass(frozen=True)
class Plan:
    """What a training does besides the loss.

    Parameters
    ----------
    steps : int
        Steps of the optimizer.
    trained : callable
        From a step to the names of the parameters that are trained in it.
    depth : mapping of str to int
        The depth of each parameter of the trunk, 0 next to the input.
    recipe : Recipe
        Rates, decays, clipping.
    batch_norm : str
        See `set_trained`.
    parts : int
        Every batch is computed in so many parts whose gradients are added up: less memory, the same step.
    bfloat16 : bool
        Compute in bfloat16 where that is safe (autocast); the weights stay in float32.
    average : float or None
        The decay of an exponential average of the weights, which is then what is evaluated and kept.
    evaluate_every : int
        Steps between evaluations; there is one after the last step in any case.
    patience : int or None
        End the training when so many evaluations in a row brought no better score.
    keep : int
        How many of the best evaluations' weights to keep.
    seed : int
        Decides dropout.
    """

    steps: int
    trained: Callable[[int], frozenset[str]]
    depth: Mapping[str, int]
    recipe: Recipe
    batch_norm: str = "frozen"
    parts: int = 1
    bfloat16: bool = False
    average: float | None = None
    evaluate_every: int = 100
    patience: int | None = None
    keep: int = 1
    seed: int = 0


@dataclass(frozen=True, eq=False)
class Trained:
    """What a training left besides the network, which holds its last weights.

    Parameters
    ----------
    progress : Progress
        Losses and evaluations.
    snapshots : list of Snapshot
        The best evaluated weights, the best first.
    seconds : float
        Wall time of this process.
    """

    progress: Progress
    snapshots: list[Snapshot]
    seconds: float


def train(
    network: nn.Module,
    batch: Callable[[int, int, int], Batch],
    loss: Loss,
    plan: Plan,
    *,
    evaluate: Callable[[nn.Module], Mapping[str, float]] | None = None,
    after: Callable[[nn.Module, Batch, int], None] | None = None,
    checkpoints: Checkpoints | None = None,
    log: Callable[[int, Mapping[str, float]], None] | None = None,
    description: str = "training",
    show: bool | None = None,
) -> Trained:
    """Train a network in place.

    Several processes (``torchrun``) each compute their share of every batch; the gradients are summed over all before
    each step, so that the result is the one that a single process would have, up to rounding.

    Parameters
    ----------
    network : Module
        On the device where it is to be trained.
    batch : callable
        From (step, share, shares) to that share of the step's batch, on the CPU; called in threads.
    loss : callable
        From (network, batch, step) to the sum of the examples' losses and the sum of their weights: the loss of a step
        is the quotient of the sums over all parts and processes.
    plan : Plan
        Steps, rates, what is trained when.
    evaluate : callable, optional
        From the network, in evaluation mode, to figures; ``"score"`` among them decides, larger is better.
    after : callable, optional
        Is given the network, this process's share of the batch and the step once the step is taken: for a loss whose
        weights learn from it. What it remembers are buffers of the heads, which checkpoints hold and processes share.
    checkpoints : Checkpoints, optional
        Where to write them, and to continue from.
    log : callable, optional
        Is given the step and its figures, for a logger.
    description : str
        For the progress bar.
    show : bool, optional
        Show it; by default where standard error is a terminal.

    Raises
    ------
    TrainingError
        If the loss stays infinite or not a number, or a single example does not fit in memory.
    """
    device = next(network.parameters()).device
    processes = Processes(device)
    processes.share(network.state_dict().values())
    ever = sorted({name for step in _changes(plan) for name in plan.trained(step)})
    statistics = _statistics(network, plan.batch_norm)
    kept = [*ever, *statistics]
    optimizer = make_optimizer(network, ever, plan.depth, plan.recipe)
    here = Progress(parts=plan.parts)
    average = take(network, kept) if plan.average is not None else None
    snapshots: list[Snapshot] = []
    if checkpoints is not None and not checkpoints.resume:
        if processes.main:
            checkpoints.clear()
        processes.wait()
    elif checkpoints is not None and (found := checkpoints.latest()) is not None:
        here, average, snapshots = unpack(found, network, optimizer, device)
    started = saved = time.monotonic()
    names: frozenset[str] | None = None

    def save() -> None:
        assert checkpoints is not None
        if processes.main:
            checkpoints.write(here.step, *pack(here, network, kept, optimizer, average, snapshots))
        processes.wait()

    def make(step: int) -> Batch:
        return batch(step, processes.rank, processes.count)

    with (
        torch.random.fork_rng(devices=[device] if device.type == "cuda" else []),
        freed_memory_kept(),
        _interruptions() as interrupted,
        progress_bar(description, plan.steps, "steps", enabled=show if processes.main else False) as advance,
    ):
        advance(here.step)
        steps = range(here.step, here.step if _ended(here, plan) else plan.steps)
        for step, whole in zip(steps, prefetch(make, steps), strict=True):
            if plan.trained(step) != names:
                names = plan.trained(step)
                set_trained(network, names, batch_norm=plan.batch_norm)
            rate = schedule(step, plan.steps, plan.recipe.warmup) * here.damping
            for group in optimizer.param_groups:
                group["lr"] = group["peak"] * rate
            before = {name: values.clone() for name, values in statistics.items()}
            mine = whole.to(device)
            mean, here.parts = mean_gradients(
                network,
                mine,
                loss,
                step,
                parts=here.parts,
                seed=plan.seed,
                bfloat16=plan.bfloat16,
                processes=processes,
                before=before,
            )
            norm = nn.utils.clip_grad_norm_(network.parameters(), plan.recipe.clip or math.inf)
            if math.isfinite(mean) and math.isfinite(float(norm)):
                optimizer.step()
                here.skipped_in_row = 0
                if after is not None:
                    after(network, mine, step)
                processes.average(statistics.values())
            else:
                put(network, before)
                _skip(here, step, mean)
            here.losses.append(mean if here.skipped_in_row == 0 else math.nan)
            here.step = step + 1
            if average is not None and plan.average is not None and here.skipped_in_row == 0:
                update_average(average, network, plan.average, step)
            figures = {"loss": mean, "rate": rate}
            last = here.step == plan.steps
            if evaluate is not None and (last or here.step % plan.evaluate_every == 0):
                figures |= _evaluate(network, evaluate, here, plan, kept, average, snapshots, processes)
                set_trained(network, names, batch_norm=plan.batch_norm)
            if log is not None and processes.main:
                log(here.step, figures)
            advance(1, _status(here))
            stop = processes.agree(interrupted())
            ended = processes.agree(_ended(here, plan))
            if checkpoints is not None:
                # Also at the end: what comes after the training may be interrupted too.
                due = stop or ended or last or time.monotonic() - saved >= checkpoints.seconds
                if processes.agree(due):
                    save()
                    saved = time.monotonic()
            if stop:
                raise KeyboardInterrupt
            if ended:
                break
    if average is not None:
        put(network, average)
    network.eval()
    return Trained(here, snapshots, time.monotonic() - started)


def _evaluate(
    network: nn.Module,
    evaluate: Callable[[nn.Module], Mapping[str, float]],
    here: Progress,
    plan: Plan,
    kept: list[str],
    average: Weights | None,
    snapshots: list[Snapshot],
    processes: Processes,
) -> dict[str, float]:
    """Evaluate the weights (their average, if there is one), and keep them if they are among the best.

    The main process's figures count, so that rounding does not let one process keep what another does not.
    """
    with _averaged(network, kept, average):
        network.eval()
        with torch.inference_mode():
            figures = processes.told({name: float(value) for name, value in evaluate(network).items()})
        here.evaluations.append({"step": here.step, **figures})
        # What is not a number compares with nothing; it is the worst.
        score = -math.inf if math.isnan(figures["score"]) else figures["score"]
        best = snapshots[0].score if snapshots else -math.inf
        here.stale = 0 if score > best else here.stale + 1
        if len(snapshots) < plan.keep or score > snapshots[-1].score:
            snapshots.append(Snapshot(here.step, score, take(network, kept)))
            snapshots.sort(key=lambda one: (-one.score, one.step))
            del snapshots[plan.keep :]
    return figures


@contextmanager
def _averaged(network: nn.Module, kept: list[str], average: Weights | None) -> Iterator[None]:
    """Let the network have the averaged weights while the block runs."""
    if average is None:
        yield
        return
    own = take(network, kept)
    put(network, average)
    try:
        yield
    finally:
        put(network, own)


def _skip(here: Progress, step: int, mean: float) -> None:
    here.skipped += 1
    here.skipped_in_row += 1
    if here.skipped_in_row % _HALVE_AFTER == 0:
        here.damping /= 2
    if here.skipped_in_row >= _GIVE_UP_AFTER:
        raise TrainingError(
            "loss",
            expected="finite numbers",
            found=f"{here.skipped_in_row} steps in a row without one, up to step {step + 1} (loss {mean:g}), "
            f"although the learning rate was reduced to {here.damping:g} of what it was",
            remedy="Pass a smaller learning_rate or precision='float32', and look for extreme values among the inputs.",
        )


def _changes(plan: Plan) -> Iterator[int]:
    """Yield the first step and every one before which what is trained changes."""
    before: frozenset[str] | None = None
    for step in range(plan.steps):
        now = plan.trained(step)
        if now != before:
            yield step
        before = now


def _statistics(network: nn.Module, batch_norm: str) -> Weights:
    """Return the buffers that training changes, themselves: those of the heads may always."""
    held = network.state_dict().keys()
    return {
        name: values
        for name, values in network.named_buffers()
        if name in held and (batch_norm == "train" or name.startswith("heads."))
    }


def _ended(here: Progress, plan: Plan) -> bool:
    """Return whether too many evaluations brought nothing better."""
    return plan.patience is not None and here.stale >= plan.patience


def _status(here: Progress) -> str:
    recent = [value for value in here.losses[-20:] if math.isfinite(value)]
    text = f"loss {sum(recent) / len(recent):.3f}" if recent else "loss -"
    if here.evaluations:
        shown = [name for name in here.evaluations[-1] if name not in ("step", "score", "loss")][:1]
        text += "".join(f", {name} {here.evaluations[-1][name]:.3f}" for name in shown)
    return text


@contextmanager
def _interruptions() -> Iterator[Callable[[], bool]]:
    """Let Ctrl-C end the step that is being computed; yields a function that tells whether it was pressed.

    Pressed again, it ends the program at once.
    """
    pressed: list[int] = []
    if threading.current_thread() is not threading.main_thread():
        yield lambda: False
        return

    def note(number: int, _frame: Any) -> None:
        if pressed:
            raise KeyboardInterrupt
        pressed.append(number)

    before = signal.signal(signal.SIGINT, note)
    try:
        yield lambda: bool(pressed)
    finally:
        signal.signal(signal.SIGINT, before)
