"""Balanced gradients in a training step: what lands in ``.grad``, in every mode."""

import pytest
import torch
from torch import nn

import graft.balancing
from graft.balancing import AGGREGATORS, SumGradient, UPGrad, balanced_backward, balanced_features
from graft.errors import RequestError

METHODS = {name: getattr(graft.balancing, kind)() for name, kind in AGGREGATORS.items()}
EVERY = pytest.mark.parametrize("method", METHODS.values(), ids=METHODS)
WEIGHTED = [name for name in METHODS if name != "graddrop"]


class Net:
    def __init__(self, tasks=3):
        torch.manual_seed(0)
        self.trunk = nn.Sequential(nn.Linear(5, 7), nn.Tanh(), nn.Linear(7, 4), nn.ReLU()).double()
        self.heads = nn.ModuleList(nn.Sequential(nn.Linear(4, 3), nn.ReLU(), nn.Linear(3, 1)) for _ in range(tasks))
        self.heads.double()
        draws = torch.Generator().manual_seed(1)
        self.inputs = torch.randn(6, 5, generator=draws, dtype=torch.float64)
        self.targets = torch.randn(tasks, 6, generator=draws, dtype=torch.float64)
        self.features = self.trunk(self.inputs)

    def losses(self, features=None):
        each = [self.features] * len(self.heads) if features is None else features
        return [
            (head(one)[:, 0] - target).square().mean()
            for head, one, target in zip(self.heads, each, self.targets, strict=True)
        ]

    def shared(self):
        return list(self.trunk.parameters())

    def matrix(self, wanted):
        rows = [torch.autograd.grad(loss, wanted, retain_graph=True) for loss in self.losses()]
        return torch.stack([torch.cat([part.reshape(-1) for part in row]) for row in rows])

    def gradients(self, module):
        return torch.cat([parameter.grad.reshape(-1) for parameter in module.parameters()])


def options(method, tasks=3):
    return {"generator": torch.Generator().manual_seed(0), "state": method.initial_state(tasks)}


def expected_heads(net):
    parameters = list(net.heads.parameters())
    return torch.cat([part.reshape(-1) for part in torch.autograd.grad(sum(net.losses()), parameters)])


@EVERY
def test_parameters_get_the_aggregate_and_heads_the_sum(method):
    net = Net()
    expected = method(net.matrix(net.shared()), **options(method))
    found = balanced_backward(net.losses(), net.shared(), method, **options(method))
    torch.testing.assert_close(net.gradients(net.trunk), expected, rtol=1e-6, atol=1e-9)
    torch.testing.assert_close(net.gradients(net.heads), expected_heads(Net()))
    assert found.gramian.shape == (3, 3)
    assert (found.weights is None) == (method is METHODS["graddrop"])


@EVERY
def test_features_get_the_aggregate_and_one_pass_takes_it_through_the_trunk(method):
    net = Net()
    direction = method(net.matrix([net.features]), **options(method)).view_as(net.features)
    expected = torch.autograd.grad(net.features, net.shared(), direction, retain_graph=True)
    balanced_backward(net.losses(), net.features, method, **options(method))
    for parameter, gradient in zip(net.shared(), expected, strict=True):
        torch.testing.assert_close(parameter.grad, gradient, rtol=1e-6, atol=1e-9)
    torch.testing.assert_close(net.gradients(net.heads), expected_heads(Net()))


@EVERY
def test_an_ordinary_backward_pass_through_balanced_features_gives_the_same(method):
    net, other = Net(), Net()
    balanced_backward(net.losses(), net.features, method, **options(method))
    copies = balanced_features(other.features, 3, method, **options(method))
    sum(other.losses(copies)).backward()
    torch.testing.assert_close(other.gradients(other.trunk), net.gradients(net.trunk), rtol=1e-9, atol=1e-12)
    torch.testing.assert_close(other.gradients(other.heads), net.gradients(net.heads))


@pytest.mark.parametrize("name", WEIGHTED)
def test_inner_products_without_gradients_give_the_same(name):
    net, other, method = Net(), Net(), METHODS[name]
    found = balanced_backward(net.losses(), net.shared(), method, **options(method))
    lean = balanced_backward(other.losses(), other.shared(), method, low_memory=True, **options(method))
    torch.testing.assert_close(lean.gramian, found.gramian)
    torch.testing.assert_close(lean.weights, found.weights, rtol=1e-5, atol=1e-7)
    torch.testing.assert_close(other.gradients(other.trunk), net.gradients(net.trunk), rtol=1e-5, atol=1e-7)
    torch.testing.assert_close(other.gradients(other.heads), net.gradients(net.heads))


@EVERY
@pytest.mark.parametrize("mode", ["parameters", "features", "copies", "low memory"])
@pytest.mark.parametrize("absent", [[0], [0, 2], [0, 1, 2]])
def test_absent_tasks_take_no_part(method, mode, absent):
    if mode == "low memory" and method is METHODS["graddrop"]:
        return
    net, other = Net(), Net()
    present = torch.ones(3, dtype=torch.bool)
    present[absent] = False
    kept = [place for place in range(3) if present[place]]
    net.targets[absent] = torch.nan
    state = method.initial_state(3)
    given = {"generator": torch.Generator().manual_seed(0), "state": state, "present": present}
    alone = options(method, len(kept))
    if mode == "copies":
        losses = net.losses(balanced_features(net.features, 3, method, **given))
        if kept:
            sum(losses[place] for place in kept).backward()
    else:
        where = net.features if mode == "features" else net.shared()
        found = balanced_backward(net.losses(), where, method, low_memory=mode == "low memory", **given)
        assert found.weights is None or (found.weights[absent] == 0).all()
        assert (found.gramian[absent] == 0).all()
    if not kept:
        assert all(parameter.grad is None for parameter in [*net.shared(), *net.heads.parameters()])
        return
    where = other.shared() if mode in ("parameters", "low memory") else other.features
    balanced_backward([other.losses()[place] for place in kept], where, method, **alone)
    torch.testing.assert_close(net.gradients(net.trunk), other.gradients(other.trunk), rtol=1e-5, atol=1e-7)
    for place in range(3):
        if place in absent:
            assert all(parameter.grad is None for parameter in net.heads[place].parameters())
        else:
            torch.testing.assert_close(net.gradients(net.heads[place]), other.gradients(other.heads[place]))
    if method.stateful:
        torch.testing.assert_close(state[present][:, present], alone["state"])
        assert (state[absent] == 0).all()


@pytest.mark.parametrize("mode", ["parameters", "features", "low memory"])
def test_the_sum_is_an_ordinary_backward_pass_and_gradients_add_up(mode):
    net, other = Net(), Net()
    for _ in range(2):
        net.features = net.trunk(net.inputs)
        where = net.features if mode == "features" else net.shared()
        balanced_backward(net.losses(), where, SumGradient(), low_memory=mode == "low memory")
        sum(other.losses()).backward(retain_graph=True)
    torch.testing.assert_close(net.gradients(net.trunk), other.gradients(other.trunk))
    torch.testing.assert_close(net.gradients(net.heads), other.gradients(other.heads))


def test_stacked_losses_give_the_same():
    net, other = Net(), Net()
    balanced_backward(torch.stack(net.losses()), net.features, UPGrad())
    balanced_backward(other.losses(), other.features, UPGrad())
    torch.testing.assert_close(net.gradients(net.trunk), other.gradients(other.trunk))


def test_several_features_are_balanced_as_one():
    net = Net()
    middle = net.trunk[:2](net.inputs)
    features = net.trunk[2:](middle)
    losses = [head(features).mean() + (place + 1) * middle.square().mean() for place, head in enumerate(net.heads)]
    rows = [torch.autograd.grad(loss, [features], retain_graph=True)[0].reshape(-1) for loss in losses]
    found = balanced_backward(losses, [features], UPGrad())
    torch.testing.assert_close(found.gramian, torch.stack(rows) @ torch.stack(rows).T)
    assert net.trunk[0].weight.grad is not None


def test_a_task_that_reaches_only_part_of_the_trunk():
    net = Net(2)
    early = net.trunk[0](net.inputs)
    late = net.trunk[1:](early)
    losses = [early.square().mean(), late.mean()]
    expected = [torch.autograd.grad(loss, net.shared(), retain_graph=True, allow_unused=True) for loss in losses]
    for low_memory in (False, True):
        net.trunk.zero_grad()
        found = balanced_backward(losses, net.shared(), UPGrad(), low_memory=low_memory)
        squares = [sum(float(part.square().sum()) for part in row if part is not None) for row in expected]
        torch.testing.assert_close(found.gramian.diagonal(), torch.tensor(squares, dtype=torch.float64))


@pytest.mark.parametrize("low_memory", [False, True])
def test_no_two_leaves_share_the_memory_of_their_gradients(low_memory):
    """Autograd gives both summands one tensor; clipping in place would then count twice."""
    shared, first, second = (torch.ones(3, requires_grad=True) for _ in range(3))
    losses = [(shared * (first + second)).sum(), (shared + first + second).sum()]
    balanced_backward(losses, [shared], UPGrad(), low_memory=low_memory)
    assert first.grad.data_ptr() != second.grad.data_ptr()
    first.grad.mul_(2)
    torch.testing.assert_close(first.grad, 2 * second.grad)
    first.grad = second.grad = None
    sums = [(first + second).sum(), 2 * (first + second).sum()]
    balanced_backward(sums, [first, second], UPGrad(), low_memory=low_memory)
    assert first.grad.data_ptr() != second.grad.data_ptr()


def test_half_precision_features():
    net = Net()
    features = net.features.detach().bfloat16().requires_grad_()
    copies = balanced_features(features, 2, UPGrad())
    (copies[0].float().sum() - 2 * copies[1].float().square().sum()).backward()
    assert features.grad.dtype == torch.bfloat16
    assert features.grad.isfinite().all()


@pytest.mark.parametrize("name", ["sum", "mgda", "upgrad", "dualproj", "nash-mtl", "fairgrad", "config", "imtl-g"])
def test_a_step_harms_the_small_one_of_two_conflicting_tasks_only_by_the_sum(name):
    def losses(at):
        return [100 * (at[0] - 1).square(), (at[0] + 1).square() + (at[1] - 1).square()]

    point = torch.zeros(2, dtype=torch.float64, requires_grad=True)
    before = losses(point)
    balanced_backward(before, [point], METHODS[name])
    after = losses(point.detach() - 1e-3 * point.grad / point.grad.norm())
    assert after[0] <= before[0] + 1e-5
    assert (after[1] > before[1] + 1e-4) == (name == "sum")


@pytest.mark.parametrize(
    ("call", "subject"),
    [
        (lambda net: balanced_backward(net.losses(), [net.features, *net.shared()], UPGrad()), "shared"),
        (lambda net: balanced_backward(net.losses(), net.inputs, UPGrad()), "shared"),
        (lambda net: balanced_backward(net.losses(), [], UPGrad()), "shared"),
        (lambda net: balanced_backward([net.features], net.shared(), UPGrad()), "losses[0]"),
        (lambda net: balanced_backward(net.losses(), net.shared(), UPGrad(), present=torch.ones(2)), "present"),
        (
            lambda net: balanced_backward(
                net.losses(), net.shared(), METHODS["graddrop"], low_memory=True, generator=torch.Generator()
            ),
            "low_memory",
        ),
        (lambda net: balanced_features(net.features, 3, METHODS["pcgrad"]), "generator"),
        (lambda net: balanced_features(net.features, 3, UPGrad(), present=torch.ones(3)), "present"),
    ],
)
def test_what_cannot_be_used_is_refused_with_its_remedy(call, subject):
    with pytest.raises(RequestError) as caught:
        call(Net())
    assert caught.value.subject == subject
