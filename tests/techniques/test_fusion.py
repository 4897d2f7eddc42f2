"""What other tasks' heads add to a task's own: the penalised optimum, the weighing of strengths, and when nothing."""

import numpy as np
import pytest
from scipy.special import expit, softmax

from graft.techniques.multiple.fusion import STRENGTHS, fuse

COUNT = 80


def made(kind, *, told, seed=0):
    """Return a weak own head's outputs, three columns and targets; the columns tell of the targets where `told`."""
    draws = np.random.default_rng(seed)
    columns, noise = draws.standard_normal((COUNT, 3)), draws.standard_normal((COUNT, 2))
    signal = (
        2 * (columns if told else draws.standard_normal((COUNT, 3))) @ np.array([[1.0, 0.0], [-1.0, 1.0], [0.0, 1]])
    )
    if kind == "regression":
        number = (signal + 0.5 * noise)[:, :1]
        return np.zeros((COUNT, 1)), columns, number / number.std()
    if kind == "multilabel":
        return np.zeros((COUNT, 2)), columns, (signal + noise > 0).astype(float)
    return np.full((COUNT, 2), np.log(0.5)), columns, np.eye(2)[(signal + noise).argmax(axis=1)]


KINDS = pytest.mark.parametrize("kind", ["classification", "multilabel", "regression"])


def slope(kind, own, columns, targets, found):
    """Return the gradient of the summed losses in B, (columns, outputs)."""
    outputs = own + columns @ found.coefficients + found.intercept
    likely = {"classification": lambda x: softmax(x, axis=1), "multilabel": expit, "regression": lambda x: x}[kind]
    return columns.T @ (likely(outputs) - targets)


@KINDS
def test_with_one_strength_it_is_the_penalised_optimum(kind, monkeypatch):
    monkeypatch.setattr("graft.techniques.multiple.fusion.STRENGTHS", (10.0,))
    own, columns, targets = made(kind, told=True)
    found = fuse(kind, own, columns, targets, np.ones(COUNT), 0)
    assert found.shares[10.0] > 1 - 1e-6  # the columns tell much: nothing is left of the head alone
    np.testing.assert_allclose(slope(kind, own, columns, targets, found), -10.0 * found.coefficients, atol=0.02)


@KINDS
def test_what_tells_is_used_and_of_what_does_not_next_to_nothing_is_left(kind):
    own, columns, targets = made(kind, told=True)
    found = fuse(kind, own, columns, targets, np.ones(COUNT), 0)
    assert 0.999 < sum(found.shares.values()) < 1 + 1e-9
    assert set(found.shares) == set(STRENGTHS)
    nothing = [fuse(kind, *made(kind, told=False, seed=seed), np.ones(COUNT), 0) for seed in range(12)]
    largest = [0.0 if one is None else float(np.abs(one.coefficients).max()) for one in nothing]
    assert np.median(largest) < 0.1 * np.abs(found.coefficients).max()
    assert max(largest) < 0.5 * np.abs(found.coefficients).max()


@KINDS
def test_what_columns_recall_of_a_group_is_not_taken_for_what_they_tell(kind):
    """Every group has a column that is its own: in other groups' folds it says nothing, in its own all."""
    own, _, targets = made(kind, told=False)
    groups = np.repeat(np.arange(COUNT // 4), 4)
    recalled = targets[4 * groups]  # as the first of the group
    columns = np.eye(COUNT // 4)[groups] * np.sqrt(COUNT // 4)
    apart = fuse(kind, own, columns, recalled, np.ones(COUNT), 0)
    together = fuse(kind, own, columns, recalled, np.ones(COUNT), 0, groups=groups)
    weak = STRENGTHS[:2]
    assert sum(apart.shares[one] for one in weak) > 0.99
    assert together is None or sum(together.shares[one] for one in weak) < 0.02
    assert fuse(kind, own, columns, recalled, np.ones(COUNT), 0, groups=np.zeros(COUNT)) is None


@KINDS
def test_a_head_that_is_right_already_keeps_its_outputs(kind):
    _, columns, targets = made(kind, told=True)
    right = targets if kind == "regression" else 20 * (targets - 0.5)
    found = fuse(kind, right, columns, targets, np.ones(COUNT), 0)
    assert found is None or np.abs(columns @ found.coefficients + found.intercept).max() < 0.05


def test_columns_that_mislead_are_left_out():
    """Where every strength predicts left-out examples worse than the head alone does, the head is served alone."""
    draws = np.random.default_rng(3)
    own = 3 * np.eye(2)[draws.integers(0, 2, COUNT)]
    targets = np.eye(2)[own.argmax(axis=1)]
    targets[:4] = targets[:4, ::-1]
    assert fuse("classification", own, 30 * draws.standard_normal((COUNT, 40)), targets, np.ones(COUNT), 0) is None


@KINDS
def test_the_scale_of_the_weights_does_not_matter_and_their_ratio_does(kind):
    own, columns, targets = made(kind, told=True)
    weight = np.random.default_rng(1).uniform(0.5, 2, COUNT)
    one, other = (fuse(kind, own, columns, targets, scale * weight, 0) for scale in (1.0, 7.0))
    np.testing.assert_allclose(one.coefficients, other.coefficients, rtol=1e-3, atol=1e-4)
    even = fuse(kind, own, columns, targets, np.ones(COUNT), 0)
    assert np.abs(one.coefficients - even.coefficients).max() > 1e-3


def test_labels_that_are_not_known_do_not_count():
    own, columns, targets = made("multilabel", told=True)
    missing = targets.copy()
    missing[: COUNT // 2, 1] = np.nan
    found = fuse("multilabel", own, columns, missing, np.ones(COUNT), 0)
    assert np.isfinite(found.coefficients).all()
    swapped = missing.copy()
    assert np.array_equal(found.coefficients, fuse("multilabel", own, columns, swapped, np.ones(COUNT), 0).coefficients)
    assert np.abs(found.coefficients[:, 1]).max() > 0.1
