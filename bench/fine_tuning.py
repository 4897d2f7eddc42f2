"""Fine-tuning beside feature extraction and training from scratch; ``python -m bench.fine_tuning``.

Every cell (work, technique, seed) runs in a process of its own, so that its seconds and its peak memory are its own.
``python -m bench.fine_tuning trec`` runs one work only, ``python -m bench.fine_tuning banking77 setfit`` one technique
of it; what was measured of the others before is kept. ``setfit`` lives in an environment of its own, whose interpreter
``SETFIT_PYTHON`` names: it needs older libraries than Graft. ``SETFIT_STEPS`` ends its training early.
"""

from __future__ import annotations

import json
import os
import resource
import subprocess
import sys
import tempfile
import time
import warnings
from typing import Any

import numpy as np

from bench._real_data import RESULTS, banking77, caltech101, few_shot, trec, write_results

WORKS = {
    "caltech101": {
        "title": "caltech101_20x40, 20 per class, 128 pixels",
        "techniques": {"probe": 5, "fine-tuned": 5, "from scratch": 3},
    },
    "trec": {"title": "TREC, 1,000 questions", "techniques": {"probe": 5, "fine-tuned": 5}},
    "banking77": {
        "title": "banking77, 8 per class",
        "techniques": {"probe": 5, "contrastive": 5, "setfit": 3},
    },
}


def data(work: str, seed: int) -> tuple[Any, Any, Any, Any]:
    """Return training inputs and labels, test inputs and labels."""
    if work == "caltech101":
        inputs, labels = caltech101()
        rows, rest = few_shot(labels, 20, seed)
        return inputs[rows], labels[rows], inputs[rest], labels[rest]
    if work == "trec":
        (inputs, labels), (asked, known) = trec("train"), trec("test")
        rows = np.random.default_rng(seed).permutation(len(inputs))[:1000]
        kinds = np.array([label.split(":")[0] for label in labels])
        return inputs[rows], kinds[rows], asked, np.array([label.split(":")[0] for label in known])
    (inputs, labels), (asked, known) = banking77("train"), banking77("test")
    rows, _ = few_shot(labels, 8, seed)
    return inputs[rows], labels[rows], asked, known


def cell(work: str, technique: str, seed: int) -> dict[str, Any]:
    """Fit one model and measure it."""
    inputs, labels, asked, known = data(work, seed)
    if technique == "setfit":
        return _setfit(inputs, labels, asked, known, seed)
    from graft import FeatureExtraction, FineTuning, load_backbone

    name = "efficientnet_lite0" if work == "caltech101" else "minilm"
    size = 128 if work == "caltech101" else None
    load_backbone(name, image_size=size)  # the libraries' import is nobody's training time
    with tempfile.TemporaryDirectory() as store:
        started, used = time.perf_counter(), time.process_time()
        common: dict[str, Any] = {"store": store, "random_state": seed}
        if technique == "probe":
            model: Any = FeatureExtraction(load_backbone(name, image_size=size), **common)
        elif technique == "from scratch":
            model = FineTuning(name, image_size=size, pretrained=False, refit=False, **common)
        elif technique == "contrastive":
            model = FineTuning(name, objective="contrastive", batch_size=64, **common)
        else:
            model = FineTuning(name, image_size=size, **common)
        model.fit(inputs, labels)
        told = {"seconds": time.perf_counter() - started, "cpu_seconds": time.process_time() - used, "memory": _peak()}
        told["accuracy"] = model.score(asked, known)
        if model.training_ is not None:
            told |= {name: model.training_[name] for name in ("steps", "served", "trained_parameters")}
        return told


def _setfit(inputs: Any, labels: Any, asked: Any, known: Any, seed: int) -> dict[str, Any]:
    """Measure the setfit package on the same network, with the batch and the 20 pairs of either kind of its paper."""
    from datasets import Dataset
    from setfit import SetFitModel, Trainer, TrainingArguments

    from graft.backbones.catalogue import OFFLINE

    model = SetFitModel.from_pretrained(str(OFFLINE["minilm"].verified_path().parent))
    rows = Dataset.from_dict({"text": list(inputs), "label": list(labels)})
    most = int(os.environ.get("SETFIT_STEPS", -1))
    with tempfile.TemporaryDirectory() as folder:
        arguments = TrainingArguments(
            folder,
            batch_size=16,
            num_epochs=1,
            num_iterations=20,
            max_steps=most,
            seed=seed,
            report_to="none",
            save_strategy="no",
        )
        started, used = time.perf_counter(), time.process_time()
        trainer = Trainer(model=model, args=arguments, train_dataset=rows)
        trainer.train()
        told = {"seconds": time.perf_counter() - started, "cpu_seconds": time.process_time() - used, "memory": _peak()}
    found = np.asarray([str(label) for label in model.predict(list(asked))])
    accuracy = float((found == np.asarray(known)).mean())
    return told | {"accuracy": accuracy, "steps": trainer.st_trainer.state.global_step}


def _peak() -> float:
    """Return the largest resident memory of this process so far, MiB."""
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024


def main(chosen: list[str]) -> None:
    from graft.cli.show import print_table

    file = RESULTS / "fine_tuning.json"
    results: dict[str, Any] = json.loads(file.read_text()) if file.is_file() else {}
    results.pop("machine", None)
    rows = []
    works = [name for name in WORKS if name in chosen] or list(WORKS)
    for work in works:
        plan: Any = WORKS[work]
        found: dict[str, list[dict[str, Any]]] = results.get(work, {})
        only = [name for name in plan["techniques"] if name in chosen] or list(plan["techniques"])
        for technique in only:
            found[technique] = []
            for seed in range(plan["techniques"][technique]):
                command = [
                    os.environ.get("SETFIT_PYTHON", sys.executable) if technique == "setfit" else sys.executable,
                    "-W",
                    "ignore",
                    "-m",
                    "bench.fine_tuning",
                    "cell",
                    work,
                    technique,
                    str(seed),
                ]
                done = subprocess.run(command, capture_output=True, text=True, check=False)
                if done.returncode:
                    told = done.stderr.strip().splitlines()[-1:] or [f"ended with {done.returncode}"]
                    print(f"{work}, {technique}: {told[0]}", file=sys.stderr)
                    break
                found[technique].append(json.loads(done.stdout.strip().splitlines()[-1]))
                print(work, technique, seed, found[technique][-1], file=sys.stderr, flush=True)
                write_results("fine_tuning", results | {work: found})
        results[work] = found
        base = np.array([one["accuracy"] for one in found["probe"]])
        for technique, cells in found.items():
            if not cells:
                continue
            accuracy = np.array([one["accuracy"] for one in cells])
            gain = 100 * (accuracy - base[: len(accuracy)])
            reach = _half_width(gain)
            rows.append(
                (
                    plan["title"],
                    technique,
                    f"{100 * accuracy.mean():.2f}",
                    "" if technique == "probe" else f"{gain.mean():+.2f} ± {reach:.2f}",
                    f"{np.mean([one['seconds'] for one in cells]):.1f}",
                    f"{np.mean([one.get('cpu_seconds', np.nan) for one in cells]):.1f}",
                    f"{np.mean([one['memory'] for one in cells]):.0f}",
                )
            )
    columns = ("work", "technique", "test %", "gain over the probe, 95 %", "seconds", "CPU seconds", "peak MiB")
    print_table(columns, rows, title="Means over seeds")
    print(write_results("fine_tuning", results))


def _half_width(values: np.ndarray) -> float:
    """Return half the width of the 95 % interval of a mean of few values (Student's t)."""
    from scipy.stats import t

    if len(values) < 2:
        return float("nan")
    return float(t.ppf(0.975, len(values) - 1) * values.std(ddof=1) / np.sqrt(len(values)))


if __name__ == "__main__":
    if sys.argv[1:2] == ["cell"]:
        warnings.filterwarnings("ignore")
        print(json.dumps(cell(sys.argv[2], sys.argv[3], int(sys.argv[4]))))
    else:
        main(sys.argv[1:])
