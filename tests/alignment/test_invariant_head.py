"""Heads that are trained to hold in both domains, on features that stay as they are."""

from __future__ import annotations

import doctest

import numpy as np
import pytest
import torch
from scipy import sparse
from sklearn.base import clone
from sklearn.utils.estimator_checks import parametrize_with_checks

from graft.alignment import CDAN, MCC, MCD, MDD, InvariantHead, invariant_head
from graft.errors import DataError, RequestError

FITTED = ("bottleneck_", "bottleneck_intercept_", "coef_", "intercept_", "temperature_")
NO_LOSS = MCC(strength=0.0)


def domains(rows=90, seed=0):
    """Three kinds by two measurements of six; the third one tells them apart in the source alone."""
    draws = np.random.default_rng(seed)
    codes = np.arange(rows) % 3
    places = np.zeros((3, 6))
    places[1, 0] = places[2, 1] = 4
    source, target = (draws.normal(size=(rows, 6)) + places[codes] for _ in range(2))
    source[:, 2] += 4 * (codes - 1)
    return source, np.array(["ash", "elm", "oak"])[codes], target * [1, 2, 3, 1, 2, 3] + 4


def head(loss=None, *, n_steps=60, random_state=0, **options):
    return InvariantHead(loss, n_steps=n_steps, random_state=random_state, **options)


def same(one, other):
    return all(np.array_equal(getattr(one, name), getattr(other, name)) for name in FITTED)


@pytest.mark.filterwarnings("ignore")
@parametrize_with_checks([InvariantHead(n_steps=40, learning_rate=0.01)])
def test_scikit_learn_contract(estimator, check):
    check(estimator)


def test_example_in_the_documentation():
    assert doctest.testmod(invariant_head).failed == 0


def test_what_is_learnt_follows_from_the_seed_alone():
    source, y, target = domains()
    state, threads = torch.get_rng_state(), torch.get_num_threads()
    fitted = [head(CDAN(hidden=(8,)), random_state=seed).fit(source, y, target=target) for seed in (3, 3, 4)]
    assert torch.equal(torch.get_rng_state(), state)
    assert torch.get_num_threads() == threads
    assert same(fitted[0], fitted[1])
    assert not same(fitted[0], fitted[2])


def test_a_loss_of_no_strength_sees_nothing_of_the_target():
    source, y, target = domains()
    one = head(NO_LOSS).fit(source, y, target=target)
    assert same(one, head(NO_LOSS).fit(source, y, target=target[::-1] ** 3))
    assert not same(one, head(MCC()).fit(source, y, target=target))


def test_units_of_either_domain_do_not_matter():
    source, y, target = domains()
    plain = head().fit(source, y, target=target).predict_proba(target)
    other = head().fit(source * 5 - 1, y, target=target * 0.1 + 9).predict_proba(target * 0.1 + 9)
    np.testing.assert_allclose(plain, other, atol=0.02)


def turned(seed, rows=240):
    """Three clusters about the origin; in the target they are turned, so that lines between them cut through some."""
    draws, codes = np.random.default_rng(seed), np.arange(rows) % 3
    angles, turn = 2 * np.pi * np.arange(3) / 3, np.deg2rad(50)
    places = 2 * np.stack([np.cos(angles), np.sin(angles)], axis=1)
    source, target = (places[codes] + 0.35 * draws.normal(size=(rows, 2)) for _ in range(2))
    return source, codes, target @ [[np.cos(turn), np.sin(turn)], [-np.sin(turn), np.cos(turn)]]


@pytest.mark.parametrize("loss", [MCC(), CDAN(hidden=(32,)), MDD(hidden=32)], ids=lambda one: str(one)[:4])
def test_classes_follow_the_clusters_of_the_target(loss):
    options = {"width": 64, "n_steps": 150, "learning_rate": 3e-3}
    gained = []
    for seed in range(2):
        source, y, target = turned(seed)
        fitted = [head(of, random_state=seed, **options).fit(source, y, target=target) for of in (NO_LOSS, loss)]
        plain, invariant = (float((one.predict(target) == y).mean()) for one in fitted)
        gained.append(invariant - plain)
    assert np.mean(gained) > 0.02


def test_only_ratios_of_weights_matter_and_none_is_no_example():
    source, y, target = domains()
    weight = np.random.default_rng(0).uniform(0.5, 2, size=len(y))
    weight[::4] = 0
    one = head().fit(source, y, target=target, source_weight=weight)
    assert same(one, head().fit(source, y, target=target, source_weight=8 * weight))
    used = weight > 0
    assert same(one, head().fit(source[used], y[used], target=target, source_weight=weight[used]))
    even = head().fit(source, y, target=target)
    assert same(even, head().fit(source, y, target=target, source_weight=np.full(len(y), 4.0)))
    assert not same(even, one)


def test_where_labels_contradict_each_other_the_weightier_half_is_believed():
    source, y, _ = domains()
    wrong = np.roll(np.unique(y), 1)[np.searchsorted(np.unique(y), y)]
    X, labels = np.concatenate([source, source]), np.concatenate([y, wrong])
    weight = np.repeat([1.0, 0.2], len(y))
    believed = head(NO_LOSS).fit(X, labels, target=source, source_weight=weight).predict(source)
    assert (believed == y).mean() > 0.8
    believed = head(NO_LOSS).fit(X, labels, target=source, source_weight=weight[::-1]).predict(source)
    assert (believed == wrong).mean() > 0.8


def test_labelled_target_examples_count_what_they_are_given():
    """Two kinds have changed places in the target."""
    source, y, _ = domains(120)
    swapped = np.where(y == "ash", "elm", np.where(y == "elm", "ash", y))
    some = np.full(len(y), None, dtype=object)
    some[:30] = swapped[:30]
    none = head(NO_LOSS).fit(source, y, target=source)
    assert same(none, head(NO_LOSS).fit(source, y, target=source, target_labels=some, target_weight=0.0))
    light, heavy = (
        head(NO_LOSS).fit(source, y, target=source, target_labels=some, target_weight=weight).predict(source)[30:]
        for weight in (0.1, 40.0)
    )
    assert (light == swapped[30:]).mean() < 0.5 < 0.8 < (heavy == swapped[30:]).mean()


def test_labels_that_say_nothing_make_it_unsure():
    draws = np.random.default_rng(0)
    X, fresh, labels, truth = *draws.normal(size=(2, 150, 4)), *draws.integers(0, 2, size=(2, 150))
    told = head(n_steps=200).fit(X, labels, target=fresh).predict_proba(fresh)
    assert -np.log(told[np.arange(150), truth]).mean() < np.log(2) + 0.1


def test_a_class_with_too_few_examples_to_hold_out_is_learnt():
    source, y, target = domains(12)
    model = head().fit(source, y, target=target)
    assert model.temperature_ == 1
    assert set(model.classes_) == {"ash", "elm", "oak"}


def test_batches_of_large_domains_are_drawn_in_turns():
    source, y, target = domains(90)
    options = {"n_steps": 150, "learning_rate": 5e-3}
    small = head(MCD(hidden=16), batch_size=16, **options).fit(source, y, target=target)
    whole = head(MCD(hidden=16), batch_size=90, **options).fit(source, y, target=target)
    assert (small.predict(target) == whole.predict(target)).mean() > 0.7


def test_sparse_features_are_taken():
    source, y, target = domains()
    dense = head().fit(source, y, target=target)
    assert same(dense, head().fit(sparse.csr_matrix(source), y, target=sparse.csr_matrix(target)))
    np.testing.assert_allclose(dense.predict_proba(target), dense.predict_proba(sparse.csr_matrix(target)))


def test_a_clone_keeps_the_loss():
    assert clone(InvariantHead(MDD(margin=2.0))).loss == MDD(margin=2.0)


@pytest.mark.parametrize(
    ("options", "given", "kind", "named"),
    [
        ({"loss": "mcc"}, {}, RequestError, "loss"),
        ({"width": 0}, {}, RequestError, "width"),
        ({"n_steps": 0}, {}, RequestError, "n_steps"),
        ({"batch_size": 0}, {}, RequestError, "batch_size"),
        ({"learning_rate": 0.0}, {}, RequestError, "learning_rate"),
        ({"weight_decay": -1.0}, {}, RequestError, "weight_decay"),
        ({}, {"target_weight": -1.0}, RequestError, "target_weight"),
        ({}, {"source_weight": np.ones(3)}, DataError, "source_weight"),
        ({}, {"source_weight": np.full(90, -1.0)}, DataError, "source_weight"),
        ({}, {"source_weight": np.zeros(90)}, DataError, "source_weight"),
        ({}, {"source_weight": np.full(90, np.nan)}, DataError, "source_weight"),
    ],
)
def test_what_cannot_be_used_is_named(options, given, kind, named):
    source, y, target = domains()
    with pytest.raises(kind, match=named):
        InvariantHead(**options).fit(source, y, target=target, **given)


def test_one_class_is_refused():
    source, y, target = domains()
    with pytest.raises(DataError, match="2 or more classes"):
        head().fit(source, np.full(len(y), "ash"), target=target)
