"""Whether the advised technique is the right one; ``python -m bench.advice``.

For each data set the test score of every technique that applies, the advised one, and the seconds of all. Every data
set has a process of its own, and each figure is kept in ``bench/results/advice`` when it is found: a run that was
interrupted goes on. Photos have 48 pixels on a side and digits 64, reviews are cut to 48 words, and trainings are
short (from scratch four times as long), for the advice as for the techniques.

``python -m bench.advice settling`` runs the data sets on which the constants of the advice were settled;
``techniques``, ``forecast`` (advice without trying anything) or ``check`` (advice that tries the best two, within
``ADVICE_BUDGET`` seconds), then names of data sets, only a part of the work; ``table`` shows what is there.
"""

from __future__ import annotations

import importlib
import json
import os
import sys
import tempfile
import time
import warnings
from pathlib import Path
from typing import Any

import numpy as np

from bench._advice_cases import CASES, SETTLING, SUITE, Case
from bench._real_data import RESULTS, write_results

CELLS = Path(os.environ.get("ADVICE_CELLS", RESULTS / "advice"))
RAW, FROZEN, TUNED, SCRATCH = "raw-input", "feature-extraction", "fine-tuning", "from-scratch"
ADAPTED, SEVERAL = "domain-adaptation", "multi-task"
# What is advised by the forecast alone, and after the check.
FORECAST, CHECKED = "advice", "checked advice"


def applicable(case: Case) -> tuple[str, ...]:
    """Return the techniques that can be used on a data set, cheap ones first."""
    names = [RAW] if case.backbone is None else [RAW, FROZEN]
    names += [SEVERAL] if case.domain.tasks else []
    names += [ADAPTED] if case.target is not None else []
    return (*names, *([SCRATCH] if case.backbone is None else [TUNED, SCRATCH]))


def cell(case: Case, technique: str) -> dict[str, Any]:
    """Fit one technique and test it; of several tasks each is fitted alone, except by multi-task learning."""
    with tempfile.TemporaryDirectory() as store:
        started = time.perf_counter()
        if technique == SEVERAL:
            from graft import MultiTask

            model = MultiTask(case.backbone, compare=False, store=store, label_names=case.domain.tasks, random_state=0)
            model.fit(case.domain.inputs, case.domain.labels)
            score = model.score(case.test.inputs, case.test.labels)
        elif case.domain.tasks:
            columns = range(len(case.domain.tasks))
            score = float(np.mean([_fitted(case, technique, store, column) for column in columns]))
        else:
            score = _fitted(case, technique, store, None)
        return {"score": score, "seconds": time.perf_counter() - started}


def _fitted(case: Case, technique: str, store: str, column: int | None) -> float:
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
    common: dict[str, Any] = {"store": store, "task": kind, "random_state": 0}
    network: Any = case.backbone and load_backbone(case.backbone, image_size=case.image_size)
    if technique == RAW:
        model: Any = RawInput("features" if case.backbone is None else network.modality, task=kind)
    elif technique == SCRATCH and case.backbone is None:
        from graft.data import Task

        model = BoostedTrees(Task("classes", kind), random_state=0)
    elif technique == FROZEN:
        model = FeatureExtraction(network, **common)
    elif technique == ADAPTED:
        model = DomainAdaptation(network, budget=None, **common)
    elif technique == TUNED:
        model = FineTuning(network, epochs=case.epochs, views=case.views, **common)
    else:
        more = {"pretrained": False, "image_size": case.image_size, "epochs": 4 * case.epochs, "views": case.views}
        model = FineTuning(case.backbone, **more, **common)
    model.fit(X, y, **({"target": case.target} if technique == ADAPTED else {}))
    found = model.predictions(Z)
    metrics = evaluate(model.task_, np.asarray(true), found.labels, found.probabilities).metrics
    return float(metrics["r2" if kind == "regression" else "accuracy"].value)


def kept(name: str) -> dict[str, Any]:
    """Return what was measured on a data set."""
    file = CELLS / f"{_slug(name)}.json"
    return json.loads(file.read_text()) if file.is_file() else {}


def _slug(name: str) -> str:
    return "".join(letter if letter.isalnum() else "_" for letter in name.lower())


def run(names: list[str], passes: tuple[tuple[str, ...], ...], *, workers: int = 1) -> None:
    """Measure what is missing, each data set in a process of its own; within a pass, cheap techniques first.

    The processes are forked from this one, which has loaded the libraries and computed nothing.
    """
    from concurrent.futures import ThreadPoolExecutor
    from multiprocessing import get_context

    _load_libraries()
    CELLS.mkdir(parents=True, exist_ok=True)
    context = get_context("fork")

    def measured(name: str, wanted: tuple[str, ...]) -> None:
        one = context.Process(target=_data_set, args=(name, wanted))
        one.start()
        one.join()

    with ThreadPoolExecutor(workers) as pool:
        for wanted in passes:
            for name in names:
                pool.submit(measured, name, wanted)


def _load_libraries() -> None:
    import torch

    from graft.backbones.torchvision_repair import import_torchvision

    import_torchvision()
    importlib.import_module("graft.techniques")
    importlib.import_module("timm")
    importlib.import_module("transformers")
    importlib.import_module("sklearn.ensemble")
    torch.set_num_threads(int(os.environ.get("OMP_NUM_THREADS", "2")))


def _data_set(name: str, wanted: tuple[str, ...]) -> None:
    """Measure some techniques (or the advice) on a data set, and keep what is found after each."""
    warnings.filterwarnings("ignore")
    case = None
    for technique in wanted:
        if technique in kept(name):
            continue
        case = CASES[name](0) if case is None else case
        advises = technique in (FORECAST, CHECKED)
        if not advises and technique not in applicable(case):
            continue
        try:
            found = advised(case, check=technique == CHECKED) if advises else cell(case, technique)
        except Exception as error:  # one technique that fails does not end the others
            print(f"{name}, {technique}: {type(error).__name__}: {error}", file=sys.stderr, flush=True)
            continue
        (CELLS / f"{_slug(name)}.json").write_text(json.dumps(kept(name) | {technique: found}, indent=1) + "\n")
        print(time.strftime("%H:%M:%S"), name, technique, str(found)[:90], file=sys.stderr, flush=True)


def advised(case: Case, *, check: bool) -> dict[str, Any]:
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
        ).to_dict()


def table(names: list[str]) -> None:
    """Show what is kept: test scores, the advised technique, and what rules without measuring would have scored."""
    from graft.cli.show import print_table

    order = (RAW, FROZEN, TUNED, SCRATCH, ADAPTED, SEVERAL)
    rules = {"forecast": FORECAST, "checked": CHECKED, "always feature extraction": FROZEN, "always fine-tuning": TUNED}
    rows, below = [], {}
    for name in names:
        found = kept(name)
        scores = {technique: 100 * found[technique]["score"] for technique in order if technique in found}
        if not scores:
            continue
        told = {key: found[key]["technique"] for key in (FORECAST, CHECKED) if key in found}
        cells = [f"{scores[one]:.1f}" if one in scores else "-" for one in order]
        said = [_SHORT[told[key]] if key in told else "-" for key in (FORECAST, CHECKED)]
        seconds = f"{found[CHECKED]['seconds']:.0f}" if CHECKED in found else "-"
        rows.append((name, *cells, *said, seconds))
        chosen = {rule: scored_as(told.get(key, key), scores) for rule, key in rules.items()}
        below[name] = {rule: max(scores.values()) - scores[one] for rule, one in chosen.items() if one is not None}
    columns = ("data", *(_SHORT[one] for one in order), "forecast", "checked", "s")
    print_table(columns, rows, title="Test scores in per cent")
    means: dict[str, Any] = {}
    for together in (("forecast", *list(rules)[2:]), tuple(rules)):
        common = [one for one in below.values() if set(together) <= set(one)]
        for rule in together if common else ():
            mean = float(np.mean([one[rule] for one in common]))
            print(f"{rule}: {mean:.2f} points below the best, mean of {len(common)} data sets")
            means.setdefault(f"{len(common)} data sets", {})[rule] = mean
    print(write_results("advice", {"data": {name: kept(name) for name in names if kept(name)}, "below_best": means}))


def scored_as(technique: str, scores: dict[str, float]) -> str | None:
    """Return the technique whose test score an advised one has: of vectors, the raw input is the feature."""
    if technique in scores:
        return technique
    return RAW if technique == FROZEN and RAW in scores else None


_SHORT = {RAW: "raw", FROZEN: "frozen", TUNED: "tuned", SCRATCH: "scratch", ADAPTED: "adapted", SEVERAL: "multi"}


if __name__ == "__main__":
    words = sys.argv[1:]
    chosen = [word for word in words if word in CASES] or list(SETTLING if "settling" in words else SUITE)
    if "table" not in words:
        parts = [word for word in ("techniques", "forecast", "check") if word in words]
        passes: tuple[tuple[str, ...], ...] = ()
        if not parts or "techniques" in parts:
            passes += ((RAW, FROZEN, SEVERAL, ADAPTED), (TUNED,), (SCRATCH,))
        passes += ((FORECAST,),) if not parts or "forecast" in parts else ()
        passes += ((CHECKED,),) if not parts or "check" in parts else ()
        run(chosen, passes, workers=int(os.environ.get("ADVICE_WORKERS", "1")))
    table(chosen)
