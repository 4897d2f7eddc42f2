"""``graft fit SOURCE --target TARGET``: two folders of pictures, and what is refused."""

import json

import numpy as np
import pytest

from graft.cli import main
from graft.data.samples import write_leaves

pytestmark = pytest.mark.usefixtures("tournaments_in_time")


@pytest.fixture(scope="module")
def folders(tmp_path_factory):
    """Scanned leaves with a class each, field photos of leaves in folders by class, and the same without classes."""
    folder = tmp_path_factory.mktemp("leaves")
    for domain in ("scan", "field"):
        write_leaves(folder / domain, domain=domain, per_class=3, size=64)
    flat = folder / "flat"
    flat.mkdir()
    for file in sorted((folder / "field").glob("*/*")):
        (flat / f"{file.parent.name}_{file.name}").write_bytes(file.read_bytes())
    return folder


def fitted(capsys, *words):
    capsys.readouterr()
    code = main(["fit", *map(str, words)])
    printed = capsys.readouterr()
    assert code == 0, printed.err
    return printed.out


def refused(capsys, *words):
    capsys.readouterr()
    assert main(["fit", *map(str, words)]) == 2
    return capsys.readouterr().err


def test_two_folders_of_pictures(folders, tmp_path, capsys):
    out = fitted(capsys, folders / "scan", "--target", folders / "field", "--out", tmp_path / "run", "--json")
    facts = json.loads(out)
    assert facts["technique"] == "domain-adaptation"
    assert facts["adaptation"]["target"]["labelled"] == 0
    assert set(facts["target"]["metrics"]) >= {"accuracy", "macro_f1"}
    assert main(["evaluate", str(tmp_path / "run"), str(folders / "field"), "--json"]) == 0
    again = json.loads(capsys.readouterr().out)
    assert again["metrics"]["accuracy"] == facts["target"]["metrics"]["accuracy"]


def test_the_labels_of_a_target_that_has_all_of_them_are_not_looked_at(folders, tmp_path, capsys):
    words = [folders / "scan", "--method", "coral", "--head", "logistic"]
    fitted(capsys, *words, "--target", folders / "field", "--out", tmp_path / "with")
    fitted(capsys, *words, "--target", folders / "flat", "--out", tmp_path / "without")
    tables = []
    for name in ("with", "without"):
        assert (
            main(["predict", str(tmp_path / name), str(folders / "flat"), "--out", str(tmp_path / name) + ".csv"]) == 0
        )
        rows = (tmp_path / f"{name}.csv").read_text().splitlines()[1:]
        tables.append([row.split(",")[2] for row in rows])
    assert tables[0] == tables[1]


def test_a_person_reads_which_method_and_why(folders, tmp_path, capsys):
    out = fitted(capsys, folders / "scan", "--target", folders / "field", "--out", tmp_path / "run")
    assert "Method: " in out
    assert "'source-only'" in out
    assert "labels nothing but this table looked at" in out
    assert max(len(line) for line in out.splitlines() if not line.startswith("Saved in")) <= 80
    assert "Adapted by" in (tmp_path / "run" / "README.md").read_text()


def test_a_person_reads_that_all_candidates_are_served_together(tmp_path, capsys):
    draws = np.random.default_rng(0)
    y = np.repeat(["ash", "elm", "oak"], 40)
    X = draws.normal(size=(120, 4)) + np.repeat(np.eye(4)[:3] * 5, 40, axis=0)
    np.savez(tmp_path / "here.npz", X=X, y=y)
    np.savez(tmp_path / "there.npz", X=X * [1, 1.3, 0.8, 1] + [2, 0, -1, 1], y=y)
    words = [tmp_path / "here.npz", "--target", tmp_path / "there.npz", "--out", tmp_path / "run"]
    out = fitted(capsys, *words)
    assert "Method: consensus." in out
    assert "each heard by its standing" in " ".join(out.split())
    assert max(len(line) for line in out.splitlines() if not line.startswith("Saved in")) <= 80
    assert main(["evaluate", str(tmp_path / "run"), str(tmp_path / "there.npz"), "--json"]) == 0
    assert json.loads(capsys.readouterr().out)["metrics"]["accuracy"]["value"] > 0.95
    assert "consensus" in (tmp_path / "run" / "README.md").read_text()


@pytest.mark.parametrize("method", ["auto", "tradaboost"])
def test_some_labels_in_a_table_are_used(method, tmp_path, capsys):
    draws = np.random.default_rng(0)
    X = draws.normal(size=(60, 3)) + np.repeat([[0, 0, 0], [4, 0, 0]], 30, axis=0)
    header = "a,b,c,label"
    lines = [",".join(f"{value:.3f}" for value in row) for row in X]
    source = [f"{line},{'ash' if place < 30 else 'elm'}" for place, line in enumerate(lines)]
    target = [f"{line},{'' if place % 6 else ('ash' if place < 30 else 'elm')}" for place, line in enumerate(lines)]
    for name, rows in (("source", source), ("target", target)):
        (tmp_path / f"{name}.csv").write_text("\n".join([header, *rows]) + "\n")
    out = fitted(
        capsys,
        *(tmp_path / "source.csv", "--target", tmp_path / "target.csv", "--label", "label"),
        *("--out", tmp_path / "run", "--method", method, "--json"),
    )
    assert json.loads(out)["adaptation"]["target"] == {"examples": 60, "labelled": 10, "left_out": 0}


def test_boosting_without_a_labelled_target_is_refused(folders, tmp_path, capsys):
    words = [folders / "scan", "--target", folders / "flat", "--method", "tradaboost"]
    said = refused(capsys, *words, "--out", tmp_path / "run")
    assert "labels of the target" in said
    assert "a few target examples" in " ".join(said.split())


def test_a_table_of_the_target_needs_no_column_of_labels(tmp_path, capsys):
    draws = np.random.default_rng(0)
    X = draws.normal(size=(40, 2)) + np.repeat([[0, 0], [4, 0]], 20, axis=0)
    rows = [",".join(f"{value:.3f}" for value in row) for row in X]
    labelled = [f"{row},{'ash' if place < 20 else 'elm'}" for place, row in enumerate(rows)]
    (tmp_path / "source.csv").write_text("\n".join(["a,b,kind", *labelled]) + "\n")
    (tmp_path / "target.csv").write_text("\n".join(["a,b", *rows]) + "\n")
    out = fitted(
        *(capsys, tmp_path / "source.csv", "--target", tmp_path / "target.csv", "--label", "kind"),
        *("--method", "coral", "--out", tmp_path / "run", "--json"),
    )
    assert json.loads(out)["adaptation"]["target"] == {"examples": 40, "labelled": 0, "left_out": 0}


def test_the_test_split_of_the_target_measures_and_is_not_learnt_from(tmp_path, capsys):
    draws = np.random.default_rng(0)
    X = draws.normal(size=(60, 2)) + np.repeat([[0, 0], [4, 0]], 30, axis=0)
    names = ["ash" if place < 30 else "elm" for place in range(60)]
    rows = [",".join(f"{value:.3f}" for value in row) for row in X]
    source = [f"{row},{name}" for row, name in zip(rows, names, strict=True)]
    target = [f"{row},{names[i] if i % 2 else ''},{'test' if i % 2 else 'train'}" for i, row in enumerate(rows)]
    (tmp_path / "source.csv").write_text("\n".join(["a,b,kind", *source]) + "\n")
    (tmp_path / "target.csv").write_text("\n".join(["a,b,kind,split", *target]) + "\n")
    out = fitted(
        *(capsys, tmp_path / "source.csv", "--target", tmp_path / "target.csv", "--label", "kind"),
        *("--method", "coral", "--out", tmp_path / "run", "--json"),
    )
    facts = json.loads(out)
    assert facts["adaptation"]["target"] == {"examples": 30, "labelled": 0, "left_out": 0}
    assert facts["target"]["metrics"]["accuracy"]["value"] > 0.9


def test_a_class_that_the_source_lacks_is_found_before_the_training(folders, tmp_path, capsys):
    other = tmp_path / "other"
    for place, file in enumerate(sorted((folders / "flat").iterdir())[:6]):
        folder = other / ("moss" if place % 2 else "fern")
        folder.mkdir(parents=True, exist_ok=True)
        (folder / file.name).write_bytes(file.read_bytes())
    said = refused(capsys, folders / "scan", "--target", other, "--out", tmp_path / "run")
    assert "fern" in said


def test_the_network_itself_is_adapted(folders, tmp_path, capsys):
    words = ("--backbone", "test_efficientnet", "--from-scratch", "--image-size", "32", "--epochs", "1")
    out = fitted(
        *(capsys, folders / "scan", "--target", folders / "field", "--method", "dann", *words),
        *("--out", tmp_path / "run"),
    )
    assert "Method: dann." in out
    assert "Trained" in out
    assert (tmp_path / "run" / "training.svg").is_file()
    assert main(["evaluate", str(tmp_path / "run"), str(folders / "field"), "--json"]) == 0


@pytest.mark.parametrize(
    ("words", "named"),
    [
        (["--method", "korall", "--target", "field"], "'coral'"),
        (["--method", "coral"], "--target"),
        (["--technique", "domain-adaptation"], "--target"),
        (["--technique", "fine-tuning", "--target", "field"], "--target"),
        (["--target", "nowhere"], "nowhere"),
        (["--target", "field", "--head", "logistik"], "'logistic'"),
        (["--target", "field", "--epochs", "3"], "epochs"),
        (["--target", "field", "--method", "mcc", "--mixup", "0.2"], "--mixup"),
    ],
)
def test_what_does_not_fit_is_named(words, named, folders, tmp_path, capsys):
    words = [str(folders / word) if word in ("field", "nowhere") else word for word in words]
    assert named in refused(capsys, folders / "scan", *words, "--out", tmp_path / "run")
    assert not (tmp_path / "run").exists()
