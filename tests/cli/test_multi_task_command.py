"""``graft fit --technique multi-task``, ``predict`` and ``evaluate`` on tables with several label columns."""

import csv
import json

import numpy as np
import pytest

from graft.cli import main

QUICK = ("--sharing", "hard", "--epochs", "1", "--batch-size", "24", "--technique", "multi-task")


@pytest.fixture(scope="module")
def data(tmp_path_factory):
    """Two tables of short texts with a class, of which some are missing, a number, and a second class."""
    folder = tmp_path_factory.mktemp("tasks")
    draws = np.random.default_rng(0)
    X = draws.normal(size=(60, 4)).astype(np.float32)
    table = np.empty((60, 2), dtype=object)
    table[:, 0], table[:, 1] = np.where(X[:, 0] > 0, "left", "right"), X[:, 0] + 0.3
    words = {"left": ["sinister", "port", "west"], "right": ["dexter", "starboard", "east"]}
    for name, count in (("train", 40), ("later", 20)):
        with (folder / f"{name}.csv").open("w", newline="") as file:
            rows = csv.writer(file)
            rows.writerow(["body", "side", "height", "mood"])
            for row in range(count):
                side, height = table[row]
                text = f"{words[side][row % 3]} side, number {row}"
                shown = "" if row % 4 == 1 else side
                rows.writerow([text, shown, "" if row % 3 == 0 else f"{height:.3f}", ["calm", "wild"][row % 2]])
    return folder


def run(words, capsys):
    capsys.readouterr()
    code = main([str(word) for word in words])
    printed = capsys.readouterr()
    return code, printed.out, printed.err


def fit(data, out, capsys, *options, labels=("side", "height")):
    named = [word for label in labels for word in ("--label", label)]
    words = ["fit", data / "train.csv", "--text", "body", "--out", out, "--backbone", "minilm", *named, *options]
    return run(words, capsys)


def test_from_a_table_of_texts_to_predictions_and_figures(data, tmp_path, capsys):
    code, out, err = fit(data, tmp_path / "run", capsys, "--technique", "multi-task", "--json")
    assert code == 0, err
    facts = json.loads(out)
    assert facts["technique"] == "multi-task"
    assert [(task["name"], task["kind"]) for task in facts["tasks"]] == [
        ("side", "classification"),
        ("height", "regression"),
    ]
    assert {one["task"] for one in facts["verdict"]["tasks"]} == {"side", "height"}
    assert set(facts["validation"]) == {"side", "height"}
    code, out, _ = run(["evaluate", tmp_path / "run", data / "later.csv", "--text", "body", "--json"], capsys)
    assert code == 0
    found = json.loads(out)
    assert found["examples"] == 20
    assert set(found["tasks"]) == {"side", "height"}
    assert found["tasks"]["side"]["examples"] == 15
    assert set(found["tasks"]["height"]["metrics"]) >= {"rmse", "mae", "r2"}
    assert {"value", "low", "high"} <= set(found["tasks"]["side"]["metrics"]["accuracy"])
    table = tmp_path / "predictions.csv"
    code, out, _ = run(["predict", tmp_path / "run", data / "later.csv", "--text", "body", "--out", table], capsys)
    assert code == 0
    assert "side, height" in out
    with table.open(newline="") as file:
        rows = list(csv.DictReader(file))
    assert len(rows) == 20
    assert {row["prediction_side"] for row in rows} <= {"left", "right"}
    assert all(np.isfinite(float(row["prediction_height"])) for row in rows)
    assert all(float(row["p_side_left"]) + float(row["p_side_right"]) == pytest.approx(1, abs=1e-4) for row in rows)


def test_the_summary_shows_the_verdict_and_fits_the_terminal(data, tmp_path, capsys):
    options = (*QUICK, "--kind", "mood=classification", "--together", "side,height", "--balancing", "upgrad")
    code, out, err = fit(data, tmp_path / "run", capsys, *options, "--protect", labels=("side", "height", "mood"))
    assert code == 0, err
    assert "Learnt together: side + height; mood." in out
    assert "alone" in out
    assert "together" in out
    assert "positive is better" in out
    assert all(len(line) <= 80 for line in out.splitlines() if str(tmp_path) not in line)
    code, out, _ = run(["evaluate", tmp_path / "run", data / "later.csv", "--text", "body"], capsys)
    assert code == 0
    assert "height" in out


@pytest.mark.parametrize(
    ("options", "labels", "message"),
    [
        (["--kind", "side"], ("side", "height"), "COL=KIND"),
        (["--kind", "side=clas"], ("side", "height"), "'clas'"),
        (["--kind", "sides=classification"], ("side", "height"), "'sides'"),
        (["--sharing", "soft"], ("side", "height"), "sharing"),
        (["--balancing", "upgrd"], ("side", "height"), "'upgrad'"),
        (["--together", "side,hight"], ("side", "height"), "'hight'"),
        (["--head", "logistic"], ("side", "height"), "--head"),
        (["--mixup", "0.2"], ("side", "height"), "mixup"),
        ([], ("side", "hight"), "hight"),
    ],
)
def test_wrong_requests_end_in_one_message(options, labels, message, data, tmp_path, capsys):
    code, out, err = fit(data, tmp_path / "run", capsys, "--technique", "multi-task", *options, labels=labels)
    assert code == 2
    assert out == ""
    assert message in err
    assert "Traceback" not in err
    assert not (tmp_path / "run").exists()


def test_options_of_several_tasks_need_the_technique(data, tmp_path, capsys):
    code, _, err = fit(data, tmp_path / "run", capsys, "--together", "side,height", labels=("side",))
    assert code == 2
    assert "--technique multi-task" in err


def test_a_column_without_labels_in_the_training_split_is_named(tmp_path, capsys):
    table = tmp_path / "split.csv"
    with table.open("w", newline="") as file:
        rows = csv.writer(file)
        rows.writerow(["body", "split", "side", "height"])
        for row in range(24):
            late = row >= 16
            rows.writerow([f"text {row}", "val" if late else "train", "ab"[row % 2], row / 7 if late else ""])
    words = ["fit", table, "--text", "body", "--label", "side", "--label", "height", "--technique", "multi-task"]
    code, _, err = run([*words, "--out", tmp_path / "run"], capsys)
    assert code == 2
    assert "'height'" in err
    assert "training split" in err


def test_a_run_of_several_tasks_rejects_nothing_by_one_rate(data, tmp_path, capsys):
    assert fit(data, tmp_path / "run", capsys, *QUICK)[0] == 0
    words = ["predict", tmp_path / "run", data / "later.csv", "--text", "body", "--out", tmp_path / "p.csv"]
    code, _, err = run([*words, "--reject", "0.05"], capsys)
    assert code == 2
    assert "ood_score" in err
