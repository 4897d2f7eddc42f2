"""Whether the advised technique is the right one; ``python -m bench.advice``.

For each data set the test score of every technique that applies, the advised one, and the seconds of all, for
``ADVICE_DRAWS`` draws of the labelled examples. Every draw has a process of its own, and each figure is kept in
``bench/results/advice`` when it is found: a run that was interrupted goes on. Photos have 48 pixels on a side and
digits 64, reviews are cut to 48 words and train for four epochs (from scratch sixteen).

``python -m bench.advice settling`` runs the data sets on which the constants of the advice were settled;
``techniques``, ``forecast`` (advice without trying anything), ``check`` (advice that tries the best two, within
``ADVICE_BUDGET`` seconds) or ``scratch``, then names of data sets, only a part of the work; ``table`` shows what is
there.
"""

from __future__ import annotations

import importlib
import itertools
import json
import os
import sys
import tempfile
import time
import warnings
from collections.abc import Collection
from pathlib import Path
from typing import Any

import numpy as np

from bench._advice_cases import CASES, SETTLING, SUITE, Case
from bench._real_data import RESULTS, write_results

CELLS = Path(os.environ.get("ADVICE_CELLS", RESULTS / "advice"))
DRAWS = range(int(os.environ.get("ADVICE_DRAWS", "1")))
RAW, FROZEN, TUNED, SCRATCH = "raw-input", "feature-extraction", "fine-tuning", "from-scratch"
ADAPTED, SEVERAL = "domain-adaptation", "multi-task"
# What is advised by the forecast alone, and after the check.
FORECAST, CHECKED = "advice", "checked advice"
# Parts of the work, each in passes over all data sets: cheap ones first.
PARTS = {
    "techniques": ((RAW, FROZEN, SEVERAL, ADAPTED), (TUNED,)),
    "forecast": ((FORECAST,),),
    "check": ((CHECKED,),),
    "scratch": ((SCRATCH,),),
}


def applicable(case: Case) -> tuple[str, ...]:
    """Return the techniques that can be used on a data set, cheap ones first."""
    names = [RAW] if case.backbone is None else [RAW, FROZEN]
    names += [SEVERAL] if case.domain.tasks else []
    names += [ADAPTED] if case.target is not None else []
    return (*names, *([SCRATCH] if case.backbone is None else [TUNED, SCRATCH]))


def cell(case: Case, technique: str, seed: int) -> dict[str, Any]:
    """Fit one technique and test it; of several tasks each is fitted alone, except by multi-task learning."""
    with tempfile.TemporaryDirectory() as store:
        started = time.perf_counter()
        if technique == SEVERAL:
            from graft import MultiTask

            options: dict[str, Any] = {"compare": False, "store": store, "random_state": seed}
            model = MultiTask(case.backbone, label_names=case.domain.tasks, **options)
            model.fit(case.domain.inputs, case.domain.labels)
            score = model.score(case.test.inputs, case.test.labels)
        elif case.domain.tasks:
            columns = range(len(case.domain.tasks))
            score = float(np.mean([_fitted(case, technique, store, seed, column) for column in columns]))
        else:
            score = _fitted(case, technique, store, seed, None)
        return {"score": score, "seconds": time.perf_counter() - started}


def _fitted(case: Case, technique: str, store: str, seed: int, column: int | None) -> float:
    """Fit one technique to the labels, or to one column of them, and return its test score."""
    from graft import DomainAdaptation, FeatureExtraction, FineTuning, load_backbone
    from graft.evaluation.comparison.boosted_trees import BoostedTrees
    from graft.evaluation.comparison.raw_input import RawInput
    from graft.techniques.technique import evaluate

    rows, asked = np.arange(case.domain.size), np.arange(case.test.size)
    y, true = case.domain.labels, case.test.labels
    if column is not None:
        y, true = y[:, column], true[:, column]
        rows, asked = (np.flatnonzero([value is not None for value in found]) for found in (y, true))
    X, Z, y, true = case.domain.inputs[rows], case.test.inputs[asked], y[rows], true[asked]
    kind = "classification" if case.backbone else "regression"
    common: dict[str, Any] = {"store": store, "task": kind, "random_state": seed}
    network: Any = case.backbone and load_backbone(case.backbone, image_size=case.image_size)
    if technique == RAW:
        model: Any = RawInput("features" if case.backbone is None else network.modality, task=kind)
    elif technique == SCRATCH and case.backbone is None:
        from graft.data import Task

        model = BoostedTrees(Task("classes", kind), random_state=seed)
    elif technique == FROZEN:
        model = FeatureExtraction(network, **common)
    elif technique == ADAPTED:
        model = DomainAdaptation(network, budget=None, **common)
    elif technique == TUNED:
        model = FineTuning(network, epochs=case.epochs, views=case.views, **common)
    else:
        epochs = case.epochs if isinstance(case.epochs, str) else 4 * case.epochs
        more = {"pretrained": False, "image_size": case.image_size, "epochs": epochs, "views": case.views}
        model = FineTuning(case.backbone, **more, **common)
    model.fit(X, y, **({"target": case.target} if technique == ADAPTED else {}))
    found = model.predictions(Z)
    metrics = evaluate(model.task_, np.asarray(true), found.labels, found.probabilities).metrics
    return float(metrics["r2" if kind == "regression" else "accuracy"].value)


def kept(name: str, draw: int) -> dict[str, Any]:
    """Return what was measured on a draw of a data set."""
    file = _file(name, draw)
    return json.loads(file.read_text()) if file.is_file() else {}


def _file(name: str, draw: int) -> Path:
    slug = "".join(letter if letter.isalnum() else "_" for letter in name.lower())
    return CELLS / f"{slug}.{draw}.json"


def run(names: list[str], passes: tuple[tuple[str, ...], ...], *, workers: int = 1) -> None:
    """Measure what is missing, each draw of a data set in a process of its own; within a pass, cheap techniques first.

    The processes are forked from this one, which has loaded the libraries and computed nothing.
    """
    from concurrent.futures import ThreadPoolExecutor
    from multiprocessing import get_context

    _load_libraries()
    CELLS.mkdir(parents=True, exist_ok=True)
    context = get_context("fork")

    def measured(name: str, draw: int, wanted: tuple[str, ...]) -> None:
        one = context.Process(target=_data_set, args=(name, draw, wanted))
        one.start()
        one.join()

    with ThreadPoolExecutor(workers) as pool:
        for wanted, draw, name in itertools.product(passes, DRAWS, names):
            pool.submit(measured, name, draw, wanted)


def _load_libraries() -> None:
    import torch

    from graft.backbones.torchvision_repair import import_torchvision

    import_torchvision()
    importlib.import_module("graft.techniques")
    importlib.import_module("timm")
    importlib.import_module("transformers")
    importlib.import_module("sklearn.ensemble")
    torch.set_num_threads(int(os.environ.get("OMP_NUM_THREADS", "2")))


def _data_set(name: str, draw: int, wanted: tuple[str, ...]) -> None:
    """Measure some techniques (or the advice) on a draw of a data set, and keep what is found after each."""
    warnings.filterwarnings("ignore")
    case = None
    for technique in wanted:
        if technique in kept(name, draw):
            continue
        case = CASES[name](draw) if case is None else case
        advises = technique in (FORECAST, CHECKED)
        if not advises and technique not in applicable(case):
            continue
        try:
            found = advised(case, draw, check=technique == CHECKED) if advises else cell(case, technique, draw)
        except Exception as error:  # one technique that fails does not end the others
            print(f"{name}, {technique}: {type(error).__name__}: {error}", file=sys.stderr, flush=True)
            continue
        _file(name, draw).write_text(json.dumps(kept(name, draw) | {technique: found}, indent=1) + "\n")
        print(time.strftime("%H:%M:%S"), name, draw, technique, str(found)[:90], file=sys.stderr, flush=True)


def advised(case: Case, seed: int, *, check: bool) -> dict[str, Any]:
    """Return what is advised for a data set: by the forecast, or with a check too."""
    import graft

    with tempfile.TemporaryDirectory() as store:
        return graft.advise(
            case.domain.inputs,
            case.domain.labels,
            target=case.target,
            backbone=case.backbone,
            task="auto" if case.backbone else "regression",
            label_names=case.domain.tasks or None,
            image_size=case.image_size,
            epochs=case.epochs,
            views=case.views,
            budget=float(os.environ.get("ADVICE_BUDGET", "150")) if check else 0.0,
            store=store,
            random_state=seed,
        ).to_dict()


def table(names: list[str]) -> None:
    """Show what is kept: test scores, the advised technique, and what rules without measuring would have scored."""
    from graft.cli.show import print_table

    order = (RAW, FROZEN, TUNED, SCRATCH, ADAPTED, SEVERAL)
    rules = {"forecast": FORECAST, "checked": CHECKED, "always feature extraction": FROZEN, "always fine-tuning": TUNED}
    rows, below, data = [], {}, {}
    for name in names:
        draws = [found for found in (kept(name, draw) for draw in DRAWS) if found]
        scores = {
            technique: 100 * float(np.mean([found[technique]["score"] for found in draws]))
            for technique in order
            if draws and all(technique in found for found in draws)
        }
        if not scores:
            continue
        data[name] = draws
        told = {key: [found[key]["technique"] for found in draws if key in found] for key in (FORECAST, CHECKED)}
        cells = [f"{scores[one]:.1f}" if one in scores else "-" for one in order]
        said = [", ".join(dict.fromkeys(_SHORT[one] for one in told[key])) or "-" for key in (FORECAST, CHECKED)]
        seconds = [found[CHECKED]["seconds"] for found in draws if CHECKED in found]
        rows.append((name, *cells, *said, f"{np.mean(seconds):.0f}" if seconds else "-"))
        below[name] = {
            rule: missed for rule, key in rules.items() if (missed := _missed(draws, key, scores)) is not None
        }
    columns = ("data", *(_SHORT[one] for one in order), "forecast", "checked", "s")
    print_table(columns, rows, title=f"Test scores in per cent, mean of up to {len(DRAWS)} draws")
    means: dict[str, Any] = {}
    for together in (("forecast", *list(rules)[2:]), tuple(rules)):
        common = [one for one in below.values() if set(together) <= set(one)]
        for rule in together if common else ():
            mean = float(np.mean([one[rule] for one in common]))
            print(f"{rule}: {mean:.2f} points below the best, mean of {len(common)} data sets")
            means.setdefault(f"{len(common)} data sets", {})[rule] = mean
    print(write_results("advice", {"data": data, "below_best": means, "below_best_of_each": below}))


def _missed(draws: list[dict[str, Any]], rule: str, scores: dict[str, float]) -> float | None:
    """Return by how many points what a rule chose in each draw scores less, on average, than the best technique."""
    missed = []
    for found in draws:
        name = found[rule].get("technique", rule) if rule in found else None
        name = name and scored_as(name, found)
        if name is None:
            return None
        missed.append(100 * found[name]["score"])
    return max(scores.values()) - float(np.mean(missed))


def scored_as(technique: str, scores: Collection[str]) -> str | None:
    """Return the technique whose test score an advised one has: of vectors, the raw input is the feature."""
    if technique in scores:
        return technique
    return RAW if technique == FROZEN and RAW in scores else None


_SHORT = {RAW: "raw", FROZEN: "frozen", TUNED: "tuned", SCRATCH: "scratch", ADAPTED: "adapted", SEVERAL: "multi"}


if __name__ == "__main__":
    words = sys.argv[1:]
    chosen = [word for word in words if word in CASES] or list(SETTLING if "settling" in words else SUITE)
    if "table" not in words:
        asked = [part for part in PARTS if part in words] or list(PARTS)
        passes = tuple(itertools.chain.from_iterable(PARTS[part] for part in asked))
        run(chosen, passes, workers=int(os.environ.get("ADVICE_WORKERS", "1")))
    table(chosen)
