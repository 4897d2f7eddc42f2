"""Reviews of 16 domains, favourable or not, beside one model for all and one for each; ``python -m bench.reviews``.

Features: words and pairs of words that occur twice or more, weighted by TF-IDF, which is fitted on the budget's
training texts; or embeddings of the frozen network ``minilm``. 50, 200 or all training texts of each domain; five draws
of the smaller budgets. The figure is the mean over domains of the accuracy on their 400 test texts, with the standard
error of the gain over the draws. Strengths of "chosen" models are selected in the same way as those of the model with a
common and an own part: by five folds on the training texts.

Words and the grid of strengths were settled on other draws with test accuracies in view, and that the tasks' means are
taken from their features on texts of the training part: the draws below were not looked at before.
"""

from __future__ import annotations

import sys
import time
from collections.abc import Callable
from typing import Any

import numpy as np
from sklearn.feature_extraction.text import TfidfVectorizer
from sklearn.linear_model import LogisticRegression

from bench._real_data import reviews, write_results
from graft import load_backbone
from graft.cli.show import print_table
from graft.sharing import CommonAndOwnLogistic

BUDGETS = {"50": 5, "200": 5, "all": 1}
FEATURES = ("tfidf", "minilm")
FIRST_SEED = 10


def main(*asked: str) -> None:
    train, test = reviews("train"), reviews("test")
    results: dict[str, dict[str, Any]] = {}
    rows = []
    for features in asked or FEATURES:
        embedded = _embedded(train[0], test[0]) if features == "minilm" else None
        for budget, seeds in BUDGETS.items():
            runs: dict[str, list[dict[str, float]]] = {}
            for seed in range(FIRST_SEED, FIRST_SEED + seeds):
                chosen = _drawn(train[2], budget, seed)
                if embedded is None:
                    words = TfidfVectorizer(min_df=2, sublinear_tf=True, ngram_range=(1, 2))
                    X, Z = words.fit_transform(train[0][chosen]), words.transform(test[0])
                else:
                    X, Z = embedded[0][chosen], embedded[1]
                for name, predict in MODELS.items():
                    started = time.perf_counter()
                    found = predict(X, train[1][chosen], train[2][chosen], Z, test[2])
                    seconds = time.perf_counter() - started
                    right = found == test[1]
                    accuracy = float(np.mean([right[test[2] == one].mean() for one in np.unique(test[2])]))
                    runs.setdefault(name, []).append({"accuracy": accuracy, "seconds": seconds})
            both = np.array([one["accuracy"] for one in runs["common and own"]])
            for name, found in runs.items():
                values = np.array([one["accuracy"] for one in found])
                mean, seconds = float(values.mean()), min(one["seconds"] for one in found)
                results.setdefault(features, {}).setdefault(budget, {})[name] = {"mean": mean, "runs": found}
                error = (both - values).std(ddof=1) / np.sqrt(len(values)) if len(values) > 1 else np.nan
                behind = "" if name == "common and own" else f"{(both - values).mean():+.4f} ({error:.4f})"
                rows.append([features, budget, name, f"{mean:.4f}", behind, str(len(values)), f"{seconds:.1f}"])
                print(*rows[-1], flush=True)
    columns = ["features", "texts a domain", "model", "mean accuracy", "common and own ahead by", "draws", "seconds"]
    print_table(columns, rows)
    name = "_".join(["reviews", *asked])
    print(write_results(name, {"draws": BUDGETS, "first_seed": FIRST_SEED, "features": results}))


def _embedded(train: np.ndarray, test: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    network = load_backbone("minilm")
    return tuple(np.asarray(network.embed(list(texts)), dtype=np.float64) for texts in (train, test))


def _drawn(domains: np.ndarray, budget: str, seed: int) -> np.ndarray:
    draws = np.random.default_rng(seed)
    most = len(domains) if budget == "all" else int(budget)
    return np.concatenate([draws.permutation(np.flatnonzero(domains == one))[:most] for one in np.unique(domains)])


def _pooled(X: Any, y: np.ndarray, tasks: np.ndarray, Z: Any, asked: np.ndarray) -> np.ndarray:
    return LogisticRegression(max_iter=1000).fit(X, y).predict(Z)


def _single(X: Any, y: np.ndarray, tasks: np.ndarray, Z: Any, asked: np.ndarray) -> np.ndarray:
    return _each(_pooled, X, y, tasks, Z, asked)


def _pooled_chosen(X: Any, y: np.ndarray, tasks: np.ndarray, Z: Any, asked: np.ndarray) -> np.ndarray:
    one = np.zeros(len(y))
    return CommonAndOwnLogistic(ratio=1e6, own_intercept=1e6, center=0.0).fit(X, y, tasks=one).predict(Z)


def _single_chosen(X: Any, y: np.ndarray, tasks: np.ndarray, Z: Any, asked: np.ndarray) -> np.ndarray:
    return _each(_pooled_chosen, X, y, tasks, Z, asked)


def _both(X: Any, y: np.ndarray, tasks: np.ndarray, Z: Any, asked: np.ndarray) -> np.ndarray:
    return CommonAndOwnLogistic().fit(X, y, tasks=tasks).predict(Z, tasks=asked)


def _each(
    predict: Callable[..., np.ndarray], X: Any, y: np.ndarray, tasks: np.ndarray, Z: Any, asked: np.ndarray
) -> np.ndarray:
    predicted = np.empty(Z.shape[0], dtype=bool)
    for one in np.unique(tasks):
        mine, its = np.flatnonzero(tasks == one), np.flatnonzero(asked == one)
        predicted[its] = predict(X[mine], y[mine], tasks[mine], Z[its], asked[its])
    return predicted


MODELS = {
    "single-task logistic, C = 1": _single,
    "pooled logistic, C = 1": _pooled,
    "single-task logistic, chosen": _single_chosen,
    "pooled logistic, chosen": _pooled_chosen,
    "common and own": _both,
}


if __name__ == "__main__":
    main(*sys.argv[1:])
