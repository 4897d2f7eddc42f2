"""Convolutions that are computed faster in a training: the same function, the same gradient."""

import copy

import pytest
import torch
from torch import nn

from graft.backbones import load_backbone
from graft.training import fast_convolutions, set_trained
from graft.training.convolutions import _Depthwise


def with_statistics(network):
    """Give normalisations statistics and gains of their own, as training does."""
    torch.manual_seed(2)
    for one in network.modules():
        if isinstance(one, nn.BatchNorm2d):
            one.running_mean.normal_()
            one.running_var.uniform_(0.5, 2)
            if one.affine:
                one.weight.data.uniform_(0.5, 2)
                one.bias.data.normal_()
    return network


def small(activation=nn.ReLU):
    layers = [nn.Conv2d(3, 12, 3, padding=1, bias=False), nn.BatchNorm2d(12), activation()]
    layers += [nn.Conv2d(12, 12, 5, groups=12, padding=2, stride=2), nn.BatchNorm2d(12), activation()]
    layers += [nn.Conv2d(12, 7, 1), nn.BatchNorm2d(7, affine=False)]
    layers += [nn.AdaptiveAvgPool2d(1), nn.Flatten()]
    return with_statistics(nn.Sequential(*layers))


def gradients(network, batch, names=None):
    """The features, and the gradient of each trained parameter."""
    chosen = {name for name, _ in network.named_parameters()} if names is None else names
    set_trained(network, chosen)
    network.zero_grad()
    features = network(batch)
    (features * torch.linspace(-1, 1, features.shape[1])).sum().backward()
    return features.detach(), {
        name: parameter.grad.clone() for name, parameter in network.named_parameters() if parameter.grad is not None
    }


def both(network, batch, names=None):
    wanted = gradients(network, batch, names)
    with fast_convolutions(network, batch[:2]):
        return wanted, gradients(network, batch, names)


def assert_same(wanted, found):
    (features, grads), (other, others) = wanted, found
    # In float64 rounding is far below what another function would be off by.
    near = 1e-9 if features.dtype == torch.float64 else 1e-4
    torch.testing.assert_close(other, features, rtol=near, atol=near * float(features.abs().max()))
    assert grads.keys() == others.keys()
    for name, values in grads.items():
        torch.testing.assert_close(others[name], values, rtol=near, atol=near * float(values.abs().max()), msg=name)


def norms_called(network, batch):
    """How many normalisations are computed as such."""
    calls = []
    before = nn.functional.batch_norm

    def counted(*args, **named):
        calls.append(1)
        return before(*args, **named)

    nn.functional.batch_norm = counted
    try:
        network(batch)
    finally:
        nn.functional.batch_norm = before
    return len(calls)


@pytest.mark.parametrize("name", ["test_efficientnet", "test_resnet", "efficientnet_lite0", "convnext_atto"])
def test_features_and_every_gradient_are_those_of_the_plain_network(name):
    backbone = load_backbone(name, pretrained=False, image_size=64, random_state=0)
    network = with_statistics(backbone.copy_module()).double()
    batch = torch.randint(0, 256, (4, 3, 64, 64), generator=torch.Generator().manual_seed(1)).to(torch.uint8)
    assert_same(*both(network, batch))


@pytest.mark.parametrize("activation", [nn.ReLU, nn.SiLU, lambda: nn.ReLU(inplace=True)])
def test_every_frozen_normalisation_is_folded(activation):
    network, batch = small(activation).double(), torch.randn(5, 3, 8, 8).double()
    assert_same(*both(network, batch))
    set_trained(network, {name for name, _ in network.named_parameters()})
    assert norms_called(network, batch) == 3
    with fast_convolutions(network, batch):
        assert norms_called(network, batch) == 0
    assert norms_called(network, batch) == 3


def test_frozen_layers_that_are_written_to_are_folded_again():
    network, batch = small().double(), torch.randn(5, 3, 8, 8).double()
    set_trained(network, {"6.weight"})
    with fast_convolutions(network, batch):
        network(batch)
        with torch.no_grad():
            network[0].weight.mul_(2)
            network[4].bias.add_(1)
        network[1].running_mean.add_(0.5)
        found = network(batch)
    torch.testing.assert_close(found, network(batch))


def test_scales_that_are_trained_alone_are_not_folded():
    network, batch = small().double(), torch.randn(5, 3, 8, 8).double()
    assert_same(*both(network, batch, {"1.weight", "1.bias"}))
    set_trained(network, {"1.weight", "1.bias"})
    with fast_convolutions(network, batch):
        assert norms_called(network, batch) == 1


def test_statistics_that_are_trained_are_not_folded_and_learn_the_same():
    network, batch = small(), torch.randn(5, 3, 8, 8)
    other = copy.deepcopy(network)
    for one in (network, other):
        set_trained(one, {name for name, _ in one.named_parameters()}, batch_norm="train")
    wanted = network(batch)
    with fast_convolutions(other, batch):
        torch.testing.assert_close(other(batch), wanted)
    for name, values in network.state_dict().items():
        torch.testing.assert_close(other.state_dict()[name], values)


def test_a_convolution_that_others_read_too_is_left_alone():
    class Shared(nn.Module):
        def __init__(self):
            super().__init__()
            self.conv, self.norm = nn.Conv2d(3, 4, 1), nn.BatchNorm2d(4)

        def forward(self, inputs):
            made = self.conv(inputs)
            return (self.norm(made) + made).mean(dim=(2, 3))

    network, batch = with_statistics(Shared()), torch.randn(5, 3, 8, 8)
    wanted, found = both(network, batch)
    assert torch.equal(found[0], wanted[0])
    assert_same(wanted, found)


def test_an_activation_in_place_between_them_is_no_pair():
    network = with_statistics(nn.Sequential(nn.Conv2d(3, 4, 1), nn.ReLU(inplace=True), nn.BatchNorm2d(4), nn.Flatten()))
    wanted, found = both(network, torch.randn(5, 3, 8, 8))
    assert torch.equal(found[0], wanted[0])


def test_the_gradient_of_a_mean_over_places_is_not_written_out():
    network, seen = small(nn.ReLU6), []
    network[5].register_full_backward_hook(lambda _module, _inputs, outputs: seen.append(outputs[0].stride()))
    network[7].register_full_backward_hook(lambda _module, _inputs, outputs: seen.append(outputs[0].stride()))
    with fast_convolutions(network, torch.randn(2, 3, 9, 9)):
        network(torch.randn(2, 3, 9, 9)).sum().backward()
    assert seen[0][2:] == (0, 0)


def test_the_network_is_left_as_it_was_also_after_an_error():
    network, batch = small(), torch.randn(5, 3, 8, 8)
    before = {name: values.clone() for name, values in network.state_dict().items()}

    def interrupted():
        with fast_convolutions(network, batch):
            assert "forward" in vars(network[0])
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        interrupted()
    assert not any("forward" in vars(one) for one in network.modules())
    assert all(torch.equal(values, before[name]) for name, values in network.state_dict().items())


@pytest.mark.parametrize("kernel", [5, 7])
@pytest.mark.parametrize("stride", [1, 2])
@pytest.mark.parametrize("dilation", [1, 2])
@pytest.mark.parametrize("padding", [0, 3])
def test_the_depthwise_gradient_is_autograds(kernel, stride, dilation, padding):
    torch.manual_seed(0)
    reach = dilation * (kernel - 1) + 1
    size = (max(6, reach), max(7, reach))
    inputs = torch.randn(3, 8, *size).to(memory_format=torch.channels_last).requires_grad_()
    weight, bias = torch.randn(8, 1, kernel, kernel, requires_grad=True), torch.randn(8, requires_grad=True)
    how = ((stride, stride), (padding, padding), (dilation, dilation))
    wanted = nn.functional.conv2d(inputs, weight, bias, *how, groups=8)
    found = _Depthwise.apply(inputs, weight, bias, *how)
    torch.testing.assert_close(found, wanted)
    towards = torch.randn_like(wanted)
    for one, other in zip(
        torch.autograd.grad(wanted, (inputs, weight, bias), towards),
        torch.autograd.grad(found, (inputs, weight, bias), towards),
        strict=True,
    ):
        torch.testing.assert_close(other, one, rtol=1e-4, atol=1e-4)
