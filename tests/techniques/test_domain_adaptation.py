"""Domain adaptation: a labelled source, another target; in scikit-learn's conventions."""

import numpy as np
import pytest
import scipy.sparse as sp
from sklearn.base import clone
from sklearn.datasets import load_iris
from sklearn.model_selection import cross_val_score

import graft
from graft import Domain, DomainAdaptation
from graft.alignment import CORAL, MCD, Alignment, InvariantHead, ManifoldRegularization, TransferComponentAnalysis
from graft.data.samples import tickets
from graft.errors import DataError, RequestError, RunError
from graft.techniques.adaptation.methods import FEATURE_METHODS, INVARIANT_HEADS, feature_method
from graft.techniques.adaptation.tournament import CANDIDATES, tournament

pytestmark = pytest.mark.usefixtures("tournaments_in_time")

# What weighs examples of the source, and cannot help where the domains do not overlap.
WEIGHING = ("classifier", "kliep", "ulsif", "rulsif", "kmm", "nearest-neighbors", "bbse", "rlls", "maximum-likelihood")
MOVING = ("coral", "subspace-alignment", "geodesic-flow", "transport", "sinkhorn", "class-transport", "meda")


@pytest.fixture(scope="module")
def domains():
    """Three kinds of trees; in the target, everything is measured with another instrument."""
    draws = np.random.default_rng(0)
    X = draws.normal(size=(150, 5)) + np.repeat(np.eye(5)[:3] * 4, 50, axis=0)
    y = np.repeat(["ash", "elm", "oak"], 50)
    order = draws.permutation(150)
    moved = (X @ np.diag([1, 1.2, 0.8, 1, 1]) + [1.5, 0, -1, 0, 0] + draws.normal(size=X.shape) * 0.1)[order]
    return X, y, moved, y[order]


@pytest.fixture(scope="module")
def auto(domains):
    X, y, target, _ = domains
    return DomainAdaptation().fit(X, y, target=Domain(target))


# What needs labels of the target is tested by itself.
UNLABELLED = tuple(name for name in FEATURE_METHODS if name != "tradaboost")


@pytest.mark.parametrize("method", UNLABELLED)
def test_every_method_fits_predicts_and_is_saved(domains, method, tmp_path):
    X, y, target, truth = domains
    before = X.copy(), target.copy()
    model = DomainAdaptation(method=method).fit(X, y, target=Domain(target))
    np.testing.assert_array_equal(X, before[0])
    np.testing.assert_array_equal(target, before[1])
    assert list(model.classes_) == ["ash", "elm", "oak"]
    probabilities = model.predict_proba(target)
    np.testing.assert_allclose(probabilities.sum(axis=1), 1, atol=1e-6)
    np.testing.assert_array_equal(model.classes_[probabilities.argmax(axis=1)], model.predict(target))
    assert model.score(target, truth) > 0.8
    assert model.adaptation_["method"] == method
    assert model.adaptation_["shift"]["shift"]
    assert 0 < model.adaptation_["shift"]["effective_share"] <= 1
    model.save(tmp_path / "run")
    again = graft.load(tmp_path / "run")
    np.testing.assert_array_equal(again.predict_proba(target), probabilities)
    assert again.adaptation_ == model.adaptation_


@pytest.mark.parametrize("method", MOVING)
def test_alignments_mend_what_an_instrument_did(domains, method):
    X, y, target, truth = domains
    plain = DomainAdaptation(method="source-only").fit(X, y, target=Domain(target))
    model = DomainAdaptation(method=method).fit(X, y, target=Domain(target))
    assert plain.score(target, truth) < 0.95 < 0.97 < model.score(target, truth)


def test_new_target_examples_are_predicted_like_those_of_the_fit(domains):
    X, y, target, truth = domains
    model = DomainAdaptation(method="coral").fit(X, y, target=Domain(target[::2]))
    assert model.score(target[1::2], truth[1::2]) > 0.97


@pytest.mark.parametrize("method", ["classifier", "kmm", "maximum-likelihood"])
def test_how_far_weights_are_flattened_is_chosen_and_told(domains, method):
    X, y, target, _ = domains
    told = DomainAdaptation(method=method).fit(X, y, target=Domain(target)).adaptation_["weights"]
    assert told["method"]
    assert 0 <= told["exponent"] <= 1
    assert told["reason"]


def test_weights_without_overlap_leave_the_source_as_it_is(domains):
    X, y, target, _ = domains
    weighted = DomainAdaptation(method="classifier").fit(X, y, target=Domain(target + 50))
    plain = DomainAdaptation(method="source-only").fit(X, y, target=Domain(target + 50))
    assert weighted.adaptation_["weights"]["exponent"] == 0
    np.testing.assert_array_equal(weighted.predict_proba(target), plain.predict_proba(target))


def test_auto_adapts_where_it_helps_and_tells_why(auto, domains):
    *_, target, truth = domains
    assert auto.score(target, truth) > 0.97
    told = auto.adaptation_["tournament"]
    assert told["chosen"] == auto.adaptation_["method"] != "source-only"
    assert told["chosen"] in told["reason"].lower()
    # Weights that had to be made flat leave the source as it is: a second copy of it has no voice.
    copies = {name for name, why in told["left_out"].items() if why == "it answers like 'source-only'"}
    assert copies == set(told["left_out"]) <= {"classifier", "maximum-likelihood"}
    assert set(told["candidates"]) == set(CANDIDATES["classification"]) - copies
    assert all(one["scores"] for one in told["candidates"].values())


def test_the_consensus_is_one_classifier_and_is_saved(auto, domains, tmp_path):
    *_, target, truth = domains
    assert auto.adaptation_["method"] == "consensus"
    assert isinstance(auto.head_.head, ManifoldRegularization)
    told = auto.adaptation_["tournament"]
    assert sum(one["voice"] for one in told["candidates"].values()) == pytest.approx(1)
    again = graft.load(auto.save(tmp_path / "run"))
    np.testing.assert_array_equal(again.predict_proba(target), auto.predict_proba(target))
    np.testing.assert_array_equal(again.predict(target, reject=0.05), auto.predict(target, reject=0.05))
    assert again.score(target, truth) == auto.score(target, truth)
    assert again.adaptation_ == auto.adaptation_


def test_the_consensus_hears_the_labels_that_the_target_has(domains):
    X, y, target, truth = domains
    # Every example of a far corner is called by a name that no candidate would guess from the others.
    corner = np.argsort(target[:, 4])[:10]
    known = np.full(len(target), None, dtype=object)
    known[corner] = np.where(truth[corner] == "ash", "elm", "ash")
    blind = DomainAdaptation().fit(X, y, target=Domain(target))
    model = DomainAdaptation().fit(X, y, target=Domain(target, known))
    columns = np.searchsorted(model.classes_, known[corner].astype(str))
    told = model.predict_proba(target)[corner, columns]
    assert (told > blind.predict_proba(target)[corner, columns]).all()


def test_domains_that_were_each_standardised_are_adapted_with_a_warning():
    draws = np.random.default_rng(0)
    y = np.repeat(["ash", "elm"], 50)
    X, there = (draws.normal(size=(100, 20)) + np.where(y == "ash", -2, 2)[:, None] * np.eye(20)[0] for _ in range(2))
    here, there = ((table - table.mean(axis=0)) / table.std(axis=0) for table in (X, there))
    model = DomainAdaptation(head="logistic").fit(here, y, target=Domain(there))
    # What is above the mean in one half lies below it in the other: wrong more often than a coin.
    assert model.adaptation_["shift"]["auc"]["high"] < 0.5
    told = model.adaptation_["tournament"]
    assert any("standardised by itself" in warning for warning in told["warnings"])
    assert "coral" in told["candidates"]
    assert model.score(there, y) > 0.9


def test_auto_stays_with_the_source_where_there_is_no_shift():
    draws = np.random.default_rng(1)
    X = draws.normal(size=(400, 4))
    y = np.where(X[:, 0] + 0.5 * draws.normal(size=400) > 0, "yes", "no")
    model = DomainAdaptation().fit(X[:200], y[:200], target=Domain(X[200:]))
    plain = DomainAdaptation(method="source-only").fit(X[:200], y[:200], target=Domain(X[200:]))
    assert not model.adaptation_["shift"]["shift"]
    assert model.adaptation_["shift"]["hint"] == "none"
    assert model.adaptation_["method"] == "source-only"
    assert "no difference" in model.adaptation_["tournament"]["left_out"]["coral"]
    np.testing.assert_array_equal(model.predict_proba(X), plain.predict_proba(X))


def test_source_only_is_feature_extraction(domains):
    X, y, target, _ = domains
    model = DomainAdaptation(method="source-only", head="logistic").fit(X, y, target=Domain(target))
    plain = graft.FeatureExtraction(head="logistic").fit(X, y)
    np.testing.assert_allclose(model.predict_proba(target), plain.predict_proba(target), atol=1e-12)


def test_labels_of_the_target_choose_nothing_when_they_are_missing(domains):
    X, y, target, _ = domains
    nothing = np.full(len(target), None, dtype=object)
    with_column = DomainAdaptation(method="bda").fit(X, y, target=Domain(target, nothing))
    without = DomainAdaptation(method="bda").fit(X, y, target=Domain(target))
    np.testing.assert_array_equal(with_column.predict_proba(target), without.predict_proba(target))


@pytest.mark.parametrize("method", UNLABELLED)
def test_a_few_labelled_target_examples_help_every_method(method):
    """What tells the classes apart in the target says nothing in the source: only labels can tell."""
    draws = np.random.default_rng(0)
    ways = np.eye(3)[[0, 1]]
    y = np.repeat(["left", "right"], 60)
    sign = np.where(y == "left", -2, 2)[:, None]
    X, target = (draws.normal(size=(120, 3)) + sign * way for way in ways)
    known = np.full(120, None, dtype=object)
    known[::6] = y[::6]
    few = DomainAdaptation(method=method).fit(X, y, target=Domain(target, known))
    none = DomainAdaptation(method=method).fit(X, y, target=Domain(target))
    assert few.adaptation_["target"] == {"examples": 120, "labelled": 20, "left_out": 0}
    assert few.score(target, y) > none.score(target, y) + 0.1


def test_string_and_signed_labels_give_the_same_model(domains):
    X, y, target, _ = domains
    two = y != "oak"
    signed = np.where(y[two] == "ash", -1, 1)
    words = DomainAdaptation(method="coral").fit(X[two], y[two], target=Domain(target))
    numbers = DomainAdaptation(method="coral").fit(X[two], signed, target=Domain(target))
    np.testing.assert_array_equal(np.where(words.predict(target) == "ash", -1, 1), numbers.predict(target))


@pytest.mark.parametrize("method", ["source-only", "classifier", "kmm", "coral", "tca", "meda", "mcc-head"])
def test_sparse_features_are_taken(domains, method):
    X, y, target, _ = domains
    model = DomainAdaptation(method=method).fit(sp.csr_matrix(X), y, target=Domain(sp.csr_matrix(target)))
    assert set(model.predict(sp.csr_matrix(target))) <= {"ash", "elm", "oak"}


@pytest.mark.parametrize("method", UNLABELLED)
def test_the_target_may_lack_a_class(domains, method):
    X, y, target, truth = domains
    there = truth != "oak"
    model = DomainAdaptation(method=method).fit(X, y, target=Domain(target[there]))
    assert model.score(target[there], truth[there]) > 0.55
    assert len(model.classes_) == 3


def test_inside_cross_validation_the_target_stays_whole(domains):
    X, y, target, truth = domains
    sizes = []

    class Watching(Domain):
        pass

    domain = Watching(target[: len(X)])

    def score(model, inputs, labels):
        sizes.append(model.adaptation_["target"]["examples"])
        return model.score(target, truth)

    found = cross_val_score(DomainAdaptation(method="coral"), X, y, cv=3, params={"target": domain}, scoring=score)
    assert sizes == [len(X)] * 3
    assert (found > 0.9).all()


def test_cloning_keeps_a_method_of_ones_own(domains):
    X, y, target, _ = domains
    model = clone(DomainAdaptation(method=TransferComponentAnalysis(n_components=2)))
    model.fit(X, y, target=Domain(target))
    assert model.head_.mapping.n_outputs_ == 2
    assert model.adaptation_["method"] == "TransferComponentAnalysis"


def test_weights_favour_the_source_domain_that_resembles_the_target():
    draws = np.random.default_rng(0)
    near, far = draws.normal(size=(100, 2)), draws.normal(5, 1, size=(100, 2))
    X = np.concatenate([near, far])
    y = np.where(X[:, 0] > np.repeat([0.0, 5.0], 100), "b", "a")
    model = DomainAdaptation(method="source-only").fit(
        X, y, target=Domain(draws.normal(0.3, 1, size=(100, 2))), domains=np.repeat(["near", "far"], 100)
    )
    shares = model.adaptation_["domains"]
    assert shares["near"] > 0.9
    assert sum(shares.values()) == pytest.approx(1)


# Where inputs move and their labels with them, an alignment moves them back; where only other inputs are frequent,
# weights tell which. (Which of the two it is, numbers do not tell without labels: "auto" stays careful.)
MOVED_BACK = ["coral", "linear-transport"]
MADE_FREQUENT = ["auto", "source-only", "classifier", "kmm"]


@pytest.mark.parametrize(("method", "moved"), [(m, 2.0) for m in MOVED_BACK] + [(m, 0.0) for m in MADE_FREQUENT])
def test_numbers_are_predicted_in_another_domain(method, moved):
    draws = np.random.default_rng(0)
    X, there = draws.normal(size=(150, 3)), draws.normal(0.0 if moved else 0.7, 1, size=(150, 3))
    target = Domain(there + moved)
    model = DomainAdaptation(method=method, task="regression").fit(X, X @ [1, 2, 3] + 1, target=target)
    assert model.score(there + moved, there @ [1, 2, 3] + 1) > 0.8


@pytest.mark.parametrize(
    ("method", "moved"), [("coral", 2.0), ("auto", 0.0), ("source-only", 0.0), ("classifier", 0.0)]
)
def test_several_labels_are_predicted_in_another_domain(method, moved):
    draws = np.random.default_rng(0)
    X, there = draws.normal(size=(150, 3)), draws.normal(0.0 if moved else 0.5, 1, size=(150, 3))
    table = (X[:, :2] > 0).astype(int)
    target = Domain(there + moved)
    model = DomainAdaptation(method=method, label_names=["sunny", "warm"]).fit(X, table, target=target)
    assert list(model.classes_) == ["sunny", "warm"]
    assert model.score(there + moved, (there[:, :2] > 0).astype(int)) > 0.8


def test_the_budget_leaves_out_what_is_dear(domains):
    X, y, target, _ = domains
    model = DomainAdaptation(budget=0.0).fit(X, y, target=Domain(target))
    assert model.adaptation_["method"] == "source-only"
    left_out = model.adaptation_["tournament"]["left_out"]
    assert set(left_out) == set(CANDIDATES["classification"]) - {"source-only"}
    assert all("budget" in reason for reason in left_out.values())


def test_texts_of_another_domain():
    bank, telecom = tickets("bank"), tickets("telecom")
    urgency = bank.labels[:, 1].astype(str)
    model = DomainAdaptation("minilm", method="coral").fit(bank.inputs, urgency, target=Domain(telecom.inputs))
    assert model.score(telecom.inputs, telecom.labels[:, 1].astype(str)) > 0.5


def test_what_is_foreign_is_foreign_to_the_target(domains):
    X, y, target, _ = domains
    model = DomainAdaptation(method="source-only").fit(X, y, target=Domain(target))
    assert np.mean([label is None for label in model.predict(target, reject=0.05)]) < 0.1
    assert (model.predict(target + 100, reject=0.05) == None).all()  # noqa: E711


@pytest.mark.parametrize(
    ("change", "named"),
    [
        ({"method": "korall"}, "'coral'"),
        ({"head": "logistik"}, "'logistic'"),
        ({"budget": -1.0}, "budget"),
    ],
)
def test_wrong_options_are_named(domains, change, named):
    X, y, target, _ = domains
    with pytest.raises(RequestError, match=named):
        DomainAdaptation(**change).fit(X, y, target=Domain(target))


def test_a_method_for_classes_alone_says_which_can_do_numbers(domains):
    X, _, target, _ = domains
    with pytest.raises(RequestError, match="coral"):
        DomainAdaptation(method="meda", task="regression").fit(X, X[:, 0], target=Domain(target))


def test_a_target_that_is_no_domain_is_refused(domains):
    X, y, target, _ = domains
    with pytest.raises(RequestError, match=r"graft\.Domain"):
        DomainAdaptation().fit(X, y, target=target)


def test_other_columns_in_the_target_are_refused(domains):
    X, y, target, _ = domains
    with pytest.raises(DataError, match="5 values"):
        DomainAdaptation().fit(X, y, target=Domain(target[:, :3]))


def test_a_label_that_the_source_does_not_have_is_refused(domains):
    X, y, target, _ = domains
    with pytest.raises(DataError, match="yew"):
        DomainAdaptation().fit(X, y, target=Domain(target, ["yew"] * len(target)))


def test_without_a_target_a_warning_says_that_nothing_is_adapted(domains):
    X, y, *_ = domains
    with pytest.warns(UserWarning, match="No target"):
        DomainAdaptation(method="source-only").fit(X, y)


def test_the_tournament_gives_the_same_twice(auto, domains):
    X, y, target, _ = domains
    again = clone(auto).fit(X, y, target=Domain(target))
    assert again.adaptation_["tournament"]["candidates"] == auto.adaptation_["tournament"]["candidates"]


def test_every_candidate_is_a_method_for_its_task():
    for kind, names in CANDIDATES.items():
        assert all(kind in feature_method(name).tasks for name in names)
    assert callable(tournament)


def test_an_alignment_with_options_is_saved(domains, tmp_path):
    X, y, target, _ = domains
    model = DomainAdaptation(method=CORAL(shrinkage=0.5)).fit(X, y, target=Domain(target))
    model.save(tmp_path / "run")
    assert graft.load(tmp_path / "run").method.shrinkage == 0.5


class Doubling(Alignment):
    """A user's own: twice the target is the source."""

    @property
    def _needs_labels(self):
        return False

    def _solve(self, pair):
        self.middle_ = pair.source.mean(axis=0) - 2 * pair.target.mean(axis=0)
        return pair.source.shape[1]

    def _map_source(self, features):
        return features

    def _map_target(self, features):
        return 2 * features + self.middle_


def test_an_alignment_of_ones_own_is_loaded_when_its_class_is_given(domains, tmp_path):
    X, y, target, truth = domains
    model = DomainAdaptation(method=Doubling()).fit(X, y, target=Domain(target / 2))
    assert model.score(target / 2, truth) > 0.9
    run = model.save(tmp_path / "run")
    with pytest.raises(RunError, match=r"classes=\[Doubling\]"):
        graft.load(run)
    again = graft.load(run, classes=[Doubling])
    assert isinstance(again.method, Doubling)
    np.testing.assert_array_equal(again.predict_proba(target / 2), model.predict_proba(target / 2))


def test_a_class_of_ones_own_does_not_stand_for_one_of_grafts(domains, tmp_path):
    X, y, target, _ = domains
    run = DomainAdaptation(method=CORAL()).fit(X, y, target=Domain(target)).save(tmp_path / "run")
    impostor = type("CORAL", (Doubling,), {})
    assert type(graft.load(run, classes=[impostor]).method) is CORAL


@pytest.mark.parametrize("method", ["meda", "centroids", "tradaboost"])
@pytest.mark.parametrize(
    ("option", "given"),
    [("head", {"head": "prototype"}), ("class_weight", {"class_weight": "balanced"})],
)
def test_a_classifier_of_its_own_takes_no_head(domains, method, option, given):
    X, y, target, _ = domains
    with pytest.raises(RequestError, match=option):
        DomainAdaptation(method=method, **given).fit(X, y, target=Domain(target))


@pytest.mark.parametrize("option", ["sample_weight", "domains"])
def test_a_classifier_of_its_own_takes_no_weights(domains, option):
    X, y, target, _ = domains
    with pytest.raises(RequestError, match=option):
        DomainAdaptation(method="meda").fit(X, y, target=Domain(target), **{option: np.ones(len(X))})


def test_weighted_examples_keep_classifiers_of_their_own_out_of_the_tournament(domains):
    X, y, target, _ = domains
    model = DomainAdaptation().fit(X, y, sample_weight=np.linspace(1, 2, len(X)), target=Domain(target))
    told = model.adaptation_["tournament"]
    assert {"meda", "centroids"} <= set(told["left_out"])
    assert "cdan-head" in told["candidates"]


def test_an_invariant_head_hears_weights_classes_and_several_sources(domains):
    X, y, target, _ = domains
    weight = np.where(y == "oak", 0.0, 1.0)
    balanced = {"ash": 1.0, "elm": 1.0, "oak": 1e-9}
    names = np.where(np.arange(len(X)) % 2, "here", "there")
    plain = DomainAdaptation(method="mcc-head").fit(X, y, target=Domain(target)).predict_proba(target)
    unseen = DomainAdaptation(method="mcc-head").fit(X, y, sample_weight=weight, target=Domain(target))
    rare = DomainAdaptation(method="mcc-head", class_weight=balanced).fit(X, y, target=Domain(target))
    both = DomainAdaptation(method="mcc-head").fit(X, y, domains=names, target=Domain(target))
    for other in (unseen, rare):
        assert other.predict_proba(target)[:, 2].mean() < plain[:, 2].mean() - 0.1
    assert set(both.adaptation_["domains"]) == {"here", "there"}
    with pytest.raises(RequestError, match="head"):
        DomainAdaptation(method="mcc-head", head="logistic").fit(X, y, target=Domain(target))


def test_an_invariant_head_with_options_of_ones_own_is_saved(domains, tmp_path):
    X, y, target, truth = domains
    own = InvariantHead(MCD(hidden=16), width=32, n_steps=100, learning_rate=5e-3, random_state=7)
    model = clone(DomainAdaptation(method=own)).fit(X, y, target=Domain(target))
    assert model.score(target, truth) > 0.9
    assert model.adaptation_["method"] == "InvariantHead"
    again = graft.load(model.save(tmp_path / "run"))
    assert (again.method.loss, again.method.random_state) == (MCD(hidden=16), 7)
    np.testing.assert_array_equal(again.predict_proba(target), model.predict_proba(target))


def test_on_vectors_the_name_of_a_loss_leads_to_its_head(domains):
    X, y, target, _ = domains
    for name in INVARIANT_HEADS:
        with pytest.raises(RequestError, match=name):
            DomainAdaptation(method=name.removesuffix("-head")).fit(X, y, target=Domain(target))


def test_of_given_splits_the_target_has_its_train_split_adapted_to(domains):
    X, y, target, truth = domains
    splits = np.where(np.arange(len(target)) % 2, "train", "test")
    some = np.where(splits == "test", truth, None)
    model = DomainAdaptation(method="coral").fit(X, y, target=Domain(target, some, splits=splits))
    assert model.adaptation_["target"] == {"examples": 75, "labelled": 0, "left_out": 0}


def test_columns_of_labels_are_matched_by_name():
    draws = np.random.default_rng(0)
    X = draws.normal(size=(80, 3))
    table = (X[:, :2] > 0).astype(float)
    there, known = X + 5, np.full((80, 2), np.nan)
    known[:20] = table[:20, ::-1]
    model = DomainAdaptation(method="coral", label_names=["p", "q"])
    model.fit(X, table, target=Domain(there, known, tasks=("q", "p")))
    right = DomainAdaptation(method="coral", label_names=["p", "q"])
    right.fit(X, table, target=Domain(there, known[:, ::-1], tasks=("p", "q")))
    np.testing.assert_array_equal(model.predict_proba(there), right.predict_proba(there))


def test_labels_may_stand_in_a_column(domains):
    X, y, target, _ = domains
    column = DomainAdaptation(method="coral").fit(X, y[:, None], target=Domain(target))
    flat = DomainAdaptation(method="coral").fit(X, y, target=Domain(target))
    np.testing.assert_array_equal(column.predict(target), flat.predict(target))


def test_target_numbers_of_another_shape_are_refused(domains):
    X, _, target, _ = domains
    with pytest.raises(DataError, match="labels of the target"):
        DomainAdaptation(method="coral", task="regression").fit(
            X, X[:, 0], target=Domain(target, np.ones((len(target), 2)))
        )


def test_every_source_example_needs_a_domain(domains):
    X, y, target, _ = domains
    names = np.full(len(X), "here", dtype=object)
    names[3] = None
    with pytest.raises(DataError, match="domains"):
        DomainAdaptation(method="coral").fit(X, y, target=Domain(target), domains=names)


def test_one_target_example_is_too_few(domains):
    X, y, target, _ = domains
    with pytest.raises(DataError, match="2 or more"):
        DomainAdaptation(method="source-only").fit(X, y, target=Domain(target[:1]))


def test_either_domain_may_be_sparse(domains):
    X, y, target, _ = domains
    dense = DomainAdaptation(method="coral").fit(X, y, target=Domain(target))
    mixed = DomainAdaptation(method="coral").fit(X, y, target=Domain(sp.csr_matrix(target)))
    np.testing.assert_array_equal(dense.predict(target), mixed.predict(target))


def test_several_labels_with_an_unknown_cell_in_every_row_are_taken():
    draws = np.random.default_rng(0)
    X, there = draws.normal(size=(80, 3)), draws.normal(1.5, 1, size=(80, 3))
    table = (X[:, :2] > 0).astype(float)
    table[np.arange(80), np.arange(80) % 2] = np.nan
    model = DomainAdaptation(label_names=["p", "q"]).fit(X, table, target=Domain(there))
    assert model.predict(there).shape == (80, 2)


@pytest.fixture(scope="module")
def misleading():
    """Three kinds told apart by two columns; a part of the source has two of the names the wrong way round."""
    draws = np.random.default_rng(0)
    y = np.repeat(["oak", "ash", "elm"], 60)
    places = {"ash": (3, 0), "elm": (0, 3), "oak": (-3, -3)}
    X, target = (draws.normal(size=(180, 4)) + [[*places[name], 0, 0] for name in y] for _ in range(2))
    told = np.where(y == "ash", "elm", np.where(y == "elm", "ash", y))
    told[::3] = y[::3]
    some = np.full(180, None, dtype=object)
    some[::9] = y[::9]
    return X, told, target, some, y


def test_boosting_follows_the_labels_of_the_target_where_the_source_misleads(misleading, tmp_path):
    X, told, target, some, truth = misleading
    hidden = some == np.array(None)
    plain = DomainAdaptation(method="source-only").fit(X, told, target=Domain(target, some))
    model = DomainAdaptation(method="tradaboost").fit(X, told, target=Domain(target, some))
    assert plain.score(target[hidden], truth[hidden]) + 0.2 < model.score(target[hidden], truth[hidden])
    assert list(model.classes_) == ["ash", "elm", "oak"]
    probabilities = model.predict_proba(target)
    assert (probabilities > 0).all()
    np.testing.assert_allclose(probabilities.sum(axis=1), 1)
    np.testing.assert_array_equal(model.classes_[probabilities.argmax(axis=1)], model.predict(target))
    again = graft.load(model.save(tmp_path / "run"))
    np.testing.assert_array_equal(again.predict_proba(target), probabilities)
    assert not list((tmp_path / "run").glob("*.pkl"))


def test_boosting_takes_sparse_features(misleading):
    X, told, target, some, truth = misleading
    model = DomainAdaptation(method="tradaboost")
    model.fit(sp.csr_matrix(X), told, target=Domain(sp.csr_matrix(target), some))
    assert model.score(sp.csr_matrix(target), truth) > 0.8


def test_boosting_without_labels_of_the_target_says_how_to_give_them(misleading):
    X, told, target, *_ = misleading
    with pytest.raises(DataError, match=r"labels of the target.*Domain\(inputs, labels\)"):
        DomainAdaptation(method="tradaboost").fit(X, told, target=Domain(target))
    assert all("tradaboost" not in names for names in CANDIDATES.values())


def test_a_label_of_the_target_whose_class_the_source_lost_is_refused():
    X, y = load_iris(return_X_y=True)
    gone = np.where((y == 1)[:, None], np.nan, X)
    model = DomainAdaptation(method="coral")
    with pytest.raises(DataError, match="labels of the target"), pytest.warns(UserWarning, match="could be read"):
        model.fit(gone, y, target=Domain(X, y))
