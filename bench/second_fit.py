"""A second fit on the same photos beside the first; ``python -m bench.second_fit``.

Three kinds of second fit: the same call again; the same where every file is read and hashed again, as another process
has to; and another head, where the features are kept and the head is not. Once on the photos of caltech101 as they are
(small: 300 x 200 pixels), once on 200 as large as a phone takes them (large: 4000 x 3000, the same photos enlarged).
"cpu" compares the seconds of the processor, which other work on the machine hardly changes.
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
from graft.data import content

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
        results["small"] = _measure(backbone, paths, labels)
        results["large"] = _measure(backbone, large, labels[chosen])
    rows = []
    for size, one in results.items():
        for head, r in one["heads"].items():
            figures = (f"{r['first']:.2f}", f"{r['second']:.3f}", f"{r['another_head']:.2f}")
            ratios = (f"{r['ratio']:.0f}", f"{r['processor_ratio']:.0f}", f"{r['ratio_hashed']:.0f}")
            rows.append((f"{one['photos']}, {size}", head, *figures, *ratios))
    columns = ("photos", "head", "first s", "again s", "new head s", "times", "cpu", "hashed")
    print_table(columns, rows, title="The second fit on the same photos")
    print(write_results("second_fit", results))


def _enlarged(source: Path, target: Path) -> str:
    Image.open(source).convert("RGB").resize(CAMERA, Image.Resampling.BICUBIC).save(target, quality=90)
    return str(target)


def _forget_files() -> None:
    """Let every file be read and hashed again, as in a new process."""
    content._remembered.clear()


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

            def fit(store: str = store, head: str = head) -> tuple[float, float]:
                """Return the seconds of a fit, and those of the processor, of all cores together."""
                started, worked = time.perf_counter(), time.process_time()
                FeatureExtraction("efficientnet_lite0", head=head, store=store).fit(paths, labels)
                return time.perf_counter() - started, time.process_time() - worked

            _forget_files()
            (first, first_work), again = fit(), [fit() for _ in range(5)]
            hashed = []
            for _ in range(5):
                _forget_files()
                hashed.append(fit()[0])
        second, second_work = (min(figures) for figures in zip(*again, strict=True))
        heads[head] = {
            "first": first,
            "second": second,
            "ratio": first / second,
            "processor_ratio": first_work / second_work,
            "second_hashed": min(hashed),
            "ratio_hashed": first / min(hashed),
            "another_head": another[head],
        }
    return {"photos": len(paths), "heads": heads}


if __name__ == "__main__":
    main()
