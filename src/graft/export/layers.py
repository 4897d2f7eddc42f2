"""The few functions that all heads are made of, as modules on tensors."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import torch
from torch import nn


def constant(values: Any) -> torch.Tensor:
    """Return values as a tensor of float32."""
    return torch.from_numpy(np.array(values, dtype=np.float32))


class Affine(nn.Module):
    """x (n, d) to x W' + b (n, k), computed as (x - c) W' + (b + c W').

    Parameters
    ----------
    weight : array (k, d)
        W.
    bias : array (k,)
        b.
    location : array (d,), optional
        c, near which x lies: far from zero, x W' and b cancel each other, and float32 would keep little of the rest.
    """

    weight: torch.Tensor
    bias: torch.Tensor
    location: torch.Tensor

    def __init__(self, weight: Any, bias: Any, location: Any = None) -> None:
        super().__init__()
        self.centred = location is not None and bool(np.any(location))
        if self.centred:
            self.register_buffer("location", constant(location))
            bias = bias + np.asarray(weight, dtype=np.float64) @ self.location.double().numpy()
        self.register_buffer("weight", constant(weight))
        self.register_buffer("bias", constant(bias))

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return nn.functional.linear(x - self.location if self.centred else x, self.weight, self.bias)


class Standardize(nn.Module):
    """x (n, d) to (x - location) / scale; a column of infinite scale becomes zero."""

    location: torch.Tensor
    scale: torch.Tensor

    def __init__(self, location: Any, scale: Any) -> None:
        super().__init__()
        self.register_buffer("location", constant(location))
        self.register_buffer("scale", constant(scale))

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return (x - self.location) / self.scale


class UnitRows(nn.Module):
    """Every row divided by its Euclidean norm; a row of zeros stays one."""

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        lengths = x.square().sum(dim=1, keepdim=True).sqrt()
        return x / torch.where(lengths > 0, lengths, torch.ones_like(lengths))


class WithOne(nn.Module):
    """A further column of ones."""

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return torch.cat([x, torch.ones_like(x[:, :1])], dim=1)


class GaussianKernel(nn.Module):
    r"""x (n, d) to :math:`\exp(-\gamma \lVert x - c_j \rVert^2) A + b` (n, k).

    Parameters
    ----------
    centers : array (m, d)
        c.
    gamma : float
        γ.
    weight : array (m, k)
        A.
    bias : array (k,)
        b.
    """

    centers: torch.Tensor
    lengths: torch.Tensor

    def __init__(self, centers: Any, gamma: float, weight: Any, bias: Any) -> None:
        super().__init__()
        self.register_buffer("centers", constant(centers))
        self.register_buffer("lengths", constant(np.square(np.asarray(centers, dtype=np.float64)).sum(axis=1)))
        self.gamma = float(gamma)
        self.sum = Affine(np.transpose(weight), bias)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.sum(torch.exp(-self.gamma * squared_distances(x, self.centers, self.lengths)))


class Votes(nn.Module):
    """The nearest neighbours' votes; see `graft.heads.NearestNeighbors`.

    Parameters
    ----------
    examples : array (m, d)
        Scaled.
    weight : array (m,)
        How many neighbours each is.
    codes : array (m,) of int
        Their classes.
    shares : array (K,)
        Of the classes.
    neighbors : int
        k.
    """

    examples: torch.Tensor
    lengths: torch.Tensor
    weight: torch.Tensor
    indicators: torch.Tensor
    shares: torch.Tensor

    def __init__(self, examples: Any, weight: Any, codes: Any, shares: Any, neighbors: int) -> None:
        super().__init__()
        self.register_buffer("examples", constant(examples))
        self.register_buffer("lengths", constant(np.square(np.asarray(examples, dtype=np.float64)).sum(axis=1)))
        self.register_buffer("weight", constant(weight))
        self.register_buffer("indicators", constant(np.eye(len(shares))[codes]))
        self.register_buffer("shares", constant(np.asarray(shares) / (neighbors + 1)))
        self.neighbors = neighbors
        # Weights below 1 need more neighbours to make up k.
        asked = int(np.ceil(neighbors / min(1.0, float(np.min(weight)))))
        self.asked = min(len(examples), max(asked, 1))

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        distances = squared_distances(x, self.examples, self.lengths)
        near, nearest = torch.topk(distances, self.asked, dim=1, largest=False, sorted=True)
        weight = self.weight[nearest]
        before = weight.cumsum(dim=1) - weight
        counted = torch.minimum((self.neighbors - before).clamp(min=0), weight)
        reached = torch.where(counted > 0, near, torch.zeros_like(near))
        last = reached.amax(dim=1, keepdim=True).clamp(min=1e-30)
        strength = counted / (1 + reached / last)
        votes = torch.matmul(strength.unsqueeze(1), self.indicators[nearest]).squeeze(1)
        votes = votes / votes.sum(dim=1, keepdim=True).clamp(min=1e-30)
        return torch.log(votes + self.shares)


class ScaleShift(nn.Module):
    """x times a factor plus a shift: numbers, or one for each column."""

    factor: torch.Tensor
    shift: torch.Tensor

    def __init__(self, factor: Any, shift: Any = 0.0) -> None:
        super().__init__()
        self.register_buffer("factor", constant(factor))
        self.register_buffer("shift", constant(shift))

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return x * self.factor + self.shift


class Complement(nn.Module):
    """p (n, 1) to [1 - p, p]."""

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return torch.cat([1 - x, x], dim=1)


class BothSigns(nn.Module):
    """A logit (n, 1) to two that differ by it (n, 2)."""

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return torch.cat([-x / 2, x / 2], dim=1)


class WeightedSum(nn.Module):
    """The sum of what several modules make of x, each times its weight."""

    def __init__(self, parts: Sequence[nn.Module], weights: Any) -> None:
        super().__init__()
        self.parts = nn.ModuleList(parts)
        self.weights = [float(one) for one in weights]

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        parts = [weight * part(x) for weight, part in zip(self.weights, self.parts, strict=True)]
        return torch.stack(parts).sum(dim=0)


def squared_distances(x: torch.Tensor, centers: torch.Tensor, lengths: torch.Tensor) -> torch.Tensor:
    """Return squared Euclidean distances (n, m) to centers (m, d) of squared lengths (m,), never negative."""
    own = x.square().sum(dim=1, keepdim=True)
    return (own - 2 * (x @ centers.T) + lengths).clamp(min=0)
