"""`Results` and its file: what is written is what is read, and what is not such a file is refused."""

import csv
import io
import json
from dataclasses import replace

import pytest

from graft.errors import RequestError, RunError
from graft.evaluation.cell import Cell
from graft.evaluation.results import NewerResultsError, Results, Verdict, earlier_results, read_results
from graft.metrics import Estimate


@pytest.fixture
def example():
    """Results with a cell of each status, and every part filled."""
    score = Estimate(0.8, 0.7, 0.9)
    done = Cell(
        "feature-extraction",
        5,
        0,
        10,
        score=score,
        metrics={"accuracy": score, "ece": Estimate(0.125, 0.0, 0.25)},
        seconds={"data": 0.5, "features": 1.5, "training": 0.25, "total": 2.25},
        peak_memory_mib=120.5,
        trainable_parameters=30,
        total_parameters=1030,
        flops={"forward": 4e8, "training": 4e9},
    )
    return Results(
        created="2025-01-01T00:00:00Z",
        command="graft compare photos/ --out report",
        versions={"graft": "0.1.0"},
        machine={"cores": 2, "device": "cpu"},
        data={"name": "photos", "task": {"kind": "classification", "classes": ["ash", "oak"]}},
        settings={"budgets": [5, None], "seeds": [0]},
        score={"name": "accuracy", "title": "accuracy", "percent": True},
        techniques=({"name": "feature-extraction", "sides": ["transfer"]},),
        cells=(
            done,
            Cell("fine-tuning", 5, 0, 10, "left out", "needs about 90 s, 20 s were left"),
            Cell("from-scratch", None, 0, 80, "failed", "TrainingError: the loss is not finite"),
        ),
        summary=({"technique": "feature-extraction", "budget": 5, "score": score.to_dict()},),
        verdict=Verdict("inconclusive", "Nothing was compared.", ({"name": "labels", "value": None},), ()),
        details=({"technique": "feature-extraction", "wrong": [{"row": 3, "true": "ash", "predicted": "oak"}]},),
    )


def test_what_is_written_is_what_is_read(example, tmp_path):
    file = example.write(tmp_path / "report")
    assert read_results(file) == example
    assert read_results(tmp_path / "report") == example
    assert sorted(path.name for path in file.parent.iterdir()) == ["results.csv", "results.json"]


def test_printing_them_says_what_was_compared_and_what_came_out(example):
    assert repr(example).splitlines() == [
        "Results of photos: 1 of 3 cells measured",
        "  techniques: feature-extraction, fine-tuning, from-scratch",
        "  verdict: inconclusive. Nothing was compared.",
    ]
    long = replace(example, data={"name": "photos", "target": {"name": "field"}}, verdict=Verdict("pays", "word " * 99))
    assert "Results of photos, adapted to field: 1 of 3" in str(long)
    assert len(str(long)) < 400
    assert str(Results()).startswith("Results of a comparison: 0 of 0 cells measured")


def test_the_file_is_plain_json_with_a_format(example, tmp_path):
    plain = json.loads(example.write(tmp_path).read_text(encoding="utf-8"), parse_constant=pytest.fail)
    assert (plain["format"], plain["kind"]) == (2, "graft comparison")
    assert plain["cells"][0]["score"] == {"value": 0.8, "low": 0.7, "high": 0.9}
    assert plain["cells"][1]["score"] is None


def test_an_interval_that_is_not_known_is_null_and_stays_unknown(tmp_path):
    nan = float("nan")
    cell = Cell("x", None, 0, 3, score=Estimate(1.0, nan, nan), metrics={"r2": Estimate(nan, nan, nan)})
    again = read_results(Results(cells=(cell,)).write(tmp_path)).cells[0]
    assert again.score.value == 1.0
    assert again.score.low != again.score.low
    assert again.metrics["r2"].value != again.metrics["r2"].value


def test_the_table_has_a_row_for_each_cell(example):
    rows = list(csv.DictReader(io.StringIO(example.to_csv())))
    assert [row["technique"] for row in rows] == [cell.technique for cell in example.cells]
    assert rows[0]["accuracy_low"] == "0.7"
    assert rows[0]["seconds_total"] == "2.25"
    assert rows[0]["energy_joules"] == ""
    assert rows[1]["accuracy"] == ""
    assert rows[2]["budget"] == "all"
    assert rows[2]["reason"].startswith("TrainingError")


def test_the_table_has_columns_for_each_task_beside_their_mean():
    mean, sign, size = Estimate(0.6, 0.5, 0.7), Estimate(0.9, 0.8, 1.0), Estimate(0.3, 0.2, 0.4)
    both = Cell("a", 5, 0, 9, metrics={"score": mean}, tasks={"sign": {"accuracy": sign}, "my size": {"r2": size}})
    one = Cell("a", None, 0, 9, metrics={"score": sign}, tasks={"sign": {"accuracy": sign}})
    rows = list(csv.DictReader(io.StringIO(Results(cells=(both, one)).to_csv())))
    metrics = [name for name in rows[0] if not name.endswith(("_low", "_high"))][6:9]
    assert metrics == ["score", "sign:accuracy", "my size:r2"]
    assert [rows[0][f"my size:r2{part}"] for part in ("", "_low", "_high")] == ["0.3", "0.2", "0.4"]
    assert (rows[0]["score"], rows[1]["sign:accuracy"], rows[1]["my size:r2"]) == ("0.6", "0.9", "")


def test_keys_of_a_later_version_are_passed_over(example, tmp_path):
    file = example.write(tmp_path)
    plain = json.loads(file.read_text())
    plain["more"] = 1
    plain["verdict"]["more"] = plain["cells"][0]["more"] = 1
    file.write_text(json.dumps(plain))
    assert read_results(file) == example


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"kind": "a shopping list"}, "results of a comparison"),
        ({"format": 99}, "format 99"),
        ({"format": "one"}, "format one"),
        ({"cells": [{"technique": "x"}]}, "as it was written"),
        ({"verdict": None}, "as it was written"),
    ],
)
def test_what_is_no_such_file_is_refused(change, message, example, tmp_path):
    file = example.write(tmp_path)
    file.write_text(json.dumps({**json.loads(file.read_text()), **change}))
    with pytest.raises(RunError, match=message):
        read_results(file)


def test_what_a_newer_version_wrote_is_not_held_for_nothing(example, tmp_path):
    file = example.write(tmp_path)
    plain = json.loads(file.read_text())
    file.write_text(json.dumps({**plain, "format": 99}))
    with pytest.raises(NewerResultsError, match="name another folder"):
        earlier_results(tmp_path)
    file.write_text(json.dumps({**plain, "cells": 0}))
    assert earlier_results(tmp_path) is None


def test_no_file_another_file_and_half_a_file_are_refused(example, tmp_path):
    with pytest.raises(RequestError, match="found none"):
        read_results(tmp_path)
    table = tmp_path / "small.csv"
    table.write_text("text,label\nhello,greeting\n")
    with pytest.raises(RunError, match=r"expected a results\.json.*found something else\. Name the folder"):
        read_results(table)
    table.write_bytes(b"\xff\xfe\x00")
    with pytest.raises(RunError, match="something else"):
        read_results(table)
    whole = example.write(tmp_path).read_bytes()
    for length in (20, len(whole) // 2, len(whole) - 2):
        (tmp_path / "results.json").write_bytes(whole[:length])
        with pytest.raises(RunError, match=r"found one that is cut off or damaged.*continues") as refused:
            read_results(tmp_path)
        assert "column" not in str(refused.value)


def test_a_status_and_an_outcome_are_words_that_are_known():
    with pytest.raises(RequestError, match="'done'"):
        Cell("x", 5, 0, 10, status="finished")
    with pytest.raises(RequestError, match="'pays'"):
        Verdict("perhaps", "")
