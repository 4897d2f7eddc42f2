"""Balanced gradients in a training loop: in place of ``loss.backward()``, or inside of it."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any, final

import torch

from graft.balancing.aggregator import Aggregator, WeightedAggregator
from graft.balancing.gramian import gramian_of
from graft.errors import RequestError

# The gradients of all tasks with respect to one shared tensor, and of several such tensors.
Rows = list[torch.Tensor]


@final
@dataclass(frozen=True, eq=False)
class TaskGradients:
    """What a balanced backward pass found out about the tasks.

    Attributes
    ----------
    weights : tensor of shape (K,), optional
        The weight of each task's gradient; 0 for absent tasks. None for methods without weights (GradDrop).
    gramian : tensor of shape (K, K)
        The inner products of the gradients; 0 for absent tasks.
    """

    weights: torch.Tensor | None
    gramian: torch.Tensor


def balanced_backward(
    losses: Sequence[torch.Tensor],
    shared: torch.Tensor | Iterable[torch.Tensor],
    aggregator: Aggregator,
    *,
    present: torch.Tensor | None = None,
    generator: torch.Generator | None = None,
    state: torch.Tensor | None = None,
    low_memory: bool = False,
) -> TaskGradients:
    r"""Add balanced gradients to ``.grad``: use it in place of ``sum(losses).backward()``.

    What the tasks do not share (their heads) gets the gradient of the sum of the losses; what they share gets the
    aggregate of the tasks' gradients. There are two kinds of ``shared``:

    - *Parameters* of the trunk: the exact gradients of every task, one backward pass through the trunk for each; the
      time grows with K. The gradients are held, K times the size of the trunk. With ``low_memory`` only their inner
      products are, found column by column from
      :math:`\partial / \partial u_j \langle \nabla_\theta \sum_i u_i \ell_i, g_k \rangle = \langle g_j, g_k \rangle`:
      as much memory whatever K (a gradient, a sum of gradients, and the activations of the backward pass), and about
      twice the time; the network's operations must be differentiable twice.
    - *Features*, the trunk's outputs z (one tensor or several): gradients with respect to z of the batch are
      aggregated, and there is one backward pass through the trunk, as in an ordinary step, for any number of tasks.
      By the chain rule :math:`\|\sum_k w_k \nabla_\theta \ell_k\|
      \le \|\partial z / \partial \theta\| \|\sum_k w_k \nabla_z \ell_k\|`: for MGDA this minimizes an upper bound of
      the exact problem (MGDA-UB). Weights that are nonnegative still give a combination of the tasks' gradients, but
      what no longer conflicts is features, not parameters.

    Parameters
    ----------
    losses : sequence of K tensors of shape ()
        The mean loss of each task over its examples in the batch. A stacked tensor (K,) is accepted, but then each
        task's backward pass runs through the heads of all, and the losses of absent tasks must be finite.
    shared : tensor, or iterable of tensors
        Features (with the graph of the trunk), or parameters.
    aggregator : Aggregator
        The method.
    present : tensor of shape (K,), bool, optional
        Which tasks have a label in the batch; the losses of others are left out. By default all.
    generator, state
        Of the aggregator, for methods that need them.
    low_memory : bool
        For parameters and methods with weights: hold inner products instead of gradients.

    Returns
    -------
    TaskGradients
        The weights and inner products, for a look at the tasks' conflicts.

    Raises
    ------
    RequestError
        If losses are no scalars, ``shared`` mixes parameters and features, or the aggregator refuses its arguments.

    References
    ----------
    Sener and Koltun (2018), Multi-Task Learning as Multi-Objective Optimization, section 3.3 (features: MGDA-UB).

    Examples
    --------
    >>> import torch
    >>> from graft.balancing import UPGrad, balanced_backward
    >>> trunk, heads = torch.nn.Linear(3, 4), [torch.nn.Linear(4, 1), torch.nn.Linear(4, 1)]
    >>> features = trunk(torch.randn(8, 3))
    >>> losses = [head(features).square().mean() for head in heads]
    >>> found = balanced_backward(losses, features, UPGrad())
    >>> trunk.weight.grad.shape, heads[0].weight.grad.shape, found.weights.shape
    (torch.Size([4, 3]), torch.Size([1, 4]), torch.Size([2]))
    """
    tensors = [shared] if isinstance(shared, torch.Tensor) else list(shared)
    of_parameters = _are_parameters(tensors)
    each = _checked_losses(losses)
    mask = torch.ones(len(each), dtype=torch.bool) if present is None else present
    _require_mask(mask, len(each))
    places = mask.nonzero()[:, 0].tolist()
    if not places:
        weights = torch.zeros(len(each)) if isinstance(aggregator, WeightedAggregator) else None
        return TaskGradients(weights, torch.zeros(len(each), len(each)))
    own = _own_leaves([each[place] for place in places], tensors)
    if low_memory and of_parameters:
        return _by_products(each, places, tensors, own, aggregator, mask, generator, state)
    # The gradients of the tasks are gone before the trunk's backward pass asks for memory of its own.
    directions, found = _aggregated(
        _blocks([each[place] for place in places], tensors, own), places, aggregator, mask, generator, state
    )
    if of_parameters:
        for parameter, direction in zip(tensors, directions, strict=True):
            _add_gradient(parameter, direction)
    else:
        torch.autograd.backward(tensors, directions)
    return found


def balanced_features(
    features: torch.Tensor,
    n_tasks: int,
    aggregator: Aggregator,
    *,
    present: torch.Tensor | None = None,
    generator: torch.Generator | None = None,
    state: torch.Tensor | None = None,
) -> tuple[torch.Tensor, ...]:
    """Return the features once for each task, such that their gradients are aggregated on their way back.

    Each head reads its own copy, and the loop goes on as always: the sum of the losses, one ``backward()``. Heads get
    the gradient of the sum, the trunk the aggregate of the gradients with respect to the features (see
    `balanced_backward`). It works with whatever stands around it: gradient accumulation, clipping, distributed
    wrappers; under loss scaling use methods that are homogeneous.

    Parameters
    ----------
    features : tensor of any shape
        The trunk's outputs.
    n_tasks : int
        K.
    aggregator : Aggregator
        The method.
    present : tensor of shape (K,), bool, optional
        Which tasks have a label in the batch. A task whose copy takes no part in the loss is absent in any case.
    generator, state
        Of the aggregator. They are read, and the state changes, when the backward pass arrives.

    Returns
    -------
    tuple of K tensors
        Views of the features. They must not be changed in place.

    Examples
    --------
    >>> import torch
    >>> from graft.balancing import MGDA, balanced_features
    >>> features = torch.zeros(1, 3, requires_grad=True)
    >>> first, second = balanced_features(features, 2, MGDA())
    >>> wanted = torch.tensor([[-3.0, 1.0, 1.0], [3.0, 1.0, 1.0]])
    >>> ((first * wanted[0]).sum() + (second * wanted[1]).sum()).backward()
    >>> features.grad
    tensor([[0., 1., 1.]])
    """
    mask = torch.ones(n_tasks, dtype=torch.bool) if present is None else present
    _require_mask(mask, n_tasks)
    # A missing generator or state is found now, not in the middle of the backward pass.
    aggregator(
        torch.zeros(n_tasks, 0), present=torch.zeros(n_tasks, dtype=torch.bool), generator=generator, state=state
    )
    return _Balanced.apply(features, n_tasks, aggregator, mask, generator, state)


class _Balanced(torch.autograd.Function):
    """Copies forwards, an aggregate backwards."""

    @staticmethod
    def forward(
        ctx: Any,
        features: torch.Tensor,
        n_tasks: int,
        aggregator: Aggregator,
        present: torch.Tensor,
        generator: torch.Generator | None,
        state: torch.Tensor | None,
    ) -> tuple[torch.Tensor, ...]:
        ctx.set_materialize_grads(False)
        ctx.options = (aggregator, present, generator, state)
        return tuple(features.view_as(features) for _ in range(n_tasks))

    @staticmethod
    @torch.autograd.function.once_differentiable
    def backward(ctx: Any, *gradients: torch.Tensor | None) -> tuple[torch.Tensor | None, ...]:
        aggregator, present, generator, state = ctx.options
        there = present.cpu() & torch.tensor([gradient is not None for gradient in gradients])
        places = there.nonzero()[:, 0].tolist()
        if not places:
            return (None,) * 6
        block = [gradient for place in places if (gradient := gradients[place]) is not None]
        directions, _ = _aggregated([block], places, aggregator, there, generator, state)
        return (directions[0], None, None, None, None, None)


def _blocks(losses: list[torch.Tensor], shared: list[torch.Tensor], own: list[torch.Tensor]) -> list[Rows]:
    """Return the gradients of all losses, for each shared tensor."""
    return [list(block) for block in zip(*(_gradients(loss, shared, own) for loss in losses), strict=True)]


def _aggregated(
    blocks: list[Rows],
    places: list[int],
    aggregator: Aggregator,
    present: torch.Tensor,
    generator: torch.Generator | None,
    state: torch.Tensor | None,
) -> tuple[list[torch.Tensor], TaskGradients]:
    """Return the direction of each shared tensor; blocks hold the gradients of the present tasks."""
    with torch.no_grad(), torch.autocast(blocks[0][0].device.type, enabled=False):
        gramian = _spread(_total([gramian_of(block) for block in blocks]), places, len(present))
        if isinstance(aggregator, WeightedAggregator):
            weights = aggregator.weights(gramian, present=present, generator=generator, state=state)
            shares = weights[torch.tensor(places)].tolist()
            return [_combination(block, shares) for block in blocks], TaskGradients(weights, gramian)
        matrix = torch.stack([torch.cat([block[row].reshape(-1) for block in blocks]) for row in range(len(places))])
        whole = matrix
        if len(places) < len(present):
            whole = matrix.new_zeros(len(present), matrix.shape[1])
            whole[torch.tensor(places, device=matrix.device)] = matrix
        direction = aggregator(whole, present=present, generator=generator, state=state)
        parts = direction.split([block[0].numel() for block in blocks])
        directions = [part.view_as(block[0]) for part, block in zip(parts, blocks, strict=True)]
        return directions, TaskGradients(None, gramian)


def _by_products(
    losses: list[torch.Tensor],
    places: list[int],
    shared: list[torch.Tensor],
    own: list[torch.Tensor],
    aggregator: Aggregator,
    present: torch.Tensor,
    generator: torch.Generator | None,
    state: torch.Tensor | None,
) -> TaskGradients:
    """Find the Gramian column by column, then the gradient of the weighted sum."""
    if not isinstance(aggregator, WeightedAggregator):
        raise RequestError(
            "low_memory",
            expected="a method that needs inner products of the gradients alone",
            found=type(aggregator).__name__,
            remedy="Leave low_memory out, or choose another method.",
        )
    chosen = [losses[place] for place in places]
    gramian = _spread(_products(chosen, shared, own), places, len(present))
    weights = aggregator.weights(gramian, present=present, generator=generator, state=state)
    shares = weights[torch.tensor(places)].tolist()
    weighted = _total([share * loss for share, loss in zip(shares, chosen, strict=True)])
    for parameter, gradient in zip(shared, _gradients(weighted, shared, []), strict=True):
        _add_gradient(parameter, gradient.clone())
    return TaskGradients(weights, gramian)


def _products(losses: list[torch.Tensor], shared: list[torch.Tensor], own: list[torch.Tensor]) -> torch.Tensor:
    """Return the Gramian of the losses' gradients, and add those of what is not shared to ``.grad``."""
    probe = torch.ones(len(losses), dtype=losses[0].dtype, device=losses[0].device, requires_grad=True)
    total = _total([share * loss for share, loss in zip(probe.unbind(), losses, strict=True)])
    sums = torch.autograd.grad(total, shared, create_graph=True, allow_unused=True)
    reached = [place for place, one in enumerate(sums) if one is not None and one.requires_grad]
    columns = []
    for loss in losses:
        gradients = _gradients(loss, shared, own)
        column = torch.zeros_like(probe)
        if reached:
            wanted, against = [sums[place] for place in reached], [gradients[place] for place in reached]
            column = torch.autograd.grad(wanted, probe, against, retain_graph=True)[0]
        columns.append(column.detach())
        del gradients
    return torch.stack(columns)


def _gradients(loss: torch.Tensor, shared: list[torch.Tensor], own: list[torch.Tensor]) -> list[torch.Tensor]:
    """Return the gradients of one loss with respect to what is shared, and add those of what is not to ``.grad``."""
    found = torch.autograd.grad(loss, shared + own, retain_graph=True, allow_unused=True)
    for parameter, gradient in zip(own, found[len(shared) :], strict=True):
        if gradient is not None:
            _add_gradient(parameter, gradient.clone())
    return [
        torch.zeros_like(tensor) if gradient is None else gradient
        for tensor, gradient in zip(shared, found, strict=False)
    ]


def _own_leaves(losses: list[torch.Tensor], shared: list[torch.Tensor]) -> list[torch.Tensor]:
    """Return the leaves that losses reach without passing through what is shared."""
    blocked = {tensor.grad_fn for tensor in shared if tensor.grad_fn is not None}
    excluded = {id(tensor) for tensor in shared}
    stack = [loss.grad_fn for loss in losses]
    seen: set[Any] = set()
    leaves: dict[int, torch.Tensor] = {}
    while stack:
        node = stack.pop()
        if node is None or node in seen or node in blocked:
            continue
        seen.add(node)
        leaf = getattr(node, "variable", None)
        if leaf is not None and id(leaf) not in excluded:
            leaves[id(leaf)] = leaf
        stack.extend(following for following, _ in node.next_functions)
    return list(leaves.values())


def _add_gradient(parameter: torch.Tensor, gradient: torch.Tensor) -> None:
    """Add a gradient that nobody else holds: what autograd returns may be one tensor for several leaves."""
    if parameter.grad is None:
        parameter.grad = gradient.detach()
    else:
        parameter.grad += gradient.detach()


def _combination(rows: Rows, weights: list[float]) -> torch.Tensor:
    total = torch.zeros_like(rows[0], dtype=torch.promote_types(rows[0].dtype, torch.float32))
    for row, weight in zip(rows, weights, strict=True):
        total.add_(row, alpha=weight)
    return total.to(rows[0].dtype)


def _total(terms: Sequence[torch.Tensor]) -> torch.Tensor:
    total = terms[0]
    for term in terms[1:]:
        total = total + term
    return total


def _spread(gramian: torch.Tensor, places: list[int], count: int) -> torch.Tensor:
    """Return a Gramian of present tasks as one of all tasks."""
    chosen = torch.tensor(places, device=gramian.device)
    whole = gramian.new_zeros(count, count)
    whole[chosen[:, None], chosen] = gramian
    return whole


def _are_parameters(tensors: list[torch.Tensor]) -> bool:
    leaves = [tensor.is_leaf for tensor in tensors]
    if tensors and all(tensor.requires_grad for tensor in tensors) and len(set(leaves)) == 1:
        return leaves[0]
    raise RequestError(
        "shared",
        expected="the trunk's parameters, or its outputs with their graph, all of one kind",
        found=f"{sum(leaves)} leaves among {len(tensors)} tensors, "
        f"{sum(not tensor.requires_grad for tensor in tensors)} without gradients",
        remedy="Pass [p for p in trunk.parameters() if p.requires_grad], or the features.",
    )


def _checked_losses(losses: Sequence[torch.Tensor]) -> list[torch.Tensor]:
    each = list(losses.unbind()) if isinstance(losses, torch.Tensor) and losses.ndim == 1 else list(losses)
    for place, loss in enumerate(each):
        if loss.shape != () or not loss.is_floating_point():
            raise RequestError(
                f"losses[{place}]",
                expected="one number for each task, with its graph",
                found=f"shape {tuple(loss.shape)} of {loss.dtype}",
                remedy="Pass the mean loss of each task over its examples.",
            )
    return each


def _require_mask(present: torch.Tensor, count: int) -> None:
    if present.shape != (count,) or present.dtype != torch.bool:
        raise RequestError(
            "present",
            expected=f"a tensor of shape ({count},) of bool",
            found=f"shape {tuple(present.shape)} of {present.dtype}",
            remedy="Pass True for each task that has a label in the batch.",
        )
