"""Laws of pooling, against loops over positions."""

import numpy as np
import pytest
import torch

from graft.backbones.pooling import GEM_POWER, pool_patches, pool_tokens


@pytest.fixture
def maps():
    torch.manual_seed(0)
    return torch.randn(3, 5, 4), torch.randn(3, 2, 4)


def test_patches_agree_with_their_formulas(maps):
    patches, prefix = maps
    values = patches.numpy()
    assert np.allclose(pool_patches(patches, None, "avg"), values.sum(1) / 5, atol=1e-6)
    assert np.allclose(pool_patches(patches, None, "max"), np.sort(values, axis=1)[:, -1])
    gem = (np.maximum(values, 1e-6).astype(float) ** GEM_POWER).mean(1) ** (1 / GEM_POWER)
    assert np.allclose(pool_patches(patches, None, "gem"), gem, atol=1e-6)
    assert torch.equal(pool_patches(patches, prefix, "cls"), prefix[:, 0])
    both = pool_patches(patches, prefix, "cls+avg")
    assert torch.equal(both, torch.cat([prefix[:, 0], patches.mean(1)], dim=1))


def test_generalized_mean_lies_between_mean_and_maximum(maps):
    positive = maps[0].abs()
    gem = pool_patches(positive, None, "gem")
    assert (gem >= pool_patches(positive, None, "avg") - 1e-6).all()
    assert (gem <= pool_patches(positive, None, "max") + 1e-6).all()


@pytest.mark.parametrize("pooling", ["avg", "max", "gem"])
def test_order_of_positions_does_not_matter(maps, pooling):
    patches = maps[0]
    shuffled = patches[:, torch.randperm(5)]
    assert torch.allclose(pool_patches(patches, None, pooling), pool_patches(shuffled, None, pooling), atol=1e-6)


@pytest.mark.parametrize("pooling", ["mean", "cls", "max", "mean_sqrt_len", "weightedmean", "lasttoken"])
def test_padding_changes_nothing(pooling):
    torch.manual_seed(1)
    tokens = torch.randn(2, 4, 3)
    alone = pool_tokens(tokens, torch.ones(2, 4, dtype=torch.long), pooling)
    padded = torch.cat([tokens, torch.full((2, 3, 3), 1e4)], dim=1)
    mask = torch.tensor([[1] * 4 + [0] * 3] * 2)
    assert torch.allclose(pool_tokens(padded, mask, pooling), alone, atol=1e-6)


def test_tokens_agree_with_their_formulas():
    torch.manual_seed(2)
    tokens = torch.randn(1, 3, 2)
    ones = torch.ones(1, 3, dtype=torch.long)
    one, two, three = tokens[0]
    assert torch.allclose(pool_tokens(tokens, ones, "mean")[0], (one + two + three) / 3)
    assert torch.allclose(pool_tokens(tokens, ones, "mean_sqrt_len")[0], (one + two + three) / 3**0.5)
    assert torch.allclose(pool_tokens(tokens, ones, "weightedmean")[0], (one + 2 * two + 3 * three) / 6)
    assert torch.equal(pool_tokens(tokens, ones, "cls")[0], one)
    assert torch.equal(pool_tokens(tokens, ones, "lasttoken")[0], three)
    assert torch.equal(pool_tokens(tokens, torch.tensor([[0, 1, 1]]), "cls")[0], two)
