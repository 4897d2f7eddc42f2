"""Modules between features and heads: their shapes and gradients, their formulas, and where one becomes another."""

import doctest
import importlib
import subprocess
import sys

import pytest
import torch

import graft.sharing
from graft.errors import RequestError
from graft.sharing import PLE, CrossStitch, HardSharing, MMoE, TaskAdapters

MAKERS = {
    "hard": lambda **o: HardSharing(3, 5, hidden=[7, 4], **o),
    "mmoe": lambda **o: MMoE(3, 5, experts=2, hidden=[7, 4], **o),
    "cgc": lambda **o: PLE(3, 5, hidden=[7, 4], **o),
    "ple": lambda **o: PLE(3, 5, levels=3, own_experts=1, hidden=[7, 4], **o),
    "own only": lambda **o: PLE(3, 5, levels=2, common_experts=0, hidden=[7, 4], **o),
    "cross-stitch": lambda **o: CrossStitch(3, 5, hidden=[7, 4], **o),
    "adapters": lambda **o: TaskAdapters(3, 5, rank=2, **o),
}
EVERY = pytest.mark.parametrize("name", MAKERS)


def inputs(n=6, dtype=torch.float32):
    return torch.randn(n, 5, generator=torch.Generator().manual_seed(0), dtype=dtype)


def lively(trunk):
    """The trunk with all parameters drawn, also those that begin with zeros."""
    draws = torch.Generator().manual_seed(1)
    with torch.no_grad():
        for value in trunk.parameters():
            value.copy_(torch.randn(value.shape, generator=draws) * 0.5)
    return trunk


@EVERY
def test_shapes(name):
    width = 5 if name == "adapters" else 4
    for n in (6, 1, 0):
        assert MAKERS[name]()(inputs(n)).shape == (3, n, width)


@EVERY
def test_every_parameter_and_the_features_get_a_gradient_that_is_right(name):
    trunk, features = lively(MAKERS[name]()).double(), inputs(dtype=torch.float64).requires_grad_()
    names = [key for key, _ in trunk.named_parameters()]

    def run(features, *values):
        return torch.func.functional_call(trunk, dict(zip(names, values, strict=True)), (features,))

    values = [value.detach().requires_grad_() for value in trunk.parameters()]
    assert torch.autograd.gradcheck(run, (features, *values))
    weigh = torch.randn(3, 6, features.shape[1] if name == "adapters" else 4, dtype=torch.float64)
    (run(features, *values) * weigh).sum().backward()
    assert features.grad.abs().sum() > 0
    assert all(value.grad is not None and value.grad.abs().sum() > 0 for value in values)


@EVERY
def test_examples_do_not_see_each_other(name):
    trunk = lively(MAKERS[name]())
    torch.testing.assert_close(trunk(inputs())[:, 2:4], trunk(inputs()[2:4]))


@EVERY
def test_the_seed_decides_and_the_generator_of_torch_is_left_alone(name):
    torch.manual_seed(0)
    before = torch.random.get_rng_state()
    first, second, third = MAKERS[name](), MAKERS[name](seed=0), MAKERS[name](seed=1)
    assert torch.equal(torch.random.get_rng_state(), before)
    pairs = list(zip(first.state_dict().values(), second.state_dict().values(), strict=True))
    assert all(torch.equal(one, other) for one, other in pairs)
    assert any(not torch.equal(one, third.state_dict()[key]) for key, one in first.state_dict().items())


def test_mixture_of_one_expert_is_hard_sharing():
    mixture, hard = MMoE(3, 5, experts=1, hidden=[7, 4]), HardSharing(3, 5, hidden=[7, 4], seed=9)
    hard.network.load_state_dict(mixture.experts[0].state_dict())
    torch.testing.assert_close(mixture(inputs()), hard(inputs()))


def test_mixture_is_the_formula():
    mixture, features = lively(MMoE(3, 5, experts=4, hidden=[6])), inputs()
    found = mixture(features)
    for task in range(3):
        for row in range(6):
            gate = torch.softmax(mixture.gates[task].weight @ features[row], 0)
            expected = sum(gate[e] * mixture.experts[e](features[row]) for e in range(4))
            torch.testing.assert_close(found[task, row], expected)


def test_extraction_without_own_experts_is_the_mixture():
    ple, mixture = lively(PLE(3, 5, own_experts=0, common_experts=4, hidden=[6])), MMoE(3, 5, hidden=[6])
    mixture.experts.load_state_dict(ple.common[0].state_dict())
    mixture.gates.load_state_dict(ple.gates[0].state_dict())
    torch.testing.assert_close(ple(inputs()), mixture(inputs()))


def test_extraction_is_the_formula_level_by_level():
    ple, features = lively(PLE(2, 5, own_experts=1, common_experts=2, levels=2, hidden=[4])), inputs()
    states, common = [features, features], features
    for level in range(2):
        shared = [expert(common) for expert in ple.common[level]]
        own = [ple.own[level][task][0](states[task]) for task in range(2)]
        gates = [torch.softmax(states[task] @ ple.gates[level][task].weight.T, 1) for task in range(2)]
        if level == 0:
            gate = torch.softmax(common @ ple.common_gates[0].weight.T, 1)
            common = sum(gate[:, [e]] * one for e, one in enumerate([*own, *shared]))
        states = [sum(gates[t][:, [e]] * one for e, one in enumerate([own[t], *shared])) for t in range(2)]
    torch.testing.assert_close(ple(features), torch.stack(states))


def test_own_experts_alone_share_nothing():
    ple = MAKERS["own only"]()
    ple(inputs())[1].sum().backward()
    for place in (0, 2):
        own = [*ple.own[0][place].parameters(), *ple.own[1][place].parameters()]
        assert all(value.grad is None or not value.grad.any() for value in own)


def test_identity_stitches_are_separate_networks_and_equal_ones_the_mean():
    apart = lively(CrossStitch(3, 5, hidden=[7, 4], keep=1.0))
    with torch.no_grad():
        for stitch in apart.stitches:
            stitch.copy_(torch.eye(3))
    found = apart(inputs())
    for task in range(3):
        torch.testing.assert_close(found[task], apart.layers[1][task](apart.layers[0][task](inputs())))
    alike = CrossStitch(4, 5, hidden=[6], keep=0.25)
    mean = sum(layer(inputs()) for layer in alike.layers[0]) / 4
    torch.testing.assert_close(alike(inputs()), mean.expand(4, -1, -1))
    assert CrossStitch(1, 5, hidden=[6]).stitches[0].tolist() == [[1.0]]


def test_adapters_begin_as_the_identity_and_move_in_few_directions():
    adapters = TaskAdapters(3, 5, rank=2)
    torch.testing.assert_close(adapters(inputs()), inputs().expand(3, -1, -1), rtol=0, atol=0)
    moved = lively(adapters)(inputs()) - inputs()
    for task in range(3):
        assert torch.linalg.matrix_rank(moved[task], rtol=1e-5) == 2
        expected = inputs() @ (adapters.up[task] @ adapters.down[task]).T
        torch.testing.assert_close(moved[task], expected)


def test_a_task_that_differs_is_fitted_where_hard_sharing_must_choose():
    """Two tasks that need opposite signs of a hidden unit, one unit wide: mixtures of experts can have both."""
    draws = torch.Generator().manual_seed(0)
    X = torch.randn(256, 2, generator=draws)
    Y = torch.stack([X[:, 0].relu(), X[:, 1].relu()])

    def error(trunk):
        heads = torch.nn.Parameter(torch.ones(2, 1))
        optimizer = torch.optim.Adam([*trunk.parameters(), heads], lr=0.03)
        for _ in range(300):
            optimizer.zero_grad()
            loss = ((trunk(X) * heads[:, None]).sum(dim=2) - Y).square().mean()
            loss.backward()
            optimizer.step()
        return loss.item()

    hard = error(HardSharing(2, 2, hidden=[1], seed=1))
    assert hard > 0.05
    assert error(PLE(2, 2, own_experts=1, common_experts=1, hidden=[1], seed=3)) < hard / 2


def test_sizes_that_make_no_sense_are_refused():
    for wrong in (
        lambda: HardSharing(0, 5),
        lambda: HardSharing(2, 5, hidden=[]),
        lambda: HardSharing(2, 5, hidden=7),
        lambda: MMoE(2, 5, experts=0),
        lambda: PLE(2, 5, own_experts=0, common_experts=0),
        lambda: PLE(2, 5, levels=0),
        lambda: CrossStitch(2, 5, keep=1.5),
        lambda: TaskAdapters(2, 5, rank=0),
    ):
        with pytest.raises(RequestError):
            wrong()


def test_every_name_of_the_package_is_documented():
    for name in graft.sharing.__all__:
        assert getattr(graft.sharing, name).__doc__
    with pytest.raises(AttributeError, match="nothing_such"):
        _ = graft.sharing.nothing_such


@pytest.mark.parametrize(
    "module", ["common_and_own_ridge", "common_and_own_logistic", "affinity", "grouping", "trunks"]
)
def test_the_examples_in_the_documentation_are_right(module):
    assert doctest.testmod(importlib.import_module(f"graft.sharing.{module}")).failed == 0


def test_the_linear_models_and_groups_need_no_torch():
    code = """if True:
        import sys
        from graft.sharing import CommonAndOwnLogistic, CommonAndOwnRidge, group_tasks, gradient_affinity
        print("torch" in sys.modules)
    """
    assert subprocess.run([sys.executable, "-c", code], capture_output=True, check=True).stdout.strip() == b"False"
