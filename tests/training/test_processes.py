"""Two processes on the CPU train as one does, started by torchrun with no change of the program."""

import json
import os
import socket
import subprocess
import sys
import textwrap

import pytest
import torch

from graft import _runtime
from graft.training.processes import Processes

PROGRAM = textwrap.dedent(
    """
    import json, os, signal, sys
    from pathlib import Path
    import torch
    from torch import nn
    from graft.training import Batch, Checkpoints, Network, Order, Plan, Recipe, train

    torch.set_num_threads(1)
    folder = Path(sys.argv[1])
    torch.manual_seed(0)
    inputs, order = torch.randn(60, 5), Order(60, 10, seed=0)
    targets = (inputs[:, 0] > 0).long()
    weight = torch.rand(60) + 0.5
    # The main process decides: another start elsewhere changes nothing.
    torch.manual_seed(int(os.environ.get("RANK", "0")))
    trunk = nn.Sequential(nn.Linear(5, 8), nn.LayerNorm(8), nn.Tanh())
    network = Network(trunk, {"task": nn.Linear(8, 2), "rare": nn.Linear(8, 2), "never": nn.Linear(8, 2)})
    every = frozenset(name for name, _ in network.named_parameters())

    def batch(step, share, shares):
        rows = torch.from_numpy(order.rows(step)[share::shares])
        return Batch(inputs[rows], {"task": targets[rows], "row": rows}, weight[rows])

    def loss(model, part, step):
        _, outputs = model(part.inputs)
        losses = nn.functional.cross_entropy(outputs["task"], part.targets["task"], reduction="none")
        if step == 3:
            # Not a number, for one example: in one process alone.
            losses = losses.where(part.targets["row"] != int(order.rows(3)[0]), float("nan"))
        rare = part.targets["row"] == 7  # in one share of some batches: the other has no gradient for that head
        total = (losses * part.weight).sum()
        if rare.any():
            total = total + outputs["rare"][rare].square().sum()
        return total, part.weight.sum()

    def evaluate(model):
        # Elsewhere the last digits differ; here they would turn the order of the evaluations around.
        own = float(os.environ.get("RANK", "0")) * (1 + len(seen))
        seen.append(own)
        return {"score": -float(nn.functional.cross_entropy(model(inputs)[1]["task"], targets)) + own}

    seen = []

    steps = 18
    plan = Plan(steps, lambda step: every, {name: 0 for name in every if name.startswith("trunk")},
                Recipe(0.02, 0.02), average=0.9, evaluate_every=4, keep=2)
    kept = Checkpoints(folder / "checkpoints", {}, seconds=0)
    done = train(network, batch, loss, plan, evaluate=evaluate, checkpoints=kept, show=False)
    # Interrupted in one process alone and continued: the main one's word counts, and both end with the same weights.
    trunk = nn.Sequential(nn.Linear(5, 8), nn.BatchNorm1d(8))
    normal = Network(trunk, {"task": nn.Linear(8, 2), "rare": nn.Linear(8, 2)})
    start = {name: values.clone() for name, values in normal.state_dict().items()}
    everything = frozenset(name for name, _ in normal.named_parameters())
    plan = Plan(9, lambda step: everything, {}, Recipe(0.02, 0.02), batch_norm="train", average=0.9)

    def pressed(model, part, step):
        if step == 5 and os.environ.get("RANK", "0") == "0":
            signal.raise_signal(signal.SIGINT)
        return loss(model, part, step)

    ended = []
    for folder_name, steps in (("whole", [loss]), ("cut", [pressed, loss])):
        normal.load_state_dict(start)
        for number, one in enumerate(steps):
            kept = Checkpoints(folder / folder_name, {}, resume=number > 0)
            try:
                train(normal, batch, one, plan, checkpoints=kept, show=False)
            except KeyboardInterrupt:
                assert one is pressed
                normal.load_state_dict(start)
        ended.append({name: values.clone() for name, values in normal.state_dict().items()})
    result = {
        "resumed": all(torch.equal(values, ended[1][name]) for name, values in ended[0].items()),
        "normal": {name: values.tolist() for name, values in ended[0].items()},
        "losses": [None if value != value else value for value in done.progress.losses],
        "evaluations": done.progress.evaluations,
        "skipped": done.progress.skipped,
        "snapshots": [one.step for one in done.snapshots],
        "weights": {name: values.tolist() for name, values in network.state_dict().items()},
        "checkpoints": sorted(path.name for path in (folder / "checkpoints").iterdir()),
    }
    (folder / f"result-{os.environ.get('RANK', 'alone')}.json").write_text(json.dumps(result))
    """
)


def free_port():
    with socket.socket() as one:
        one.bind(("127.0.0.1", 0))
        return one.getsockname()[1]


def run(command, folder):
    own = {key: value for key, value in os.environ.items() if key not in {"RANK", "WORLD_SIZE", "LOCAL_RANK"}}
    environment = {**own, "OMP_NUM_THREADS": "1", "CUDA_VISIBLE_DEVICES": ""}
    ended = subprocess.run(command, env=environment, cwd=folder, capture_output=True, text=True, timeout=600)
    assert ended.returncode == 0, ended.stderr[-3000:]


@pytest.mark.skipif(not torch.distributed.is_available(), reason="this build of torch has no torch.distributed")
def test_two_processes_train_as_one_does(tmp_path):
    program = tmp_path / "program.py"
    program.write_text(PROGRAM)
    run([sys.executable, str(program), str(tmp_path)], tmp_path)
    launcher = [sys.executable, "-m", "torch.distributed.run", "--nproc-per-node", "2", "--master-addr", "127.0.0.1"]
    run([*launcher, "--master-port", str(free_port()), str(program), str(tmp_path)], tmp_path)
    alone, first, second = (json.loads((tmp_path / f"result-{name}.json").read_text()) for name in ("alone", "0", "1"))
    assert alone["resumed"]
    for together in (first, second):
        assert [value is None for value in together["losses"]] == [step == 3 for step in range(18)]
        finite = [value for value in together["losses"] if value is not None]
        assert finite == pytest.approx([value for value in alone["losses"] if value is not None], rel=1e-5)
        assert together["skipped"] == alone["skipped"] == 1
        assert together["snapshots"] == alone["snapshots"]
        for found, expected in zip(together["evaluations"], alone["evaluations"], strict=True):
            assert found == pytest.approx(expected, rel=1e-5)
        for name, values in alone["weights"].items():
            torch.testing.assert_close(
                torch.tensor(together["weights"][name]), torch.tensor(values), rtol=1e-5, atol=1e-6
            )
        assert together["resumed"]
    assert first["weights"] == second["weights"]
    assert first["normal"] == second["normal"]
    assert first["evaluations"] == second["evaluations"]
    assert first["checkpoints"] == ["step-000000017", "step-000000018"]


def test_every_process_of_a_machine_has_a_cuda_device_of_its_own(monkeypatch):
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 2)
    monkeypatch.delenv("LOCAL_RANK", raising=False)
    assert [str(_runtime.device(name)) for name in (None, "cuda", "cuda:1")] == ["cuda", "cuda", "cuda:1"]
    for rank, own in (("0", "cuda:0"), ("1", "cuda:1")):
        monkeypatch.setenv("LOCAL_RANK", rank)
        assert [str(_runtime.device(name)) for name in (None, "cuda", "cuda:1", "cpu")] == [own, own, "cuda:1", "cpu"]


def test_one_process_is_alone_and_main(monkeypatch):
    monkeypatch.delenv("WORLD_SIZE", raising=False)
    alone = Processes(torch.device("cpu"))
    assert (alone.rank, alone.count, alone.main) == (0, 1, True)
    values = torch.tensor([1.0, 2.0])
    alone.sum([values])
    alone.average([values])
    alone.share([values])
    alone.wait()
    assert values.tolist() == [1.0, 2.0]
    assert alone.told({"score": 0.5}) == {"score": 0.5}
    assert alone.agree(True)
    assert not alone.agree(False)


def test_parameters_without_a_gradient_are_left_out():
    layer = torch.nn.Linear(2, 2)
    layer.weight.grad = torch.ones(2, 2)
    assert [grad.shape for grad in Processes(torch.device("cpu")).gradients(layer.parameters())] == [(2, 2)]
    assert layer.bias.grad is None
