"""Feature extraction: a frozen network, a head on its features, in scikit-learn's conventions."""

import numpy as np
import pandas as pd
import pytest
import scipy.sparse as sp
from sklearn.base import clone
from sklearn.datasets import load_diabetes, load_iris
from sklearn.exceptions import NotFittedError
from sklearn.model_selection import GridSearchCV, cross_val_predict, cross_val_score
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler

import graft
from graft import FeatureExtraction, load_backbone
from graft.data import decode_image
from graft.data.samples import leaves, tickets, write_leaves
from graft.errors import DataError, RequestError, RunError, UnreadableInputsError


@pytest.fixture(scope="module")
def minilm():
    return load_backbone("minilm")


@pytest.fixture(scope="module")
def messages():
    domain = tickets("bank")
    return domain.inputs, domain.labels[:, 0].astype(str)


@pytest.fixture(scope="module")
def fitted(minilm, messages):
    return FeatureExtraction(minilm).fit(*messages)


@pytest.fixture(scope="module")
def photos(tmp_path_factory):
    folder = tmp_path_factory.mktemp("photos")
    write_leaves(folder, per_class=4, size=96)
    return graft.read_images(folder)


@pytest.fixture
def forward_passes(monkeypatch):
    """Collect the texts that are read for a forward pass; what the store holds is not."""
    from graft.backbones import TextBackbone

    seen = []
    original = TextBackbone.read
    monkeypatch.setattr(TextBackbone, "read", lambda self, *a, **k: seen.extend(a[0]) or original(self, *a, **k))
    return seen


def test_it_is_the_head_on_the_features(fitted, minilm, messages):
    features = minilm.embed(messages[0])
    np.testing.assert_allclose(fitted.predict_proba(messages[0]), fitted.head_.predict_proba(features), atol=1e-6)
    np.testing.assert_array_equal(fitted.predict(messages[0]), fitted.head_.predict(features))


def test_probabilities_are_in_the_order_of_the_users_classes(fitted, messages):
    texts, labels = messages
    assert list(fitted.classes_) == sorted(set(labels))
    proba = fitted.predict_proba(texts)
    np.testing.assert_allclose(proba.sum(axis=1), 1, atol=1e-5)
    np.testing.assert_array_equal(fitted.classes_[proba.argmax(axis=1)], fitted.predict(texts))


def test_validation_is_out_of_fold_and_not_the_training_score(fitted, messages):
    accuracy = fitted.validation_.metrics["accuracy"]
    assert fitted.validation_.examples == len(messages[1])
    assert accuracy.low < accuracy.value < accuracy.high
    assert accuracy.value < fitted.score(*messages)


def test_a_second_fit_costs_no_forward_pass(minilm, messages, fitted, forward_passes):
    FeatureExtraction(minilm, head="discriminant").fit(*messages)
    assert not forward_passes
    FeatureExtraction(minilm, head="discriminant").fit([*messages[0], "a new message"], [*messages[1], messages[1][0]])
    # Besides the new one, the few on which the precision of the network is checked.
    assert "a new message" in forward_passes
    assert len(forward_passes) <= 16


def test_folds_and_grids_cost_no_forward_pass(minilm, messages, fitted, forward_passes):
    texts, labels = messages
    scores = cross_val_score(FeatureExtraction(minilm, head="discriminant"), texts, labels, cv=3)
    assert scores.mean() > 0.5
    grid = GridSearchCV(FeatureExtraction(minilm), {"head": ["prototype", "discriminant"]}, cv=2).fit(texts, labels)
    assert grid.best_params_["head"] in {"prototype", "discriminant"}
    assert not forward_passes


def test_folds_are_stratified():
    X, y = load_iris(return_X_y=True)
    predicted = cross_val_predict(FeatureExtraction(), X, y, cv=5)
    assert (predicted == y).mean() > 0.9  # iris is sorted by class: plain folds would miss whole classes


def test_clone_keeps_the_network_and_forgets_the_fit(fitted, minilm):
    copy = clone(fitted)
    assert copy.backbone is minilm
    assert copy.get_params() == fitted.get_params()
    with pytest.raises(NotFittedError):
        copy.predict(["text"])


def test_vectors_with_no_network():
    X, y = load_iris(return_X_y=True)
    names = np.array(["setosa", "versicolor", "virginica"])[y]
    dense = FeatureExtraction().fit(X[::2], names[::2])
    assert dense.score(X[1::2], names[1::2]) > 0.9
    assert dense.n_features_in_ == 4
    frame = FeatureExtraction().fit(pd.DataFrame(X[::2]), pd.Series(names[::2]))
    np.testing.assert_allclose(frame.predict_proba(pd.DataFrame(X)), dense.predict_proba(X), atol=1e-6)
    sparse = FeatureExtraction(head="logistic").fit(sp.csr_matrix(X[::2]), names[::2])
    assert sparse.score(sp.csr_matrix(X[1::2]), names[1::2]) > 0.9


def test_in_a_pipeline():
    X, y = load_iris(return_X_y=True)
    assert cross_val_score(make_pipeline(StandardScaler(), FeatureExtraction()), X, y, cv=3).mean() > 0.9


@pytest.mark.parametrize("labels", [np.arange(3), np.array(["x", "y", "z"], dtype=object), np.array([-1, 10, 7])])
def test_labels_come_back_as_they_were(labels):
    X, y = load_iris(return_X_y=True)
    model = FeatureExtraction(head="discriminant").fit(X, labels[y])
    assert set(model.predict(X).tolist()) == set(labels.tolist())
    assert model.classes_.tolist() == sorted(labels.tolist())


def test_yes_or_no_may_be_unknown():
    draws = np.random.default_rng(0)
    X = draws.normal(size=(60, 3))
    y = np.array([bool(one > 0) for one in X[:, 0]], dtype=object)
    y[::4] = None
    known = y != None  # noqa: E711
    gaps, whole = (
        FeatureExtraction(None, store=False).fit(*one) for one in ((X, y), (X[known], y[known].astype(bool)))
    )
    assert gaps.unlabelled_ == 15
    assert gaps.classes_.tolist() == [False, True]
    assert gaps.predict(X).tolist() == whole.predict(X).tolist()
    adapted = graft.DomainAdaptation(None, method="coral", store=False).fit(X, y, target=graft.Domain(X + 1, y))
    assert {type(one) for one in adapted.predict(X).tolist()} == {bool}


def test_examples_without_a_label_are_left_out_and_counted():
    X, y = load_iris(return_X_y=True)
    some = y.astype(object)
    some[::3] = None
    model = FeatureExtraction(head="discriminant").fit(X, some)
    assert model.unlabelled_ == 50
    keep = np.arange(150) % 3 != 0
    alone = FeatureExtraction(head="discriminant").fit(X[keep], y[keep])
    np.testing.assert_allclose(model.predict_proba(X), alone.predict_proba(X), atol=1e-6)


def test_a_class_of_which_nothing_can_be_read_is_left_out_and_said():
    X, y = load_iris(return_X_y=True)
    gone = np.where((y == 1)[:, None], np.nan, X)
    with pytest.warns(UserWarning, match="no example of b could be read"):
        model = FeatureExtraction(head="discriminant").fit(gone, np.array(["a", "b", "c"])[y])
    assert model.classes_.tolist() == ["a", "c"] == list(model.task_.classes)
    assert len(model.left_out_) == 50
    alone = FeatureExtraction(head="discriminant").fit(X[y != 1], np.array(["a", "b", "c"])[y[y != 1]])
    np.testing.assert_array_equal(model.predict_proba(X), alone.predict_proba(X))


def test_regression():
    X, y = load_diabetes(return_X_y=True)
    model = FeatureExtraction(task="regression").fit(X[::2], y[::2])
    assert 0.3 < model.score(X[1::2], y[1::2]) < 0.7
    assert set(model.validation_.metrics) == {"rmse", "mae", "r2"}
    with pytest.raises(RequestError, match="predict_proba"):
        model.predict_proba(X)
    assert FeatureExtraction().fit(X, y + 0.5).task_.kind == "regression"


def test_multilabel_with_unknown_cells(minilm, messages, fitted):
    texts, labels = messages
    names = sorted(set(labels))[:3]
    table = np.stack([labels == name for name in names], axis=1).astype(float)
    table[::7, 0] = np.nan
    model = FeatureExtraction(minilm).fit(texts, table)
    assert model.task_.kind == "multilabel"
    assert model.predict_proba(texts).shape == (len(texts), 3)
    assert set(np.unique(model.predict(texts))) <= {0, 1}
    assert model.score(texts, table) > 0.9
    assert model.evaluate(texts, table).metrics["macro_f1"].value > 0.7


def test_paths_pictures_and_arrays_are_the_same_photos(photos):
    model = FeatureExtraction("efficientnet_lite0", head="discriminant").fit(photos.inputs, photos.labels)
    pictures = [decode_image(path) for path in photos.inputs[:6]]
    by_path = model.predict_proba(photos.inputs[:6])
    np.testing.assert_allclose(model.predict_proba(pictures), by_path, atol=0.02)
    np.testing.assert_allclose(model.predict_proba(np.stack([np.asarray(p) for p in pictures])), by_path, atol=0.02)


def test_views_of_one_photo_stay_in_one_fold(photos):
    model = FeatureExtraction("efficientnet_lite0", head="logistic", views=3)
    model.fit(photos.inputs, photos.labels)
    plain = FeatureExtraction("efficientnet_lite0", head="logistic").fit(photos.inputs, photos.labels)
    # If a view of the held-out photo were trained on, the validation would be nearly perfect.
    assert model.validation_.examples == photos.size
    assert model.validation_.metrics["accuracy"].value <= plain.validation_.metrics["accuracy"].value + 0.2
    with pytest.raises(RequestError, match="views"):
        FeatureExtraction("minilm", views=2).fit(["a", "b"], [0, 1])


def test_a_broken_photo_does_not_stop_the_run(photos, tmp_path):
    broken = tmp_path / "broken.jpg"
    broken.write_bytes(b"not a photo")
    inputs = np.append(photos.inputs, str(broken))
    labels = np.append(photos.labels, photos.labels[0])
    model = FeatureExtraction("efficientnet_lite0", head="discriminant").fit(inputs, labels)
    assert [(row, name) for row, name, _ in model.left_out_] == [(photos.size, str(broken))]
    found = model.predictions(inputs)
    assert found.rows.tolist() == list(range(photos.size))
    assert len(found.failures) == 1
    with pytest.raises(UnreadableInputsError, match=r"broken\.jpg"):
        model.predict(inputs)
    with pytest.raises(UnreadableInputsError, match=r"broken\.jpg"):
        FeatureExtraction("efficientnet_lite0", strict=True).fit(inputs, labels)


def test_foreign_inputs_are_rejected(fitted, messages):
    nonsense = ["zxqv 0x00 ;;; 1010101", "the mitochondria is the powerhouse of the cell", "e4 e5 Nf3 Nc6 Bb5 a6"]
    familiar = fitted.predict(messages[0], reject=0.05)
    assert sum(label is None for label in familiar) <= 0.1 * len(familiar)
    assert all(label is None for label in fitted.predict(nonsense, reject=0.05))


def test_a_saved_run_predicts_the_same(fitted, messages, tmp_path):
    fitted.save(tmp_path / "run")
    back = graft.load(tmp_path / "run")
    np.testing.assert_array_equal(back.predict_proba(messages[0]), fitted.predict_proba(messages[0]))
    np.testing.assert_array_equal(back.predict(messages[0]), fitted.predict(messages[0]))
    np.testing.assert_array_equal(back.predict(messages[0], reject=0.1), fitted.predict(messages[0], reject=0.1))
    assert back.get_params()["head"] == "auto"
    assert back.validation_.to_dict() == fitted.validation_.to_dict()
    card = (tmp_path / "run" / "README.md").read_text()
    assert card.startswith("---\nlibrary_name: graft")
    assert "accuracy" in card


@pytest.mark.parametrize("head", ["auto", "logistic", "kernel-ridge", "discriminant", "prototype", "nearest-neighbors"])
def test_every_head_survives_saving(head, tmp_path):
    X, y = load_iris(return_X_y=True)
    names = np.array(["setosa", "versicolor", "virginica"])[y]
    model = FeatureExtraction(head=head).fit(X, names)
    model.save(tmp_path / "run")
    np.testing.assert_array_equal(graft.load(tmp_path / "run").predict_proba(X), model.predict_proba(X))


@pytest.mark.parametrize("head", ["auto", "ridge", "kernel-ridge"])
def test_every_regression_head_survives_saving(head, tmp_path):
    X, y = load_diabetes(return_X_y=True)
    model = FeatureExtraction(head=head, task="regression").fit(X, y)
    model.save(tmp_path / "run")
    np.testing.assert_array_equal(graft.load(tmp_path / "run").predict(X), model.predict(X))


def test_a_run_of_another_network_is_refused(minilm, messages, tmp_path):
    other = load_backbone("minilm", pretrained=False)
    model = FeatureExtraction(minilm, head="prototype").fit(messages[0][:40], messages[1][:40])
    model.save(tmp_path / "run")
    with pytest.raises(RunError, match="weights"):
        graft.load(tmp_path / "run", backbone=other)
    with pytest.raises(RunError, match="layer"):
        graft.load(tmp_path / "run", backbone=minilm.with_output(layer=-2))


def test_what_cannot_be_used_is_said():
    X, y = load_iris(return_X_y=True)
    with pytest.raises(RequestError, match="logistic"):
        FeatureExtraction(head="logistics").fit(X, y)
    with pytest.raises(RequestError, match="efficientnet_lite0"):
        FeatureExtraction("eficientnet_lite0").fit(["a.jpg"], ["a"])
    with pytest.raises(DataError, match="150 values"):
        FeatureExtraction().fit(X, y[:-1])
    with pytest.raises(DataError, match="at least 2 classes"):
        FeatureExtraction().fit(X, np.zeros(150, dtype=int))
    with pytest.raises(RequestError, match="task"):
        FeatureExtraction(task="clasification").fit(X, y)
    with pytest.raises(DataError, match="'zebra'"):
        FeatureExtraction().fit(X, y.astype(str)).evaluate(X[:2], ["0", "zebra"])


def test_the_seed_decides_and_leaves_no_trace(photos):
    before = np.random.get_state()[1].copy()
    first, second = (
        FeatureExtraction("efficientnet_lite0", views=2, random_state=3).fit(photos.inputs, photos.labels)
        for _ in range(2)
    )
    np.testing.assert_array_equal(first.predict_proba(photos.inputs), second.predict_proba(photos.inputs))
    np.testing.assert_array_equal(np.random.get_state()[1], before)


def test_leaves_are_told_apart_from_arrays():
    domain = leaves("scan", per_class=6, size=96)
    model = FeatureExtraction("efficientnet_lite0").fit(domain.inputs, domain.labels[:, 0])
    assert model.validation_.metrics["accuracy"].value > 0.5


def test_paths_of_images_are_no_texts(minilm, photos):
    with pytest.raises(DataError, match="paths of images"):
        FeatureExtraction(minilm).fit(photos.inputs, photos.labels)


def test_nothing_that_can_be_read_is_said(tmp_path):
    with pytest.raises(UnreadableInputsError, match=r"nowhere\.jpg"):
        FeatureExtraction("efficientnet_lite0").fit([str(tmp_path / "nowhere.jpg")] * 2, ["a", "b"])


def test_the_score_compares_labels_as_python_does():
    X, y = load_iris(return_X_y=True)
    model = FeatureExtraction(head="discriminant").fit(X, y)
    gaps = y.astype(float)
    gaps[::5] = np.nan
    assert model.score(X, y.astype(float)) == model.score(X, y) > 0.9
    assert model.score(X, gaps) > 0.9
    for wrong in (y[:-1], np.append(y, 0)):
        with pytest.raises(DataError, match="150 values"):
            model.evaluate(X, wrong)
    with pytest.raises(DataError, match="sample_weight"):
        FeatureExtraction(head="discriminant").fit(X, y, sample_weight=np.ones(151))


def test_multilabel_columns_are_known_by_name(tmp_path):
    rng = np.random.default_rng(0)
    X = rng.normal(size=(80, 4))
    Y = pd.DataFrame({"left": (X[:, 0] > 0).astype(int), "up": (X[:, 1] > 0).astype(int)})
    model = FeatureExtraction().fit(X, Y)
    assert model.classes_.tolist() == ["left", "up"]
    model.save(tmp_path / "run")
    back = graft.load(tmp_path / "run")
    np.testing.assert_array_equal(back.predict_proba(X), model.predict_proba(X))
    assert back.score(X, Y[["up", "left"]]) == model.score(X, Y) > 0.9
    with pytest.raises(DataError, match="'left', 'up'"):
        model.evaluate(X, Y["up"])
    assert FeatureExtraction(task="multilabel").fit(X, Y["up"]).predict(X).shape == (80, 1)


def test_labels_written_true_and_false_are_predicted_so(tmp_path):
    X = np.random.default_rng(0).normal(size=(80, 4))
    Y = pd.DataFrame({"left": X[:, 0] > 0, "up": X[:, 1] > 0}).astype(object)
    Y.iloc[3, 0] = None
    model = FeatureExtraction().fit(X, Y)
    model.save(tmp_path / "run")
    for one in (model, graft.load(tmp_path / "run"), FeatureExtraction(task="multilabel").fit(X, Y)):
        assert one.predict(X).dtype == bool
        assert one.predictions(X).labels.dtype == bool
        answers = one.predict(np.vstack([X, np.full((1, 4), 1e6)]), reject=0.05)
        assert answers[-1].tolist() == [None, None]
        assert {type(value) for value in answers[answers != None].ravel().tolist()} == {bool}  # noqa: E711
    assert model.score(X, Y) > 0.9
    assert FeatureExtraction().fit(X, Y.astype(float)).predict(X).dtype == float
