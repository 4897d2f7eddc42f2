"""The losses on tensors, each against its formula written out another way."""

import doctest
import importlib
import math

import numpy as np
import ot
import pytest
import torch

from graft.alignment import (
    class_confusion,
    classifier_discrepancy,
    coral_loss,
    domain_loss,
    entropy_loss,
    hard_norm_loss,
    joint_mmd_loss,
    joint_transport_loss,
    margin_disparity,
    mmd_loss,
    reversal_schedule,
    reverse_gradient,
    spectral_penalty,
    stepwise_norm_loss,
)
from graft.errors import RequestError

MODULES = [
    "adversarial",
    "discrepancy",
    "gradient_reversal",
    "mean_embedding",
    "moments",
    "source_free",
    "test_time",
]


def drawn(*shape, seed=0, scale=1.0):
    return scale * torch.randn(*shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


X, Y = drawn(7, 3), 1.5 * drawn(6, 3, seed=1) + 0.5
P, Q = drawn(7, 4, seed=2), drawn(6, 4, seed=3)


def softmax(logits):
    powers = np.exp(np.asarray(logits))
    return powers / powers.sum(axis=1, keepdims=True)


@pytest.mark.parametrize("module", MODULES)
def test_the_examples_in_the_documentation_are_right(module):
    tests = doctest.testmod(importlib.import_module(f"graft.alignment.{module}"))
    assert tests.attempted > 0
    assert tests.failed == 0


# --- gradient reversal -----------------------------------------------------------------------------------------------


@pytest.mark.parametrize("factor", [0.0, 0.3, 2.0])
def test_reversal_leaves_values_and_turns_gradients_around(factor):
    x, weight = drawn(4, 2).requires_grad_(), drawn(4, 2, seed=1)
    assert torch.equal(reverse_gradient(x, factor), x)
    (reverse_gradient(x, factor).sin() * weight).sum().backward()
    torch.testing.assert_close(x.grad, -factor * x.detach().cos() * weight)


def test_reversed_twice_is_the_gradient_itself():
    x = drawn(4, 2).requires_grad_()
    assert torch.autograd.gradcheck(lambda z: reverse_gradient(reverse_gradient(z, 0.5), 2.0).exp(), x)


def test_a_reversed_intermediate_stays_what_it_was():
    """The view that is returned must not let a later step write into the features."""
    x = drawn(4, 2).requires_grad_()
    features = x * 2
    total = (features.square() + reverse_gradient(features)).sum()
    total.backward()
    torch.testing.assert_close(x.grad, 2 * (2 * 2 * x.detach() - 1))


def test_the_schedule_is_that_of_the_paper():
    for progress in np.linspace(0, 1, 11):
        assert reversal_schedule(progress) == pytest.approx(2 / (1 + math.exp(-10 * progress)) - 1, abs=1e-15)
    assert reversal_schedule(0.2, slope=3.0) == pytest.approx(2 / (1 + math.exp(-0.6)) - 1)
    for wrong in (-0.01, 1.01, math.nan):
        with pytest.raises(RequestError, match="progress"):
            reversal_schedule(wrong)


# --- moments ---------------------------------------------------------------------------------------------------------


def test_coral_is_the_distance_of_numpys_covariances():
    distance = np.cov(X.numpy().T) - np.cov(Y.numpy().T)
    assert float(coral_loss(X, Y)) == pytest.approx((distance**2).sum() / (4 * 9), rel=1e-12)


def test_coral_knows_neither_means_nor_rotations_of_both():
    rotation, _ = torch.linalg.qr(drawn(3, 3, seed=5))
    torch.testing.assert_close(coral_loss(X + 100, Y - 7), coral_loss(X, Y))
    torch.testing.assert_close(coral_loss(X @ rotation, Y @ rotation), coral_loss(X, Y))
    torch.testing.assert_close(coral_loss(2 * X, 2 * Y), 16 * coral_loss(X, Y))


def test_norm_losses():
    norms = np.linalg.norm(X.numpy(), axis=1)
    assert float(hard_norm_loss(X, radius=5.0)) == pytest.approx((norms.mean() - 5) ** 2)
    x = X.clone().requires_grad_()
    found = stepwise_norm_loss(x, step=0.7)
    assert float(found.detach()) == pytest.approx(0.49)
    found.backward()
    # Minus the direction of growth, of length 2 Δr / n for every example.
    torch.testing.assert_close(x.grad, -2 * 0.7 * X / torch.from_numpy(norms)[:, None] / 7)


def test_the_step_is_not_lost_beside_a_large_norm():
    x = (1e8 * drawn(4, 3)).float().requires_grad_()
    stepwise_norm_loss(x).backward()
    torch.testing.assert_close(x.grad.norm(dim=1), torch.full((4,), 0.5))


# --- mean embeddings -------------------------------------------------------------------------------------------------


def kernel_by_loops(a, b, families):
    """The product over layers of means of Gaussian kernels of two examples."""
    value = 1.0
    for x, y, family in zip(a, b, families, strict=True):
        square = sum((p - q) ** 2 for p, q in zip(x.tolist(), y.tolist(), strict=True))
        value *= sum(math.exp(-square / h) for h in family) / len(family)
    return value


def default_bandwidths(x, y):
    both = torch.cat([x, y]).tolist()
    pairs = [(a, b) for i, a in enumerate(both) for j, b in enumerate(both) if i != j]
    squares = [sum((p - q) ** 2 for p, q in zip(a, b, strict=True)) for a, b in pairs]
    return [factor * sum(squares) / len(squares) for factor in (0.25, 0.5, 1, 2, 4)]


def mmd_by_loops(source, target, families, estimator):
    source, target = list(zip(*source, strict=True)), list(zip(*target, strict=True))
    n, m, skip = len(source), len(target), estimator == "unbiased"

    def mean(first, second, same):
        values = [
            kernel_by_loops(a, b, families)
            for i, a in enumerate(first)
            for j, b in enumerate(second)
            if not (same and skip and i == j)
        ]
        return sum(values) / len(values)

    if estimator == "linear":
        terms = []
        for i in range(min(n, m) // 2):
            (x1, x2), (y1, y2) = source[2 * i : 2 * i + 2], target[2 * i : 2 * i + 2]
            signs = ((x1, x2, 1), (y1, y2, 1), (x1, y2, -1), (x2, y1, -1))
            terms.append(sum(sign * kernel_by_loops(a, b, families) for a, b, sign in signs))
        return sum(terms) / len(terms)
    return mean(source, source, True) + mean(target, target, True) - 2 * mean(source, target, False)


@pytest.mark.parametrize("estimator", ["biased", "unbiased", "linear"])
def test_mmd_against_double_loops(estimator):
    family = [0.5, 3.0, 20.0]
    expected = mmd_by_loops([X], [Y], [family], estimator)
    assert float(mmd_loss(X, Y, bandwidths=family, estimator=estimator)) == pytest.approx(expected, rel=1e-10)


@pytest.mark.parametrize("estimator", ["biased", "unbiased"])
def test_default_bandwidths_follow_the_mean_squared_distance(estimator):
    expected = mmd_by_loops([X], [Y], [default_bandwidths(X, Y)], estimator)
    assert float(mmd_loss(X, Y, estimator=estimator)) == pytest.approx(expected, rel=1e-10)
    # so that the unit of the features does not matter, nor where they are
    torch.testing.assert_close(
        mmd_loss(50 * X + 3, 50 * Y + 3, estimator=estimator), mmd_loss(X, Y, estimator=estimator)
    )


@pytest.mark.parametrize("estimator", ["biased", "unbiased", "linear"])
def test_joint_mmd_against_double_loops(estimator):
    families = [[0.5, 3.0], [1.68]]
    expected = mmd_by_loops([X, P], [Y, Q], families, estimator)
    found = joint_mmd_loss([X, P], [Y, Q], bandwidths=families, estimator=estimator)
    assert float(found) == pytest.approx(expected, rel=1e-10)


def test_joint_mmd_sees_what_each_layer_alone_does_not():
    """The same marginals, joined otherwise."""
    first = torch.tensor([[0.0], [0.0], [1.0], [1.0]], dtype=torch.float64)
    second, crossed = first.clone(), first.flip(0)
    assert float(mmd_loss(second, crossed)) == pytest.approx(0, abs=1e-12)
    assert float(joint_mmd_loss([first, second], [first, crossed])) > 0.1


def test_unbiased_is_zero_on_average_without_a_shift_and_biased_is_not():
    draws = [(drawn(8, 2, seed=2 * k), drawn(8, 2, seed=2 * k + 1)) for k in range(300)]
    for estimator, middle in (("unbiased", True), ("linear", True), ("biased", False)):
        values = np.array([float(mmd_loss(x, y, bandwidths=[2.0], estimator=estimator)) for x, y in draws])
        away = abs(values.mean()) / (values.std(ddof=1) / math.sqrt(len(values)))
        assert (away < 3.5) == middle, estimator


def test_mmd_refuses_what_it_cannot_use():
    with pytest.raises(RequestError, match="2 or more examples"):
        mmd_loss(X[:1], Y, estimator="unbiased")
    with pytest.raises(RequestError, match="bandwidths"):
        mmd_loss(X, Y, bandwidths=[0.0])
    with pytest.raises(RequestError, match="bandwidths"):
        mmd_loss(X, Y, bandwidths=[])
    with pytest.raises(RequestError, match="estimator"):
        mmd_loss(X, Y, estimator="fast")
    with pytest.raises(RequestError, match="layers"):
        joint_mmd_loss([X, P], [Y])
    with pytest.raises(RequestError, match="columns"):
        mmd_loss(X, Y[:, :2])


# --- adversarial -----------------------------------------------------------------------------------------------------


def test_domain_loss_is_weighted_cross_entropy():
    s, t, u, v = (np.asarray(values) for values in (X[:, 0], Y[:, 0], drawn(7, seed=8).abs(), drawn(6, seed=9).abs()))
    source, target = -np.log(1 / (1 + np.exp(-s))), -np.log(1 - 1 / (1 + np.exp(-t)))
    assert float(domain_loss(X[:, :1], Y[:, :1])) == pytest.approx((source.mean() + target.mean()) / 2)
    found = domain_loss(X[:, :1], Y[:, :1], source_weight=torch.from_numpy(u), target_weight=torch.from_numpy(100 * v))
    assert float(found) == pytest.approx((np.average(source, weights=u) + np.average(target, weights=v)) / 2)


@pytest.mark.parametrize("shape", [(7, 3), (3, 7), (4, 4), (1, 5)])
def test_spectral_penalty_is_the_largest_squared_singular_value(shape):
    values = drawn(*shape, seed=6)
    singular = np.linalg.svd(values.numpy(), compute_uv=False)
    for count in (1, 2):
        assert float(spectral_penalty(values, count=count)) == pytest.approx((singular[:count] ** 2).sum())


# --- discrepancies ---------------------------------------------------------------------------------------------------


def test_classifier_discrepancy_is_the_mean_distance_of_probabilities():
    other = drawn(7, 4, seed=4)
    assert float(classifier_discrepancy(P, other)) == pytest.approx(np.abs(softmax(P) - softmax(other)).mean())
    with pytest.raises(RequestError, match="rows"):
        classifier_discrepancy(P, Q)


def test_margin_disparity_against_its_formula():
    source, target = drawn(7, 4, seed=4), drawn(6, 4, seed=5)
    chosen = softmax(source)[np.arange(7), P.argmax(dim=1)], softmax(target)[np.arange(6), Q.argmax(dim=1)]
    expected = -2.5 * np.log(chosen[0]).mean() - np.log(1 - chosen[1]).mean()
    assert float(margin_disparity(P, source, Q, target, margin=2.5)) == pytest.approx(expected)
    with pytest.raises(RequestError, match="two classes"):
        margin_disparity(P[:, :1], source[:, :1], Q[:, :1], target[:, :1])


def test_margin_disparity_is_finite_where_the_adversary_agrees_for_sure():
    sure = torch.tensor([[1e4, 0.0, 0.0]], requires_grad=True)
    found = margin_disparity(sure, sure, sure, sure)
    found.backward()
    assert float(found.detach()) == pytest.approx(1e4, rel=1e-3)
    assert sure.grad.isfinite().all()


def confusion_by_loops(logits, temperature, weight=None):
    p = softmax(logits / temperature)
    n, classes = p.shape
    if weight is None:
        weight = 1 + np.exp((p * np.log(p)).sum(axis=1))
    weight = n * weight / weight.sum()
    table = np.zeros((classes, classes))
    for i in range(n):
        table += weight[i] * np.outer(p[i], p[i])
    table /= table.sum(axis=1, keepdims=True)
    return (table.sum() - np.trace(table)) / classes


@pytest.mark.parametrize("temperature", [1.0, 2.5])
def test_class_confusion_against_its_formula(temperature):
    found = class_confusion(Q, temperature=temperature)
    assert float(found) == pytest.approx(confusion_by_loops(Q.numpy(), temperature))


def test_the_weights_of_class_confusion_are_held_constant():
    logits = Q.clone().requires_grad_()
    class_confusion(logits).backward()
    p, values, tiny = softmax(Q / 2.5), Q.numpy(), 1e-6
    weight = 1 + np.exp((p * np.log(p)).sum(axis=1))
    for place in np.ndindex(*values.shape):
        up, down = values.copy(), values.copy()
        up[place] += tiny
        down[place] -= tiny
        slope = (confusion_by_loops(up, 2.5, weight) - confusion_by_loops(down, 2.5, weight)) / (2 * tiny)
        assert float(logits.grad[place]) == pytest.approx(slope, abs=1e-8)


def test_the_least_and_the_largest_confusion():
    assert float(class_confusion(500 * torch.eye(4))) == pytest.approx(0, abs=1e-6)
    assert float(class_confusion(torch.zeros(5, 4))) == pytest.approx(0.75)
    # A class that nobody predicts is no confusion either.
    assert float(class_confusion(torch.tensor([[500.0, 0.0, -1e5], [0.0, 500.0, -1e5]]))) < 1


# --- transport -------------------------------------------------------------------------------------------------------


def test_joint_transport_is_the_least_cost_of_all_plans():
    labels = torch.tensor([0, 1, 2, 3, 0, 1, 2])
    p = softmax(Q)
    cost = np.array(
        [
            [0.3 * ((X[i] - Y[j]) ** 2).sum() - 2.0 * math.log(p[j, labels[i]]) for j in range(6)]
            for i in range(7)
        ]
    )  # fmt: skip
    expected = ot.emd2(np.full(7, 1 / 7), np.full(6, 1 / 6), cost)
    found = joint_transport_loss(X, labels, Y, Q, feature_weight=0.3, label_weight=2.0)
    assert float(found) == pytest.approx(expected)


def test_equal_numbers_are_matched_one_to_one():
    """Plans between equal numbers of equal masses are permutations: all of them are tried."""
    from itertools import permutations

    labels, x, y, logits = torch.tensor([0, 1, 2, 3]), X[:4], Y[:4], Q[:4]
    log_p = np.log(softmax(logits))
    cost = [[0.1 * float((x[i] - y[j]).square().sum()) - log_p[j, i] for j in range(4)] for i in range(4)]
    least = min(sum(cost[i][j] for i, j in enumerate(order)) / 4 for order in permutations(range(4)))
    assert float(joint_transport_loss(x, labels, y, logits, feature_weight=0.1)) == pytest.approx(least)


def test_known_target_labels_decide_what_is_moved_where():
    labels = torch.tensor([0, 1])
    features, logits = torch.zeros(2, 1), torch.tensor([[9.0, 0.0], [0.0, 9.0]])
    free = joint_transport_loss(features, labels, features, logits)
    bound = joint_transport_loss(features, labels, features, logits, target_labels=torch.tensor([1, -1]))
    assert float(free) < 0.01
    assert float(bound) == pytest.approx(9, abs=0.01)


def test_entropy_of_certain_and_uniform_predictions():
    assert float(entropy_loss(torch.zeros(3, 5))) == pytest.approx(math.log(5))
    assert float(entropy_loss(1e6 * torch.eye(3))) == 0


# --- gradients, of every function whose gradient is that of its value ------------------------------------------------

LABELS = torch.tensor([0, 1, 2, 3, 0, 1, 2])
SMOOTH = {
    "coral": lambda x: coral_loss(x, Y),
    "hard norm": lambda x: hard_norm_loss(x),
    "mmd biased": lambda x: mmd_loss(x, Y, bandwidths=[1.0, 5.0]),
    "mmd unbiased": lambda x: mmd_loss(x, Y, bandwidths=[1.0, 5.0], estimator="unbiased"),
    "mmd linear": lambda x: mmd_loss(x, Y, bandwidths=[1.0, 5.0], estimator="linear"),
    "joint mmd": lambda x: joint_mmd_loss([x, x[:, :1]], [Y, Y[:, 1:2]], bandwidths=[[2.0], [1.0]]),
    "domain": lambda x: domain_loss(x[:, :1], Y[:, :1], source_weight=X[:, 0].abs()),
    "spectral": lambda x: spectral_penalty(x, count=2),
    "discrepancy": lambda x: classifier_discrepancy(x, X.sin()),
    "disparity": lambda x: margin_disparity(X, x, Y, x[:6]),
    "transport features": lambda x: joint_transport_loss(x, LABELS, Y, Q),
    "transport logits": lambda x: joint_transport_loss(X[:5], LABELS[:5] % 3, X, x),
    "entropy": entropy_loss,
}


@pytest.mark.parametrize("name", SMOOTH)
def test_gradients_are_those_of_the_function(name):
    assert torch.autograd.gradcheck(SMOOTH[name], X.clone().requires_grad_())
