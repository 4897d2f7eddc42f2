"""Laws that hold for every backbone."""

import copy
import itertools
import json

import numpy as np
import pytest
import torch
from sklearn.base import clone
from torch import nn

from graft.backbones import (
    Backbone,
    FeatureBackbone,
    FeaturePreprocessing,
    ImagePreprocessing,
    load_backbone,
    module_backbone,
    preprocessing_from_dict,
)
from graft.errors import RequestError

SMALL = ImagePreprocessing(size=(32, 32))


def own_images():
    torch.manual_seed(0)
    network = nn.Sequential(nn.Conv2d(3, 6, 3), nn.BatchNorm2d(6), nn.ReLU(), nn.Conv2d(6, 4, 3))
    return module_backbone(network, preprocessing=SMALL)


def own_features():
    torch.manual_seed(0)
    return module_backbone(
        nn.Sequential(nn.Linear(5, 7), nn.Tanh(), nn.Linear(7, 3)), preprocessing=FeaturePreprocessing()
    )


MAKERS = {
    "cnn": lambda: load_backbone("efficientnet_lite0"),
    "transformer": lambda: load_backbone("vit_tiny_patch16_224", pretrained=False),
    "hierarchical": lambda: load_backbone("mambaout_femto", pretrained=False),
    "text": lambda: load_backbone("minilm"),
    "own images": own_images,
    "own features": own_features,
}


@pytest.fixture(scope="module", params=MAKERS)
def backbone(request):
    return MAKERS[request.param]()


@pytest.fixture(scope="module")
def batch(backbone):
    rng = np.random.default_rng(0)
    sources = {
        "image": [rng.integers(0, 256, (50, 60, 3), dtype=np.uint8) for _ in range(3)],
        "text": ["one", "two words here", "a third and longer text"],
        "features": list(rng.normal(size=(3, 5)).astype(np.float32)),
    }[backbone.modality]
    return backbone.collate(backbone.read(sources))


def test_features_are_float32_rows_of_the_stated_width(backbone, batch):
    features = backbone.forward_features(batch)
    assert features.shape == (3, backbone.feature_dim)
    assert features.dtype == torch.float32
    assert torch.isfinite(features).all()


def test_every_parameter_is_in_exactly_one_group(backbone):
    groups = backbone.layer_groups()
    grouped = [name for group in groups for name in group.parameter_names]
    assert sorted(grouped) == sorted(name for name, _ in backbone.module.named_parameters())
    assert len({group.name for group in groups}) == len(groups)
    for group in groups:
        assert len(group.parameters) == len(group.parameter_names) > 0


def test_groups_of_a_copy_hold_its_own_parameters(backbone):
    module = backbone.copy_module()
    own = {id(parameter) for parameter in module.parameters()}
    groups = backbone.layer_groups(module)
    assert {id(parameter) for group in groups for parameter in group.parameters} == own
    assert [group.name for group in groups] == [group.name for group in backbone.layer_groups()]


def test_every_group_has_a_part_in_the_features(backbone, batch):
    module = backbone.copy_module()
    groups = backbone.layer_groups(module)
    if not groups:
        return
    # Squares: the sum of what a normalisation gives has no gradient.
    module(batch).square().sum().backward()
    for group in groups:
        assert any(one.grad is not None and bool(one.grad.any()) for one in group.parameters), group.name


def test_groups_run_from_input_to_output(backbone, batch):
    """A change in a group changes nothing that a group before it computes: first used, first listed."""
    module = backbone.copy_module()
    owner = {}
    for place, group in enumerate(backbone.layer_groups(module)):
        for name in group.parameter_names:
            owner[name.rpartition(".")[0]] = place
    used = []
    handles = [
        one.register_forward_pre_hook(lambda _m, _i, path=path: used.append(owner[path]))
        for path, one in module.named_modules()
        if path in owner
    ]
    module(batch)
    for handle in handles:
        handle.remove()
    assert len(used) > 1
    assert used[0] == min(used)
    # Parallel branches within a block may be listed either way; blocks may not.
    inversions = sum(later < earlier for earlier, later in itertools.pairwise(used))
    assert inversions == 0


def test_a_copy_is_trainable_and_leaves_the_original_alone(backbone, batch):
    before = backbone.forward_features(batch)
    module = backbone.copy_module()
    assert torch.allclose(module(batch).float(), before, atol=1e-5)
    module(batch).square().sum().backward()
    assert any(parameter.grad is not None and parameter.grad.abs().sum() > 0 for parameter in module.parameters())
    with torch.no_grad():
        for parameter in module.parameters():
            parameter.add_(0.5)
    assert torch.equal(backbone.forward_features(batch), before)
    trained = backbone.with_module(module)
    assert trained.weights_hash != backbone.weights_hash
    assert (trained.name, trained.own_weights, backbone.own_weights) == (backbone.name, True, False)
    assert not torch.allclose(trained.forward_features(batch), before)
    assert not any(parameter.requires_grad for parameter in backbone.module.parameters())


def test_clone_and_deepcopy_return_the_same_object(backbone):
    assert clone(backbone) is backbone
    assert copy.deepcopy({"backbone": backbone})["backbone"] is backbone


def test_the_hash_is_of_the_weights_and_stable(backbone):
    assert len(backbone.weights_hash) == 64
    assert backbone.weights_hash == backbone.with_output().weights_hash
    same = backbone.with_module(backbone.copy_module())
    assert same.weights_hash == backbone.weights_hash


def test_preprocessing_is_plain_data(backbone):
    values = json.loads(json.dumps(backbone.preprocessing.to_dict()))
    assert preprocessing_from_dict(values) == backbone.preprocessing
    with pytest.raises(RequestError, match="preprocessing"):
        preprocessing_from_dict({**values, "surprise": 1})


def test_every_layer_can_be_taken_and_several_stand_side_by_side(backbone, batch):
    layers = backbone.layers
    chosen = [layers[0], layers[-1]]
    singles = [backbone.with_output(layer=layer) for layer in chosen]
    both = backbone.with_output(layer=chosen)
    assert both.feature_dim == sum(single.feature_dim for single in singles)
    expected = torch.cat([single.forward_features(batch) for single in singles], dim=1)
    assert torch.allclose(both.forward_features(batch), expected, atol=1e-5)
    assert torch.equal(backbone.with_output(layer=-1).forward_features(batch), singles[1].forward_features(batch))
    assert both.layer == tuple(chosen)
    assert both.with_output().layer is None


@pytest.mark.parametrize("layer", ["no_such_layer", 10_000, -10_000, True, 1.5, []])
def test_a_layer_that_is_not_there_is_refused(backbone, layer):
    with pytest.raises((RequestError, TypeError)):
        backbone.with_output(layer=layer)


def test_a_pooling_that_is_not_there_is_refused(backbone):
    with pytest.raises(RequestError, match="pooling"):
        backbone.with_output(pooling="average")


@pytest.mark.parametrize("kind", ["cnn", "hierarchical"])
def test_cls_needs_a_class_token(kind):
    with pytest.raises(RequestError, match="class token"):
        MAKERS[kind]().with_output(pooling="cls")


def test_vision_transformer_pools_as_its_formulas_say():
    vit = MAKERS["transformer"]()
    pixels = torch.randint(0, 256, (2, 3, 224, 224), dtype=torch.uint8)
    with torch.inference_mode():
        tokens = vit.module.network.forward_features(vit.module.scale(pixels))
    features = {
        pooling: vit.with_output(pooling=pooling).forward_features(pixels) for pooling in ("cls", "avg", "cls+avg")
    }
    assert torch.allclose(features["cls"], tokens[:, 0], atol=1e-5)
    assert torch.allclose(features["avg"], tokens[:, 1:].mean(1), atol=1e-5)
    assert torch.allclose(features["cls+avg"], torch.cat([tokens[:, 0], tokens[:, 1:].mean(1)], 1), atol=1e-5)
    last = vit.with_output(layer=-1, pooling="cls").forward_features(pixels)
    assert torch.allclose(last, features["cls"], atol=1e-4)


def test_convolutional_network_pools_as_its_formulas_say():
    cnn = MAKERS["cnn"]()
    pixels = torch.randint(0, 256, (2, 3, 224, 224), dtype=torch.uint8)
    with torch.inference_mode():
        grid = cnn.module.network.forward_features(cnn.module.scale(pixels))
    for pooling, expected in (("avg", grid.mean((2, 3))), ("max", grid.amax((2, 3)))):
        assert torch.allclose(cnn.with_output(pooling=pooling).forward_features(pixels), expected, atol=1e-4)
    assert torch.allclose(cnn.forward_features(pixels), grid.mean((2, 3)), atol=1e-4)


def test_feature_backbone_takes_vectors_of_any_kind():
    from scipy import sparse

    identity = load_backbone(None)
    assert isinstance(identity, FeatureBackbone)
    table = np.arange(6.0).reshape(3, 2)
    assert np.array_equal(identity.embed(table), table)
    assert identity.embed(table).dtype == np.float32
    kept = identity.embed(sparse.csr_matrix(table))
    assert sparse.issparse(kept)
    assert np.array_equal(kept.toarray(), table)
    with pytest.raises(RequestError):
        identity.with_output(layer=0)
    with pytest.raises(RequestError, match="feature_dim"):
        _ = identity.feature_dim
    assert FeatureBackbone(4).feature_dim == 4


def test_the_contract_is_abstract_and_its_classes_final():
    with pytest.raises(TypeError):
        Backbone()
    kinds = Backbone.__subclasses__()
    assert len(kinds) == 4
    for kind in kinds:
        assert not kind.__subclasses__()


def test_module_backbone_copies_what_it_is_given():
    network = nn.Sequential(nn.Conv2d(3, 2, 3))
    own = module_backbone(network, preprocessing=SMALL)
    before = own.weights_hash
    with torch.no_grad():
        network[0].weight.zero_()
    again = own.with_output()
    assert again.weights_hash == before
    assert own.module.network[0].weight.abs().sum() > 0
    with pytest.raises(RequestError, match="preprocessing"):
        module_backbone(network, preprocessing="imagenet")
