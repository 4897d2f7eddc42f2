"""Results as comparisons leave them, made from simple learning curves: pictures, texts, numbers, two domains, tasks."""

from __future__ import annotations

import base64
import io

import numpy as np
import pytest

from graft.evaluation.cell import Cell
from graft.evaluation.results import Results, Verdict
from graft.metrics import Estimate

TITLES = {
    "raw-input": ("simple heads on the pixels", ["scratch"]),
    "feature-extraction": ("feature extraction with efficientnet_lite0", ["transfer"]),
    "fine-tuning": ("fine-tuning efficientnet_lite0", ["transfer"]),
    "from-scratch": ("efficientnet_lite0 from scratch", ["scratch"]),
    "source-only": ("source only on features of efficientnet_lite0", ["transfer", "unadapted"]),
    "domain-adaptation": ("domain adaptation on features of efficientnet_lite0", ["transfer", "adapted"]),
    "multi-task": ("several tasks in one network", ["transfer", "shared"]),
    "single-task": ("a network for each task", ["transfer", "alone"]),
}
# error = floor + (start - floor) * (n / 10) ** -rate
CURVES = {
    "raw-input": (0.3, 0.75, 0.35),
    "feature-extraction": (0.04, 0.3, 0.8),
    "fine-tuning": (0.02, 0.45, 1.0),
    "from-scratch": (0.2, 0.85, 0.4),
    "source-only": (0.3, 0.5, 0.6),
    "domain-adaptation": (0.12, 0.4, 0.7),
    "multi-task": (0.08, 0.35, 0.6),
    "single-task": (0.09, 0.45, 0.6),
}
SPEED = {
    "raw-input": (0.2, 0.002),
    "feature-extraction": (0.4, 0.01),
    "fine-tuning": (8.0, 0.11),
    "from-scratch": (25.0, 0.4),
    "source-only": (0.4, 0.01),
    "domain-adaptation": (1.5, 0.02),
    "multi-task": (9.0, 0.1),
    "single-task": (20.0, 0.25),
}
MEMORY = {"raw-input": 35.0, "feature-extraction": 180.0, "fine-tuning": 920.0, "from-scratch": 1130.0}


class Builder:
    """Makes results from learning curves."""

    def __init__(
        self,
        techniques,
        *,
        classes=("ash", "beech", "birch", "oak"),
        kind="classification",
        modality="image",
        budgets=(5, 10, 20, None),
        pool=160,
        test=120,
        seeds=(0, 1, 2),
        left_out=(),
        failed=(),
        target=False,
        tasks=(),
        inputs=None,
        seed=0,
    ):
        self.techniques, self.classes, self.kind, self.modality = tuple(techniques), tuple(classes), kind, modality
        self.budgets, self.pool, self.test, self.seeds = budgets, pool, test, seeds
        self.left_out, self.failed, self.target, self.tasks = set(left_out), set(failed), target, tuple(tasks)
        self.draw = np.random.default_rng(seed)
        self.inputs = inputs
        self.percent = kind != "regression"

    def results(self, **changes):
        cells = tuple(
            self._cell(name, budget, seed) for name in self.techniques for budget in self.budgets for seed in self.seeds
        )
        summary = tuple(self._summary(cells))
        parts = {
            "created": "2025-03-01T12:00:00Z",
            "command": "graft compare photos/ --out report --seeds 3",
            "versions": {"python": "3.11.9", "graft": "0.1.0", "torch": "2.13.0", "scikit-learn": "1.7.0"},
            "machine": {
                "system": "Linux 6.1",
                "processor": "x86_64",
                "cores": 2,
                "memory_gib": 15.6,
                "device": "cpu",
                "memory_is": "resident",
            },
            "data": self._data(),
            "settings": self._settings(),
            "score": {"name": "accuracy", "title": "accuracy", "percent": True}
            if self.percent
            else {"name": "r2", "title": "R²", "percent": False},
            "techniques": tuple(
                {"name": name, "title": TITLES[name][0], "sides": TITLES[name][1], "description": f"What {name} does."}
                for name in self.techniques
            ),
            "cells": cells,
            "summary": summary,
            "verdict": self._verdict(summary),
            "details": tuple(
                self._detail(name, cells, task)
                for name in self.techniques
                if any(map(_of(name), cells))
                for task in (self.tasks or (None,))
            ),
        }
        return Results(**{**parts, **changes})

    def _number(self, budget):
        return self.pool if budget is None else budget * (len(self.classes) if self.kind == "classification" else 1)

    def _cell(self, name, budget, seed):
        number = self._number(budget)
        if (name, budget) in self.left_out:
            return Cell(name, budget, seed, number, "left out", f"needs about {3 * number} s, 20 s were left")
        if (name, budget) in self.failed:
            return Cell(name, budget, seed, number, "failed", "TrainingError: the loss is not finite at step 12")
        floor, start, rate = CURVES[name]
        value = 1 - (floor + (start - floor) * (number / 10) ** -rate) + self.draw.normal(0, 0.012)
        value = float(np.clip(value, 0.02, 0.998))
        score = _estimate(value, 0.03)
        base, each = SPEED[name]
        frozen = name in ("feature-extraction", "source-only", "domain-adaptation")
        seconds = {
            "data": 0.002 * number,
            "features": 0.01 * number if frozen else 0.0,
            "training": base + each * number,
        }
        seconds["total"] = sum(seconds.values())
        own = {"accuracy": score, "macro_f1": _estimate(value - 0.01, 0.03), "log_loss": _estimate(1.5 - value, 0.1)}
        numbers = {"rmse": _estimate(1 - value, 0.05), "mae": _estimate(0.8 - 0.5 * value, 0.05), "r2": score}
        return Cell(
            name,
            budget,
            seed,
            number,
            score=score,
            metrics={**own, "ece": _estimate(0.05, 0.02)} if self.percent else numbers,
            tasks={task: {"accuracy": _estimate(value, 0.03)} for task in self.tasks},
            seconds=seconds,
            peak_memory_mib=MEMORY.get(name, 240.0) + 0.1 * number,
            trainable_parameters=3_371_024 if name in ("fine-tuning", "from-scratch") else 5124,
            total_parameters=3_376_148 if name != "raw-input" else 5124,
            flops={"forward": 7.8e8, "training": 7.8e8 * number} if name != "raw-input" else None,
        )

    def _summary(self, cells):
        for name in self.techniques:
            for budget in self.budgets:
                mine = [cell for cell in cells if cell.done and (cell.technique, cell.budget) == (name, budget)]
                if not mine:
                    continue
                value = float(np.mean([cell.score.value for cell in mine]))
                yield {
                    "technique": name,
                    "budget": budget,
                    "n_train": float(np.mean([cell.n_train for cell in mine])),
                    "seeds": len(mine),
                    "score": _estimate(value, 0.02).to_dict(),
                    "seconds": float(np.median([cell.seconds["total"] for cell in mine])),
                    "peak_memory_mib": float(np.median([cell.peak_memory_mib for cell in mine])),
                    "flops": None if mine[0].flops is None else mine[0].flops["training"],
                    "energy_joules": None,
                }

    def _data(self):
        counts = [{"class": name, "examples": 40 + place} for place, name in enumerate(self.classes)]
        classification = self.kind == "classification"
        return {
            "name": "photos",
            "modality": self.modality,
            "task": {"kind": self.kind, "name": "species", "classes": list(self.classes)},
            "examples": self.pool + self.test + 3,
            "labelled": self.pool + self.test,
            "classes": counts if classification else [],
            "groups": False,
            "splits": [{"seed": seed, "pool": self.pool, "test": self.test, "given": False} for seed in self.seeds],
            "fingerprint": "0f" * 16,
            "target": {"name": "field", "examples": 200, "test": 120, "labelled": 120, "fingerprint": "ab" * 16}
            if self.target
            else None,
        }

    def _settings(self):
        return {
            "backbone": {
                "name": "efficientnet_lite0",
                "weights_hash": "c0ffee" * 10,
                "parameters": 3_371_024,
                "feature_dim": 1280,
                "input": "224 x 224 pixels",
                "license": "Apache-2.0",
            },
            "budgets": list(self.budgets),
            "budget_unit": "per class" if self.kind == "classification" else "examples",
            "seeds": list(self.seeds),
            "budget_seconds": 600.0,
            "spent_seconds": 512.5,
            "resumed_cells": 3,
            "test": 0.25,
            "epochs": "auto",
            "image_size": None,
            "random_state": 0,
        }

    def _verdict(self, summary):
        pairs = [
            ("transfer", "feature-extraction", "from-scratch"),
            ("adaptation", "domain-adaptation", "source-only"),
            ("sharing", "multi-task", "single-task"),
        ]
        findings = [
            self._finding(question, first, second, summary)
            for question, first, second in pairs
            if {first, second} <= {one["technique"] for one in summary}
        ]
        if not findings:
            figures = [
                {"name": name, "title": name, "text": "Nothing was compared.", "value": None, "low": None, "high": None}
                for name in ("labels", "time", "memory")
            ]
            return Verdict("not measured", "Only one technique was measured.", tuple(figures), ())
        one = findings[0]
        figures = (
            _figure("labels", "labels", one["labels"][0], "With 5 per class it is worth 160 from scratch."),
            _figure("time", "training time", one["seconds"], "3.5 s instead of 90 s."),
            _figure("memory", "memory", one["memory"], "200 MiB instead of 1.1 GiB."),
        )
        text = "Transfer pays here: on average over the numbers of labels, the features are better than from scratch."
        return Verdict("pays", text, figures, tuple(findings))

    def _finding(self, question, first, second, summary):
        points = {(one["technique"], one["budget"]): one for one in summary}
        common = [budget for budget in self.budgets if {(first, budget), (second, budget)} <= set(points)]
        gains, labels = [], []
        for place, budget in enumerate(common):
            one, other = points[first, budget], points[second, budget]
            difference = one["score"]["value"] - other["score"]["value"]
            whole = {"budget": budget, "n_train": one["n_train"]}
            gains.append({**whole, **_estimate(difference, 0.03, wide=True).to_dict(), "seeds": len(self.seeds)})
            equals = max(one["n_train"], float(self.pool))
            labels.append(
                {
                    **whole,
                    "equals": equals,
                    "factor": equals / one["n_train"],
                    "low": 0.8 * equals / one["n_train"],
                    "high": None if place == 0 else 1.3 * equals / one["n_train"],
                    "bound": "at least" if place == 0 else None,
                }
            )
        mean = float(np.mean([one["value"] for one in gains]))
        return {
            "question": question,
            "with": first,
            "without": second,
            "outcome": "pays" if mean > 0.03 else "inconclusive",
            "text": f"{TITLES[first][0]} is better than {TITLES[second][0]}.",
            "gain": _estimate(mean, 0.02, wide=True).to_dict(),
            "gains": gains,
            "labels": labels,
            "seconds": self._cost(points[first, common[-1]], points[second, common[-1]], "seconds"),
            "memory": self._cost(points[first, common[-1]], points[second, common[-1]], "peak_memory_mib"),
            "tasks": [
                {"task": task, **_estimate(0.05 - 0.03 * place, 0.025, wide=True).to_dict()}
                for place, task in enumerate(self.tasks)
            ],
        }

    def _cost(self, one, other, what):
        ratio = other[what] / one[what]
        parts = {"factor": ratio, "low": 0.9 * ratio, "high": 1.1 * ratio}
        return {"budget": one["budget"], "with": one[what], "without": other[what], **parts}

    def _detail(self, name, cells, task):
        cell = next(cell for cell in reversed(cells) if cell.done and cell.technique == name)
        plain = {
            "technique": name,
            "task": task,
            "budget": cell.budget,
            "seed": cell.seed,
            "n_train": cell.n_train,
            "examples": self.test,
            "classes": [],
            "confusion": None,
            "per_class": [],
            "calibration": [],
            "wrong": [],
            "foreign": [],
            "coordinates": self._coordinates(name) if self.target else None,
            "predicted": None,
        }
        if self.kind == "multilabel":
            wrong = [
                {**self._example(row, 0, 1, 0.99 - 0.05 * row), "label": self.classes[row % 2]} for row in range(4)
            ]
            return {
                **plain,
                "wrong": wrong,
                "calibration": _bins(np.array([0.6, 0.9, 0.9]), np.array([True, True, False])),
            }
        if self.kind == "regression":
            true = self.draw.normal(5, 2, self.test)
            guess = true + self.draw.normal(0, 0.7, self.test)
            order = np.argsort(-np.abs(true - guess))[:12]
            wrong = [self._example(int(row), float(true[row]), float(guess[row]), None) for row in order]
            return {**plain, "wrong": wrong, "predicted": {"true": true.tolist(), "predicted": guess.tolist()}}
        count = len(self.classes)
        truth = np.arange(self.test) % count
        slips = self.draw.random(self.test) > cell.score.value
        guess = np.where(slips, (truth + self.draw.integers(1, count, self.test)) % count, truth)
        confusion = np.zeros((count, count), int)
        np.add.at(confusion, (truth, guess), 1)
        sure = np.clip(self.draw.beta(6, 1.4, self.test), 1 / count, 0.9999)
        wrong = np.nonzero(slips)[0]
        order = wrong[np.argsort(-sure[wrong])][:12]
        far = self.draw.permutation(self.test)[:12]
        plain["classes"] = list(self.classes)
        plain["confusion"] = confusion.tolist()
        plain["per_class"] = [self._class_row(confusion, place) for place in range(count)]
        plain["calibration"] = _bins(sure, ~slips)
        plain["wrong"] = [
            self._example(int(row), self.classes[truth[row]], self.classes[guess[row]], float(sure[row]))
            for row in order
        ]
        plain["foreign"] = [
            {
                **self._example(int(row), self.classes[truth[row]], self.classes[guess[row]], float(sure[row])),
                "score": 3.0 - 0.1 * place,
            }
            for place, row in enumerate(far)
        ]
        return plain

    def _class_row(self, confusion, place):
        right = confusion[place, place]
        precision, recall = right / max(1, confusion[:, place].sum()), right / max(1, confusion[place].sum())
        f1 = 2 * precision * recall / max(1e-9, precision + recall)
        parts = {"precision": float(precision), "recall": float(recall), "f1": float(f1)}
        return {"class": self.classes[place], "examples": int(confusion[place].sum()), **parts}

    def _example(self, row, true, predicted, p):
        given = None if self.inputs is None else self.inputs[row % len(self.inputs)]
        picture = self.modality == "image"
        name = f"photos/{true}/{true}_{row:03d}.jpg" if picture and given is None else given
        return {
            "row": row,
            "input": name,
            "thumbnail": thumbnail(row) if picture else None,
            "true": true,
            "predicted": predicted,
            "p": p,
        }

    def _coordinates(self, name):
        count = len(self.classes)
        centres = 4 * np.stack([np.cos(np.arange(count) * 1.4), np.sin(np.arange(count) * 1.9)], axis=1)
        views = {}
        for when, moved in (("before", 3.0), ("after", 0.6 if name == "domain-adaptation" else 3.0)):
            here, there = np.arange(100) % count, np.arange(80) % count
            source = centres[here] + self.draw.normal(0, 0.7, (100, 2))
            target = centres[there] + [moved, -moved] + self.draw.normal(0, 0.9, (80, 2))
            views[when] = {
                "source": np.round(source, 5).tolist(),
                "target": np.round(target, 5).tolist(),
                "source_labels": [self.classes[place] for place in here],
                "target_labels": [self.classes[place] for place in there],
            }
        return views


def _of(name):
    return lambda cell: cell.done and cell.technique == name


def _estimate(value, half, *, wide=False):
    low, high = value - half, value + half
    return Estimate(value, low if wide else max(low, 0.0), high if wide else min(high, 1.0))


def _figure(name, title, found, text):
    plain = {part: found[part] for part in ("low", "high")}
    return {"name": name, "title": title, "text": text, "value": found["factor"], **plain, "bound": found.get("bound")}


def _bins(sure, right):
    places = np.minimum((sure * 15).astype(int), 14)
    return [
        {
            "low": number / 15,
            "high": (number + 1) / 15,
            "examples": int((places == number).sum()),
            "confidence": float(sure[places == number].mean()),
            "accuracy": float(right[places == number].mean()),
        }
        for number in range(15)
        if (places == number).any()
    ]


def thumbnail(seed):
    """Return a small picture as a data URI."""
    from PIL import Image

    draw = np.random.default_rng(seed)
    pixels = draw.integers(0, 256, (4, 4, 3), dtype=np.uint8)
    held = io.BytesIO()
    Image.fromarray(pixels).resize((96, 72), Image.Resampling.BICUBIC).save(held, "JPEG", quality=80)
    return f"data:image/jpeg;base64,{base64.b64encode(held.getvalue()).decode()}"


TEXTS = (
    "My card was charged twice for the same train ticket, and the second one is still pending after nine days.",
    "Please close my account; I have asked three times now.",
    "How do I raise the limit?",
)
IMAGES = ("raw-input", "feature-extraction", "fine-tuning", "from-scratch")
CASES = {
    "images": lambda: Builder(IMAGES, left_out={("fine-tuning", None), ("from-scratch", None)}),
    "texts": lambda: Builder(
        IMAGES[1:], modality="text", inputs=TEXTS, classes=[f"intent {place}" for place in range(20)], pool=900
    ),
    "numbers": lambda: Builder(IMAGES, kind="regression", classes=(), modality="features", budgets=(20, 50, 100, None)),
    "domains": lambda: Builder(
        ("raw-input", "source-only", "domain-adaptation"), target=True, failed={("raw-input", 10)}
    ),
    "tasks": lambda: Builder(("single-task", "multi-task"), kind="multi-task", tasks=("species", "margin", "damage")),
    "labels": lambda: Builder(IMAGES[1:], kind="multilabel", classes=("wet", "dirty", "torn"), budgets=(10, 50, None)),
    "one technique": lambda: Builder(("feature-extraction",), seeds=(0,), budgets=(None,)),
    "many classes": lambda: Builder(
        ("feature-extraction", "from-scratch"), classes=[f"class {place}" for place in range(60)], test=600, pool=3000
    ),
    "nothing": lambda: Builder(
        ("feature-extraction", "from-scratch"),
        budgets=(5,),
        failed={("feature-extraction", 5), ("from-scratch", 5)},
    ),
}


@pytest.fixture(scope="session")
def made():
    """Return results of each case, by name."""
    return {name: build().results() for name, build in CASES.items()}


@pytest.fixture(params=CASES, scope="session")
def case(request):
    """Return the name of one case after the other."""
    return request.param


@pytest.fixture(scope="session")
def results(case, made):
    """Return results of one case after the other."""
    return made[case]
