"""Networks at another input size than their own."""

import numpy as np
import pytest
import torch

from graft.backbones import ImagePreprocessing, load_backbone, module_backbone
from graft.backbones.space import space_of
from graft.errors import RequestError


def pictures(count=3):
    return [np.random.default_rng(row).integers(0, 256, (90, 120, 3), dtype=np.uint8) for row in range(count)]


@pytest.fixture(scope="module")
def cnn():
    return load_backbone("efficientnet_lite0", image_size=128)


@pytest.fixture(scope="module")
def vit():
    return load_backbone("timm/vit_tiny_patch16_224", pretrained=False, image_size=112)


def test_a_convolutional_network_keeps_its_weights(cnn):
    own = load_backbone("efficientnet_lite0")
    assert cnn.preprocessing.size == (128, 128)
    assert (cnn.preprocessing.mean, cnn.preprocessing.crop) == (own.preprocessing.mean, own.preprocessing.crop)
    assert cnn.feature_dim == own.feature_dim == 1280
    assert cnn.weights_hash == own.weights_hash
    assert own.preprocessing.size == (224, 224)


def test_the_features_are_the_networks_own_at_that_size(cnn):
    """Reading at 128 and the network alone: no other size enters anywhere."""
    batch = cnn.collate(cnn.read(pictures()))
    assert tuple(batch.shape) == (3, 3, 128, 128)
    with torch.inference_mode():
        expected = load_backbone("efficientnet_lite0").module(batch)
    assert torch.allclose(cnn.forward_features(batch), expected, atol=1e-5)


def test_sizes_do_not_share_features_in_the_store(cnn, tmp_path):
    own = load_backbone("efficientnet_lite0")
    assert space_of(own, "float32") != space_of(cnn, "float32")
    first = own.embed(pictures(), store=tmp_path, precision="float32")
    second = cnn.embed(pictures(), store=tmp_path, precision="float32")
    assert np.abs(first - second).max() > 1e-3
    assert np.array_equal(cnn.embed(pictures(), store=tmp_path, precision="float32"), second)


def test_a_vision_transformer_is_laid_out_anew(vit):
    own = load_backbone("vit_tiny_patch16_224", pretrained=False)
    assert vit.embed(pictures(), store=False).shape == (3, own.feature_dim)
    assert vit.module.network.pos_embed.shape[1] == 1 + 7 * 7
    assert own.module.network.pos_embed.shape[1] == 1 + 14 * 14
    # The class token's embedding belongs to no position, and the other weights know no size.
    mine, theirs = vit.module.network.state_dict(), own.module.network.state_dict()
    assert [name for name in mine if mine[name].shape != theirs[name].shape] == ["pos_embed"]
    assert all(torch.equal(mine[name], theirs[name]) for name in mine if name != "pos_embed")
    assert vit.weights_hash == load_backbone(own, image_size=112).weights_hash != own.weights_hash


def test_a_constant_position_embedding_stays_constant():
    own = load_backbone("vit_tiny_patch16_224", pretrained=False)
    module = own.copy_module()
    with torch.no_grad():
        module.network.pos_embed.copy_(torch.arange(192.0) / 192)
    resized = own.with_module(module).with_image_size((96, 160)).module.network.pos_embed
    assert resized.shape[1] == 1 + 6 * 10
    assert torch.allclose(resized, (torch.arange(192.0) / 192).expand_as(resized), atol=1e-5)


def test_copies_keep_the_size(cnn, vit):
    for backbone in (cnn, vit):
        size = backbone.preprocessing.size
        copies = [
            backbone.with_output(layer=-1),
            backbone.with_output(pooling="max"),
            backbone.with_module(backbone.copy_module()),
        ]
        for copy in copies:
            assert copy.preprocessing.size == size
            assert copy.forward_features(copy.collate(copy.read(pictures(1)))).shape[0] == 1
        assert backbone.with_output(layer=-1).with_image_size(160).layer == (backbone.layers[-1],)
    assert cnn.with_image_size(128) is cnn


def test_height_and_width_may_differ():
    backbone = load_backbone("efficientnet_lite0", image_size=(96, 160), layer=-1)
    assert tuple(backbone.collate(backbone.read(pictures(1))).shape) == (1, 3, 96, 160)
    assert backbone.embed(pictures(1), store=False).shape == (1, 320)


@pytest.mark.parametrize("size", [0, -5, 1.5, True, "128", (1, 2, 3), (0, 64)])
def test_what_is_no_size_is_refused(size):
    with pytest.raises(RequestError, match="image_size"):
        load_backbone("resnet10t", pretrained=False, image_size=size)


@pytest.mark.parametrize(("name", "size"), [("vit_tiny_patch16_224", 8), ("mixer_s32_224", 128)])
def test_a_size_that_a_network_cannot_take_is_refused(name, size):
    with pytest.raises(RequestError, match=f"{size} x {size} pixels"):
        load_backbone(name, pretrained=False, image_size=size)


@pytest.mark.parametrize("name", [None, "minilm"])
def test_other_inputs_have_no_size(name):
    with pytest.raises(RequestError, match="reads no images"):
        load_backbone(name, image_size=128)


def test_a_network_of_ones_own_states_its_size_elsewhere():
    own = module_backbone(torch.nn.Conv2d(3, 4, 3), preprocessing=ImagePreprocessing(size=(32, 32)))
    with pytest.raises(RequestError, match="module_backbone"):
        load_backbone(own, image_size=64)
