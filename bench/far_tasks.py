"""Learning rate and mirroring of fine-tuning, near the pretraining and far from it; ``python -m bench.far_tasks``.

EfficientNet-Lite0 at 64 pixels on MNIST (far) and caltech101 (near), few labels per class, other draws than those that
other tables report, 400 test examples each: as `FineTuning` does it by default, mirrored always, and at the rate of
networks without batch normalisation (digits not mirrored, photos mirrored). Finished cells are not measured again.
"""

from __future__ import annotations

import json
import sys
import time
import warnings
from typing import Any

from bench._advice_cases import Case, digits, photos
from bench._real_data import RESULTS, write_results

PIXELS = 64
DATA: dict[str, tuple[Any, bool]] = {
    "MNIST, 10 per class": (lambda seed: digits("mnist", 10, seed), False),
    "MNIST, 60 per class": (lambda seed: digits("mnist", 60, seed), False),
    "caltech101, 5 per class": (lambda seed: photos(5, seed + 100), True),
}
SEEDS = {"caltech101, 5 per class": 2}


def cell(case: Case, seed: int, **options: Any) -> dict[str, Any]:
    """Fine-tune, and test."""
    from graft import FineTuning, load_backbone

    network = load_backbone("efficientnet_lite0", image_size=PIXELS)
    started = time.perf_counter()
    model = FineTuning(network, random_state=seed, **options).fit(case.domain.inputs, case.domain.labels)
    assert model.training_ is not None
    return {
        "accuracy": model.score(case.test.inputs, case.test.labels),
        "seconds": time.perf_counter() - started,
        "served": model.training_["served"],
        "mirroring": model.training_["mirroring"],
    }


def main() -> None:
    """Measure what is missing, print and write."""
    from graft.cli.show import print_table

    warnings.filterwarnings("ignore")
    file = RESULTS / "far_tasks.json"
    found: dict[str, Any] = json.loads(file.read_text())["cells"] if file.is_file() else {}
    wanted = {}
    for name, (_, mirrored) in DATA.items():
        for seed in range(SEEDS.get(name, 1)):
            ways = {"default": {}, "rate 1e-4": {"learning_rate": 1e-4, "mirror": mirrored}}
            ways |= {} if mirrored else {"mirrored": {"mirror": True}}
            wanted |= {f"{name}, seed {seed}, {way}": (name, seed, options) for way, options in ways.items()}
    for key, (name, seed, options) in wanted.items():
        if key not in found:
            found[key] = cell(DATA[name][0](seed), seed, **options)
            print(key, found[key], file=sys.stderr, flush=True)
            write_results("far_tasks", {"cells": found})
    rows = [(key, f"{100 * found[key]['accuracy']:.1f}", found[key]["served"]) for key in wanted]
    print_table(("what", "test %", "served"), rows, title="EfficientNet-Lite0, 64 pixels")


if __name__ == "__main__":
    main()
