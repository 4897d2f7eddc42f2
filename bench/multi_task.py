"""Leaves with three tasks and uneven labels, beside each task alone; ``python -m bench.multi_task [features|network]``.

The built-in photos from the field: species has all labels, margin 30 %, damage 10 %. 600 photos to learn from, 400
others to measure on, drawn anew for every seed. Twins: the best head for the frozen features; where the network is
trained, the better one of that and the same network trained on the one task, told by held-out examples.

How the heads of `sharing="stacked"` are combined was settled on the draws 0 to 4, which are not among those below.
"""

from __future__ import annotations

import sys
import time
from typing import Any

import numpy as np

from bench._real_data import write_results
from graft import FeatureExtraction, MultiTask, load_backbone
from graft.cli.show import print_table
from graft.data.samples import leaves

TASKS = ("species", "margin", "damage")
SHARES = {"margin": 0.3, "damage": 0.1}
SEEDS = {"features": range(5, 12), "network": range(100, 103)}


def main(way: str = "features") -> None:
    backbone = load_backbone("efficientnet_lite0", image_size=128)
    runs: list[dict[str, Any]] = []
    for seed in SEEDS[way]:
        runs.append(_run(backbone, way, seed))
        print(seed, runs[-1], flush=True)
    rows = []
    for task in TASKS:
        metric = "R2" if task == "damage" else "accuracy"
        alone, together = (np.array([run[name][task] for run in runs]) for name in ("alone", "together"))
        gain = together - alone
        error = gain.std(ddof=1) / np.sqrt(len(gain))
        says = [run["verdict"][task]["verdict"] for run in runs]
        rows.append(
            [
                task,
                metric,
                f"{alone.mean():.4f}",
                f"{together.mean():.4f}",
                f"{gain.mean():+.4f} +- {1.96 * error:.4f}",
                f"{says.count('helped')} / {says.count('harmed')}",
            ]
        )
    print_table(["task", "on 400 photos", "alone", "together", "gain (95 %)", "helped / harmed"], rows)
    print(write_results(f"multi_task_{way}", {"runs": runs}))


def _run(backbone: Any, way: str, seed: int) -> dict[str, Any]:
    train = leaves("field", per_class=60, random_state=2 * seed)
    test = leaves("field", per_class=40, random_state=2 * seed + 1)
    assert train.labels is not None
    assert test.labels is not None
    table, draws = train.labels.copy(), np.random.default_rng(seed)
    for task, share in SHARES.items():
        table[draws.permutation(len(table))[round(share * len(table)) :], TASKS.index(task)] = None
    started = time.perf_counter()
    model = MultiTask(backbone, label_names=TASKS, train=0 if way == "features" else "all", random_state=seed)
    model.fit(train.inputs, table)
    seconds = time.perf_counter() - started
    assert model.verdict_ is not None
    verdict = {one["task"]: one for one in model.verdict_.to_dict()["tasks"]}
    alone = {}
    for place, task in enumerate(TASKS):
        known = np.array([value is not None for value in table[:, place]])
        inputs, labels = train.inputs[known], table[known, place]
        if verdict[task]["twin"] == "probe":
            kind = "regression" if task == "damage" else "classification"
            twin = FeatureExtraction(backbone, task=kind, random_state=seed).fit(inputs, labels)
            alone[task] = twin.score(test.inputs, test.labels[:, place])
        else:
            single = MultiTask(backbone, label_names=[task], train="all", compare=False, random_state=seed)
            alone[task] = single.fit(inputs, labels[:, None]).score(test.inputs, test.labels[:, [place]])
    found = model.evaluate(test.inputs, test.labels)
    together = {task: found[task].metrics["r2" if task == "damage" else "accuracy"].value for task in TASKS}
    return {"seed": seed, "alone": alone, "together": together, "seconds": seconds, "verdict": verdict}


if __name__ == "__main__":
    main(*sys.argv[1:])
