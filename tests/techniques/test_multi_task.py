"""Several tasks at once: every way to share and to balance, uneven labels, the verdict, and what is refused."""

import json
import os
import socket
import subprocess
import sys
import textwrap
from functools import partial

import numpy as np
import pandas as pd
import pytest
import torch
from scipy import sparse
from sklearn.base import clone
from sklearn.exceptions import NotFittedError
from sklearn.model_selection import cross_val_score

import graft
from graft import Domain, MultiTask, load_backbone
from graft.balancing import AGGREGATORS, LOSS_WEIGHTINGS
from graft.data import Task, join_tasks
from graft.errors import DataError, GraftError, RequestError
from graft.techniques.multiple.verdict import MultiTaskVerdict, TaskGain, verdict_of
from graft.training import Checkpoints, Examples

COUNT = 48
# One epoch of two steps, one part held out, no twins: enough for what is not about quality.
QUICK = {"sharing": "hard", "sharing_options": {"hidden": [4]}, "epochs": 1.0, "batch_size": 24, "folds": 1}
QUICK |= {"compare": False, "store": False, "random_state": 0}


@pytest.fixture(scope="module")
def vectors():
    """Feature vectors, and a table with a class, a number and two yes-or-no labels, much of it empty."""
    draws = np.random.default_rng(0)
    X = draws.normal(size=(COUNT, 4)).astype(np.float32)
    table = pd.DataFrame(
        {
            "side": pd.Series(np.where(X[:, 0] > 0, "left", "right"), dtype=object),
            "height": np.round(X[:, 0] + 0.5 * X[:, 1], 3) + 0.01,
            "round": (X[:, 1] > 0).astype(float),
            "red": (X[:, 2] > 0).astype(float),
        }
    )
    table.loc[::5, "side"] = None
    table.loc[::3, "height"] = np.nan
    table.loc[1::4, ["round", "red"]] = np.nan
    return X, table


MIXED = {"side": "classification", "height": "regression", "shape": ["round", "red"]}


def same(one, other):
    """Return whether two models predict the same bits."""
    return [part.keys() for part in one] == [part.keys() for part in other] and all(
        np.array_equal(a[name], b[name]) for a, b in zip(one, other, strict=True) for name in a
    )


def told(model, X):
    """Return everything that a model says of inputs."""
    found = model.predictions(X)
    labels = {name: np.asarray(one.labels) for name, one in found.items()}
    return [labels, model.predict_proba(X)]


def test_tasks_are_inferred_from_the_columns_or_stated(vectors):
    X, table = vectors
    inferred = MultiTask(**QUICK).fit(X, table)
    assert [(task.name, task.kind) for task in inferred.tasks_] == [
        ("side", "classification"),
        ("height", "regression"),
        ("round", "classification"),
        ("red", "classification"),
    ]
    assert inferred.columns_ == ("side", "height", "round", "red")
    assert inferred.classes_["side"] == ("left", "right")
    stated = MultiTask(tasks=[Task("side", "classification", ("right", "left")), "height"], **QUICK).fit(X, table)
    assert stated.classes_ == {"side": ("right", "left"), "height": ()}
    numbers = pd.DataFrame({"stars": np.arange(COUNT) % 5, "price": np.arange(COUNT), "why": ["yes", ""] * 24})
    numbers.loc[::4, "why"] = "no"
    model = MultiTask(**QUICK).fit(X, numbers)
    assert [task.kind for task in model.tasks_] == ["classification", "regression", "classification"]
    assert model.classes_["why"] == ("no", "yes")


def test_classes_labels_and_numbers_are_learnt_together(vectors, tmp_path):
    X, table = vectors
    model = MultiTask(tasks=MIXED, **QUICK).fit(X, table)
    predicted = model.predict(X)
    assert predicted.shape == (COUNT, 4)
    assert model.columns_ == ("side", "height", "round", "red")
    assert set(predicted[:, 0]) <= {"left", "right"}
    assert all(isinstance(value, float) for value in predicted[:, 1])
    assert set(predicted[:, 2:].ravel()) <= {0, 1}
    probabilities = model.predict_proba(X)
    assert {name: one.shape for name, one in probabilities.items()} == {"side": (COUNT, 2), "shape": (COUNT, 2)}
    assert np.allclose(probabilities["side"].sum(axis=1), 1)
    found = model.evaluate(X, table)
    assert {name: one.examples for name, one in found.items()} == {"side": 38, "height": 32, "shape": 36}
    each = [found["side"].metrics["accuracy"], found["height"].metrics["r2"], found["shape"].metrics["accuracy"]]
    assert model.score(X, table) == pytest.approx(np.mean([one.value for one in each]))
    loaded = graft.load(model.save(tmp_path / "run"))
    assert same(told(loaded, X), told(model, X))
    assert (loaded.columns_, loaded.groups_) == (model.columns_, model.groups_)
    assert [one.to_dict() for one in loaded.validation_.values()] == [
        one.to_dict() for one in model.validation_.values()
    ]
    assert "| side | classification | 2 |" in (tmp_path / "run" / "README.md").read_text()


def test_labels_written_as_booleans_are_predicted_as_booleans(vectors, tmp_path):
    X, table = vectors
    marks = [[None if np.isnan(cell) else bool(cell) for cell in row] for row in table[["round", "red"]].to_numpy()]
    written = table.astype(object)
    written[["round", "red"]] = np.array(marks, dtype=object)
    model = MultiTask(tasks=MIXED, **QUICK).fit(X, written)
    plain = MultiTask(tasks=MIXED, **QUICK).fit(X, table)
    for one in (model, graft.load(model.save(tmp_path / "run"))):
        found = one.predict(X)[:, 2:]
        assert {type(cell) for cell in found.ravel()} == {bool}
        assert found.astype(float).tolist() == plain.predict(X)[:, 2:].astype(float).tolist()
        assert one.predictions(X)["shape"].labels.dtype == bool
        right = one.evaluate(X, written)["shape"].metrics["accuracy"].value
        assert right == plain.evaluate(X, table)["shape"].metrics["accuracy"].value


def test_a_class_that_no_head_has_seen_has_probability_zero(vectors):
    X, table = vectors
    stated = Task("side", "classification", ("left", "middle", "right"))
    model = MultiTask(tasks=[stated], sharing="stacked", compare=False, store=False).fit(X, table)
    shares = model.predict_proba(X)["side"]
    assert shares.shape == (COUNT, 3)
    np.testing.assert_allclose(shares.sum(axis=1), 1, rtol=1e-6)
    assert not shares[:, 1].any()
    assert model.evaluate(X, table)["side"].metrics["accuracy"].value > 0.7


def test_numbers_alone_are_predicted_as_floats(vectors):
    X, table = vectors
    model = MultiTask(**QUICK).fit(X, table[["height"]].assign(depth=X[:, 2] * 3.3))
    assert model.predict(X).dtype.kind == "f"
    assert model.predict_proba(X) == {}


def test_the_way_in_which_missing_cells_are_written_changes_nothing(vectors):
    X, table = vectors
    frame = table[["side", "height"]]
    array = frame.to_numpy(dtype=object)
    nothing, empty = array.copy(), array.copy()
    nothing[pd.isna(array)], empty[pd.isna(array)] = None, ""
    named = {**QUICK, "label_names": ["side", "height"]}
    first = told(MultiTask(**QUICK).fit(X, frame), X)
    for other in (nothing, empty, nothing.tolist()):
        assert same(told(MultiTask(**named).fit(X, other), X), first)


def test_it_is_a_scikit_learn_estimator(vectors):
    X, table = vectors
    model = MultiTask(tasks=MIXED, **QUICK)
    assert clone(model).get_params() == model.get_params()
    scores = [cross_val_score(model, X, table, cv=2)]
    labels = table.to_numpy(dtype=object)
    scores.append(cross_val_score(clone(model).set_params(label_names=list(table)), X, labels, cv=2))
    assert np.isfinite(scores).all()
    assert np.array_equal(*scores)
    with pytest.raises(NotFittedError, match="fit"):
        model.predict(X)


@pytest.mark.parametrize("sharing", ["features", "stacked", "hard", "mmoe", "ple", "cross-stitch", "adapters"])
def test_every_sharing_is_saved_and_predicts_the_same_again(sharing, vectors, tmp_path):
    X, table = vectors
    settings = {**QUICK, "sharing": sharing, "sharing_options": None}
    model = MultiTask(**settings).fit(X, table[["side", "height"]])
    loaded = graft.load(model.save(tmp_path / "run"))
    assert same(told(loaded, X), told(model, X))
    assert same(told(MultiTask(**settings).fit(X, table[["side", "height"]]), X), told(model, X))


@pytest.mark.parametrize("kind", ["classification", "regression"])
def test_domains_of_one_meaning_get_a_common_and_an_own_part(kind, tmp_path):
    draws = np.random.default_rng(1)
    X = draws.normal(size=(90, 3)).astype(np.float32)
    values = X[:, 0] + np.tile([1, -1, 1], 30) * 0.8 * X[:, 1]
    labels = values if kind == "regression" else np.where(values > 0, "good", "bad")
    table = np.full((90, 3), None, dtype=object)
    table[np.arange(90), np.arange(90) % 3] = labels
    model = MultiTask(label_names=["books", "films", "games"], random_state=0, folds=2, compare=False).fit(X, table)
    assert model.parts_[0].middle is None  # linear models on the features
    assert model.score(X, table) > 0.9
    assert same(told(graft.load(model.save(tmp_path / "run")), X), told(model, X))


@pytest.mark.parametrize("name", ["uncertainty", "gradnorm", "famo", "stch", "pcgrad", "upgrad", "nash-mtl"])
@pytest.mark.parametrize("exact", [False, True])
def test_tasks_are_balanced_by_losses_or_gradients(name, exact, vectors):
    X, table = vectors
    if exact and name in LOSS_WEIGHTINGS:
        pytest.skip("exact is about gradients")
    model = MultiTask(balancing=name, exact=exact, **{**QUICK, "epochs": 3.0}).fit(X, table)
    assert np.isfinite(model.training_[0]["losses"]).all()
    assert np.isfinite(model.score(X, table))


def test_every_name_of_a_method_is_one_that_can_be_had(vectors):
    X, table = vectors
    with pytest.raises(RequestError) as refused:
        MultiTask(balancing="upgrade", **QUICK).fit(X, table)
    assert all(repr(name) in str(refused.value) for name in (*LOSS_WEIGHTINGS, *AGGREGATORS))
    assert "'upgrad'?" in str(refused.value)


@pytest.mark.parametrize("sampling", ["square-root", "temperature", "round-robin", "annealed"])
def test_tasks_are_sampled(sampling, vectors):
    X, table = vectors
    model = MultiTask(sampling=sampling, **QUICK).fit(X, table)
    assert np.isfinite(model.training_[0]["losses"]).all()


def test_static_weights_decide_what_is_learnt(vectors):
    X, table = vectors
    settings = {**QUICK, "epochs": 40.0, "learning_rate": 0.02, "pretrained": True}

    def error(weight):
        options = {"task_weight": {"side": weight, "height": 1.0}}
        model = MultiTask(balancing="static", balancing_options=options, **settings)
        return model.fit(X, table[["side", "height"]]).training_[0]["losses"][-1]

    # With all the weight on the number, the loss is that of the number alone.
    alone = MultiTask(**settings).fit(X, table[["height"]]).training_[0]["losses"][-1]
    assert error(0.0) == pytest.approx(alone, rel=0.3)


def test_a_task_is_added_and_the_others_keep_every_bit(vectors, tmp_path):
    X, table = vectors
    model = MultiTask(**QUICK).fit(X, table[["side", "height"]])
    before = told(model, X)
    weights = {name: values.clone() for name, values in model.parts_[0].middle.state_dict().items()}
    model.add_task(X, table["round"], "round").add_task(X, table[["round", "red"]], "both")
    model.add_task(X[:20], X[:20, 3] * 2.5, "depth")
    after = told(model, X)
    assert same([{name: one[name] for name in first} for one, first in zip(after, before, strict=True)], before)
    assert all(torch.equal(values, weights[name]) for name, values in model.parts_[0].middle.state_dict().items())
    assert model.columns_ == ("side", "height", "round", "round", "red", "depth")
    assert model.predict(X).shape == (COUNT, 6)
    assert same(told(graft.load(model.save(tmp_path / "run")), X), after)
    with pytest.raises(RequestError, match="new name"):
        model.add_task(X, table["red"], "side")
    with pytest.raises(DataError, match="'nothing'"):
        model.add_task(X, [None] * COUNT, "nothing")


def test_one_data_set_for_each_task_of_different_sizes(vectors):
    X, table = vectors
    sides = Domain(X[:30], np.where(X[:30, 0] > 0, "left", "right"))
    heights = Domain(X[30:], table["height"].to_numpy()[30:])
    joined = join_tasks({"side": sides, "height": heights})
    assert joined.tasks == ("side", "height")
    assert joined.size == COUNT
    model = MultiTask(label_names=joined.tasks, sampling="round-robin", **QUICK).fit(joined.inputs, joined.labels)
    assert [task.kind for task in model.tasks_] == ["classification", "regression"]
    assert np.array_equal(np.concatenate([model.predict(one.inputs) for one in (sides, heights)]), model.predict(X))


@pytest.mark.parametrize("sharing", ["stacked", "common-and-own", "hard"])
def test_yes_or_no_may_be_unknown(sharing):
    draws = np.random.default_rng(0)
    X = draws.normal(size=(60, 3)).astype(np.float32)
    table = np.array([[bool(one > 0), bool(two > 0)] for one, two in X[:, :2]], dtype=object)
    table[::4, 1] = None
    model = MultiTask(
        None, **{**QUICK, "sharing": sharing} if sharing == "hard" else {"sharing": sharing, "store": False}
    )
    found = model.fit(X, table).predict(X)
    assert [task.classes for task in model.tasks_] == [(False, True), (False, True)]
    assert {type(one) for one in found.ravel().tolist()} == {bool}
    if sharing != "hard":
        assert (found == (X[:, :2] > 0)).mean() > 0.9


@pytest.mark.parametrize("sharing", ["stacked", "common-and-own"])
def test_examples_of_one_group_are_kept_together_where_the_tasks_are_weighed(sharing, monkeypatch):
    from graft.sharing.common_and_own_logistic import CommonAndOwnLogistic
    from graft.techniques.multiple import fusion

    seen = []
    if sharing == "stacked":
        plain = fusion.fuse
        monkeypatch.setattr(fusion, "fuse", lambda *args, groups: seen.append(groups) or plain(*args, groups=groups))
    else:
        fit = CommonAndOwnLogistic.fit

        def kept(self, *args, groups, **more):
            seen.append(groups)
            return fit(self, *args, groups=groups, **more)

        monkeypatch.setattr(CommonAndOwnLogistic, "fit", kept)
    draws = np.random.default_rng(0)
    groups = np.repeat([f"leaf {number}" for number in range(20)], 3)
    X = draws.normal(size=(60, 4)).astype(np.float32)
    table = np.where(X[:, :2] + X[:, 2:3] > 0, "yes", "no").astype(object)
    table[::5, 1] = None
    model = MultiTask(None, sharing=sharing, label_names=("one", "two"), compare=False, store=False)
    model.fit(X, table, groups=groups)
    assert seen
    assert all(set(found) <= set(groups) for found in seen)
    with pytest.raises(DataError, match="two groups or more"):
        clone(model).fit(X, table, groups=np.zeros(60))


def test_groups_are_stated_or_found(vectors, tmp_path):
    X, table = vectors
    model = MultiTask(grouping=[["height", "red"]], **QUICK).fit(X, table)
    assert model.groups_ == (("height", "red"), ("side",), ("round",))
    assert len(model.training_) == 3
    found = MultiTask(grouping="auto", **QUICK).fit(X, table[["side", "height"]])
    assert found.affinity_.shape == (2, 2)
    assert sorted(name for group in found.groups_ for name in group) == ["height", "side"]
    loaded = graft.load(found.save(tmp_path / "run"))
    assert np.array_equal(loaded.affinity_, found.affinity_)


def test_the_angles_of_gradients_group_many_tasks():
    draws = np.random.default_rng(0)
    X = draws.normal(size=(60, 4)).astype(np.float32)
    table = np.stack([np.where((-1) ** k * X[:, 0] + 0.1 * X[:, k % 4] > 0, "yes", "no") for k in range(9)], axis=1)
    model = MultiTask(grouping="auto", **QUICK).fit(X, table)
    assert model.affinity_.shape == (9, 9)
    assert np.allclose(model.affinity_, model.affinity_.T, atol=1e-5)


def test_the_verdict_names_what_is_harmed_and_protect_serves_it_alone():
    # The class is the only thing that the shared network of one unit can hold; the number needs another direction.
    draws = np.random.default_rng(0)
    X = draws.normal(size=(240, 6)).astype(np.float32)
    table = pd.DataFrame({"a": 3.3 * np.abs(X[:, 0]), "b": 900 * np.sign(X[:, 1]) * X[:, 1] ** 2 + 0.1})
    settings = {"sharing": "adapters", "epochs": 30.0, "batch_size": 60, "learning_rate": 0.05, "folds": 2}
    settings |= {"balancing": "static", "balancing_options": {"task_weight": {"a": 0.0}}, "random_state": 0}
    model = MultiTask(**settings).fit(X, table)
    verdict = model.verdict_
    gains = {one.task: one for one in verdict.tasks}
    assert gains["a"].verdict == "harmed"
    assert gains["a"].gain["high"] < 0
    assert gains["a"].served == "together"
    assert gains["a"].change < 0
    assert "Negative transfer: it harms a" in str(verdict)
    protected = MultiTask(protect=True, **settings).fit(X, table)
    assert {one.task: one.served for one in protected.verdict_.tasks}["a"] == "alone"
    assert "kept the single-task solution" in str(protected.verdict_)
    assert protected.evaluate(X, table)["a"].metrics["r2"].value > model.evaluate(X, table)["a"].metrics["r2"].value
    assert MultiTaskVerdict.from_dict(json.loads(json.dumps(verdict.to_dict()))) == verdict


def test_a_gain_that_accuracy_cannot_tell_is_told_by_the_loss():
    # What helps gives the right class more of the probability, but seldom enough to make it the first.
    draws = np.random.default_rng(0)
    X = draws.normal(size=(400, 12)).astype(np.float32)
    third = np.digitize(X[:, :4].sum(axis=1), [-1.0, 1.0])
    kind = np.array(["low", "middle", "high"], dtype=object)[third]
    table = pd.DataFrame({"kind": kind, "order": np.where(np.arange(400) < 80, kind, None)})
    table["order"] = table["order"].map({"low": "first", "middle": "second", "high": "third"}, na_action="ignore")
    model = MultiTask(random_state=0, store=False, sharing="stacked").fit(X, table)
    gain = {one.task: one for one in model.verdict_.tasks}["order"]
    assert gain.verdict == "helped"
    assert gain.gain["low"] > 0
    assert gain.metric == "accuracy"


def test_delta_is_the_mean_relative_change_and_positive_is_better():
    gain = {"value": 0.0, "low": None, "high": None}

    def one(metric, alone, together):
        sign = 1 if metric == "accuracy" else -1
        return TaskGain(
            task=metric,
            metric=metric,
            labels=9,
            alone=alone,
            together=together,
            twin="probe",
            gain=gain,
            change=sign * 100 * (together - alone) / alone,
            verdict="no difference",
            served="together",
        )

    verdict = verdict_of([one("accuracy", 0.8, 0.84), one("rmse", 2.0, 1.5)])
    assert verdict.delta == pytest.approx((5 + 25) / 2)
    assert "+15.0 %" in str(verdict)
    assert "positive is better" in str(verdict)


def test_stacked_heads_learn_from_what_others_say():
    # The number has few labels, and is what the class, of which there are many, says; the features tell it poorly.
    draws = np.random.default_rng(0)
    X = draws.normal(size=(300, 40)).astype(np.float32)
    signal = X[:, :20].sum(axis=1)
    kinds = np.where(signal > 0, "up", "down").astype(object)
    values = np.where(np.arange(300) < 25, np.sign(signal) + 0.1 * draws.normal(size=300), np.nan)
    table = pd.DataFrame({"kind": kinds, "value": values})
    model = MultiTask(random_state=0, folds=2).fit(X[:200], table[:200])
    gains = {one.task: one for one in model.verdict_.tasks}
    assert gains["value"].verdict == "helped"
    assert gains["value"].labels == 25
    found = MultiTask(random_state=0, folds=1, compare=False, tasks=["value"]).fit(X[:200], table[:200])
    true = np.sign(signal[200:])
    together, alone = model.predict(X[200:])[:, 1].astype(float), found.predict(X[200:])[:, 0]
    assert np.mean((together - true) ** 2) < 0.95 * np.mean((alone - true) ** 2)


def test_sparse_features_are_stacked_too(tmp_path):
    draws = np.random.default_rng(0)
    X = np.where(draws.random((120, 12)) < 0.4, draws.normal(size=(120, 12)), 0).astype(np.float32)
    signal = X[:, :6].sum(axis=1)
    table = pd.DataFrame({"kind": np.where(signal > 0, "up", "down"), "value": np.sign(signal) + 0.001 * X[:, 7]})
    table.loc[30:, "value"] = np.nan
    thin = sparse.csr_matrix(X)
    model = MultiTask(random_state=0, folds=1, compare=False).fit(thin, table)
    assert "value" in model.parts_[0].middle.fused
    assert np.corrcoef(model.predict(thin)[:, 1].astype(float), np.sign(signal))[0, 1] > 0.7
    assert same(told(graft.load(model.save(tmp_path / "run")), thin), told(model, thin))


@pytest.fixture(scope="module")
def pictures():
    """Thirty-two small pictures of two colours and three brightnesses."""
    draws = np.random.default_rng(0)
    colour, light = np.arange(32) % 2, np.arange(32) % 3
    base = np.stack([80 + 100 * colour, 60 + 40 * light, 180 - 100 * colour], axis=1)
    made = np.clip(base[:, None, None] + draws.normal(0, 30, (32, 32, 32, 3)), 0, 255).astype(np.uint8)
    table = np.empty((32, 2), dtype=object)
    table[:, 0], table[:, 1] = np.where(colour == 1, "red", "blue"), light + 0.25 + 0.01 * np.arange(32)
    table[::3, 1] = None
    return list(made), table


@pytest.fixture(scope="module")
def network():
    return load_backbone("test_efficientnet", pretrained=False, image_size=32, random_state=1)


THROUGH = {"train": "all", "epochs": 2.0, "batch_size": 16, "store": False, "random_state": 0, "precision": "float32"}
THROUGH |= {"label_names": ["colour", "light"]}


def weights_of(model):
    return {name: values.clone() for name, values in model.parts_[0].backbone.module.state_dict().items()}


def test_the_network_is_trained_with_the_tasks(pictures, network, tmp_path):
    inputs, table = pictures
    model = MultiTask(network, **THROUGH).fit(inputs, table)
    assert model.parts_[0].backbone.weights_hash != network.weights_hash
    assert {one.twin for one in model.verdict_.tasks} <= {"network", "probe"}
    loaded = graft.load(model.save(tmp_path / "run"))
    assert same(told(loaded, inputs), told(model, inputs))
    # The trained network is one to carry on from.
    assert load_backbone(tmp_path / "run").weights_hash == model.parts_[0].backbone.weights_hash
    before = told(model, inputs)
    model.add_task(inputs, np.arange(32) % 2, "parity")
    after = [{name: one[name] for name in first} for one, first in zip(told(model, inputs), before, strict=True)]
    assert same(after, before)


def test_from_random_weights(pictures):
    inputs, table = pictures
    model = MultiTask("test_efficientnet", pretrained=False, image_size=32, **THROUGH).fit(inputs, table)
    assert {one.twin for one in model.verdict_.tasks} == {"network"}


@pytest.mark.parametrize("balancing", ["dwa", "upgrad"])
def test_an_interrupted_training_continues_bit_for_bit(balancing, pictures, network, tmp_path, monkeypatch):
    inputs, table = pictures
    settings = {**THROUGH, "balancing": balancing, "compare": False, "parts": 2, "checkpoints": tmp_path / "kept"}
    whole = MultiTask(network, **settings).fit(inputs, table)
    read, calls = Examples.batch, []

    def interrupted(self, rows, view=0):
        calls.append(view)
        if view and len(calls) > 7:
            raise KeyboardInterrupt
        return read(self, rows, view)

    with monkeypatch.context() as patched:
        patched.setattr(Examples, "batch", interrupted)
        patched.setattr("graft.techniques.phases.Checkpoints", partial(Checkpoints, seconds=0.0))
        with pytest.raises(KeyboardInterrupt):
            MultiTask(network, **settings).fit(inputs, table)
    assert list((tmp_path / "kept").rglob("step-*"))
    continued = MultiTask(network, resume=True, **settings).fit(inputs, table)
    assert continued.training_ == whole.training_
    one, other = weights_of(continued), weights_of(whole)
    assert all(torch.equal(values, other[name]) for name, values in one.items())
    assert same(told(continued, inputs), told(whole, inputs))


@pytest.mark.parametrize("balancing", ["equal", "uncertainty", "dwa"])
def test_a_batch_in_parts_is_the_batch_where_labels_are_missing(balancing, vectors):
    X, table = vectors
    settings = {**QUICK, "epochs": 8.0, "balancing": balancing, "batch_size": 16}
    one = MultiTask(**settings).fit(X, table)
    other = MultiTask(parts=3, **settings).fit(X, table)
    assert np.allclose(one.training_[0]["losses"], other.training_[0]["losses"], rtol=1e-3, atol=2e-4)
    assert np.allclose(one.predict_proba(X)["side"], other.predict_proba(X)["side"], atol=1e-2)


PROGRAM = textwrap.dedent(
    """
    import json, os, sys
    import numpy as np
    import torch
    from graft import MultiTask

    torch.set_num_threads(1)
    draws = np.random.default_rng(0)
    X = draws.normal(size=(40, 4)).astype(np.float32)
    Y = np.empty((40, 2), dtype=object)
    Y[:, 0], Y[:, 1] = np.where(X[:, 0] > 0, "a", "b"), X[:, 1] + 0.1
    Y[::3, 0], Y[1::5, 1] = None, None
    found = {}
    for balancing in ("equal", "dwa"):
        model = MultiTask(sharing="hard", sharing_options={"hidden": [4]}, epochs=5.0, batch_size=16, folds=1,
                          compare=False, store=False, random_state=0, balancing=balancing, learning_rate=0.01)
        model.fit(X, Y)
        found[balancing] = [model.training_[0]["losses"], model.predict_proba(X)["0"].tolist()]
    if os.environ.get("RANK", "0") == "0":
        json.dump(found, open(sys.argv[1], "w"))
    """
)


@pytest.mark.slow
def test_two_processes_train_as_one_does(tmp_path):
    program = tmp_path / "program.py"
    program.write_text(PROGRAM)
    environment = {**os.environ, "OMP_NUM_THREADS": "1"}
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    launcher = ["-m", "torch.distributed.run", "--nproc-per-node=2", "--master-addr=127.0.0.1", f"--master-port={port}"]
    found = []
    for number, how in enumerate(([], launcher)):
        out = tmp_path / f"{number}.json"
        subprocess.run([sys.executable, *how, str(program), str(out)], check=True, env=environment, timeout=600)
        found.append(json.loads(out.read_text()))
    for balancing in found[0]:
        for one, other in zip(found[0][balancing], found[1][balancing], strict=True):
            assert np.allclose(one, other, atol=1e-4), balancing


def column(**columns):
    """Return a label table of twelve rows."""
    return pd.DataFrame({name: pd.Series(values, dtype=object) for name, values in columns.items()})


HALF = ["a", "b"] * 6


@pytest.mark.parametrize(
    ("table", "message"),
    [
        (column(good=HALF, bad=[None] * 12), "labels 'bad'.*Fill in labels"),
        (column(good=HALF, bad=[""] * 12), "labels 'bad'.*Fill in labels"),
        (column(good=HALF, bad=["x"] * 12), "labels 'bad'.*found 1: 'x'.*Add examples of another class"),
        (column(good=HALF, bad=[1.5] * 12), "labels 'bad'.*found only 1.5.*Correct the column"),
        (column(good=HALF, bad=["x", 1.5] * 6), "labels 'bad'.*one type.*the same way"),
        (column(good=HALF, bad=[np.inf, *np.arange(11) + 0.5]), "labels 'bad'.*infinite.*Correct the column"),
        (column(good=HALF, bad=[f"id {k}" for k in range(12)] * 1), None),
    ],
)
def test_a_column_that_cannot_be_learnt_is_named_with_the_remedy(table, message):
    X = np.random.default_rng(0).normal(size=(12, 3)).astype(np.float32)
    if message is None:
        many = column(good=HALF * 3, bad=[f"id {k}" for k in range(36)])
        with pytest.raises(DataError, match=r"labels 'bad'.*36 different values"):
            MultiTask(**QUICK).fit(np.tile(X, (3, 1)), many)
        return
    with pytest.raises(DataError, match=message) as refused:
        MultiTask(**QUICK).fit(X, table)
    assert "\n" not in str(refused.value)


def test_a_task_with_labels_in_no_training_split_is_refused(vectors):
    X, table = vectors
    late = table[["side", "height"]].copy()
    late.loc[:29, "height"] = np.nan
    held = Domain(X[30:], late[30:].to_numpy(dtype=object))
    with pytest.raises(DataError, match=r"labels 'height'.*training split.*held-out examples alone"):
        MultiTask(**QUICK).fit(X[:30], late[:30], validation=held)
    late = table[["side", "height"]].copy()
    late.loc[40, "side"] = "behind"
    held = Domain(X[30:], late[30:].to_numpy(dtype=object))
    with pytest.raises(DataError, match=r"labels 'side'.*none of 'behind'"):
        MultiTask(**QUICK).fit(X[:30], late[:30], validation=held)
    held = Domain(X[30:], table[["side", "height"]][30:].to_numpy(dtype=object))
    model = MultiTask(**QUICK).fit(X[:30], table[["side", "height"]][:30], validation=held)
    assert model.validation_["side"].examples == table["side"][30:].notna().sum()


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"tasks": {"side": "clasification"}}, "tasks\\['side'\\].*Did you mean 'classification'"),
        ({"tasks": ["sides"]}, "tasks: expected columns.*Did you mean 'side'"),
        ({"tasks": "side"}, "Pass \\['side'\\]"),
        ({"tasks": []}, "one task or more"),
        ({"tasks": {"side": "regression"}}, "labels 'side': expected numbers"),
        ({"tasks": {"height": "classification"}}, "labels 'height': expected classes"),
        ({"sharing": "hardd"}, "Did you mean 'hard'"),
        ({"sharing": "common-and-own", "sharing_options": None}, "same classes"),
        ({"sharing": "stacked", "pretrained": False, "sharing_options": None}, "Leave it out"),
        ({"sharing_options": {"widths": 3}}, "sharing_options.*widths"),
        ({"sharing": "stacked"}, "sharing_options: expected none for 'stacked'"),
        ({"balancing_options": {"pull": 1}}, "balancing_options.*pull"),
        ({"balancing": "uncertainty", "balancing_options": {"pull": 1}}, "balancing_options.*pull"),
        ({"balancing": "static", "balancing_options": {"task_weight": {"sid": 1}}}, "task_weight.*'side'\\?"),
        ({"sampling": "sqrt"}, "sampling"),
        ({"grouping": "best"}, "Pass 'auto'"),
        ({"grouping": [["side", "sid"]]}, "'sid'"),
        ({"grouping": [["side"], ["side", "height"]]}, "'side' twice"),
        ({"folds": 0}, "folds"),
        ({"label_names": ["side"]}, "2 names"),
        ({"label_names": ["side", "side"]}, "'side' 2 times"),
    ],
)
def test_wrong_requests_are_refused_before_anything_is_computed(options, message, vectors, monkeypatch):
    X, table = vectors
    monkeypatch.setattr("graft.techniques.multi_task.learn", None)
    with pytest.raises(GraftError, match=message):
        MultiTask(**{**QUICK, **options}).fit(X, table[["side", "height"]])


def test_later_tables_must_fit(vectors):
    X, table = vectors
    model = MultiTask(**QUICK).fit(X, table[["side", "height"]])
    assert set(model.evaluate(X, table[["height"]])) == {"height"}
    with pytest.raises(DataError, match=r"columns called side, height"):
        model.evaluate(X, table[["red"]])
    with pytest.raises(DataError, match=r"labels 'side'.*'behind'"):
        model.evaluate(X, table[["side"]].fillna("behind"))
    with pytest.raises(DataError, match="4 values in each vector"):
        model.predict(X[:, :3])
    with pytest.raises(DataError, match="one for each input"):
        model.evaluate(X[:9], table)
    with pytest.raises(DataError, match="one for each input"):
        MultiTask(**QUICK).fit(X[:9], table)
