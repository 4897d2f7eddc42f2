"""Domain adaptation beside skada, adapt and densratio on the same arrays; ``python -m bench.adaptation_speed``.

n_source = n_target = 2,000, 256 features, 10 classes whose means are moved and whose shares differ in the target. Each
row is one method, ours and a peer's, with the same centres and grids where both have them; the seconds are the least of
several runs; the accuracy is that of a logistic regression on the source with the weights. Peers are imported if they
are there (``PYTHONPATH``); those that are not are named and left out.

``python -m bench.adaptation_speed auto`` measures what ``method="auto"`` takes on the same arrays.
"""

from __future__ import annotations

import importlib
import os
import sys
import time
import warnings
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
from sklearn.linear_model import LogisticRegression

from bench._real_data import write_results
from graft import Domain, DomainAdaptation
from graft.cli.show import print_table
from graft.importance import kliep, kmm, ulsif

ROWS, COLUMNS, CLASSES = 2000, 256, 10
REPEATS = 9
LONG_ENOUGH = 15.0  # seconds: what has taken as long is not repeated


@dataclass(frozen=True)
class Problem:
    """A labelled source and a target whose labels only judge."""

    source: np.ndarray
    labels: np.ndarray
    target: np.ndarray
    target_labels: np.ndarray


def problem(seed: int = 0) -> Problem:
    """Return Gaussian classes; the target's are moved along one direction, its shares are uneven."""
    draws = np.random.default_rng(seed)
    means = 0.1 * draws.normal(size=(CLASSES, COLUMNS))
    move = draws.normal(size=COLUMNS)
    shares = np.linspace(1, 4, CLASSES)
    labels = draws.integers(0, CLASSES, size=ROWS)
    target_labels = draws.choice(CLASSES, p=shares / shares.sum(), size=ROWS)
    source = means[labels] + draws.normal(size=(ROWS, COLUMNS))
    target = means[target_labels] + draws.normal(size=(ROWS, COLUMNS)) + 1.5 * move / np.linalg.norm(move)
    return Problem(source, labels, target, target_labels)


def accuracy(data: Problem, weight: np.ndarray) -> float:
    """Return the accuracy on the target of a logistic regression on the weighted source."""
    model = LogisticRegression(C=0.01, max_iter=200).fit(data.source, data.labels, sample_weight=weight)
    return float(model.score(data.target, data.target_labels))


def _skada(name: str, **options: Any) -> Callable[[Problem], np.ndarray]:
    adapter = getattr(importlib.import_module("skada"), name)

    def estimate(data: Problem) -> np.ndarray:
        X = np.vstack([data.source, data.target])
        domain = np.r_[np.ones(ROWS), -np.ones(ROWS)]
        fitted = adapter(**options).fit(X, None, sample_domain=domain)
        return np.asarray(fitted.compute_weights(X, sample_domain=domain))[:ROWS]

    return estimate


def _adapt(name: str, **options: Any) -> Callable[[Problem], np.ndarray]:
    method = getattr(importlib.import_module("adapt.instance_based"), name)

    def estimate(data: Problem) -> np.ndarray:
        model = method(LogisticRegression(), Xt=data.target, verbose=0, random_state=0, **options)
        return np.asarray(model.fit_weights(data.source, data.target)).ravel()

    return estimate


def _densratio(method: str) -> Callable[[Problem], np.ndarray]:
    densratio = importlib.import_module("densratio").densratio

    def estimate(data: Problem) -> np.ndarray:
        np.random.seed(0)
        found = densratio(data.target, data.source, method=method, verbose=False)
        return np.asarray(found.compute_density_ratio(data.source)).ravel()

    return estimate


def contests(missing: list[str]) -> list[tuple[str, dict[str, Callable[[Problem], np.ndarray]]]]:
    """Return for each method who takes part, ours first; peers that cannot be imported are added to `missing`."""
    gamma = 1 / COLUMNS / 2
    gammas = [gamma * factor for factor in (1 / 1.5**2, 1, 1 / 0.6**2, 1 / 0.4**2, 1 / 0.25**2)]
    wanted: list[tuple[str, Callable[[], dict[str, Callable[[Problem], np.ndarray]]]]] = [
        ("kmm", lambda: {"graft": lambda data: kmm(data.source, data.target).sample_weight}),
        ("kmm", lambda: {"skada": _skada("KMMReweightAdapter", gamma=gamma)}),
        ("kmm", lambda: {"adapt": _adapt("KMM", kernel="rbf", gamma=gamma)}),
        ("kliep", lambda: {"graft": lambda data: kliep(data.source, data.target, centers=100).sample_weight}),
        ("kliep", lambda: {"skada": _skada("KLIEPReweightAdapter", gamma=gammas, n_centers=100, random_state=0)}),
        ("kliep", lambda: {"adapt": _adapt("KLIEP", kernel="rbf", gamma=gammas, max_centers=100)}),
        ("ulsif", lambda: {"graft": lambda data: ulsif(data.source, data.target, centers=100).sample_weight}),
        ("ulsif", lambda: {"adapt": _adapt("ULSIF", kernel="rbf", gamma=gammas, max_centers=100)}),
        ("ulsif", lambda: {"densratio": _densratio("uLSIF")}),
    ]
    found: dict[str, dict[str, Callable[[Problem], np.ndarray]]] = {}
    for name, make in wanted:
        try:
            found.setdefault(name, {}).update(make())
        except ImportError as error:
            missing.append(f"{name}: {error}")
    return list(found.items())


def main() -> None:
    missing: list[str] = []
    data = problem()
    base = accuracy(data, np.ones(ROWS))
    rows, results = [], {}
    for name, entrants in contests(missing):
        seconds: dict[str, list[float]] = {who: [] for who in entrants}
        found: dict[str, np.ndarray] = {}
        with warnings.catch_warnings(), np.errstate(all="ignore"):
            warnings.simplefilter("ignore")
            # By turns, so that whatever else the machine does disturbs all alike.
            for _ in range(REPEATS):
                for who, estimate in entrants.items():
                    if sum(seconds[who]) > LONG_ENOUGH:
                        continue
                    started = time.perf_counter()
                    found[who] = estimate(data)
                    seconds[who].append(time.perf_counter() - started)
        ours = min(seconds["graft"])
        for who, weight in found.items():
            least = min(seconds[who])
            weight = np.maximum(np.nan_to_num(weight), 0)
            score = accuracy(data, weight / weight.mean()) if weight.sum() > 0 else float("nan")
            results[f"{name}, {who}"] = {"seconds": least, "accuracy": score, "times_ours": least / ours}
            rows.append((name, who, f"{least:.3f}", f"{least / ours:.1f}", f"{score:.4f}"))
    columns = ("method", "library", "seconds", "times ours", "accuracy")
    print_table(columns, rows, title=f"{ROWS} + {ROWS} rows, {COLUMNS} features; source only {base:.4f}")
    for line in missing:
        print(f"left out: {line}", file=sys.stderr)
    load = os.getloadavg()[0]
    figures = {"source_only": base, "methods": results, "missing": missing, "load": load}
    print(write_results("adaptation_speed", figures))


def whole_tournament() -> None:
    """Measure what ``method="auto"`` takes on the same arrays, candidate by candidate."""
    data = problem()
    started = time.perf_counter()
    model = DomainAdaptation(budget=None).fit(data.source, data.labels, target=Domain(data.target))
    seconds = time.perf_counter() - started
    told = model.adaptation_["tournament"]
    rows = [(name, f"{each:.1f}") for name, each in told["seconds"].items()]
    print_table(("candidate", "seconds"), [*rows, ("all, with scores and tests", f"{seconds:.1f}")], title="auto")
    right = float(np.mean(model.predict(data.target) == data.target_labels))
    load = os.getloadavg()[0]
    figures = {"seconds": seconds, "candidates": told["seconds"], "chosen": told["chosen"], "accuracy": right}
    print(write_results("adaptation_tournament", figures | {"load": load}))


if __name__ == "__main__":
    if sys.argv[1:] == ["auto"]:
        whole_tournament()
    else:
        main()
