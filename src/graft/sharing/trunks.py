"""What stands between features and the heads of several tasks: one representation for each task.

Every module maps features (n, d) to representations (K, n, h): ``trunk(features)[k]`` is what the head of task k reads.
They differ in what the tasks share. Weights are drawn from the seed that is handed in.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any, final

import torch
from torch import nn

from graft._checks import integer, number
from graft.errors import RequestError


@final
class HardSharing(nn.Module):
    r"""One network for all tasks, :math:`h_k = f(x)`.

    Parameters
    ----------
    n_tasks, feature_dim : int
        K and d.
    hidden : sequence of int
        Sizes of the layers of f; the last is h. A rectifier follows each.
    seed : int
        For the weights.

    References
    ----------
    Caruana (1997), Multitask Learning.
    """

    def __init__(self, n_tasks: int, feature_dim: int, *, hidden: Sequence[int] = (256,), seed: int = 0) -> None:
        super().__init__()
        self.n_tasks = integer("n_tasks", n_tasks, low=1)
        with _drawn(seed):
            self.network = _network(feature_dim, hidden)

    def forward(self, features: torch.Tensor) -> torch.Tensor:
        """Return representations (K, n, h) of features (n, d)."""
        return self.network(features).expand(self.n_tasks, -1, -1)


@final
class MMoE(nn.Module):
    r"""Multi-gate mixture of experts: every task mixes the same experts in its own way, example by example.

    .. math:: h_k = \sum_{e=1}^{E} \operatorname{softmax}(W_k x)_e \, f_e(x)

    One expert is hard sharing.

    Parameters
    ----------
    n_tasks, feature_dim : int
        K and d.
    experts : int
        E.
    hidden, seed
        As in `HardSharing`, for each expert.

    References
    ----------
    Ma et al. (2018), Modeling Task Relationships in Multi-task Learning with Multi-gate Mixture-of-Experts,
    equations 5 to 7.

    Examples
    --------
    >>> import torch
    >>> from graft.sharing import MMoE
    >>> MMoE(3, 10, experts=4, hidden=[16])(torch.zeros(5, 10)).shape
    torch.Size([3, 5, 16])
    """

    def __init__(
        self, n_tasks: int, feature_dim: int, *, experts: int = 4, hidden: Sequence[int] = (256,), seed: int = 0
    ) -> None:
        super().__init__()
        self.n_tasks = integer("n_tasks", n_tasks, low=1)
        number_of_experts = integer("experts", experts, low=1)
        with _drawn(seed):
            self.experts = nn.ModuleList(_network(feature_dim, hidden) for _ in range(number_of_experts))
            self.gates = nn.ModuleList(nn.Linear(feature_dim, number_of_experts, bias=False) for _ in range(n_tasks))

    def forward(self, features: torch.Tensor) -> torch.Tensor:
        """Return representations (K, n, h) of features (n, d)."""
        found = torch.stack([expert(features) for expert in self.experts], dim=1)
        shares = torch.stack([gate(features) for gate in self.gates]).softmax(dim=2)
        return torch.einsum("kne,neh->knh", shares, found)


@final
class PLE(nn.Module):
    r"""Progressive layered extraction: experts of each task beside common ones, in one or more levels.

    .. math:: h_k^{(l)} = \sum_e \operatorname{softmax}\bigl(W_k^{(l)} h_k^{(l-1)}\bigr)_e \, F_{k,e}^{(l)}

    where :math:`F_k` holds the outputs of the task's own experts, which read :math:`h_k^{(l-1)}`, and of the common
    ones, which read :math:`h_s^{(l-1)}`; that in turn mixes all experts' outputs by a gate of its own.
    :math:`h_k^{(0)} = h_s^{(0)} = x`. One level is CGC (customized gate control); one level with no own experts is
    `MMoE`.

    Parameters
    ----------
    n_tasks, feature_dim : int
        K and d.
    own_experts, common_experts : int
        Experts of each task, and common ones, in each level; together one or more.
    levels : int
        How many times experts are mixed.
    hidden, seed
        As in `HardSharing`, for each expert.

    References
    ----------
    Tang, Liu, Zhao and Gong (2020), Progressive Layered Extraction (PLE): A Novel Multi-Task Learning Model for
    Personalized Recommendations, equations 1 to 7.
    """

    def __init__(
        self,
        n_tasks: int,
        feature_dim: int,
        *,
        own_experts: int = 2,
        common_experts: int = 2,
        levels: int = 1,
        hidden: Sequence[int] = (256,),
        seed: int = 0,
    ) -> None:
        super().__init__()
        self.n_tasks = integer("n_tasks", n_tasks, low=1)
        self.own_experts = integer("own_experts", own_experts, low=0)
        self.common_experts = integer("common_experts", common_experts, low=0)
        if not own_experts + common_experts:
            raise RequestError("common_experts", expected="some experts", found="none", remedy="Pass common_experts=2.")
        mixed = own_experts + common_experts
        self.own = nn.ModuleList()
        self.common = nn.ModuleList()
        self.gates = nn.ModuleList()
        self.common_gates = nn.ModuleList()
        width = feature_dim
        with _drawn(seed):
            for level in range(integer("levels", levels, low=1)):
                self.own.append(
                    nn.ModuleList(
                        nn.ModuleList(_network(width, hidden) for _ in range(own_experts)) for _ in range(n_tasks)
                    )
                )
                self.common.append(nn.ModuleList(_network(width, hidden) for _ in range(common_experts)))
                self.gates.append(nn.ModuleList(nn.Linear(width, mixed, bias=False) for _ in range(n_tasks)))
                # Nothing reads what is common after the last level, or without common experts.
                if common_experts and level + 1 < levels:
                    every = own_experts * n_tasks + common_experts
                    self.common_gates.append(nn.Linear(width, every, bias=False))
                width = hidden[-1]

    def forward(self, features: torch.Tensor) -> torch.Tensor:
        """Return representations (K, n, h) of features (n, d)."""
        states, common_state = [features] * self.n_tasks, features
        levels: Any = zip(self.own, self.common, self.gates, strict=True)
        for level, (own, common, gates) in enumerate(levels):
            common_found = [expert(common_state) for expert in common]
            own_found = [[expert(state) for expert in experts] for experts, state in zip(own, states, strict=True)]
            after = [
                _mixed(gate(state), [*mine, *common_found])
                for gate, state, mine in zip(gates, states, own_found, strict=True)
            ]
            if level < len(self.common_gates):
                every = [one for mine in own_found for one in mine]
                common_state = _mixed(self.common_gates[level](common_state), [*every, *common_found])
            states = after
        return torch.stack(states)


@final
class CrossStitch(nn.Module):
    r"""A network for each task, whose layers exchange what they found.

    .. math:: h_k^{(l)} = \sum_j \alpha_{kj}^{(l)} \, f_j^{(l)}\bigl(h_j^{(l-1)}\bigr)

    With α the identity the networks are separate; with all entries 1/K they all read the mean.

    Parameters
    ----------
    n_tasks, feature_dim : int
        K and d.
    keep : float
        The diagonal of α at first; the others begin with (1 - keep) / (K - 1). The paper's is 0.9.
    hidden, seed
        As in `HardSharing`, for each task; a stitch follows each layer.

    Attributes
    ----------
    stitches : ParameterList of tensors (K, K)
        α of each layer.

    References
    ----------
    Misra, Shrivastava, Gupta and Hebert (2016), Cross-stitch Networks for Multi-task Learning, equation 1.
    """

    def __init__(
        self, n_tasks: int, feature_dim: int, *, keep: float = 0.9, hidden: Sequence[int] = (256,), seed: int = 0
    ) -> None:
        super().__init__()
        self.n_tasks = integer("n_tasks", n_tasks, low=1)
        kept = number("keep", keep, low=0, high=1) if n_tasks > 1 else 1.0
        rest = (1 - kept) / max(n_tasks - 1, 1)
        sizes = _sizes(hidden)
        stitch = torch.full((n_tasks, n_tasks), rest)
        stitch.fill_diagonal_(kept)
        with _drawn(seed):
            self.layers = nn.ModuleList(
                nn.ModuleList(_network(inputs, [outputs]) for _ in range(n_tasks))
                for inputs, outputs in zip([feature_dim, *sizes[:-1]], sizes, strict=True)
            )
        self.stitches = nn.ParameterList(nn.Parameter(stitch.clone()) for _ in sizes)

    def forward(self, features: torch.Tensor) -> torch.Tensor:
        """Return representations (K, n, h) of features (n, d)."""
        states = features.expand(self.n_tasks, -1, -1)
        depths: Any = zip(self.layers, self.stitches, strict=True)
        for layers, stitch in depths:
            found = torch.stack([layer(state) for layer, state in zip(layers, states, strict=True)])
            states = torch.einsum("kj,jnh->knh", stitch, found)
        return states


@final
class TaskAdapters(nn.Module):
    r"""Features, moved for each task in a few directions: :math:`h_k = x + B_k A_k x`.

    :math:`B_k = 0` at first: every task begins with the features as they are.

    Parameters
    ----------
    n_tasks, feature_dim : int
        K and d.
    rank : int
        r, of A (r, d) and B (d, r).
    seed : int
        For A, uniform within 1 / √d.

    References
    ----------
    Hu et al. (2022), LoRA: Low-Rank Adaptation of Large Language Models, section 4.1, at the level of features;
    Rebuffi, Bilen and Vedaldi (2017), Learning Multiple Visual Domains with Residual Adapters.
    """

    def __init__(self, n_tasks: int, feature_dim: int, *, rank: int = 8, seed: int = 0) -> None:
        super().__init__()
        count, width = integer("n_tasks", n_tasks, low=1), integer("feature_dim", feature_dim, low=1)
        directions = min(integer("rank", rank, low=1), width)
        drawn = torch.rand(count, directions, width, generator=torch.Generator().manual_seed(seed))
        self.down = nn.Parameter((2 * drawn - 1) / math.sqrt(width))
        self.up = nn.Parameter(torch.zeros(count, width, directions))

    def forward(self, features: torch.Tensor) -> torch.Tensor:
        """Return representations (K, n, d) of features (n, d)."""
        inner = torch.einsum("nd,krd->knr", features, self.down)
        return features + torch.einsum("knr,kdr->knd", inner, self.up)


def _mixed(logits: torch.Tensor, found: list[torch.Tensor]) -> torch.Tensor:
    """Return the mixture (n, h) of experts' outputs, by the logits (n, experts) of a gate."""
    return torch.einsum("ne,neh->nh", logits.softmax(dim=1), torch.stack(found, dim=1))


def _sizes(hidden: Sequence[int]) -> list[int]:
    if isinstance(hidden, int) or not len(hidden):
        raise RequestError(
            "hidden", expected="sizes of one layer or more", found=repr(hidden), remedy="Pass hidden=[256]."
        )
    return [integer("hidden", size, low=1) for size in hidden]


def _network(inputs: int, hidden: Sequence[int]) -> nn.Sequential:
    """Return linear layers, a rectifier after each."""
    layers: list[nn.Module] = []
    size = integer("feature_dim", inputs, low=1)
    for width in _sizes(hidden):
        layers += [nn.Linear(size, width), nn.ReLU()]
        size = width
    return nn.Sequential(*layers)


@contextmanager
def _drawn(seed: int) -> Iterator[None]:
    """Draw what torch draws within from a seed, and leave its generator as it was."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(integer("seed", seed, low=0))
        yield
