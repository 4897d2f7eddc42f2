"""A run comes back as it was written, and nothing else is taken for one."""

import json
import math

import numpy as np
import pytest
from sklearn.linear_model import LogisticRegression

from graft.errors import GraftError, RequestError, RunError
from graft.persistence import assemble, dismantle, read_run, write_run


def roundtrip(value):
    tensors = {}
    plain = json.loads(json.dumps(dismantle(value, "v", tensors), allow_nan=False))
    return assemble(plain, tensors, {"LogisticRegression": LogisticRegression})


@pytest.fixture
def run(tmp_path):
    return write_run(tmp_path / "run", config={"a": 1}, tensors={"w": np.arange(6.0).reshape(2, 3)}, card="# card\n")


@pytest.mark.parametrize(
    "value",
    [None, True, 3, 0.1, "text", [1, [2]], (1, "a"), {"k": [1]}, {1: "a", ("t",): 2}, {"$k": 1}, math.inf, -math.inf],
)
def test_plain_values_come_back_equal_and_of_the_same_type(value):
    back = roundtrip(value)
    assert back == value
    assert type(back) is type(value)


@pytest.mark.parametrize(
    "array",
    [
        np.arange(6).reshape(2, 3),
        np.arange(6.0, dtype=np.float32)[::2],
        np.array(True),
        np.array(["é", "b"]),
        np.array([["a", None], [3, 2.5]], dtype=object),
        np.array([np.nan, np.inf]),
        np.zeros((0, 4)),
    ],
)
def test_arrays_come_back_with_type_and_shape(array):
    back = roundtrip(array)
    assert back.dtype.kind == array.dtype.kind
    assert back.shape == array.shape
    np.testing.assert_array_equal(back, array)


def test_an_estimator_predicts_the_same_afterwards():
    rng = np.random.default_rng(0)
    X, y = rng.normal(size=(60, 5)), np.array(["a", "b", "c"], dtype=object)[rng.integers(0, 3, 60)]
    fitted = LogisticRegression(C=0.3).fit(X, y)
    back = roundtrip({"head": fitted})["head"]
    assert back.get_params() == fitted.get_params()
    np.testing.assert_array_equal(back.predict_proba(X), fitted.predict_proba(X))
    np.testing.assert_array_equal(back.predict(X), fitted.predict(X))


def test_unknown_estimators_are_not_made():
    tensors = {}
    plain = dismantle(LogisticRegression(), "v", tensors)
    with pytest.raises(RunError, match="LogisticRegression"):
        assemble(plain, tensors, {})


def test_what_cannot_be_saved_is_said():
    with pytest.raises(RequestError, match="object"):
        dismantle(object(), "v", {})


def test_a_run_comes_back(run):
    back = read_run(run)
    assert back.config["a"] == 1
    np.testing.assert_array_equal(back.tensors["w"], np.arange(6.0).reshape(2, 3))
    assert sorted(file.name for file in run.iterdir()) == ["README.md", "config.json", "model.safetensors"]


def test_a_second_run_replaces_the_first(run):
    write_run(run, config={"a": 2}, tensors={}, card="")
    assert read_run(run).config["a"] == 2
    assert [entry.name for entry in run.parent.iterdir()] == ["run"]


def test_every_changed_byte_of_the_tensors_is_noticed(run):
    file = run / "model.safetensors"
    content = file.read_bytes()
    for position in (0, 9, len(content) // 2, len(content) - 1):
        file.write_bytes(content[:position] + bytes([content[position] ^ 1]) + content[position + 1 :])
        with pytest.raises(RunError, match="SHA-256"):
            read_run(run)


def test_a_changed_configuration_is_noticed(run):
    file = run / "config.json"
    file.write_text(file.read_text().replace('"a": 1', '"a": 7'))
    with pytest.raises(RunError, match="changed afterwards"):
        read_run(run)


def test_a_newer_format_asks_for_an_upgrade(run):
    file = run / "config.json"
    file.write_text(file.read_text().replace('"format": 1', '"format": 99'))
    with pytest.raises(RunError, match="pip install --upgrade"):
        read_run(run)


@pytest.mark.parametrize("content", ["", "{}", "[1]", "null", '{"format": 1}', '"text"'])
def test_a_configuration_of_something_else_is_refused(run, content):
    (run / "config.json").write_text(content)
    with pytest.raises(RunError):
        read_run(run)


def test_a_missing_file_is_named(run, tmp_path):
    (run / "model.safetensors").unlink()
    with pytest.raises(RunError, match=r"model\.safetensors"):
        read_run(run)
    with pytest.raises(RunError, match="no such folder"):
        read_run(tmp_path / "nowhere")


def test_a_folder_of_something_else_is_not_touched(tmp_path):
    (tmp_path / "photo.jpg").write_bytes(b"precious")
    with pytest.raises(RequestError, match="other files"):
        write_run(tmp_path, config={}, tensors={}, card="")
    assert (tmp_path / "photo.jpg").read_bytes() == b"precious"


def test_a_full_disk_leaves_the_earlier_run_and_nothing_else(run, monkeypatch):
    def full(*_args, **_kwargs):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("pathlib.Path.write_bytes", full)
    with pytest.raises(GraftError, match="No space left"):
        write_run(run, config={"a": 2}, tensors={}, card="")
    assert read_run(run).config["a"] == 1
    assert [entry.name for entry in run.parent.iterdir()] == ["run"]


def test_a_file_is_no_run(tmp_path):
    (tmp_path / "file.txt").write_text("x")
    with pytest.raises(RunError, match="found a file"):
        read_run(tmp_path / "file.txt")
