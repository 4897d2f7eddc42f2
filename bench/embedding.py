"""Embedding 2,000 photos and 5,000 texts: Graft beside the plain loops that users write.

The plain loops: a timm network in float32 and evaluation mode behind a ``DataLoader`` (32 photos, two workers) with
timm's own transform; ``SentenceTransformer.encode`` with its defaults. Both sides have the same weights, are loaded
already, and take turns in one process; the smallest time of the repeats counts. For the plain network alone it is the
sum over its batches of each one's smallest time, which favours the plain side where other work disturbs. Graft's time
for the whole path includes preparing its fast copy of the network; its feature store is off.

Photos: caltech101_20x40 (800) and pacs_34 (952), and the first 248 once more. Texts: 5,000 of banking77's training
questions, drawn with seed 0. Probe: logistic regression (C = 1), 5-fold (photos of caltech101) and 3-fold (texts)
cross-validated accuracy on features of either side.

Run ``python -m bench.embedding``.
"""

from __future__ import annotations

import csv
import json
import os
import platform
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np

DATA = Path(__file__).resolve().parents[2] / "shared" / "data"
RESULT = Path(__file__).parent / "results" / "embedding.json"
REPEATS = 2


def main() -> None:
    """Measure, print one table, write one JSON file."""
    from graft.backbones.torchvision_repair import import_torchvision

    import_torchvision()
    os.environ.setdefault("TOKENIZERS_PARALLELISM", "true")
    rows = [*photos(), *texts()]
    widths = (34, 12, 12, 8, 12, 12, 16, 16)
    heads = ("work", "plain /s", "graft /s", "ratio", "mean cosine", "min cosine", "probe plain", "probe graft")
    print("".join(head.ljust(width) for head, width in zip(heads, widths, strict=True)))
    for row in rows:
        cells = (
            row["work"],
            f"{row['plain_per_second']:.0f}",
            f"{row['graft_per_second']:.0f}",
            f"{row['ratio']:.1f}",
            f"{row['mean_cosine']:.5f}",
            f"{row['min_cosine']:.5f}",
            f"{100 * row['probe_plain']:.2f} %",
            f"{100 * row['probe_graft']:.2f} %",
        )
        print("".join(cell.ljust(width) for cell, width in zip(cells, widths, strict=True)))
    RESULT.parent.mkdir(exist_ok=True)
    facts = {"rows": rows, "repeats": REPEATS, "machine": machine()}
    RESULT.write_text(json.dumps(facts, indent=1) + "\n", encoding="utf-8")


def machine() -> dict[str, Any]:
    """Return what the figures depend on."""
    import timm
    import torch
    import transformers

    from graft import _runtime

    return {
        "cores": _runtime.cores(),
        "arithmetic": _runtime.processor(),
        "bfloat16": _runtime.bfloat16_is_fast(torch.device("cpu")),
        "python": platform.python_version(),
        "timm": timm.__version__,
        "transformers": transformers.__version__,
        "load_average": os.getloadavg()[0] if hasattr(os, "getloadavg") else None,
    }


def photos() -> list[dict[str, Any]]:
    """Photos with EfficientNet-Lite0."""
    import torch

    from graft.backbones import load_backbone
    from graft.backbones.engine import Engine

    found = [*sorted(DATA.glob("caltech101_20x40/*/*.jpg")), *sorted(DATA.glob("pacs_34/*/*/*.*"))]
    paths = (found + found)[:2000]
    backbone = load_backbone("efficientnet_lite0", device="cpu")
    network, transform = _plain_photo_network(backbone)

    def graft_whole() -> np.ndarray:
        backbone.faster.clear()
        return backbone.embed(paths, store=False, progress=False)

    items = backbone.read(paths)
    module = Engine(backbone, paths, "auto", None).module
    batches = [backbone.collate(items[at : at + 8]) for at in range(0, len(items), 8)]
    plain_batches = [
        torch.stack([transform.final(items[row]) for row in range(at, min(at + 32, len(items)))])
        for at in range(0, len(items), 32)
    ]

    def plain_network() -> tuple[np.ndarray, list[float]]:
        with torch.inference_mode():
            return _timed(lambda batch: network(batch).numpy(), plain_batches)

    def plain_whole() -> tuple[np.ndarray, list[float]]:
        return _timed(lambda loop: loop(), [loader_loop])

    loader_loop = _loader_loop(network, transform, paths)
    labels = np.array([path.parent.name for path in paths[:800]])
    return [
        _row("photos, the network alone", plain_network, lambda: _lanes(module, batches), len(paths), labels, 5),
        _row("photos, the whole path from files", plain_whole, graft_whole, len(paths), labels, 5),
    ]


class PhotoTransform:
    """timm's evaluation transform, and its last step alone for photos that are decoded and cut already."""

    def __init__(self, plan: Any) -> None:
        import torch
        from timm.data import create_transform

        self.whole = create_transform(
            (3, *plan.size), interpolation=plan.interpolation, mean=plan.mean, std=plan.std, crop_pct=plan.crop
        )
        self.mean = torch.tensor(plan.mean).reshape(3, 1, 1)
        self.std = torch.tensor(plan.std).reshape(3, 1, 1)

    def final(self, pixels: Any) -> Any:
        """Return normalised pixels, contiguous as a plain loop has them."""
        return ((pixels.float() / 255 - self.mean) / self.std).contiguous()


class PhotoFiles:
    """The data set of a plain loop."""

    def __init__(self, paths: list[Path], transform: PhotoTransform) -> None:
        self.paths, self.transform = paths, transform

    def __len__(self) -> int:
        return len(self.paths)

    def __getitem__(self, row: int) -> Any:
        from PIL import Image

        with Image.open(self.paths[row]) as image:
            return self.transform.whole(image.convert("RGB"))


def _plain_photo_network(backbone: Any) -> tuple[Any, PhotoTransform]:
    import timm

    network = timm.create_model("tf_efficientnet_lite0", num_classes=0).eval()
    network.load_state_dict(backbone.module.network.state_dict())
    return network, PhotoTransform(backbone.preprocessing)


def _loader_loop(network: Any, transform: PhotoTransform, paths: list[Path]) -> Callable[[], np.ndarray]:
    import torch
    from torch.utils.data import DataLoader

    def loop() -> np.ndarray:
        loader: Any = DataLoader(PhotoFiles(paths, transform), batch_size=32, num_workers=2)  # type: ignore[arg-type]
        features = []
        with torch.no_grad():
            for batch in loader:
                features.append(network(batch).numpy())
        return np.concatenate(features)

    return loop


def texts() -> list[dict[str, Any]]:
    """Texts with MiniLM."""
    import torch
    from sentence_transformers import SentenceTransformer

    from graft.backbones import load_backbone
    from graft.backbones.catalogue import OFFLINE
    from graft.backbones.engine import Engine

    with (DATA / "banking77" / "train.csv").open(encoding="utf-8", newline="") as stream:
        table = list(csv.DictReader(stream))
    chosen = np.random.default_rng(0).permutation(len(table))[:5000]
    sentences = [table[row]["text"] for row in chosen]
    labels = np.array([table[row]["category"] for row in chosen])
    plain = SentenceTransformer(str(OFFLINE["minilm"].verified_path().parent), device="cpu")
    backbone = load_backbone("minilm", device="cpu")

    # As `encode` forms its batches: the longest first, 32 at a time.
    order = np.argsort([-len(text) for text in sentences], kind="stable")
    encoded = [plain.preprocess([sentences[row] for row in order[at : at + 32]]) for at in range(0, 5000, 32)]

    def plain_network() -> tuple[np.ndarray, list[float]]:
        with torch.no_grad():
            parts, seconds = _timed(lambda batch: plain.forward(dict(batch))["sentence_embedding"].numpy(), encoded)
        features = np.empty((len(sentences), 384), np.float32)
        features[order] = parts
        return features, seconds

    items = backbone.read(sentences)
    module = Engine(backbone, sentences, "auto", None).module
    by_length = sorted(range(len(items)), key=lambda row: -len(items[row]))
    groups: list[list[int]] = [[]]
    for row in by_length:
        if groups[-1] and (len(groups[-1]) + 1) * len(items[groups[-1][0]]) > 1024:
            groups.append([])
        groups[-1].append(row)
    batches = [backbone.collate([items[row] for row in group]) for group in groups]

    def graft_network() -> np.ndarray:
        features = np.empty((len(sentences), 384), np.float32)
        features[np.concatenate(groups)] = _lanes(module, batches)
        return features

    def graft_whole() -> np.ndarray:
        backbone.faster.clear()
        return backbone.embed(sentences, store=False, progress=False)

    def plain_whole() -> tuple[np.ndarray, list[float]]:
        return _timed(lambda whole: plain.encode(whole, show_progress_bar=False), [sentences])

    return [
        _row("texts, the network alone", plain_network, graft_network, len(sentences), labels, 3),
        _row("texts, the whole path", plain_whole, graft_whole, len(sentences), labels, 3),
    ]


def _lanes(module: Any, batches: list[Any]) -> np.ndarray:
    """Run the network alone as Graft runs it: a lane for each core."""
    import torch

    from graft import _runtime

    def compute(batch: Any) -> np.ndarray:
        with torch.inference_mode():
            return module(batch).float().numpy()

    with (
        _runtime.threads_per_operation(1),
        ThreadPoolExecutor(_runtime.cores(), "lane", torch.set_num_threads, (1,)) as pool,
    ):
        return np.concatenate(list(pool.map(compute, batches)))


def _timed(compute: Callable[[Any], np.ndarray], batches: list[Any]) -> tuple[np.ndarray, list[float]]:
    """Return all features, and the seconds that each batch took."""
    features, seconds = [], []
    for batch in batches:
        started = time.perf_counter()
        features.append(compute(batch))
        seconds.append(time.perf_counter() - started)
    return np.concatenate(features), seconds


def _row(
    work: str,
    plain: Callable[[], tuple[np.ndarray, list[float]]],
    ours: Callable[[], np.ndarray],
    count: int,
    labels: np.ndarray,
    folds: int,
) -> dict[str, Any]:
    """Time both sides in turn and compare their features."""
    plain_seconds, graft_seconds = [], []
    one = other = np.empty((0, 0))
    for _ in range(REPEATS):
        started = time.perf_counter()
        other = ours()
        graft_seconds.append(time.perf_counter() - started)
        one, seconds = plain()
        plain_seconds.append(seconds)
    best_plain, best_graft = float(np.min(plain_seconds, axis=0).sum()), min(graft_seconds)
    cosine = (one * other).sum(1) / np.linalg.norm(one, axis=1) / np.linalg.norm(other, axis=1)
    return {
        "work": work,
        "inputs": count,
        "plain_per_second": count / best_plain,
        "graft_per_second": count / best_graft,
        "ratio": best_plain / best_graft,
        "plain_seconds": [sum(seconds) for seconds in plain_seconds],
        "graft_seconds": graft_seconds,
        "mean_cosine": float(cosine.mean()),
        "min_cosine": float(cosine.min()),
        "probe_plain": _probe(one[: len(labels)], labels, folds),
        "probe_graft": _probe(other[: len(labels)], labels, folds),
    }


def _probe(features: np.ndarray, labels: np.ndarray, folds: int) -> float:
    from sklearn.linear_model import LogisticRegression
    from sklearn.model_selection import StratifiedKFold, cross_val_score

    split = StratifiedKFold(folds, shuffle=True, random_state=0)
    return float(cross_val_score(LogisticRegression(C=1.0, max_iter=500), features, labels, cv=split).mean())


if __name__ == "__main__":
    main()
