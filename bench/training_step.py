"""One training step beside the loop that users write, and an epoch from stored activations beside one without.

``python -m bench.training_step``. Same network, batch, precision and optimizer; the loops take turns, so that whatever
else the machine does troubles both alike. A turn is a training of its own, whose first steps (the optimizer's moments
come into being, memory is asked for) are not counted.

An epoch from stored activations reads no picture, and one without reads all of them; so it is measured from pictures in
memory (at the size of the network's input: nothing is decoded, next to nothing fitted), from the JPEG files of the data
set, and from photos as a camera makes them (4000 x 3000 pixels, made by enlarging 96 of them). Steps show three views
in turn (the plain one, and two that are cut out and mirrored), which are stored once. ``python -m bench.training_step
epochs`` measures these alone and keeps what was measured of the steps before.
"""

from __future__ import annotations

import copy
import json
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import nn

from bench._real_data import RESULTS, banking77, caltech101, write_results
from graft import load_backbone
from graft.cli.show import print_table
from graft.data import Task
from graft.training import (
    ActivationStore,
    Batch,
    Boundary,
    Examples,
    Network,
    Order,
    Plan,
    Recipe,
    depth_of,
    fast_convolutions,
    supervision,
    train,
    trained_parts,
)

STEPS, FIRST, TURNS, BATCH = 8, 3, 3, 32
VIEWS, CAMERA, CAMERA_PHOTOS = 3, (4000, 3000), 96
# A loop gives the moments at which its steps ended: steps + 1 numbers, the beginning included.
Loop = Callable[[int], list[float]]


def works() -> list[tuple[str, Any, list[Any], np.ndarray, str]]:
    """Return (title, backbone, inputs, labels, unit) of each network."""
    photos, classes = caltech101()
    texts, intents = banking77("train")
    some = np.random.default_rng(0).permutation(len(texts))[:800]
    return [
        (
            "efficientnet_lite0, 128 pixels",
            load_backbone("efficientnet_lite0", image_size=128),
            list(photos),
            classes,
            "images",
        ),
        ("minilm", load_backbone("minilm"), list(texts[some]), intents[some], "tokens"),
    ]


def plain_loop(backbone: Any, examples: Examples, order: Order, bfloat16: bool, classes: int) -> Loop:
    """Return the loop that users write: read a batch, forward, cross-entropy, backward, clip, AdamW."""

    def run(steps: int) -> list[float]:
        trunk = backbone.copy_module().train()
        for module in trunk.modules():
            if isinstance(module, nn.modules.batchnorm._BatchNorm):
                module.eval()
        model = nn.Sequential(trunk, nn.Linear(backbone.feature_dim, classes))
        optimizer = torch.optim.AdamW(model.parameters(), lr=1e-4, weight_decay=0.05)
        ended = [time.perf_counter()]
        for step in range(steps):
            batch = examples.batch(order.rows(step))
            optimizer.zero_grad()
            with torch.autocast("cpu", torch.bfloat16, enabled=bfloat16):
                logits = model(batch.inputs)
            nn.functional.cross_entropy(logits.float(), batch.targets).backward()
            nn.utils.clip_grad_norm_(model.parameters(), 1.0)
            optimizer.step()
            ended.append(time.perf_counter())
        return ended

    return run


def graft_loop(
    backbone: Any, source: Any, trunk: nn.Module, groups: Any, part: Any, order: Order, bfloat16: bool, goal: Any
) -> Loop:
    """Return the same steps by Graft's loop."""

    def run(steps: int) -> list[float]:
        network = Network(copy.deepcopy(trunk), {"task": nn.Linear(backbone.feature_dim, goal.outputs)})
        plan = Plan(
            steps=steps,
            trained=trained_parts(part, network, groups, steps),
            depth=depth_of(groups),
            recipe=Recipe(1e-4, 1e-4, layer_decay=1.0),
            bfloat16=bfloat16,
        )

        def loss(model: nn.Module, batch: Batch, _step: int) -> tuple[torch.Tensor, torch.Tensor]:
            _, outputs = model(batch.inputs)
            return goal.losses(outputs["task"], batch.targets).sum(), batch.weight.sum()

        def batch(step: int, _share: int, _shares: int) -> Batch:
            view = step % VIEWS if backbone.modality == "image" and part != "all" else 0
            return source.batch(order.rows(step), view)

        ended = [time.perf_counter()]
        with fast_convolutions(network.trunk, source.batch(np.arange(2)).inputs):
            train(network, batch, loss, plan, log=lambda _step, _figures: ended.append(time.perf_counter()), show=False)
        return ended

    return run


def taking_turns(loops: dict[str, Loop], steps: int) -> dict[str, float]:
    """Return the smallest seconds of a step, the mean over a turn of `steps` counted ones, of each loop."""
    best = dict.fromkeys(loops, np.inf)
    for _ in range(TURNS):
        for name, loop in loops.items():
            ended = loop(FIRST + steps)
            best[name] = min(best[name], (ended[-1] - ended[FIRST]) / steps)
    return best


def reduced(path: str) -> Any:
    """Return a photo at the size of the network's input."""
    from PIL import Image

    return Image.open(path).convert("RGB").resize((128, 128))


def camera_photos(paths: list[Any], folder: Path) -> list[str]:
    """Return files with the photos at the size at which cameras make them."""
    from PIL import Image

    made = []
    for number, path in enumerate(paths):
        made.append(str(folder / f"{number}.jpg"))
        Image.open(path).convert("RGB").resize(CAMERA).save(made[-1], quality=90)
    return made


def epochs(title: str, backbone: Any, examples: Examples, groups: Any, goal: Any) -> dict[str, dict[str, float]]:
    """Return the seconds of an epoch of the last two groups, from stored activations and without, and of storing."""
    trunk = backbone.copy_module()
    network = Network(trunk, {"task": nn.Linear(backbone.feature_dim, goal.outputs)})
    order = Order(examples.count, BATCH, 0)
    trained = [
        name.removeprefix("trunk.") for name in trained_parts(2, network, groups, 1)(0) if name.startswith("trunk.")
    ]
    boundary = Boundary(trunk, trained, examples.batch(np.arange(2)).inputs)
    started = time.perf_counter()
    with ActivationStore(boundary, examples, views=range(VIEWS), show=False) as store:
        filled = time.perf_counter() - started
        loops = {
            "without": graft_loop(backbone, examples, trunk, groups, 2, order, False, goal),
            "stored": graft_loop(backbone, store, boundary.module, groups, 2, order, False, goal),
        }
        # Three times as many steps where an epoch has few.
        steps = max(order.batches, 9)
        best = {name: each * order.batches for name, each in taking_turns(loops, steps).items()}
    return {title: {**best, "filling": filled, "examples": examples.count}}


def main(only_epochs: bool) -> None:
    rows: list[tuple[str, ...]] = []
    file = RESULTS / "training_step.json"
    results: dict[str, Any] = json.loads(file.read_text()) if only_epochs and file.is_file() else {}
    results.pop("machine", None)
    cached: dict[str, dict[str, float]] = {}
    for title, backbone, inputs, labels, unit in works():
        classes = tuple(np.unique(labels).tolist())
        goal = supervision(Task("", "classification", classes), labels)
        examples = Examples(backbone, inputs, goal.targets(labels))
        groups = backbone.layer_groups(backbone.copy_module())
        for bfloat16 in () if only_epochs else (False, True):
            order = Order(examples.count, BATCH, 0)
            loops = {
                "plain": plain_loop(backbone, examples, order, bfloat16, goal.outputs),
                "graft": graft_loop(backbone, examples, backbone.module, groups, "all", order, bfloat16, goal),
            }
            best = taking_turns(loops, STEPS)
            count = BATCH
            if examples.sizes is not None:
                count = int(np.mean(examples.sizes) * count)
            precision = "bfloat16" if bfloat16 else "float32"
            speeds = {name: count / seconds for name, seconds in best.items()}
            results[f"{title}, {precision}"] = {**speeds, "unit": f"{unit}/s"}
            rows.append(
                (
                    title,
                    precision,
                    f"{speeds['plain']:.0f}",
                    f"{speeds['graft']:.0f}",
                    f"{unit}/s",
                    f"{speeds['graft'] / speeds['plain']:.2f}",
                )
            )
        cached |= epochs(title, backbone, examples, groups, goal)
        if backbone.modality == "image":
            with tempfile.TemporaryDirectory() as folder:
                for what, pictures in (
                    ("pictures in memory", [np.asarray(reduced(one)) for one in inputs]),
                    ("photos of 4000 x 3000 pixels", camera_photos(inputs[:CAMERA_PHOTOS], Path(folder))),
                ):
                    of = Examples(backbone, pictures, goal.targets(labels[: len(pictures)]))
                    cached |= epochs(f"{title}, {what}", backbone, of, groups, goal)
    if rows:
        print_table(("network", "precision", "plain", "graft", "unit", "ratio"), rows, title="One training step")
    results |= {f"{title}, one epoch of the last two groups": found for title, found in cached.items()}
    cached_rows = [
        (
            title,
            found["examples"],
            f"{found['without']:.2f}",
            f"{found['stored']:.2f}",
            f"{found['without'] / found['stored']:.1f}",
            f"{found['filling']:.1f}",
        )
        for title, found in cached.items()
    ]
    columns = ("network", "examples", "without s", "stored s", "times faster", "storing once s")
    print_table(columns, cached_rows, title="One epoch of the last two layer groups")
    print(write_results("training_step", results))


if __name__ == "__main__":
    main(sys.argv[1:] == ["epochs"])
