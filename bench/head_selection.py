"""Choosing C: ten values, five folds, 5,000 sentence embeddings of 77 classes, beside LogisticRegressionCV.

The same features, grid, folds and machine, one after the other; Graft's is repeated and the minimum taken (scikit-learn
runs once: it takes long). Both include the final fit on all examples; Graft's includes the calibration and the
reference for foreign inputs, too. Graft's path ends early once the log loss on held-out examples has risen twice in a
row; the row "whole path" is without that.
"""

from __future__ import annotations

import time
import warnings

import numpy as np

from bench._real_data import banking77, write_results

EXAMPLES, SEED, REPEATS = 5000, 0, 3


def measure(X: np.ndarray, y: np.ndarray, test_X: np.ndarray, test_y: np.ndarray) -> list[dict]:
    """Return one row per way of choosing C."""
    from sklearn.linear_model import LogisticRegressionCV

    from graft.heads.folds import fold_numbers, group_codes, identities
    from graft.heads.logistic_path import STRENGTHS, LogisticPath

    # Graft's folds, handed to scikit-learn as index pairs.
    identity = identities(X, random_state=None)
    fold = fold_numbers(identity, group_codes(identity, None), np.unique(y, return_inverse=True)[1])
    pairs = [(np.flatnonzero(fold != number), np.flatnonzero(fold == number)) for number in range(5)]
    rows = []
    for name, patience in (("graft LogisticPath", 2), ("graft LogisticPath, whole path", None)):
        seconds = []
        for _ in range(REPEATS):
            start = time.perf_counter()
            head = LogisticPath(Cs=STRENGTHS, scaling="none", patience=patience).fit(X, y)
            seconds.append(time.perf_counter() - start)
        chosen = next(row for row in head.selection_["tried"] if row["C"] == head.C_)
        rows.append(
            {
                "name": name,
                "seconds": min(seconds),
                "C": head.C_,
                "chosen_accuracy": chosen["accuracy"],
                "test_accuracy": float(head.score(test_X, test_y)),
                "tried": [(row["C"], row["accuracy"]) for row in head.selection_["tried"]],
            }
        )
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        peer = LogisticRegressionCV(
            Cs=list(STRENGTHS), cv=pairs, max_iter=1000, use_legacy_attributes=False, scoring="accuracy"
        )
        start = time.perf_counter()
        peer.fit(X, y)
        seconds = [time.perf_counter() - start]
    sizes = np.array([len(held) for _, held in pairs])
    accuracies = (np.asarray(peer.scores_).reshape(5, len(STRENGTHS)) * sizes[:, None]).sum(axis=0) / sizes.sum()
    rows.append(
        {
            "name": "scikit-learn LogisticRegressionCV",
            "seconds": seconds[0],
            "C": float(peer.C_),
            "chosen_accuracy": float(accuracies[list(STRENGTHS).index(float(peer.C_))]),
            "test_accuracy": float(peer.score(test_X, test_y)),
            "tried": list(zip(STRENGTHS, accuracies.tolist(), strict=True)),
        }
    )
    return rows


def main() -> None:
    """Print the table and write the results."""
    import graft

    (texts, y), (test_texts, test_y) = banking77("train"), banking77("test")
    backbone = graft.load_backbone("minilm")
    X, test_X = (np.asarray(backbone.embed(part), dtype=np.float32) for part in (texts, test_texts))
    chosen = np.random.default_rng(SEED).permutation(len(X))[:EXAMPLES]
    rows = measure(X[chosen], y[chosen], test_X, test_y)
    peer = rows[-1]
    print(f"{'':34} {'seconds':>8} {'faster':>7} {'C':>9} {'held-out':>9} {'test':>7}")
    for row in rows:
        row["times_faster"] = peer["seconds"] / row["seconds"]
        print(
            f"{row['name']:34} {row['seconds']:8.2f} {row['times_faster']:6.1f}x {row['C']:9.4g} "
            f"{row['chosen_accuracy']:9.4f} {row['test_accuracy']:7.4f}"
        )
    shape = {"examples": EXAMPLES, "features": X.shape[1], "classes": len(np.unique(y)), "folds": 5, "seed": SEED}
    print(f"written to {write_results('head_selection', {**shape, 'rows': rows})}")


if __name__ == "__main__":
    main()
