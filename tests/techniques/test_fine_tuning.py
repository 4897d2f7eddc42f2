"""Fine-tuning: exact where it can be, never worse than the probe, and saved whole."""

import sys
from functools import partial

import numpy as np
import pytest
import torch
from sklearn.base import clone

import graft
from graft import Domain, FeatureExtraction, FineTuning, load_backbone
from graft.backbones import Views
from graft.data import Task
from graft.data.samples import tickets
from graft.errors import GraftError, MissingDependencyError, RequestError
from graft.techniques.labelled import Labelled
from graft.techniques.material import Material, goal_of
from graft.techniques.mirroring import Mirroring, trial_steps
from graft.training import Checkpoints, Examples

FEW = {"epochs": 1.0, "batch_size": 16, "soup": 1, "store": False}


@pytest.fixture(scope="module")
def pictures():
    """Forty-eight small pictures of three colours, with noise."""
    draw = np.random.default_rng(0)
    classes = np.array(["blue", "green", "red"])
    labels = np.repeat(classes, 16)
    colours = {"red": (200, 40, 40), "green": (40, 200, 40), "blue": (40, 40, 200)}
    made = [
        np.clip(np.array(colours[name]) + draw.normal(0, 60, (32, 32, 3)), 0, 255).astype(np.uint8) for name in labels
    ]
    return made, labels


@pytest.fixture(scope="module")
def network():
    """A small convolutional network whose weights stand for pretrained ones."""
    return load_backbone("test_efficientnet", pretrained=False, image_size=32, random_state=1)


@pytest.fixture(scope="module")
def texts():
    domain = tickets("bank")
    return list(domain.inputs[::8]), np.asarray(domain.labels)[::8, 0]


def weights_of(model):
    return {name: values.clone() for name, values in model.backbone_.module.state_dict().items()}


def same(one, other):
    return one.keys() == other.keys() and all(torch.equal(one[name], other[name]) for name in one)


def labels_of(kind, count):
    draw = np.random.default_rng(1)
    if kind == "classification":
        return np.array(["a", "b"])[np.arange(count) % 2]
    if kind == "multilabel":
        table = (draw.random((count, 3)) < 0.5).astype(float)
        table[::7, 0] = np.nan
        return table
    return np.round(draw.normal(size=count), 3) + 0.25


@pytest.mark.parametrize("kind", ["classification", "multilabel", "regression"])
def test_every_kind_of_task_is_fitted_saved_and_loaded_with_the_same_predictions(kind, pictures, network, tmp_path):
    inputs, labels = pictures[0], labels_of(kind, len(pictures[0]))
    model = FineTuning(network, guard=False, **FEW).fit(inputs, labels)
    assert model.task_.kind == kind
    assert model.training_["served"] == "fine-tuned"
    assert model.backbone_.weights_hash != network.weights_hash
    assert model.validation_.task == kind
    loaded = graft.load(model.save(tmp_path / "run"), backbone=network)
    assert np.array_equal(loaded.predict(inputs), model.predict(inputs))
    if kind != "regression":
        assert np.array_equal(loaded.predict_proba(inputs), model.predict_proba(inputs))
    assert loaded.training_ == model.training_
    assert model.evaluate(inputs, labels).examples == len(inputs)


def test_a_run_is_a_backbone_and_needs_nothing_but_its_folder(pictures, tmp_path):
    inputs, labels = pictures
    model = FineTuning("test_efficientnet", pretrained=False, image_size=32, **FEW).fit(inputs, labels)
    run = model.save(tmp_path / "run")
    again = load_backbone(run)
    assert again.weights_hash == model.backbone_.weights_hash
    assert again.preprocessing.size == (32, 32)
    assert np.array_equal(again.embed(inputs, store=False), model.backbone_.embed(inputs, store=False))
    # What is carried on from there is saved whole too.
    second = FeatureExtraction(run, store=False).fit(inputs, labels)
    loaded = graft.load(second.save(tmp_path / "second"))
    assert np.array_equal(loaded.predict_proba(inputs), second.predict_proba(inputs))
    third = FineTuning(str(run), guard=False, **FEW).fit(inputs, labels)
    assert third.training_["verdict"] is not None
    assert third.backbone_.weights_hash != model.backbone_.weights_hash


def test_the_guard_serves_the_probe_where_the_training_does_harm(pictures, network):
    inputs, labels = pictures
    ruined = FineTuning(network, learning_rate=3.0, clip=None, **FEW).fit(inputs, labels)
    probe = FeatureExtraction(network, store=False).fit(inputs, labels)
    verdict = ruined.training_["verdict"]
    assert ruined.training_["served"] == "probe"
    assert verdict["candidates"]["probe"]["score"] > verdict["candidates"]["fine-tuned"]["score"]
    assert ruined.backbone_.weights_hash == network.weights_hash
    assert np.array_equal(ruined.predict_proba(inputs), probe.predict_proba(inputs))


def test_without_rate_and_decay_nothing_moves_and_the_start_is_the_probe(pictures, network):
    inputs, labels = pictures
    model = FineTuning(network, learning_rate=1e-12, weight_decay=0.0, guard=False, **FEW).fit(inputs, labels)
    for name, values in network.module.state_dict().items():
        assert torch.allclose(model.backbone_.module.state_dict()[name], values, atol=1e-7), name
    logistic = FeatureExtraction(network, head="logistic", store=False).fit(inputs, labels)
    assert (model.predict(inputs) == logistic.predict(inputs)).mean() > 0.9


@pytest.mark.parametrize("views", [1, 2])
def test_stored_activations_change_nothing_but_the_time(views, pictures, network):
    inputs, labels = pictures
    settings = {**FEW, "epochs": 4.0, "train": 1, "views": views, "guard": False, "precision": "float32"}
    stored = FineTuning(network, **settings).fit(inputs, labels)
    plain = FineTuning(network, cache=False, **settings).fit(inputs, labels)
    assert stored.training_["cached"]
    assert not plain.training_["cached"]
    assert np.allclose(stored.training_["losses"], plain.training_["losses"], rtol=1e-4)
    for name, values in weights_of(plain).items():
        assert torch.allclose(weights_of(stored)[name].float(), values.float(), atol=1e-4), name


@pytest.mark.parametrize("train", ["lora", "dora"])
def test_adapters_are_kept_or_merged_with_the_same_predictions(train, texts, tmp_path):
    inputs, labels = texts
    settings = {**FEW, "train": train, "rank": 2, "guard": False, "refit": False, "learning_rate": 1e-3}
    merged = FineTuning("minilm", **settings).fit(inputs, labels)
    kept = FineTuning("minilm", keep_adapters=True, **settings).fit(inputs, labels)
    assert same(weights_of(merged), weights_of(kept))
    small, large = kept.save(tmp_path / "kept"), merged.save(tmp_path / "merged")
    size = {run: (run / "model.safetensors").stat().st_size for run in (small, large)}
    assert size[small] < size[large] / 20
    assert np.array_equal(graft.load(small).predict_proba(inputs), kept.predict_proba(inputs))
    assert np.array_equal(graft.load(large).predict_proba(inputs), kept.predict_proba(inputs))
    assert load_backbone(small).weights_hash == merged.backbone_.weights_hash


@pytest.mark.parametrize("stop", [7, 15])  # while the held-out examples choose, and while all are trained on
def test_an_interrupted_training_continues_bit_for_bit(stop, pictures, network, tmp_path, monkeypatch):
    inputs, labels = pictures
    settings = {
        **FEW,
        "epochs": 4.0,
        "train": "gradual",
        "mixup": 0.2,
        "parts": 2,
        "average": 0.9,
        "augment": 3,
        "guard": False,
        "checkpoints": tmp_path / "checkpoints",
    }
    whole = FineTuning(network, **settings).fit(inputs, labels)
    read, calls = Examples.batch, []

    def interrupted(self, rows, view=0):
        if view:
            calls.append(view)
        if len(calls) > stop:
            raise KeyboardInterrupt
        return read(self, rows, view)

    with monkeypatch.context() as patched:
        patched.setattr(Examples, "batch", interrupted)
        patched.setattr("graft.techniques.phases.Checkpoints", partial(Checkpoints, seconds=0.0))
        with pytest.raises(KeyboardInterrupt):
            FineTuning(network, **settings).fit(inputs, labels)
    assert list((tmp_path / "checkpoints").rglob("step-*"))
    continued = FineTuning(network, resume=True, **settings).fit(inputs, labels)
    assert continued.training_["losses"] == whole.training_["losses"]
    assert same(weights_of(continued), weights_of(whole))
    assert not (tmp_path / "checkpoints").exists()


def test_from_scratch_there_is_no_probe_and_the_statistics_are_learnt(pictures):
    inputs, labels = pictures
    start = load_backbone("test_efficientnet", pretrained=False, image_size=32)
    model = FineTuning("test_efficientnet", pretrained=False, image_size=32, **FEW).fit(inputs, labels)
    assert model.training_["verdict"] is None
    means = [name for name in start.module.state_dict() if name.endswith("running_mean")]
    assert not all(torch.equal(weights_of(model)[name], start.module.state_dict()[name]) for name in means)


def test_frozen_statistics_stay_as_they_are(pictures, network):
    inputs, labels = pictures
    model = FineTuning(network, guard=False, **{**FEW, "epochs": 3.0}).fit(inputs, labels)
    for name, values in network.module.state_dict().items():
        if "running_" in name or "num_batches" in name:
            assert torch.equal(weights_of(model)[name], values), name


def test_contrastive_tuning_draws_classes_together(texts):
    inputs, labels = texts
    model = FineTuning(
        "minilm", objective="contrastive", guard=False, refit=False, train=2, **{**FEW, "epochs": 6.0}
    ).fit(inputs, labels)

    def spread(backbone):
        features = backbone.embed(inputs, store=False)
        features = features / np.linalg.norm(features, axis=1, keepdims=True)
        alike = labels[:, None] == labels[None, :]
        cosine = features @ features.T
        return cosine[alike].mean() - cosine[~alike].mean()

    assert spread(model.backbone_) > spread(load_backbone("minilm")) + 0.05
    assert type(model.head_).__name__ == "AutoHead"


@pytest.mark.parametrize("name", ["l2-sp", "delta", "bi-tuning"])
def test_regularizers_train_with_the_network(name, pictures, network):
    inputs, labels = pictures
    model = FineTuning(network, regularizer=name, guard=False, **FEW).fit(inputs, labels)
    assert np.isfinite(model.training_["losses"]).all()


@pytest.mark.parametrize("name", ["l2-sp", "delta"])
def test_a_strong_regularizer_holds_the_network_where_it_was(name, pictures, network):
    inputs, labels = pictures
    settings = {**FEW, "epochs": 4.0, "learning_rate": 3e-3, "refit": False, "guard": False, "precision": "float32"}
    if name == "delta":
        settings["weight_decay"] = 0.0

    def moved(model):
        plain = network.embed(inputs, store=False)
        if name == "delta":
            return float(np.abs(model.backbone_.embed(inputs, store=False) - plain).mean())
        start = network.module.state_dict()
        return sum(float((weights_of(model)[key] - start[key]).float().square().sum()) for key in start)

    free = FineTuning(network, **settings).fit(inputs, labels)
    held = FineTuning(network, regularizer=name, strength=300.0, **settings).fit(inputs, labels)
    assert moved(held) < moved(free)


def test_delta_attends_to_the_channels_that_the_task_needs():
    from torch import nn

    from graft.data import Task
    from graft.techniques.regularizers import needed_channels
    from graft.training import Batch, supervision

    torch.manual_seed(0)
    convolutions = [nn.Conv2d(3, 5, 3), nn.Conv2d(5, 4, 3)]
    trunk = nn.Sequential(
        convolutions[0], nn.ReLU(inplace=True), convolutions[1], nn.AdaptiveAvgPool2d(1), nn.Flatten()
    ).requires_grad_(False)
    with torch.no_grad():
        convolutions[1].weight[:, 2] = 0  # nothing reads that channel
    head = nn.Linear(4, 2)
    # So small that the loss is all but linear in every channel.
    head.weight.data.mul_(0.01)
    goal = supervision(Task("", "classification", ("a", "b")), np.array(["a", "b"]))
    targets, weight = torch.eye(2)[torch.randint(2, (12,))], torch.rand(12) + 0.5
    inputs = torch.randn(12, 3, 8, 8)
    batches = [Batch(inputs[part], targets[part], weight[part]) for part in (slice(0, 7), slice(7, 12))]
    found = needed_channels(trunk, ["0", "2"], head, goal, batches)

    def loss(path, channel):
        def off(_module, _inputs, output):
            return output.index_fill(1, torch.tensor([channel]), 0)

        handle = trunk.get_submodule(path).register_forward_hook(off)
        with torch.no_grad():
            losses = goal.losses(head(trunk(inputs)), targets)
        handle.remove()
        return (losses * weight).sum() / weight.sum()

    for path, attention, count in (("0", found[0], 5), ("2", found[1], 4)):
        exact = torch.softmax(torch.stack([loss(path, channel) for channel in range(count)]), dim=0)
        assert exact.std() > 0
        torch.testing.assert_close(attention - 1 / count, exact - 1 / count, rtol=0.05, atol=1e-6)


def test_co_tuning_uses_the_classifier_of_the_pretraining(pictures):
    inputs, labels = pictures
    settings = {**FEW, "image_size": 64, "train": 1, "refit": False, "guard": False}
    model = FineTuning("efficientnet_lite0", regularizer="co-tuning", **settings).fit(inputs[::4], labels[::4])
    assert np.isfinite(model.training_["losses"]).all()
    with pytest.raises(RequestError, match="classifier"):
        FineTuning("minilm", regularizer="co-tuning", **FEW).fit(["good day", "bad day"] * 6, ["a", "b"] * 6)


def test_given_held_out_examples_are_the_ones_that_decide(pictures, network):
    inputs, labels = pictures
    chosen = np.arange(len(inputs)) % 4 == 0
    aside = Domain([inputs[row] for row in np.flatnonzero(chosen)], labels[chosen])
    rest = [inputs[row] for row in np.flatnonzero(~chosen)]
    model = FineTuning(network, **FEW).fit(rest, labels[~chosen], validation=aside)
    assert model.training_["verdict"]["examples"] == chosen.sum()
    assert model.validation_.examples == chosen.sum()


def test_examples_that_cannot_be_read_or_have_no_label_are_left_out(pictures, network, tmp_path):
    inputs, labels = list(pictures[0]), pictures[1].astype(object)
    (tmp_path / "broken.jpg").write_bytes(b"no picture")
    inputs[3], labels[5] = str(tmp_path / "broken.jpg"), None
    model = FineTuning(network, **FEW).fit(inputs, labels)
    assert [row for row, _, _ in model.left_out_] == [3]
    assert model.unlabelled_ == 1


def test_a_rate_can_be_found(pictures, network):
    inputs, labels = pictures
    model = FineTuning(network, learning_rate="find", refit=False, **FEW).fit(inputs, labels)
    assert np.isfinite(model.training_["losses"]).all()


def test_the_run_holds_the_training_curve_and_the_log_its_figures(pictures, network, tmp_path):
    inputs, labels = pictures
    model = FineTuning(network, log_folder=tmp_path / "log", **FEW).fit(inputs, labels)
    assert list((tmp_path / "log").glob("events.*"))
    run = model.save(tmp_path / "run")
    rows = (run / "training.csv").read_text().splitlines()
    assert rows[0].startswith("step,loss,score")
    assert len(rows) == 1 + model.training_["steps"]
    assert float(rows[1].split(",")[1]) == model.training_["losses"][0]
    assert (run / "training.svg").read_text().count("<path") > 2
    first = (run / "training.svg").read_bytes()
    assert (model.save(tmp_path / "run") / "training.svg").read_bytes() == first


def test_it_is_an_estimator(network):
    model = FineTuning(network, epochs=2.0, train=3)
    copy = clone(model)
    assert copy.get_params() == model.get_params()
    assert copy.backbone is network


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"train": "al"}, "'all'"),
        ({"train": 99}, "train"),
        ({"objective": "contrast"}, "contrastive"),
        ({"regularizer": "l2sp"}, "l2-sp"),
        ({"regularizer": "l2-sp", "objective": "contrastive"}, "supervised"),
        ({"epochs": -1.0}, "epochs"),
        ({"refit": "yes"}, "refit"),
        ({"resume": True}, "checkpoints"),
        ({"pretrained": False}, "name"),
        ({"label_smoothing": 1.5}, "label_smoothing"),
        ({"precision": "float16"}, "bfloat16"),
    ],
)
def test_options_that_cannot_be_used_are_refused_with_a_remedy(settings, message, pictures, network):
    with pytest.raises(RequestError, match=message):
        FineTuning(network, **{**FEW, **settings}).fit(*pictures)


@pytest.fixture
def nothing_is_computed(monkeypatch):
    """Let a test fail that embeds, or reads, an input."""

    def refuse(*_args, **_options):
        raise AssertionError("an input was read")

    for name in ("embedded", "readable"):
        monkeypatch.setattr(f"graft.techniques.fine_tuning.{name}", refuse)


@pytest.mark.parametrize(
    ("settings", "kind", "subject"),
    [
        ({"train": 99}, "classification", "train"),
        ({"views": 0}, "classification", "views"),
        ({"regularizer": "bi-tuning"}, "multilabel", "regularizer"),
        ({"regularizer": "bi-tuning"}, "regression", "regularizer"),
        ({"regularizer": "co-tuning"}, "regression", "regularizer"),
        ({"strength": 0.5}, "classification", "strength"),
        ({"label_smoothing": 0.1}, "regression", "label_smoothing"),
        ({"label_smoothing": 0.1}, "multilabel", "label_smoothing"),
        ({"label_smoothing": 0.1, "objective": "contrastive"}, "classification", "label_smoothing"),
        ({"objective": "contrastive"}, "multilabel", "objective"),
        ({"class_weight": "balanced"}, "regression", "class_weight"),
    ],
)
def test_what_does_not_fit_is_refused_before_anything_is_read(
    settings, kind, subject, pictures, network, nothing_is_computed
):
    with pytest.raises(RequestError) as caught:
        FineTuning(network, **{**FEW, **settings}).fit(pictures[0], labels_of(kind, 48))
    assert caught.value.subject == subject


@pytest.mark.parametrize("option", ["mixup", "cutmix", "augment", "views"])
def test_texts_are_neither_varied_nor_mixed(option, texts, nothing_is_computed):
    with pytest.raises(RequestError, match="text inputs") as caught:
        FineTuning("minilm", **FEW, **{option: 2}).fit(*texts)
    assert caught.value.subject == option


@pytest.mark.parametrize(("settings", "package"), [({"train": "lora"}, "peft"), ({"log_folder": "log"}, "tensorboard")])
def test_a_missing_package_is_said_before_anything_is_read(
    settings, package, pictures, network, nothing_is_computed, monkeypatch
):
    monkeypatch.setitem(sys.modules, package, None)
    with pytest.raises(MissingDependencyError, match=f"pip install.*{package if package == 'peft' else 'tracking'}"):
        FineTuning(network, **FEW, **settings).fit(*pictures)


def test_the_two_values_of_each_label_are_weighed_as_the_heads_weigh_them(pictures, network):
    from graft.techniques.labelled import embedded, given
    from graft.techniques.material import goal_of

    table, weight = labels_of("multilabel", 48), np.linspace(0.5, 2, 48)
    options = {"views": 1, "batch_size": None, "precision": "auto", "store": False, "strict": True, "random_state": 0}
    what = given(pictures[0], table, task="multilabel", label_names=None, sample_weight=weight)
    found = embedded(network, what, **options)
    learning = np.arange(48) % 5 > 0
    outputs = torch.randn(48, 3)

    def losses(class_weight):
        goal = goal_of(found, learning, class_weight=class_weight)
        return goal.losses(outputs, goal.targets(found.targets)).double().numpy()

    known = np.isfinite(table)
    plain = np.logaddexp(0, np.where(table == 1, -1, 1) * outputs.double().numpy())
    for class_weight in ("balanced", {0: 1.0, 1: 3.0}, None):
        factors = np.ones(table.shape)
        for place in range(3):
            rows = known[:, place] & learning
            total = [weight[rows & (table[:, place] == value)].sum() for value in (0, 1)]
            pair = {"balanced": [sum(total) / (2 * one) for one in total], None: [1, 1]}.get(
                class_weight if isinstance(class_weight, str | None) else "", [1, 3]
            )
            factors[:, place] = np.where(table[:, place] == 1, pair[1], pair[0])
        expected = np.where(known, plain * factors, 0).sum(axis=1) / known.sum(axis=1)
        np.testing.assert_allclose(losses(class_weight), expected, rtol=1e-4)


def test_weights_of_values_move_the_predictions_of_several_labels(pictures, network):
    table = labels_of("multilabel", 48)
    plain, rare = (
        FineTuning(network, class_weight=weight, guard=False, refit=False, **FEW).fit(pictures[0], table)
        for weight in (None, {0: 1.0, 1: 20.0})
    )
    assert (
        rare.head_.decision_function(np.zeros((1, 256))).mean()
        > plain.head_.decision_function(np.zeros((1, 256))).mean()
    )


def test_co_tuning_wants_a_classifier_before_anything_is_read(texts, nothing_is_computed):
    with pytest.raises(RequestError, match="classifier"):
        FineTuning("minilm", regularizer="co-tuning", **FEW).fit(*texts)


def test_labels_weights_and_groups_are_counted_before_anything_is_read(pictures, network, nothing_is_computed):
    inputs, labels = pictures
    aside = Domain(inputs[:3], labels[:3])
    model = FineTuning(network, **FEW)
    for more in ({}, {"validation": aside}):
        with pytest.raises(GraftError, match="48 values"):
            model.fit(inputs, labels[1:], **more)
        with pytest.raises(GraftError, match="sample_weight"):
            model.fit(inputs, labels, sample_weight=np.ones(47), **more)
        with pytest.raises(GraftError, match="groups"):
            model.fit(inputs, labels, groups=np.arange(49), **more)
    with pytest.raises(GraftError, match="2 classes"):
        model.fit(inputs, np.full(48, "red"))


def test_from_scratch_reads_every_input_and_embeds_none(pictures, tmp_path, monkeypatch):
    inputs, labels = list(pictures[0]), pictures[1]
    (tmp_path / "broken.jpg").write_bytes(b"no picture")
    inputs[3] = str(tmp_path / "broken.jpg")

    def refuse(*_args, **_options):
        raise AssertionError("the random network was asked for features")

    monkeypatch.setattr("graft.techniques.labelled.embed", refuse)
    model = FineTuning("test_efficientnet", pretrained=False, image_size=32, **FEW).fit(inputs, labels)
    plain = load_backbone("test_efficientnet", pretrained=False, image_size=32)
    with pytest.raises(GraftError) as caught:
        plain.embed(inputs, store=False)
    assert model.left_out_ == caught.value.failures
    with pytest.raises(GraftError, match="broken"):
        FineTuning("test_efficientnet", pretrained=False, image_size=32, strict=True, **FEW).fit(inputs, labels)


def test_the_start_of_the_training_is_the_linear_member_of_the_probe(pictures, network):
    from graft.techniques.labelled import embedded, given
    from graft.techniques.material import Material
    from graft.training import supervision

    options = {"views": 1, "batch_size": None, "precision": "auto", "store": False, "strict": True, "random_state": 0}
    what = given(*pictures, task="auto", label_names=None)
    found = embedded(network, what, **options)
    chosen = np.arange(48) % 5 > 0

    def material():
        return Material(
            network, pictures[0], found, supervision(found.task, found.targets), None, graft.backbones.Views()
        )

    alone, beside = material(), material()
    assert "logistic" in beside.probe(chosen, 0).heads_
    made = beside.start(chosen, 0)
    assert beside.probe(chosen, 0) is beside.probe(chosen, 0)
    assert torch.equal(made.weight, alone.start(chosen, 0).weight)
    assert torch.equal(made.bias, alone.start(chosen, 0).bias)


def material_of(network, inputs, labels, *, class_weight=None, sample_weight=None):
    from graft.techniques.labelled import embedded, given
    from graft.techniques.material import Material, goal_of

    options = {"views": 1, "batch_size": None, "precision": "auto", "store": False, "strict": True, "random_state": 0}
    what = given(inputs, labels, task="auto", label_names=None, sample_weight=sample_weight)
    found = embedded(network, what, **options)
    goal = goal_of(found, np.ones(len(inputs), bool))
    return Material(network, inputs, found, goal, class_weight, graft.backbones.Views())


@pytest.mark.parametrize("curved", [False, True], ids=["ridge", "kernel ridge"])
def test_a_regression_starts_from_the_ridge_of_the_probe_chosen_or_not(pictures, network, curved, monkeypatch):
    inputs = pictures[0]
    features = network.embed(inputs, store=False)
    along = features @ np.linalg.svd(features - features.mean(axis=0))[2][0]
    along = (along - along.mean()) / along.std()
    material = material_of(network, inputs, np.cos(3 * along) if curved else along)
    chosen = np.arange(48) % 5 > 0
    alone = material.start(chosen, 0)
    probe = material.probe(chosen, 0)
    assert probe.selection_["chosen"] == ("kernel-ridge" if curved else "ridge")
    monkeypatch.setattr(type(probe.ridge_), "fit", lambda *_args, **_named: pytest.fail("fitted again"))
    beside = material.start(chosen, 0)
    torch.testing.assert_close(beside.weight, alone.weight)
    torch.testing.assert_close(beside.bias, alone.bias)


def test_classes_are_balanced_among_the_examples_that_are_trained_on(pictures, network):
    inputs, names = pictures[0], np.array(["rare", "often"])
    codes = (np.arange(48) % 4 > 0).astype(int)
    weight = np.linspace(0.5, 2, 48)
    material = material_of(network, inputs, names[codes], class_weight="balanced", sample_weight=weight)
    for chosen in (np.arange(48) < 30, (np.arange(48) % 8 > 0), np.ones(48, bool)):
        found = material.examples(chosen).weight.double().numpy()
        totals = [found[codes[chosen] == code].sum() for code in (0, 1)]
        assert totals[0] == pytest.approx(totals[1], rel=1e-5)
        assert found.sum() == pytest.approx(weight[chosen].sum(), rel=1e-5)


def test_texts_are_cut_into_tokens_once_for_all_trainings(texts, monkeypatch):
    from graft.backbones import TextBackbone

    read, seen = TextBackbone.read, []
    monkeypatch.setattr(TextBackbone, "read", lambda self, *a, **k: seen.append(len(a[0])) or read(self, *a, **k))
    inputs, labels = texts
    model = FineTuning("minilm", train=0, guard=False, **FEW)
    model.fit(inputs, labels)
    # Once for all trainings and evaluations, and in the embeddings before and after them.
    assert seen.count(len(inputs)) == 3
    assert sum(seen) < 4 * len(inputs)


def test_vectors_have_no_layers_to_train():
    with pytest.raises(GraftError, match="FeatureExtraction"):
        FineTuning(None).fit(np.eye(8), ["a", "b"] * 4)


def test_numbers_cannot_be_contrasted(pictures, network):
    with pytest.raises(RequestError, match="contrastive"):
        FineTuning(network, objective="contrastive", **FEW).fit(pictures[0], labels_of("regression", 48))


def test_a_network_that_diverged_is_never_served(pictures, network):
    from graft.techniques.guard import judge
    from graft.training import supervision

    goal = supervision(graft.Task("", "regression"), np.arange(6.0))
    targets = goal.targets(np.arange(6.0))
    broken = torch.full_like(targets, float("nan"))
    verdict = judge(goal, {"fine-tuned": broken, "probe": targets + 0.1}, targets, baseline="probe")
    assert verdict.chosen == "probe"
    assert verdict.candidates["fine-tuned"]["score"] is None


def test_the_best_of_several_has_to_beat_the_favourite_by_more_than_noise():
    from graft.techniques.guard import judge
    from graft.training import supervision

    draw = np.random.default_rng(0)
    goal = supervision(graft.Task("", "classification", (0, 1)), np.arange(60) % 2)
    targets = goal.targets(np.arange(60) % 2)
    own = 2 * (targets - 0.5) + torch.from_numpy(draw.normal(0, 2, targets.shape)).float()

    def chosen(other, favourite):
        outputs = {"probe": torch.zeros_like(own), "fine-tuned": own, "0.5 fine-tuned": other}
        return judge(goal, outputs, targets, baseline="probe", favourite=favourite).chosen

    luckier = own.clone()
    luckier[0] += 2 * targets[0] - 1  # one example is more surely right
    assert chosen(luckier, None) == "0.5 fine-tuned"
    assert chosen(luckier, "fine-tuned") == "fine-tuned"
    assert chosen(4 * (targets - 0.5), "fine-tuned") == "0.5 fine-tuned"
    # The baseline is held to no more than before, and a favourite that diverged is none.
    worse = {"probe": 4 * (targets - 0.5), "fine-tuned": own}
    assert judge(goal, worse, targets, baseline="probe", favourite="fine-tuned").chosen == "probe"
    broken = torch.full_like(own, float("nan"))
    outputs = {"probe": torch.zeros_like(own), "fine-tuned": broken, "0.5 fine-tuned": own}
    assert judge(goal, outputs, targets, baseline="probe", favourite="fine-tuned").chosen == "0.5 fine-tuned"


def test_pairs_stay_together_when_processes_share_a_batch(pictures, network):
    from graft.techniques.objectives import Contrastive
    from graft.training import supervision

    labels = np.repeat(np.arange(20), 4)
    examples = Examples(network, [pictures[0][0]] * 80, torch.nn.functional.one_hot(torch.tensor(labels)).float())
    goal = supervision(graft.Task("", "classification", tuple(range(20))), labels)
    objective = Contrastive(goal, examples, 32, 0, torch.nn.Linear(2, 20))
    for share in (0, 1):
        classes, counts = np.unique(labels[objective.share(3, share, 2)], return_counts=True)
        assert (counts >= 2).all(), classes


def test_of_several_processes_the_main_ones_choice_is_served(pictures, network, monkeypatch):
    from graft.training import Processes

    told = []

    def by_the_main_one(self, value):
        told.append(value)
        # Its digits differ a little from those that were found here, and so does what they speak for.
        return {**value, "chosen": "0.5 fine-tuned"} if isinstance(value, dict) and "chosen" in value else value

    monkeypatch.setattr(Processes, "told", by_the_main_one)
    model = FineTuning(network, refit=False, **FEW).fit(*pictures)
    assert model.training_["served"] == "0.5 fine-tuned"
    assert sum(isinstance(value, dict) and "chosen" in value for value in told) == 1
    assert sum(isinstance(value, dict) and "score" in value for value in told) == len(model.training_["evaluations"])


def test_held_out_examples_take_no_part_unless_refitted(pictures, network):
    inputs, labels = pictures
    draw = np.random.default_rng(0)
    scrambled = draw.permutation(labels)
    aside = Domain(inputs[::3], scrambled[::3])
    rest = [one for row, one in enumerate(inputs) if row % 3]
    left = np.array([one for row, one in enumerate(scrambled) if row % 3])
    kept = FineTuning(network, refit=False, **FEW).fit(rest, left, validation=aside)
    again = FineTuning(network, refit=False, **FEW).fit(rest, left, validation=Domain(inputs[::3], labels[::3]))
    assert kept.evaluate(inputs[::3], labels[::3]).examples == 16
    assert again.training_["losses"] == kept.training_["losses"]


def test_a_class_that_nobody_can_learn_is_named(pictures, network):
    inputs, labels = pictures
    aside = Domain(inputs[32:], labels[32:])
    with pytest.raises(GraftError, match="'red'"):
        FineTuning(network, **FEW).fit(inputs[:32], labels[:32], validation=aside)


def test_other_weights_or_sizes_do_not_resume(pictures, network, tmp_path, monkeypatch):
    inputs, labels = pictures
    settings = {**FEW, "guard": False, "checkpoints": tmp_path / "checkpoints"}

    def stop(*_args, **_options):
        raise KeyboardInterrupt

    with monkeypatch.context() as patched:
        patched.setattr("graft.techniques.fine_tuning.serve", stop)
        with pytest.raises(KeyboardInterrupt):
            FineTuning(network, **settings).fit(inputs, labels)
    with pytest.raises(GraftError, match="data"):
        FineTuning(network, resume=True, **settings).fit(inputs, labels, sample_weight=np.linspace(1, 2, 48))
    with pytest.raises(GraftError, match="preprocessing"):
        FineTuning(network.with_image_size(64), resume=True, **settings).fit(inputs, labels)


def test_an_average_of_adapters_moves_the_weights_by_its_share():
    from graft.techniques.choosing import towards
    from graft.techniques.network_training import Run

    start = {"a.lora_A.w": torch.randn(2, 5), "a.lora_B.w": torch.zeros(3, 2)}
    tuned = {"a.lora_A.w": torch.randn(2, 5), "a.lora_B.w": torch.randn(3, 2)}
    nothing = dict.fromkeys(("network", "trunk", "objective", "done"))
    run = Run(
        **nothing, start=start, epochs=1.0, examples_seen=0, examples_evaluated=0, trained_parameters=0, cached=""
    )
    half = towards(run, tuned, 0.5)
    whole = tuned["a.lora_B.w"] @ tuned["a.lora_A.w"]
    assert torch.allclose(half["a.lora_B.w"] @ half["a.lora_A.w"], whole / 2, atol=1e-6)


# --- mirrored pictures ---------------------------------------------------------------------------------------------


def halves(count, *, one_sided):
    """Pictures with a bright half: on the left or on the right where that is the class, else at the top or below."""
    draw = np.random.default_rng(0)
    labels = np.array(["a", "b"])[np.arange(count) % 2]
    made = []
    for label in labels:
        picture = draw.normal(60, 25, (32, 32, 3))
        side = slice(0, 16) if label == "a" else slice(16, 32)
        picture[(slice(None), side) if one_sided else (side, slice(None))] += 130
        made.append(np.clip(picture, 0, 255).astype(np.uint8))
    return made, labels


@pytest.mark.parametrize("one_sided", [True, False])
def test_pictures_are_mirrored_where_that_leaves_the_class(one_sided, network):
    inputs, labels = halves(60, one_sided=one_sided)
    settings = {**FEW, "epochs": 30.0, "refit": False, "learning_rate": 3e-3, "random_state": 1}
    model = FineTuning(network, **settings).fit(inputs, labels)
    found = model.training_["mirroring"]
    assert found["mirrored"] is not one_sided
    assert found["plain"] > 0.9
    assert (found["plain"] - found["turned"] > 0.5) is one_sided
    assert found["examples"] == 48  # none that is held out


def test_mirroring_that_is_asked_for_or_makes_no_difference_is_not_tried(network, pictures):
    inputs, labels = pictures
    long = {**FEW, "epochs": 15.0, "refit": False}
    for options in ({"mirror": True}, {"mirror": False}, {"views": 1}):
        assert FineTuning(network, **long, **options).fit(inputs, labels).training_["mirroring"] is None
    short = FineTuning(network, **FEW).fit(inputs, labels).training_["mirroring"]
    assert short["mirrored"]
    assert short["steps"] == 0
    with pytest.raises(RequestError, match="mirror"):
        FineTuning(network, mirror="sometimes").fit(inputs, labels)


def test_mirroring_is_decided_by_harm_that_is_not_noise():
    right = np.ones(50)
    assert Mirroring.of(right, right, steps=20).mirrored
    assert not Mirroring.of(right, np.arange(50) % 5 > 0, steps=20).mirrored
    assert Mirroring.of(right, np.arange(50) > 0, steps=20).mirrored  # one of fifty is less than three in a hundred
    assert Mirroring.of(right[:10], np.arange(10) > 0, steps=20).mirrored  # one of ten may be chance
    assert Mirroring.of(np.arange(50) % 5 > 0, right, steps=20).mirrored  # mirror images that are known better


def test_the_short_training_is_a_share_of_the_whole_one():
    assert [trial_steps(steps, pretrained=True) for steps in (10, 39, 40, 160, 2000)] == [0, 0, 20, 40, 60]
    assert [trial_steps(steps, pretrained=False) for steps in (600, 2000)] == [150, 300]


@pytest.mark.parametrize(("wrong", "far"), [(0, False), (12, True)])
def test_features_are_far_where_the_probe_is_often_wrong(network, wrong, far):
    draws = np.random.default_rng(0)
    features, codes = draws.normal(size=(60, 4)).astype(np.float32), np.arange(60) % 2
    features[:, 0] += 12 * codes
    labels = codes.copy()
    labels[draws.permutation(60)[:wrong]] ^= 1
    found = Labelled(
        task=Task("", "classification", (0, 1)),
        rows=np.arange(60),
        features=features,
        labels=labels,
        targets=labels,
        sample_weight=None,
        groups=None,
        failures=(),
        unlabelled=0,
    )
    everything = np.ones(60, bool)
    material = Material(network, [None] * 60, found, goal_of(found, everything), None, Views())
    assert material.is_far(everything, 0) is far
