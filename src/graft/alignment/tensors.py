"""What the losses ask of their tensors: shapes that fit, and enough precision for sums of squares and exponentials."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch.nn import functional

from graft.errors import RequestError


def at_least_float32(values: torch.Tensor) -> torch.Tensor:
    """Return the values in float32, or as they are where they are in float64, whatever the network computes in."""
    return values if values.dtype == torch.float64 else values.float()


def checked(subject: str, values: torch.Tensor, width: int | None = None) -> torch.Tensor:
    """Return a table (n, width) of one row or more in full precision.

    Raises
    ------
    RequestError
        If it has another shape or no rows.
    """
    if values.ndim == 2 and len(values) and width in (None, values.shape[1]) and values.shape[1]:
        return at_least_float32(values)
    columns = "one column or more" if width is None else f"{width} columns"
    raise RequestError(
        subject,
        expected=f"a tensor (n, columns) with one row or more and {columns}",
        found=f"shape {tuple(values.shape)}",
        remedy="Pass one row for each example; both domains come from the same layer.",
    )


def checked_pair(
    source: torch.Tensor, target: torch.Tensor, subjects: Sequence[str] = ("source", "target")
) -> tuple[torch.Tensor, torch.Tensor]:
    """Return tables (n, d) and (m, d) of both domains in full precision, or raise as `checked` does."""
    first = checked(subjects[0], source)
    return first, checked(subjects[1], target, first.shape[1]).to(first)


def product(first: torch.Tensor, second: torch.Tensor) -> torch.Tensor:
    """Return the matrix product, in full precision also within ``torch.autocast``."""
    with torch.autocast(first.device.type, enabled=False):
        return first @ second


def squared_distances(first: torch.Tensor, second: torch.Tensor) -> torch.Tensor:
    r"""Return :math:`\|a_i - b_j\|^2`, shape (n, m), for rows a of (n, d) and b of (m, d).

    Both are shifted by their common mean first: far from the origin the difference of large squares would be noise.
    """
    centre = torch.cat([first, second]).detach().mean(dim=0)
    first, second = first - centre, second - centre
    squares = first.square().sum(dim=1)[:, None] + second.square().sum(dim=1)[None, :]
    return (squares - 2 * product(first, second.T)).clamp(min=0)


def softmax_entropy(logits: torch.Tensor) -> torch.Tensor:
    r"""Return :math:`H(p_i) = -\sum_k p_{ik} \log p_{ik}` in nats, shape (n,), with p the softmax of logits (n, K)."""
    log_p = functional.log_softmax(at_least_float32(logits), dim=1)
    # exp(log p) log p is 0 times a large finite number, never 0 times infinity.
    return -(log_p.exp() * log_p).sum(dim=1)
