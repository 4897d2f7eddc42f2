"""What each end-to-end method does to a small network on a toy shift."""

import numpy as np
import pytest
import torch
from torch import nn
from torch.nn import functional

from graft.alignment import (
    ADAPTATION_LOSSES,
    AFN,
    BSP,
    CDAN,
    DAN,
    DANN,
    JAN,
    MCC,
    MCD,
    MDD,
    DeepCORAL,
    DeepJDOT,
    DomainOutputs,
)


def moons(angle, seed):
    from sklearn.datasets import make_moons

    points, labels = make_moons(300, noise=0.08, random_state=seed)
    turn = np.deg2rad(angle)
    rotation = np.array([[np.cos(turn), -np.sin(turn)], [np.sin(turn), np.cos(turn)]])
    return torch.tensor((points - points.mean(axis=0)) @ rotation.T).float(), torch.tensor(labels)


def blobs(sheared, seed):
    labels = np.arange(300) % 3
    centres = np.array([[2, 0], [-1, 1.7], [-1, -1.7]])
    points = centres[labels] + 0.45 * np.random.default_rng(seed).standard_normal((300, 2))
    if sheared:
        points = points @ np.array([[1, 0], [1.2, 1]]) + [1, 0.6]
    return torch.tensor(points).float(), torch.tensor(labels)


def trained(method, source, target, classes, rate, seed, steps=250, width=32):
    """The accuracy on the target of a small network that is trained by plain steps with one backward pass each."""
    (x, y), (asked, true) = source, target
    torch.manual_seed(seed)
    trunk = nn.Sequential(nn.Linear(2, width), nn.ReLU(), nn.Linear(width, width), nn.ReLU())
    head = nn.Linear(width, classes)
    modules = nn.ModuleDict() if method is None else method.modules(width, classes, seed=seed)
    parts = nn.ModuleList([trunk, head, modules])
    optimizer = torch.optim.SGD(parts.parameters(), lr=rate, momentum=0.9, weight_decay=1e-3)
    draw = torch.Generator().manual_seed(seed)
    for step in range(steps):
        i, j = torch.randint(300, (2, 64), generator=draw)
        features = trunk(torch.cat([x[i], asked[j]])).split(64)
        logits = head(features[0]), head(features[1])
        loss = functional.cross_entropy(logits[0], y[i])
        if method is not None:
            outputs = DomainOutputs(features[0], logits[0], y[i], features[1], logits[1])
            loss = loss + method.loss(outputs, modules=modules, progress=step / steps)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
    with torch.no_grad():
        return float((head(trunk(asked)).argmax(dim=1) == true).float().mean())


TURNED = (moons(0, 0), moons(35, 1), 2, 0.1)
# Norms that grow step by step grow beyond all bounds at that rate.
TURNED_SLOWLY = (*TURNED[:3], 0.03)
SHEARED = (blobs(False, 0), blobs(True, 1), 3, 0.03)
TOYS = {
    "dan": (DAN(strength=3.0), TURNED),
    "dann": (DANN(hidden=(32, 32)), TURNED),
    "cdan": (CDAN(hidden=(32, 32)), TURNED),
    "bsp": (BSP(adversary=CDAN(hidden=(32, 32))), TURNED),
    "mcd": (MCD(hidden=32), TURNED),
    "mdd": (MDD(hidden=32, margin=2.0, reversal=0.3), TURNED),
    "mcc": (MCC(), TURNED),
    "deep-jdot": (DeepJDOT(feature_weight=0.1), TURNED),
    "afn": (AFN(strength=0.03), TURNED_SLOWLY),
    # Moments of a turned cloud are those of another one: these two are for clouds that are stretched or moved.
    "deep-coral": (DeepCORAL(strength=10.0), SHEARED),
    "jan": (JAN(), SHEARED),
}
SEEDS = (0, 1, 2)


def mean_accuracy(method, toy):
    return float(np.mean([trained(method, *toy, seed) for seed in SEEDS]))


@pytest.fixture(scope="module")
def source_only():
    found = {}

    def accuracy(toy):
        if id(toy) not in found:
            found[id(toy)] = mean_accuracy(None, toy)
        return found[id(toy)]

    return accuracy


@pytest.mark.parametrize("name", TOYS)
def test_every_method_beats_the_source_alone(name, source_only):
    method, toy = TOYS[name]
    assert mean_accuracy(method, toy) > source_only(toy) + 0.03


def test_the_toys_hold_every_method():
    assert set(TOYS) == set(ADAPTATION_LOSSES)
