"""SHOT: its loss, its pseudo-labels, and what it does to a network without the source."""

import math

import numpy as np
import pytest
import torch
from torch import nn
from torch.nn import functional

from graft.alignment import centroid_labels, information_maximization, shot_loss
from graft.errors import RequestError


def drawn(*shape, seed=0, scale=1.0):
    return scale * torch.randn(*shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


def softmax(logits):
    powers = np.exp(logits)
    return powers / powers.sum(axis=1, keepdims=True)


LOSSES = {"information": information_maximization, "shot": lambda z: shot_loss(z, torch.arange(len(z)) % z.shape[1])}


def test_information_maximization_against_its_formula():
    logits = drawn(9, 4)
    p = softmax(logits.numpy())
    mean = p.mean(axis=0)
    expected = -(p * np.log(p)).sum(axis=1).mean() + (mean * np.log(mean)).sum()
    assert float(information_maximization(logits)) == pytest.approx(expected)


def test_its_bounds():
    assert float(information_maximization(torch.zeros(5, 4))) == pytest.approx(0, abs=1e-6)
    assert float(information_maximization(500 * torch.eye(4))) == pytest.approx(-math.log(4))
    one_class = 500 * torch.eye(4)[[1, 1, 1]]
    assert float(information_maximization(one_class)) == pytest.approx(0, abs=1e-6)
    for seed in range(20):
        assert -math.log(4) <= float(information_maximization(drawn(6, 4, seed=seed, scale=3.0))) <= 1e-12


def test_pseudo_labels_add_cross_entropy():
    logits, labels = drawn(9, 4), torch.arange(9) % 4
    expected = information_maximization(logits) + 0.3 * functional.cross_entropy(logits, labels)
    torch.testing.assert_close(shot_loss(logits, labels), expected)
    torch.testing.assert_close(shot_loss(logits), information_maximization(logits))
    with pytest.raises(RequestError, match="pseudo_labels"):
        shot_loss(logits, labels[:3])


@pytest.mark.parametrize("name", LOSSES)
def test_gradients_and_extremes(name):
    assert torch.autograd.gradcheck(LOSSES[name], drawn(7, 3).requires_grad_())
    for scale in (1e-8, 1e4):
        for rows in (1, 2, 7):
            logits = drawn(rows, 3, scale=scale).float().requires_grad_()
            found = LOSSES[name](logits)
            found.backward()
            assert found.isfinite()
            assert logits.grad.isfinite().all()
    low = drawn(7, 3).bfloat16()
    torch.testing.assert_close(LOSSES[name](low), LOSSES[name](low.float()))
    order = torch.randperm(6, generator=torch.Generator().manual_seed(0))
    if name == "information":
        torch.testing.assert_close(LOSSES[name](drawn(6, 3)[order]), LOSSES[name](drawn(6, 3)))


def labels_by_loops(features, logits, rounds):
    n, classes = logits.shape
    rows = np.hstack([features, np.ones((n, 1))])
    rows /= np.linalg.norm(rows, axis=1, keepdims=True)
    share, centroids = softmax(logits), None
    for _ in range(rounds):
        found = np.zeros((classes, rows.shape[1])) if centroids is None else centroids.copy()
        for k in range(classes):
            if share[:, k].sum() > 0:
                found[k] = sum(share[i, k] * rows[i] for i in range(n)) / share[:, k].sum()
        centroids = found
        cosines = rows @ centroids.T / np.linalg.norm(centroids, axis=1)
        labels = cosines.argmax(axis=1)
        share = np.eye(classes)[labels]
    return labels


@pytest.mark.parametrize("rounds", [1, 2, 5])
def test_pseudo_labels_against_loops(rounds):
    for seed in range(5):
        features, logits = drawn(40, 6, seed=seed), 2 * drawn(40, 4, seed=seed + 100)
        expected = labels_by_loops(features.numpy(), logits.numpy(), rounds)
        assert centroid_labels(features, logits, rounds=rounds).tolist() == expected.tolist()


def test_pseudo_labels_mend_predictions_near_the_border():
    """Three tight groups; the head is wrong about a third of each, but not of one side with any."""
    labels = torch.arange(90) % 3
    features = 4 * functional.one_hot(labels, 3).double() + drawn(90, 3, scale=0.3)
    logits = functional.one_hot(labels, 3).double()
    wrong = torch.arange(90) % 9 < 3
    logits[wrong] = functional.one_hot((labels[wrong] + 1) % 3, 3).double() * 0.5
    assert (logits.argmax(dim=1) == labels).float().mean() < 0.7
    assert (centroid_labels(features, logits) == labels).all()


def test_a_class_without_examples_and_zero_features():
    logits = torch.tensor([[9.0, 0.0, -1e4], [0.0, 9.0, -1e4], [9.0, 0.0, -1e4]])
    features = torch.tensor([[5.0, 0.0], [0.0, 5.0], [4.0, 0.1]], requires_grad=True)
    found = centroid_labels(features, logits)
    assert found.tolist() == [0, 1, 0]
    assert not found.requires_grad
    assert centroid_labels(torch.zeros(4, 2), torch.zeros(4, 3)).shape == (4,)
    with pytest.raises(RequestError, match="logits"):
        centroid_labels(features, logits[:2])
    order = torch.randperm(30, generator=torch.Generator().manual_seed(0))
    x, z = drawn(30, 4), drawn(30, 3, seed=1)
    assert torch.equal(centroid_labels(x[order], z[order]), centroid_labels(x, z)[order])


def blobs(seed, angle=0.0):
    labels = np.arange(300) % 3
    centres = 2 * np.array([[1, 0], [-0.5, 0.87], [-0.5, -0.87]])
    points = centres[labels] + 0.5 * np.random.default_rng(seed).standard_normal((300, 2))
    rotation = np.array([[np.cos(angle), -np.sin(angle)], [np.sin(angle), np.cos(angle)]])
    return torch.tensor(points @ rotation.T).float(), torch.tensor(labels)


@pytest.mark.parametrize("pseudo", [False, True])
def test_a_network_is_adapted_without_the_source(pseudo):
    (x, y), (asked, true) = blobs(0), blobs(1, angle=0.9)
    torch.manual_seed(0)
    trunk, head = nn.Sequential(nn.Linear(2, 32), nn.ReLU(), nn.Linear(32, 32), nn.ReLU()), nn.Linear(32, 3)
    optimizer = torch.optim.SGD([*trunk.parameters(), *head.parameters()], lr=0.05, momentum=0.9)
    for _ in range(100):
        optimizer.zero_grad()
        functional.cross_entropy(head(trunk(x)), y).backward()
        optimizer.step()

    def accuracy():
        with torch.no_grad():
            return float((head(trunk(asked)).argmax(dim=1) == true).float().mean())

    before = accuracy()
    head.requires_grad_(False)
    optimizer = torch.optim.SGD(trunk.parameters(), lr=0.02, momentum=0.9)
    for step in range(150):
        if step % 30 == 0:
            with torch.no_grad():
                features = trunk(asked)
                labels = centroid_labels(features, head(features))
        optimizer.zero_grad()
        shot_loss(head(trunk(asked)), labels if pseudo else None).backward()
        optimizer.step()
    assert before < 0.85
    assert accuracy() > 0.95
