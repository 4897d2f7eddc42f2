"""The real data sets that the benchmarks read, from ``../shared/data`` beside the project."""

from __future__ import annotations

import csv
import json
import platform
from pathlib import Path
from typing import Any

import numpy as np

ROOT = Path(__file__).resolve().parents[1]
DATA = ROOT.parent / "shared" / "data"
RESULTS = ROOT / "bench" / "results"


def banking77(split: str) -> tuple[np.ndarray, np.ndarray]:
    """Return (texts, intents) of the customer messages: train 10,003, test 3,080."""
    with (DATA / "banking77" / f"{split}.csv").open(encoding="utf-8", newline="") as file:
        rows = list(csv.DictReader(file))
    return np.array([row["text"] for row in rows], dtype=object), np.array([row["category"] for row in rows])


def trec(split: str) -> tuple[np.ndarray, np.ndarray]:
    """Return (questions, kinds) of TREC: train 5,452, test 500."""
    lines = (DATA / "trec" / f"TREC.{split}.all").read_text(encoding="latin-1").rstrip("\n").split("\n")
    labels, texts = zip(*(line.split(" ", 1) for line in lines), strict=True)
    return np.array(texts, dtype=object), np.array(labels)


def caltech101() -> tuple[np.ndarray, np.ndarray]:
    """Return (paths, classes) of 20 classes x 40 photos."""
    paths = sorted((DATA / "caltech101_20x40").glob("*/*.jpg"))
    return np.array([str(path) for path in paths], dtype=object), np.array([path.parent.name for path in paths])


def pacs() -> np.ndarray:
    """Return the paths of the 952 pictures of four domains."""
    return np.array([str(path) for path in sorted((DATA / "pacs_34").glob("*/*/*.*"))], dtype=object)


def office_caltech10(domain: str) -> tuple[np.ndarray, np.ndarray]:
    """Return (histograms, classes) of a domain: amazon 958, Caltech10 1,123, dslr 157, webcam 295; 800 visual words."""
    from scipy.io import loadmat

    contents = loadmat(DATA / "office_caltech10_surf" / f"{domain}_SURF_L10.mat")
    return contents["fts"].astype(np.float64), contents["labels"].ravel()


def wine(colour: str) -> tuple[np.ndarray, np.ndarray]:
    """Return (11 measurements, quality) of wines: red 1,599, white 4,898."""
    table = np.loadtxt(DATA / "wine_quality" / f"winequality-{colour}.csv", delimiter=";", skiprows=1)
    return table[:, :-1], table[:, -1]


def phishing() -> tuple[np.ndarray, np.ndarray]:
    """Return (30 features of -1, 0 and 1, whether a website is legitimate) of 11,055 websites, in the file's order."""
    table = np.loadtxt(DATA / "phishing_websites" / "Training Dataset.arff", delimiter=",")
    return table[:, :-1], np.where(table[:, -1] > 0, "legitimate", "phishing")


def school() -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Return (27 features, exam scores, schools) of 15,362 pupils of 139 schools."""
    from scipy.io import loadmat

    contents = loadmat(DATA / "school" / "school.mat")
    tables, scores = contents["X"].ravel(), contents["Y"].ravel()
    schools = np.repeat(np.arange(len(tables)), [len(one) for one in tables])
    # The last column is 1 throughout.
    return np.vstack(tables)[:, :-1].astype(np.float64), np.vstack(scores).ravel().astype(np.float64), schools


def reviews(split: str) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Return (texts, whether favourable, domains) of reviews of 16 domains: train 25,380, test 6,400."""
    found = []
    for path in sorted((DATA / "fdu_mtl").glob(f"*.task.{split}")):
        lines = path.read_text(encoding="latin-1").split("\n")
        found += [(*line.split("\t", 1), path.name.split(".")[0]) for line in lines if "\t" in line]
    labels, texts, domains = zip(*found, strict=True)
    return np.array(texts, dtype=object), np.array(labels) == "1", np.array(domains)


def few_shot(labels: np.ndarray, k: int, seed: int) -> tuple[np.ndarray, np.ndarray]:
    """Return the rows of k examples of each class, drawn from `seed`, and all other rows."""
    draws = np.random.default_rng(seed)
    chosen = np.concatenate([draws.permutation(np.flatnonzero(labels == name))[:k] for name in np.unique(labels)])
    return chosen, np.setdiff1d(np.arange(len(labels)), chosen)


def machine() -> dict[str, Any]:
    """Return what the figures were measured on."""
    import os

    import torch

    model = platform.processor() or platform.machine()
    info = Path("/proc/cpuinfo")
    if info.exists():
        names = [
            line.split(":", 1)[1].strip() for line in info.read_text().splitlines() if line.startswith("model name")
        ]
        model = names[0] if names else model
    return {
        "processor": model,
        "cores": len(os.sched_getaffinity(0)),
        "torch": torch.__version__,
        "cpu_capability": torch.backends.cpu.get_cpu_capability(),
        "python": platform.python_version(),
    }


def write_results(name: str, results: dict[str, Any]) -> Path:
    """Write one benchmark's figures, with the machine, and return the file."""
    RESULTS.mkdir(exist_ok=True)
    path = RESULTS / f"{name}.json"
    path.write_text(json.dumps({"machine": machine(), **results}, indent=1) + "\n", encoding="utf-8")
    return path
