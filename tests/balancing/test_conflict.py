"""Two tasks that pull one point apart, one with a hundred times the loss: what equal weights give up, others keep."""

import pytest
import torch
from torch import nn

from graft import balancing
from graft.balancing import AGGREGATORS, LOSS_WEIGHTINGS, balanced_backward

SCALE = 100.0


def left(name):
    """Return what is left of each task's loss, 1 being the loss at the other task's optimum.

    The losses are ‖θ - a‖² and 100 ‖θ - b‖² with ‖a - b‖ = 1: half of the way leaves a quarter of both.
    """
    point = nn.Parameter(torch.tensor([0.3, 0.8]))
    aims = torch.tensor([[0.0, 0.0], [1.0, 0.0]])

    def losses():
        return (point - aims).square().sum(dim=1) * torch.tensor([1.0, SCALE])

    if name in AGGREGATORS:
        method = getattr(balancing, AGGREGATORS[name])()
        optimizer = torch.optim.Adam([point], lr=0.05)
        for _ in range(200):
            optimizer.zero_grad()
            balanced_backward(losses().unbind(), [point], method, state=method.initial_state(2))
            optimizer.step()
    else:
        kind = getattr(balancing, LOSS_WEIGHTINGS[name])
        method = kind(["regression"] * 2) if name == "uncertainty" else kind(2)
        optimizer = torch.optim.Adam([point, *method.parameters()], lr=0.05)
        for step in range(200):
            optimizer.zero_grad()
            before = losses()
            norms = torch.stack([torch.autograd.grad(one, point, retain_graph=True)[0].norm() for one in before])
            method(before, step=step).backward()
            optimizer.step()
            given = {"losses_after": losses().detach(), "gradient_norms": norms}
            method.update(before.detach(), **{name: given[name] for name in method.needs})
    return (losses() / torch.tensor([1.0, SCALE])).tolist()


def test_equal_weights_give_up_the_task_with_the_small_loss():
    first, second = left("equal")
    assert first > 0.95
    assert second < 0.001


@pytest.mark.parametrize("name", ["gradnorm", "imtl-g", "nash-mtl", "fairgrad", "config"])
def test_methods_that_look_at_gradients_keep_both(name):
    assert max(left(name)) < 0.5
