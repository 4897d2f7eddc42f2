"""How well estimates order pretrained networks before one is trained; ``python -m bench.ranking``.

EfficientNet-Lite0 cut at several depths, and copies of it whose weights were disturbed by more and more noise, on
caltech101_20x40. The truth is the test accuracy of each after fine-tuning; the figure is the rank correlation of each
estimate with it. ``python -m bench.ranking 2`` uses two seeds instead of one.
"""

from __future__ import annotations

import sys
import tempfile
from typing import Any

import numpy as np

from bench._real_data import caltech101, few_shot, write_results

PIXELS, TRAIN, TEST = 64, 8, 8  # examples of each class
DEPTHS = ("blocks.0", "blocks.1", "blocks.2", "blocks.4", None)
NOISES = (0.1, 0.3, 0.6, 1.0)  # of each tensor's own standard deviation
EPOCHS = 3


def disturbed(backbone: Any, noise: float) -> Any:
    """Return a copy whose weights are w + noise * std(w) * e with normal e; statistics of BatchNorm stay."""
    import torch

    draw = torch.Generator().manual_seed(0)
    module = backbone.copy_module()
    with torch.no_grad():
        for weight in module.parameters():
            if weight.ndim > 1:
                weight += noise * weight.std() * torch.randn(weight.shape, generator=draw)
    return backbone.with_module(module)


def networks() -> dict[str, Any]:
    """Return what is ranked."""
    from graft import load_backbone

    whole = load_backbone("efficientnet_lite0", image_size=PIXELS)
    found = {f"cut at {depth}" if depth else "whole": whole.with_output(layer=depth) for depth in DEPTHS}
    return {**found, **{f"noise {noise}": disturbed(whole, noise) for noise in NOISES}}


def main(seeds: int) -> None:
    """Rank, fine-tune, correlate, print and write."""
    from scipy.stats import kendalltau, spearmanr

    from graft import FineTuning, rank_backbones

    inputs, labels = caltech101()
    rows: list[dict[str, Any]] = []
    for seed in range(seeds):
        learnt, rest = few_shot(labels, TRAIN, seed)
        chosen, _ = few_shot(labels[rest], TEST, seed)
        tested = rest[chosen]
        candidates = networks()
        with tempfile.TemporaryDirectory() as store:
            ranking = rank_backbones(
                inputs[learnt], labels[learnt], candidates, shortlist=len(candidates), store=store, random_state=seed
            )
            for row in ranking.rows:
                model = FineTuning(candidates[row.backbone], epochs=EPOCHS, store=store, random_state=seed)
                model.fit(inputs[learnt], labels[learnt])
                accuracy = model.score(inputs[tested], labels[tested])
                assert row.score is not None
                estimates = {**row.estimates, "mean rank": -row.mean_rank, "probe": row.score.value}
                rows.append({"seed": seed, "network": row.backbone, "accuracy": accuracy, **estimates})
                print(f"seed {seed}  {row.backbone:16} fine-tuned {100 * accuracy:5.1f} %", flush=True)
    names = [name for name in rows[0] if name not in ("seed", "network", "accuracy")]
    table: dict[str, dict[str, float]] = {}
    for name in names:
        pairs = [
            (
                [row[name] for row in rows if row["seed"] == seed],
                [row["accuracy"] for row in rows if row["seed"] == seed],
            )
            for seed in range(seeds)
        ]
        table[name] = {
            "spearman": float(np.mean([spearmanr(*pair).statistic for pair in pairs])),
            "kendall": float(np.mean([kendalltau(*pair).statistic for pair in pairs])),
        }
        print(f"{name:10} Spearman {table[name]['spearman']:+.2f}  Kendall {table[name]['kendall']:+.2f}")
    settings = {"pixels": PIXELS, "train": TRAIN, "test": TEST, "epochs": EPOCHS, "seeds": seeds}
    write_results("ranking", {"settings": settings, "networks": rows, "correlation": table})


if __name__ == "__main__":
    main(int(sys.argv[1]) if len(sys.argv) > 1 else 1)
