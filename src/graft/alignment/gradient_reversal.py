"""Gradient reversal: in one backward pass, what reads the features learns one thing, the features the contrary."""

from __future__ import annotations

import math
from typing import Any

import torch

from graft._checks import number


class _Reversal(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, values: torch.Tensor, factor: float) -> torch.Tensor:
        ctx.factor = factor
        return values.view_as(values)

    @staticmethod
    def backward(ctx: Any, gradient: torch.Tensor) -> tuple[torch.Tensor, None]:
        return gradient * -ctx.factor, None


def reverse_gradient(values: torch.Tensor, factor: float = 1.0) -> torch.Tensor:
    r"""Return the values as they are; their gradient is turned around and scaled.

    .. math:: R_\lambda(x) = x, \qquad \frac{dR_\lambda}{dx} = -\lambda I

    Parameters
    ----------
    values : tensor
        x, of any shape.
    factor : float
        λ ≥ 0.

    Returns
    -------
    tensor
        Of the same shape and type.

    Raises
    ------
    RequestError
        If the factor is negative or not finite.

    References
    ----------
    Ganin et al. (2016), Domain-Adversarial Training of Neural Networks, section 4.2.

    Examples
    --------
    >>> import torch
    >>> from graft.alignment import reverse_gradient
    >>> x = torch.tensor([1.0, 2.0], requires_grad=True)
    >>> reverse_gradient(x, 0.5).sum().backward()
    >>> x.grad
    tensor([-0.5000, -0.5000])
    """
    return _Reversal.apply(values, number("factor", factor, low=0))


def reversal_schedule(progress: float, *, slope: float = 10.0) -> float:
    r"""Return how much adversarial gradients count at a point of the training.

    .. math:: \lambda(p) = \frac{2}{1 + \exp(-\gamma p)} - 1

    from 0 at the start, where the adversary knows nothing yet, to nearly 1 at the end.

    Parameters
    ----------
    progress : float
        p = step / steps in [0, 1].
    slope : float
        γ > 0; the paper's is 10.

    Raises
    ------
    RequestError
        If one of them is out of its range.

    References
    ----------
    Ganin et al. (2016), Domain-Adversarial Training of Neural Networks, section 5.2.2.

    Examples
    --------
    >>> from graft.alignment import reversal_schedule
    >>> [round(reversal_schedule(p), 3) for p in (0.0, 0.1, 0.5, 1.0)]
    [0.0, 0.462, 0.987, 1.0]
    """
    progress = number("progress", progress, low=0, high=1)
    return math.tanh(number("slope", slope, low=0, open_low=True) * progress / 2)
