"""Fitted heads in the feature store: what is read is what was fitted, and whatever decides a head decides its key."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from scipy import sparse
from sklearn.base import BaseEstimator
from sklearn.linear_model import LogisticRegression

from graft import DomainAdaptation, FeatureExtraction, FineTuning, MultiTask
from graft._runtime import threads_per_operation
from graft.backbones import FeatureStore, load_backbone
from graft.backbones.store import features_only
from graft.backbones.weights import state_hash
from graft.data import Domain
from graft.heads import HEADS, AutoHead, LogisticPath, make_head
from graft.techniques import kept_heads
from graft.techniques.kept_heads import KeptHeads, head_key

NAMES = [(task, name) for task, names in HEADS.items() for name in names]
TARGETS = ("classification", "classification of numbers", "multilabel", "regression", "regressions")


@pytest.fixture(autouse=True)
def _keep_everything(monkeypatch):
    """Also heads that are fitted at once; and small products on one thread, which would wait for busy cores."""
    monkeypatch.setattr(kept_heads, "_WORTH_SECONDS", 0.0)
    with threads_per_operation(1):
        yield


@pytest.fixture
def kept(tmp_path) -> KeptHeads:
    return KeptHeads(FeatureStore(tmp_path), "net")


@pytest.fixture
def no_fits(monkeypatch):
    """From here on no head can be fitted."""

    def refuse(self: Any, *_: Any, **__: Any) -> None:
        raise AssertionError(f"{type(self).__name__} was fitted")

    def start() -> None:
        for task, name in NAMES:
            monkeypatch.setattr(type(make_head(name, task)), "fit", refuse)

    return start


def examples(task: str, *, rows: int = 40, columns: int = 6) -> tuple[np.ndarray, np.ndarray]:
    draws = np.random.default_rng(0)
    X = draws.normal(size=(rows, columns))
    number = X[:, 0] + 0.5 * draws.normal(size=rows)
    code = (X[:, 1] > 0.3).astype(int) + (X[:, 2] > 0)
    table = np.stack([number > 0, code > 0], axis=1).astype(float)
    table[::7, 0] = np.nan
    return X, {
        "classification": np.array(["ash", "birch", "cedar"])[code],
        "classification of numbers": code * 10,
        "multilabel": table,
        "regression": number,
        "regressions": np.stack([number, X[:, 3]], axis=1),
    }[task]


def parts(value: Any, name: str = "") -> dict[str, Any]:
    """Every array and plain value of a fitted head, by its path."""
    if isinstance(value, BaseEstimator):
        value = vars(value) | {"type": type(value).__name__}
    if isinstance(value, dict):
        return {key: one for inner in value for key, one in parts(value[inner], f"{name}.{inner}").items()}
    if isinstance(value, list | tuple):
        return {key: one for at, inner in enumerate(value) for key, one in parts(inner, f"{name}.{at}").items()}
    return {name: value}


def assert_same(one: Any, other: Any) -> None:
    left, right = parts(one), parts(other)
    assert left.keys() == right.keys()
    for name, value in left.items():
        if isinstance(value, np.ndarray) and value.dtype != object:
            assert value.dtype == right[name].dtype, name
            assert value.shape == right[name].shape, name
            assert value.tobytes() == right[name].tobytes(), name
        else:
            np.testing.assert_array_equal(value, right[name], err_msg=name)


@pytest.mark.parametrize(("task", "name"), NAMES)
@pytest.mark.parametrize("target", TARGETS)
def test_a_head_that_is_read_is_the_one_that_was_fitted(task, name, target, kept, no_fits):
    if not target.startswith(task):
        pytest.skip("another task")
    X, y = examples(target)
    weight, groups = np.linspace(0.5, 2, len(X)), np.arange(len(X)) // 2
    weight[3] = 0
    fitted = kept.fit(make_head(name, task), X, y, sample_weight=weight, groups=groups)
    no_fits()
    read = kept.fit(make_head(name, task), X, y, sample_weight=weight, groups=groups)
    assert read is not fitted
    assert_same(fitted, read)
    new = np.random.default_rng(1).normal(size=(9, X.shape[1]))
    for method in ("predict", "predict_proba", "decision_function", "ood_score"):
        if hasattr(fitted, method):
            np.testing.assert_array_equal(getattr(read, method)(new), getattr(fitted, method)(new))


@pytest.mark.parametrize(("task", "name"), NAMES)
def test_fitted_arrays_stand_in_the_order_in_which_files_keep_them(task, name):
    # Otherwise products with arrays that were read would differ in their last digits.
    X, y = examples("regressions" if task == "regression" else task)
    for path, value in parts(make_head(name, task).fit(X, y)).items():
        assert not isinstance(value, np.ndarray) or value.flags.c_contiguous, path


@pytest.mark.parametrize(("task", "name"), NAMES)
def test_heads_without_a_seed_are_deterministic(task, name):
    X, y = examples(task)
    assert_same(make_head(name, task).fit(X, y), make_head(name, task).fit(X, y))


def test_sparse_features_are_kept_too(kept, no_fits):
    X, y = examples("classification")
    table = sparse.csr_matrix(np.where(X > 0, X, 0))
    fitted = kept.fit(LogisticPath(), table, y)
    no_fits()
    assert_same(fitted, kept.fit(LogisticPath(), table, y))


def test_whatever_decides_a_head_decides_its_key():
    X, y = examples("classification")
    weight, groups = np.ones(len(X)), np.arange(len(X))
    moved = X.copy()
    moved[0, 0] = np.nextafter(moved[0, 0], 9)
    heavier = weight.copy()
    heavier[0] = 2
    keys = [
        head_key(*changed)
        for changed in (
            (AutoHead(), X, y, weight, groups),
            (LogisticPath(), X, y, weight, groups),
            (AutoHead(random_state=1), X, y, weight, groups),
            (AutoHead(class_weight="balanced"), X, y, weight, groups),
            (AutoHead(class_weight={"ash": 2, "birch": 1, "cedar": 1}), X, y, weight, groups),
            (AutoHead(calibrate=False), X, y, weight, groups),
            (AutoHead(scaling="columns"), X, y, weight, groups),
            (LogisticPath(Cs=(1, 2)), X, y, weight, groups),
            (LogisticPath(Cs=np.array([1.0, 2.0])), X, y, weight, groups),
            (LogisticPath(Cs=np.array([1.0, 3.0])), X, y, weight, groups),
            (AutoHead(), moved, y, weight, groups),
            (AutoHead(), X[::-1], y, weight, groups),
            (AutoHead(), X.astype(np.float32), y, weight, groups),
            (AutoHead(), sparse.csr_matrix(X), y, weight, groups),
            (AutoHead(), X, y[::-1], weight, groups),
            (AutoHead(), X, y.astype(object), weight, groups),
            (AutoHead(), X, y, heavier, groups),
            (AutoHead(), X, y, None, groups),
            (AutoHead(), X, y, weight, groups // 2),
            (AutoHead(), X, y, weight, None),
        )
    ]
    assert None not in keys
    assert len(set(keys)) == len(keys)
    assert head_key(AutoHead(), X.copy(), y.copy(), weight.copy(), groups.copy()) == keys[0]


def test_labels_that_compare_equal_and_are_not_the_same_have_other_keys():
    X = np.eye(3)
    labels = [np.array(column, dtype=object) for column in ([0, 1, 1], [False, True, True], ["0", "1", "1"])]
    assert len({head_key(AutoHead(), X, column, None, None) for column in labels}) == 3


def test_other_libraries_and_other_code_have_other_keys(monkeypatch):
    X, y = examples("classification")
    before = head_key(AutoHead(), X, y, None, None)
    for name in ("graft-learn", "numpy", "scipy", "scikit-learn", "torch", "code"):
        changed = [f"{one} changed" if one.startswith(name) else one for one in kept_heads._software()]
        if name == "code":
            changed[-1] = "0" * 64
        assert changed != kept_heads._software()
        with monkeypatch.context() as patch:
            patch.setattr(kept_heads, "_software", lambda changed=changed: changed)
            assert head_key(AutoHead(), X, y, None, None) != before


@pytest.mark.parametrize(
    "head", [LogisticRegression(), AutoHead(random_state=np.random.RandomState(0))], ids=["foreign", "drawing"]
)
def test_heads_of_others_and_those_that_draw_anew_are_not_kept(head, kept):
    X, y = examples("classification")
    assert head_key(head, X, y, None, None) is None
    if isinstance(head, AutoHead):
        kept.fit(head, X, y)
        assert not kept.store.entries()


def test_heads_that_take_no_time_are_not_kept(kept, monkeypatch):
    monkeypatch.setattr(kept_heads, "_WORTH_SECONDS", 1e9)
    X, y = examples("classification")
    kept.fit(AutoHead(), X, y)
    assert not kept.store.entries()


def test_a_store_of_features_alone_keeps_no_heads_and_reads_none(tmp_path):
    X, y = examples("classification")
    alone = features_only(tmp_path)
    KeptHeads(alone, "net").fit(LogisticPath(), X, y)
    assert not alone.entries()
    kept = KeptHeads(FeatureStore(tmp_path), "net").fit(LogisticPath(), X, y)
    head = LogisticPath()
    assert KeptHeads(alone, "net").fit(head, X, y) is head
    assert_same(kept, head)
    assert features_only(False) is False


@pytest.mark.parametrize("damage", [lambda content: content[:100], lambda content: content[:-9] + b"\0" * 9, bytes])
def test_a_damaged_file_is_fitted_again_and_replaced(damage, kept, no_fits):
    X, y = examples("classification")
    fitted = kept.fit(LogisticPath(), X, y)
    (path,) = kept.store.root.glob("v1/heads/*")
    whole = path.read_bytes()
    path.write_bytes(damage(whole))
    assert_same(fitted, kept.fit(LogisticPath(), X, y))
    assert len(path.read_bytes()) == len(whole)
    no_fits()
    assert_same(fitted, kept.fit(LogisticPath(), X, y))


def test_the_store_lists_bounds_and_clears_heads(tmp_path):
    store = FeatureStore(tmp_path)
    X, y = examples("classification")
    for name, network in (("logistic", "one"), ("discriminant", "one"), ("prototype", "other")):
        KeptHeads(store, network).fit(make_head(name), X, y)
    found = {entry.network: entry for entry in store.entries()}
    assert {(name, entry.kind, entry.rows) for name, entry in found.items()} == {
        ("one", "heads", 2),
        ("other", "heads", 1),
    }
    assert store.size == sum(entry.bytes for entry in found.values()) > 0
    assert store.clear(network="one") == found["one"].bytes
    assert [entry.network for entry in store.entries()] == ["other"]
    bounded = FeatureStore(tmp_path, max_bytes=found["other"].bytes + 10)
    KeptHeads(bounded, "new").fit(make_head("prototype"), X[:20], y[:20])
    assert [entry.network for entry in bounded.entries()] == ["new"]  # the least recently used went
    assert bounded.clear() > 0
    assert bounded.size == 0


def test_a_store_that_cannot_be_written_warns_and_the_head_is_fitted(tmp_path):
    blocked = tmp_path / "a file"
    blocked.write_text("in the way")
    X, y = examples("classification")
    with pytest.warns(UserWarning, match="cannot be kept"):
        fitted = KeptHeads(FeatureStore(blocked), "net").fit(LogisticPath(), X, y)
    assert fitted.score(X, y) > 0.5


def test_two_processes_may_keep_and_read_the_same_heads_at_once(tmp_path):
    program = f"""
import numpy as np
from graft.backbones.store import FeatureStore
from graft.persistence import pack, unpack
for turn in range(400):
    store, number = FeatureStore({str(tmp_path)!r}), turn // 20
    content = store.head(f"{{number:064x}}")
    if content is None:
        store.keep_head(f"{{number:064x}}", pack(np.full(5000, number), {{"network": "net"}}))
    else:
        assert (unpack(content, {{}}) == number).all()
"""
    both = [subprocess.Popen([sys.executable, "-W", "error::UserWarning", "-c", program]) for _ in range(2)]
    assert [one.wait(timeout=600) for one in both] == [0, 0]
    assert [entry.rows for entry in FeatureStore(tmp_path).entries()] == [20]
    assert not list(Path(tmp_path).rglob("*.tmp"))


def test_a_second_fit_of_a_technique_fits_nothing(tmp_path, no_fits, monkeypatch):
    X, y = examples("classification", rows=60)
    target = Domain(X[:30] + 1)
    table = np.stack([y == "ash", y == "birch"], axis=1).astype(int).astype(object)
    options: dict[str, Any] = {"store": tmp_path, "random_state": 0}
    tasks: dict[str, Any] = {"sharing": "features", "compare": False, "folds": 1}
    models = {
        "extraction": lambda: FeatureExtraction(**options).fit(X, y),
        "source only": lambda: DomainAdaptation(method="source-only", **options).fit(X, y, target=target),
        "tasks": lambda: MultiTask(label_names=["ash", "birch"], **tasks, **options).fit(X, table),
    }
    first = {name: fit() for name, fit in models.items()}
    no_fits()
    second = {name: fit() for name, fit in models.items()}
    assert_same(first["extraction"].head_, second["extraction"].head_)
    assert first["extraction"].validation_.to_dict() == second["extraction"].validation_.to_dict()
    np.testing.assert_array_equal(first["source only"].predict_proba(X), second["source only"].predict_proba(X))
    np.testing.assert_array_equal(first["tasks"].predict(X), second["tasks"].predict(X))
    with pytest.raises(AssertionError, match="was fitted"):
        FeatureExtraction(store=False).fit(X, y)


def test_fine_tuning_takes_its_start_from_the_store(tmp_path, no_fits):
    texts = [f"{kind} {number}" for number in range(10) for kind in ("red apple", "green car", "blue sea")]
    labels = ["fruit", "machine", "water"] * 10
    before = state_hash(load_backbone("minilm").module.state_dict())

    def fit() -> FineTuning:
        model = FineTuning("minilm", train=1, epochs=1, batch_size=8, refit=False, store=tmp_path, random_state=0)
        return model.fit(texts, labels)

    one = fit()
    no_fits()
    other = fit()
    assert one.predict(texts).tolist() == other.predict(texts).tolist()
    assert one.training_["served"] == other.training_["served"]
    assert state_hash(load_backbone("minilm").module.state_dict()) == before  # shared with whoever loads it next
