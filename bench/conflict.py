"""Two tasks in conflict, the loss of one a hundred times as large; ``python -m bench.conflict``.

A trunk that makes one number of eight, and a linear head for each of two regressions whose directions are at right
angles: what the trunk learns for one task it cannot know for the other. The loss of the second task is in a unit in
which it is 100 times as large. The figure is the share of each task's variance that is explained after 200 steps of
Adam; a compromise explains a half of both, and a method fails where the worse one stays below a quarter. Three starts.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import torch
from torch import nn

from bench._real_data import write_results
from graft import balancing
from graft.balancing import AGGREGATORS, LOSS_WEIGHTINGS, balanced_backward
from graft.cli.show import print_table

SCALE, STEPS, STARTS = 100.0, 200, 3
NOT_BALANCING = ("static", "sum", "mean")


def explained(name: str, seed: int) -> tuple[float, float]:
    """Return the share of the variance of each task that is explained by a training balanced by a method."""
    draws = torch.Generator().manual_seed(seed)
    inputs = torch.randn(256, 8, generator=draws)
    targets = (inputs[:, :1], inputs[:, 1:2])
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        trunk, heads = nn.Linear(8, 1), nn.ModuleList(nn.Linear(1, 1) for _ in range(2))
    method = _method(name)
    learnt = [{"params": [*trunk.parameters(), *heads.parameters()]}]
    if isinstance(method, nn.Module) and list(method.parameters()):
        learnt.append({"params": list(method.parameters())})
    optimizer = torch.optim.Adam(learnt, lr=0.05)

    def losses() -> torch.Tensor:
        made = trunk(inputs)
        pairs = zip(heads, targets, (1.0, SCALE), strict=True)
        return torch.stack([scale * nn.functional.mse_loss(head(made), target) for head, target, scale in pairs])

    state = None
    if name in AGGREGATORS:
        state = method.initial_state(2)
    for step in range(STEPS):
        optimizer.zero_grad()
        now = losses()
        if name in AGGREGATORS:
            generator = torch.Generator().manual_seed(step)
            balanced_backward(now.unbind(), trunk.parameters(), method, generator=generator, state=state)
            optimizer.step()
            continue
        norms = torch.stack(
            [
                torch.cat(
                    [one.flatten() for one in torch.autograd.grad(loss, [*trunk.parameters()], retain_graph=True)]
                )
                .norm()
                .detach()
                for loss in now
            ]
        )
        method(now, step=step).backward()
        optimizer.step()
        with torch.no_grad():
            after = losses()
        method.update(
            now.detach(),
            losses_after=after if "losses_after" in method.needs else None,
            gradient_norms=norms,
        )
    with torch.no_grad():
        left = losses() / torch.tensor([1.0, SCALE]) / torch.stack([target.var() for target in targets])
    return float(1 - left[0]), float(1 - left[1])


def _method(name: str) -> Any:
    if name in AGGREGATORS:
        return getattr(balancing, AGGREGATORS[name])()
    kind = getattr(balancing, LOSS_WEIGHTINGS[name])
    return kind(["regression"] * 2) if name == "uncertainty" else kind(2)


def main() -> None:
    rows, results = [], {}
    for name in [one for one in (*LOSS_WEIGHTINGS, *AGGREGATORS) if one not in NOT_BALANCING]:
        runs = [explained(name, seed) for seed in range(STARTS)]
        first, second = np.mean(runs, axis=0).tolist()
        worst = float(np.mean([min(run) for run in runs]))
        results[name] = {"first": first, "second": second, "worse": worst, "runs": runs}
        print(name, f"{first:.3f} {second:.3f}", flush=True)
        rows.append([name, f"{first:.3f}", f"{second:.3f}", f"{worst:.3f}", "fails" if worst < 0.25 else ""])
    print_table(["method", "loss of scale 1", "loss of scale 100", "the worse one", ""], rows)
    print(write_results("conflict", {"scale": SCALE, "steps": STEPS, "methods": results}))


if __name__ == "__main__":
    main()
