"""`graft.compare` from the data to the verdict: small data, few cells, every kind of task."""

import csv
import json
import re
import shlex
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch

import graft
from graft import _runtime
from graft.backbones import FeaturePreprocessing, load_backbone, module_backbone
from graft.cli import main
from graft.data import Domain
from graft.errors import DataError, GraftError, RequestError
from graft.evaluation import read_results
from graft.evaluation.cell import Cell
from graft.evaluation.comparison import compare as comparing
from graft.evaluation.comparison.measuring import Measured
from graft.evaluation.results import NO_INTERVAL
from graft.metrics import Estimate

pytestmark = pytest.mark.usefixtures("tournaments_in_time")


def vectors(count=160, classes=2, seed=0):
    """Vectors whose sign pattern tells the class, and which no linear head on them can tell."""
    draw = np.random.default_rng(seed)
    X = draw.normal(size=(count, 6)).astype(np.float32)
    y = (X[:, 0] * X[:, 1] > 0).astype(int) if classes == 2 else draw.integers(classes, size=count)
    return X, np.array(["no", "yes", "maybe"])[y]


class Knows(torch.nn.Module):
    """A network that was pretrained on a related task: it gives the product that decides."""

    def __init__(self, share=1.0):
        super().__init__()
        self.scale = torch.nn.Parameter(torch.tensor(share))

    def forward(self, x):
        return torch.stack([self.scale * x[:, 0] * x[:, 1], x[:, 2]], dim=1)


def network(module=None):
    return module_backbone(module or Knows(), preprocessing=FeaturePreprocessing(), name="expert", feature_dim=2)


PAIR = {"store": False, "techniques": ["raw-input", "feature-extraction"]}
FULL = {**PAIR, "seeds": 2, "budgets": [5, 20]}
ONE = {**PAIR, "seeds": 1, "budgets": [20]}


def made_up(setup, job, meter, *, seconds=None):
    """A cell without a fit: right where the row, the budget and the technique say so."""
    rows = job.deal.test
    values = ((rows * 7 + job.deal.seed) % 10 < (8 if job.candidate.name == "feature-extraction" else 5)).astype(float)
    score = Estimate(float(values.mean()), float("nan"), float("nan"))
    seconds = {"data": 0.0, "features": 0.0, "training": 1.0, "total": 1.0}
    cell = Cell(job.candidate.name, job.budget, job.deal.seed, len(job.rows), score=score, seconds=seconds)
    return Measured(cell, rows, values, {}, 1.0)


@pytest.fixture(scope="module")
def found():
    X, y = vectors()
    return graft.compare(X, y, backbone=network(), **FULL)


def test_every_cell_is_measured_with_interval_and_cost(found):
    assert [(one.technique, one.budget, one.seed) for one in found.cells] == [
        (name, budget, seed) for name in ("raw-input", "feature-extraction") for budget in (5, 20) for seed in (0, 1)
    ]
    for cell in found.cells:
        assert cell.status == "done", cell.reason
        assert cell.n_train == 2 * cell.budget
        assert cell.score.low <= cell.score.value <= cell.score.high
        assert set(cell.metrics) >= {"accuracy", "macro_f1", "log_loss", "ece"}
        assert cell.seconds["total"] == pytest.approx(
            sum(cell.seconds[part] for part in ("data", "features", "training"))
        )
        assert cell.trainable_parameters > 0
        assert cell.total_parameters >= cell.trainable_parameters
    frozen = [cell for cell in found.cells if cell.technique == "feature-extraction"]
    assert all(cell.total_parameters > cell.trainable_parameters for cell in frozen)
    assert all(cell.flops is not None for cell in frozen)
    assert all(cell.flops is None for cell in found.cells if cell.technique == "raw-input")


def test_transfer_that_pays_is_found(found):
    assert found.verdict.outcome == "pays"
    assert "Transfer pays here" in found.verdict.text
    (finding,) = found.verdict.findings
    assert (finding["with"], finding["without"]) == ("feature-extraction", "raw-input")
    assert finding["gain"]["low"] > 0
    labels, time, memory = found.verdict.figures
    assert [one["name"] for one in found.verdict.figures] == ["labels", "time", "memory"]
    assert labels["value"] > 1
    assert labels["sentence"] in found.verdict.text
    assert labels["text"].removesuffix(".") in labels["sentence"]
    for one in (labels, time, memory):
        if one["value"] is None:  # not every machine tells how much memory a process holds
            assert "was not measured" in one["sentence"]
            continue
        assert one["value"] > 0
        # What the machine measures may be the same for both seeds: then there is no interval, and that is said.
        known = bool(one["low"]) or one["high"] is not None
        assert ("95 %: " if known else NO_INTERVAL) in one["sentence"]
    assert time["value"] is not None
    assert memory["text"]


def test_transfer_that_does_not_pay_is_found():
    X, _ = vectors(200)
    y = np.where(X[:, 2] + X[:, 3] > 0, "up", "down")
    blind = Knows(0.0)  # it passes on half of what decides
    said = graft.compare(X, y, backbone=network(blind), **{**ONE, "seeds": 2}).verdict
    assert said.outcome == "does not pay"
    assert "Transfer does not pay here" in said.text
    assert said.findings[0]["gain"]["high"] < 0
    assert said.figures[0]["value"] <= 1


def test_gains_are_paired_differences_of_the_cells(found):
    (finding,) = found.verdict.findings
    for one in finding["gains"]:
        scores = {
            name: np.mean([c.score.value for c in found.cells if (c.technique, c.budget) == (name, one["budget"])])
            for name in ("raw-input", "feature-extraction")
        }
        assert one["value"] == pytest.approx(scores["feature-extraction"] - scores["raw-input"])
    assert finding["gain"]["value"] == pytest.approx(np.mean([one["value"] for one in finding["gains"]]))


def test_summary_and_details_are_those_of_the_cells(found):
    assert [(one["technique"], one["budget"], one["seeds"]) for one in found.summary] == [
        (name, budget, 2) for name in ("raw-input", "feature-extraction") for budget in (5, 20)
    ]
    for one in found.summary:
        cells = [c for c in found.cells if (c.technique, c.budget) == (one["technique"], one["budget"])]
        assert one["score"]["value"] == pytest.approx(np.mean([cell.score.value for cell in cells]))
        assert one["score"]["low"] <= one["score"]["value"] <= one["score"]["high"]
        assert one["seconds"] == pytest.approx(np.median([cell.seconds["total"] for cell in cells]))
    for one in found.details:
        cell = next(c for c in found.cells if (c.technique, c.budget, c.seed) == (one["technique"], 20, 0))
        confusion = np.array(one["confusion"])
        assert confusion.sum() == one["examples"]
        assert np.trace(confusion) / confusion.sum() == pytest.approx(cell.score.value)
        assert sum(bin["examples"] for bin in one["calibration"]) == one["examples"]
        wrong = [example["p"] for example in one["wrong"]]
        assert wrong == sorted(wrong, reverse=True)
        assert all(example["true"] != example["predicted"] for example in one["wrong"])


def test_the_same_call_finds_the_same_score_whatever_else_is_compared(found):
    X, y = vectors()
    again = graft.compare(X, y, backbone=network(), **{**ONE, "techniques": ["feature-extraction"]})
    alone = {(cell.technique, cell.budget, cell.seed): cell.score for cell in found.cells}
    (cell,) = again.cells
    assert cell.score == alone["feature-extraction", 20, 0]
    assert again.data["fingerprint"] == found.data["fingerprint"]


def test_an_interrupted_comparison_continues(tmp_path, monkeypatch):
    X, y = vectors()
    report, done = tmp_path / "report", []

    def interrupted(setup, job, meter, *, seconds=None):
        if len(done) == 3:
            raise KeyboardInterrupt
        done.append(job)
        return made_up(setup, job, meter)

    def counting(setup, job, meter, *, seconds=None):
        done.append(job)
        return made_up(setup, job, meter)

    monkeypatch.setattr(comparing, "measure", interrupted)
    with pytest.raises(KeyboardInterrupt):
        graft.compare(X, y, backbone=network(), out=report, **FULL)
    assert len(list((report / "cells").glob("*.json"))) == 3
    assert not list((report / "cells").glob("*.begun"))
    monkeypatch.setattr(comparing, "measure", counting)
    found = graft.compare(X, y, backbone=network(), out=report, **FULL)
    assert len(done) == 8  # three before, five now
    assert found.settings["resumed_cells"] == 3
    fresh = graft.compare(X, y, backbone=network(), **FULL)
    assert [cell.score.value for cell in found.cells] == [cell.score.value for cell in fresh.cells]
    assert found.verdict == fresh.verdict
    done.clear()
    more = graft.compare(X, y, backbone=network(), out=report, **{**FULL, "seeds": 3})
    assert len(done) == 4  # a further seed of two techniques and budgets; nothing is measured twice
    assert more.settings["resumed_cells"] == 8
    other = np.where(np.arange(len(y)) == 0, "no" if y[0] == "yes" else "yes", y)  # other data: nothing fits any more
    (report / "results.json").unlink()
    assert graft.compare(X, other, backbone=network(), out=report, **FULL).settings["resumed_cells"] == 0


@pytest.mark.parametrize("other", ["content", "label", "kind", "target"])
def test_a_report_of_other_data_is_not_replaced(other, tmp_path, monkeypatch):
    X, y = vectors()
    monkeypatch.setattr(comparing, "measure", made_up)
    first = Domain(X, y, name="first")
    numbers = replace(first, labels=(y == "yes").astype(int))
    report = tmp_path / "report"
    graft.compare(numbers if other == "kind" else first, backbone=network(), out=report, **ONE)
    before = (report / "results.json").read_bytes()
    second, options, found = {
        "content": (
            replace(first, inputs=X + 1),
            {},
            r"found the report of first \(classification: no, yes\) with other",
        ),
        "label": (
            replace(first, labels=X[:, 0]),
            {},
            r"first \(regression\), found the report of first \(class.*yes\)\.",
        ),
        "kind": (numbers, {"task": "regression"}, r"found the report of first \(classification: 0, 1\)\."),
        "target": (
            first,
            {"target": replace(first, name="field"), "techniques": ["raw-input"]},
            "yes.*, adapted to field, found",
        ),
    }[other]
    with pytest.raises(RequestError, match=found) as refused:
        graft.compare(second, backbone=network(), out=report, **{**ONE, **options})
    assert refused.value.remedy.startswith("Name another folder: this one was written by `graft.compare(domain, ")
    assert (report / "results.json").read_bytes() == before


def test_cells_of_another_version_are_measured_again_and_it_is_said(tmp_path, monkeypatch):
    X, y = vectors()
    report = tmp_path / "report"
    monkeypatch.setattr(comparing, "measure", made_up)
    assert graft.compare(X, y, backbone=network(), out=report, **ONE).settings["outdated_cells"] == 0
    monkeypatch.setattr(graft, "__version__", "0.0.1")
    other = graft.compare(X, y, backbone=network(), out=report, **ONE)
    assert (other.settings["resumed_cells"], other.settings["outdated_cells"]) == (0, 2)
    again = graft.compare(X, y, backbone=network(), out=report, **ONE)
    assert (again.settings["resumed_cells"], again.settings["outdated_cells"]) == (2, 0)


def test_a_continued_comparison_shows_what_it_showed_before(tmp_path):
    X, y = vectors()
    report = tmp_path / "report"
    first = graft.compare(X, y, backbone=network(), out=report, **ONE)
    again = graft.compare(X, y, backbone=network(), out=report, **ONE)
    assert again.settings["resumed_cells"] == 2
    assert again.details == first.details
    assert all(one["confusion"] and one["calibration"] and one["classes"] == ["no", "yes"] for one in again.details)
    assert again.verdict == first.verdict
    assert again.cells == first.cells


def test_what_was_found_is_written_and_read_again(tmp_path, found):
    found.write(tmp_path / "report")
    read = read_results(tmp_path / "report")
    assert read.to_dict() == found.to_dict()
    rows = list(csv.DictReader((tmp_path / "report" / "results.csv").open()))
    assert [row["technique"] for row in rows] == [cell.technique for cell in found.cells]
    assert float(rows[0]["accuracy"]) == found.cells[0].score.value
    assert read.command.startswith("graft.compare(X, y, ")
    (X, y), backbone = vectors(), network()
    again = eval(read.command, {"graft": graft, "X": X, "y": y, "backbone": backbone})
    assert [cell.score for cell in again.cells] == [cell.score for cell in found.cells]
    assert set(read.settings) == {
        "backbone",
        "budgets",
        "budget_unit",
        "seeds",
        "budget_seconds",
        "spent_seconds",
        "resumed_cells",
        "outdated_cells",
        "test",
        "epochs",
        "image_size",
        "random_state",
    }
    assert set(read.data) == {
        "name",
        "modality",
        "task",
        "examples",
        "labelled",
        "classes",
        "groups",
        "splits",
        "unreadable",
        "fingerprint",
        "target",
    }
    assert {"system", "processor", "cores", "memory_gib", "device", "memory_is"} == set(read.machine)
    assert {"python", "graft", "torch"} <= set(read.versions)


def test_every_key_of_the_results_is_documented(found):
    page = (Path(__file__).parents[2] / "docs" / "results.md").read_text(encoding="utf-8")

    def keys(plain):
        if isinstance(plain, list):
            return set().union(*map(keys, plain))
        return set(plain).union(*map(keys, plain.values())) if isinstance(plain, dict) else set()

    plain = found.to_dict()
    # Versions, metrics and seconds have names of their own.
    for cell in [*plain["cells"], *plain["summary"]]:
        cell.pop("metrics", None)
        cell.pop("seconds", None)
    plain.pop("versions")
    lacking = [key for key in keys(plain) if not re.search(rf'[`"]{key}\b', page)]
    assert not lacking


def test_a_time_budget_of_nothing_measures_nothing_and_says_so():
    X, y = vectors()
    found = graft.compare(X, y, backbone=network(), budget_seconds=0, **FULL)
    assert {cell.status for cell in found.cells} == {"left out"}
    assert all("of the time budget left" in cell.reason for cell in found.cells)
    assert found.verdict.outcome == "not measured"
    assert found.summary == ()


def test_a_cell_that_fails_says_why_and_the_others_go_on(monkeypatch):
    X, y = vectors()

    def failing(setup, job, meter, *, seconds=None):
        if job.candidate.name == "raw-input":
            raise DataError("labels", expected="something", found="nothing", remedy="Mend it.")
        return made_up(setup, job, meter)

    monkeypatch.setattr(comparing, "measure", failing)
    found = graft.compare(X, y, backbone=network(), **FULL)
    assert {(cell.technique, cell.status) for cell in found.cells} == {
        ("raw-input", "failed"),
        ("feature-extraction", "done"),
    }
    assert "something" in found.cells[0].reason


def test_numbers_are_compared_by_r2():
    X, _ = vectors()
    y = X[:, 0] * X[:, 1] + 0.01 * X[:, 3]
    found = graft.compare(X, y, backbone=network(), **ONE)
    assert found.score == {"name": "r2", "title": "R²", "percent": False}
    assert found.settings["budget_unit"] == "examples"
    for cell in found.cells:
        assert cell.score == cell.metrics["r2"]
    assert found.verdict.outcome == "pays"
    assert "%)" not in found.verdict.findings[0]["text"].replace("(95 %", "")
    assert len(found.details[0]["predicted"]["true"]) == found.details[0]["examples"]


def test_multi_label_tables_are_compared():
    X, _ = vectors(80)
    table = np.stack([X[:, 0] * X[:, 1] > 0, X[:, 2] > 0], axis=1).astype(float)
    table[::9, 0] = np.nan
    found = graft.compare(X, table, backbone=network(), **ONE)
    assert found.data["task"]["kind"] == "multilabel"
    for cell in found.cells:
        assert cell.status == "done", cell.reason
        assert cell.n_train == 20
    for one in found.summary:
        assert one["score"]["high"] <= 1


def test_several_columns_compare_together_with_alone():
    X, y = vectors(200)
    table = np.empty((200, 2), dtype=object)
    table[:, 0] = y
    table[:, 1] = [
        None if row % 3 == 0 else float(value) for row, value in enumerate(X[:, 0] * X[:, 1] + 0.1 * X[:, 2])
    ]
    domain = Domain(X, table, name="two", tasks=("sign", "size"))
    found = graft.compare(domain, backbone=network(), budgets=[40], seeds=1, store=False, epochs=1)
    assert [one["name"] for one in found.techniques] == [
        "raw-input",
        "single-task",
        "multi-task",
        "multi-task-network",
        "single-task-network",
    ]
    assert found.data["task"] == {"kind": "multi-task", "name": "", "classes": ["sign", "size"]}
    for cell in found.cells:
        assert cell.status == "done", cell.reason
        metrics = [cell.tasks["sign"]["accuracy"].value, cell.tasks["size"]["r2"].value]
        assert cell.score.value == pytest.approx(np.mean(metrics))
        assert cell.trainable_parameters > 0
    shown = {(one["technique"], one["task"]): one for one in found.details}
    assert list(shown) == [(cell.technique, task) for cell in found.cells for task in ("sign", "size")]
    for cell in found.cells:
        sign, size = (shown[cell.technique, task] for task in ("sign", "size"))
        confusion = np.array(sign["confusion"])
        assert np.trace(confusion) / confusion.sum() == pytest.approx(cell.tasks["sign"]["accuracy"].value)
        assert all(one["true"] == y[one["row"]] != one["predicted"] for one in sign["wrong"])
        assert sum(one["examples"] for one in sign["calibration"]) == sign["examples"] == 50
        assert len(sign["foreign"]) == 6
        # Of the numbers, which a third of the examples lack, those that are known.
        assert size["examples"] == len(size["predicted"]["true"]) < 50
        assert all(one["row"] % 3 and one["true"] == table[one["row"], 1] for one in size["wrong"])
    questions = {one["question"]: one for one in found.verdict.findings}
    assert set(questions) == {"transfer", "sharing"}
    assert [one["task"] for one in questions["sharing"]["tasks"]] == ["sign", "size"]
    gains = [one["value"] for one in questions["sharing"]["tasks"]]
    assert questions["sharing"]["gain"]["value"] == pytest.approx(np.mean(gains))
    assert questions["transfer"]["outcome"] == "pays"


def sparse_table(X, y, rare):
    """Two columns: the classes of all rows, and what `rare` gives for every seventh of the first 42."""
    table = np.empty((len(y), 2), dtype=object)
    table[:, 0], table[:, 1] = y, None
    for row in range(0, 42, 7):
        table[row, 1] = rare(row)
    return Domain(X, table, name="two", tasks=("sign", "rare"))


def test_tasks_with_more_classes_than_labels_are_judged_on_all_of_them():
    X, y = vectors(200)
    table = np.array([[f"kind {row % 12}", one] for row, one in enumerate(y)], dtype=object)
    found = graft.compare(
        Domain(X, table, name="many", tasks=("kind", "sign")), backbone=network(), budgets=[10], seeds=1, store=False
    )
    cells = {cell.technique: cell for cell in found.cells}
    for name in ("raw-input", "single-task", "multi-task"):
        assert cells[name].status == "done", cells[name].reason
        assert np.isfinite(cells[name].score.value)
    # One label of a class is too little to train a network with and to hold some out; that is said.
    assert cells["single-task-network"].status == "failed"
    assert "examples of every class to learn from" in cells["single-task-network"].reason


def test_a_task_without_labels_to_test_on_is_passed_over():
    X, y = vectors(120)
    domain = sparse_table(X, y, lambda row: row + 0.5)  # one of whose six numbers is tested on
    given = np.where(np.isin(np.arange(120), [0, *range(61, 90)]), "test", "train")
    found = graft.compare(replace(domain, splits=given), backbone=network(), budgets=[None], seeds=1, store=False)
    for cell in found.cells:
        assert cell.status == "done", cell.reason
        assert cell.score.value == pytest.approx(cell.tasks["sign"]["accuracy"].value)
        assert set(cell.tasks) == {"sign"}
    assert {one["task"] for one in found.details} == {"sign"}
    (sharing,) = [one for one in found.verdict.findings if one["question"] == "sharing"]
    assert [one["task"] for one in sharing["tasks"]] == ["sign"]


def test_equal_numbers_have_no_r2_and_the_cell_says_so():
    X, _ = vectors(60)
    y = np.where(np.arange(60) < 40, X[:, 2] + 0.5, 1.0)
    domain = Domain(X, y, name="flat", splits=np.where(np.arange(60) < 40, "train", "test"))
    found = graft.compare(domain, backbone=network(), **{**ONE, "techniques": ["raw-input"]})
    assert [(cell.status, "R²" in cell.reason) for cell in found.cells] == [("failed", True)]


class Counted(Knows):
    """Counts how often any copy of it ran."""

    runs = 0

    def forward(self, x):
        Counted.runs += 1
        return super().forward(x)


class RunMeter:
    """A joule for each run of the network."""

    sources = ("rapl",)

    def __init__(self, device):
        pass

    def reading(self):
        return (float(Counted.runs),)

    def joules_since(self, before):
        return Counted.runs - before[0]


@pytest.mark.parametrize("kept", [True, False])
def test_the_first_cell_pays_for_embedding_as_the_others_do(kept, monkeypatch, tmp_path):
    X, y = vectors()
    monkeypatch.setattr(comparing, "EnergyMeter", RunMeter)
    monkeypatch.setattr(_runtime, "bfloat16_is_fast", lambda _device: False)  # nor are precisions compared
    options = {"techniques": ["feature-extraction"], "budgets": [20], "seeds": 3, "store": tmp_path if kept else False}
    found = graft.compare(X, y, backbone=network(Counted()), **options)
    # One run embeds the sample of 64, and here all 40 examples: without a store each fit runs it, and nothing is added.
    expected = 40 / 64 if kept else 1.0
    assert [cell.energy_joules for cell in found.cells] == pytest.approx([expected] * 3)


def test_what_cannot_be_read_is_not_counted_as_learnt_from():
    X, y = digits(60)
    X[:6] = "nowhere.png"
    found = graft.compare(X, y, image_size=32, techniques=["raw-input"], budgets=[None], seeds=1, store=False)
    (cell,) = found.cells
    assert cell.status == "done", cell.reason
    (split,) = found.data["splits"]
    (detail,) = found.details
    assert cell.n_train + detail["examples"] == split["pool"] + split["test"] == found.data["examples"] == 54
    assert [one["row"] for one in found.data["unreadable"]] == list(range(6))
    assert {(one["input"], one["reason"]) for one in found.data["unreadable"]} == {("nowhere.png", "no such file")}
    assert sum(one["examples"] for one in found.data["classes"]) == found.data["labelled"] == 54
    assert detail["n_train"] == cell.n_train == split["pool"]


def test_what_cannot_be_read_is_named_in_terminal_and_page_also_when_continued(tmp_path, command):
    for place, picture in enumerate(digits(24)[0]):
        folder = tmp_path / "photos" / f"kind{place % 2}"
        folder.mkdir(parents=True, exist_ok=True)
        picture.save(folder / f"{place}.png")
    broken = tmp_path / "photos" / "kind0" / "broken.jpg"
    broken.write_text("no picture")
    words = ("compare", broken.parent.parent, "--out", tmp_path / "report", "--seeds", "1", "--image-size", "32")
    for _ in range(2):
        code, out, err = command(*words, "--technique", "raw-input", "--labels", "all")
        assert code == 0, err
        assert "1 input could not be read, left out:" in out
        assert "broken.jpg" in out
    found = read_results(tmp_path / "report")
    assert found.settings["resumed_cells"] == 1
    assert [one["input"] for one in found.data["unreadable"]] == [str(broken)]
    assert (found.data["examples"], [one["examples"] for one in found.data["classes"]]) == (24, [12, 12])
    page = (tmp_path / "report" / "report.html").read_text(encoding="utf-8")
    assert "1 input that could not be read" in page
    assert "broken.jpg" in page


def test_a_target_is_adapted_to_and_never_learnt_from():
    draw = np.random.default_rng(0)
    X, y = vectors(120)
    y = np.where(X[:, 2] > 0, "up", "down")
    there = draw.normal(size=(60, 6)).astype(np.float32) + np.array([0, 0, 1.5, 0, 0, 0], np.float32)
    truth = np.where(there[:, 2] > 1.5, "up", "down")
    goal = Domain(there, truth, name="there")
    options = {
        "budgets": [20],
        "seeds": 1,
        "store": False,
        "techniques": ["raw-input", "source-only", "domain-adaptation"],
    }
    found = graft.compare(X, y, target=goal, backbone=network(), **options)
    for cell in found.cells:
        assert cell.status == "done", cell.reason
    assert found.data["target"]["examples"] == 60
    assert {one["question"] for one in found.verdict.findings} == {"transfer", "adaptation"}
    shown = next(one for one in found.details if one["technique"] == "domain-adaptation")
    assert len(shown["coordinates"]["before"]["target"]) == 60
    # Other labels of the target change what is measured, and nothing that is predicted.
    other = graft.compare(X, y, target=Domain(there, truth[::-1].copy(), name="there"), backbone=network(), **options)
    for one, two in zip(found.details, other.details, strict=True):
        assert np.array(one["confusion"]).sum(axis=0).tolist() == np.array(two["confusion"]).sum(axis=0).tolist()


def test_a_tournament_that_the_time_cut_short_is_held_again(tmp_path, monkeypatch):
    X, _ = vectors(120)
    y = np.where(X[:, 2] > 0, "up", "down")
    goal = Domain(X[:60] + np.array([0, 0, 1.5, 0, 0, 0], np.float32), y[:60], name="there")
    options = {"budgets": [20], "seeds": 1, "store": False, "techniques": ["source-only", "domain-adaptation"]}
    measure = comparing.measure
    monkeypatch.setattr(comparing, "measure", lambda *given, seconds: measure(*given, seconds=0.0))
    first = graft.compare(X, y, target=goal, out=tmp_path / "report", **options)
    assert [cell.status for cell in first.cells] == ["done", "done"]
    monkeypatch.setattr(comparing, "measure", measure)
    assert graft.compare(X, y, target=goal, out=tmp_path / "report", **options).settings["resumed_cells"] == 1
    assert graft.compare(X, y, target=goal, out=tmp_path / "report", **options).settings["resumed_cells"] == 2


def test_single_adaptations_are_compared_on_features_and_through_the_network():
    X, _ = vectors(120)
    y = np.where(X[:, 2] > 0, "up", "down")
    there, _ = vectors(60, seed=1)
    truth = np.where(there[:, 2] > 0, "up", "down")
    goal = Domain(there + np.array([0, 0, 1.5, 0, 0, 0], np.float32), truth, name="there")
    names = ["source-only", "domain-adaptation:coral", "domain-adaptation:mcc", "domain-adaptation:shot"]
    options = {"budgets": [20], "seeds": 1, "store": False, "epochs": 2, "techniques": names}
    linear = torch.nn.Linear(2, 2)  # whose operations are counted
    torch.nn.init.eye_(linear.weight)
    expert = network(torch.nn.Sequential(Knows(), linear))
    found = graft.compare(X, y, target=goal, backbone=expert, **options)
    cells = {cell.technique: cell for cell in found.cells}
    for cell in found.cells:
        assert cell.status == "done", cell.reason
    assert cells["domain-adaptation:coral"].score.value > cells["source-only"].score.value
    (finding,) = found.verdict.findings
    assert finding["question"] == "adaptation"
    assert finding["without"] == "source-only"
    for name in names[1:]:
        (shown,) = (one for one in found.details if one["technique"] == name)
        assert len(shown["coordinates"]["after"]["target"]) == 60
        if name == "domain-adaptation:coral":  # so short a training moves features by less than bfloat16 shows
            assert shown["coordinates"]["before"] != shown["coordinates"]["after"]
    # Passes, each of a forward pass: 2 epochs of 36 and 60 examples, which a step takes three times, evaluations of the
    # four held out, and all examples embedded before.
    forward = cells["source-only"].flops["forward"]
    assert cells["source-only"].flops["training"] == 100 * forward
    trained = cells["domain-adaptation:mcc"].flops["training"] / forward
    assert trained == 100 + 3 * 3 * 64 + 3 * 4  # three steps of 64, after each of which the four are evaluated


def test_given_splits_are_kept(monkeypatch):
    monkeypatch.setattr(comparing, "measure", made_up)
    X, y = vectors(80)
    splits = np.array(["train"] * 60 + ["test"] * 20, dtype=object)
    domain = Domain(X, y, splits=splits, name="given")
    found = graft.compare(domain, backbone=network(), **{**FULL, "budgets": [None]})
    assert all((one["pool"], one["test"], one["given"]) == (60, 20, True) for one in found.data["splits"])
    assert {cell.n_train for cell in found.cells} == {60}
    assert found.settings["budgets"] == [None]


def test_unlabelled_examples_take_no_part(monkeypatch):
    monkeypatch.setattr(comparing, "measure", made_up)
    X, y = vectors(100)
    y = y.astype(object)
    y[::4] = None
    found = graft.compare(X, y, backbone=network(), **{**FULL, "budgets": [10, None], "seeds": 1})
    assert (found.data["examples"], found.data["labelled"]) == (100, 75)
    split = found.data["splits"][0]
    assert split["pool"] + split["test"] == 75


@pytest.mark.parametrize(
    ("options", "error", "words"),
    [
        ({"budgets": [0]}, RequestError, "budgets"),
        ({"budgets": [10**6]}, RequestError, "numbers of labels of a class"),
        ({"budgets": ["few"]}, RequestError, "budgets"),
        ({"seeds": 0}, RequestError, "seeds"),
        ({"seeds": []}, RequestError, "seeds"),
        ({"budget_seconds": -1}, RequestError, "budget_seconds"),
        ({"techniques": ["magic"]}, RequestError, "techniques"),
        ({"target": Domain(np.zeros((9, 5)), np.array(["no"] * 9))}, DataError, "vectors of 6 numbers"),
        (
            {
                "target": Domain(np.zeros((9, 6)), np.array(["no"] * 9)),
                "techniques": ["domain-adaptation:tent"],
                "backbone": network(),
            },
            GraftError,
            "normalisation",
        ),
        ({"techniques": "raw-input"}, RequestError, "techniques"),
        ({"test": 1.0}, RequestError, "test"),
        ({"task": "guess"}, RequestError, "task"),
        ({"task": "multi-task"}, RequestError, "several label columns"),
        ({"backbone": "minilm"}, DataError, "text inputs"),
        ({"y": None}, RequestError, "labels, one for each input"),
        ({"target": ["a text"]}, DataError, "target"),
    ],
)
def test_wrong_requests_are_refused_before_anything_is_measured(options, error, words):
    X, y = vectors(40)
    labels = options.get("y", y)
    with pytest.raises(error, match=words):
        graft.compare(X, labels, **{"store": False, **{name: one for name, one in options.items() if name != "y"}})


def test_a_target_needs_labels_to_be_measured_by():
    X, y = vectors(40)
    with pytest.raises(DataError, match="to test on"):
        graft.compare(X, y, target=X[:10], store=False)
    with pytest.raises(DataError, match="purple"):
        graft.compare(X, y, target=Domain(X[:10], np.array(["purple"] * 10)), store=False)


def test_a_folder_with_other_things_is_left_alone(tmp_path):
    (tmp_path / "thesis.txt").write_text("years of work")
    X, y = vectors(40)
    with pytest.raises(RequestError, match="other files"):
        graft.compare(X, y, out=tmp_path, store=False)
    with pytest.raises(RequestError, match="a file"):
        graft.compare(X, y, out=tmp_path / "thesis.txt", store=False)


@pytest.fixture
def command(capsys):
    def run(*words):
        capsys.readouterr()
        code = main([str(word) for word in words])
        printed = capsys.readouterr()
        return code, printed.out, printed.err

    return run


@pytest.fixture
def file(tmp_path):
    X, y = vectors(60)
    np.savez(tmp_path / "vectors.npz", X=X, y=y)
    return tmp_path / "vectors.npz"


def test_the_command_writes_a_report_and_says_what_was_found(file, tmp_path, command):
    words = ("compare", file, "--out", tmp_path / "report", "--labels", "5", "--seeds", "2", "--technique", "raw-input")
    code, out, _ = command(*words)
    assert code == 0
    assert max(map(len, out.splitlines()[:-1])) <= 80  # the last line names the folder
    assert "raw input" in out
    assert (tmp_path / "report" / "report.html").is_file()
    found = read_results(tmp_path / "report")
    assert found.settings["budgets"] == [5]
    # What repeats it does repeat it: nothing is left to measure.
    assert found.command.startswith(f"graft compare {file} --out {tmp_path / 'report'} --labels 5 --seeds 2")
    assert main(shlex.split(found.command)[1:]) == 0
    assert read_results(tmp_path / "report").settings["resumed_cells"] == 2
    code, out, _ = command(*words, "--json")
    assert code == 0
    plain = json.loads(out)
    assert plain["settings"]["resumed_cells"] == 2
    assert plain["kind"] == "graft comparison"
    assert plain["report"] == str(tmp_path / "report" / "report.html")
    assert "replaced" not in command(*words)[1]  # the same command
    code, out, _ = command(*words, "--labels", "10", "--budget", "0s")
    assert code == 0
    assert "The report that was there is replaced; its measured cells are kept." in out
    assert "What was left out" in out
    assert "10 per class   0, 1" in out


def test_whole_numbers_are_amounts_where_the_command_says_so(tmp_path, command):
    X, _ = vectors(60)
    np.savez(tmp_path / "amounts.npz", X=X, y=np.round(3 * X[:, 2]).astype(int))
    words = ("compare", tmp_path / "amounts.npz", "--labels", "20", "--seeds", "1", "--technique", "raw-input")
    code, out, _ = command(*words, "--task", "regression", "--out", tmp_path / "report")
    assert code == 0
    assert "R² by the number of labels" in out
    assert "--task regression" in read_results(tmp_path / "report").command
    code, _, err = command(*words, "--task", "amounts", "--out", tmp_path / "other")
    assert code == 2
    assert "graft: --task: expected one of 'auto'" in err


def test_the_command_refuses_what_it_cannot_compare(file, tmp_path, command):
    np.save(tmp_path / "bare.npy", vectors(20)[0])
    report = ("--out", tmp_path / "report")
    for words, said in (
        ((file, *report, "--budget", "soon"), "--budget"),
        ((file, *report, "--labels", "many"), "--labels"),
        ((tmp_path / "bare.npy", *report), "labels"),
        ((file, *report, "--backbone", "minilm"), "features inputs"),
        ((file, *report, "--technique", "magic"), "graft: --technique: expected one of"),
        ((file, *report, "--technique", "domain-adaptation:coral"), "--target DATA"),
        ((file, *report, "--labels", "1000"), "graft: --labels: expected"),
        ((file, *report, "--test", "1"), "graft: --test: expected"),
        ((file, *report, "--epochs", "0"), "graft: --epochs: expected"),
        ((file, *report, "--target", tmp_path / "bare.npy"), "to measure on"),
        ((tmp_path / "nothing", *report), "nothing"),
    ):
        code, out, err = command("compare", *words)
        assert (code, out) == (2, ""), words
        assert said in err
        assert "Traceback" not in err
    assert not (tmp_path / "report").exists()


def digits(count):
    """Pictures of 8 x 8 grey pixels, and what they show."""
    from PIL import Image
    from sklearn.datasets import load_digits

    found = load_digits()
    pictures = np.empty(count, object)
    pictures[:] = [Image.fromarray((pixels * 15.9).astype(np.uint8)) for pixels in found.images[:count]]
    return pictures, found.target[:count]


@pytest.mark.slow
def test_a_network_of_photos_does_not_pay_on_tiny_digits():
    X, y = digits(600)
    found = graft.compare(X, y, image_size=32, **{**PAIR, "budgets": [5, 10], "seeds": 3})
    assert found.verdict.outcome == "does not pay"
    assert "Transfer does not pay here: feature extraction with efficientnet_lite0 is" in found.verdict.text
    means = {(one["technique"], one["budget"]): one["score"]["value"] for one in found.summary}
    for budget in (5, 10):
        assert means["raw-input", budget] > means["feature-extraction", budget] + 0.03
    assert found.verdict.figures[0]["value"] <= 1


def test_networks_of_several_tasks_are_trained_for_each_and_for_all():
    draw = np.random.default_rng(0)
    colours = draw.integers(2, size=(60, 2))
    pictures = [
        np.clip(np.array([60 + 120 * one, 60 + 120 * two, 90]) + draw.normal(0, 20, (32, 32, 3)), 0, 255).astype("u1")
        for one, two in colours
    ]
    table = np.array([[f"red {one}", f"green {two}"] for one, two in colours], dtype=object)
    table[::3, 1] = None
    found = graft.compare(
        Domain(np.array(pictures), table, name="colours", tasks=("red", "green")),
        backbone=load_backbone("test_efficientnet", pretrained=False, image_size=32, random_state=1),
        techniques=["multi-task-network", "single-task-network", "from-scratch"],
        image_size=32,
        budgets=[20],
        seeds=1,
        epochs=1,
        store=False,
    )
    together, alone, scratch = found.cells
    for cell in found.cells:
        assert cell.status == "done", cell.reason
        assert set(cell.tasks) == {"red", "green"}
        assert cell.seconds["total"] > 0
    # Two networks, and what the heads keep.
    assert 1.9 * together.total_parameters < alone.total_parameters < 2.5 * together.total_parameters
    assert scratch.total_parameters == together.total_parameters
    assert together.trainable_parameters == pytest.approx(together.total_parameters, rel=0.1)
    # Three passes for each example of a step: 16 to measure by the four others, then all 20; each embedded once before.
    passes = {cell.technique: cell.flops["training"] / cell.flops["forward"] for cell in found.cells}
    assert passes["multi-task-network"] == pytest.approx(3 * (16 + 20) + 20)
    assert passes["from-scratch"] == pytest.approx(4 * 3 * (16 + 20))
    assert passes["single-task-network"] > 3 * 16 + 20
    assert [one["question"] for one in found.verdict.findings] == ["transfer", "sharing"]


@pytest.mark.slow
def test_networks_are_trained_beside_frozen_ones():
    X, y = digits(140)
    found = graft.compare(X, y, image_size=32, epochs=1, budgets=[5], seeds=1, store=False)
    assert [cell.technique for cell in found.cells] == [
        "raw-input",
        "feature-extraction",
        "fine-tuning",
        "from-scratch",
    ]
    cells = {cell.technique: cell for cell in found.cells}
    for cell in found.cells:
        assert cell.status == "done", cell.reason
        assert cell.seconds["total"] > 0
    forward = cells["feature-extraction"].flops["forward"]
    assert cells["feature-extraction"].flops["training"] == forward * 50
    assert cells["fine-tuning"].flops["training"] > 50 * forward
    assert cells["from-scratch"].flops["training"] > cells["fine-tuning"].flops["training"]
    assert cells["from-scratch"].trainable_parameters > 3_000_000
    assert cells["feature-extraction"].trainable_parameters < 100_000
    assert all(one["thumbnail"].startswith("data:image/jpeg;base64,") for one in found.details[0]["wrong"])
