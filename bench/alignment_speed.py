"""Transfer component analysis beside skada on the same arrays; ``python -m bench.alignment_speed``.

n_source = n_target = 2,000, 256 features, 10 classes, 50 components. The target is moved along the difference of two
class means, so that a classifier of the source takes one class for another. The seconds are wall-clock seconds, the
processor seconds those of this process, which other work on the machine disturbs less; the accuracy is that of a
logistic regression on the standardised components of the source. skada is imported if it is there (``PYTHONPATH``); it
runs once, ours three times, of which the fastest counts.
"""

from __future__ import annotations

import importlib
import sys
import time
import warnings
from collections.abc import Callable
from typing import Any

import numpy as np
from sklearn.linear_model import LogisticRegression
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler

from bench._real_data import write_results
from graft.alignment import TransferComponentAnalysis
from graft.cli.show import print_table

ROWS, COLUMNS, CLASSES, COMPONENTS = 2000, 256, 10, 50

Mapped = tuple[np.ndarray, np.ndarray]


def problem(seed: int = 0) -> tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray]:
    """Return (source, labels, target, target labels)."""
    draws = np.random.default_rng(seed)
    means = 0.25 * draws.normal(size=(CLASSES, COLUMNS))
    labels, truth = (draws.integers(0, CLASSES, size=ROWS) for _ in range(2))
    source, target = (means[each] + draws.normal(size=(ROWS, COLUMNS)) for each in (labels, truth))
    return source, labels, target + 1.5 * (means[1] - means[0]), truth


def ours(kernel: str) -> Callable[[np.ndarray, np.ndarray], Mapped]:
    """Return our analysis; for "rbf" with the peer's default width."""

    def map_both(source: np.ndarray, target: np.ndarray) -> Mapped:
        gamma = 1 / COLUMNS if kernel == "rbf" else None
        method = TransferComponentAnalysis(n_components=COMPONENTS, kernel=kernel, gamma=gamma)
        method.fit(source, target=target)
        return method.transform_source(source), method.transform(target)

    return map_both


def skada(kernel: str) -> Callable[[np.ndarray, np.ndarray], Mapped]:
    """Return the peer's analysis."""
    adapter = importlib.import_module("skada").TransferComponentAnalysisAdapter

    def map_both(source: np.ndarray, target: np.ndarray) -> Mapped:
        domain = np.r_[np.ones(len(source)), -np.ones(len(target))]
        both = adapter(kernel=kernel, n_components=COMPONENTS).fit_transform(
            np.concatenate([source, target]), sample_domain=domain
        )
        return both[: len(source)], both[len(source) :]

    return map_both


def measure(
    map_both: Callable[[np.ndarray, np.ndarray], Mapped], data: tuple[np.ndarray, ...], repeats: int
) -> dict[str, float]:
    """Return seconds, processor seconds (the least of `repeats` runs) and accuracy."""
    source, labels, target, truth = data
    wall, processor = [], []
    mapped = (source, target)
    for _ in range(repeats):
        started, used = time.perf_counter(), time.process_time()
        mapped = map_both(source, target)
        wall.append(time.perf_counter() - started)
        processor.append(time.process_time() - used)
    classifier = make_pipeline(StandardScaler(), LogisticRegression(C=0.01, max_iter=500)).fit(mapped[0], labels)
    return {
        "seconds": min(wall),
        "processor_seconds": min(processor),
        "accuracy": float(classifier.score(mapped[1], truth)),
    }


def main() -> None:
    data = problem()
    entrants: list[tuple[str, Callable[[np.ndarray, np.ndarray], Mapped], int]] = [
        ("source only", lambda source, target: (source, target), 1),
        *((f"graft, {kernel}", ours(kernel), 3) for kernel in ("primal", "linear", "rbf")),
    ]
    try:
        entrants += [(f"skada, {kernel}", skada(kernel), 1) for kernel in ("linear", "rbf")]
    except ImportError as error:
        print(f"left out: {error}", file=sys.stderr)
    results: dict[str, Any] = {}
    for name, map_both, repeats in entrants:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            results[name] = measure(map_both, data, repeats)
        print(name, results[name], file=sys.stderr, flush=True)
    rows = [(name, *(f"{one[key]:.3f}" for key in one)) for name, one in results.items()]
    columns = ("method", "seconds", "processor seconds", "accuracy")
    print_table(columns, rows, title=f"TCA({COMPONENTS}), {ROWS} + {ROWS} rows, {COLUMNS} features")
    print(write_results("alignment_speed", {"methods": results}))


if __name__ == "__main__":
    main()
