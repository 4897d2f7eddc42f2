"""`Balance`: a method of `graft.balancing` within a training, with what it remembers from step to step."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any, final

import torch
from torch import nn

from graft import balancing
from graft._checks import one_of
from graft.balancing import Aggregator, LossWeighting, balanced_backward, balanced_features
from graft.data import Task
from graft.errors import RequestError

BALANCINGS = (*balancing.LOSS_WEIGHTINGS, *balancing.AGGREGATORS)


def make_balancing(name: str, tasks: Sequence[Task], options: Mapping[str, Any]) -> LossWeighting | Aggregator:
    """Return the method of balancing with a name.

    Parameters
    ----------
    name : str
        One of `BALANCINGS`.
    tasks : sequence of Task
        What is balanced.
    options : mapping
        Of the method. Those of ``"static"`` are ``{"task_weight": {task: weight}}``; a task that is not named has 1.

    Raises
    ------
    RequestError
        If there is no such method, or it has no such option.
    """
    one_of("balancing", name, BALANCINGS)
    named = dict(options)
    try:
        if name in balancing.AGGREGATORS:
            return getattr(balancing, balancing.AGGREGATORS[name])(**named)
        kind = getattr(balancing, balancing.LOSS_WEIGHTINGS[name])
        if name == "static":
            weights = dict(named.pop("task_weight", {}))
            alone = len(tasks) == 1  # whose weight changes nothing but the rate, and may be 0 among others
            return kind([1.0 if alone else weights.get(task.name, 1.0) for task in tasks], **named)
        if name == "uncertainty":
            kinds = ["regression" if task.kind == "regression" else "classification" for task in tasks]
            return kind(kinds, **named)
        return kind(len(tasks), **named)
    except TypeError as error:
        raise RequestError(
            "balancing_options",
            expected=f"options of {name!r}",
            found=", ".join(named) or "none",
            remedy="See graft.balancing.",
        ) from error


@final
class Balance(nn.Module):
    """One loss, or one gradient, for several tasks. What the method remembers are buffers, which checkpoints hold.

    Parameters
    ----------
    name : str
        One of `BALANCINGS`.
    tasks : sequence of Task
        What is balanced.
    options : mapping
        Of the method.
    exact : bool
        Aggregate gradients in the parameters that the tasks share, not at the representation.
    """

    def __init__(self, name: str, tasks: Sequence[Task], options: Mapping[str, Any], *, exact: bool = False) -> None:
        super().__init__()
        method = make_balancing(name, tasks, options)
        self.weighting = method if isinstance(method, LossWeighting) else None
        self.aggregator = method if isinstance(method, Aggregator) else None
        self.n_tasks, self.exact = len(tasks), exact
        if self.aggregator is not None:
            self.register_buffer("state", self.aggregator.initial_state(len(tasks)))
        # Losses, presence and norms of the parts of the step that is computed; gone when it is taken.
        self._seen: list[tuple[torch.Tensor, torch.Tensor, torch.Tensor]] = []

    @property
    def additive(self) -> bool:
        """Whether the losses of parts of a batch add up to the batch's."""
        return self.weighting is not None and self.weighting.additive

    def split(self, present: torch.Tensor, draw: int) -> Callable[[torch.Tensor], Sequence[torch.Tensor]] | None:
        """Return what copies a representation for each task such that their gradients are aggregated.

        None where nothing is aggregated there.
        """
        if self.aggregator is None or self.exact or self.n_tasks == 1:
            return None
        aggregator, options = self.aggregator, self._options(draw)
        return lambda shared: balanced_features(shared, self.n_tasks, aggregator, present=present.cpu(), **options)

    def combined(
        self,
        losses: torch.Tensor,
        present: torch.Tensor,
        draw: int,
        *,
        shared: torch.Tensor | None,
        parameters: Sequence[nn.Parameter],
    ) -> torch.Tensor:
        """Return the loss to differentiate.

        Parameters
        ----------
        losses : tensor of shape (K,)
            The mean loss of each task in the batch.
        present : tensor of bool (K,)
            Which tasks have a label in it.
        draw : int
            Decides what is random; another one for every step.
        shared : tensor, optional
            What all tasks read, for methods that look at the norms of their gradients.
        parameters : sequence of parameter
            Those that the tasks share.
        """
        if self.weighting is not None:
            norms = torch.zeros_like(losses).detach()
            if "gradient_norms" in self.weighting.needs:
                norms = _norms(losses, present, [*parameters] if shared is None else [shared])
            self._seen.append((losses.detach(), present, norms))
            return self.weighting(losses, present=present, step=draw)
        assert self.aggregator is not None
        if not self.exact or not parameters or self.n_tasks == 1:
            return losses[present].sum()
        return _in_parameters(losses, present, self.aggregator, parameters, self._options(draw))

    def learn(self, losses_after: Callable[[], torch.Tensor]) -> None:
        """Learn from a step that was taken; `losses_after` computes the losses (K,) of its batch now."""
        seen, self._seen = self._seen, []
        if self.weighting is None or not seen:
            return
        # Each task's mean over the parts in which it is present.
        there = torch.stack([present for _, present, _ in seen])
        count = there.sum(dim=0).clamp(min=1)
        losses, norms = (
            torch.stack([torch.where(present, part, 0.0) for part, present in zip(parts, there, strict=True)]).sum(0)
            / count
            for parts in ([one[0] for one in seen], [one[2] for one in seen])
        )
        later = None
        if "losses_after" in self.weighting.needs:
            with torch.no_grad():
                later = losses_after()
        self.weighting.update(losses, present=there.any(dim=0), losses_after=later, gradient_norms=norms)

    def _options(self, draw: int) -> dict[str, Any]:
        assert self.aggregator is not None
        return {
            "generator": torch.Generator().manual_seed(draw) if self.aggregator.random else None,
            "state": self.state if self.aggregator.stateful else None,
        }


def _norms(losses: torch.Tensor, present: torch.Tensor, shared: Sequence[torch.Tensor]) -> torch.Tensor:
    """Return the norm of the gradient of each present loss (K,) with respect to what is shared."""
    found = torch.zeros_like(losses).detach()
    for place in present.nonzero()[:, 0].tolist() if shared else ():
        parts = torch.autograd.grad(losses[place], [*shared], retain_graph=True, allow_unused=True)
        found[place] = torch.stack([one.float().square().sum() for one in parts if one is not None]).sum().sqrt()
    return found


def _in_parameters(
    losses: torch.Tensor,
    present: torch.Tensor,
    aggregator: Aggregator,
    parameters: Sequence[nn.Parameter],
    options: dict[str, Any],
) -> torch.Tensor:
    """Return a loss with the value of the sum, whose gradient is the aggregate in the shared parameters."""
    leaves = _leaves(losses)
    before = [one.grad for one in leaves]
    for one in leaves:
        one.grad = None
    balanced_backward(losses.unbind(), parameters, aggregator, present=present.cpu(), **options)
    gradients = [one.grad for one in leaves]
    for one, earlier in zip(leaves, before, strict=True):
        one.grad = earlier
    total = losses[present].detach().sum()
    for one, gradient in zip(leaves, gradients, strict=True):
        if gradient is not None:
            total = total + ((one - one.detach()) * gradient).sum()
    return total


def _leaves(losses: torch.Tensor) -> list[torch.Tensor]:
    """Return the parameters that losses depend on."""
    stack, seen, found = [losses.grad_fn], set(), {}
    while stack:
        node = stack.pop()
        if node is None or node in seen:
            continue
        seen.add(node)
        leaf = getattr(node, "variable", None)
        if leaf is not None:
            found[id(leaf)] = leaf
        stack.extend(following for following, _ in node.next_functions)
    return list(found.values())
