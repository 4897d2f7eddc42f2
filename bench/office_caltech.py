"""Closed-form domain adaptation on Office and Caltech, 12 pairs of domains; ``python -m bench.office_caltech``.

The protocol of the published tables: histograms of 800 visual words, divided by their sum, each column of a domain to
mean 0 and deviation 1, all source labels, no target label, and the nearest neighbour as the classifier (for CORAL the
published support vector machine). Long et al. (2013) is the paper of JDA, Sun et al. (2016) of CORAL, Wang et al.
(2018) of MEDA; the rows of the last one's Table 2 are those that later papers quote.

Every method to be measured is a `Row`. The numbers of components are those of the papers, which looked at the target's
labels to choose them, and their neighbours; the rows of all of them are shown so that nobody has to believe one.
"""

from __future__ import annotations

import json
import sys
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from sklearn.model_selection import StratifiedKFold
from sklearn.neighbors import KNeighborsClassifier
from sklearn.preprocessing import StandardScaler, normalize
from sklearn.svm import SVC

from bench._real_data import RESULTS, office_caltech10, write_results
from graft import Domain, DomainAdaptation
from graft.alignment import (
    CORAL,
    MEDA,
    Alignment,
    GeodesicFlowKernel,
    JointDistributionAdaptation,
    LinearTransport,
    OptimalTransport,
    SubspaceAlignment,
    TransferComponentAnalysis,
)
from graft.cli.show import print_table

FILES = {"C": "Caltech10", "A": "amazon", "W": "webcam", "D": "dslr"}
PAIRS = ("C>A", "C>W", "C>D", "A>C", "A>W", "A>D", "W>C", "W>A", "W>D", "D>C", "D>A", "D>W")
# Accuracies in percent, in the order of PAIRS.
LONG_TCA = (38.2, 38.6, 41.4, 37.8, 37.6, 33.1, 29.3, 30.1, 87.3, 31.7, 32.2, 86.1)
LONG_JDA = (44.8, 41.7, 45.2, 39.4, 38.0, 39.5, 31.2, 32.8, 89.2, 31.5, 33.1, 89.5)
WANG_SOURCE = (23.7, 25.8, 25.5, 26.0, 29.8, 25.5, 19.9, 23.0, 59.2, 26.3, 28.5, 63.4)
WANG_TCA = (45.6, 39.3, 45.9, 42.0, 40.0, 35.7, 31.5, 30.5, 91.1, 33.0, 32.8, 87.5)
WANG_JDA = (43.1, 39.3, 49.0, 40.9, 38.0, 42.0, 33.0, 29.8, 92.4, 31.2, 33.4, 89.2)
SUN_CORAL = (52.1, 46.4, 45.9, 45.1, 44.4, 39.5, 33.7, 36.0, 86.6, 33.8, 37.7, 84.7)
# What LIBSVM was given in the code of Sun et al.
COSTS = (0.001, 0.01, 0.1, 1.0, 10.0, 100.0, 1000.0, 10000.0)
DEALS = 4

Predict = Callable[[np.ndarray, np.ndarray, np.ndarray], np.ndarray]


@dataclass(frozen=True)
class Row:
    """A method: its name, what predicts the target's classes from (source, labels, target), and published rows."""

    name: str
    predict: Predict
    published: dict[str, tuple[float, ...]] = field(default_factory=dict)


def nearest(source: np.ndarray, labels: np.ndarray, target: np.ndarray) -> np.ndarray:
    """Return the class of the nearest source example."""
    return KNeighborsClassifier(1).fit(source, labels).predict(target)


def aligned(method: Alignment, *, unit_length: bool = True) -> Predict:
    """Return the nearest neighbour in the representation, by angle or by distance."""

    def predict(source: np.ndarray, labels: np.ndarray, target: np.ndarray) -> np.ndarray:
        method.fit(source, labels, target=target)
        source, target = method.transform_source(source), method.transform(target)
        return nearest(normalize(source), labels, normalize(target)) if unit_length else nearest(source, labels, target)

    return predict


def meda(source: np.ndarray, labels: np.ndarray, target: np.ndarray) -> np.ndarray:
    """MEDA with the parameters of its authors' script for these domains, which are its defaults.

    Wang et al. (2018) report a mean of 52.7.
    """
    model = MEDA(n_components=20, alignment=10.0, shrinkage=0.1, smoothness=1.0, n_neighbors=10, max_iter=10)
    return model.fit(source, labels, target=target).predict(target)


def auto(head: str) -> Predict:
    """What `DomainAdaptation` chooses by itself, among methods that use a head."""

    def predict(source: np.ndarray, labels: np.ndarray, target: np.ndarray) -> np.ndarray:
        return DomainAdaptation(head=head, budget=None).fit(source, labels, target=Domain(target)).predict(target)

    return predict


def published_svm(source: np.ndarray, labels: np.ndarray, target: np.ndarray) -> np.ndarray:
    """CORAL with the support vector machine of its authors' code, its cost chosen on the source.

    They hand LIBSVM the products of mapped source inputs with unmapped ones as a kernel, and choose the cost by
    2-fold cross-validation. One dealing of the folds decides between costs that differ by less than the noise, so the
    mean of several is taken here, and the least cost within one standard error of the best (Breiman et al., 1984).
    """
    mapped = CORAL().fit_transform(source, target=target)
    kernel = mapped @ source.T
    scores = np.array([[_held_out(kernel, labels, cost, deal) for deal in range(DEALS)] for cost in COSTS]).mean(axis=1)
    error = np.sqrt(scores.max() * (1 - scores.max()) / len(labels))
    cost = COSTS[int(np.flatnonzero(scores >= scores.max() - error)[0])]
    return SVC(kernel="precomputed", C=cost).fit(kernel, labels).predict(target @ mapped.T)


def _held_out(kernel: np.ndarray, labels: np.ndarray, cost: float, deal: int) -> float:
    halves = StratifiedKFold(2, shuffle=True, random_state=deal).split(labels, labels)
    right = np.zeros(len(labels), dtype=bool)
    for kept, held in halves:
        machine = SVC(kernel="precomputed", C=cost).fit(kernel[np.ix_(kept, kept)], labels[kept])
        right[held] = machine.predict(kernel[np.ix_(held, kept)]) == labels[held]
    return float(right.mean())


def _components(name: str, method: type, count: int, kernel: str) -> Row:
    return Row(f"{name}({count}), {kernel}", aligned(method(n_components=count, kernel=kernel)))


TCA, JDA = TransferComponentAnalysis, JointDistributionAdaptation
ROWS: list[Row] = [
    Row("source only", nearest, {"Wang 2018": WANG_SOURCE}),
    Row(
        "TCA(100), linear, by distance",
        aligned(TCA(n_components=100, kernel="linear"), unit_length=False),
        {"Long 2013": LONG_TCA},
    ),
    _components("TCA", TCA, 100, "linear"),
    _components("TCA", TCA, 20, "linear"),
    _components("TCA", TCA, 20, "primal"),
    _components("TCA", TCA, 30, "primal"),
    Row("TCA(40), primal", aligned(TCA(n_components=40)), {"Wang 2018": WANG_TCA}),
    Row(
        "JDA(100), linear",
        aligned(JDA(n_components=100, kernel="linear")),
        {"Long 2013": LONG_JDA, "Wang 2018": WANG_JDA},
    ),
    _components("JDA", JDA, 20, "linear"),
    _components("JDA", JDA, 20, "primal"),
    Row("BDA(20), primal, balance estimated", aligned(JDA(n_components=20, balance=None))),
    Row("subspace alignment(20)", aligned(SubspaceAlignment(n_components=20))),
    Row("geodesic flow kernel(20)", aligned(GeodesicFlowKernel(n_components=20))),
    Row("CORAL, nearest neighbour", aligned(CORAL())),
    Row("CORAL, published SVM", published_svm, {"Sun 2016": SUN_CORAL}),
    Row("MEDA(20)", meda),
    *(Row(f"auto, {head} head", auto(head)) for head in ("auto", "logistic", "kernel-ridge", "nearest-neighbors")),
    *(
        Row(f"optimal transport, {plan}", aligned(OptimalTransport(plan), unit_length=False))
        for plan in ("exact", "entropic", "class", "laplacian")
    ),
    Row("linear transport", aligned(LinearTransport(), unit_length=False)),
]


def domain(name: str) -> tuple[np.ndarray, np.ndarray]:
    """Return the standardised features and the classes of a domain."""
    histograms, classes = office_caltech10(FILES[name])
    return StandardScaler().fit_transform(histograms / histograms.sum(axis=1, keepdims=True)), classes


def measure(row: Row, domains: dict[str, tuple[np.ndarray, np.ndarray]]) -> dict[str, Any]:
    """Return the accuracies of a row in percent, their mean, the seconds, and the published rows with their means."""
    accuracies = []
    started = time.perf_counter()
    for pair in PAIRS:
        (source, labels), (target, truth) = domains[pair[0]], domains[pair[2]]
        accuracies.append(100 * float((row.predict(source, labels, target) == truth).mean()))
    return {
        "accuracies": dict(zip(PAIRS, accuracies, strict=True)),
        "mean": float(np.mean(accuracies)),
        "seconds": time.perf_counter() - started,
        "published": {
            paper: {"row": list(known), "mean": float(np.mean(known))} for paper, known in row.published.items()
        },
    }


def main(chosen: list[str]) -> None:
    """Measure all rows, or those that are named; what is not measured again stays in the results."""
    domains = {name: domain(name) for name in FILES}
    file = RESULTS / "office_caltech.json"
    results: dict[str, Any] = json.loads(file.read_text())["rows"] if chosen and file.is_file() else {}
    lines = []
    for row in (one for one in ROWS if not chosen or one.name in chosen):
        results[row.name] = one = measure(row, domains)
        lines.append((row.name, *(f"{value:.1f}" for value in one["accuracies"].values()), f"{one['mean']:.1f}"))
        lines += [
            (f"  {paper}", *(f"{value:.1f}" for value in known["row"]), f"{known['mean']:.1f}")
            for paper, known in one["published"].items()
        ]
    print_table(("method", *PAIRS, "mean"), lines, title="Office and Caltech: accuracy on the target, %")
    print(write_results("office_caltech", {"rows": results}))


if __name__ == "__main__":
    main(sys.argv[1:])
