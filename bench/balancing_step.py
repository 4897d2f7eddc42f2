"""One training step with balanced gradients beside a plain sum of the losses, and beside torchjd where it is installed.

``python -m bench.balancing_step [threads]``. A trunk 256-512-512-512 with rectifiers, K linear heads of 10 classes, a
batch of 256, stochastic gradient descent. All ways take turns step by step, so that whatever else the machine does
troubles them alike; the time of one is the least, and the median, of its steps. Memory is the highest that torch had
allocated during one step less what it had before, from the profiler's record of every allocation.
"""

from __future__ import annotations

import json
import statistics
import sys
import tempfile
import time
import warnings
from collections.abc import Callable
from itertools import pairwise
from pathlib import Path
from typing import Any

import torch
from torch import nn

from bench._real_data import write_results
from graft import balancing
from graft.balancing import AGGREGATORS, Aggregator, UPGrad, balanced_backward, balanced_features
from graft.cli.show import print_table

SIZES, CLASSES, BATCH, TURNS = (256, 512, 512, 512), 10, 256, 40
TASKS = (2, 5, 10)
GOALS = {2: 1.3, 5: 1.4, 10: 1.5}
Step = Callable[[], None]


class Work:
    """A network, a batch and an optimizer."""

    def __init__(self, tasks: int) -> None:
        torch.manual_seed(0)
        layers = [(nn.Linear(inputs, outputs), nn.ReLU()) for inputs, outputs in pairwise(SIZES)]
        self.trunk = nn.Sequential(*(layer for pair in layers for layer in pair))
        self.heads = nn.ModuleList(nn.Linear(SIZES[-1], CLASSES) for _ in range(tasks))
        self.inputs = torch.randn(BATCH, SIZES[0])
        self.targets = torch.randint(CLASSES, (tasks, BATCH))
        self.shared = list(self.trunk.parameters())
        self.optimizer = torch.optim.SGD([*self.shared, *self.heads.parameters()], lr=1e-3)

    def losses(self, copies: Any) -> list[torch.Tensor]:
        return [
            nn.functional.cross_entropy(head(features), target)
            for head, features, target in zip(self.heads, copies, self.targets, strict=True)
        ]

    def step(self, backward: Callable[[torch.Tensor], None]) -> Step:
        def run() -> None:
            self.optimizer.zero_grad()
            backward(self.trunk(self.inputs))
            self.optimizer.step()

        return run


def ways(tasks: int) -> dict[str, Step]:
    """Return the steps that are compared, each on a network of its own."""
    plain, features, copies, exact, lean = (Work(tasks) for _ in range(5))
    upgrad = UPGrad()

    def copied(outputs: torch.Tensor) -> None:
        sum(copies.losses(balanced_features(outputs, tasks, upgrad)), torch.zeros(())).backward()

    return {
        "plain sum": plain.step(lambda outputs: sum(plain.losses([outputs] * tasks), torch.zeros(())).backward()),
        "graft, features": features.step(
            lambda outputs: _done(balanced_backward(features.losses([outputs] * tasks), outputs, upgrad))
        ),
        "graft, balanced_features": copies.step(copied),
        "graft, parameters": exact.step(
            lambda outputs: _done(balanced_backward(exact.losses([outputs] * tasks), exact.shared, upgrad))
        ),
        "graft, parameters, low memory": lean.step(
            lambda outputs: _done(
                balanced_backward(lean.losses([outputs] * tasks), lean.shared, upgrad, low_memory=True)
            )
        ),
        **peers(tasks),
    }


def peers(tasks: int) -> dict[str, Step]:
    try:
        from torchjd.aggregation import UPGrad as TheirUPGrad
        from torchjd.autojac import jac_to_grad, mtl_backward
    except ImportError as error:
        print(f"left out: {error}", file=sys.stderr)
        return {}
    work, theirs = Work(tasks), TheirUPGrad()

    def backward(outputs: torch.Tensor) -> None:
        mtl_backward(work.losses([outputs] * tasks), features=outputs)
        jac_to_grad(work.shared, theirs)

    return {"torchjd, parameters": work.step(backward)}


def method_ways(tasks: int) -> dict[str, Step]:
    """Return a step for every method, on the gradients of the features."""
    steps = {}
    for name, kind in AGGREGATORS.items():
        work, method = Work(tasks), getattr(balancing, kind)()
        steps[name] = work.step(_method_backward(work, method, tasks))
    return steps


def _method_backward(work: Work, method: Aggregator, tasks: int) -> Callable[[torch.Tensor], None]:
    generator, state = torch.Generator().manual_seed(0), method.initial_state(tasks)

    def backward(outputs: torch.Tensor) -> None:
        copies = balanced_features(outputs, tasks, method, generator=generator, state=state)
        sum(work.losses(copies), torch.zeros(())).backward()

    return backward


def _done(_found: Any) -> None:
    pass


def milliseconds(steps: dict[str, Step], turns: int) -> dict[str, dict[str, float]]:
    """Return the least and the median time of each way's steps, taking turns."""
    times: dict[str, list[float]] = {name: [] for name in steps}
    for _ in range(turns):
        for name, step in steps.items():
            started = time.perf_counter()
            step()
            times[name].append(1000 * (time.perf_counter() - started))
    return {name: {"least": min(each), "median": statistics.median(each)} for name, each in times.items()}


def peak_bytes(step: Step) -> int:
    """Return the highest allocation during a step, over what was allocated when it began."""
    step()
    with torch.profiler.profile(activities=[torch.profiler.ProfilerActivity.CPU], profile_memory=True) as profile:
        step()
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "trace.json"
        profile.export_chrome_trace(str(path))
        events = json.loads(path.read_text(encoding="utf-8"))["traceEvents"]
    changes = sorted(
        (event["ts"], place, event["args"]["Bytes"])
        for place, event in enumerate(events)
        if event.get("name") == "[memory]"
    )
    level = highest = 0
    for _, _, change in changes:
        level += change
        highest = max(highest, level)
    return highest


def main() -> None:
    torch.set_num_threads(int(sys.argv[1]) if len(sys.argv) > 1 else 1)
    warnings.simplefilter("ignore")
    trunk_bytes = 4 * sum(parameter.numel() for parameter in Work(2).shared)
    results: dict[str, Any] = {"threads": torch.get_num_threads(), "trunk_bytes": trunk_bytes, "tasks": {}}
    rows = []
    for tasks in TASKS:
        steps = ways(tasks)
        milliseconds(steps, 3)
        times = milliseconds(steps, TURNS)
        memory = {name: peak_bytes(step) for name, step in steps.items()}
        plain = times["plain sum"]
        found = {
            name: {
                **times[name],
                "ratio": times[name]["least"] / plain["least"],
                "ratio_of_medians": times[name]["median"] / plain["median"],
                "extra_memory": (memory[name] - memory["plain sum"]) / trunk_bytes,
            }
            for name in steps
        }
        results["tasks"][str(tasks)] = found
        rows += [
            (
                name,
                str(tasks),
                f"{one['least']:.1f}",
                f"{one['ratio']:.2f}",
                f"{one['ratio_of_medians']:.2f}",
                f"{GOALS[tasks]:.1f}",
                f"{one['extra_memory']:.2f}",
            )
            for name, one in found.items()
        ]
    columns = ("way", "tasks", "ms", "ratio", "ratio of medians", "goal", "extra memory / trunk")
    print_table(columns, rows, title="One step with UPGrad: trunk 256-512-512-512, batch 256")
    steps = method_ways(10)
    milliseconds(steps, 3)
    times = milliseconds(steps, TURNS // 2)
    results["methods, 10 tasks, balanced_features"] = times
    plain_least = results["tasks"]["10"]["plain sum"]["least"]
    method_rows = [(name, f"{one['least']:.1f}", f"{one['least'] / plain_least:.2f}") for name, one in times.items()]
    print_table(("method", "ms", "ratio to the plain sum"), method_rows, title="Every method, 10 tasks, features")
    print(write_results("balancing_step", results))


if __name__ == "__main__":
    main()
