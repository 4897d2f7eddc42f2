"""Targets, losses and scores of each kind of task, beside torch and scikit-learn."""

import math

import numpy as np
import pytest
import torch
from sklearn.metrics import log_loss, r2_score, root_mean_squared_error
from torch.nn import functional

from graft.data import Task
from graft.errors import DataError
from graft.training import Numbers, supervision

CLASSES = ("ash", "beech", "cedar")
CLASSIFICATION = Task("", "classification", CLASSES)
MULTILABEL = Task("", "multilabel", ("red", "round"))
REGRESSION = Task("", "regression", ())


@pytest.fixture
def draw():
    return np.random.default_rng(0)


# single-label classification


@pytest.mark.parametrize("smoothing", [0.0, 0.1, 0.5])
def test_cross_entropy_is_that_of_torch(draw, smoothing):
    labels = draw.choice(CLASSES, size=20)
    goal = supervision(CLASSIFICATION, labels, smoothing=smoothing)
    logits = torch.from_numpy(draw.normal(size=(20, 3))).float()
    targets = goal.targets(labels)
    assert goal.outputs == 3
    assert [CLASSES[code] for code in targets.argmax(dim=1)] == labels.tolist()
    assert torch.equal(targets.sum(dim=1), torch.ones(20))
    expected = functional.cross_entropy(logits, targets.argmax(dim=1), reduction="none", label_smoothing=smoothing)
    torch.testing.assert_close(goal.losses(logits, targets), expected)


def test_mixed_targets_have_the_mixed_loss(draw):
    goal = supervision(CLASSIFICATION, np.asarray(CLASSES), smoothing=0.1)
    logits = torch.from_numpy(draw.normal(size=(2, 3))).float()
    one, other = goal.targets(np.asarray(["ash", "ash"])), goal.targets(np.asarray(["cedar", "beech"]))
    torch.testing.assert_close(
        goal.losses(logits, 0.3 * one + 0.7 * other), 0.3 * goal.losses(logits, one) + 0.7 * goal.losses(logits, other)
    )


def test_labels_need_not_be_words():
    goal = supervision(Task("", "classification", (3, 7)), np.asarray([7, 3]))
    assert goal.targets(np.asarray([7, 3, 7])).tolist() == [[0, 1], [1, 0], [0, 1]]


def test_losses_are_in_float32_whatever_the_network_computed_in():
    goal = supervision(CLASSIFICATION, np.asarray(CLASSES))
    outputs = torch.randn(3, 3).bfloat16()
    assert goal.losses(outputs, torch.eye(3)).dtype == torch.float32


def test_the_score_is_the_log_loss_at_the_best_temperature(draw):
    labels = draw.choice(CLASSES, size=300)
    goal = supervision(CLASSIFICATION, labels)
    targets = goal.targets(labels)
    logits = torch.from_numpy(draw.normal(size=(300, 3))).float() + 1.5 * targets
    found = goal.score(logits, targets)
    losses = [
        log_loss(labels, torch.softmax(logits.double() / t, dim=1).numpy(), labels=CLASSES)
        for t in np.geomspace(0.2, 5, 400)
    ]
    assert -found["score"] == pytest.approx(min(losses), abs=1e-4)
    assert goal.score(7 * logits, targets)["score"] == pytest.approx(found["score"], abs=1e-5)
    assert found["accuracy"] == pytest.approx(float((logits.argmax(dim=1) == targets.argmax(dim=1)).float().mean()))


@pytest.mark.parametrize("task", [CLASSIFICATION, MULTILABEL, REGRESSION], ids=lambda task: task.kind)
def test_the_nearer_to_the_truth_the_better_the_score(draw, task):
    if task.kind == "classification":
        labels = draw.choice(CLASSES, size=200)
    else:
        labels = draw.integers(2, size=(200, 2)) if task.kind == "multilabel" else draw.normal(size=(200, 2))
    goal = supervision(task, labels)
    targets = goal.targets(labels)
    truth = targets if task.kind == "regression" else 4 * targets - 2
    noise = torch.from_numpy(draw.normal(size=(200, goal.outputs))).float()
    scores = [goal.score(truth + noise * level, targets)["score"] for level in (0.5, 1, 2, 4)]
    assert scores == sorted(scores, reverse=True)
    assert len(set(scores)) == 4


# multi-label classification


def test_binary_cross_entropy_is_that_of_torch_over_the_known_cells(draw):
    table = draw.integers(2, size=(30, 2)).astype(float)
    table[draw.uniform(size=table.shape) < 0.3] = np.nan
    goal = supervision(MULTILABEL, table)
    targets = goal.targets(table)
    logits = torch.from_numpy(draw.normal(size=(30, 2))).float()
    losses = goal.losses(logits, targets)
    assert goal.outputs == 2
    for row in range(30):
        known = ~np.isnan(table[row])
        if known.any():
            expected = functional.binary_cross_entropy_with_logits(logits[row, known], targets[row, known])
            torch.testing.assert_close(losses[row], expected)
        else:
            assert losses[row] == 0
    known = ~np.isnan(table)
    found = goal.score(logits, targets)
    # The score does not change with the scale of the logits, and is the log loss at the best one.
    assert goal.score(4 * logits, targets)["score"] == pytest.approx(found["score"], rel=1e-3)
    scales = np.geomspace(0.01, 3, 400)
    tried = [log_loss(table[known], torch.sigmoid(s * logits).numpy()[known], labels=[0, 1]) for s in scales]
    assert -found["score"] == pytest.approx(min(tried), rel=1e-3)
    assert found["accuracy"] == pytest.approx(((logits.numpy() > 0) == (table > 0.5))[known].mean())


def test_unknown_cells_have_no_gradient_and_no_influence(draw):
    table = np.asarray([[1.0, np.nan], [np.nan, np.nan], [0.0, 1.0]])
    goal = supervision(MULTILABEL, table)
    logits = torch.from_numpy(draw.normal(size=(3, 2))).float().requires_grad_()
    goal.losses(logits, goal.targets(table)).sum().backward()
    assert torch.equal(logits.grad != 0, torch.tensor([[True, False], [False, False], [True, True]]))
    moved = logits.detach().clone()
    moved[0, 1] += 5
    assert torch.equal(goal.losses(moved, goal.targets(table)), goal.losses(logits.detach(), goal.targets(table)))


# regression


@pytest.mark.parametrize("shape", [(40,), (40, 2)])
def test_numbers_are_measured_in_standard_deviations(draw, shape):
    values = draw.normal(5, 3, size=shape) * 1000
    goal = supervision(REGRESSION, values)
    assert isinstance(goal, Numbers)
    targets = goal.targets(values)
    assert goal.outputs == targets.shape[1] == (shape[1] if len(shape) == 2 else 1)
    torch.testing.assert_close(targets.mean(dim=0), torch.zeros(goal.outputs), atol=1e-5, rtol=0)
    torch.testing.assert_close(targets.std(dim=0, correction=0), torch.ones(goal.outputs))
    np.testing.assert_allclose(targets.numpy() * goal.scale + goal.location, values.reshape(40, -1), rtol=1e-4)
    outputs = targets + torch.from_numpy(draw.normal(size=targets.shape)).float()
    torch.testing.assert_close(goal.losses(outputs, targets), (outputs - targets).square().mean(dim=1))
    found = goal.score(outputs, targets)
    assert found["score"] == pytest.approx(r2_score(targets.numpy(), outputs.numpy()), rel=1e-4)
    in_units = [one.numpy() * goal.scale for one in (targets, outputs)]
    assert found["rmse"] == pytest.approx(
        math.sqrt(np.mean(root_mean_squared_error(*in_units, multioutput="raw_values") ** 2)), rel=1e-5
    )


def test_the_unit_of_the_numbers_does_not_matter(draw):
    values, outputs = draw.normal(size=30), torch.from_numpy(draw.normal(size=(30, 1))).float()
    metres, feet = supervision(REGRESSION, values), supervision(REGRESSION, values / 0.3048 + 10)
    torch.testing.assert_close(
        metres.losses(outputs, metres.targets(values)), feet.losses(outputs, feet.targets(values / 0.3048 + 10))
    )


def test_numbers_that_do_not_vary_are_an_error():
    with pytest.raises(DataError, match="vary"):
        supervision(REGRESSION, np.column_stack([np.arange(4.0), np.full(4, 2.5)]))


def test_the_score_is_the_mean_of_what_each_example_adds(draw):
    outputs = torch.from_numpy(draw.normal(size=(30, 3))).float()
    table = (draw.random((30, 3)) < 0.4).astype(float)
    table[::4, 1] = np.nan
    for labels, task in (
        (draw.integers(3, size=30), Task("", "classification", (0, 1, 2))),
        (table, Task("", "multilabel", ("a", "b", "c"))),
        (draw.normal(size=(30, 3)), Task("", "regression")),
    ):
        goal = supervision(task, labels)
        targets = goal.targets(labels)
        shares = goal.shares(outputs, targets)
        assert shares.shape == (30,)
        assert goal.score(outputs, targets)["score"] == pytest.approx(shares.mean(), rel=1e-6)
        worse = outputs.clone()
        worse[3] = 5 * (1 - 2 * targets[3].nan_to_num(0)) if task.kind != "regression" else targets[3] + 9
        assert goal.shares(worse, targets)[3] < shares[3]
