"""Reweighting the source beside the source as it is; ``python -m bench.reweighting``.

Wine: quality from measurements, red to white and white to red. Phishing: as in the mushroom experiment of Dai, Yang,
Xue and Yu (2007, section 4.1), where mushrooms were divided by the shape of their stalk, the websites are divided by
the value of one feature, which is then left out. Three divisions, all by how an address looks, which is what an
attacker changes first and what a filter trained last year has not seen: having_IP_Address, URL_Length and
having_Sub_Domain (source: -1; target: 0 or 1). Predictions are judged on the whole target, whose labels nothing else
uses.

Every vector of weights is used twice: as served, flattened by importance-weighted cross-validation
(`graft.importance.flattening`), and raw, as estimated.

Five seeds: each draws 80 % of the source and of the target's unlabelled examples.
"""

from __future__ import annotations

import time
import warnings
from dataclasses import asdict
from typing import Any

import numpy as np
from scipy.special import logsumexp

from bench._real_data import phishing, wine, write_results
from graft.cli.show import print_table
from graft.heads import make_head
from graft.importance import DENSITY_RATIOS, LABEL_SHIFTS, Flattening, Weights, diagnose, domain_auc, flattening, method
from graft.importance.two_sample import AucTest

SEEDS = 5
# Largest number of rows of each domain on which weights are estimated and a head is fitted.
ROWS = 2000
SPLITS = {"having_IP_Address": 0, "URL_Length": 1, "having_Sub_Domain": 6}


def main() -> None:
    red, white = wine("red"), wine("white")
    cases: dict[str, tuple[str, Any, Any]] = {
        "wine: red to white": ("regression", red, white),
        "wine: white to red": ("regression", white, red),
    }
    features, labels = phishing()
    for name, column in SPLITS.items():
        source = features[:, column] == -1
        rest = np.delete(features, column, axis=1)
        cases[f"phishing: {name}"] = (
            "classification",
            (rest[source], labels[source]),
            (rest[~source], labels[~source]),
        )
    results = {}
    for name, (task, source, target) in cases.items():
        results[name] = _measure(task, source, target)
        _show(name, task, results[name])
    print(write_results("reweighting", {"seeds": SEEDS, "rows": ROWS, "cases": results}))


def _measure(task: str, source: Any, target: Any) -> dict[str, Any]:
    runs: dict[str, list[dict[str, Any]]] = {}
    for seed in range(SEEDS):
        draws = np.random.default_rng(seed)
        rows = draws.permutation(len(source[1]))[: min(ROWS, int(0.8 * len(source[1])))]
        unlabelled = draws.permutation(len(target[1]))[: min(ROWS, int(0.8 * len(target[1])))]
        X, y, Z = source[0][rows], source[1][rows], target[0][unlabelled]
        plain = _fitted(task, X, y, None)
        runs.setdefault("source only", []).append({"score": _score(task, plain, target)})
        evidence = {}
        if task == "classification":
            held_out = np.exp(plain.out_of_fold_ / plain.temperature_)
            evidence = {
                "labels": y,
                "source_probabilities": held_out / held_out.sum(axis=1, keepdims=True),
                "target_probabilities": plain.predict_proba(Z),
            }
        domains = domain_auc(X, Z, random_state=seed)
        for name in [*DENSITY_RATIOS, *(LABEL_SHIFTS if evidence else ())]:
            started = time.perf_counter()
            weights = method(name)(*(evidence.values() if name in LABEL_SHIFTS else (X, Z)))
            seconds = time.perf_counter() - started
            found = diagnose(weights, X, Z, permutations=99, random_state=seed, **evidence) if seed == 0 else None
            served, raw, chosen = _flattened(task, X, y, weights, domains if name in DENSITY_RATIOS else None)
            runs.setdefault(name, []).append(
                {
                    "score": _score(task, served, target),
                    "raw_score": _score(task, raw, target),
                    "exponent": chosen.exponent,
                    "reason": chosen.reason,
                    "tried": [asdict(one) for one in chosen.tried],
                    "overlap_share": domains.effective_share,
                    "seconds": seconds,
                    "effective_share": weights.effective_sample_size / len(y),
                    "largest_weight": float(weights.sample_weight.max()),
                    "diagnosis": None if found is None else found.to_dict(),
                }
            )
    base = np.array([run["score"] for run in runs["source only"]])
    summary = {}
    for name, one in runs.items():
        gain = np.array([run["score"] for run in one]) - base
        summary[name] = {
            "score": float(np.mean([run["score"] for run in one])),
            "gain": float(gain.mean()),
            "raw_gain": float(np.mean([run.get("raw_score", run["score"]) for run in one]) - base.mean()),
            "exponents": [run.get("exponent", 0.0) for run in one],
            "gain_standard_error": float(gain.std(ddof=1) / np.sqrt(SEEDS)),
            "runs": one,
        }
    return summary


def _fitted(task: str, X: np.ndarray, y: np.ndarray, weight: np.ndarray | None) -> Any:
    """Return a linear head: where the model is too simple for both domains, weights decide which one it fits."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        if task == "regression":
            return make_head("ridge", "regression").fit(X, y, sample_weight=weight)
        return make_head("logistic").fit(X, y, sample_weight=weight)


def _flattened(
    task: str, X: np.ndarray, y: np.ndarray, weights: Weights, domains: AucTest | None
) -> tuple[Any, Any, Flattening]:
    """Return the head that is served, the head of the weights as they are, and the choice between them."""
    heads: dict[Weights, Any] = {}

    def losses(flat: Weights) -> np.ndarray:
        heads[flat] = head = _fitted(task, X, y, flat.sample_weight)
        if task == "regression":
            return (head.out_of_fold_ - y) ** 2
        scores = head.out_of_fold_ / head.temperature_
        return logsumexp(scores, axis=1) - scores[np.arange(len(y)), np.searchsorted(head.classes_, y)]

    chosen = flattening(weights, losses, domains=domains)
    for one in (chosen.weights, weights):
        if one not in heads:
            losses(one)
    return heads[chosen.weights], heads[weights], chosen


def _score(task: str, head: Any, target: Any) -> float:
    """Return the accuracy, or minus the root mean squared error: more is better."""
    told = head.predict(target[0])
    if task == "regression":
        return -float(np.sqrt(np.mean((told - target[1]) ** 2)))
    return float(np.mean(told == target[1]))


def _show(name: str, task: str, summary: dict[str, Any]) -> None:
    rows = []
    for kind, one in summary.items():
        figures = [f"{abs(one['score']):.4f}", f"{one['gain']:+.4f} ± {one['gain_standard_error']:.4f}"]
        if kind == "source only":
            rows.append((kind, *figures, *[""] * 8))
            continue
        first = one["runs"][0]
        found = first["diagnosis"]
        figures += [
            " ".join(f"{value:g}" for value in one["exponents"]),
            f"{one['raw_gain']:+.4f}",
            f"{100 * first['effective_share']:.0f} %",
            f"{first['largest_weight']:.1f}",
        ]
        figures += [f"{found['overlap']:.2f}", f"{found['auc']['auc']:.3f}"]
        figures += [f"{found['unweighted_mmd']:.3f} to {found['weighted_mmd']:.3f}", found["hint"]]
        rows.append((kind, *figures))
    measure = "RMSE" if task == "regression" else "accuracy"
    columns = (
        "weights",
        measure,
        "gain, served",
        "exponents",
        "gain, raw",
        "effective",
        "largest",
        "overlap",
        "AUC",
        "MMD²",
        "hint",
    )
    print_table(columns, rows, title=f"{name}, {SEEDS} seeds")


if __name__ == "__main__":
    main()
