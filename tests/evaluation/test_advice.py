"""Advice on made-up data where the right answer is known: what is measured, forecast and checked, and what it costs."""

import json
from itertools import pairwise
from typing import ClassVar

import numpy as np
import pytest
import torch
from torch import nn

from graft import Domain, FeatureExtraction, FineTuning, _runtime, advise, compare
from graft.backbones import FeaturePreprocessing, module_backbone
from graft.data import Task
from graft.errors import DataError, RequestError, TrainingError
from graft.evaluation.advice.advice import Advice, AdvisedCandidate
from graft.evaluation.advice.budget import Budget
from graft.evaluation.advice.evidence import Evidence, Shift, TaskSize, evidence
from graft.evaluation.advice.forecast import Forecast, forecasts, similarity_of
from graft.evaluation.advice.learning_curve import EXPONENT, LearningCurve, learning_curve
from graft.evaluation.advice.models import rightness
from graft.evaluation.advice.question import Question
from graft.evaluation.advice.reasons import conclusion, measured_reasons
from graft.evaluation.advice.training_cost import TrainingCost, training_cost
from graft.evaluation.advice.trial import FOLDS, check, value_of_checking
from graft.evaluation.comparison.candidates import ADAPTED, FROZEN, RAW, SCRATCH, TOGETHER, TUNED
from graft.evaluation.comparison.training_length import training_steps
from graft.metrics import Estimate

pytestmark = pytest.mark.usefixtures("tournaments_in_time")


class Clock:
    """A clock that moves when it is told to, and a little whenever somebody looks."""

    def __init__(self, tick=0.0):
        self.now, self.tick = 0.0, tick

    def __call__(self):
        self.now += self.tick
        return self.now


def estimate(value, width=0.05):
    return Estimate(value, value - width, value + width)


def curve(*scores, largest=200, width=0.05):
    sizes = [largest >> (len(scores) - 1 - place) for place in range(len(scores))]
    return LearningCurve(tuple(sizes), tuple(estimate(score, width) for score in scores))


def measured(frozen, raw, *, labels=200, classes=4, shift=None, missing=0.0, tasks=1):
    size = TaskSize("", "classification", labels, classes, *[labels // classes] * 3, chance=1 / classes)
    return Evidence(labels, (size,) * tasks, missing, shift, (frozen,) * tasks, (raw,) * tasks)


def best(found, techniques):
    expected = forecasts(found, techniques, seed=0)
    return max(expected, key=lambda name: expected[name].worth.mean())


def question(features, labels, **more):
    kind = more.pop("kind", "classification")
    tasks = more.pop("tasks", None)
    if tasks is None:
        tasks = (Task("", kind, tuple(np.unique(labels).tolist()) if kind == "classification" else ()),)
    given = {"groups": None, "target": None, "epochs": "auto", "views": None, "store": False}
    return Question(features, features, labels, tasks, modality="features", backbone=None, seed=0, **(given | more))


def clouds(n=120, classes=3, distance=3.0, seed=0):
    draws = np.random.default_rng(seed)
    codes = np.arange(n) % classes
    return (draws.normal(size=(n, 6)) + distance * np.eye(6)[codes]).astype(np.float32), np.array(list("abcdef"))[codes]


# The learning curve.


def test_a_power_law_is_found_again_and_continued():
    sizes = (1000, 2000, 4000)
    law = LearningCurve(sizes, tuple(estimate(1 - 3 * n**-0.5, 0.0005) for n in sizes))
    exponent, doubt = law.exponent
    assert exponent == pytest.approx(0.5, abs=0.02)
    assert doubt < 0.05
    # Cross-validation learnt from four fifths.
    assert np.exp(law.at(16000)[0]) == pytest.approx(3 * 4000**-0.5 * (16000 / 3200) ** -exponent, rel=1e-6)


def test_one_point_leaves_what_is_known_before():
    assert LearningCurve((100,), (estimate(0.7),)).exponent[0] == pytest.approx(EXPONENT)


def test_more_examples_are_never_expected_to_harm():
    falling = curve(0.9, 0.8, 0.7, width=0.001)
    assert falling.exponent[0] == 0.0


def test_without_an_error_half_of_one_is_claimed():
    assert np.exp(LearningCurve((100,), (Estimate(1.0, 1.0, 1.0),)).log_error[0]) == pytest.approx(0.005)


def test_parts_are_nested_and_hold_each_class_and_all_come_first():
    seen, labels = [], np.array(["rare"] * 8 + ["often"] * 92)
    task = Task("", "classification", ("often", "rare"))
    learning_curve(
        lambda rows: seen.append(rows) or type("E", (), {"metrics": {"accuracy": estimate(0.5)}})(),
        labels,
        task,
        "accuracy",
        seed=0,
    )
    assert [len(rows) for rows in seen] == sorted((len(rows) for rows in seen), reverse=True)
    assert len(seen[0]) == 100
    assert all(set(small) <= set(large) for large, small in pairwise(seen))
    assert all(np.sum(labels[rows] == "rare") >= 2 for rows in seen)


def test_why_no_head_was_cross_validated_is_not_said_to_be_their_number_alone():
    said = " ".join(advise(np.ones((60, 3)), np.arange(60) % 2, budget=0).reasons)
    assert "60 labelled examples" in said
    assert "too few that differ" in said


def test_a_data_frame_of_features_is_one_of_vectors():
    import pandas as pd

    from graft import rank_backbones
    from graft.data import modality_of

    X, y = clouds(60)
    frame = pd.DataFrame(X, columns=[f"column {place}" for place in range(X.shape[1])])
    assert modality_of(frame) == "features"
    assert advise(frame, pd.Series(y), budget=0).reasons == advise(X, y, budget=0).reasons
    assert rank_backbones(frame, y, store=False).rows[0].score == rank_backbones(X, y, store=False).rows[0].score
    options = {"seeds": 1, "budgets": [5], "techniques": ["raw-input"]}
    assert compare(frame, pd.Series(y), **options).cells[0].score == compare(X, y, **options).cells[0].score


def test_no_part_is_as_large_as_the_one_before():
    task = Task("", "classification", tuple(range(30)))
    found = learning_curve(
        lambda rows: type("E", (), {"metrics": {"accuracy": estimate(0.5)}})(),
        np.arange(90) % 30,
        task,
        "accuracy",
        seed=0,
    )
    assert found.examples == (60, 90)


def test_when_time_is_up_only_all_examples_are_seen():
    seen = []
    labels = np.array(["a", "b"] * 50)
    found = learning_curve(
        lambda rows: seen.append(rows) or type("E", (), {"metrics": {"accuracy": estimate(0.5)}})(),
        labels,
        Task("", "classification", ("a", "b")),
        "accuracy",
        seed=0,
        more=lambda: False,
    )
    assert len(seen) == 1
    assert found.examples == (100,)


# The forecast.

IMAGE = (RAW, FROZEN, TUNED, SCRATCH)


def test_few_and_similar_is_feature_extraction():
    assert best(measured(curve(0.93, 0.95, 0.97, largest=100), curve(0.3, 0.4, 0.5, largest=100)), IMAGE) == FROZEN


def test_many_and_different_is_a_training():
    far = measured(curve(0.6, 0.65, 0.7, largest=4000), curve(0.7, 0.75, 0.8, largest=4000), labels=4000)
    assert best(far, IMAGE) in (TUNED, SCRATCH)


def test_few_and_far_is_the_raw_input():
    assert best(measured(curve(0.5, 0.55, largest=60), curve(0.7, 0.8, largest=60), labels=60), IMAGE) == RAW


def test_fine_tuning_gains_most_where_the_features_are_worth_no_more_than_the_input():
    ratios = []
    for raw in (0.9, 0.8, 0.65, 0.4):  # a head on the features is right in 0.8
        expected = forecasts(measured(curve(0.8), curve(raw)), IMAGE, seed=0)
        ratios.append(np.log((1 - expected[TUNED].draws) / (1 - expected[FROZEN].draws)).mean())
    assert ratios == sorted(ratios)
    assert ratios[0] < np.log(0.7) < ratios[2] < 0
    assert ratios[-1] == pytest.approx(0.0, abs=0.1)


def test_a_network_for_each_task_has_to_earn_more():
    found = [measured(curve(0.8), curve(0.8), tasks=tasks) for tasks in (1, 3)]
    alone, several = (forecasts(one, (FROZEN, TUNED, TOGETHER), seed=0) for one in found)
    for name, times in ((FROZEN, 1), (TUNED, 3), (TOGETHER, 1)):
        cost = (alone[name].draws - alone[name].worth).mean()
        assert (several[name].draws - several[name].worth).mean() == pytest.approx(times * cost)


def test_features_that_say_nothing_are_expected_to_learn_nothing():
    expected = forecasts(measured(curve(0.26), curve(0.26)), IMAGE, seed=0)  # chance is a quarter
    assert expected[TUNED].draws.mean() == pytest.approx(expected[FROZEN].draws.mean(), abs=0.06)


def test_more_room_means_a_larger_gain_of_training():
    gains = []
    for score in (0.6, 0.8, 0.95):
        expected = forecasts(measured(curve(score), curve(score)), IMAGE, seed=0)
        gains.append(expected[TUNED].draws.mean() - expected[FROZEN].draws.mean())
    assert gains == sorted(gains, reverse=True)


def test_shift_lowers_what_is_expected_and_adaptation_wins_some_of_it_back():
    apart = Shift("target", 200, 0.95, 0.9, 1.0, 0.001, True)
    techniques = (FROZEN, ADAPTED)
    here = forecasts(measured(curve(0.9), None), techniques, seed=0)
    there = forecasts(measured(curve(0.9), None, shift=apart), techniques, seed=0)
    assert here[FROZEN].draws.mean() == pytest.approx(here[ADAPTED].draws.mean())
    assert there[FROZEN].draws.mean() < there[ADAPTED].draws.mean() < here[FROZEN].draws.mean()
    unmoved = Shift("target", 200, 0.52, 0.45, 0.6, 0.5, False)
    same = forecasts(measured(curve(0.9), None, shift=unmoved), techniques, seed=0)
    assert same[FROZEN].draws.mean() == pytest.approx(here[FROZEN].draws.mean())


def test_nothing_is_expected_to_be_far_below_chance():
    expected = forecasts(measured(curve(0.3), curve(0.25)), IMAGE, seed=0)
    assert all((one.draws >= 1 - 1.1 * 0.75 - 1e-9).all() for one in expected.values())


def test_similarity_is_the_ratio_of_errors_within_bounds():
    assert similarity_of(curve(0.9), curve(0.8)) == pytest.approx(np.log(2))
    assert similarity_of(curve(0.8), curve(0.9)) == pytest.approx(-np.log(2))
    assert similarity_of(curve(0.99), curve(0.1)) == 2.0
    assert similarity_of(None, curve(0.5)) == 0.0


# What a check is worth, and what it decides.


def forecast(name, mean, spread, seed):
    return Forecast(name, mean + spread * np.random.default_rng(seed).standard_normal(4000))


def test_a_check_is_worth_more_where_less_is_known_and_more_is_held_out():
    sure = value_of_checking(forecast(FROZEN, 0.9, 0.01, 0), forecast(RAW, 0.8, 0.01, 1), 200)
    open_question = value_of_checking(forecast(FROZEN, 0.85, 0.05, 0), forecast(RAW, 0.84, 0.05, 1), 200)
    few = value_of_checking(forecast(FROZEN, 0.85, 0.05, 0), forecast(RAW, 0.84, 0.05, 1), 10)
    assert sure < 1e-4 < few < open_question


def test_the_value_of_a_perfect_check_is_that_of_knowing():
    one, other = forecast(FROZEN, 0.85, 0.05, 0), forecast(RAW, 0.84, 0.05, 1)
    knowing = np.maximum(one.draws, other.draws).mean() - one.draws.mean()
    assert value_of_checking(one, other, 10**9) == pytest.approx(knowing, rel=0.05)


def shares(right):
    """Return a stand-in for the fits: a technique is right on a share of the examples, the same ones each time."""

    def measure(name, asked_of, learnt, asked, *, share, epochs):
        assert not set(learnt) & set(asked)
        draws = np.random.default_rng(5).random(asked_of.examples)
        return (draws < right[name])[asked][:, None].astype(float)

    return measure


def test_the_check_overturns_what_was_expected():
    data = question(*clouds(200))
    first, second = forecast(FROZEN, 0.8, 0.05, 0), forecast(TUNED, 0.79, 0.05, 1)
    found = check(data, first, second, Budget(None), measure=shares({FROZEN: 0.7, TUNED: 0.9}))
    assert found.winner == TUNED
    assert found.gain.value == pytest.approx(-0.2, abs=0.06)
    assert found.gain.high < 0
    agreed = check(data, first, second, Budget(None), measure=shares({FROZEN: 0.9, TUNED: 0.7}))
    assert agreed.winner == FROZEN


def test_where_both_are_as_good_the_one_that_costs_less_is_kept():
    data = question(*clouds(200))
    expected = forecast(FROZEN, 0.8, 0.05, 0), Forecast(TUNED, forecast(TUNED, 0.8, 0.05, 1).draws)
    assert check(data, *expected, Budget(None), measure=shares({FROZEN: 0.8, TUNED: 0.8})).winner == FROZEN


def test_the_budget_is_kept_by_folds():
    data, clock = question(*clouds(200)), Clock()
    instant = shares({FROZEN: 0.8, TUNED: 0.81})

    def slow(*given, **options):
        clock.now += 10
        return instant(*given, **options)

    first, second = forecast(FROZEN, 0.8, 0.05, 0), forecast(TUNED, 0.8, 0.05, 1)
    found = check(data, first, second, Budget(65, clock=clock), measure=slow)
    assert found.folds == 3
    assert clock.now <= 65
    assert sum(found.seconds.values()) == pytest.approx(60)


def test_a_clear_case_ends_early():
    data = question(*clouds(400))
    first, second = forecast(FROZEN, 0.95, 0.05, 0), forecast(TUNED, 0.9, 0.05, 1)
    found = check(data, first, second, Budget(None), measure=shares({FROZEN: 0.99, TUNED: 0.4}))
    assert found.folds < FOLDS


def test_scores_of_several_tasks_are_means_over_tasks():
    labels = np.full((100, 2), None, dtype=object)
    labels[:, 0], labels[:20, 1] = "a", "b"
    tasks = (Task("one", "classification", ("a", "x")), Task("two", "classification", ("b", "x")))
    data = question(np.zeros((100, 1)), labels, tasks=tasks)

    def measure(name, asked_of, learnt, asked, *, share, epochs):
        table = np.full((len(asked), 2), np.nan)
        table[:, 0] = 1.0
        table[asked < 20, 1] = 0.0 if name == FROZEN else 1.0
        return table

    first, second = forecast(FROZEN, 0.6, 0.2, 0), forecast(TOGETHER, 0.6, 0.2, 1)
    found = check(data, first, second, Budget(None), measure=measure)
    assert found.scores[FROZEN].value == pytest.approx(0.5)
    assert found.scores[TOGETHER].value == pytest.approx(1.0)


def test_the_rightness_of_numbers_has_r2_as_its_mean():
    from sklearn.metrics import r2_score

    draws = np.random.default_rng(0)
    X = draws.normal(size=(120, 3)).astype(np.float32)
    y = X[:, 0] + 0.3 * draws.normal(size=120)
    learnt, asked = np.arange(80), np.arange(80, 120)
    right = rightness(FROZEN, question(X, y, kind="regression"), learnt, asked)
    model = FeatureExtraction(None, task="regression", store=False, random_state=0).fit(X[learnt], y[learnt])
    assert right.mean() == pytest.approx(r2_score(y[asked], model.predict(X[asked])))


# What a training takes.


def test_the_cost_of_a_training_is_that_of_its_steps():
    cost = TrainingCost(step=0.5, forward=0.0, epochs=8)
    assert training_steps(320, epochs=8, scratch=False) == 80
    assert training_steps(320, epochs=8, scratch=True) == 320
    assert cost.fit(320, scratch=False) == pytest.approx(0.5 * (64 + 80))
    assert cost.longest(36, [(320, False)]) == pytest.approx(0.5)
    three = [(320, False), (320, True), (64, False)]
    half = sum(cost.fit(n, scratch=scratch) for n, scratch in three) / 2
    assert cost.longest(half, three) == pytest.approx(0.5)
    auto = TrainingCost(step=1.0, forward=0.0, epochs="auto")
    assert auto.fit(400, scratch=True) == 4 * auto.fit(400, scratch=False) == 4 * ((150 + 30) + (150 + 39))


class Watched(nn.Linear):
    """A layer that notes in which precision it computes while it is trained."""

    seen: ClassVar[set[torch.dtype]] = set()

    def forward(self, inputs):
        outputs = super().forward(inputs)
        if self.training:
            self.seen.add(outputs.dtype)
        return outputs


@pytest.mark.parametrize("fast", [True, False])
def test_a_step_is_measured_in_the_precision_of_the_training(fast, monkeypatch):
    monkeypatch.setattr(_runtime, "bfloat16_is_fast", lambda _device: fast)
    X, y = clouds(60)
    network = module_backbone(Watched(X.shape[1], 4), preprocessing=FeaturePreprocessing(), feature_dim=4)
    Watched.seen.clear()
    assert training_cost(network, X, 1.0, clock=Clock(tick=1.0)).step == 1.0
    measured = set(Watched.seen)
    Watched.seen.clear()
    FineTuning(network, epochs=1.0, store=False, random_state=0).fit(X, y)
    assert measured == Watched.seen == {torch.bfloat16 if fast else torch.float32}


def test_watching_alone_may_be_more_than_there_is():
    assert TrainingCost(step=0.1, forward=1.0, epochs=1).longest(1.0, [(1000, False)]) == 0.0


def test_steps_that_no_clock_can_tell_are_taken_all_or_none():
    cost = TrainingCost(step=0.0, forward=1.0, epochs=1)
    watching = cost.fit(1000, scratch=False)
    assert cost.longest(watching - 1, [(1000, False)]) == 0.0
    assert cost.longest(watching, [(1000, False)]) == 1.0


# What is said.


@pytest.mark.parametrize(
    ("frozen", "raw", "undecided", "said"),
    [
        (0.90, 0.97, False, "is better than what the pretrained network gives."),
        (0.90, 0.91, False, "does as well as what the pretrained network gives, and costs less."),
        (0.90, 0.97, True, "Whether transfer pays here is open"),
    ],
)
def test_a_tie_is_not_called_better(frozen, raw, undecided, said):
    asked = question(*clouds())
    assert said in conclusion(RAW, asked, measured(curve(frozen), curve(raw)), undecided=undecided)


def test_two_heads_without_errors_say_nothing_of_similarity():
    asked = question(*clouds())
    assert "says nothing" in " ".join(measured_reasons(asked, measured(curve(1.0), curve(1.0))))
    assert "worth more" in " ".join(measured_reasons(asked, measured(curve(1.0), curve(0.8))))


def test_tasks_without_empty_cells_are_not_called_uneven():
    asked = question(*clouds())
    assert "uneven" not in conclusion(TOGETHER, asked, measured(curve(0.9), curve(0.8)))
    assert "30 % of the cells" in conclusion(TOGETHER, asked, measured(curve(0.9), curve(0.8), missing=0.3))


def test_several_processes_are_sent_away(monkeypatch):
    monkeypatch.setenv("WORLD_SIZE", "2")
    for ask in (advise, compare):
        with pytest.raises(RequestError, match="one process"):
            ask(*clouds())


def test_what_could_not_be_fitted_says_why(monkeypatch):
    def fails(*_given, **_more):
        raise TrainingError("training", expected="a finite loss", found="nan", remedy="Lower the rate.")

    with pytest.raises(TrainingError):
        check(
            question(*clouds()), forecast(FROZEN, 0.8, 0.1, 0), forecast(TUNED, 0.8, 0.1, 1), Budget(9), measure=fails
        )


# From data to advice.


def test_vectors_of_one_task_leave_feature_extraction():
    found = advise(*clouds(), budget=None)
    assert found.technique == FROZEN == found.fits
    assert found.transfer_pays is None
    assert found.evidence.sizes[0].classes == 3


def test_a_moved_target_is_adapted_to():
    X, y = clouds(300)
    moved = X @ np.linalg.qr(np.random.default_rng(1).normal(size=(6, 6)))[0].astype(np.float32) * 0.3 + X + 1.5
    found = advise(X, y, target=Domain(moved), budget=None)
    assert found.evidence.shift.found
    assert found.evidence.shift.auc > 0.8
    assert found.technique in (ADAPTED, FROZEN)
    chosen = found.tournament["chosen"]
    assert (found.technique == FROZEN) == (chosen == "source-only")
    assert any("No labels of the target are looked at" in reason for reason in found.reasons)


def test_a_moved_target_is_adapted_to_by_the_forecast_where_there_is_no_time():
    X, y = clouds(300)
    found = advise(X, y, target=Domain(X * 0.5 + 1.5), budget=0)
    assert found.evidence.shift.found
    assert found.technique == ADAPTED
    assert found.tournament is None
    assert "budget of 0 s is spent" in found.not_checked[ADAPTED]
    assert any("did not judge each other" in reason for reason in found.reasons)
    json.dumps(found.to_dict())


def test_methods_that_came_too_late_are_named(monkeypatch):
    monkeypatch.setattr(Budget, "left", property(lambda budget: 1e-9))
    X, y = clouds(300)
    found = advise(X, y, target=Domain(X * 0.5 + 1.5), budget=60)
    assert list(found.tournament["candidates"]) == ["source-only"]
    late = next(reason for reason in found.reasons if reason.startswith("The budget was spent before"))
    assert all(name in late for name in found.tournament["left_out"])


def test_a_target_like_the_source_needs_no_adaptation():
    (X, y), (Z, _) = clouds(200), clouds(200, seed=7)
    found = advise(X, y, target=Z, budget=None)
    assert not found.evidence.shift.found
    assert found.technique == FROZEN
    assert "no difference" in found.not_checked[ADAPTED]
    assert found.tournament is None


def test_labels_of_the_target_are_not_looked_at():
    X, y = clouds(150)
    moved = X + 1.5
    with_labels = advise(X, y, target=Domain(moved, y[::-1]), budget=None)
    without = advise(X, y, target=Domain(moved), budget=None)
    assert with_labels.technique == without.technique
    assert with_labels.reasons == without.reasons


def test_related_tasks_with_empty_cells_are_learnt_together():
    draws = np.random.default_rng(0)
    X = draws.normal(size=(400, 30)).astype(np.float32)
    direction = draws.normal(size=30)
    labels = np.full((400, 4), None, dtype=object)
    for place in range(4):
        right = X @ (direction + 0.1 * draws.normal(size=30)) > 0
        rows = np.arange(place, 400, 4)[: (100, 30, 30, 30)[place]]
        labels[rows, place] = np.where(right, "up", "down")[rows]
    found = advise(X, labels, label_names=["a", "b", "c", "d"], budget=None)
    assert found.technique == TOGETHER == found.fits
    assert found.evidence.missing == pytest.approx(0.75)
    assert found.trial.examples > 0
    assert any("uneven labels" in reason for reason in found.reasons)


def test_a_test_split_of_another_distribution_is_told():
    X, y = clouds(200)
    found = advise(X, y, test=X + 2.0, budget=None)
    assert found.evidence.shift.against == "test split"
    assert any("test split has another distribution" in reason for reason in found.reasons)


def test_uneven_classes_and_few_examples_are_told():
    X, y = clouds(200)
    keep = np.flatnonzero((y != "c") | (np.arange(200) < 20))
    found = advise(X[keep], y[keep], budget=None)
    assert found.evidence.imbalance > 5
    assert any("uneven" in reason for reason in found.reasons)


def test_a_curve_of_few_groups_is_as_unsure_as_they_are_few():
    """Eight copies of each of a dozen examples: the interval is that of the dozen."""
    X, y = clouds(96, distance=1.5)
    copies, first = np.arange(12).repeat(8), np.arange(12)
    together, apart = (
        evidence(question(X[first][copies], y[first][copies], groups=groups), Budget(0, clock=Clock())).frozen[0]
        for groups in (copies, None)
    )
    model = FeatureExtraction(None, store=False).fit(X[first][copies], y[first][copies], groups=copies)
    own = model.validation_.metrics["accuracy"]
    assert (own.low, own.high) == (together.score.low, together.score.high)
    assert together.score.high - together.score.low > 2 * (apart.score.high - apart.score.low)


def test_a_spent_budget_measures_less():
    X, y = clouds(200)
    clock = Clock()
    spent = Budget(0, clock=clock)
    assert len(evidence(question(X, y), spent).frozen[0].examples) == 1
    assert len(evidence(question(X, y), Budget(None)).frozen[0].examples) == 3


def made(technique, others=(), *, checked=None, seconds=None, budget=60.0):
    def candidate(name):
        return AdvisedCandidate(name, estimate(0.8), checked if name == technique else None, seconds)

    return Advice(
        technique=technique,
        backbone="efficientnet_lite0",
        metric="accuracy",
        transfer_pays=True,
        reasons=("Because.",),
        evidence=measured(curve(0.8), curve(0.7)),
        candidates=tuple(candidate(name) for name in (technique, *others)),
        trial=None,
        tournament=None,
        not_checked={},
        budget=budget,
        seconds=1.0,
    )


def test_what_no_run_can_hold_is_not_fitted():
    assert made(RAW, (FROZEN, TUNED)).fits == FROZEN
    assert made(TUNED, (FROZEN,), seconds=600.0).fits == FROZEN
    assert made(TUNED, (FROZEN,), seconds=30.0).fits == TUNED
    assert made(TUNED, (FROZEN,), seconds=600.0, checked=estimate(0.9)).fits == TUNED
    assert made(FROZEN, (TOGETHER,)).fits == TOGETHER


def test_the_plain_form_is_json_and_has_its_names():
    found = advise(*clouds(60), budget=0)
    plain = json.loads(json.dumps(found.to_dict(), allow_nan=False))
    assert set(plain) == {
        *("technique", "fits", "backbone", "metric", "transfer_pays", "reasons", "measured", "candidates", "check"),
        *("tournament", "not_checked", "budget", "seconds"),
    }
    assert set(plain["measured"]) == {
        *("examples", "tasks", "imbalance", "missing_cells", "shift", "frozen_features", "raw_input"),
    }
    assert set(plain["candidates"][0]) == {"technique", "predicted", "checked", "seconds"}


def test_the_account_fits_80_columns():
    X, y = clouds(100)
    found = advise(X, y, target=Domain(X + 2.0), budget=None)
    assert max(len(line) for line in str(found).splitlines()) <= 80
    assert "Advice: " in str(found)


@pytest.mark.parametrize(
    ("change", "error", "word"),
    [
        ({"budget": -1}, RequestError, "budget"),
        ({"epochs": 0}, RequestError, "epochs"),
        ({"backbone": "minilm"}, RequestError, "minilm"),
        ({"task": "clasification"}, RequestError, "classification"),
        ({"groups": np.arange(3)}, DataError, "groups"),
    ],
)
def test_what_cannot_be_used_is_refused(change, error, word):
    with pytest.raises(error, match=word):
        advise(*clouds(40), **change)


def test_labels_are_needed():
    X, y = clouds(40)
    with pytest.raises(DataError, match="labels"):
        advise(X)
    with pytest.raises(DataError):
        advise(X, np.array(["a"] * 40))
    two = np.stack([y, y], axis=1)
    with pytest.raises(RequestError, match="target"):
        advise(X, two, target=X)
