"""The parts of a comparison: deals, schedule, ledger, curves, findings, meters, and what stands in no network."""

import itertools
import json
import threading
from dataclasses import replace
from types import SimpleNamespace

import numpy as np
import pytest
import torch

from graft.backbones import FeaturePreprocessing, load_backbone, module_backbone
from graft.data import Domain, Task
from graft.errors import DataError, RequestError
from graft.evaluation.cell import Cell
from graft.evaluation.comparison import memory
from graft.evaluation.comparison.boosted_trees import BoostedTrees
from graft.evaluation.comparison.candidates import candidates, chosen, model_of
from graft.evaluation.comparison.curves import Curves, interval, resampled_weights, weighted_medians
from graft.evaluation.comparison.deals import checked_budgets, deal, default_budgets, goals
from graft.evaluation.comparison.energy import EnergyMeter
from graft.evaluation.comparison.evidence import calibration_bins, evidence
from graft.evaluation.comparison.example_scores import known_shares, mean_of_tasks, score_values
from graft.evaluation.comparison.findings import best_of, equal_labels, find, outcome
from graft.evaluation.comparison.ledger import Ledger
from graft.evaluation.comparison.measuring import Measured, head_numbers
from graft.evaluation.comparison.memory import peak_memory, resident_mib
from graft.evaluation.comparison.network_cost import NetworkCost, network_cost
from graft.evaluation.comparison.raw_input import RawInput
from graft.evaluation.comparison.schedule import measure_all
from graft.evaluation.comparison.setup import Job, Setup
from graft.evaluation.comparison.training_length import adaptation_examples
from graft.evaluation.comparison.verdict import Wording, judge
from graft.evaluation.results import NO_INTERVAL
from graft.metrics import Estimate
from graft.techniques import DomainAdaptation, FeatureExtraction, Predictions
from graft.techniques.adaptation import FEATURE_METHODS, NETWORK_METHODS
from graft.techniques.technique import class_columns, evaluate

# --- deals ---------------------------------------------------------------------------------------------------------


def domain(count=60, classes=3, **columns):
    draw = np.random.default_rng(0)
    return Domain(draw.normal(size=(count, 2)), np.arange(count) % classes, name="rows", **columns)


def class_deal(seed=0, **columns):
    whole = domain(**columns)
    return whole, deal(whole, goals(whole, "auto"), seed=seed, test=0.25)


@pytest.mark.parametrize("seed", range(3))
def test_smaller_numbers_of_labels_are_among_larger_ones_and_none_is_tested_on(seed):
    whole, dealt = class_deal(seed)
    chosen_before = set()
    for budget in (1, 2, 5, 10, None):
        rows = dealt.few(budget)
        assert chosen_before <= set(rows.tolist())
        assert not set(rows.tolist()) & set(dealt.test.tolist())
        chosen_before = set(rows.tolist())
        if budget is not None:
            counts = np.bincount(whole.labels[rows], minlength=3)
            assert counts.max() == budget
    assert sorted([*dealt.pool, *dealt.test]) == list(range(60))


def test_a_seed_deals_the_same_and_another_one_otherwise():
    _, one = class_deal(0)
    _, same = class_deal(0)
    _, other = class_deal(1)
    assert np.array_equal(one.test, same.test)
    assert np.array_equal(one.few(2), same.few(2))
    assert not np.array_equal(one.test, other.test)


@pytest.mark.parametrize("asked", [5, "all", [0], [2.5], [True], [99]])
def test_budgets_that_cannot_be_used_are_refused(asked):
    whole, dealt = class_deal()
    with pytest.raises(RequestError, match="budgets"):
        checked_budgets(asked, [dealt], goals(whole, "auto"))


def test_groups_that_cannot_be_divided_are_those_of_the_data():
    with pytest.raises(DataError, match="domain 'rows'"):
        class_deal(groups=np.zeros(60, int))


def test_no_group_is_divided_between_what_is_learnt_and_what_is_tested():
    groups = np.arange(60) // 4
    _, dealt = class_deal(groups=groups)
    assert not set(groups[dealt.pool]) & set(groups[dealt.test])


def test_given_splits_decide_what_is_tested():
    splits = np.array(["train", "val", "test"] * 20, dtype=object)
    _, dealt = class_deal(splits=splits, classes=2)
    assert dealt.given
    assert set(splits[dealt.test]) == {"test"}
    assert set(splits[dealt.pool]) == {"train", "val"}
    splits = np.array(["train", "train", "val"] * 20, dtype=object)
    _, dealt = class_deal(splits=splits, classes=2)
    assert set(splits[dealt.test]) == {"val"}


def test_a_target_is_tested_on_and_all_of_the_source_learnt_from():
    whole = domain()
    target = Domain(np.zeros((9, 2)), np.array([0, 1, None] * 3, dtype=object), name="there")
    dealt = deal(whole, goals(whole, "auto"), seed=0, test=0.25, target=target)
    assert dealt.pool.tolist() == list(range(60))
    assert dealt.test.tolist() == [0, 1, 3, 4, 6, 7]
    with pytest.raises(DataError, match="to test on"):
        deal(whole, goals(whole, "auto"), seed=0, test=0.25, target=replace(target, labels=None))


def test_every_task_has_something_to_learn_from_with_few_labels():
    table = np.empty((80, 2), dtype=object)
    table[:, 0] = ["common"] * 78 + ["rare"] * 2
    table[40:60, 1] = np.linspace(0, 1, 20).tolist()
    rare = Domain(np.zeros((80, 2)), table, name="rare", tasks=("kind", "size"))
    tasks = goals(rare, "auto")
    assert [task.kind for task in tasks] == ["classification", "regression"]
    for seed in range(3):
        dealt = deal(rare, tasks, seed=seed, test=0.25)
        rows = dealt.few(4)
        learnt = table[rows]
        available = set(table[dealt.pool][:, 0])
        assert set(learnt[:, 0]) == available
        assert len({value for value in learnt[:, 1] if value is not None}) >= 2


def test_kinds_of_labels():
    binary = Domain(np.zeros((4, 1)), np.array([[0, 1], [1, 0], [1, 1], [0, 0]]))
    assert [task.kind for task in goals(binary, "auto")] == ["multilabel"]
    assert [task.kind for task in goals(binary, "multi-task")] == ["classification"] * 2
    numbers = Domain(np.zeros((3, 1)), np.array([0.5, 1.5, 2.0]))
    assert goals(numbers, "auto")[0].kind == "regression"
    assert goals(domain(), "regression")[0].kind == "regression"
    with pytest.raises(RequestError, match="one label column"):
        goals(binary, "classification")
    with pytest.raises(RequestError, match="several label columns"):
        goals(numbers, "multilabel")


def test_budgets_are_ascending_and_end_with_all():
    _, dealt = class_deal(count=600)
    tasks = goals(domain(), "auto")
    assert default_budgets([dealt], tasks) == (5, 10, 20, 50, 100, None)
    assert checked_budgets([20, None, 5, 5], [dealt], tasks) == (5, 20, None)
    for wrong in (0, -1, 151, 2.5, True, "5"):
        with pytest.raises(RequestError, match="budgets"):
            checked_budgets([wrong], [dealt], tasks)


def test_a_network_from_scratch_reads_pictures_of_the_size_that_the_pretrained_one_reads():
    sized = load_backbone("test_efficientnet", pretrained=False, image_size=32)
    scratch = candidates("image", sized, kind="classification", target=False, several=False)["from-scratch"]
    options = {"device": None, "epochs": "auto", "store": False, "label_names": None, "seed": 0}
    task = Task("", "classification", ("a", "b"))
    assert model_of(scratch, [task], modality="image", backbone=sized, **options).image_size == (32, 32)


def test_a_tournament_ends_with_the_time_budget():
    adapted = candidates("features", None, kind="classification", target=True, several=False)["domain-adaptation"]
    options = {"device": None, "epochs": "auto", "store": False, "label_names": None, "seed": 0}
    task = Task("", "classification", ("a", "b"))
    usual, short, long = (
        model_of(adapted, [task], modality="features", backbone=None, **options, seconds=seconds).budget
        for seconds in (None, 2.0, 1e6)
    )
    assert short == 2.0
    assert usual == long


@pytest.mark.parametrize("kind", ["classification", "regression", "multilabel"])
def test_the_example_that_is_least_like_the_others_is_shown_first(kind):
    draw = np.random.default_rng(0)
    X = draw.normal(size=(120, 4)).astype(np.float32)
    X[113] += 40
    y = {
        "classification": np.where(X[:, 0] > 0, "a", "b"),
        "regression": X[:, 0] + 0.1 * X[:, 1],
        "multilabel": (X[:, :2] > 0).astype(float),
    }[kind]
    rows = np.arange(100, 120)
    names = ("p", "q") if kind == "multilabel" else None
    model = FeatureExtraction(None, task=kind, label_names=names, store=False).fit(X[:100], y[:100])
    found = model.predictions(X[rows])
    evaluation = evaluate(model.task_, y[rows], found.labels, found.probabilities)
    shown = evidence(Domain(X, y), "features", rows, y[rows], found, model.task_, evaluation)["foreign"]
    assert shown[0]["row"] == 113
    assert [one["score"] for one in shown] == sorted((one["score"] for one in shown), reverse=True)
    assert all((one["p"] is None) == (kind != "classification") for one in shown)
    json.dumps(shown)


# --- schedule and ledger -------------------------------------------------------------------------------------------


def a_setup(backbone=None, **facts):
    whole = domain()
    values = {
        "domain": whole,
        "target": None,
        "modality": "features",
        "tasks": goals(whole, "auto"),
        "backbone": backbone,
        "device": None,
        "epochs": "auto",
        "store": False,
        "cost": NetworkCost(),
        **facts,
    }
    return Setup(**values)


def jobs_of(setup, names=("raw-input", "from-scratch"), budgets=(2, 5, None), seeds=(0, 1)):
    offered = candidates("features", None, kind="classification", target=False, several=False)
    deals = [deal(setup.domain, setup.tasks, seed=seed, test=0.25) for seed in seeds]
    return [Job(offered[name], budget, one) for name in names for budget in budgets for one in deals]


class Clock:
    """Time that passes only while cells are measured: so many seconds for each example of a technique."""

    def __init__(self, rates, end=float("inf")):
        self.now, self.rates, self.end, self.order = 0.0, rates, end, []

    def left(self):
        return self.end - self.now

    def measure(self, job):
        took = self.rates[job.candidate.name] * len(job.rows)
        self.now += took
        self.order.append(job)
        cell = Cell(job.candidate.name, job.budget, job.deal.seed, len(job.rows), score=Estimate(0.5, 0.4, 0.6))
        return Measured(cell, job.deal.test, np.ones(len(job.deal.test)), {}, took)


def run(setup, jobs, clock, ledger=None, timed=True):
    told = []
    found, resumed = measure_all(
        setup,
        jobs,
        ledger=Ledger(None) if ledger is None else ledger,
        measure=clock.measure,
        left=clock.left if timed else None,
        advance=told.append,
    )
    return found, resumed, told


def test_without_an_end_every_cell_is_measured_in_the_order_of_the_jobs():
    setup = a_setup()
    jobs = jobs_of(setup)
    found, resumed, told = run(setup, jobs, Clock({"raw-input": 1, "from-scratch": 9}), timed=False)
    assert [(one.cell.technique, one.cell.budget, one.cell.seed) for one in found] == [
        (job.candidate.name, job.budget, job.deal.seed) for job in jobs
    ]
    assert all(one.cell.done for one in found)
    assert (resumed, len(told)) == (0, len(jobs))


@pytest.mark.parametrize("end", [5.0, 40.0, 200.0, 1000.0])
def test_the_time_is_kept_and_what_is_left_out_is_dearer_than_what_is_done(end):
    setup = a_setup()
    jobs = jobs_of(setup)
    clock = Clock({"raw-input": 0.1, "from-scratch": 3.0}, end)
    found, _, _ = run(setup, jobs, clock)
    # A first cell of a technique is begun on a guess; whatever is known is kept.
    first = 3.0 * min(len(job.rows) for job in jobs if job.candidate.name == "from-scratch")
    assert clock.now <= end + first
    done = [one.cell for one in found if one.cell.done]
    left_out = [one.cell for one in found if one.cell.status == "left out"]
    assert len(done) + len(left_out) == len(jobs)
    for cell in left_out:
        assert "of the time budget left" in cell.reason
        assert all(cell.n_train >= one.n_train for one in done if one.technique == cell.technique)
    if end == 1000.0:
        assert not left_out


def test_cheap_cells_come_first():
    setup = a_setup()
    clock = Clock({"raw-input": 0.1, "from-scratch": 3.0})
    run(setup, jobs_of(setup), clock, timed=False)
    # Once one cell of each is known, the rest is done in ascending order of time.
    names = [job.candidate.name for job in clock.order]
    assert names.index("from-scratch") <= 3
    rest = [(clock.rates[job.candidate.name] * len(job.rows)) for job in clock.order[6:]]
    assert rest == sorted(rest)


def test_a_finished_cell_is_never_measured_again(tmp_path):
    setup = a_setup()
    jobs = jobs_of(setup)
    first = run(setup, jobs[:4], Clock({"raw-input": 1}), Ledger(tmp_path / "report"), timed=False)[0]
    clock = Clock({"raw-input": 1, "from-scratch": 1})
    found, resumed, told = run(setup, jobs, clock, Ledger(tmp_path / "report"), timed=False)
    assert resumed == 4
    assert len(clock.order) == len(jobs) - 4
    assert len(told) == len(jobs)
    for one, two in zip(first, found, strict=False):
        assert one.cell == two.cell
        assert np.array_equal(one.values, two.values)


def test_whatever_decides_a_cell_is_in_its_key():
    setup = a_setup()
    job = jobs_of(setup)[0]
    key = setup.key(job)
    assert setup.key(jobs_of(setup)[0]) == key
    keys = {setup.key(one) for one in jobs_of(setup)}
    assert len(keys) == len(jobs_of(setup))
    moved = replace(setup.domain, labels=(setup.domain.labels + 1) % 3)
    assert a_setup(domain=moved).key(job) != key
    other = replace(setup.domain, inputs=setup.domain.inputs + 1)
    assert a_setup(domain=other).key(job) != key
    network = module_backbone(torch.nn.Linear(2, 2), preprocessing=FeaturePreprocessing())
    assert a_setup(backbone=network).key(job) != key


def test_broken_files_count_for_nothing(tmp_path):
    setup = a_setup()
    job = jobs_of(setup)[0]
    ledger = Ledger(tmp_path / "report")
    ledger.keep("one", Clock({"raw-input": 1}).measure(job))
    assert ledger.find("one").cell.done
    assert ledger.find("two") is None
    file = tmp_path / "report" / "cells" / "one.json"
    for text in ("{", "[]", json.dumps({"cell": {}})):
        file.write_text(text)
        assert ledger.find("one") is None


def test_what_ended_another_version_twice_is_tried_again(tmp_path, monkeypatch):
    ledger = Ledger(tmp_path / "report")
    assert [ledger.begin("one"), ledger.begin("one"), ledger.begin("one")] == [0, 1, 2]
    monkeypatch.setattr("graft.__version__", "9.9")
    assert ledger.begin("one") == 0


def test_a_cell_that_ended_the_process_twice_is_not_begun_again(tmp_path):
    setup = a_setup()
    jobs = jobs_of(setup, names=("raw-input",), budgets=(2,), seeds=(0,))
    ledger = Ledger(tmp_path / "report")
    key = setup.key(jobs[0])
    assert [ledger.begin(key), ledger.begin(key)] == [0, 1]  # as when the process is killed within
    found, _, _ = run(setup, jobs, Clock({"raw-input": 1}), Ledger(tmp_path / "report"), timed=False)
    assert found[0].cell.status == "failed"
    assert "the process ended 2 times" in found[0].cell.reason
    # What fails of itself, or is interrupted, leaves no mark.
    other = jobs_of(setup, names=("from-scratch",), budgets=(2,), seeds=(0,))

    def failing(job):
        raise ValueError("singular")

    broken = SimpleNamespace(measure=failing, left=None)
    for _ in range(3):
        found, _, _ = run(setup, other, broken, Ledger(tmp_path / "report"), timed=False)
        assert found[0].cell.reason == "ValueError: singular"


def test_a_measured_cell_survives_json():
    values = np.array([0.5, np.nan, 1.0])
    one = Measured(Cell("a", 5, 0, 10), np.array([3, 5, 9]), np.array([1.0, 0.0, 0.5]), {"t": values}, 2.0, ({"x": 1},))
    two = Measured.from_dict(json.loads(json.dumps(one.to_dict(), allow_nan=False)))
    assert two.cell == one.cell
    assert np.array_equal(two.rows, one.rows)
    assert np.array_equal(two.values, one.values)
    assert np.array_equal(two.tasks["t"], values, equal_nan=True)
    assert two.details == one.details
    alone = two.of_task("t")
    assert alone.rows.tolist() == [3, 9]
    assert alone.values.tolist() == [0.5, 1.0]


# --- curves and findings -------------------------------------------------------------------------------------------


def made_up(curve, *, name, seeds=(0, 1, 2), tested=400, noise=0.0, per_class=2, seconds=1.0, memory=100.0, order=0):
    """Cells whose scores are those of a known curve, examples being right in a fixed order."""
    draw = np.random.default_rng(7)
    cells = []
    for seed, (budget, score) in itertools.product(seeds, curve.items()):
        level = score + noise * draw.normal()
        values = (np.arange(tested) < round(level * tested)).astype(float)
        values = values[np.random.default_rng((seed, order)).permutation(tested)]
        cell = Cell(
            name,
            budget,
            seed,
            per_class * budget,
            score=Estimate(values.mean(), np.nan, np.nan),
            seconds={"data": 0.0, "features": 0.0, "training": seconds * budget, "total": seconds * budget},
            peak_memory_mib=memory,
        )
        cells.append(Measured(cell, np.arange(tested), values, {}, 1.0))
    return cells


def test_scores_are_means_and_their_resamples_scatter_as_means_do():
    draw = np.random.default_rng(0)
    cells = []
    for seed in range(4):
        values = draw.random(50)
        cells.append(Measured(Cell("a", 5, seed, 10), np.arange(50), values, {}, 1.0))
    curves = Curves(cells)
    value, drawn = curves.score("a", 5)
    assert value == pytest.approx(np.mean([one.values.mean() for one in cells]))
    assert np.nanmean(drawn) == pytest.approx(value, abs=0.01)
    one_seed = Curves(cells[:1]).score("a", 5)[1]
    assert np.nanstd(one_seed) == pytest.approx(cells[0].values.std(ddof=1) / np.sqrt(50), rel=0.1)


@pytest.mark.parametrize("units", [3, 5, 40])
def test_resampled_means_have_the_unbiased_variance_of_a_mean(units):
    draw = np.random.default_rng(0)
    values = draw.normal(size=units)
    weight = resampled_weights(units, 40000, draw)
    assert weight.sum(axis=1) == pytest.approx(np.ones(40000))
    assert (weight @ values).var() == pytest.approx(values.var(ddof=1) / units, rel=0.06)


def test_no_resample_of_uneven_labels_is_beyond_what_a_score_can_be():
    """Shares of right answers are resampled as shares: where all are right, so is every resample."""
    draw = np.random.default_rng(0)
    rows = np.arange(40)
    table = (draw.random((40, 3)) < 0.6).astype(float)
    table[draw.random((40, 3)) < 0.4] = np.nan
    task, shares = Task("", "multilabel", ("x", "y", "z")), np.clip(np.nan_to_num(table), 0.1, 0.9)
    values = score_values(task, table, Predictions(rows, shares > 0.5, shares, None, ()))
    right = Measured(Cell("a", 5, 0, 10), rows, values, {}, 1.0, shares=known_shares(table))
    assert Curves([right]).score("a", 5)[1] == pytest.approx(np.ones(1000))
    each = {name: np.where(np.isnan(column), np.nan, 1.0) for name, column in zip("xyz", table.T, strict=True)}
    known = np.stack([~np.isnan(one) for one in each.values()])
    several = Measured(Cell("a", 5, 0, 10), rows, (known / known.mean(axis=1)[:, None]).mean(axis=0), each, 1.0)
    value, drawn = Curves([several]).score("a", 5)
    assert value == pytest.approx(1)
    assert drawn == pytest.approx(np.ones(1000))
    # With a weight of two, an example counts as if it were there twice.
    doubled = np.concatenate([table, table[:1]])
    mean = mean_of_tasks(np.concatenate([np.nan_to_num(doubled), ~np.isnan(doubled)], axis=1).mean(axis=0))
    assert mean == pytest.approx(np.nanmean(doubled, axis=0).mean())
    assert mean_of_tasks(np.array([0.5, 0.0, 0.5, 0.0])) == 1.0  # no label of the second
    copy = Measured.from_dict(json.loads(json.dumps(right.to_dict())))
    assert np.array_equal(copy.shares, right.shares)


def test_groups_share_their_weight():
    values = np.repeat([1.0, 0.0], 20)
    cell = Measured(Cell("a", 5, 0, 10), np.arange(40), values, {}, 1.0)
    apart = Curves([cell]).estimate("a", 5)
    together = Curves([cell], groups=np.arange(40) // 20).estimate("a", 5)
    assert together.high - together.low > apart.high - apart.low


def test_a_difference_is_paired():
    """Techniques that are right on the same examples differ by exactly nothing; the scores themselves vary."""
    cells = made_up({10: 0.7}, name="with") + made_up({10: 0.7}, name="without")
    found = find(Curves(cells), "transfer", ["with"], ["without"])
    assert found["gain"]["value"] == 0
    assert found["outcome"] == "inconclusive"
    shifted = made_up({10: 0.8}, name="with") + made_up({10: 0.7}, name="without")
    found = find(Curves(shifted), "transfer", ["with"], ["without"])
    assert found["gain"]["value"] == pytest.approx(0.1)
    assert 0 < found["gain"]["low"] < 0.1 < found["gain"]["high"] < 0.2
    assert found["outcome"] == "pays"


def test_label_equality_follows_a_known_learning_curve():
    """score = 0.3 + 0.1 log2(n): what one reaches with n examples, the other reaches with eight times as many."""
    budgets = (5, 10, 20, 40, 80)
    behind = {n: 0.3 + 0.1 * np.log2(n / 5) for n in budgets}
    ahead = {n: 0.3 + 0.1 * np.log2(8 * n / 5) for n in (5,)}
    cells = made_up(ahead, name="with", order=1) + made_up(behind, name="without")
    found = find(Curves(cells), "transfer", ["with"], ["without"])
    assert [one["n_train"] for one in found["labels"]] == [10]
    for one in found["labels"]:
        assert one["factor"] == pytest.approx(8, rel=0.02)
        assert one["equals"] == pytest.approx(8 * one["n_train"], rel=0.02)
        assert one["bound"] is None
        assert one["low"] <= one["factor"] <= one["high"]


def test_beyond_the_ends_of_a_curve_there_are_bounds():
    numbers, scores = np.array([10, 20, 40]), np.array([0.5, 0.6, 0.7])
    assert equal_labels(0.65, numbers, scores)[0] == pytest.approx(np.sqrt(20 * 40))
    assert equal_labels(0.6, numbers, scores) == (pytest.approx(20), None)
    assert equal_labels(0.9, numbers, scores) == (40, "at least")
    assert equal_labels(0.4, numbers, scores) == (10, "at most")
    assert equal_labels(0.5, numbers, scores) == (10, None)
    # What falls is noise: the curve is made to rise.
    assert equal_labels(0.55, numbers, np.array([0.5, 0.7, 0.6]))[0] == pytest.approx(
        equal_labels(0.55, numbers, np.array([0.5, 0.65, 0.65]))[0]
    )


@pytest.mark.parametrize("score", np.linspace(0.31, 0.89, 7))
def test_label_equality_inverts_interpolation(score):
    numbers, scores = np.array([4, 9, 33, 80]), np.array([0.3, 0.5, 0.55, 0.9])
    number, bound = equal_labels(score, numbers, scores)
    assert bound is None
    assert np.interp(np.log(number), np.log(numbers), scores) == pytest.approx(score)


def test_the_best_of_a_side_stands_for_it():
    cells = made_up({5: 0.6, 10: 0.7}, name="a") + made_up({5: 0.5, 10: 0.9}, name="b")
    cells += made_up({5: 0.4, 10: 0.5}, name="c")
    found = find(Curves(cells), "transfer", ["a", "b"], ["c"])
    assert (found["with"], found["without"]) == ("b", "c")
    assert [one["value"] for one in found["gains"]] == pytest.approx([0.1, 0.4])
    assert find(Curves(cells), "transfer", ["a"], ["nothing"]) is None


def test_what_was_left_out_on_one_side_is_not_compared():
    cells = made_up({5: 0.6, 10: 0.7}, name="a") + made_up({5: 0.5}, name="b", seeds=(0, 1))
    found = find(Curves(cells), "transfer", ["a"], ["b"])
    assert [(one["budget"], one["seeds"]) for one in found["gains"]] == [(5, 2)]
    missing = Measured(Cell("a", 20, 0, 40, "left out", "no time"))
    assert find(Curves([*cells, missing]), "transfer", ["a"], ["b"])["gains"] == found["gains"]


def test_splits_that_one_side_was_not_measured_with_decide_nothing():
    """Seed 0 is easy, the others are hard; the time that was allowed ended before some were measured with them."""

    def cells(name, scores):
        return [
            one
            for seed, level in enumerate(scores)
            for one in made_up({5: level, 10: level}, name=name, seeds=(seed,), order=len(scores))
        ]

    whole = cells("feature-extraction", (0.9, 0.5, 0.5))
    curves = Curves(whole + cells("fine-tuning", (0.85,)) + cells("raw-input", (0.8,)))
    name, budgets, chosen = best_of(curves, ["fine-tuning", "feature-extraction"])
    assert (name, budgets) == ("feature-extraction", [5, 10])
    assert (chosen == 1).mean() > 0.9
    verdict = said(whole + cells("raw-input", (0.8,)))
    assert "10.0 points (95 %: " in verdict.text
    assert "(90.0 % against 80.0 % with 5 per class)" in verdict.text
    assert verdict.figures[0]["bound"] == "at least"
    apart = [replace(one, cell=replace(one.cell, seed=7)) for one in made_up({20: 0.9}, name="feature-extraction")[:1]]
    labels = find(Curves(whole + apart + cells("raw-input", (0.8,))), "q", ["feature-extraction"], ["raw-input"])[
        "labels"
    ]
    assert [one["budget"] for one in labels] == [5, 10]


def test_costs_are_compared_with_most_labels_by_the_ratio_over_seeds():
    cells = made_up({5: 0.6, 10: 0.7}, name="a", seconds=2.0, memory=50.0)
    cells += made_up({5: 0.5, 10: 0.6, 20: 0.7}, name="b", seconds=8.0, memory=200.0)
    found = find(Curves(cells), "transfer", ["a"], ["b"])
    assert found["seconds"]["budget"] == 10
    assert (found["seconds"]["with"], found["seconds"]["without"]) == (20.0, 80.0)
    assert found["seconds"]["factor"] == pytest.approx(4)
    assert found["memory"]["factor"] == pytest.approx(4)


def test_the_ratio_of_costs_is_that_of_the_costs_that_are_shown():
    cells = [*made_up({5: 0.6}, name="a"), *made_up({5: 0.5}, name="b", seconds=8.0)]
    dear = {"a": (1.0, 2.0, 9.0), "b": (8.0, 30.0, 20.0)}
    cells = [
        replace(one, cell=replace(one.cell, seconds={"total": dear[one.cell.technique][one.cell.seed]}))
        for one in cells
    ]
    cost = find(Curves(cells), "transfer", ["a"], ["b"])["seconds"]
    assert (cost["with"], cost["without"], cost["factor"]) == (2.0, 20.0, 10.0)
    # A resample that is one seed alone has the ratio of that seed; no median lies beyond its values.
    assert 20 / 9 <= cost["low"] <= 8.0
    assert cost["high"] == pytest.approx(15.0)


@pytest.mark.parametrize(
    ("mine", "theirs", "factor"), [(0.0, 0.0, 1), (0.008, 0.004, 1), (2.0, 0.0, 0.5), (0.0, 2.0, 2), (4.0, 2.0, 0.5)]
)
def test_memory_below_a_mebibyte_is_as_good_as_none(mine, theirs, factor):
    cells = made_up({5: 0.8}, name="feature-extraction", memory=mine)
    cells += made_up({5: 0.6}, name="from-scratch", memory=theirs)
    figure = said(cells).figures[2]
    assert figure["value"] == factor
    words = {1: "as much memory", 0.5: "2.0 times more memory", 2: "2.0 times less memory"}[factor]
    shown = ["less than 1 MiB" if one < 1 else f"{one:.0f} MiB" for one in (mine, theirs)]
    assert f"the probe takes {shown[0]} and scratch {shown[1]}: {words}" in figure["sentence"]


def test_a_weighted_median_is_that_of_repeated_values():
    draw = np.random.default_rng(0)
    values, weights = draw.normal(size=5), draw.integers(0, 4, size=(200, 5)).astype(float)
    weights[0] = 0
    found = weighted_medians(values, weights)
    assert np.isnan(found[0])
    for row, weight in zip(found[1:], weights[1:], strict=True):
        assert row == pytest.approx(np.median(np.repeat(values, weight.astype(int))))


@pytest.mark.parametrize(
    ("spans", "overall", "said"),
    [
        ([(0.1, 0.3), (0.0, 0.2)], (0.1, 0.2), "pays"),
        ([(-0.3, -0.1)], (-0.3, -0.1), "does not pay"),
        ([(0.1, 0.3), (-0.3, -0.1)], (-0.1, 0.1), "mixed"),
        ([(-0.1, 0.1)], (-0.1, 0.1), "inconclusive"),
        ([(-0.3, -1e-5)], (-0.3, -1e-5), "inconclusive"),  # "0.0 to 30.0 points" holds zero
        ([(None, None)], (np.nan, np.nan), "inconclusive"),
    ],
)
def test_outcomes(spans, overall, said):
    gains = [{"low": low, "high": high} for low, high in spans]
    assert outcome(gains, Estimate(0.0, *overall)) == said


def test_intervals_of_constants_and_of_nothing_are_unknown():
    assert np.isnan(interval(1.0, [1.0, 1.0]).low)
    assert np.isnan(interval(1.0, [np.nan]).high)
    assert interval(0.5, np.linspace(0, 1, 1001)).low == pytest.approx(0.025)


# --- the verdict ---------------------------------------------------------------------------------------------------

WORDS = Wording(
    {"feature-extraction": "the probe", "raw-input": "pixels", "from-scratch": "scratch"}, True, "accuracy", True
)


def said(cells):
    offered = candidates("image", SimpleNamespace(name="net"), kind="classification", target=False, several=False)
    return judge(Curves(cells), list(offered.values()), WORDS, {})


def test_the_best_is_called_so_by_the_score_that_makes_it_the_best():
    cells = made_up({5: 0.8, 10: 0.8, 20: 0.6}, name="raw-input")
    cells += made_up({5: 0.3, 10: 0.3, 20: 0.7}, name="from-scratch")
    offered = candidates("features", None, kind="classification", target=False, several=False)
    text = judge(Curves(cells), list(offered.values()), WORDS, {}).text
    assert "Best: pixels, 73.3 % of accuracy on average over 3 numbers of labels." in text


def test_the_verdict_counts_labels_against_the_best_and_time_against_the_network_from_scratch():
    budgets = (5, 10, 20, 40, 80)
    cells = made_up({n: 0.5 + 0.1 * np.log2(n / 5) for n in budgets}, name="feature-extraction", seconds=1.0, memory=40)
    cells += made_up({n: 0.3 + 0.1 * np.log2(n / 5) for n in budgets}, name="raw-input", seconds=0.1, memory=10)
    cells += made_up({n: 0.1 + 0.1 * np.log2(n / 5) for n in budgets}, name="from-scratch", seconds=50.0, memory=400)
    verdict = said(cells)
    assert verdict.outcome == "pays"
    assert verdict.findings[0]["without"] == "raw-input"
    labels, time_, memory = verdict.figures
    assert labels["value"] == pytest.approx(4, rel=0.05)
    assert "With 10 labelled examples, the probe scores what pixels scores with" in labels["text"]
    assert time_["value"] == pytest.approx(50)
    assert "50 times less time" in time_["text"]
    assert time_["sentence"].endswith(
        "50 times less time (no interval: one split, all alike, or beyond what was measured)."
    )
    assert memory["value"] == pytest.approx(10)
    assert "20.0 points (95 %: " in verdict.text
    assert verdict.text.startswith("Transfer pays here")


def test_every_figure_is_told_with_its_interval():
    cells = []
    for seed in (0, 1, 2):
        rising = {n: 0.5 + 0.1 * np.log2(n / 5) - 0.01 * seed for n in (5, 10, 20, 40, 80)}
        for order, (name, below, dear) in enumerate((("feature-extraction", 0.0, 1), ("from-scratch", 0.2, 10 + seed))):
            curve = {n: one - below for n, one in rising.items()}
            cells += made_up(curve, name=name, seeds=(seed,), order=order, seconds=dear, memory=40.0 * dear)
    verdict = said(cells)
    for figure in verdict.figures:
        assert figure["low"] <= figure["value"] <= figure["high"]
        assert "(95 %: " in figure["sentence"]
        assert figure["sentence"] in verdict.text
    assert verdict.figures[2]["sentence"].endswith("11 times less memory (95 %: 10 to 12 times).")


def test_an_interval_that_nothing_bounds_is_no_interval():
    apart = {"feature-extraction": (0.9, 0.1), "from-scratch": (0.5, 0.5)}
    cells = [
        one
        for name, scores in apart.items()
        for seed, score in enumerate(scores)
        for one in made_up({5: score, 10: score}, name=name, seeds=(seed,))
    ]
    labels = said(cells).figures[0]
    assert (labels["low"], labels["high"]) == (0.0, None)
    assert NO_INTERVAL in labels["sentence"]


def test_the_verdict_says_what_does_not_pay_and_what_cannot_be_told():
    better, worse = {5: 0.9, 10: 0.95}, {5: 0.7, 10: 0.8}
    verdict = said(made_up(worse, name="feature-extraction") + made_up(better, name="raw-input"))
    assert verdict.outcome == "does not pay"
    assert verdict.text.startswith("Transfer does not pay here: the probe is on average over 2 numbers of labels 17.5")
    assert "below pixels" in verdict.text
    assert verdict.figures[0]["bound"] == "at most"
    single = made_up(worse, name="feature-extraction", seeds=(0,)) + made_up(better, name="raw-input", seeds=(0,))
    assert "(no interval: one split, all alike, or beyond what was measured)" in said(single).text
    alike = said(made_up(worse, name="feature-extraction") + made_up(worse, name="raw-input"))
    assert alike.outcome == "inconclusive"
    assert alike.text.startswith("Whether transfer pays here cannot be told")
    assert f"0.0 points ({NO_INTERVAL}) of accuracy" in alike.text  # of three seeds and 400 examples
    alone = said(made_up(worse, name="feature-extraction"))
    assert alone.outcome == "not measured"
    assert alone.figures == ()
    assert alone.text.startswith("Nothing can be said yet: ")
    assert alone.text.endswith("listed as left out. Measured: the probe, 80.0 % of accuracy with 10 per class.")
    crossing = said(
        made_up({5: 0.9, 10: 0.9}, name="feature-extraction") + made_up({5: 0.6, 10: 0.97}, name="raw-input")
    )
    assert crossing.outcome == "mixed"
    assert "it is ahead with 5 per class and it is behind with 10 per class" in crossing.text


# --- scores of examples --------------------------------------------------------------------------------------------


def test_values_of_examples_average_to_the_score():
    from graft.techniques.technique import evaluate

    draw = np.random.default_rng(0)
    rows = np.arange(40)
    classes = np.array(["a", "b", "c"])
    truth, guess = classes[draw.integers(3, size=40)], classes[draw.integers(3, size=40)]
    shares = draw.dirichlet(np.ones(3), size=40)
    table = draw.integers(2, size=(40, 3)).astype(float)
    table[draw.random((40, 3)) < 0.2] = np.nan
    held = draw.random((40, 3))
    numbers = draw.normal(size=(40, 2))
    near = numbers + 0.3 * draw.normal(size=(40, 2))
    for task, labels, found, name in (
        (Task("", "classification", ("a", "b", "c")), truth, Predictions(rows, guess, shares, None, ()), "accuracy"),
        (Task("", "multilabel", ("x", "y", "z")), table, Predictions(rows, held > 0.5, held, None, ()), "accuracy"),
        (Task("", "regression"), numbers, Predictions(rows, near, None, None, ()), "r2"),
    ):
        score = evaluate(task, labels, found.labels, found.probabilities).metrics[name].value
        assert score_values(task, labels, found).mean() == pytest.approx(score), task.kind


def test_classes_that_a_model_never_saw_have_probability_zero():
    shares = np.array([[0.9, 0.1], [0.2, 0.8]])
    assert class_columns(shares, ("a", "c"), ("a", "b", "c")).tolist() == [[0.9, 0, 0.1], [0.2, 0, 0.8]]
    assert class_columns(shares, ("a", "c"), ("a", "c")) is shares


def test_calibration_bins_hold_every_prediction():
    sure = np.array([0.05, 0.55, 0.56, 1.0])
    bins = calibration_bins(sure, np.array([0, 1, 0, 1]))
    assert sum(one["examples"] for one in bins) == 4
    middle = next(one for one in bins if one["low"] <= 0.55 < one["high"])
    assert middle["accuracy"] == 0.5
    assert middle["confidence"] == pytest.approx(0.555)


# --- meters --------------------------------------------------------------------------------------------------------


@pytest.fixture
def kernel(tmp_path, monkeypatch):
    """What the kernel tells of a process, made up; `set_back` is what was written to have the mark set back."""
    told = SimpleNamespace(status=tmp_path / "status", set_back=tmp_path / "clear_refs")

    def tell(held, most):
        told.status.write_text(f"Name:\tpython\nVmHWM:\t{most * 1024:8d} kB\nVmRSS:\t{held * 1024:8d} kB\n")

    told.tell = tell
    tell(100, 900)
    monkeypatch.setattr(memory, "_STATUS", told.status)
    monkeypatch.setattr(memory, "_RESET", told.set_back)
    return told


def test_memory_that_was_held_and_given_back_is_seen(kernel):
    with peak_memory() as peak:
        assert kernel.set_back.read_text() == "5"  # the mark, whatever was held before
        kernel.tell(100, 160)
    assert peak.mib == 60
    with peak_memory() as none:
        kernel.tell(90, 100)
    assert none.mib == 0

    def fail():
        kernel.tell(90, 97)
        raise ValueError("on purpose")

    with pytest.raises(ValueError, match="on purpose"), peak_memory() as failed:
        fail()
    assert failed.mib == 7
    kernel.status.unlink()
    with peak_memory() as unknown:
        pass
    assert unknown.mib is None


@pytest.mark.skipif(not memory._high_water_set_back(), reason="this system does not let the mark be set back")
def test_the_mark_of_the_system_itself_is_not_below_what_was_held_in_between(monkeypatch):
    seen = []
    monkeypatch.setattr(memory, "resident_mib", lambda: seen.append(resident_mib()) or seen[-1])
    with peak_memory() as peak:
        held = np.ones(60 * 2**17)  # 60 MiB, written to
        during = resident_mib()
        del held
    # The kernel adds pages up in parcels: its figures are right to a few of those.
    assert peak.mib >= max(0.0, during - seen[0]) - 16


def test_where_the_high_water_mark_cannot_be_set_back_memory_is_sampled(kernel, monkeypatch):
    kernel.set_back.mkdir()
    looked, high, told = threading.Event(), threading.Event(), memory._stated

    def stated(name):
        counts = high.is_set()
        found = told(name)
        if counts:
            looked.set()
        return found

    monkeypatch.setattr(memory, "_stated", stated)
    before = threading.enumerate()
    with peak_memory() as peak:
        kernel.tell(160, 900)
        high.set()
        assert looked.wait(600)  # until a sample has been taken
        kernel.tell(110, 900)
    assert peak.mib == 60
    assert set(threading.enumerate()) <= set(before)


def test_energy_is_what_the_counters_gained(tmp_path):
    for name, value in (("intel-rapl:0", 1_000_000), ("intel-rapl:1", 9_000_000), ("intel-rapl:0:0", 5)):
        (tmp_path / name).mkdir()
        (tmp_path / name / "energy_uj").write_text(str(value))
        (tmp_path / name / "max_energy_range_uj").write_text("10000000")
    meter = EnergyMeter(powercap=tmp_path)
    before = meter.reading()
    (tmp_path / "intel-rapl:0" / "energy_uj").write_text("3000000")
    (tmp_path / "intel-rapl:1" / "energy_uj").write_text("500000")  # wrapped around
    assert meter.joules_since(before) == pytest.approx(2 + 1.5)
    assert EnergyMeter(powercap=tmp_path / "none").joules_since(()) is None


def test_operations_of_a_linear_layer_are_those_of_the_formula():
    network = module_backbone(torch.nn.Linear(8, 5), preprocessing=FeaturePreprocessing())
    inputs = np.random.default_rng(0).normal(size=(20, 8)).astype(np.float32)
    cost = network_cost(network, inputs, np.arange(20), EnergyMeter(), seed=0)
    assert cost.flops == 2 * 8 * 5
    assert cost.network_mib == pytest.approx((8 * 5 + 5) * 4 / 2**20)
    assert cost.data_seconds >= 0
    assert cost.feature_seconds >= 0
    assert cost.step_seconds > 0
    assert network_cost(load_backbone(None), inputs, np.arange(20), EnergyMeter(), seed=0) == NetworkCost()


# --- without a network ---------------------------------------------------------------------------------------------


def test_raw_pictures_are_small_grey_where_they_are_and_averaged(tmp_path):
    from PIL import Image

    draw = np.random.default_rng(0)
    paths = []
    for place in range(24):
        pixels = draw.integers(40, size=(8, 8)) + (180 if place % 2 else 20)
        Image.fromarray(pixels.astype(np.uint8)).save(tmp_path / f"{place}.png")
        paths.append(str(tmp_path / f"{place}.png"))
    broken = tmp_path / "5.png"
    broken.write_bytes(b"no picture")
    labels = np.array(["dark", "light"] * 12)
    model = RawInput("image", task="classification", head="discriminant").fit(np.array(paths, object), labels)
    assert model.head_.n_features_in_ == 8 * 8  # one channel
    found = model.predictions(np.array(paths, object))
    assert found.rows.tolist() == [row for row in range(24) if row != 5]
    assert [row for row, _, _ in found.failures] == [5]
    assert (found.labels == labels[found.rows]).all()
    coloured = RawInput("image", task="classification", head="discriminant")
    pictures = np.empty(8, object)
    pictures[:] = [Image.new("RGB", (64, 48), (250, 5, 5) if row % 2 else (5, 5, 250 - row)) for row in range(8)]
    coloured.fit(pictures, labels[:8])
    assert coloured.head_.n_features_in_ == 32 * 32 * 3


def test_raw_texts_are_word_counts_learnt_from_the_training_texts():
    texts = np.array(["cheap pills now", "buy pills cheap", "see you at lunch", "lunch at noon"] * 4, object)
    labels = np.array(["spam", "spam", "ham", "ham"] * 4)
    model = RawInput("text", task="classification", head="logistic").fit(texts, labels)
    found = model.predictions(np.array(["pills", "lunch", "unheard of"], object))
    assert found.labels[:2].tolist() == ["spam", "ham"]
    assert found.probabilities.shape == (3, 2)


def test_boosted_trees_learn_what_no_linear_head_can_and_keep_the_order_of_the_classes():
    draw = np.random.default_rng(0)
    X = draw.normal(size=(300, 4)).astype(np.float32)
    y = np.where(X[:, 0] * X[:, 1] > 0, "yes", "no")
    task = Task("", "classification", ("maybe", "no", "yes"))
    found = BoostedTrees(task).fit(X, y).predictions(X)
    assert (found.labels == y).mean() > 0.95
    assert found.probabilities[:, 0].max() == 0  # never seen
    assert found.probabilities.sum(axis=1) == pytest.approx(np.ones(300))
    table = np.stack([X[:, 0] > 0, X[:, 1] > 0], axis=1).astype(float)
    table[::5, 1] = np.nan
    many = BoostedTrees(Task("", "multilabel", ("a", "b"))).fit(X, table).predictions(X)
    assert ((many.probabilities[:, 0] > 0.5) == (X[:, 0] > 0)).mean() > 0.95
    numbers = BoostedTrees(Task("", "regression")).fit(X, X[:, 0] ** 2).predictions(X)
    assert np.corrcoef(numbers.labels, X[:, 0] ** 2)[0, 1] > 0.9


def test_what_can_be_compared_depends_on_the_data():
    network = SimpleNamespace(name="net")
    names = {
        (modality, network_there, target, several): list(
            candidates(
                modality, network if network_there else None, kind="classification", target=target, several=several
            )
        )
        for modality, network_there, target, several in (
            ("image", True, False, False),
            ("image", True, True, False),
            ("text", True, False, True),
            ("features", False, False, False),
        )
    }
    assert names["image", True, False, False] == ["raw-input", "feature-extraction", "fine-tuning", "from-scratch"]
    assert names["image", True, True, False][:3] == ["raw-input", "source-only", "domain-adaptation"]
    together, networks = ["raw-input", "single-task", "multi-task"], ["multi-task-network", "single-task-network"]
    assert names["text", True, False, True] == [*together, *networks, "from-scratch"]
    assert names["features", False, False, False] == ["raw-input", "from-scratch"]
    offered = candidates("image", network, kind="classification", target=False, several=False)
    assert [one.name for one in chosen(["from-scratch", "raw-input"], offered)] == ["raw-input", "from-scratch"]
    with pytest.raises(RequestError, match="techniques"):
        chosen(["fine-tunning"], offered)
    with pytest.raises(RequestError, match="Pass a target"):
        chosen(["domain-adaptation:coral"], offered)


def test_single_adaptations_take_part_where_they_are_named():
    def offered(kind, network):
        return candidates("image", network, kind=kind, target=True, several=False)

    network = SimpleNamespace(name="net")
    classes = offered("classification", network)
    usual = [one.name for one in chosen(None, classes)]
    assert usual == ["raw-input", "source-only", "domain-adaptation", "fine-tuning", "from-scratch"]
    single = {one.method: one for one in classes.values() if not one.usual}
    # What adapts, but for what needs labels of the target, and what is compared always.
    assert set(single) == {*FEATURE_METHODS, *NETWORK_METHODS} - {"source-only", "tradaboost"}
    assert all(one.sides == ("transfer", "adapted") for one in single.values())
    assert {name for name, one in single.items() if one.trains} == set(NETWORK_METHODS)
    asked = chosen(["domain-adaptation:mcc", "domain-adaptation:coral", "source-only"], classes)
    assert [one.name for one in asked] == ["source-only", "domain-adaptation:coral", "domain-adaptation:mcc"]
    assert not set(NETWORK_METHODS) & {one.method for one in offered("classification", None).values()}
    numbers = {one.method for one in offered("regression", network).values()}
    assert "coral" in numbers
    assert not {"bbse", "jda", "meda", "dann-head", "mcc"} & numbers
    for wrong, said in (
        ("domain-adaptation:corl", r"one of classifier, .* Did you mean 'coral'"),
        ("domain-adaptation:tradaboost", "found 'domain-adaptation:tradaboost'"),
        ("domain-adaptation:source-only", "Pass 'source-only'"),
        ("domain-adaptation:auto", "Pass 'domain-adaptation'"),
        ("coral", "Did you mean 'domain-adaptation:coral'"),
        ("fine-tuning:coral", "Did you mean 'fine-tuning'"),
        ("magic", "one of 'raw-input', 'source-only'"),
    ):
        with pytest.raises(RequestError, match=said):
            chosen([wrong], classes)


@pytest.mark.parametrize(
    ("method", "more"),
    [("coral", 8 * 8 + 8), ("tca", 8 * 8 + 8), ("linear-transport", 8 * 8 + 8), ("transport", 2 * 60 * 8)],
)
def test_what_an_alignment_learns_is_counted(method, more):
    draw = np.random.default_rng(0)
    X, y = draw.normal(size=(60, 8)), np.array(["a", "b", "c"])[np.arange(60) % 3]
    plain, adapted = (
        DomainAdaptation(None, method=one, head="logistic", store=False).fit(X, y, target=Domain(X + 1)).head_
        for one in ("source-only", method)
    )
    scaling = 2 * 8  # of the features, which alignments take scaled
    assert head_numbers(adapted)[1] == head_numbers(plain)[1] + more + scaling


@pytest.mark.parametrize("method", ["mcc", "shot", "t3a"])
@pytest.mark.parametrize("epochs", ["auto", 3])
@pytest.mark.parametrize(("source", "target"), [(10, 80), (80, 20)])
def test_the_length_of_an_adaptation_is_known_before(method, epochs, source, target):
    draw = np.random.default_rng(0)
    X, there = (draw.normal(size=(count, 3)).astype(np.float32) for count in (source, target))
    y = np.array(["a", "b"])[np.arange(source) % 2]
    own = module_backbone(torch.nn.Linear(3, 2), preprocessing=FeaturePreprocessing(), name="linear", feature_dim=2)
    model = DomainAdaptation(own, method=method, store=False, epochs=epochs).fit(X, y, target=Domain(there))
    expected = adaptation_examples(method, round(0.9 * source), target, epochs=epochs)
    assert model.training_["examples_seen"] == expected
