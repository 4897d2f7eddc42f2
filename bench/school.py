"""Exam scores of 139 schools, all at once, beside one regression for all and one for each; ``python -m bench.school``.

The published protocol (Argyriou, Evgeniou and Pontil, 2008, section 5.2): ten random splits, 75 % of the pupils of each
school for training; explained variance over all test pupils. All strengths are chosen by leave-one-out on the training
pupils.
"""

from __future__ import annotations

import time
from typing import Any

import numpy as np

from bench._real_data import school, write_results
from graft.cli.show import print_table
from graft.heads import RidgePath
from graft.sharing import CommonAndOwnRidge

SEEDS = 10


def main() -> None:
    features, scores, schools = school()
    runs: dict[str, list[dict[str, Any]]] = {}
    for seed in range(SEEDS):
        train, test = _split(schools, seed)
        for name, fit in (("single-task ridge", _single), ("pooled ridge", _pooled), ("common and own", _both)):
            started = time.perf_counter()
            predicted = fit(features, scores, schools, train, test)
            seconds = time.perf_counter() - started
            error = np.square(scores[test] - predicted).sum()
            explained = 1 - error / np.square(scores[test] - scores[test].mean()).sum()
            runs.setdefault(name, []).append({"explained_variance": float(explained), "seconds": seconds})
    rows, results = [], {}
    for name, found in runs.items():
        values = np.array([one["explained_variance"] for one in found])
        seconds = min(one["seconds"] for one in found)
        results[name] = {"mean": values.mean(), "deviation": values.std(ddof=1), "seconds": seconds, "runs": found}
        rows.append([name, f"{values.mean():.4f}", f"{values.std(ddof=1):.4f}", f"{seconds:.2f}"])
    average = (results["single-task ridge"]["mean"] + results["pooled ridge"]["mean"]) / 2
    rows.append(["average of single-task and pooled", f"{average:.4f}", "", ""])
    print_table(["model", "explained variance", "deviation", "seconds"], rows)
    print(write_results("school", {"seeds": SEEDS, "average_of_baselines": average, "models": results}))


def _split(schools: np.ndarray, seed: int) -> tuple[np.ndarray, np.ndarray]:
    """Return the rows of training and of test pupils."""
    draws, train = np.random.default_rng(seed), []
    for one in np.unique(schools):
        rows = draws.permutation(np.flatnonzero(schools == one))
        train.append(rows[: round(0.75 * len(rows))])
    chosen = np.concatenate(train)
    return chosen, np.setdiff1d(np.arange(len(schools)), chosen)


def _single(
    features: np.ndarray, scores: np.ndarray, schools: np.ndarray, train: np.ndarray, test: np.ndarray
) -> np.ndarray:
    predicted = np.empty(len(schools))
    for one in np.unique(schools):
        mine, asked = train[schools[train] == one], test[schools[test] == one]
        predicted[asked] = RidgePath(scaling="columns").fit(features[mine], scores[mine]).predict(features[asked])
    return predicted[test]


def _pooled(
    features: np.ndarray, scores: np.ndarray, schools: np.ndarray, train: np.ndarray, test: np.ndarray
) -> np.ndarray:
    return RidgePath(scaling="columns").fit(features[train], scores[train]).predict(features[test])


def _both(
    features: np.ndarray, scores: np.ndarray, schools: np.ndarray, train: np.ndarray, test: np.ndarray
) -> np.ndarray:
    model = CommonAndOwnRidge().fit(features[train], scores[train], tasks=schools[train])
    return model.predict(features[test], tasks=schools[test])


if __name__ == "__main__":
    main()
