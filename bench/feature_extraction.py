"""Quality of feature extraction with few labels, beside scikit-learn's LogisticRegression on the same features.

``python -m bench.feature_extraction``; 5 seeds, the labelled examples of each class drawn from the seed.
"""

from __future__ import annotations

from collections import Counter
from typing import Any

import numpy as np
from sklearn.linear_model import LogisticRegression

from bench._real_data import banking77, caltech101, few_shot, trec, write_results
from graft import FeatureExtraction, load_backbone
from graft.cli.show import print_table

SEEDS = range(5)


def compare(
    name: str, backbone: Any, train: tuple[np.ndarray, np.ndarray], draws: list[np.ndarray], tests: list[Any]
) -> dict[str, Any]:
    """Fit Graft and LogisticRegression(C=1) on each draw of `train`; `tests` holds (inputs, labels) for each."""
    inputs, labels = train
    ours, reference, heads, seconds = [], [], Counter(), []
    for seed, (rows, (test_inputs, test_labels)) in enumerate(zip(draws, tests, strict=True)):
        known, asked = backbone.embed(inputs[rows]), backbone.embed(test_inputs)
        # On the features themselves, without the store: the seconds are those of a fit, never of a head that was kept.
        model = FeatureExtraction(store=False, random_state=seed).fit(known, labels[rows])
        ours.append(model.score(asked, test_labels))
        heads["+".join(model.head_.selection_["chosen"])] += 1
        seconds.append(model.seconds_["training"])
        peer = LogisticRegression(C=1.0, max_iter=1000).fit(known, labels[rows])
        reference.append(peer.score(asked, test_labels))
    gain = np.array(ours) - reference
    return {
        "data": name,
        "examples": len(draws[0]),
        "graft": float(np.mean(ours)),
        "graft_sd": float(np.std(ours, ddof=1)),
        "logistic_regression": float(np.mean(reference)),
        "gain_low": float(gain.mean() - 2.776 * gain.std(ddof=1) / np.sqrt(len(gain))),  # t, 4 degrees of freedom
        "gain_high": float(gain.mean() + 2.776 * gain.std(ddof=1) / np.sqrt(len(gain))),
        "heads": dict(heads),
        "head_seconds": float(np.mean(seconds)),
    }


def main() -> None:
    texts, photos = load_backbone("minilm"), load_backbone("efficientnet_lite0")
    results = []
    train, test = banking77("train"), banking77("test")
    for k in (5, 8, 16):
        draws = [few_shot(train[1], k, seed)[0] for seed in SEEDS]
        results.append(compare(f"banking77, {k} per class", texts, train, draws, [test] * len(draws)))
    train, test = trec("train"), trec("test")
    draws = [np.random.default_rng(seed).permutation(len(train[1]))[:500] for seed in SEEDS]
    results.append(compare("TREC, 500 questions", texts, train, draws, [test] * len(draws)))
    whole = caltech101()
    for k in (5, 20):
        pairs = [few_shot(whole[1], k, seed) for seed in SEEDS]
        tests = [(whole[0][rest], whole[1][rest]) for _, rest in pairs]
        results.append(compare(f"caltech101, {k} per class", photos, whole, [rows for rows, _ in pairs], tests))
    rows = [
        (
            row["data"],
            f"{100 * row['graft']:.2f} ± {100 * row['graft_sd']:.2f}",
            f"{100 * row['logistic_regression']:.2f}",
            f"{100 * row['gain_low']:+.2f} to {100 * row['gain_high']:+.2f}",
            f"{row['head_seconds']:.2f}",
        )
        for row in results
    ]
    print_table(("data", "graft %", "LR(C=1) %", "gain, 95 %", "head s"), rows)
    print(write_results("feature_extraction", {"seeds": len(SEEDS), "rows": results}))


if __name__ == "__main__":
    main()
