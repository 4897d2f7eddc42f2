"""Every head, alignment and way to share as a module on tensors: what it answers is what the model answers."""

import numpy as np
import pandas as pd
import pytest
import torch

import graft
from graft import alignment
from graft.errors import RequestError
from graft.export import layers, prediction_module
from graft.export.heads import alignment_module
from graft.export.network import in_classes, prediction
from graft.heads import HEADS, ClassifierHead
from graft.heads.classifier_head import Outcome
from graft.techniques.adaptation.methods import ALIGNMENTS, INVARIANT_HEADS
from graft.techniques.multiple.joint_head import COMMON_AND_OWN, FEATURES, SHARINGS, STACKED

DRAW = np.random.default_rng(0)
X = (3 * DRAW.normal(size=(150, 6)) + 5).astype(np.float32)
NEW = (3 * DRAW.normal(size=(60, 6)) + 6).astype(np.float32)
CLASSES = np.array(["a", "b", "c"])[(X[:, 0] > 5).astype(int) + (X[:, 1] > 6)]
TARGETS = {
    "classification": {"three": CLASSES, "two": np.where(X[:, 0] > 5, "p", "q")},
    "multilabel": {"two": np.stack([X[:, 0] > 5, X[:, 2] > 5], axis=1).astype(int)},
    "regression": {"one": X[:, 0] * X[:, 1], "two": np.stack([X[:, 0] ** 2, 100 - X[:, 1]], axis=1)},
}


def apart(model, inputs=NEW):
    """The largest difference between module and model, relative to the size of numbers."""
    found = prediction(model)
    batch = torch.from_numpy(inputs)
    given, right = found.module(batch), found.expected(batch)
    assert len(given) == len(right) == len(found.outputs)
    for one, other in zip(given, right, strict=True):
        assert one.dtype == torch.float32
        assert tuple(one.shape) == other.shape
    return max(
        np.abs(one.numpy() - other).max() / max(1, np.abs(other).max()) for one, other in zip(given, right, strict=True)
    )


@pytest.mark.parametrize(
    ("kind", "name", "shape"),
    [(kind, name, shape) for kind, names in HEADS.items() for name in names for shape in TARGETS[kind]],
)
def test_a_head_as_a_module_answers_as_the_head_does(kind, name, shape):
    model = graft.FeatureExtraction(None, head=name, task=kind, store=False).fit(X, TARGETS[kind][shape])
    assert apart(model) < 2e-4
    answers = model.predict(NEW) if kind == "regression" else model.predict_proba(NEW)
    (given,) = prediction_module(model)(torch.from_numpy(NEW))
    np.testing.assert_allclose(given.numpy(), answers.reshape(given.shape), rtol=1e-3, atol=1e-3)


@pytest.mark.parametrize(("size", "place"), [(1, 1e5), (1e-20, 0)])
@pytest.mark.parametrize(
    ("kind", "name"), [(kind, name) for kind, names in HEADS.items() for name in names if name != "auto"]
)
def test_features_of_any_size_far_from_zero_lose_nothing(kind, name, size, place):
    """Years, prices: their products with the weights cancel the intercept, of which float32 keeps seven digits."""
    features = (size * (X - 5) + place).astype(np.float32)
    target = next(iter(TARGETS[kind].values()))
    model = graft.FeatureExtraction(None, head=name, task=kind, store=False).fit(features, target)
    assert apart(model, features) < 3e-4


@pytest.mark.parametrize("count", [1, 2, 3, 7])
def test_votes_of_weighted_neighbours_are_counted_alike(count):
    """Weights below and above one: the k-th neighbour's vote is divided."""
    head = graft.heads.NearestNeighbors(neighbors=[count])
    head.fit(X, CLASSES, sample_weight=DRAW.uniform(0.4, 2.5, size=len(X)))
    votes = torch.nn.Sequential(
        layers.Standardize(head.location_, head.scale_),
        layers.Votes(head.examples_, head.weight_, head.codes_, head.class_share_, head.n_neighbors_),
    )
    given = torch.softmax(votes(torch.from_numpy(NEW)) / head.temperature_, dim=1)
    np.testing.assert_allclose(given.numpy(), head.predict_proba(NEW), atol=1e-4)


@pytest.mark.parametrize("scaling", ["global", "columns", "none"])
def test_constant_columns_say_nothing(scaling):
    constant = X.copy()
    constant[:, 3] = 2.5
    head = graft.heads.KernelRidgeClassifier(scaling=scaling)
    model = graft.FeatureExtraction(None, head=head, store=False).fit(constant, CLASSES)
    assert apart(model) < 2e-4


ADAPTATIONS = ["source-only", "kmm", "bbse", "meda", "centroids", "tradaboost", "auto", *ALIGNMENTS, *INVARIANT_HEADS]


@pytest.mark.parametrize("method", ADAPTATIONS)
def test_an_adapted_model_as_a_module_answers_as_the_model_does(method):
    labels = None
    if method == "tradaboost":
        labels = np.array([None] * len(NEW), dtype=object)
        labels[:20] = np.array(["a", "b", "c"])[(NEW[:20, 0] > 6).astype(int) + (NEW[:20, 1] > 7)]
    model = graft.DomainAdaptation(None, method=method, head="discriminant", store=False, random_state=0)
    if method in {"meda", "centroids", "tradaboost", *INVARIANT_HEADS}:
        model.set_params(head="auto")
    assert apart(model.fit(X, CLASSES, target=graft.Domain(NEW, labels))) < 5e-4


def test_standardization_far_from_zero_maps_alike():
    fitted = alignment.DomainStandardization().fit(X + np.float32(1e5), target=NEW + np.float32(1e5))
    given = alignment_module(fitted)(torch.from_numpy(NEW + np.float32(1e5))).numpy()
    np.testing.assert_allclose(given, fitted.transform(NEW + np.float32(1e5)), atol=1e-5)


@pytest.mark.parametrize("kernel", ["linear", "rbf"])
def test_transfer_components_map_alike(kernel):
    fitted = alignment.TransferComponentAnalysis(n_components=4, kernel=kernel).fit(X, target=NEW)
    with torch.inference_mode():
        given = alignment_module(fitted)(torch.from_numpy(NEW)).numpy()
    np.testing.assert_allclose(given, fitted.transform(NEW), atol=1e-3 * np.abs(given).max())


def several():
    table = pd.DataFrame({"kind": CLASSES, "mark": np.where(X[:, 2] > 5, "u", "v"), "size": 2 * X[:, 3] + 1})
    table.loc[:60, "mark"] = None
    return table


@pytest.mark.parametrize("sharing", [one for one in SHARINGS if one != COMMON_AND_OWN])
def test_tasks_as_one_module_answer_as_the_model_does(sharing):
    options = {} if sharing in (FEATURES, STACKED) else {"epochs": 2}
    model = graft.MultiTask(None, sharing=sharing, compare=False, store=False, **options).fit(X, several())
    assert apart(model) < 5e-4
    found = prediction(model)
    assert [one.name for one in found.outputs] == ["probabilities.kind", "probabilities.mark", "values.size"]


def test_common_and_own_models_answer_as_the_model_does():
    labels = np.where(X[:, 0] + X[:, 1] > 10, "good", "bad").astype(object)
    table = pd.DataFrame({"one": labels, "other": labels[::-1].copy()})
    table.loc[:70, "one"] = None
    model = graft.MultiTask(None, sharing=COMMON_AND_OWN, compare=False, store=False).fit(X, table)
    assert apart(model) < 1e-4


def test_a_task_that_was_added_later_has_its_output_too():
    model = graft.MultiTask(None, sharing="hard", compare=False, store=False, epochs=2).fit(X, several())
    model.add_task(X, np.where(X[:, 4] > 5, "late", "early"), "time")
    assert apart(model) < 5e-4
    assert prediction(model).outputs[-1].name == "probabilities.time"


def test_a_class_that_a_head_has_never_seen_has_a_column_of_zeros():
    head = graft.heads.ShrinkageDiscriminant().fit(X, CLASSES)
    module = in_classes(head, graft.Task("kind", "classification", ("z", "a", "b", "c")))
    given = module(torch.from_numpy(NEW)).numpy()
    assert not given[:, 0].any()
    np.testing.assert_allclose(given[:, 1:], head.predict_proba(NEW), atol=1e-5)


def test_what_is_not_ours_is_refused_by_name():
    class Own(ClassifierHead):
        scaling, class_weight, calibrate, random_state = "auto", None, True, None

        def _solve(self, training):
            return Outcome(None)

        def _logits(self, features):
            return np.asarray(features)[:, : len(self.classes_)]

    model = graft.FeatureExtraction(None, head=Own(), store=False).fit(X, CLASSES)
    with pytest.raises(RequestError, match="found Own"):
        prediction(model)

    class Moved(alignment.Alignment):
        _needs_labels = False

        def _solve(self, pair):
            return pair.source.shape[1]

        def _map_source(self, features):
            return features

        def _map_target(self, features):
            return features

    model = graft.DomainAdaptation(None, method=Moved(), head="discriminant", store=False)
    with pytest.raises(RequestError, match="found Moved"):
        prediction(model.fit(X, CLASSES, target=graft.Domain(NEW)))
