"""Gradients that agree on a sign, entry by entry: GradDrop."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar, final

import numpy as np
import torch

from graft.balancing.aggregator import Aggregator


@final
@dataclass(frozen=True, kw_only=True)
class GradDrop(Aggregator):
    r"""In each entry one sign is drawn, and the gradients of the other sign are left out of the sum.

    .. math:: P = \frac12 \Bigl(1 + \frac{\sum_i g_i}{\sum_i |g_i|}\Bigr), \qquad
        d = \sum_i g_i \odot \bigl([g_i > 0] [U < P] + [g_i < 0] [U > P]\bigr), \qquad U \sim \mathcal U(0, 1)

    The probability of the positive sign is its share of the absolute values. It needs the entries of the gradients, not
    only their inner products. The paper has it act on gradients of activations, multiplied by the signs of the inputs
    and summed over the batch; here each entry of what is passed is on its own.

    Conflicting, random; not linear under scaling; strongly stationary and permutation invariant (for one draw).

    References
    ----------
    Chen, Ngiam, Huang, Luong, Kretzschmar, Chai and Anguelov (2020), Just Pick a Sign: Optimizing Deep Multitask
    Models with Gradient Sign Dropout, algorithm 1 (without leaks).
    """

    random: ClassVar[bool] = True

    def _combined(
        self, rows: torch.Tensor, generator: torch.Generator | None, state: np.ndarray | None
    ) -> torch.Tensor:
        assert generator is not None
        rows = rows if rows.dtype == torch.float64 else rows.float()
        positive, negative = rows.clamp(min=0).sum(dim=0), rows.clamp(max=0).sum(dim=0)
        drawn = torch.rand(len(positive), dtype=rows.dtype, generator=generator, device=generator.device)
        # U < P, without a division by zero: P = positive / (positive - negative).
        return torch.where(drawn.to(rows.device) * (positive - negative) < positive, positive, negative)
