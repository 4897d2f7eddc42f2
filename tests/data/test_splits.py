"""Splits: partitions, proportions, groups, seeds."""

import itertools
import math

import numpy as np
import pytest

from graft import FeatureExtraction
from graft.data import Domain, few_shot, split
from graft.errors import DataError, RequestError

FRACTIONS = [None, {"train": 0.5, "test": 0.5}, {"train": 0.6, "val": 0.15, "test": 0.25}, {"a": 0.1, "train": 0.9}]


def domain(seed, n=200, classes=7, groups=None):
    """Examples numbered in their inputs, with imbalanced labels."""
    rng = np.random.default_rng(seed)
    labels = np.array([f"c{int(code)}" for code in np.minimum(rng.geometric(0.35, n), classes)], dtype=object)
    grouping = None if groups is None else rng.integers(0, groups, n)
    return Domain(np.arange(n)[:, None], labels, "d", groups=grouping)


def variants(seed):
    """The same law over every kind of label and grouping."""
    rng = np.random.default_rng(seed)
    n = 150
    numbers = np.arange(n)[:, None]
    gappy = domain(seed, n).labels.copy()
    gappy[rng.random(n) < 0.3] = None
    table = rng.integers(0, 2, (n, 4)).astype(float)
    table[rng.random((n, 4)) < 0.2] = np.nan
    tasks = np.array([["x", None], [None, 0.5]], dtype=object)[rng.integers(0, 2, n)]
    yield domain(seed, n)
    yield domain(seed, n, groups=23)
    yield Domain(numbers)
    yield Domain(numbers, gappy)
    yield Domain(numbers, rng.random(n))
    yield Domain(numbers, table)
    yield Domain(numbers, tasks, tasks=("kind", "degree"))
    yield Domain(
        numbers, gappy, groups=np.array([None if row % 5 == 0 else f"g{row % 17}" for row in range(n)], dtype=object)
    )


@pytest.mark.parametrize("fractions", FRACTIONS)
@pytest.mark.parametrize("stratify", [True, False])
@pytest.mark.parametrize("seed", range(3))
def test_the_parts_partition_the_domain_in_its_order(fractions, stratify, seed):
    for whole in variants(seed):
        parts = split(whole, fractions=fractions, random_state=seed, stratify=stratify)
        assert list(parts) == list(fractions or {"train": 0.8, "test": 0.2})
        rows = [part.inputs[:, 0] for part in parts.values()]
        assert sorted(np.concatenate(rows).tolist()) == list(range(whole.size))
        for part, held in zip(parts.values(), rows, strict=True):
            assert part.size > 0
            assert (np.diff(held) > 0).all()
            if whole.labels is not None:
                assert part.labels.tolist() == whole.labels[held].tolist() or whole.labels.dtype.kind == "f"
            assert part.tasks == whole.tasks


@pytest.mark.parametrize("seed", range(10))
@pytest.mark.parametrize("fractions", FRACTIONS)
def test_a_group_never_crosses(seed, fractions):
    for count in (3, 10, 60):
        whole = domain(seed, groups=count)
        parts = split(whole, fractions=fractions, random_state=seed)
        held = [set(part.groups.tolist()) for part in parts.values()]
        assert sum(map(len, held)) == len(set.union(*held))


@pytest.mark.parametrize("seed", range(10))
def test_two_parts_have_the_floor_or_the_ceiling_of_each_class_and_the_nearest_total(seed):
    whole = domain(seed, n=997, classes=30)
    for share in (0.1, 0.25, 0.5):
        parts = split(whole, fractions={"train": 1 - share, "test": share}, random_state=seed)
        alone = (np.unique(whole.labels.astype(str), return_counts=True)[1] == 1).sum()  # these go to train
        assert -alone - 0.5 - 1e-9 <= parts["test"].size - 997 * share <= 0.5 + 1e-9
        for value in set(whole.labels):
            count, tested = (whole.labels == value).sum(), (parts["test"].labels == value).sum()
            assert math.floor(count * share - 1e-9) <= tested <= math.ceil(count * share + 1e-9)


@pytest.mark.parametrize("seed", range(10))
def test_three_parts_are_near_their_shares(seed):
    whole = domain(seed, n=600)
    fractions = FRACTIONS[2]
    parts = split(whole, fractions=fractions, random_state=seed)
    for name, part in parts.items():
        assert abs(part.size - 600 * fractions[name]) <= 1.5
        for value in set(whole.labels):
            assert abs((part.labels == value).sum() - (whole.labels == value).sum() * fractions[name]) < 2.5


@pytest.mark.parametrize("seed", range(10))
def test_train_has_every_class(seed):
    rng = np.random.default_rng(seed)
    labels = np.array([f"c{code}" for code in range(20) for _ in range(int(rng.integers(1, 4)))], dtype=object)
    whole = Domain(
        np.arange(len(labels))[:, None], labels, groups=rng.integers(0, 15, len(labels)) if seed % 2 else None
    )
    parts = split(whole, fractions={"test": 0.7, "train": 0.3}, random_state=seed)
    assert set(parts["train"].labels) == set(labels)


@pytest.mark.parametrize("seed", range(5))
def test_grouped_parts_are_near_their_shares_where_the_groups_are_small(seed):
    whole = domain(seed, n=1000, groups=200)
    parts = split(whole, fractions={"train": 0.7, "test": 0.3}, random_state=seed)
    assert abs(parts["test"].size - 300) <= 15
    for value in set(whole.labels):
        count = (whole.labels == value).sum()
        assert abs((parts["test"].labels == value).sum() - 0.3 * count) <= max(6, 0.1 * count)


def test_a_regression_is_stratified_by_its_quantiles():
    values = np.random.default_rng(0).lognormal(size=500)
    whole = Domain(np.arange(500)[:, None], values)
    for seed in range(10):
        tested = split(whole, random_state=seed)["test"].labels
        edges = np.quantile(values, np.linspace(0, 1, 11))
        counts = np.histogram(tested, edges)[0]
        assert counts.min() >= 9
        assert counts.max() <= 11


def test_a_rare_label_of_a_multilabel_table_reaches_every_part():
    rng = np.random.default_rng(1)
    table = (rng.random((400, 5)) < [0.5, 0.5, 0.3, 0.1, 0.02]).astype(int)
    table[:5, 4] = 1
    count = table[:, 4].sum()
    for seed in range(10):
        parts = split(Domain(np.arange(400)[:, None], table), random_state=seed)
        assert abs(parts["test"].labels[:, 4].sum() - 0.2 * count) < 1


def test_the_seed_decides():
    for whole in variants(4):
        first, again, other = (split(whole, random_state=seed)["test"].inputs[:, 0].tolist() for seed in (1, 1, 2))
        assert first == again
        assert first != other
    generator = np.random.default_rng(1)
    assert (
        split(domain(0), random_state=generator)["test"].inputs.tolist()
        == split(domain(0), random_state=1)["test"].inputs.tolist()
    )


def test_every_example_is_as_likely_to_be_tested():
    whole = Domain(np.arange(20)[:, None], np.repeat(["a", "b"], [13, 7]))
    tested = np.zeros(20)
    for seed in range(2000):
        tested[split(whole, random_state=seed)["test"].inputs[:, 0]] += 1
    # 2000 draws of probability 0.2: a standard deviation of 18
    assert np.abs(tested - 400).max() < 5 * 18


@pytest.mark.parametrize(
    "fractions", [{}, {"train": 0.5}, {"train": 1.2, "test": -0.2}, {"train": 1.0, "test": 0.0}, {"train": "x"}]
)
def test_fractions_that_do_not_divide_are_refused(fractions):
    with pytest.raises(RequestError):
        split(domain(0), fractions=fractions)


def test_too_few_examples_or_groups_are_refused():
    with pytest.raises(DataError, match="at least 2 examples"):
        split(Domain(np.zeros((1, 1))))
    with pytest.raises(DataError, match="at least 3 groups"):
        split(Domain(np.zeros((9, 1)), groups=np.repeat([1, 2], [4, 5])), fractions=FRACTIONS[2])
    parts = split(Domain(np.zeros((2, 1)), np.array(["a", "b"])))
    assert [part.size for part in parts.values()] == [1, 1]


def test_few_shot_draws_k_of_each_class_and_leaves_the_rest():
    whole = domain(3, n=300, classes=4)
    for k in (1, 5):
        few, rest = few_shot(whole, k, random_state=8)
        assert sorted(np.concatenate([few.inputs, rest.inputs])[:, 0].tolist()) == list(range(300))
        assert np.unique(few.labels, return_counts=True)[1].tolist() == [k] * 4
        assert few_shot(whole, k, random_state=8)[0].inputs.tolist() == few.inputs.tolist()


def test_a_larger_draw_contains_the_smaller():
    whole = domain(3, n=300, classes=4)
    draws = [set(few_shot(whole, k, random_state=1)[0].inputs[:, 0].tolist()) for k in range(1, 8)]
    assert all(small < large for small, large in itertools.pairwise(draws))


def test_few_shot_passes_over_what_has_no_label_and_keeps_groups_whole():
    labels = np.array(["a", None, "b", "a", "b", None, "a"], dtype=object)
    groups = np.array([0, 0, 1, 2, 3, 4, 0])
    few, rest = few_shot(Domain(np.arange(7)[:, None], labels, groups=groups), 1, random_state=0)
    assert sorted(few.labels.tolist()) == ["a", "b"]
    assert not set(few.groups.tolist()) & set(rest.groups.tolist())
    assert None in rest.labels.tolist()


def test_few_shot_names_the_class_that_is_too_small():
    with pytest.raises(DataError, match="1 of 'b'"):
        few_shot(Domain(np.zeros((4, 1)), np.array(list("aaab"))), 2)
    with pytest.raises(DataError, match="regression"):
        few_shot(Domain(np.zeros((2, 1)), np.array([0.5, 0.25])), 1)
    with pytest.raises(DataError, match="label"):
        few_shot(Domain(np.zeros((2, 1))), 1)
    with pytest.raises(RequestError):
        few_shot(domain(0), 0)


@pytest.mark.parametrize(
    "groups", [["a", None, "b", None, "a"], ["a", " ", "b", "", "a"], [1.0, np.nan, 2.0, np.nan, 1.0]]
)
def test_an_example_without_a_group_is_one_of_its_own_wherever_groups_are_looked_at(groups):
    whole = Domain(np.arange(5)[:, None], groups=np.array(groups, float if groups[0] == 1.0 else object))
    _, codes = np.unique(whole.groups, return_inverse=True)
    assert len(set(codes)) == 4
    assert codes[0] == codes[4]
    again = whole.take([3, 1, 0, 4])
    assert len(set(again.groups.tolist())) == 3
    vectors = np.random.default_rng(0).normal(size=(40, 2))
    cells = np.array(groups * 8, object)
    assert len(FeatureExtraction(None).fit(vectors, np.arange(40) % 2, groups=cells).classes_) == 2
