"""A second fit on the same photos beside the first; ``python -m bench.second_fit``.

Beside it a fit of another head: the features are kept and the head is not. Once on the photos of caltech101 as they are
(300 x 200 pixels), once on 200 of the size that a phone takes (4000 x 3000, the same photos enlarged), where the first
fit is mostly decoding and the second one mostly reading files.
"""

from __future__ import annotations

import tempfile
import time
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from bench._real_data import caltech101, write_results
from graft import FeatureExtraction, load_backbone
from graft.cli.show import print_table

HEADS = ("auto", "logistic", "kernel-ridge", "discriminant")
CAMERA = (4000, 3000)
CAMERA_PHOTOS = 200


def main() -> None:
    paths, labels = caltech101()
    backbone = load_backbone("efficientnet_lite0")
    FeatureExtraction(backbone, store=False).fit(paths[::20], labels[::20])  # warms up the libraries, not the store
    results: dict[str, Any] = {}
    with tempfile.TemporaryDirectory() as folder:
        chosen = np.arange(0, len(paths), len(paths) // CAMERA_PHOTOS)[:CAMERA_PHOTOS]
        large = np.array([_enlarged(Path(paths[row]), Path(folder) / f"{row}.jpg") for row in chosen], dtype=object)
        results["300 x 200 pixels"] = _measure(backbone, paths, labels)
        results["4000 x 3000 pixels"] = _measure(backbone, large, labels[chosen])
    rows = []
    for size, one in results.items():
        for head, r in one["heads"].items():
            figures = (f"{r['first']:.2f}", f"{r['second']:.3f}", f"{r['ratio']:.0f}", f"{r['another_head']:.2f}")
            rows.append((f"{one['photos']}, {size.removesuffix(' pixels').replace(' ', '')}", head, *figures))
    columns = ("photos, pixels", "head", "first s", "second s", "times", "new head s")
    print_table(columns, rows, title="The second fit on the same photos")
    print(write_results("second_fit", results))


def _enlarged(source: Path, target: Path) -> str:
    Image.open(source).convert("RGB").resize(CAMERA, Image.Resampling.BICUBIC).save(target, quality=90)
    return str(target)


def _measure(backbone: Any, paths: np.ndarray, labels: np.ndarray) -> dict[str, Any]:
    heads = {}
    with tempfile.TemporaryDirectory() as store:
        another = {}
        backbone.embed(list(paths), store=store)
        for head in HEADS:
            started = time.perf_counter()
            FeatureExtraction(backbone, head=head, store=store).fit(paths, labels)
            another[head] = time.perf_counter() - started
    for head in HEADS:
        with tempfile.TemporaryDirectory() as store:
            seconds, features = [], []
            for _ in range(4):
                started = time.perf_counter()
                model = FeatureExtraction(backbone, head=head, store=store).fit(paths, labels)
                seconds.append(time.perf_counter() - started)
                features.append(model.seconds_["features"])
        heads[head] = {
            "first": seconds[0],
            "second": min(seconds[1:]),
            "ratio": seconds[0] / min(seconds[1:]),
            "features_ratio": features[0] / min(features[1:]),
            "another_head": another[head],
        }
    return {"photos": len(paths), "heads": heads}


if __name__ == "__main__":
    main()
