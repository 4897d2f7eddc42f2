"""Faster copies compute the same features, or are not used."""

import copy

import numpy as np
import pytest
import torch
from torch import nn

from graft.backbones import ImagePreprocessing, load_backbone, module_backbone
from graft.backbones.inference import PackedConv, PackedLinear, fast_module, round_taps

PLAN = ImagePreprocessing(size=(40, 48))


def parts(module, kind):
    return sum(isinstance(one, kind) for one in module.modules())


def pixels(count=4, size=(40, 48)):
    torch.manual_seed(1)
    smooth = nn.functional.interpolate(torch.rand(count, 3, 5, 6) * 255, size=size, mode="bilinear")
    return smooth.to(torch.uint8).contiguous(memory_format=torch.channels_last)


def cosine(found, wanted):
    return nn.functional.cosine_similarity(found.double(), wanted.double(), dim=1)


def trained(network):
    """Give normalisations statistics and gains of their own, as training does."""
    torch.manual_seed(2)
    for one in network.modules():
        if isinstance(one, nn.BatchNorm2d):
            one.running_mean.normal_()
            one.running_var.uniform_(0.5, 2)
            one.weight.data.uniform_(0.5, 2)
            one.bias.data.normal_()
    return network.eval()


def convolution(*, activation, groups=1, bias=False, stride=1):
    layers = [nn.Conv2d(3, 12, 3, stride=stride, padding=1, bias=bias), nn.BatchNorm2d(12), activation]
    layers += [nn.Conv2d(12, 12, 5, groups=groups, padding=2, dilation=1), nn.BatchNorm2d(12), activation]
    return trained(nn.Sequential(*layers))


@pytest.mark.parametrize("activation", [nn.ReLU(), nn.ReLU6(), nn.SiLU(), nn.Identity()], ids=lambda one: str(one))
@pytest.mark.parametrize("groups", [1, 3, 12])
@pytest.mark.parametrize("stride", [1, 2])
def test_folding_and_packing_change_nothing_but_rounding(activation, groups, stride):
    own = module_backbone(convolution(activation=activation, groups=groups, stride=stride), preprocessing=PLAN)
    batch = pixels()
    wanted = own.forward_features(batch)
    module, agrees = fast_module(own, "float32", batch)
    assert agrees
    assert parts(module, PackedConv) == 2
    assert parts(module, nn.BatchNorm2d) == 0
    with torch.inference_mode():
        assert torch.allclose(module(batch), wanted, rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize("name", ["efficientnet_lite0", "resnet10t", "convnext_atto", "vit_tiny_patch16_224"])
@pytest.mark.parametrize("precision", ["float32", "bfloat16"])
def test_real_architectures(name, precision):
    backbone = load_backbone(name, pretrained=name == "efficientnet_lite0")
    if name == "resnet10t":
        backbone = backbone.with_module(trained(backbone.copy_module()))
    batch = pixels(3, backbone.preprocessing.size)
    module, agrees = fast_module(backbone, precision, batch)
    assert agrees
    assert module is not backbone.module
    other = pixels(5, backbone.preprocessing.size)
    with torch.inference_mode():
        found = module(other).float()
    floor = 0.99999 if precision == "float32" else 0.998
    assert cosine(found, backbone.forward_features(other)).min() > floor


def test_a_text_encoder_is_packed():
    backbone = load_backbone("minilm")
    batch = backbone.collate(backbone.read(["a text", "another, longer text"]))
    module, agrees = fast_module(backbone, "bfloat16", batch)
    assert agrees
    assert parts(module, PackedLinear) >= 6 * 6
    assert parts(backbone.module, PackedLinear) == 0


class SharedOutput(nn.Module):
    """A convolution whose output is read twice: folding the normalisation into it would change the other reader."""

    def __init__(self):
        super().__init__()
        self.conv, self.norm = nn.Conv2d(3, 8, 3), nn.BatchNorm2d(8)

    def forward(self, inputs):
        maps = self.conv(inputs)
        return self.norm(maps) - 3 * maps


class ReadsWeights(nn.Module):
    """A network that reads a layer's weight directly, which a packed layer does not have in the same form."""

    def __init__(self):
        super().__init__()
        self.conv, self.linear = nn.Conv2d(3, 8, 3), nn.Linear(8, 8)

    def forward(self, inputs):
        return nn.functional.linear(self.conv(inputs).mean((2, 3)), self.linear.weight[:4], self.linear.bias[:4])


class CalledTwice(nn.Module):
    """One convolution at two places, a normalisation at one."""

    def __init__(self):
        super().__init__()
        self.conv, self.norm = nn.Conv2d(3, 3, 3, padding=1), nn.BatchNorm2d(3)

    def forward(self, inputs):
        return self.conv(self.norm(self.conv(inputs)))


@pytest.mark.parametrize("network", [SharedOutput, ReadsWeights, CalledTwice])
def test_a_network_that_cannot_be_folded_keeps_its_features(network):
    torch.manual_seed(0)
    own = module_backbone(trained(network()), preprocessing=PLAN)
    batch = pixels()
    for precision in ("float32", "bfloat16"):
        module, agrees = fast_module(own, precision, batch)
        with torch.inference_mode():
            close = cosine(module(batch).float(), own.forward_features(batch)).min()
        assert agrees
        assert close > (0.99999 if precision == "float32" else 0.999)


class LosesDigits(nn.Module):
    """What bfloat16 cannot do: the difference of two large numbers."""

    def __init__(self):
        super().__init__()
        self.conv = nn.Conv2d(3, 8, 3)

    def forward(self, inputs):
        maps = self.conv(inputs)
        return (maps + 4096) - 4096


def test_disagreement_is_noticed(monkeypatch):
    from graft import _runtime
    from graft.backbones import embed

    torch.manual_seed(0)
    own = module_backbone(LosesDigits(), preprocessing=PLAN)
    batch = pixels()
    assert not fast_module(own, "bfloat16", batch)[1]
    monkeypatch.setattr(_runtime, "bfloat16_is_fast", lambda _device: True)
    images = list(batch.permute(0, 2, 3, 1).numpy())
    chosen = embed(own, images, precision="auto", store=False).features
    wanted = own.forward_features(own.collate(own.read(images))).numpy()
    assert abs(chosen - wanted).max() < 1e-3 * abs(wanted).max()


class LosesBright(nn.Module):
    """What bfloat16 cannot do for some pictures: tell bright ones apart."""

    def __init__(self):
        super().__init__()
        self.gain = nn.Parameter(torch.ones(3))

    def forward(self, inputs):
        sizes = inputs.mean(dim=(2, 3)) * self.gain
        return sizes - sizes.mean(dim=1, keepdim=True) + 1e-3


@pytest.mark.parametrize("order", [1, -1])
def test_precision_is_chosen_for_the_pictures_at_hand_and_by_nothing_before(order, tmp_path, monkeypatch):
    """Neither other pictures nor the order of these changes features."""
    from graft import _runtime
    from graft.backbones import embed

    monkeypatch.setattr(_runtime, "bfloat16_is_fast", lambda _device: True)
    plan = ImagePreprocessing(size=(40, 48), mean=(0, 0, 0), std=(1, 1, 1))
    draw = np.random.default_rng(0)
    dark = [np.full((40, 48, 3), np.array([10, 50, 90]) + draw.integers(-5, 6, 3), np.uint8) for _ in range(20)]
    bright = [np.full((40, 48, 3), draw.integers(240, 256, 3), np.uint8) for _ in range(20)]

    def features(pictures, backbone, **options):
        return embed(backbone, pictures, **options).features

    def fresh():
        return module_backbone(LosesBright(), preprocessing=plan)

    exact = [features(some, fresh(), precision="float32", store=False) for some in (dark, bright)]
    alone = [features(some, fresh(), store=False) for some in (dark, bright)]
    assert not np.array_equal(alone[0], exact[0])  # bfloat16 does for the dark ones
    assert np.array_equal(alone[1], exact[1])
    shared, store = fresh(), tmp_path / "store"
    for place in (0, 1)[::order]:
        some = (dark, bright)[place]
        assert np.array_equal(features(some, shared, store=store), alone[place])
        assert np.array_equal(features(some[::-1], shared, store=store)[::-1], alone[place])
        assert np.array_equal(features(some, fresh(), store=store), alone[place])
    assert np.array_equal(features(bright[:1], shared, store=store), exact[1][:1])


def test_the_comparison_is_kept_and_not_made_twice(tmp_path, monkeypatch):
    from graft import _runtime
    from graft.backbones import embed, engine

    monkeypatch.setattr(_runtime, "bfloat16_is_fast", lambda _device: True)
    compared = []
    plain = engine.agreement
    monkeypatch.setattr(engine, "agreement", lambda *asked: compared.append(len(asked[2])) or plain(*asked))
    own = module_backbone(convolution(activation=nn.ReLU()), preprocessing=PLAN)
    images = list(pixels(60, size=(8, 9)).permute(0, 2, 3, 1).numpy())
    embed(own, images, store=tmp_path)
    assert compared == [8]
    embed(own, images[::-1], store=tmp_path)
    embed(own.with_output(), images[:30], store=tmp_path)  # of a new process as well: the store tells
    assert compared == [8]
    embed(own, images[:50], store=False)  # many of the same are looked at
    assert sum(compared) < 8 + 4


def test_the_network_itself_is_never_changed():
    own = module_backbone(convolution(activation=nn.ReLU()), preprocessing=PLAN)
    before = copy.deepcopy(own.module.state_dict())
    fast_module(own, "bfloat16", pixels())
    after = own.module.state_dict()
    assert list(before) == list(after)
    assert all(torch.equal(before[name], after[name]) for name in before)


def test_rounded_taps_keep_their_sum():
    torch.manual_seed(0)
    weight = torch.randn(500, 1, 5, 5)
    rounded = round_taps(weight)
    assert torch.equal(rounded, rounded.bfloat16().float())
    carried = (rounded.double().sum((1, 2, 3)) - weight.double().sum((1, 2, 3))).abs()
    plain = (weight.bfloat16().double().sum((1, 2, 3)) - weight.double().sum((1, 2, 3))).abs()
    # The bound: half a unit in the last place of the smallest tap (8 bits of mantissa), and float32 arithmetic.
    smallest = weight.abs().flatten(1).amin(1).double()
    assert (carried <= smallest * 2**-7 + 1e-5).all()
    assert carried.mean() < plain.mean() / 20
    assert (rounded - weight).abs().max() <= 2 * (weight.bfloat16().float() - weight).abs().max()
