"""A second fit on the same photos beside the first; ``python -m bench.second_fit``."""

from __future__ import annotations

import tempfile
import time

import numpy as np

from bench._real_data import caltech101, write_results
from graft import FeatureExtraction, load_backbone
from graft.cli.show import print_table

HEADS = ("auto", "logistic", "discriminant", "kernel-ridge")


def main() -> None:
    paths, labels = caltech101()
    backbone = load_backbone("efficientnet_lite0")
    FeatureExtraction(backbone, store=False).fit(paths[::20], labels[::20])  # warms up the libraries, not the store
    results = {}
    for head in HEADS:
        with tempfile.TemporaryDirectory() as store:
            seconds = []
            for _ in range(4):
                started = time.perf_counter()
                FeatureExtraction(backbone, head=head, store=store).fit(paths, labels)
                seconds.append(time.perf_counter() - started)
        results[head] = {
            "first": seconds[0],
            "second": float(np.min(seconds[1:])),
            "ratio": seconds[0] / min(seconds[1:]),
        }
    rows = [(h, f"{r['first']:.2f}", f"{r['second']:.3f}", f"{r['ratio']:.0f}") for h, r in results.items()]
    print_table(("head", "first fit s", "second fit s", "times faster"), rows, title=f"{len(paths)} photos")
    print(write_results("second_fit", {"photos": len(paths), "heads": results}))


if __name__ == "__main__":
    main()
