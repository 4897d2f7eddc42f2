"""The commands as a user types them: what they print, what they leave behind, what they refuse."""

import csv
import json
import os
import re
import subprocess
import sys
from functools import partial
from pathlib import Path

import numpy as np
import pyarrow.parquet as pq
import pytest

from graft.cli import main
from graft.data.samples import LEAF_SPECIES, write_leaves, write_tickets

PHOTOS = 4 * len(LEAF_SPECIES)


FROZEN = ("--technique", "feature-extraction")


@pytest.fixture(scope="module")
def photos(tmp_path_factory):
    folder = tmp_path_factory.mktemp("data") / "photos"
    write_leaves(folder, per_class=4, size=96)
    return folder


@pytest.fixture(scope="module")
def messages(tmp_path_factory):
    path = tmp_path_factory.mktemp("data") / "messages.csv"
    write_tickets(path, domain="bank")
    return path


@pytest.fixture(scope="module")
def photo_run(photos, tmp_path_factory):
    run = tmp_path_factory.mktemp("runs") / "photos"
    assert main(["fit", str(photos), *FROZEN, "--out", str(run), "--json"]) == 0
    return run


@pytest.fixture(scope="module")
def text_run(messages, tmp_path_factory):
    run = tmp_path_factory.mktemp("runs") / "texts"
    assert main(["fit", str(messages), *FROZEN, "--label", "intent", "--out", str(run)]) == 0
    return run


@pytest.fixture
def graft(capsys):
    """Run a command; return its exit code, standard output and standard error.

    What technique is advised is not asked here: it could be one that takes long.
    """

    def run(*words):
        capsys.readouterr()
        frozen = FROZEN if words[0] == "fit" and "--technique" not in words else ()
        code = main([str(word) for word in (*words, *frozen)])
        printed = capsys.readouterr()
        return code, printed.out, printed.err

    return run


@pytest.fixture
def refused(graft):
    """Run a command that must be refused, plainly and as JSON; return the message."""

    def run(*words):
        code, out, err = graft(*words)
        assert code == 2
        assert out == ""
        assert "Traceback" not in err
        code, out, _ = graft(*words, "--json")
        assert code == 2
        error = json.loads(out)["error"]
        assert error["message"] in err
        assert error["remedy"] in err
        return err

    return run


def test_fit_prints_one_json_object(photos, tmp_path, graft):
    code, out, _ = graft("fit", photos, "--out", tmp_path / "run", "--json")
    facts = json.loads(out)
    assert code == 0
    assert facts["run"] == str(tmp_path / "run")
    assert facts["technique"] == "feature-extraction"
    assert facts["backbone"] == "efficientnet_lite0"
    assert set(facts["seconds"]) == {"features", "training", "total"}
    assert set(facts["validation"]["metrics"]["accuracy"]) == {"value", "low", "high"}


def test_fit_prints_a_table_of_at_most_80_columns(messages, tmp_path, graft):
    code, out, _ = graft("fit", messages, "--label", "intent", "--out", tmp_path / "run")
    assert code == 0
    assert "accuracy" in out
    assert str(tmp_path / "run") in out
    assert all(len(line) <= 80 for line in out.splitlines() if str(tmp_path) not in line)


def test_predict_writes_a_row_for_every_input(photo_run, photos, tmp_path, graft):
    out = tmp_path / "predictions.csv"
    code, printed, _ = graft("predict", photo_run, photos, "--out", out, "--json")
    assert code == 0
    assert json.loads(printed)["examples"] == PHOTOS
    rows = list(csv.DictReader(out.open()))
    assert len(rows) == PHOTOS
    probabilities = np.array([[float(row[key]) for key in row if key.startswith("p_")] for row in rows])
    np.testing.assert_allclose(probabilities.sum(axis=1), 1, atol=1e-4)
    classes = [key[2:] for key in rows[0] if key.startswith("p_")]
    assert [row["prediction"] for row in rows] == [classes[place] for place in probabilities.argmax(axis=1)]
    assert all(row["ood_score"] and row["error"] == "" for row in rows)


def test_predict_says_which_rows_could_not_be_read(photo_run, photos, tmp_path, graft):
    folder = tmp_path / "new"
    folder.mkdir()
    source = next(photos.rglob("*.jpg"))
    (folder / "good.jpg").write_bytes(source.read_bytes())
    (folder / "half.jpg").write_bytes(source.read_bytes()[:500])
    code, printed, _ = graft("predict", photo_run, folder, "--out", tmp_path / "p.csv")
    assert code == 0
    assert "half.jpg" in printed
    good, half = list(csv.DictReader((tmp_path / "p.csv").open()))
    assert good["prediction"]
    assert not good["error"]
    assert not half["prediction"]
    assert half["error"]


def test_predict_rejects_foreign_inputs(text_run, tmp_path, graft):
    table = tmp_path / "foreign.csv"
    table.write_text("text\ne4 e5 Nf3 Nc6 Bb5 a6 castling on the king side\n")
    code, _, _ = graft("predict", text_run, table, "--reject", "0.05", "--out", tmp_path / "p.csv")
    assert code == 0
    assert next(csv.DictReader((tmp_path / "p.csv").open()))["prediction"] == ""


def test_evaluate_prints_metrics_with_intervals(photo_run, photos, graft):
    code, out, _ = graft("evaluate", photo_run, photos, "--json")
    found = json.loads(out)
    assert code == 0
    assert found["examples"] == PHOTOS
    assert {"accuracy", "macro_f1", "log_loss", "ece"} == set(found["metrics"])
    assert np.array(found["confusion"]).sum() == PHOTOS
    code, out, _ = graft("evaluate", photo_run, photos)
    assert "macro-F1" in out
    assert "recall" in out
    assert all(len(line) <= 80 for line in out.splitlines())


def test_given_splits_are_kept(photos, tmp_path, graft):
    for split, take in (("train", slice(0, 3)), ("test", slice(3, 4))):
        for species in sorted(path for path in photos.iterdir() if path.is_dir()):
            (tmp_path / "data" / split / species.name).mkdir(parents=True)
            for file in sorted(species.iterdir())[take]:
                (tmp_path / "data" / split / species.name / file.name).write_bytes(file.read_bytes())
    code, out, _ = graft("fit", tmp_path / "data", "--out", tmp_path / "run", "--json")
    facts = json.loads(out)
    assert code == 0
    assert facts["validation"]["examples"] == 3 * len(LEAF_SPECIES)
    assert facts["test"]["examples"] == len(LEAF_SPECIES)
    code, out, _ = graft("evaluate", tmp_path / "run", tmp_path / "data", "--json")
    assert json.loads(out)["metrics"] == facts["test"]["metrics"]


def test_embed_streams_to_parquet(photos, tmp_path, graft):
    out = tmp_path / "features.parquet"
    code, printed, _ = graft("embed", photos, "--backbone", "efficientnet_lite0", "--out", out, "--json")
    assert code == 0
    assert json.loads(printed)["feature_dim"] == 1280
    table = pq.read_table(out)
    assert table.column_names == ["row", "input", "label", "features"]
    assert table.num_rows == PHOTOS
    assert np.isfinite(np.stack(table["features"].to_numpy(zero_copy_only=False))).all()


def test_check_ends_with_one_where_something_would_harm(photos, tmp_path, graft):
    code, out, _ = graft("check", photos, "--json")
    assert code == 0
    assert json.loads(out)["examples"] == PHOTOS
    folder = tmp_path / "photos"
    for species in ("a", "b"):
        (folder / species).mkdir(parents=True)
        for place, file in enumerate(sorted(photos.rglob("*.jpg"))[:3]):
            (folder / species / f"{place}.jpg").write_bytes(file.read_bytes())
    (folder / "a" / "empty.jpg").write_bytes(b"")
    code, out, _ = graft("check", folder, "--json")
    assert code == 1
    problems = json.loads(out)["problems"]
    assert all({"kind", "where", "remedy"} <= set(problem) for problem in problems)
    assert any("empty.jpg" in str(problem["where"]) for problem in problems)


def test_features_in_a_file(tmp_path, graft):
    rng = np.random.default_rng(0)
    X = rng.normal(size=(90, 6))
    np.savez(tmp_path / "data.npz", X=X, y=np.array(["low", "high"])[(X[:, 0] > 0).astype(int)])
    code, out, _ = graft("fit", tmp_path / "data.npz", "--out", tmp_path / "run", "--json")
    assert code == 0
    assert json.loads(out)["validation"]["metrics"]["accuracy"]["value"] > 0.8
    assert graft("evaluate", tmp_path / "run", tmp_path / "data.npz")[0] == 0


def test_a_regression_from_a_table(tmp_path, graft):
    rng = np.random.default_rng(0)
    X = rng.normal(size=(120, 4))
    y = X @ [1, 2, 0, -1] + 0.1 * rng.normal(size=120)
    lines = ["a,b,c,d,price", *(",".join(f"{v:.4f}" for v in (*row, value)) for row, value in zip(X, y, strict=True))]
    (tmp_path / "houses.csv").write_text("\n".join(lines))
    code, out, _ = graft("fit", tmp_path / "houses.csv", "--label", "price", "--out", tmp_path / "run", "--json")
    assert code == 0
    assert json.loads(out)["task"] == "regression"
    assert json.loads(out)["validation"]["metrics"]["r2"]["value"] > 0.9
    assert (
        graft("predict", tmp_path / "run", tmp_path / "houses.csv", "--label", "price", "--out", tmp_path / "p.csv")[0]
        == 0
    )


def test_backbones_lists_the_offline_networks(graft):
    code, out, _ = graft("backbones", "--json")
    assert code == 0
    found = {entry["name"]: entry for entry in json.loads(out)["backbones"]}
    assert found["efficientnet_lite0"]["feature_dim"] == 1280
    assert found["minilm"]["feature_dim"] == 384
    code, out, _ = graft("backbones")
    assert all(len(line) <= 80 for line in out.splitlines())


def test_the_store_is_listed_and_cleared(photos, tmp_path, graft, monkeypatch):
    monkeypatch.setenv("GRAFT_STORE", str(tmp_path / "store"))
    assert graft("fit", photos, "--out", tmp_path / "run")[0] == 0
    code, out, _ = graft("store", "--json")
    assert code == 0
    assert json.loads(out)["entries"]
    assert graft("store", "--backbone", "efficientnet_lite0", "--json") == (0, out, "")
    assert graft("store", "--clear")[0] == 0
    assert json.loads(graft("store", "--json")[1])["entries"] == []


class TestBadInput:
    def test_missing_folder(self, refused, tmp_path):
        assert "nowhere" in refused("fit", tmp_path / "nowhere", "--out", tmp_path / "run")
        assert not (tmp_path / "run").exists()

    def test_empty_folder(self, refused, tmp_path):
        (tmp_path / "empty").mkdir()
        refused("fit", tmp_path / "empty", "--out", tmp_path / "run")

    def test_one_class(self, refused, photos, tmp_path):
        (tmp_path / "data" / "only").mkdir(parents=True)
        for file in list(photos.rglob("*.jpg"))[:3]:
            (tmp_path / "data" / "only" / file.name).write_bytes(file.read_bytes())
        assert "'only'" in refused("fit", tmp_path / "data", "--out", tmp_path / "run")

    def test_a_column_that_is_not_there(self, refused, messages, tmp_path):
        assert "Did you mean 'intent'?" in refused("fit", messages, "--label", "intents", "--out", tmp_path / "run")

    def test_an_empty_label_column(self, refused, tmp_path):
        (tmp_path / "t.csv").write_text("text,label\nhello there,\ngood morning,\n")
        assert "label" in refused("fit", tmp_path / "t.csv", "--out", tmp_path / "run")

    def test_a_network_with_a_typo(self, refused, photos, tmp_path):
        message = refused("fit", photos, "--backbone", "eficientnet_lite0", "--out", tmp_path / "run")
        assert "Did you mean 'efficientnet_lite0'?" in message

    def test_a_network_that_is_not_here(self, refused, photos, tmp_path, monkeypatch):
        monkeypatch.setenv("HF_HUB_OFFLINE", "1")
        assert "resnet18" in refused("fit", photos, "--backbone", "timm/resnet18.a1_in1k", "--out", tmp_path / "run")

    def test_a_head_with_a_typo(self, refused, photos, tmp_path):
        assert "'prototype'" in refused("fit", photos, "--head", "prototipe", "--out", tmp_path / "run")

    def test_a_technique_with_a_typo(self, refused, photos, tmp_path):
        message = refused("fit", photos, "--technique", "feature-extracton", "--out", tmp_path / "run")
        assert "'feature-extraction'" in message

    def test_a_folder_that_is_no_run(self, refused, photos):
        assert "saved run" in refused("predict", photos, photos)

    def test_a_run_that_was_tampered_with(self, refused, photo_run, photos, tmp_path):
        copy = tmp_path / "copy"
        copy.mkdir()
        for file in photo_run.iterdir():
            (copy / file.name).write_bytes(file.read_bytes())
        config = copy / "config.json"
        config.write_text(config.read_text().replace("feature-extraction", "feature-subtraction", 1))
        assert "changed afterwards" in refused("evaluate", copy, photos)

    def test_a_destination_with_other_files(self, refused, photos, messages):
        refused("fit", messages, "--label", "intent", "--out", photos)
        assert list(photos.rglob("*.jpg"))

    def test_texts_for_a_model_of_photos(self, refused, photo_run, messages):
        refused("predict", photo_run, messages)

    def test_an_unknown_option(self, refused, photos, tmp_path):
        refused("fit", photos, "--out", tmp_path / "run", "--colour", "blue")

    def test_strict_names_the_broken_file(self, refused, photos, tmp_path):
        for species in ("a", "b"):
            (tmp_path / "data" / species).mkdir(parents=True)
            for file in sorted(photos.rglob("*.jpg"))[:3]:
                (tmp_path / "data" / species / file.name).write_bytes(file.read_bytes())
        (tmp_path / "data" / "a" / "broken.jpg").write_bytes(b"broken")
        assert "broken.jpg" in refused("fit", tmp_path / "data", "--strict", "--out", tmp_path / "run")
        assert not (tmp_path / "run").exists()


def test_a_copied_run_predicts_in_another_process_and_place(text_run, messages, tmp_path):
    copy = tmp_path / "elsewhere" / "run"
    copy.mkdir(parents=True)
    for file in text_run.iterdir():
        (copy / file.name).write_bytes(file.read_bytes())
    words = [sys.executable, "-m", "graft", "predict", str(copy), str(messages), "--out", "p.csv"]
    subprocess.run(words, cwd=tmp_path, check=True, capture_output=True)
    here = tmp_path / "here.csv"
    assert main(["predict", str(text_run), str(messages), "--out", str(here)]) == 0
    there = list(csv.DictReader((tmp_path / "p.csv").open()))
    assert [row["prediction"] for row in there] == [row["prediction"] for row in csv.DictReader(here.open())]


def test_a_run_is_exported(text_run, tmp_path, graft):
    file = tmp_path / "model.pt2"
    code, out, err = graft("export", text_run, "--out", file)
    assert (code, err) == (0, "")
    assert re.search(r"Wrote .*model\.pt2 \([\d.]+ MB\)", out)
    assert re.search(r"input +attention_mask +batch x length", out)
    assert re.search(r"output +probabilities +batch x 8", out)
    assert f"Beside it: {tmp_path / 'model.tokenizer.json'}." in out
    assert "On made-up inputs its answers differ from those of the run by" in out
    code, out, _ = graft("export", text_run, "--out", file, "--json")
    facts = json.loads(out)
    assert code == 0
    assert facts["bytes"] == file.stat().st_size
    assert facts["outputs"] == {"probabilities": ["batch", 8]}
    assert facts["difference"] < 1e-3


def test_an_export_that_cannot_be_is_refused(text_run, tmp_path, refused):
    assert "expected a file that ends with .onnx or .pt2" in refused("export", text_run, "--out", tmp_path / "model.h5")
    assert "config.json" in refused("export", tmp_path, "--out", tmp_path / "model.pt2")
    assert not list(tmp_path.iterdir())


def test_control_c_leaves_nothing_half_written(photos, tmp_path, monkeypatch, graft):
    from graft.backbones import ImageBackbone

    def interrupt(*_arguments, **_options):
        raise KeyboardInterrupt

    monkeypatch.setenv("GRAFT_STORE", str(tmp_path / "store"))
    monkeypatch.setattr(ImageBackbone, "read", interrupt)
    code, _, err = graft("fit", photos, "--out", tmp_path / "run")
    assert code == 130
    assert "Interrupted" in err
    assert not (tmp_path / "run").exists()
    code, _, _ = graft("embed", photos, "--out", tmp_path / "f.parquet")
    assert code == 130
    assert not list(Path(tmp_path).glob("*parquet*"))


def test_control_c_during_a_comparison_says_what_is_kept_and_that_it_continues(tmp_path, monkeypatch, graft, refused):
    import graft.evaluation.comparison.compare as comparison

    real, measured = comparison.measure, []

    def interrupt(*arguments, after, **options):
        if len(measured) == after:
            raise KeyboardInterrupt
        measured.append(real(*arguments, **options))
        return measured[-1]

    draws = np.random.default_rng(0)
    np.savez(tmp_path / "data.npz", X=draws.normal(size=(40, 3)), y=np.arange(40) % 2)
    words = ("compare", tmp_path / "data.npz", "--out", tmp_path / "report", "--technique", "raw-input")
    for stop, said in (0, "nothing was measured yet."), (2, "2 finished cells are kept; the same command continues."):
        with monkeypatch.context() as patch:
            patch.setattr(comparison, "measure", partial(interrupt, after=stop))
            code, out, err = graft(*words)
        assert (code, out) == (130, "")
        assert said in err
    err = refused("report", tmp_path / "report")
    assert "2 finished cells" in err
    assert "The same `graft compare` command continues it." in err
    assert graft(*words)[0] == 0
    assert graft("report", tmp_path / "report")[0] == 0


def test_a_full_disk_is_one_message(photos, photo_run, tmp_path, monkeypatch, refused):
    def full(*_args, **_options):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, "replace", full)
    assert "No space left" in refused("fit", photos, "--out", tmp_path / "run")
    assert not list(tmp_path.iterdir())


@pytest.mark.skipif(os.name == "nt", reason="no limit on the size of files there")
def test_a_disk_that_fills_up_midway_leaves_nothing_half_written(photos, photo_run, text_run, tmp_path, refused):
    import resource

    long = "where is the card that I sent for a week ago? " * 20
    (tmp_path / "t.csv").write_text("\n".join(["text", *(f"{long}{number}" for number in range(100))]))
    before = sorted(tmp_path.rglob("*"))
    limits = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (30_000, limits[1]))  # a write beyond that fails, as on a full disk
    try:
        for words in (
            ("fit", photos, "--head", "prototype", "--out", tmp_path / "run"),
            ("predict", text_run, tmp_path / "t.csv", "--out", tmp_path / "p.csv"),
            ("embed", photos, "--out", tmp_path / "f.parquet"),
        ):
            message = refused(*words)
            assert "too large" in message
            assert str(tmp_path) in message
            assert "nothing was written" in message
            assert sorted(tmp_path.rglob("*")) == before
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, limits)


@pytest.mark.skipif(not Path("/proc").is_dir(), reason="no place where nobody can write")
def test_a_place_that_cannot_be_written_to_is_found_before_any_work(photos, photo_run, refused, monkeypatch):
    from graft.backbones import ImageBackbone

    def refuse(*_arguments, **_options):
        raise AssertionError("work was begun")

    monkeypatch.setattr(ImageBackbone, "read", refuse)
    # Not even the administrator can make anything there.
    assert "can be written to" in refused("fit", photos, "--out", "/proc/run")
    assert "can be written to" in refused("predict", photo_run, photos, "--out", "/proc/new/p.csv")
    assert "can be written to" in refused("embed", photos, "--out", "/proc/new/f.parquet")


def test_labels_of_a_multilabel_run_are_known_by_name(messages, tmp_path, graft, refused):
    header, *rows = list(csv.reader(messages.open(encoding="utf-8")))
    intent, urgency = header.index("intent"), header.index("urgency")
    first = rows[0][intent]
    with (tmp_path / "m.csv").open("w", newline="", encoding="utf-8") as file:
        table = csv.writer(file)
        table.writerow(["text", "first", "urgent"])
        table.writerows([row[0], int(row[intent] == first), int(row[urgency] == "high")] for row in rows)
    words = [tmp_path / "m.csv", "--label", "first", "--label", "urgent"]
    assert graft("fit", *words, "--out", tmp_path / "run")[0] == 0
    given = graft("evaluate", tmp_path / "run", *words, "--json")
    assert given[0] == 0
    swapped = [tmp_path / "m.csv", "--label", "urgent", "--label", "first"]
    assert graft("evaluate", tmp_path / "run", *swapped, "--json") == given
    assert graft("evaluate", tmp_path / "run", tmp_path / "m.csv", "--json") == given
    assert "'first', 'urgent'" in refused("evaluate", tmp_path / "run", tmp_path / "m.csv", "--label", "urgent")


def test_labels_written_true_and_false_are_written_so(tmp_path, graft):
    draws = np.random.default_rng(0).normal(size=(40, 2)).round(3)
    lines = [f"{a},{b},{str(a > 0).lower()},{str(b > 0).lower()}" for a, b in draws]
    (tmp_path / "t.csv").write_text("\n".join(["a,b,right,up", *lines]))
    words = [tmp_path / "t.csv", "--label", "right", "--label", "up"]
    assert graft("fit", *words, "--out", tmp_path / "run")[0] == 0
    assert graft("predict", tmp_path / "run", tmp_path / "t.csv", "--out", tmp_path / "p.csv")[0] == 0
    with (tmp_path / "p.csv").open(newline="") as file:
        rows = list(csv.DictReader(file))
    assert {row["prediction_right"] for row in rows} == {row["prediction_up"] for row in rows} == {"true", "false"}


def test_predict_passes_over_labels_beside_numbers(tmp_path, graft, refused):
    lines = [f"{place},{place % 7},{'low' if place < 20 else 'high'}" for place in range(40)]
    (tmp_path / "t.csv").write_text("\n".join(["a,b,size", *lines]))
    assert graft("fit", tmp_path / "t.csv", "--out", tmp_path / "run")[0] == 0
    assert graft("predict", tmp_path / "run", tmp_path / "t.csv", "--out", tmp_path / "p.csv")[0] == 0
    (tmp_path / "wide.csv").write_text("a,b,c\n1,2,3\n4,5,6\n")
    assert "found 3" in refused("predict", tmp_path / "run", tmp_path / "wide.csv", "--out", tmp_path / "q.csv")
    assert not (tmp_path / "q.csv").exists()


def test_predict_knows_the_label_columns_of_the_fit_beside_numbers(tmp_path, graft):
    rng = np.random.default_rng(0)
    X = rng.normal(size=(60, 3)).round(3)
    one, two = X[:, 0] > 0, X[:, 1] > 0
    tables = {
        "with.csv": [
            "a,b,c,one,two",
            *(f"{a},{b},{c},{int(i)},{int(j)}" for (a, b, c), i, j in zip(X, one, two, strict=True)),
        ],
        "without.csv": ["a,b,c", *(f"{a},{b},{c}" for a, b, c in X)],
        "partly.csv": ["a,b,c,two", *(f"{a},{b},{c}," for a, b, c in X)],
    }
    for name, lines in tables.items():
        (tmp_path / name).write_text("\n".join(lines))
    words = ["--label", "one", "--label", "two", "--out", tmp_path / "run"]
    assert graft("fit", tmp_path / "with.csv", *words)[0] == 0
    written = []
    for name in tables:
        assert graft("predict", tmp_path / "run", tmp_path / name, "--out", tmp_path / "p.csv")[0] == 0, name
        written.append((tmp_path / "p.csv").read_text())
    assert written[0] == written[1] == written[2]
    rows = list(csv.DictReader(written[0].splitlines()))
    assert {row["prediction_one"] for row in rows} == {"0", "1"}


@pytest.mark.parametrize(
    ("yes", "no", "shown"), [("true", "false", "true"), (1, 0, "1"), ("1.0", "0.0", "1"), ("a", "b", "a")]
)
def test_predictions_are_written_as_labels_are(yes, no, shown, tmp_path, graft):
    X = np.random.default_rng(0).normal(size=(60, 3)).round(3)
    lines = ["a,b,c,label", *(f"{a},{b},{c},{yes if a > 0 else no}" for a, b, c in X)]
    (tmp_path / "t.csv").write_text("\n".join(lines))
    assert graft("fit", tmp_path / "t.csv", "--out", tmp_path / "run")[0] == 0
    code, printed, _ = graft("predict", tmp_path / "run", tmp_path / "t.csv", "--out", tmp_path / "p.csv")
    assert code == 0
    rows = list(csv.DictReader((tmp_path / "p.csv").open()))
    assert shown in {row["prediction"] for row in rows}
    assert f"p_{shown}" in rows[0]
    assert shown in printed.split()
    code, printed, _ = graft("evaluate", tmp_path / "run", tmp_path / "t.csv")
    assert code == 0
    assert shown in printed.split()


@pytest.mark.parametrize("command", ["fit", "predict", "evaluate"])
def test_a_folder_of_photos_has_no_label_column(command, photos, photo_run, tmp_path, refused):
    words = [photos, "--out", tmp_path / "run"] if command == "fit" else [photo_run, photos]
    message = refused(command, *words, "--label", "species")
    assert "its folders are the labels" in message
    assert "'species'" in message


@pytest.mark.parametrize(
    "words", [["backbones"], ["backbones", "--json"], ["--help"], ["fit", "nowhere", "--out", "run"]]
)
@pytest.mark.parametrize("buffered", [True, False])
def test_a_reader_that_goes_away_is_no_error(words, buffered):
    reading, writing = os.pipe()
    os.close(reading)
    environment = {**os.environ, "PYTHONUNBUFFERED": "" if buffered else "1"}
    command = [sys.executable, "-m", "graft", *words]
    if words[0] == "fit":  # what is refused stays refused, though nobody reads why
        for more in ([], ["--json"]):
            assert subprocess.run([*command, *more], stdout=writing, stderr=writing, env=environment).returncode == 2
    else:
        ended = subprocess.run(command, stdout=writing, stderr=subprocess.PIPE, env=environment, text=True)
        assert (ended.returncode, ended.stderr) == (0, "")
    os.close(writing)


def test_messages_are_folded_on_a_terminal_only(tmp_path):
    pty = pytest.importorskip("pty")
    long = tmp_path / "a folder that is not there"
    command = [sys.executable, "-m", "graft", "fit", str(long), "--out", "run"]
    plain = subprocess.run(command, capture_output=True, text=True, env={**os.environ, "COLUMNS": "40"}).stderr
    assert [line[:7] for line in plain.splitlines()] == ["graft: ", "  Check"]
    controller, terminal = pty.openpty()
    ended = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=terminal, env={**os.environ, "COLUMNS": "40"})
    assert ended.wait() == 2
    shown = os.read(controller, 10_000).decode().replace("\r\n", "\n")
    os.close(terminal)
    os.close(controller)
    assert shown.split() == plain.split()
    assert all(len(line) <= 40 or " " not in line.strip() for line in shown.splitlines())
    assert len(shown.splitlines()) > 2


def test_a_network_for_other_inputs_is_refused(photos, messages, refused, tmp_path):
    run = tmp_path / "run"
    assert "efficientnet_lite0" in refused("fit", photos, "--backbone", "minilm", "--out", run)
    assert "minilm" in refused("fit", messages, "--label", "intent", "--backbone", "efficientnet_lite0", "--out", run)
    assert "efficientnet_lite0" in refused("embed", photos, "--backbone", "minilm", "--out", tmp_path / "f.parquet")
    assert not list(tmp_path.iterdir())


def test_encoded_photos_have_no_name_in_the_tables(photo_run, photos, tmp_path, graft):
    import pyarrow as pa

    rows = [{"image": {"bytes": path.read_bytes(), "path": None}} for path in sorted(photos.rglob("*.jpg"))[:3]]
    pq.write_table(pa.Table.from_pylist(rows), tmp_path / "encoded.parquet")
    assert graft("predict", photo_run, tmp_path / "encoded.parquet", "--out", tmp_path / "p.csv")[0] == 0
    assert [row["input"] for row in csv.DictReader((tmp_path / "p.csv").open())] == [""] * 3


def test_rejection_needs_classes_and_a_file(tmp_path, refused, graft, photo_run, photos):
    X = np.random.default_rng(0).normal(size=(40, 3))
    np.savez(tmp_path / "r.npz", X=X, y=X[:, 0] + 0.5)
    assert graft("fit", tmp_path / "r.npz", "--out", tmp_path / "run")[0] == 0
    assert "regression" in refused("predict", tmp_path / "run", tmp_path / "r.npz", "--reject", "0.1")
    assert "a file" in refused("predict", photo_run, photos, "--out", tmp_path)


def test_a_class_that_only_another_split_has_is_named_before_the_training(tmp_path, refused):
    rows = [
        f"{split},a message number {place},{label}"
        for split, label in (("train", "a"), ("train", "b"), ("test", "c"))
        for place in range(6)
    ]
    (tmp_path / "t.csv").write_text("\n".join(["split,text,label", *rows]))
    assert "'c'" in refused("fit", tmp_path / "t.csv", "--out", tmp_path / "run")
    assert not (tmp_path / "run").exists()


def test_evaluate_knows_the_label_column_of_the_fit(text_run, messages, graft):
    named = graft("evaluate", text_run, messages, "--label", "intent", "--json")
    assert named[0] == 0
    assert graft("evaluate", text_run, messages, "--json") == named
