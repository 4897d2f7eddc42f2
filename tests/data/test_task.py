"""Tasks from labels: kind, class order, classes of later data sets, what can be trained on."""

import dataclasses
import itertools

import numpy as np
import pytest

from graft.data import Task, check_classes, class_order, infer_task, infer_tasks, require_trainable
from graft.errors import DataError, RequestError

GAP = float("nan")


@pytest.mark.parametrize(
    ("labels", "kind", "classes"),
    [
        (["b", "a", "b"], "classification", ("a", "b")),
        (np.array(["b", "a"]), "classification", ("a", "b")),
        (["10", "9"], "classification", ("10", "9")),
        ([10, 9, 9], "classification", (9, 10)),
        ([1.0, 3.0, GAP], "classification", (1, 3)),
        ([True, False], "classification", (False, True)),
        ([0.5, 1.0], "regression", ()),
        ([0.5, None], "regression", ()),
        (np.array([0.5, 2], dtype=np.float32), "regression", ()),
        ([["a"], ["b"]], "classification", ("a", "b")),
        ([[0, 1], [1, None]], "multilabel", ("0", "1")),
        (np.array([[0, 1, 1.0], [GAP, 0, 1]]), "multilabel", ("0", "1", "2")),
        (np.array([[True, False]]), "multilabel", ("0", "1")),
        (["nan", "None"], "classification", ("None", "nan")),
        (["a", "", None, GAP], "classification", ("a",)),
        (np.arange(1950, 2020), "regression", ()),
        ([float(year) for year in range(1950, 2020)], "regression", ()),
        (np.arange(1950, 1970), "classification", tuple(range(1950, 1970))),
        (np.arange(-30, 30), "regression", ()),
        (np.arange(77), "classification", tuple(range(77))),
        (np.arange(1, 78), "classification", tuple(range(1, 78))),
        ([*range(1, 17), *range(18, 100)], "classification", (*range(1, 17), *range(18, 100))),
        (np.arange(0, 200, 2), "regression", ()),
        ([str(year) for year in range(1950, 2020)], "classification", tuple(str(year) for year in range(1950, 2020))),
    ],
)
def test_the_labels_state_the_task(labels, kind, classes):
    task = infer_task(labels, name="t")
    assert task == Task("t", kind, classes)
    assert [type(value) for value in task.classes] == [type(value) for value in classes]


@pytest.mark.parametrize(
    "bad", [[], [None, GAP, ""], [1, "a"], [True, "a"], [[0, 2], [1, 1]], [["a", "b"], ["b", "c"]]]
)
def test_labels_that_state_no_task_are_refused(bad):
    with pytest.raises(DataError) as caught:
        infer_task(bad, name="species")
    assert caught.value.remedy


def test_class_order_does_not_depend_on_the_order_or_the_division():
    rng = np.random.default_rng(0)
    for labels in (["c", "a", "b", "aa", "B", "é"], [10, -2, 3, 100], [0.0, 2.0, 1.0]):
        expected = tuple(sorted(labels))
        for _ in range(20):
            shuffled = rng.permutation(np.array(labels, dtype=object))
            cut = int(rng.integers(0, len(labels) + 1))
            assert class_order(shuffled[:cut], None, shuffled[cut:], [labels[0]]) == expected
    assert class_order() == ()
    assert class_order([None]) == ()


def test_mixed_types_are_named():
    for values in itertools.permutations([1, "a"]):
        with pytest.raises(DataError, match=r"the number 1 and the string 'a'"):
            class_order(list(values))
    with pytest.raises(DataError, match="boolean"):
        class_order([True], ["yes"])


def test_a_later_data_set_may_not_add_a_class_and_may_lack_one_unless_complete():
    known = ("cat", "dog")
    check_classes(known, ["dog", None])
    check_classes(known, ["dog", "cat"], complete=True)
    with pytest.raises(DataError, match=r"unknown class 'dgo'.*Did you mean 'dog'"):
        check_classes(known, ["dgo", "cat"])
    with pytest.raises(DataError, match="no example of 'cat'"):
        check_classes(known, ["dog"], complete=True)
    with pytest.raises(DataError, match="another type"):
        check_classes((0, 1), ["0", "1"])
    check_classes((0, 1), [0.0, 1.0, GAP])
    with pytest.raises(DataError, match="'c13' and 34 more"):
        check_classes(known, [f"c{number}" for number in range(40)])


def test_codes_are_positions_and_minus_one():
    task = Task("t", "classification", (1, 3))
    assert task.codes([3.0, GAP, 1.0]).tolist() == [1, -1, 0]
    assert task.codes(np.array([1, 3])).tolist() == [0, 1]
    with pytest.raises(DataError, match="unknown class 2"):
        task.codes([2])
    with pytest.raises(DataError):
        Task("t", "regression").codes([1.0])


def test_a_task_is_a_frozen_value():
    task = Task("t", "classification", ("a",))
    assert hash(task) == hash(Task("t", "classification", ("a",)))
    with pytest.raises(dataclasses.FrozenInstanceError):
        task.name = "u"
    with pytest.raises(RequestError, match="Did you mean 'regression'"):
        Task("t", "regresion")
    with pytest.raises(DataError, match="twice"):
        Task("t", "classification", ("a", "a"))


def test_a_table_of_tasks_is_read_column_by_column():
    table = np.array([["oak", 0.5, 1], [None, 0.25, 0], ["ash", None, None]], dtype=object)
    species, damage, wet = infer_tasks(table, columns=("species", "damage", "wet"))
    assert species == Task("species", "classification", ("ash", "oak"))
    assert damage == Task("damage", "regression")
    assert wet == Task("wet", "classification", (0, 1))
    with pytest.raises(DataError, match="'empty'"):
        infer_tasks(np.array([["a", None]], dtype=object), columns=("full", "empty"))
    with pytest.raises(DataError, match="names"):
        infer_tasks(table, columns=("species",))


@pytest.mark.parametrize(
    ("labels", "kind", "fragment"),
    [
        (["a", "a", None], "classification", "at least 2 classes"),
        ([None, ""], "classification", "labelled examples"),
        ([1.0, 1.0], "regression", "2 different"),
        ([1.0, np.inf], "regression", "infinite"),
        ([1.0, "x"], "regression", "numbers"),
        ([[0, 1], [0, 1]], "multilabel", "both zeros and ones"),
    ],
)
def test_what_cannot_be_trained_on(labels, kind, fragment):
    with pytest.raises(DataError, match=fragment):
        require_trainable(labels, Task("t", kind))


@pytest.mark.parametrize(
    ("labels", "kind"),
    [(["a", "b", None], "classification"), ([0.5, GAP, 1.0], "regression"), ([[0, 1], [GAP, 0]], "multilabel")],
)
def test_what_can_be_trained_on(labels, kind):
    require_trainable(labels, Task("t", kind))
