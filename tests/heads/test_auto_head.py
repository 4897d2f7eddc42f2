"""What AutoHead and AutoRegressor choose, and what they say about it."""

from __future__ import annotations

import numpy as np
import pytest

from graft.heads import AutoHead, AutoRegressor, make_head
from graft.heads.calibration import log_loss, log_probabilities
from graft.heads.stacking import stacking_weights


def ring(seed: int = 0, n: int = 160):
    X = np.random.default_rng(seed).normal(size=(n, 2))
    return X, np.where((X**2).sum(axis=1) > 1.4, "far", "near")


def stripes(seed: int = 0, n: int = 300):
    numbers = np.random.default_rng(seed)
    X = numbers.normal(size=(n, 30))
    return X, (X[:, 0] + X[:, 1] + 0.3 * numbers.normal(size=n) > 0).astype(int)


@pytest.mark.parametrize("blend", [True, False])
@pytest.mark.parametrize(("data", "member"), [(ring, "kernel-ridge"), (stripes, "logistic")])
def test_the_right_kind_of_head_is_chosen(data, member, blend):
    X, y = data()
    head = AutoHead(blend=blend).fit(X, y)
    assert member in head.selection_["chosen"] or head.selection_["best"] == "discriminant"
    test_X, test_y = data(1)
    alone = {name: make_head(name).fit(X, y).score(test_X, test_y) for name in ("logistic", "kernel-ridge")}
    assert head.score(test_X, test_y) >= max(alone.values()) - 0.03


def test_the_account_is_complete():
    X, y = stripes()
    head = AutoHead().fit(X, y)
    account = head.selection_
    assert [row["head"] for row in account["tried"]] == [
        "logistic",
        "kernel-ridge",
        "discriminant",
        "prototype",
        "nearest-neighbors",
    ]
    for row in account["tried"]:
        assert {"accuracy", "standard_error", "macro_f1", "log_loss", "options"} <= set(row)
        # The binomial standard error of a share.
        expected = np.sqrt(row["accuracy"] * (1 - row["accuracy"]) / len(y))
        assert row["standard_error"] == pytest.approx(expected, rel=1e-9)
    scores = sorted(row["accuracy"] for row in account["tried"])
    assert account["lead"] == pytest.approx(scores[-1] - scores[-2])
    assert account["chosen"] == list(head.heads_)
    assert len(account["weights"]) == len(account["chosen"])


@pytest.mark.parametrize("data", [ring, stripes])
def test_the_logits_are_the_weighted_log_probabilities_of_the_members(data):
    X, y = data()
    head = AutoHead().fit(X, y)
    members = list(head.heads_.values())
    if len(members) == 1:
        expected = members[0].decision_function(X)
    else:
        parts = [weight * np.log(m.predict_proba(X)) for weight, m in zip(head.weights_, members, strict=True)]
        expected = sum(part[:, 1] - part[:, 0] for part in parts)
    np.testing.assert_allclose(head.decision_function(X), expected, rtol=1e-6, atol=1e-8)


def test_probabilities_out_of_fold_and_of_the_model_have_one_scale():
    # The ring leaves a single member: its temperature must be fitted to the logits that it serves.
    X, y = ring(n=400)
    head = AutoHead().fit(X, y)
    test_X, test_y = ring(1, n=2000)
    probability = head.predict_proba(test_X)
    right = (head.classes_[probability.argmax(axis=1)] == test_y).mean()
    assert abs(probability.max(axis=1).mean() - right) < 0.04


def test_stacking_finds_the_lowest_loss_and_ignores_noise():
    numbers = np.random.default_rng(0)
    codes = numbers.integers(0, 4, size=3000)
    signal = [numbers.normal(size=(3000, 4)) for _ in range(2)]
    for logits in signal:
        logits[np.arange(3000), codes] += 1.5
    parts = np.stack([log_probabilities(logits, 1.0) for logits in [*signal, numbers.normal(size=(3000, 4))]])
    weight = np.full(3000, 1e4)  # so many copies of each that what settles the rest of the question weighs nothing
    found, _ = stacking_weights(parts, codes, weight)
    # Independent evidence adds up: both true members count in full, the noise hardly at all.
    assert found[:2] == pytest.approx([1.5, 1.5], abs=0.2)
    assert found[2] < 0.1
    least = log_loss(np.tensordot(found, parts, axes=1), codes, weight)
    for direction in np.eye(3):
        for step in (0.05, -0.05):
            moved = np.maximum(found + step * direction, 0)
            assert log_loss(np.tensordot(moved, parts, axes=1), codes, weight) >= least - 1e-6


def test_stacking_shares_alike_among_equals_and_stays_modest_where_all_are_right():
    codes = np.arange(12) % 3
    right = log_probabilities(4 * np.eye(3)[codes], 1.0)
    weights, _ = stacking_weights(np.stack([right, right, right]), codes, np.ones(12))
    np.testing.assert_allclose(weights, weights[0], atol=1e-6)
    # Without a bound the loss falls for ever; the total stays near 1.
    assert 1 < weights.sum() < 1.2


def test_weights_move_with_the_members_and_never_jump():
    numbers = np.random.default_rng(0)
    codes = numbers.integers(0, 3, size=30)
    table = numbers.normal(size=(30, 3)) + 2 * np.eye(3)[codes]
    parts = log_probabilities(np.stack([table, table + 1e-3 * numbers.normal(size=table.shape), -table]), 1.0)
    one, _ = stacking_weights(parts, codes, np.ones(30))
    other, _ = stacking_weights(parts + 1e-6 * numbers.normal(size=parts.shape), codes, np.ones(30))
    np.testing.assert_allclose(one, other, atol=1e-3)
    # Two that are all but equal share alike, whichever is ahead by a hair; what speaks against the truth has no weight.
    assert one[0] == pytest.approx(one[1], abs=0.05)
    assert one[2] == 0


@pytest.mark.parametrize(("curved", "chosen"), [(True, "kernel-ridge"), (False, "ridge")])
def test_the_right_regressor_is_chosen(curved, chosen):
    numbers = np.random.default_rng(0)
    X = numbers.normal(size=(120, 3))
    y = np.sin(3 * X[:, 0]) if curved else X @ [1.0, 2.0, -1.0] + 0.5 * numbers.normal(size=120)
    head = AutoRegressor().fit(X, y)
    assert head.selection_["chosen"] == chosen
    assert head.selection_["lead"] > 0
