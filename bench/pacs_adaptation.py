"""Domain adaptation on pictures, 12 pairs of PACS domains, frozen features; ``python -m bench.pacs_adaptation``.

All 238 pictures of a domain with their labels are the source, all of another without labels the target, on which the
accuracy is measured. ``auto`` is what a user gets by default; the rows above it are its candidates by name, *source
only* first.
"""

from __future__ import annotations

import itertools
import sys
import time
from pathlib import Path
from typing import Any

import numpy as np

from bench._real_data import pacs, write_results
from graft import Domain, DomainAdaptation, load_backbone
from graft.cli.show import print_table
from graft.techniques.adaptation.tournament import CANDIDATES


def main(head: str = "auto") -> None:
    paths = pacs()
    domains = np.array([Path(path).parts[-3] for path in paths])
    classes = np.array([Path(path).parts[-2] for path in paths])
    backbone = load_backbone("efficientnet_lite0")
    features = backbone.embed(list(paths))
    pairs = list(itertools.permutations(sorted(set(domains)), 2))
    names = [*CANDIDATES["classification"], "auto"]
    accuracy = {name: dict.fromkeys(map(" > ".join, pairs), 0.0) for name in names}
    seconds = dict.fromkeys(names, 0.0)
    chosen = {}
    for source, target in pairs:
        here, there = domains == source, domains == target
        for name in names:
            started = time.perf_counter()
            model = DomainAdaptation(method=name, head=head, budget=None)
            model.fit(features[here], classes[here], target=Domain(features[there]))
            seconds[name] += time.perf_counter() - started
            accuracy[name][f"{source} > {target}"] = 100 * model.score(features[there], classes[there])
        chosen[f"{source} > {target}"] = model.adaptation_["method"]
        gain = accuracy["auto"][f"{source} > {target}"] - accuracy["source-only"][f"{source} > {target}"]
        print(f"{source} > {target}: {chosen[f'{source} > {target}']}, {gain:+.1f}", file=sys.stderr, flush=True)
    base = np.array(list(accuracy["source-only"].values()))
    rows, results = [], {}
    for name in names:
        values = np.array(list(accuracy[name].values()))
        gains = values - base
        rows.append(
            (name, f"{values.mean():.1f}", f"{gains.mean():+.1f}", f"{gains.min():+.1f}", f"{seconds[name] / 12:.1f}")
        )
        one: dict[str, Any] = {"accuracies": accuracy[name], "mean": values.mean(), "seconds": seconds[name] / 12}
        results[name] = one | {"mean_gain": gains.mean(), "least_gain": gains.min()}
    print_table(
        ("method", "mean %", "gain", "least gain", "s a pair"), rows, title=f"PACS, 12 pairs, head={head!r}, target"
    )
    print(write_results("pacs_adaptation", {"head": head, "chosen": chosen, "methods": results}))


if __name__ == "__main__":
    main(*sys.argv[1:2])
