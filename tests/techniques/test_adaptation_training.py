"""Domain adaptation through the network: every method trains, is saved, and draws both domains together."""

from functools import partial

import numpy as np
import pytest
import torch
from torch import nn

import graft
from graft import Domain, DomainAdaptation, FineTuning, load_backbone
from graft.alignment import ADAPTATION_LOSSES, BSP, CDAN, DANN, MCD, AdaptationLoss, DeepCORAL
from graft.backbones import FeaturePreprocessing, module_backbone
from graft.errors import DataError, RequestError
from graft.heads import LinearClassifier, LinearMultiLabel, LinearRegressor
from graft.techniques.adaptation import NETWORK_METHODS, AdaptedHead
from graft.techniques.adaptation.adapting import Adapting
from graft.techniques.adaptation.domain_batches import DomainBatches, Turns
from graft.training import Batch, Checkpoints, Examples, Network, supervision

# Discriminators as large as these domains need.
SMALL = {"dann": DANN(hidden=(32,)), "cdan": CDAN(hidden=(32,)), "bsp": BSP(adversary=CDAN(hidden=(32,)))}
# What the domains below are made for; the others compare covariances or norms alone, or adjust the head alone.
HELPS = ("dan", "jan", "dann", "cdan", "mdd", "mcc", "bsp", "deep-jdot", "shot", "tent", "adabn")
RECIPE = {"pretrained": False, "batch_size": 32, "learning_rate": 5e-3, "precision": "float32"}


def network(outputs=12, seed=0):
    """A network of a few hundred random weights, from three numbers to features."""
    with torch.random.fork_rng():
        torch.manual_seed(seed)
        layers = nn.Sequential(
            *(nn.Linear(3, 24), nn.BatchNorm1d(24), nn.ReLU()),
            *(nn.Linear(24, outputs), nn.BatchNorm1d(outputs), nn.ReLU()),
        )
    return module_backbone(layers, preprocessing=FeaturePreprocessing(), feature_dim=outputs)


@pytest.fixture(scope="module")
def domains():
    """Three kinds of trees by two measurements; a third one tells them apart in the source alone.

    It lies so far away in the target that no training of a network without it does well there by chance.
    """
    draws, count = np.random.default_rng(0), 150
    code = np.repeat(np.arange(3), count // 3)
    y = np.array(["ash", "elm", "oak"])[code]
    middles = np.array([[0, 0], [4, 0], [0, 4]])
    source = np.column_stack([draws.normal(size=(count, 2)) + middles[code], (code - 1) * 3 + draws.normal(size=count)])
    target = np.column_stack([draws.normal(size=(count, 2)) + middles[code], 4.5 + 2 * draws.normal(size=count)])
    order = draws.permutation(count)
    return source, y, target[order], y[order]


@pytest.fixture(scope="module")
def source_only(domains):
    X, y, target, truth = domains
    settings = {"batch_size": 32, "learning_rate": 5e-3, "precision": "float32", "epochs": 32.0}
    model = FineTuning(network(), layer_decay=1.0, batch_norm="train", guard=False, soup=1, refit=True, **settings)
    return model.fit(X, y).score(target, truth)


@pytest.mark.parametrize("name", NETWORK_METHODS)
def test_every_method_trains_and_is_saved(name, domains, source_only, tmp_path):
    X, y, target, truth = domains
    before, start = (X.copy(), y.copy(), target.copy()), network()
    hashed = start.weights_hash
    model = DomainAdaptation(start, method=SMALL.get(name, name), epochs=16.0, **RECIPE)
    model.fit(X, y, target=Domain(target))
    for one, other in zip((X, y, target), before, strict=True):
        np.testing.assert_array_equal(one, other)
    assert start.weights_hash == hashed
    assert model.score(target, truth) >= source_only + (0.08 if name in HELPS else -0.1)
    assert list(model.classes_) == ["ash", "elm", "oak"]
    assert isinstance(model.head_, AdaptedHead)
    assert isinstance(model.head_.head, LinearClassifier)
    assert len(model.training_["losses"]) == model.training_["steps"] == sum(model.training_["stages"].values())
    assert model.adaptation_["method"] == (type(SMALL[name]).__name__ if name in SMALL else name)
    assert model.adaptation_["shift"]["shift"]
    assert model.validation_.examples == 15
    probabilities = model.predict_proba(target)
    np.testing.assert_allclose(probabilities.sum(axis=1), 1, atol=1e-6)
    again = graft.load(model.save(tmp_path / "run"), backbone=network())
    np.testing.assert_array_equal(again.predict_proba(target), probabilities)
    np.testing.assert_array_equal(again.predict(target, reject=0.05), model.predict(target, reject=0.05))
    assert again.get_params()["method"] == model.method
    assert again.training_ == model.training_
    assert (tmp_path / "run" / "training.svg").exists()


@pytest.mark.parametrize("name", ["shot", "tent", "adabn"])
def test_without_the_source_the_head_stays_as_it_was(name, domains):
    X, y, target, _ = domains
    options = {"epochs": 4.0, "validation": 0.0, "train": "all", **RECIPE}
    # T3A changes the head alone, and leaves the network of the same training on the source as it is.
    other = DomainAdaptation(network(), method="t3a", **options).fit(X, y, target=Domain(target))
    model = DomainAdaptation(network(), method=name, **options).fit(X, y, target=Domain(target))
    plain = DomainAdaptation(network(), method="adabn", **options).fit(X, y, target=Domain(target))
    np.testing.assert_array_equal(model.head_.head.coefficients, plain.head_.head.coefficients)
    np.testing.assert_array_equal(model.head_.head.intercept, plain.head_.head.intercept)
    assert not np.array_equal(other.head_.head.coefficients, plain.head_.head.coefficients)
    ours, source = model.backbone_.module.state_dict(), other.backbone_.module.state_dict()
    moved = {key for key, values in ours.items() if not torch.equal(values, source[key])}
    statistics = {key for key in ours if "running_" in key}
    scales = {f"network.{layer}.{kind}" for layer in (1, 4) for kind in ("weight", "bias")}
    counters = {key for key in ours if key.endswith("num_batches_tracked")}
    if name == "adabn":
        assert moved == statistics
    elif name == "tent":
        assert statistics <= moved - counters <= statistics | scales
        assert moved & scales
    else:
        assert "network.0.weight" in moved
        assert model.training_["stages"].keys() == {"source", "round 1", "round 2", "round 3"}


@pytest.mark.parametrize(("name", "stop"), [("cdan", 30), ("shot", 42)])
def test_an_interrupted_adaptation_continues_bit_for_bit(name, stop, domains, tmp_path, monkeypatch):
    X, y, target, _ = domains
    folder = tmp_path / "checkpoints"
    options = {**RECIPE, "epochs": 6.0, "validation": 0.0, "average": 0.9 if name == "cdan" else None}
    options |= {"method": SMALL.get(name, name), "checkpoints": folder}
    whole = DomainAdaptation(network(), **options).fit(X, y, target=Domain(target))
    read, calls = Examples.batch, []

    def interrupted(self, rows, view=0):
        calls.append(len(rows))
        if len(calls) > stop:
            raise KeyboardInterrupt
        return read(self, rows, view)

    with monkeypatch.context() as patched:
        patched.setattr(Examples, "batch", interrupted)
        patched.setattr("graft.techniques.phases.Checkpoints", partial(Checkpoints, seconds=0.0))
        with pytest.raises(KeyboardInterrupt):
            DomainAdaptation(network(), **options).fit(X, y, target=Domain(target))
    assert list(folder.rglob("step-*"))
    continued = DomainAdaptation(network(), resume=True, **options).fit(X, y, target=Domain(target))
    assert continued.training_["losses"] == whole.training_["losses"]
    ours, theirs = continued.backbone_.module.state_dict(), whole.backbone_.module.state_dict()
    assert all(torch.equal(ours[key], theirs[key]) for key in theirs)
    assert not folder.exists()


@pytest.mark.parametrize("method", [MCD(strength=0.0), "shot"])
def test_labels_of_a_few_target_examples_are_used(method, domains):
    X, y, target, truth = domains
    # What the source calls an ash is an elm there, and the other way round: nothing else can tell.
    swapped = np.where(truth == "ash", "elm", np.where(truth == "elm", "ash", truth))
    rows = np.arange(0, len(target), 3)
    few = np.full(len(target), None, dtype=object)
    few[rows] = swapped[rows]
    asked = np.setdiff1d(np.arange(len(target)), rows)
    options = {**RECIPE, "epochs": 16.0, "validation": 0.0}
    plain = DomainAdaptation(network(), method=method, **options).fit(X, y, target=Domain(target))
    model = DomainAdaptation(network(), method=method, **options).fit(X, y, target=Domain(target, few))
    assert model.score(target[asked], swapped[asked]) > plain.score(target[asked], swapped[asked]) + 0.2
    assert model.adaptation_["target"]["labelled"] == len(rows)
    assert few[1] is None


def test_several_sources_groups_and_weights_are_heard(domains):
    X, y, target, _ = domains
    near = np.arange(len(X)) % 2 == 0
    moved = np.where(near[:, None], X, X - 6)
    options = {**RECIPE, "epochs": 2.0, "method": "mcc"}
    groups = np.array([f"forest {row // 2}" for row in range(len(X))])
    names = np.where(near, "near", "far")
    model = DomainAdaptation(network(), **options)
    model.fit(moved, y, groups=groups, target=Domain(target), domains=names)
    assert model.adaptation_["domains"]["near"] > model.adaptation_["domains"]["far"]
    # An example of weight zero is as good as without a label: the last class then has none that counts.
    weight = np.where(y == "oak", 0.0, 1.0)
    blind = DomainAdaptation(network(), **{**options, "method": DeepCORAL(), "epochs": 16.0})
    blind.fit(X, y, weight, target=Domain(target))
    assert (blind.predict(X) == "oak").mean() < 0.05


@pytest.mark.parametrize("method", [CDAN(hidden=(8,)), "shot", "adabn"])
def test_a_handful_of_examples_is_enough(method, domains):
    X, y, target, _ = domains
    rows = np.array([0, 1, 50, 51, 100])
    model = DomainAdaptation(network(), method=method, **{**RECIPE, "epochs": 2.0})
    model.fit(X[rows], y[rows], target=Domain(target[:4]))
    assert model.predict(target).shape == (len(target),)
    assert np.isfinite(model.training_["losses"]).all()


def test_a_class_that_the_target_lacks_stays_a_class(domains):
    X, y, target, truth = domains
    there = truth != "oak"
    model = DomainAdaptation(network(), method="deep-jdot", epochs=8.0, **RECIPE)
    model.fit(X, y, target=Domain(target[there]))
    assert list(model.classes_) == ["ash", "elm", "oak"]
    assert model.predict_proba(target).shape == (len(target), 3)
    assert model.score(X, y) > 0.9


@pytest.mark.parametrize("method", [DeepCORAL(strength=10.0), "adabn"])
@pytest.mark.parametrize("kind", ["regression", "multilabel"])
def test_other_tasks_where_the_method_allows_them(kind, method, domains, tmp_path):
    X, _, target, _ = domains
    y = X[:, 0] * 3 + 10 if kind == "regression" else (X[:, :2] > 2).astype(float)
    truth = target[:, 0] * 3 + 10 if kind == "regression" else (target[:, :2] > 2).astype(float)
    few = np.full(truth.shape, np.nan)
    few[:30] = truth[:30]
    model = DomainAdaptation(network(), method=method, task=kind, epochs=24.0, **RECIPE)
    model.fit(X, y, target=Domain(target, few))
    assert isinstance(model.head_.head, LinearRegressor if kind == "regression" else LinearMultiLabel)
    assert model.score(target[30:], truth[30:]) > (0.5 if kind == "regression" else 0.8)
    again = graft.load(model.save(tmp_path / "run"), backbone=network())
    np.testing.assert_array_equal(again.predict(target), model.predict(target))


@pytest.mark.parametrize("name", ["cdan", "mcc", "shot"])
def test_methods_for_classes_refuse_numbers_and_say_which_can(name, domains):
    X, _, target, _ = domains
    with pytest.raises(RequestError, match=r"regression.*deep-coral, dan, .*adabn"):
        DomainAdaptation(network(), method=name).fit(X, X[:, 0] + 0.25, target=Domain(target))


@pytest.mark.parametrize(
    ("options", "subject"),
    [
        ({"method": "coral", "epochs": 3.0}, "epochs"),
        ({"method": "auto", "pretrained": False}, "pretrained"),
        ({"method": "dann", "head": "ridge"}, "head"),
        ({"method": "dann", "budget": 5.0}, "budget"),
        ({"method": DANN(), "budget": None}, "budget"),
        ({"method": "dann", "resume": True}, "resume"),
        ({"method": "dann", "train": "everything"}, "train"),
        ({"method": "dann", "augment": 3.0}, "augment"),
        ({"method": "dann", "validation": 0.95}, "validation"),
        ({"method": "dan-n"}, "method"),
    ],
)
def test_options_that_do_not_fit_are_refused_before_anything_is_read(options, subject, domains, monkeypatch):
    X, y, target, _ = domains

    def refuse(*_args, **_named):
        raise AssertionError("something was read")

    monkeypatch.setattr("graft.techniques.domain_adaptation.embedded", refuse)
    with pytest.raises(RequestError) as caught:
        DomainAdaptation(network(), **options).fit(X, y, target=Domain(target))
    assert caught.value.subject == subject


def test_what_a_network_lacks_is_said_before_anything_is_read(domains):
    X, y, target, _ = domains
    bare = module_backbone(nn.Linear(3, 4), preprocessing=FeaturePreprocessing(), feature_dim=4)
    for name, words in (("adabn", "batch normalisation"), ("tent", "normalisation layers")):
        with pytest.raises(RequestError, match=words):
            DomainAdaptation(bare, method=name).fit(X, y, target=Domain(target))
    with pytest.raises(RequestError, match="layers can be trained"):
        DomainAdaptation(method="dann").fit(X, y, target=Domain(target))


def test_a_pretrained_network_of_pictures_starts_from_its_head(tmp_path):
    draws = np.random.default_rng(0)
    colours = np.array([(200, 40, 40), (40, 40, 200)])
    code = np.arange(24) % 2

    def pictures(light):
        noise = draws.normal(0, 40, (24, 32, 32, 3))
        return list(np.clip(colours[code][:, None, None] * light + noise, 0, 255).astype(np.uint8))

    own = load_backbone("test_efficientnet", pretrained=False, image_size=32, random_state=1)
    run = (
        FineTuning(own, epochs=1.0, batch_size=8, guard=False, soup=1, store=False)
        .fit(pictures(1), code)
        .save(tmp_path / "first")
    )
    options = {"batch_size": 8, "epochs": 2.0, "train": 1, "views": 1, "store": False}
    model = DomainAdaptation(str(run), method=CDAN(hidden=(16,)), **options)
    dark = pictures(0.5)
    model.fit(pictures(1), code, target=Domain(dark))
    assert model.training_["steps"] == 12
    assert model.training_["cached"]
    again = graft.load(model.save(tmp_path / "second"))
    np.testing.assert_array_equal(again.predict_proba(dark), model.predict_proba(dark))
    assert again.backbone_.weights_hash == load_backbone(tmp_path / "second").weights_hash != own.weights_hash


def test_turns_draw_every_group_and_every_example_alike_often():
    groups = [np.arange(7), np.arange(7, 10), np.arange(10, 30)]
    turns = Turns(groups, 3)
    drawn = turns.take(0, 3 * 7 * 20)
    counts = np.bincount(drawn, minlength=30)
    assert [int(counts[group].sum()) for group in groups] == [140, 140, 140]
    assert np.ptp(counts[groups[0]]) == np.ptp(counts[groups[2]]) == 0
    assert np.ptp(counts[groups[1]]) <= 1
    # Whichever way the draws are cut into batches, they are the same.
    np.testing.assert_array_equal(drawn[5:50], turns.take(5, 45))
    assert not np.array_equal(drawn, Turns(groups, 4).take(0, len(drawn)))


def test_batches_hold_both_domains_and_count_labelled_examples_as_they_are_frequent():
    target = np.arange(400) >= 100
    known = ~target
    known[100:112] = True
    codes = np.where(np.arange(400) < 80, 0, 1)
    made = DomainBatches(target, known, codes, 32, 5)
    batches = [made.rows(step) for step in range(1500)]
    rows = np.concatenate(batches)
    assert {len(batch) for batch in batches} == {32}
    assert all(0.4 <= target[batch[:16]].mean() <= 0.7 for batch in batches[:50])
    shares = np.bincount(rows, minlength=400)
    assert abs(shares[:80].sum() / shares[80:100].sum() - 1) < 0.01
    # In the loss each labelled example counts alike in the end.
    counted = shares * made.factor / (shares * made.factor)[:100].mean()
    np.testing.assert_allclose(counted[known], 1, atol=0.15)
    assert made.factor[112:].sum() == 0
    with pytest.raises(DataError, match="some of the target"):
        DomainBatches(np.zeros(4, bool), np.ones(4, bool), None, 2, 0)


def test_the_loss_is_that_of_labelled_examples_and_of_the_method():
    class Progress(AdaptationLoss):
        tasks = ("classification",)

        def modules(self, feature_dim, n_outputs, *, seed):
            return nn.ModuleDict({"first": nn.Linear(feature_dim, n_outputs)})

        def loss(self, outputs, *, modules, progress):
            assert modules["first"].weight.shape == (2, 3)
            assert outputs.target_labels.tolist() == [-1, 1]
            assert outputs.source_labels.tolist() == [0, 1]
            return outputs.target_features.sum() * progress

    backbone = module_backbone(nn.Identity(), preprocessing=FeaturePreprocessing(), feature_dim=3)
    inputs, nan = np.random.default_rng(0).normal(size=(4, 3)), np.nan
    targets = torch.tensor([[1.0, 0.0], [0.0, 1.0], [nan, nan], [0.0, 1.0]])
    weight = np.array([1.0, 3.0, 7.0, 2.0])
    examples = Examples(backbone, list(inputs), targets, weight=weight)
    there = np.array([False, False, True, True])
    torch.manual_seed(4)  # the network sums in single precision: one head in five is off by more than is allowed below
    goal, head = supervision(graft.data.Task("", "classification", ("a", "b")), np.array(["a", "b"])), nn.Linear(3, 2)
    objective = Adapting(goal, Progress(), examples, there, 4, 0, head)
    whole = Network(backbone.copy_module(), objective.heads)
    batch = examples.batch(np.array([2, 0, 3, 1]))
    total, mass = objective.loss(whole, batch, 0.25)
    factor = DomainBatches(there, np.array([1, 1, 0, 1], bool), np.array([0, 1, 0, 1]), 4, 0).factor
    logits = head(torch.from_numpy(inputs).float())
    losses = nn.functional.cross_entropy(logits, torch.tensor([0, 1, 0, 1]), reduction="none")
    counted = torch.from_numpy(weight * factor * [1, 1, 0, 1])
    torch.testing.assert_close(mass.double(), counted.sum())
    expected = (losses * counted).sum() + counted.sum() * 0.25 * inputs[2:].sum()
    torch.testing.assert_close(total.double(), expected)
    assert whole(batch.inputs)[1]["adaptation"].shape == (4, 0)
    # A part that holds one domain alone has nothing to compare.
    one = Batch(batch.inputs[1:2], batch.targets[1:2], batch.weight[1:2], batch.rows[1:2])
    torch.testing.assert_close(objective.loss(whole, one, 0.5)[0].double(), losses[0].double() * counted[0])


def test_all_losses_have_a_name_among_the_methods():
    assert set(ADAPTATION_LOSSES) < set(NETWORK_METHODS)
