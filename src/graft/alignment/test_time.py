"""A trained network meets another domain: TENT, AdaBN and T3A need neither source examples nor labels."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import torch
from torch import nn
from torch.nn import functional

from graft._checks import integer
from graft.alignment.tensors import at_least_float32, checked, product, softmax_entropy
from graft.errors import DataError, RequestError

_BATCH_NORM = nn.modules.batchnorm._BatchNorm
_NORMALIZATIONS = (_BATCH_NORM, nn.LayerNorm, nn.GroupNorm, nn.modules.instancenorm._InstanceNorm)


def entropy_loss(logits: torch.Tensor) -> torch.Tensor:
    r"""Return the mean entropy of predictions, which TENT minimises.

    .. math:: \ell = -\frac{1}{n} \sum_{i,k} p_{ik} \log p_{ik}

    Parameters
    ----------
    logits : tensor of shape (n, K)
        Of target examples; p is their softmax.

    Returns
    -------
    tensor of shape ()
        In [0, log K], in nats.

    Raises
    ------
    RequestError
        If there are no examples.

    References
    ----------
    Wang, Shelhamer, Liu, Olshausen and Darrell (2021), Tent: Fully Test-Time Adaptation by Entropy Minimization,
    section 3.1.

    Examples
    --------
    >>> import torch
    >>> from graft.alignment import entropy_loss
    >>> entropy_loss(torch.zeros(3, 2))
    tensor(0.6931)
    """
    return softmax_entropy(checked("logits", logits)).mean()


def normalization_parameters(network: nn.Module) -> dict[str, nn.Parameter]:
    """Return the scales and shifts of a network's normalisations, by name: what TENT trains, and nothing else.

    The batch normalisations among them are to be in training mode, so that they normalise with the statistics of each
    target batch, as the paper has it.

    Parameters
    ----------
    network : Module
        With batch, layer, group or instance normalisation.

    Returns
    -------
    dict of str to Parameter
        In the order of ``network.named_parameters()``.

    Raises
    ------
    RequestError
        If it has no such parameters.

    References
    ----------
    Wang, Shelhamer, Liu, Olshausen and Darrell (2021), Tent, section 3.2.

    Examples
    --------
    >>> from torch import nn
    >>> from graft.alignment import normalization_parameters
    >>> list(normalization_parameters(nn.Sequential(nn.Linear(2, 3), nn.BatchNorm1d(3))))
    ['1.weight', '1.bias']
    """
    own = {
        id(parameter)
        for module in network.modules()
        if isinstance(module, _NORMALIZATIONS)
        for parameter in module.parameters(recurse=False)
    }
    found = {name: parameter for name, parameter in network.named_parameters() if id(parameter) in own}
    if not found:
        raise RequestError(
            "network",
            expected="normalisation layers with scale and shift",
            found="none",
            remedy="Use T3A, which adjusts the head, or SHOT, which trains every layer of features.",
        )
    return found


def renormalize(network: nn.Module, batches: Iterable[Any]) -> nn.Module:
    r"""Let batch normalisation have the statistics of a target domain instead of the source's (AdaBN).

    Each layer's running mean and variance become those of all its inputs over all batches,

    .. math:: \mu = \frac{1}{N} \sum_i z_i, \qquad \sigma^2 = \frac{1}{N - 1} \sum_i (z_i - \mu)^2

    over examples and positions, in one pass; batches of any size count by their examples. While the pass runs, layers
    normalise with the statistics of the batch, so that what a later layer sees is of the target too.

    Parameters
    ----------
    network : Module
        Changed in place: its running statistics alone. Left in the mode, training or evaluation, in which it was.
    batches : iterable
        What the network reads, one batch after the other, on its device; a hundred examples or more together.

    Returns
    -------
    Module
        The network itself.

    Raises
    ------
    RequestError
        If it has no batch normalisation with running statistics.
    DataError
        If there are no batches, or one of a single example; the network is then as it was.

    References
    ----------
    Li, Wang, Shi, Hou and Liu (2018), Adaptive Batch Normalization for Practical Domain Adaptation, algorithm 1.

    Examples
    --------
    >>> import torch
    >>> from torch import nn
    >>> from graft.alignment import renormalize
    >>> network = nn.BatchNorm1d(1).eval()
    >>> renormalize(network, [torch.tensor([[4.0], [6.0]]), torch.tensor([[5.0], [8.0], [7.0]])]).running_mean
    tensor([6.])
    """
    layers = [
        module for module in network.modules() if isinstance(module, _BATCH_NORM) and module.running_mean is not None
    ]
    if not layers:
        raise RequestError(
            "network",
            expected="batch normalisation with running statistics",
            found="none",
            remedy="Use TENT on other normalisations, or T3A, which adjusts the head.",
        )
    sums: dict[int, list[torch.Tensor]] = {}
    with _batch_statistics(network, layers, sums), torch.no_grad():
        for batch in batches:
            network(batch)
    if not sums:
        raise DataError("batches", expected="one or more", found="none", remedy="Pass batches of target inputs.")
    for layer in layers:
        if id(layer) not in sums:
            continue  # the network did not pass through it
        count, mean, squares = sums[id(layer)]
        running: Any = layer
        running.running_mean.copy_(mean)
        running.running_var.copy_(squares / (count - 1))
    return network


@dataclass(frozen=True, eq=False)
class Supports:
    """What T3A has kept of the examples that it saw.

    Parameters
    ----------
    features : tensor of shape (s, d)
        At length one.
    labels : tensor of int (s,)
        The classes that the head predicted for them.
    entropies : tensor of shape (s,)
        Of those predictions, in nats.
    """

    features: torch.Tensor
    labels: torch.Tensor
    entropies: torch.Tensor


def adjust_templates(
    features: torch.Tensor,
    weight: torch.Tensor,
    bias: torch.Tensor | None = None,
    *,
    supports: Supports | None = None,
    keep: int | None = 100,
) -> tuple[torch.Tensor, Supports]:
    r"""Return logits from templates of each class that the target examples themselves give (T3A).

    .. math:: s_{ik} = x_i \cdot \frac{c_k}{\|c_k\|}, \qquad c_k = \sum_{z \in S_k} \frac{z}{\|z\|}

    with :math:`S_k` the head's weights of class k and those examples for which the head predicted k, of which the
    `keep` of lowest entropy stay. Nothing is trained.

    Parameters
    ----------
    features : tensor of shape (n, d)
        x, a batch of target examples.
    weight : tensor of shape (K, d)
        The linear head's.
    bias : tensor of shape (K,), optional
        The linear head's.
    supports : Supports, optional
        What an earlier call returned. None: the head's weights alone.
    keep : int, optional
        How many stay for each class; None: all. The paper chose it from 1, 5, 20, 50, 100 and all.

    Returns
    -------
    logits : tensor of shape (n, K)
        s; the batch's own examples are among the supports.
    supports : Supports
        For the next batch.

    Raises
    ------
    RequestError
        If shapes do not agree.

    References
    ----------
    Iwasawa and Matsuo (2021), Test-Time Classifier Adjustment Module for Model-Agnostic Domain Generalization.

    Examples
    --------
    >>> import torch
    >>> from graft.alignment import adjust_templates
    >>> logits, supports = adjust_templates(torch.tensor([[3.0, 1.0], [0.0, 2.0]]), torch.eye(2))
    >>> logits.argmax(dim=1), supports.labels
    (tensor([0, 1]), tensor([0, 0, 1, 1]))
    """
    features = checked("features", features.detach())
    weight = checked("weight", weight.detach(), features.shape[1]).to(features)
    if bias is not None and bias.shape != (len(weight),):
        raise RequestError(
            "bias", expected=f"shape ({len(weight)},)", found=f"{tuple(bias.shape)}", remedy="Pass that of the head."
        )
    if keep is not None:
        integer("keep", keep, low=1)
    if supports is None:
        supports = _judged(weight, weight, bias)
    seen = _judged(features, weight, bias)
    joined = Supports(
        torch.cat([supports.features.to(features), seen.features]),
        torch.cat([supports.labels, seen.labels]),
        torch.cat([supports.entropies.to(features), seen.entropies]),
    )
    kept = _surest(joined, len(weight), keep)
    members = functional.one_hot(kept.labels, len(weight)).to(features)
    templates = functional.normalize(product(members.T, kept.features), dim=1)
    return product(features, templates.T), kept


def _judged(features: torch.Tensor, weight: torch.Tensor, bias: torch.Tensor | None) -> Supports:
    logits = product(features, weight.T)
    if bias is not None:
        logits = logits + bias.detach().to(logits)
    return Supports(functional.normalize(features, dim=1), logits.argmax(dim=1), softmax_entropy(logits))


def _surest(supports: Supports, classes: int, keep: int | None) -> Supports:
    """Return the supports of lowest entropy of each class, class by class; of equals, the earlier ones."""
    order = supports.entropies.argsort(stable=True)
    rows = [order[supports.labels[order] == label][:keep] for label in range(classes)]
    chosen = torch.cat(rows)
    return Supports(supports.features[chosen], supports.labels[chosen], supports.entropies[chosen])


@contextmanager
def _batch_statistics(network: nn.Module, layers: list[Any], sums: dict[int, list[torch.Tensor]]) -> Iterator[None]:
    """Let batch normalisation, alone of all layers, be in training mode; add up count, mean, squares of its inputs."""
    modes = {module: module.training for module in network.modules()}
    before = [{name: values.clone() for name, values in layer.named_buffers()} for layer in layers]

    def add(layer: nn.Module, inputs: tuple[torch.Tensor, ...]) -> None:
        values = at_least_float32(inputs[0].detach()).transpose(0, 1).flatten(1)
        if values.shape[1] < 2:
            raise DataError(
                "batches",
                expected="two or more target examples in each",
                found="a batch of one",
                remedy="Leave the last batch out, or put it together with the one before.",
            )
        count, mean = values.new_tensor(values.shape[1]), values.mean(dim=1)
        squares = (values - mean[:, None]).square().sum(dim=1)
        if id(layer) in sums:
            # Chan, Golub and LeVeque (1979): moments of two samples joined, without the difference of large squares.
            count_before, mean_before, squares_before = sums[id(layer)]
            total, apart = count_before + count, mean - mean_before
            squares = squares_before + squares + apart.square() * (count_before * count / total)
            count, mean = total, mean_before + apart * (count / total)
        sums[id(layer)] = [count, mean, squares]

    handles = [layer.register_forward_pre_hook(add) for layer in layers]
    try:
        network.eval()
        for layer in layers:
            layer.train()
        yield
    finally:
        for handle in handles:
            handle.remove()
        for module, mode in modes.items():
            module.training = mode
        # A pass in training mode moved them.
        for layer, kept in zip(layers, before, strict=True):
            for name, values in layer.named_buffers():
                values.copy_(kept[name])
