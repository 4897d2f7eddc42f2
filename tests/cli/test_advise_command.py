"""``graft advise``, and ``graft fit`` with the technique that is advised."""

import json

import numpy as np
import pytest

from graft.cli import main

pytestmark = pytest.mark.usefixtures("tournaments_in_time")


@pytest.fixture(scope="module")
def tables(tmp_path_factory):
    """Vectors of three classes; the same moved; and three related tasks with few labels of two of them."""
    folder = tmp_path_factory.mktemp("tables")
    draws = np.random.default_rng(0)
    X = draws.normal(size=(90, 4)) + 3 * np.eye(4)[np.arange(90) % 3]
    rows = [",".join(f"{value:.3f}" for value in row) for row in X]
    moved = [",".join(f"{value:.3f}" for value in row) for row in X + 2.0]
    names = np.array(["ash", "elm", "oak"])[np.arange(90) % 3]
    write(folder / "source.csv", "a,b,c,d,kind", [f"{row},{name}" for row, name in zip(rows, names, strict=True)])
    write(folder / "target.csv", "a,b,c,d", moved)
    up = np.where(X[:, 0] + X[:, 1] > 1.5, "yes", "no")
    some = [name if place % 3 == 0 else "" for place, name in enumerate(up)]
    several = [f"{row},{one},{two}" for row, one, two in zip(rows, names, some, strict=True)]
    write(folder / "several.csv", "a,b,c,d,kind,tall", several)
    return folder


def write(path, header, rows):
    path.write_text("\n".join([header, *rows]) + "\n")


def run(capsys, *words):
    capsys.readouterr()
    code = main([*map(str, words)])
    printed = capsys.readouterr()
    return code, printed.out, printed.err


def test_a_person_reads_the_advice_within_80_columns(tables, capsys):
    code, out, _ = run(capsys, "advise", tables / "source.csv", "--label", "kind")
    assert code == 0
    assert "Advice: feature-extraction" in out
    assert "90 labelled examples of 3 classes" in out
    assert max(len(line) for line in out.splitlines()) <= 80


def test_advice_with_a_target_as_json(tables, capsys):
    words = [tables / "source.csv", "--label", "kind", "--target", tables / "target.csv", "--json"]
    words += ["--budget", "1000h"]  # which no machine spends
    code, out, _ = run(capsys, "advise", *words)
    told = json.loads(out)
    assert code == 0
    assert told["measured"]["shift"]["found"]
    assert told["technique"] in ("domain-adaptation", "feature-extraction")
    assert told["tournament"]["reason"] in " ".join(told["reasons"])
    assert {one["technique"] for one in told["candidates"]} == {"feature-extraction", "domain-adaptation"}


def test_fit_learns_several_columns_together_where_no_technique_is_named(tables, tmp_path, capsys):
    words = [tables / "several.csv", "--label", "kind", "--label", "tall", "--out", tmp_path / "run", "--json"]
    code, out, err = run(capsys, "fit", *words)
    assert code == 0, err
    told = json.loads(out)
    assert told["technique"] == "multi-task"
    assert told["advice"]["fits"] == "multi-task"


@pytest.mark.parametrize(
    "words", [["--class-weight", "balanced"], ["--technique", "multi-task", "--views", "2"]], ids=["advised", "named"]
)
def test_what_learning_several_columns_cannot_use_is_refused_at_once(tables, tmp_path, capsys, words):
    columns = ["--label", "kind", "--label", "tall"]
    code, _, err = run(capsys, "fit", tables / "several.csv", *columns, "--out", tmp_path / "run", *words)
    assert code == 2
    assert words[-2] in err


def test_fit_says_that_transfer_does_not_pay(tmp_path, capsys):
    texts = ["a fine day", "a good meal", "so glad", "an awful day", "a bad meal", "so sad"] * 4
    rows = [f"{text} {place},{'good' if place % 6 < 3 else 'bad'}" for place, text in enumerate(texts)]
    write(tmp_path / "t.csv", "text,label", rows)
    code, out, _ = run(capsys, "fit", tmp_path / "t.csv", "--out", tmp_path / "run", "--budget", "0")
    assert code == 0
    # Each text occurs four times: words alone tell everything.
    assert out.startswith("Advised: raw-input; fitted: feature-extraction.")
    assert "Transfer does not pay here" in out
    assert max(len(line) for line in out.splitlines() if not line.startswith("Saved in")) <= 80


def test_fit_says_why_it_fits_what_it_fits(tmp_path, capsys):
    from graft.data.samples import tickets

    messages = tickets("bank")
    rows = [f'"{text}",{label}' for text, label in zip(messages.inputs, messages.labels[:, 0], strict=True)]
    write(tmp_path / "t.csv", "text,label", rows[::4])
    code, out, _ = run(capsys, "fit", tmp_path / "t.csv", "--out", tmp_path / "run", "--budget", "0")
    assert code == 0
    assert out.startswith("Technique: feature-extraction.")
    assert "similar to what the network was trained for" in " ".join(out.split())


def test_a_head_that_was_asked_for_needs_no_advice(tables, tmp_path, capsys):
    words = [tables / "source.csv", "--label", "kind", "--head", "logistic", "--out", tmp_path / "run", "--json"]
    code, out, _ = run(capsys, "fit", *words)
    assert code == 0
    assert json.loads(out)["advice"] is None


@pytest.mark.parametrize(
    ("words", "named"),
    [
        (["--budget", "soon"], "--budget"),
        (["--backbone", "minilm"], "minilm"),
        (["--label", "kinds"], "'kind'"),
    ],
)
def test_what_cannot_be_used_is_refused(tables, capsys, words, named):
    label = [] if "--label" in words else ["--label", "kind"]
    code, _, err = run(capsys, "advise", tables / "source.csv", *label, *words)
    assert code == 2
    assert named in err


def test_unlabelled_data_is_refused(tables, capsys):
    code, _, err = run(capsys, "advise", tables / "target.csv")
    assert code == 2
    assert "label" in err
