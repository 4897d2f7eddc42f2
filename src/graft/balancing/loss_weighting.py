"""What every weighting of task losses has in common: one loss of several, absent tasks left out, state in the open."""

from __future__ import annotations

from abc import ABC, abstractmethod
from typing import ClassVar, final

import torch
from torch import nn

from graft._checks import integer
from graft.errors import RequestError


class LossWeighting(nn.Module, ABC):
    r"""One loss out of K task losses.

    A training step calls the instance for the loss that it differentiates, and, once the step is taken, `update`::

        loss = weighting(losses, present=present, step=step)
        loss.backward(); optimizer.step()
        weighting.update(losses, present=present)    # with what `weighting.needs` names

    `forward` changes nothing, so that a step may be computed in parts or again. All state is in ``state_dict()``.
    Learned weights are parameters, one a task: they belong in the optimizer, in a group without weight decay.

    A task that is absent (no example of the batch has its label) drops out. The result is that of the call on the
    present tasks alone; sums over tasks are written as means, so that the loss does not shrink with the number of
    tasks present; the absent task's state stays as it is: its parameter gets no gradient (None, not zero, which
    momentum would turn into a step). Whatever number stands for an absent task is not read. With no task present the
    loss is 0.

    Abstract: a method provides ``_combine`` and ``_learn``; concrete classes are final.

    Parameters
    ----------
    n_tasks : int
        K.

    Attributes
    ----------
    needs : frozenset of {"losses_after", "gradient_norms"}
        What `update` must be given besides the losses.
    additive : bool
        Whether loss and state are linear in the losses: then those of parts of a batch, each over the whole batch's
        number of labels, add up to the batch's.
    """

    needs: ClassVar[frozenset[str]] = frozenset()
    additive: ClassVar[bool] = False

    def __init__(self, n_tasks: int) -> None:
        super().__init__()
        self.n_tasks = integer("n_tasks", n_tasks, low=1)

    # Final as well: torch declares it as an attribute, which the checker does not let anyone seal.
    def forward(self, losses: torch.Tensor, *, present: torch.Tensor | None = None, step: int = 0) -> torch.Tensor:
        """Return the loss to differentiate, shape (), in float32 or float64.

        Parameters
        ----------
        losses : tensor of shape (K,)
            The mean loss of each task over its examples in the batch, with its graph.
        present : tensor of shape (K,), bool, optional
            Which tasks have a label in the batch; by default all.
        step : int
            The number of the step; decides what is random.

        Raises
        ------
        RequestError
            If shapes do not fit, or a loss is negative where a method takes logarithms.
        """
        values = self._checked("losses", losses)
        places = self._places(present, values.device)
        if len(places) == 0:
            return values[places].sum()
        with torch.autocast(values.device.type, enabled=False):
            return self._combine(values[places], places, integer("step", step, low=0))

    @final
    @torch.no_grad()
    def update(
        self,
        losses: torch.Tensor,
        *,
        present: torch.Tensor | None = None,
        losses_after: torch.Tensor | None = None,
        gradient_norms: torch.Tensor | None = None,
    ) -> None:
        """Learn from a step that was taken; for most methods there is nothing to learn.

        Parameters
        ----------
        losses : tensor of shape (K,)
            The task losses of the step's batch, as they were given to the call.
        present : tensor of shape (K,), bool, optional
            As in the call.
        losses_after : tensor of shape (K,), optional
            The task losses of the same batch with the parameters after the step.
        gradient_norms : tensor of shape (K,), optional
            The norm of the gradient of each task loss, unweighted, with respect to what the tasks share (parameters
            of its last layer, or the features), before the step.

        Raises
        ------
        RequestError
            If something is missing that the method needs, or shapes do not fit.
        """
        values = self._checked("losses", losses)
        places = self._places(present, values.device)
        given = {"losses_after": losses_after, "gradient_norms": gradient_norms}
        extra = {}
        for name in sorted(self.needs):
            one = given[name]
            if one is None:
                raise RequestError(
                    name,
                    expected=f"a tensor ({self.n_tasks},), which {type(self).__name__} learns from",
                    found="None",
                    remedy=f"Pass {name}=…, computed on the batch of the step.",
                )
            extra[name] = self._checked(name, one)[places]
        if len(places):
            self._learn(values[places], places, extra)

    @abstractmethod
    def _combine(self, losses: torch.Tensor, places: torch.Tensor, step: int) -> torch.Tensor:
        """Return the loss of the present tasks, whose losses (K',) and places (K',) are given; K' ≥ 1."""

    @abstractmethod
    def _learn(self, losses: torch.Tensor, places: torch.Tensor, extra: dict[str, torch.Tensor]) -> None:
        """Change the state of the present tasks; `extra` holds what `needs` names."""

    @final
    def _checked(self, subject: str, values: torch.Tensor) -> torch.Tensor:
        if values.shape == (self.n_tasks,) and values.is_floating_point():
            return values if values.dtype == torch.float64 else values.float()
        raise RequestError(
            subject,
            expected=f"a tensor of shape ({self.n_tasks},) of floating-point numbers, one for each task",
            found=f"shape {tuple(values.shape)} of {values.dtype}",
            remedy="Stack one mean loss for each task; say which are absent by present=….",
        )

    @final
    def _places(self, present: torch.Tensor | None, device: torch.device) -> torch.Tensor:
        if present is None:
            return torch.arange(self.n_tasks, device=device)
        if present.shape == (self.n_tasks,) and present.dtype == torch.bool:
            return present.to(device).nonzero()[:, 0]
        raise RequestError(
            "present",
            expected=f"a tensor of shape ({self.n_tasks},) of bool",
            found=f"shape {tuple(present.shape)} of {present.dtype}",
            remedy="Pass True for each task that has a label in the batch.",
        )


class SteadyWeighting(LossWeighting):
    """A weighting that learns nothing between steps. Abstract."""

    @final
    def _learn(self, losses: torch.Tensor, places: torch.Tensor, extra: dict[str, torch.Tensor]) -> None:
        pass


def log_losses(losses: torch.Tensor) -> torch.Tensor:
    """Return logarithms of losses; a loss of 0, which cannot fall further, gets no gradient.

    Raises
    ------
    RequestError
        If a loss is negative.
    """
    if bool((losses < 0).any()):
        raise RequestError(
            "losses",
            expected="no negative loss: the method takes logarithms",
            found=f"{float(losses.min()):g}",
            remedy="Use a loss that is bounded by 0, or another weighting, such as 'uncertainty'.",
        )
    return losses.clamp_min(torch.finfo(losses.dtype).tiny).log()
