"""MNIST <-> USPS from raw pixels with a small convolutional network; ``python -m bench.digits_adaptation``.

The published sample (Long et al. 2013: 2,000 digits of MNIST and 1,800 of USPS, drawn anew for each seed; predicted are
the target digits whose labels nobody saw), and the full training sets, where the target's test set is predicted too.
One core. The network begins with random weights and, while it is trained, sees digits that are shifted, turned and
sheared a little. Nothing was chosen by target labels but this recipe, which is one for all methods and both directions.

``python -m bench.digits_adaptation sample`` or ``full`` runs one part alone. Seeds whose figures stand in the results
already are not trained again; without the file of results, all are.
"""

from __future__ import annotations

import gzip
import json
import sys
import time
from typing import Any

import numpy as np
import torch
from torch import nn
from torch.nn import functional

from bench._real_data import DATA, RESULTS, write_results
from bench.digits import usps
from graft import Domain, DomainAdaptation, FineTuning
from graft.backbones import ImagePreprocessing, ModuleBackbone, module_backbone
from graft.cli.show import print_table

SIZE = 28
SAMPLE = {"mnist": 2000, "usps": 1800}
PAIRS = (("mnist", "usps"), ("usps", "mnist"))
# Steps of 64 digits of each domain.
BATCH = 128
STEPS = {"sample": 400, "full": 600}
SEEDS = {"sample": 3, "full": 2}
METHODS = {"sample": ("mcc", "shot", "source only"), "full": ("mcc", "source only")}


class Jitter(nn.Module):
    """Shifts, turns, scales and shears pictures at random while a network is trained."""

    def __init__(self, pixels: float = 2.0, affine: float = 0.15) -> None:
        super().__init__()
        self.shift, self.affine = 2 * pixels / SIZE, affine

    def forward(self, pictures: torch.Tensor) -> torch.Tensor:
        """Return them moved, in training mode, and as they are otherwise."""
        if not self.training:
            return pictures
        draw = (2 * torch.rand(7, len(pictures), device=pictures.device) - 1) * self.affine
        angle, shear, wide, high = draw[0], draw[1], 1 + draw[2], 1 + draw[3]
        right, down = draw[4] / self.affine * self.shift, draw[5] / self.affine * self.shift
        upper = torch.stack([wide * angle.cos(), -high * (angle + shear).sin(), right], dim=1)
        lower = torch.stack([wide * angle.sin(), high * (angle + shear).cos(), down], dim=1)
        grid = functional.affine_grid(torch.stack([upper, lower], dim=1), list(pictures.shape), align_corners=False)
        return functional.grid_sample(pictures, grid, align_corners=False)


class Digits(nn.Module):
    """Three convolutions and a layer of 128 features, each with batch normalisation."""

    def __init__(self) -> None:
        super().__init__()
        self.jitter = Jitter()
        self.layers = nn.Sequential(
            *_layer(nn.Conv2d(1, 24, 5, stride=2, padding=2), nn.BatchNorm2d(24)),
            *_layer(nn.Conv2d(24, 48, 3, padding=1), nn.BatchNorm2d(48)),
            nn.MaxPool2d(2),
            *_layer(nn.Conv2d(48, 64, 3, padding=1), nn.BatchNorm2d(64)),
            nn.MaxPool2d(2),
            nn.Flatten(),
            *_layer(nn.Linear(64 * 9, 128), nn.BatchNorm1d(128)),
        )

    def forward(self, pictures: torch.Tensor) -> torch.Tensor:
        """Return features (n, 128) of pictures (n, 3, 28, 28), whose channels are alike."""
        return self.layers(self.jitter(pictures[:, :1]))


def _layer(linear: nn.Module, norm: nn.Module) -> tuple[nn.Module, ...]:
    return linear, norm, nn.ReLU()


def network(seed: int) -> ModuleBackbone:
    """Return the network with random weights."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        module = Digits()
    plain: Any = {"mean": (0.0, 0.0, 0.0), "std": (1.0, 1.0, 1.0), "interpolation": "bilinear", "crop": 1.0}
    return module_backbone(module, preprocessing=ImagePreprocessing(size=(SIZE, SIZE), **plain), feature_dim=128)


def digits(name: str, part: str) -> tuple[np.ndarray, np.ndarray]:
    """Return the pictures of a set, 8 bits, and their digits."""
    if name == "usps":
        return usps(part)
    stem = {"train": "train", "test": "t10k"}[part]
    with gzip.open(DATA / "mnist" / f"{stem}-images-idx3-ubyte.gz") as file:
        pictures = np.frombuffer(file.read(), np.uint8, offset=16).reshape(-1, 28, 28)
    with gzip.open(DATA / "mnist" / f"{stem}-labels-idx1-ubyte.gz") as file:
        return pictures, np.frombuffer(file.read(), np.uint8, offset=8).astype(int)


def drawn(name: str, part: str, seed: int) -> tuple[list[np.ndarray], np.ndarray]:
    """Return the training digits of a set: all, or those of the sample."""
    pictures, labels = digits(name, "train")
    if part == "full":
        return list(pictures), labels
    rows = np.random.default_rng(seed).permutation(len(labels))[: SAMPLE[name]]
    return list(pictures[rows]), labels[rows]


def fitted(method: str, seed: int, part: str, X: list[Any], y: np.ndarray, target: list[Any]) -> Any:
    """Return a model for the target."""
    shared: dict[str, Any] = {
        "batch_size": BATCH,
        "learning_rate": 1e-3,
        "layer_decay": 1.0,
        "weight_decay": 0.01,
        "views": 1,
        "batch_norm": "train",
        "validation": 0.1,
        "store": False,
        "random_state": seed,
    }
    if method == "source only":
        epochs = STEPS[part] * BATCH / 2 / len(X)
        shared["batch_size"] = BATCH // 2
        return FineTuning(network(seed), epochs=epochs, soup=1, guard=False, refit=False, **shared).fit(X, y)
    epochs = STEPS[part] * BATCH / (len(X) + len(target))
    model = DomainAdaptation(network(seed), method=method, pretrained=False, epochs=epochs, **shared)
    return model.fit(X, y, target=Domain(target))


def main() -> None:
    torch.set_num_threads(1)
    parts = sys.argv[1:] or ["sample", "full"]
    path = RESULTS / "digits_adaptation.json"
    results: dict[str, Any] = json.loads(path.read_text()) if path.exists() else {}
    results = {name: value for name, value in results.items() if name in STEPS}
    for part in parts:
        table: dict[str, Any] = results.setdefault(part, {})
        for method in METHODS[part]:
            for source, target in PAIRS:
                asked, true = digits(target, "test")
                figures = table.setdefault(f"{source} -> {target}", {}).setdefault(method, {})
                for seed in range(len(figures.get("test", [])), SEEDS[part]):
                    (X, y), (Z, truth) = drawn(source, part, seed), drawn(target, part, seed)
                    started = time.perf_counter()
                    model = fitted(method, seed, part, X, y, Z)
                    seconds = time.perf_counter() - started
                    found = {"target": model.score(Z, truth), "test": model.score(list(asked), true)}
                    for name, value in (found | {"seconds": seconds}).items():
                        figures.setdefault(name, []).append(value)
                    print(
                        part, source, target, method, {name: round(v[-1], 4) for name, v in figures.items()}, flush=True
                    )
                    write_results("digits_adaptation", {"steps": STEPS, **results})
        rows = [
            (pair, method, *(f"{scale * np.mean(one[name]):.1f}" for name, scale in _SHOWN), str(len(one["test"])))
            for pair, methods in table.items()
            for method, one in methods.items()
        ]
        print_table(("domains", "method", "target %", "test %", "seconds", "seeds"), rows, title=f"digits, {part}")
    print(path)


_SHOWN = (("target", 100), ("test", 100), ("seconds", 1))


if __name__ == "__main__":
    main()
