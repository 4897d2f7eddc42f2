"""TENT, AdaBN and T3A: a trained network meets another domain."""

import copy

import numpy as np
import pytest
import torch
from torch import nn
from torch.nn import functional

from graft.alignment import Supports, adjust_templates, entropy_loss, normalization_parameters, renormalize
from graft.errors import DataError, RequestError


def drawn(*shape, seed=0, scale=1.0):
    return scale * torch.randn(*shape, generator=torch.Generator().manual_seed(seed))


def small_network():
    torch.manual_seed(0)
    return nn.Sequential(
        nn.Conv2d(2, 3, 3),
        nn.BatchNorm2d(3),
        nn.ReLU(),
        nn.Dropout(0.5),
        nn.Flatten(),
        nn.Linear(48, 5),
        nn.BatchNorm1d(5),
    )


# --- TENT ------------------------------------------------------------------------------------------------------------


def test_scales_and_shifts_of_every_normalisation_and_nothing_else():
    network = nn.ModuleDict(
        {
            "batch": nn.BatchNorm2d(3),
            "layer": nn.LayerNorm(4),
            "group": nn.GroupNorm(2, 4),
            "instance": nn.InstanceNorm1d(3, affine=True),
            "plain": nn.InstanceNorm1d(3),
            "linear": nn.Linear(2, 2),
        }
    )
    names = [f"{layer}.{part}" for layer in ("batch", "layer", "group", "instance") for part in ("weight", "bias")]
    found = normalization_parameters(network)
    assert list(found) == names
    assert found["layer.weight"] is network["layer"].weight
    for without in (nn.Linear(2, 2), nn.BatchNorm1d(3, affine=False)):
        with pytest.raises(RequestError, match="normalisation"):
            normalization_parameters(without)


def test_tent_lowers_the_entropy_and_changes_scales_and_shifts_alone():
    network, inputs = small_network().eval(), drawn(32, 2, 6, 6, scale=2.0)
    for layer in network:
        layer.train(isinstance(layer, nn.BatchNorm2d | nn.BatchNorm1d))
    chosen = normalization_parameters(network)
    before = {name: values.detach().clone() for name, values in network.named_parameters()}
    optimizer = torch.optim.SGD(chosen.values(), lr=0.5)
    losses = []
    for _ in range(10):
        optimizer.zero_grad()
        loss = entropy_loss(network(inputs))
        loss.backward()
        optimizer.step()
        losses.append(float(loss.detach()))
    assert losses[-1] < losses[0] - 0.05
    changed = {name for name, values in network.named_parameters() if not torch.equal(values, before[name])}
    assert changed <= set(chosen)
    assert {"6.weight", "6.bias", "1.weight"} <= changed


# --- AdaBN -----------------------------------------------------------------------------------------------------------


def test_one_batch_gives_its_own_statistics():
    network, inputs = small_network(), drawn(40, 2, 6, 6, scale=3.0) + 1
    reference = copy.deepcopy(network).eval()
    for layer in (reference[1], reference[6]):
        layer.train()
        layer.momentum = 1.0
    reference(inputs)
    renormalize(network, [inputs])
    for place in (1, 6):
        torch.testing.assert_close(network[place].running_mean, reference[place].running_mean)
        torch.testing.assert_close(network[place].running_var, reference[place].running_var)


def test_the_first_layer_does_not_depend_on_how_examples_are_dealt_into_batches():
    inputs = drawn(40, 3, scale=2.0) + torch.linspace(0, 100, 40)[:, None]
    expected = inputs.mean(dim=0), inputs.var(dim=0)
    for sizes in ([40], [10, 10, 10, 10], [2, 35, 3]):
        layer = renormalize(nn.BatchNorm1d(3), inputs.split(sizes))
        torch.testing.assert_close((layer.running_mean, layer.running_var), expected)


def test_far_from_zero_the_variance_keeps_its_digits():
    inputs = drawn(1000, 1) + 1e4
    layer = renormalize(nn.BatchNorm1d(1), inputs.split(100))
    torch.testing.assert_close(layer.running_var, (inputs.double() - 1e4).var(dim=0).float(), rtol=1e-2, atol=0)


def test_a_shift_of_scale_and_place_is_undone():
    """Source and target differ by an affine map of each feature: with its own statistics the network cannot tell."""
    torch.manual_seed(0)
    network, source = nn.Sequential(nn.BatchNorm1d(4), nn.Linear(4, 3)), drawn(500, 4)
    target = source * torch.tensor([0.1, 5.0, 1.0, 30.0]) + torch.tensor([3.0, -2.0, 0.0, 50.0])
    expected = renormalize(network, source.split(50)).eval()(source)
    assert (network(target) - expected).abs().max() > 1
    torch.testing.assert_close(renormalize(network, target.split(50))(target), expected, rtol=1e-3, atol=1e-3)


def test_nothing_but_running_statistics_changes():
    network = small_network()
    network[1].eval()
    modes = [module.training for module in network.modules()]
    before = {name: values.clone() for name, values in network.state_dict().items()}
    state = torch.get_rng_state()
    assert renormalize(network, [drawn(8, 2, 6, 6), drawn(5, 2, 6, 6, seed=1)]) is network
    assert [module.training for module in network.modules()] == modes
    changed = {name for name, values in network.state_dict().items() if not torch.equal(values, before[name])}
    assert changed == {"1.running_mean", "1.running_var", "6.running_mean", "6.running_var"}
    assert all(parameter.grad is None for parameter in network.parameters())
    # Dropout is off: nothing is drawn, and twice is once.
    assert torch.equal(torch.get_rng_state(), state)
    once = copy.deepcopy(network.state_dict())
    renormalize(network, [drawn(8, 2, 6, 6), drawn(5, 2, 6, 6, seed=1)])
    torch.testing.assert_close(network.state_dict(), once)


@pytest.mark.parametrize("batches", [[], [torch.zeros(1, 3)], [torch.randn(4, 3), torch.zeros(1, 3)]])
def test_without_enough_examples_the_network_stays_as_it_is(batches):
    layer = nn.BatchNorm1d(3)
    before = copy.deepcopy(layer.state_dict())
    with pytest.raises(DataError, match="batches"):
        renormalize(layer, batches)
    torch.testing.assert_close(layer.state_dict(), before)
    assert layer.training
    with pytest.raises(RequestError, match="running statistics"):
        renormalize(nn.LayerNorm(3), [torch.zeros(4, 3)])


def test_layers_through_which_nothing_passes_keep_their_statistics():
    class Branches(nn.Module):
        def __init__(self):
            super().__init__()
            self.used, self.unused = nn.BatchNorm1d(2), nn.BatchNorm1d(2)

        def forward(self, values):
            return self.used(values)

    network = renormalize(Branches(), [torch.ones(3, 2) + torch.arange(3)[:, None]])
    assert network.used.running_mean.tolist() == [2, 2]
    assert network.unused.running_mean.tolist() == [0, 0]


# --- T3A -------------------------------------------------------------------------------------------------------------


def templates_by_loops(batches, weight, bias, keep):
    """Every batch is added to all that came before; the last batch's logits."""
    classes = len(weight)
    rows = [(weight[k], weight[k]) for k in range(classes)]
    kept = []

    def judge(x):
        logits = weight @ x + bias
        p = np.exp(logits - logits.max())
        p /= p.sum()
        return int(logits.argmax()), -(p * np.log(p)).sum(), x / np.linalg.norm(x)

    kept += [judge(row) for row, _ in rows]
    for batch in batches:
        kept += [judge(row) for row in batch]
        of_class = [sorted((one for one in kept if one[0] == k), key=lambda one: one[1])[:keep] for k in range(classes)]
        kept = [one for members in of_class for one in members]
        templates = [sum(one[2] for one in members) for members in of_class]
        logits = np.array([[row @ c / np.linalg.norm(c) for c in templates] for row in batch])
    return logits


@pytest.mark.parametrize("keep", [1, 3, None])
def test_templates_against_loops(keep):
    weight, bias = drawn(4, 6, seed=5).double(), drawn(4, seed=6).double()
    weight = 3 * weight
    batches = [drawn(10, 6, seed=seed).double() for seed in range(3)]
    supports = None
    for batch in batches:
        logits, supports = adjust_templates(batch, weight, bias, supports=supports, keep=keep)
    expected = templates_by_loops([b.numpy() for b in batches], weight.numpy(), bias.numpy(), keep)
    np.testing.assert_allclose(logits.numpy(), expected, rtol=1e-10)
    assert keep is None or supports.labels.bincount().max() <= keep


def test_supports_that_are_handed_in_stay_as_they_are():
    weight = torch.eye(3)
    _, first = adjust_templates(drawn(5, 3), weight)
    before = [values.clone() for values in (first.features, first.labels, first.entropies)]
    again = [adjust_templates(drawn(5, 3, seed=1), weight, supports=first)[0] for _ in range(2)]
    assert torch.equal(*again)
    assert all(torch.equal(*pair) for pair in zip(before, (first.features, first.labels, first.entropies), strict=True))
    assert isinstance(first, Supports)


def test_the_order_within_a_batch_and_the_scale_of_features_do_not_matter():
    weight, batch = drawn(3, 4, seed=2), drawn(9, 4)
    order = torch.tensor([4, 2, 0, 1, 8, 7, 3, 6, 5])
    whole, _ = adjust_templates(batch, weight, keep=2)
    torch.testing.assert_close(adjust_templates(batch[order], weight, keep=2)[0], whole[order])


def test_templates_move_to_where_the_target_is():
    """Classes have turned away from the head's weights by most of a right angle's half."""
    labels = torch.arange(300) % 3
    weight = 4 * torch.eye(3)
    turned = torch.tensor([[1.0, 0.9, 0.0], [0.0, 1.0, 0.9], [0.9, 0.0, 1.0]])
    batch = 2 * turned[labels] + drawn(300, 3, scale=0.35)
    plain = (batch @ weight.T).argmax(dim=1)
    adjusted = adjust_templates(batch, weight, keep=20)[0].argmax(dim=1)
    assert (adjusted == labels).float().mean() > (plain == labels).float().mean() + 0.1


def test_extremes_and_refusals():
    weight = torch.eye(3)
    for batch in (torch.zeros(2, 3), 1e4 * drawn(2, 3), drawn(1, 3).bfloat16(), torch.ones(4, 3)):
        logits, supports = adjust_templates(batch, weight)
        assert logits.isfinite().all()
        assert logits.dtype == torch.float32
        assert supports.entropies.isfinite().all()
    assert adjust_templates(functional.normalize(drawn(2, 3)).requires_grad_(), weight)[0].requires_grad is False
    with pytest.raises(RequestError, match="bias"):
        adjust_templates(torch.ones(2, 3), weight, torch.ones(2))
    with pytest.raises(RequestError, match="weight"):
        adjust_templates(torch.ones(2, 3), torch.eye(2))
    with pytest.raises(RequestError, match="keep"):
        adjust_templates(torch.ones(2, 3), weight, keep=0)
