"""``graft fit --technique fine-tuning`` on every kind of task, and what it refuses."""

import csv
import json
import signal

import numpy as np
import pytest
from PIL import Image
from safetensors.numpy import load_file

from graft.cli import main

SMALL = ("--technique", "fine-tuning", "--backbone", "test_efficientnet", "--from-scratch", "--image-size", "32")


@pytest.fixture(scope="module")
def table(tmp_path_factory):
    """A table of 24 small pictures with a class, two yes-or-no labels and a number."""
    folder = tmp_path_factory.mktemp("pictures")
    draw = np.random.default_rng(0)
    with (folder / "pictures.csv").open("w", newline="") as file:
        rows = csv.writer(file)
        rows.writerow(["path", "colour", "bright", "warm", "size"])
        for number in range(24):
            red = number % 2
            pixels = draw.integers(0, 80, (32, 32, 3)) + np.array([150 * red, 0, 150 * (1 - red)])
            Image.fromarray(pixels.astype(np.uint8)).save(folder / f"{number}.png")
            bright = "" if number == 5 else int(number % 3 == 0)
            rows.writerow([f"{number}.png", ["blue", "red"][red], bright, red, number / 7 + 0.1])
    return folder / "pictures.csv"


def fitted(table, out, capsys, *options):
    capsys.readouterr()
    words = ["fit", str(table), "--image", "path", "--out", str(out), *SMALL, "--epochs", "2", *options, "--json"]
    code = main(words)
    printed = capsys.readouterr()
    assert code == 0, printed.err
    return json.loads(printed.out)


@pytest.mark.parametrize(
    ("kind", "labels"),
    [
        ("classification", ["--label", "colour"]),
        ("multilabel", ["--label", "bright", "--label", "warm"]),
        ("regression", ["--label", "size"]),
    ],
)
def test_every_kind_of_task_is_fitted_evaluated_and_predicted(kind, labels, table, tmp_path, capsys):
    facts = fitted(table, tmp_path / "run", capsys, *labels)
    assert facts["technique"] == "fine-tuning"
    assert facts["task"] == kind
    assert facts["training"]["steps"] > 0
    assert main(["evaluate", str(tmp_path / "run"), str(table), "--json"]) == 0
    assert json.loads(capsys.readouterr().out)["examples"] == 24
    out = tmp_path / "predictions.csv"
    assert main(["predict", str(tmp_path / "run"), str(table), "--out", str(out)]) == 0
    assert len(out.read_text().splitlines()) == 25


def test_a_run_carries_on_from_another_run(table, tmp_path, capsys):
    fitted(table, tmp_path / "first", capsys, "--label", "colour")
    capsys.readouterr()
    next_words = ["fit", str(table), "--image", "path", "--label", "warm", "--task", "classification"]
    shared = ["--backbone", str(tmp_path / "first"), "--technique", "fine-tuning", "--epochs", "1", "--train", "1"]
    assert main([*next_words, *shared, "--out", str(tmp_path / "second")]) == 0
    printed = capsys.readouterr().out
    assert "Served:" in printed
    assert all(len(line) <= 80 for line in printed.splitlines() if str(tmp_path) not in line)
    assert (tmp_path / "second" / "training.svg").is_file()
    assert not (tmp_path / "second.checkpoints").exists()


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (["--train", "al"], "'all'"),
        (["--learning-rate", "fast"], "--learning-rate"),
        (["--epochs", "-1"], "epochs"),
        (["--batch-size", "0"], "--batch-size"),
        (["--layer-decay", "steep"], "--layer-decay"),
        (["--objective", "contrast"], "contrastive"),
        (["--regularizer", "l2-sp"], "regularizer"),
        (["--strength", "0.1"], "strength"),
        (["--mixup", "-1"], "mixup"),
        (["--cutmix", "-1"], "cutmix"),
        (["--augment", "11"], "augment"),
        (["--label-smoothing", "1.5"], "label_smoothing"),
        (["--precision", "float16"], "bfloat16"),
        (["--weight-decay", "-1"], "weight_decay"),
        (["--warmup", "2"], "warmup"),
        (["--clip", "0"], "clip"),
        (["--clip", "much"], "--clip"),
        (["--class-weight", "balance"], "balanced"),
        (["--parts", "0"], "--parts"),
        (["--average", "2"], "average"),
        (["--validation", "0.95"], "validation"),
        (["--batch-norm", "thaw"], "frozen"),
        (["--keep-adapters"], "keep_adapters"),
        (["--train", "99"], "train"),
        (["--technique", "fine-tunning"], "fine-tuning"),
    ],
)
def test_what_cannot_be_used_is_refused_before_anything_is_written(options, message, table, tmp_path, capsys):
    words = ["fit", str(table), "--image", "path", "--label", "colour", "--out", str(tmp_path / "run"), *SMALL]
    assert main([*words, *options]) == 2
    assert message in capsys.readouterr().err
    assert list(tmp_path.iterdir()) == []


def test_the_options_of_fine_tuning_reach_it(table, tmp_path, capsys):
    log = tmp_path / "log"
    options = ["--mixup", "0.2", "--cutmix", "0.5", "--augment", "3", "--label-smoothing", "0.1", "--batch-size", "8"]
    more = ["--layer-decay", "0.9", "--precision", "float32", "--log-folder", str(log)]
    facts = fitted(table, tmp_path / "run", capsys, "--label", "colour", *options, *more)
    assert list(log.glob("events.*"))
    params = json.loads((tmp_path / "run" / "config.json").read_text())["params"]
    wanted = {"mixup": 0.2, "cutmix": 0.5, "augment": 3.0, "label_smoothing": 0.1, "batch_size": 8, "layer_decay": 0.9}
    assert {name: params[name] for name in wanted} == wanted
    assert params["precision"] == "float32"
    assert params["learning_rate"] == "auto"
    assert facts["training"]["steps"] == round(2 * 19 / 8)  # 5 of the 24 are held out


def test_ctrl_c_keeps_a_checkpoint_from_which_resume_ends_with_the_same_bits(table, tmp_path, capsys, monkeypatch):
    from graft.techniques.objectives import Supervised

    options = ["--label", "colour", "--train", "gradual", "--mixup", "0.2", "--parts", "2", "--batch-size", "8"]
    fitted(table, tmp_path / "whole", capsys, *options)
    plain, calls = Supervised.loss, []

    def pressed(self, *given):
        calls.append(1)
        if len(calls) == 5:
            signal.raise_signal(signal.SIGINT)
        return plain(self, *given)

    words = ["fit", str(table), "--image", "path", *SMALL, "--epochs", "2", *options, "--out", str(tmp_path / "cut")]
    with monkeypatch.context() as patched:
        patched.setattr(Supervised, "loss", pressed)
        assert main(words) == 130
    assert "--resume" in capsys.readouterr().err
    assert not (tmp_path / "cut").exists()
    assert list((tmp_path / "cut.checkpoints").rglob("step-*"))
    assert main([*words, "--resume"]) == 0
    one, other = (load_file(tmp_path / name / "model.safetensors") for name in ("whole", "cut"))
    assert one.keys() == other.keys()
    assert all(np.array_equal(values, other[name]) for name, values in one.items())
    assert not (tmp_path / "cut.checkpoints").exists()


def test_every_further_option_of_the_recipe_reaches_it(table, tmp_path, capsys):
    wanted = {
        "weight_decay": 0.02,
        "warmup": 0.2,
        "clip": 0.5,
        "class_weight": "balanced",
        "parts": 2,
        "average": 0.9,
        "patience": 4,
        "soup": 2,
        "validation": 0.25,
        "batch_norm": "train",
        "rank": 4,
    }
    options = [word for name, value in wanted.items() for word in (f"--{name.replace('_', '-')}", str(value))]
    flags = {"recompute": True, "guard": False, "cache": False}
    options += ["--recompute", "--no-guard", "--no-cache"]
    fitted(table, tmp_path / "run", capsys, "--label", "colour", *options)
    params = json.loads((tmp_path / "run" / "config.json").read_text())["params"]
    assert {name: params[name] for name in (*wanted, *flags)} == {**wanted, **flags}
    fitted(table, tmp_path / "unclipped", capsys, "--label", "colour", "--clip", "none")
    assert json.loads((tmp_path / "unclipped" / "config.json").read_text())["params"]["clip"] is None


def test_every_option_of_fine_tuning_is_on_the_command_line_or_known_not_to_be(capsys):
    from inspect import signature

    from graft import FineTuning
    from graft.cli.fit import fit

    # The device and the store are the machine's, checkpoints stand beside the run, and names come from the table.
    elsewhere = {
        "device",
        "store",
        "checkpoints",
        "label_names",
        "refit",
        "random_state",
        "pretrained",
        "guard",
        "cache",
    }
    here = set(signature(fit).parameters) | elsewhere | {"validation"}
    assert set(signature(FineTuning).parameters) <= here


def test_regularizer_objective_and_adapters_are_chosen_by_name(table, tmp_path, capsys):
    fitted(table, tmp_path / "first", capsys, "--label", "colour")
    words = ["fit", str(table), "--image", "path", "--label", "warm", "--task", "classification", "--epochs", "1"]
    shared = ["--backbone", str(tmp_path / "first"), "--technique", "fine-tuning", "--batch-size", "8"]
    for number, chosen in enumerate(
        (["--regularizer", "l2-sp", "--strength", "0.1"], ["--objective", "contrastive"], ["--train", "lora"])
    ):
        out = tmp_path / f"run {number}"
        assert main([*words, *shared, *chosen, "--out", str(out)]) == 0, capsys.readouterr().err
        params = json.loads((out / "config.json").read_text())["params"]
        assert str(params[chosen[0].removeprefix("--")]) == chosen[1]


@pytest.mark.parametrize(
    "option",
    [
        ["--train", "2"],
        ["--from-scratch"],
        ["--epochs", "2"],
        ["--batch-size", "8"],
        ["--learning-rate", "1e-3"],
        ["--layer-decay", "0.5"],
        ["--objective", "contrastive"],
        ["--regularizer", "l2-sp"],
        ["--strength", "1"],
        ["--label-smoothing", "0.1"],
        ["--mixup", "0.2"],
        ["--cutmix", "0.2"],
        ["--augment", "2"],
        ["--precision", "float32"],
        ["--log-folder", "log"],
        ["--resume"],
        ["--weight-decay", "0.1"],
        ["--clip", "none"],
        ["--parts", "2"],
        ["--recompute"],
        ["--no-guard"],
        ["--no-cache"],
        ["--keep-adapters"],
    ],
    ids=lambda words: words[0],
)
def test_an_option_of_fine_tuning_is_refused_beside_another_technique(option, table, tmp_path, capsys):
    words = ["fit", str(table), "--image", "path", "--label", "colour", "--out", str(tmp_path / "run")]
    for technique in ([], ["--technique", "feature-extraction"]):
        assert main([*words, *technique, *option]) == 2
        printed = capsys.readouterr().err
        assert f"{option[0]}: expected --technique fine-tuning" in " ".join(printed.split())
    assert list(tmp_path.iterdir()) == []


def test_the_help_groups_what_is_for_training(capsys, monkeypatch):
    monkeypatch.setenv("COLUMNS", "80")
    assert main(["fit", "--help"]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert all(len(line) <= 80 for line in lines)
    title = next(at for at, line in enumerate(lines) if line.startswith("Training"))
    below = {line.split()[0] for line in lines[title + 1 :] if line.startswith("  --")}
    above = {line.split()[0] for line in lines[:title] if line.startswith("  --")}
    assert {"--train", "--from-scratch", "--regularizer", "--mixup", "--log-folder", "--resume"} <= below
    assert {"--out", "--technique", "--seed", "--json", "--help"} <= above
