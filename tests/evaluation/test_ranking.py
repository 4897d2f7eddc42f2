"""Ranking of pretrained networks: estimates make the shortlist, the probe decides, and what disagrees is shown."""

import itertools
import json

import numpy as np
import pytest
import torch

import graft
from graft.backbones import FeaturePreprocessing, ImagePreprocessing, module_backbone
from graft.cli import main
from graft.errors import DataError, RequestError, UnreadableInputsError
from graft.evaluation import rank_backbones
from graft.evaluation.probe import fold_numbers, lead, probe
from graft.evaluation.ranking_table import kendall, mean_ranks
from graft.metrics import h_score, logme

QUICK = {"head": "discriminant", "store": False}


def network(noise=0.0, *, width=12, name="", seed=0):
    """An orthogonal map of 12 values, of which a share is replaced by something that knows nothing of the input."""
    draw = torch.Generator().manual_seed(seed)
    turned = torch.linalg.qr(torch.randn(12, 12, generator=draw))[0][:width]
    layer = torch.nn.Linear(12, width, bias=False)
    with torch.no_grad():
        # The first two values carry the classes; noise lets them fade.
        kept = torch.ones(12)
        kept[:3] = 1 - noise
        layer.weight.copy_(turned * kept)
    return module_backbone(
        torch.nn.Sequential(layer, torch.nn.Tanh()), preprocessing=FeaturePreprocessing(), name=name or f"noise {noise}"
    )


def examples(count=120, classes=3, seed=0):
    draw = np.random.default_rng(seed)
    labels = np.repeat(np.arange(classes), count // classes)
    vectors = draw.normal(size=(len(labels), 12)).astype(np.float32)
    vectors[np.arange(len(labels)), labels] += 2
    return vectors, np.array(["red", "green", "blue", "grey"])[labels]


def test_a_degraded_copy_ranks_below_by_every_estimate_and_by_the_probe():
    X, y = examples()
    copies = {f"noise {noise}": network(noise) for noise in (0.9, 0.0, 1.0)}
    found = rank_backbones(X, y, copies, **QUICK)
    assert [row.backbone for row in found.rows] == ["noise 0.0", "noise 0.9", "noise 1.0"]
    best, middle, worst = found.rows
    for name in ("h_score", "logme", "nleep", "gbc", "knn"):
        assert best.estimates[name] > middle.estimates[name], name
        assert best.estimates[name] > worst.estimates[name], name
    assert best.mean_rank == 1
    assert best.score.value > worst.score.value
    assert found.disagreement["mean_rank"] == 1


def test_the_order_of_the_networks_changes_nothing():
    X, y = examples()
    copies = [(f"noise {noise}", network(noise)) for noise in (0.0, 0.5, 0.9)]
    ranked = [rank_backbones(X, y, dict(order), **QUICK) for order in itertools.permutations(copies)]
    for one in ranked:
        assert [row.backbone for row in one.rows] == [row.backbone for row in ranked[0].rows]
        assert [row.score for row in one.rows] == [row.score for row in ranked[0].rows]
        assert one.lead == ranked[0].lead


def test_the_estimates_make_the_shortlist_and_the_probe_decides():
    X, y = examples()
    copies = {f"noise {noise}": network(noise, seed=3) for noise in (0.2, 0.4, 0.8, 1.0)}
    found = rank_backbones(X, y, copies, shortlist=2, **QUICK)
    ranks = [row.mean_rank for row in found.rows]
    assert len(found.shortlist) == 2
    assert {row.backbone for row in found.shortlist} == {"noise 0.2", "noise 0.4"}
    assert max(ranks[:2]) < min(ranks[2:])
    assert ranks[2:] == sorted(ranks[2:])
    scores = [row.score.value for row in found.shortlist]
    assert scores == sorted(scores, reverse=True)
    assert all(row.score is None for row in found.rows[2:])


def test_the_probe_is_held_out_and_the_same_for_equal_features():
    X, y = examples(60)
    twins = {"one": network(0.0), "two": network(0.0, name="twin")}
    found = rank_backbones(X, y, twins, **QUICK)
    assert found.rows[0].score == found.rows[1].score
    assert found.lead.value == 0
    assert not found.measurable
    assert found.disagreement["mean_rank"] is None  # nothing to order
    random = rank_backbones(X, np.random.default_rng(0).permutation(y), twins, **QUICK)
    assert random.best.score.value < 0.55  # a head that had seen its own examples would know them


def test_disagreement_is_shown():
    X, y = examples()
    found = rank_backbones(X, y, {"plain": network(0.0), "faded": network(0.9)}, **QUICK)
    assert "tau" in str(found)
    assert found.agreement == 1
    plain = found.to_dict()
    assert set(plain["disagreement"]) == {"h_score", "logme", "nleep", "gbc", "knn", "mean_rank"}
    assert json.loads(json.dumps(plain, allow_nan=False)) == plain


def test_the_verdict_says_when_the_estimates_would_have_chosen_another():
    X, y = examples()
    found = rank_backbones(X, y, {"plain": network(0.0), "faded": network(0.9)}, **QUICK)
    first, second = found.rows
    from dataclasses import replace

    turned = replace(found, rows=(replace(first, mean_rank=2.0), replace(second, mean_rank=1.0)))
    assert f"The estimates alone would have put {second.backbone}" in turned.verdict()
    assert "would have put" not in found.verdict()


def test_layers_are_candidates_of_each_network_that_has_them():
    X, y = examples()
    deep = module_backbone(
        torch.nn.Sequential(torch.nn.Linear(12, 8), torch.nn.Tanh(), torch.nn.Linear(8, 6)),
        preprocessing=FeaturePreprocessing(),
        name="deep",
    )
    found = rank_backbones(X, y, [network(name="flat"), deep], layers=[None, "0", "2"], **QUICK)
    assert {(row.backbone, row.layer) for row in found.rows} == {
        ("flat", None),
        ("flat", ("0",)),
        ("deep", None),
        ("deep", ("0",)),
        ("deep", ("2",)),
    }
    assert {row.feature_dim for row in found.rows if row.backbone == "deep"} == {6, 8}
    with pytest.raises(RequestError, match="nowhere"):
        rank_backbones(X, y, [deep], layers=["nowhere"], **QUICK)


def test_estimates_of_the_rows_agree_with_the_formulas():
    X, y = examples(60)
    found = rank_backbones(X, y, [None], **QUICK)
    assert found.best.backbone == "identity"
    assert found.best.estimates["h_score"] == pytest.approx(h_score(X, y))
    assert found.best.estimates["logme"] == pytest.approx(logme(X, y))
    assert found.lead is None
    assert "the only one" in found.verdict()


def test_mean_ranks_and_kendall_are_those_of_the_definitions():
    ranks = mean_ranks(
        [{"a": 3.0, "b": 1.0, "c": None}, {"a": 2.0, "b": 1.0, "c": 1.0}, {"a": 1.0, "b": 5.0, "c": 2.0}]
    )
    assert ranks == [(1 + 2.5) / 2, (2 + 2.5) / 2, (3 + 1) / 2]
    one, other = [1, 2, 3, 4], [1, 3, 2, 4]
    pairs = [np.sign((one[i] - one[j]) * (other[i] - other[j])) for i, j in itertools.combinations(range(4), 2)]
    assert kendall(one, other) == pytest.approx(np.mean(pairs))
    assert kendall([1, 1], [1, 2]) is None


@pytest.mark.parametrize("seed", range(3))
def test_folds_divide_no_group_and_spread_the_classes(seed):
    _, y = examples(90)
    groups = np.arange(90) // 3
    task = graft.Task("", "classification", ("blue", "green", "red"))
    alone = fold_numbers(y, None, task, 5, seed)
    assert set(alone.tolist()) == {0, 1, 2, 3, 4}
    for name in np.unique(y):
        counts = np.bincount(alone[y == name], minlength=5)
        assert counts.max() - counts.min() <= 1
    grouped = fold_numbers(y, groups, task, 5, seed)
    for group in np.unique(groups):
        assert len(np.unique(grouped[groups == group])) == 1


def test_the_lead_is_the_difference_of_the_scores_for_every_kind_of_task():
    draw = np.random.default_rng(0)
    X = draw.normal(size=(48, 6))
    numbers = X[:, :2] @ np.ones((2, 1)) + 0.1 * draw.normal(size=(48, 1))
    for kind, targets in (
        ("classification", np.where(X[:, 0] > 0, "up", "down")),
        ("regression", numbers.ravel()),
        ("multilabel", (X[:, :3] > 0).astype(float)),
    ):
        classes = {"classification": ("down", "up"), "regression": (), "multilabel": ("a", "b", "c")}[kind]
        task = graft.Task("", kind, classes)
        fold = fold_numbers(targets, None, task, 2, 0)
        head = {"classification": "discriminant", "regression": "ridge", "multilabel": "logistic"}[kind]
        parts = {"head": head, "groups": None, "random_state": 0}
        first = probe(X, targets, targets, task, fold, **parts)
        second = probe(X[:, 1:], targets, targets, task, fold, **parts)
        found = lead(task, targets, first, second, groups=None)
        assert found.value == pytest.approx(first.score(kind).value - second.score(kind).value, abs=1e-9)
        assert found.low <= found.value <= found.high
        back = lead(task, targets, second, first, groups=None)
        assert back.value == pytest.approx(-found.value)


def test_numbers_and_tables_are_ranked_by_the_estimates_that_apply():
    draw = np.random.default_rng(1)
    X = draw.normal(size=(80, 12)).astype(np.float32)
    copies = {"good": network(0.0), "bad": network(1.0)}
    numbers = X[:, 0] - 2 * X[:, 1]
    found = rank_backbones(X, numbers, copies, head="ridge", store=False)
    assert (found.task, found.metric) == ("regression", "r2")
    assert found.best.backbone == "good"
    assert found.best.estimates["gbc"] is None
    assert found.best.estimates["logme"] > found.rows[1].estimates["logme"]
    scaled = rank_backbones(X, 100 * numbers + 5, copies, head="ridge", store=False)
    assert scaled.best.estimates["logme"] == pytest.approx(found.best.estimates["logme"], rel=1e-5)
    table = (X[:, :3] > 0).astype(float)
    table[::7, 1] = np.nan
    many = rank_backbones(X, table, copies, task="multilabel", head="logistic", folds=2, store=False)
    assert (many.task, many.best.backbone) == ("multilabel", "good")
    assert many.best.estimates["knn"] > many.rows[1].estimates["knn"]


def test_groups_stay_together_in_folds_and_neighbours():
    draw = np.random.default_rng(0)
    groups = np.arange(400) // 10
    # Examples of a group are copies of each other and labels are random: only a leak could tell anything.
    X = draw.normal(size=(40, 12)).astype(np.float32)[groups]
    y = np.array(["a", "b"])[draw.permutation(np.arange(40) % 2)][groups]
    leaking = rank_backbones(X, y, [None], head="nearest-neighbors", store=False)
    honest = rank_backbones(X, y, [None], head="nearest-neighbors", groups=groups, store=False)
    assert leaking.best.score.value > 0.9
    assert leaking.best.estimates["knn"] > 0.9
    assert honest.best.score.value < 0.75
    assert honest.best.estimates["knn"] < 0.75


def test_what_cannot_be_read_is_left_out_for_all_networks(tmp_path):
    from PIL import Image

    draw = np.random.default_rng(0)
    paths = []
    for place in range(16):
        pixels = np.full((24, 24, 3), 40 if place % 2 else 200) + draw.integers(30, size=(24, 24, 3))
        Image.fromarray(pixels.astype(np.uint8)).save(tmp_path / f"{place}.png")
        paths.append(str(tmp_path / f"{place}.png"))
    (tmp_path / "3.png").write_bytes(b"no picture")
    labels = np.array(["light", "dark"] * 8)
    labels = labels.astype(object)
    labels[5] = None
    plan = ImagePreprocessing(size=(16, 16))
    torch.manual_seed(0)
    nets = [
        module_backbone(torch.nn.Conv2d(3, width, 3), preprocessing=plan, pooling="avg", name=f"{width} wide")
        for width in (4, 6)
    ]
    found = rank_backbones(paths, labels, nets, folds=2, **QUICK)
    assert found.examples == 14
    assert found.unlabelled == 1
    assert [row for row, _, _ in found.left_out] == [3]
    assert found.to_dict()["left_out"][0]["input"].endswith("3.png")
    with pytest.raises(UnreadableInputsError):
        rank_backbones(paths, labels, nets, folds=2, strict=True, **QUICK)


@pytest.mark.parametrize(
    ("options", "error", "words"),
    [
        ({"shortlist": 0}, RequestError, "shortlist"),
        ({"folds": 1}, RequestError, "folds"),
        ({"head": "svm"}, RequestError, "head"),
        ({"backbones": []}, RequestError, "backbones"),
        ({"layers": []}, RequestError, "layers"),
        ({"backbones": ["minilm"]}, DataError, "features inputs"),
        ({"folds": 200}, DataError, "labelled examples"),
        ({"task": "classify"}, RequestError, "task"),
    ],
)
def test_wrong_requests_are_refused_with_what_was_expected(options, error, words):
    X, y = examples(30)
    with pytest.raises(error, match=words):
        rank_backbones(X, y, **{"backbones": [None], "store": False, **options})


def test_classes_of_one_example_cannot_be_held_out():
    X, _ = examples(30)
    with pytest.raises(DataError, match="2 classes with 2 examples"):
        rank_backbones(X[:6], ["a", "a", "a", "a", "a", "b"], [None], store=False)


def test_two_networks_of_one_name_are_told_apart():
    X, y = examples(30)
    found = rank_backbones(X, y, [network(0.0, name="net"), network(0.5, name="net")], **QUICK)
    assert {row.backbone for row in found.rows} == {"net", "net #2"}


@pytest.fixture
def graft_command(capsys):
    def run(*words):
        capsys.readouterr()
        code = main([str(word) for word in words])
        printed = capsys.readouterr()
        return code, printed.out, printed.err

    return run


def test_the_command_ranks_layers_within_80_columns_and_as_json(tmp_path, graft_command):
    table = tmp_path / "messages.csv"
    lines = [f"please send {number} apples,buy" for number in range(12)]
    lines += [f"the parcel {number} is late,complain" for number in range(12)]
    table.write_text("text,label\n" + "\n".join(lines) + "\n", encoding="utf-8")
    words = (
        "rank",
        table,
        "--backbone",
        "minilm",
        "--layer",
        "output",
        "--layer",
        "0",
        "--folds",
        "3",
        "--head",
        "discriminant",
    )
    code, out, _ = graft_command(*words, "--json")
    assert code == 0
    plain = json.loads(out)
    assert {row["backbone"] for row in plain["rows"]} == {"minilm"}
    assert [row["layer"] is None for row in plain["rows"]].count(True) == 1
    assert plain["examples"] == 24
    code, out, _ = graft_command(*words)
    assert code == 0
    assert max(map(len, out.splitlines())) <= 80
    assert "Best: minilm" in out


def test_the_command_refuses_what_it_cannot_rank(tmp_path, graft_command):
    np.savez(tmp_path / "vectors.npz", X=examples(30)[0], y=examples(30)[1])
    np.save(tmp_path / "bare.npy", examples(30)[0])
    for words, said in (
        ((tmp_path / "vectors.npz", "--backbone", "minilm"), "feature vectors"),
        ((tmp_path / "bare.npy",), "labels"),
        ((tmp_path / "vectors.npz", "--image-size", "64"), "--image-size"),
        ((tmp_path / "nothing.csv",), "nothing.csv"),
        ((tmp_path / "vectors.npz", "--folds", "1"), "folds"),
    ):
        code, out, err = graft_command("rank", *words)
        assert (code, out) == (2, ""), words
        assert said in err
        assert "Traceback" not in err
    code, out, _ = graft_command("rank", tmp_path / "vectors.npz", "--head", "discriminant", "--json")
    assert code == 0
    assert json.loads(out)["best"]["backbone"] == "identity"
