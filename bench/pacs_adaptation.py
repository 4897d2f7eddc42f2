"""Domain adaptation on pictures, 12 pairs of PACS domains, frozen features; ``python -m bench.pacs_adaptation``.

All 238 pictures of a domain with their labels are the source, all of another without labels the target, on which the
accuracy is measured. ``auto`` is what a user gets by default; the rows above it are its candidates by name, *source
only* first, and another invariant head. Names of rows measure these alone again.
"""

from __future__ import annotations

import itertools
import json
import sys
import time
from pathlib import Path
from typing import Any

import numpy as np

from bench._real_data import RESULTS, pacs, write_results
from graft import Domain, DomainAdaptation, load_backbone
from graft.cli.show import print_table
from graft.techniques.adaptation.tournament import CANDIDATES


def main(*chosen: str) -> None:
    """Measure all rows, or those that are named; what is not measured again stays in the results."""
    paths = pacs()
    domains = np.array([Path(path).parts[-3] for path in paths])
    classes = np.array([Path(path).parts[-2] for path in paths])
    backbone = load_backbone("efficientnet_lite0")
    features = backbone.embed(list(paths))
    pairs = list(itertools.permutations(sorted(set(domains)), 2))
    file = RESULTS / "pacs_adaptation.json"
    known: dict[str, Any] = json.loads(file.read_text()) if chosen and file.is_file() else {"methods": {}, "chosen": {}}
    names = [name for name in (*CANDIDATES["classification"], "mcc-head", "auto") if not chosen or name in chosen]
    accuracy: dict[str, dict[str, float]] = {name: {} for name in names}
    seconds, served = dict.fromkeys(names, 0.0), known["chosen"]
    for source, target in pairs:
        here, there, pair = domains == source, domains == target, f"{source} > {target}"
        for name in names:
            started = time.perf_counter()
            model = DomainAdaptation(method=name, budget=None)
            model.fit(features[here], classes[here], target=Domain(features[there]))
            seconds[name] += time.perf_counter() - started
            accuracy[name][pair] = 100 * model.score(features[there], classes[there])
            if name == "auto":
                served[pair] = model.adaptation_["method"]
        print(pair, {name: round(values[pair], 1) for name, values in accuracy.items()}, file=sys.stderr, flush=True)
    results = known["methods"] | {
        name: {"accuracies": accuracy[name], "seconds": seconds[name] / len(pairs)} for name in names
    }
    base = np.array(list(results["source-only"]["accuracies"].values()))
    rows = []
    for name, one in results.items():
        values = np.array(list(one["accuracies"].values()))
        gains = values - base
        one |= {"mean": values.mean(), "mean_gain": gains.mean(), "least_gain": gains.min()}
        rows.append((name, *(f"{x:.1f}" for x in (values.mean(), gains.mean(), gains.min(), one["seconds"]))))
    print_table(("method", "mean %", "gain", "least gain", "s a pair"), rows, title="PACS, 12 pairs, target")
    print(write_results("pacs_adaptation", {"head": "auto", "chosen": served, "methods": results}))


if __name__ == "__main__":
    main(*sys.argv[1:])
