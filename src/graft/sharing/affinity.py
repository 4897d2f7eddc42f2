"""Which tasks help which: from the angles of their gradients, from steps looked ahead, and from fits of pairs.

Every affinity is a matrix (K, K) whose entry [i, j] says how much task i does for task j: positive where it helps.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np

from graft._checks import integer, number
from graft.errors import RequestError


def gradient_affinity(gradients: Any, *, present: Any = None) -> np.ndarray:
    r"""Return the mean cosine of the tasks' gradients over batches.

    .. math:: A_{ij} = \frac{1}{|B_{ij}|} \sum_{b \in B_{ij}} \frac{g_{b,i}^T g_{b,j}}{\lVert g_{b,i} \rVert \lVert
        g_{b,j} \rVert}

    with :math:`B_{ij}` the batches in which both tasks are present. Negative: they conflict (Yu et al.: the step of one
    undoes that of the other). Noise in the gradients draws the cosines to 0: use large batches.

    Parameters
    ----------
    gradients : array or tensor of shape (batches, K, dim)
        The gradient of each task's loss with respect to what the tasks share, in each batch.
    present : array of shape (batches, K), bool, optional
        Which tasks have labels in the batch. A gradient of zeros counts as absent.

    Returns
    -------
    ndarray of shape (K, K)
        Symmetric, in [-1, 1], 1 on the diagonal; NaN for two tasks that never met.

    Raises
    ------
    RequestError
        If shapes do not fit.

    References
    ----------
    Yu et al. (2020), Gradient Surgery for Multi-Task Learning, definition 1.

    Examples
    --------
    >>> from graft.sharing import gradient_affinity
    >>> gradient_affinity([[[1.0, 0.0], [2.0, 0.0], [-1.0, 0.0]]]).tolist()
    [[1.0, 1.0, -1.0], [1.0, 1.0, -1.0], [-1.0, -1.0, 1.0]]
    """
    table = _array(gradients)
    if table.ndim != 3:
        raise RequestError(
            "gradients",
            expected="shape (batches, K, dim)",
            found=f"shape {table.shape}",
            remedy="Stack one row for each task, batch after batch.",
        )
    there = np.ones(table.shape[:2], dtype=bool) if present is None else _array(present).astype(bool)
    if there.shape != table.shape[:2]:
        raise RequestError(
            "present",
            expected=f"shape {table.shape[:2]}",
            found=f"shape {there.shape}",
            remedy="Pass True for each task that has a label in the batch.",
        )
    table = np.where(there[:, :, None], table, 0.0)
    # In two steps, so that squares of very large or small gradients stay in range.
    largest = np.abs(table).max(axis=2, initial=0.0, keepdims=True)
    table = table / np.where(largest > 0, largest, 1.0)
    norm = np.linalg.norm(table, axis=2, keepdims=True)
    there = norm[:, :, 0] > 0
    unit = table / np.where(norm > 0, norm, 1.0)
    met = there.T.astype(float) @ there
    with np.errstate(invalid="ignore"):
        mean = np.einsum("bid,bjd->ij", unit, unit) / met
    return np.clip(mean, -1.0, 1.0)


def lookahead_affinity(losses: Callable[[], Any], parameters: Sequence[Any], *, rate: float) -> np.ndarray:
    r"""Return how far a step for one task alone lowers the losses of the others, on one batch.

    .. math:: A_{ij} = 1 - \frac{\ell_j(\theta - \eta \nabla_\theta \ell_i)}{\ell_j(\theta)}

    One forward and K backward passes for the gradients, and K forward passes after the steps. The paper averages over
    the batches of a training; so does a mean of these matrices. The parameters are as before when it returns.

    Parameters
    ----------
    losses : callable
        Without arguments; returns the task losses of the batch, a tensor (K,) with its graph. Called K + 1 times; it
        must give the same each time (no dropout, no running statistics).
    parameters : sequence of tensor
        θ, what the tasks share.
    rate : float
        η, the training's learning rate.

    Returns
    -------
    ndarray of shape (K, K)
        The diagonal says how far a task helps itself. NaN in the column of a task whose loss is 0.

    References
    ----------
    Fifty et al. (2021), Efficiently Identifying Task Groupings for Multi-Task Learning, equation 1.
    """
    import torch

    step = number("rate", rate, low=0, open_low=True)
    shared = list(parameters)
    before = losses()
    if before.ndim != 1 or not len(before):
        raise RequestError(
            "losses",
            expected="a function that returns a tensor (K,)",
            found=f"shape {tuple(before.shape)}",
            remedy="Stack one loss for each task.",
        )
    gradients = [
        torch.autograd.grad(one, shared, retain_graph=place + 1 < len(before), allow_unused=True)
        for place, one in enumerate(before)
    ]
    kept = [one.detach().clone() for one in shared]
    after = []
    with torch.no_grad():
        try:
            for slopes in gradients:
                for one, value, slope in zip(shared, kept, slopes, strict=True):
                    one.copy_(value if slope is None else value - step * slope)
                after.append(losses().double().cpu().numpy())
        finally:
            for one, value in zip(shared, kept, strict=True):
                one.copy_(value)
    start = before.detach().double().cpu().numpy()
    with np.errstate(invalid="ignore", divide="ignore"):
        return np.where(start != 0, 1 - np.stack(after) / start, np.nan)


def probe_affinity(
    score: Callable[[tuple[int, ...]], Mapping[int, float] | Sequence[float]], n_tasks: int
) -> np.ndarray:
    """Return what each task gains from being trained together with one other, by fitting all pairs.

    ``A[i, j]`` is the score of j when i and j are trained together, less its score alone; 0 on the diagonal.

    Parameters
    ----------
    score : callable
        Fits the tasks of a tuple together, and returns the score of each (larger is better; of one kind for all tasks,
        or relative), in the order of the tuple, or by task. Called once for each task and each pair: K (K + 1) / 2
        times. It should be cheap (a linear model on features), and repeatable.
    n_tasks : int
        K.

    Returns
    -------
    ndarray of shape (K, K)

    References
    ----------
    Standley et al. (2020), Which Tasks Should Be Learned Together in Multi-task Learning?, section 5 (higher-order
    groups are predicted from pairs).

    Examples
    --------
    >>> from graft.sharing import probe_affinity
    >>> alone_or_not = lambda tasks: [0.75 if tasks == (0, 1) else 0.5 for task in tasks]
    >>> probe_affinity(alone_or_not, 3).tolist()
    [[0.0, 0.25, 0.0], [0.25, 0.0, 0.0], [0.0, 0.0, 0.0]]
    """
    count = integer("n_tasks", n_tasks, low=1)

    def scores(tasks: tuple[int, ...]) -> list[float]:
        found = score(tasks)
        return [float(found[task]) for task in tasks] if isinstance(found, Mapping) else [float(one) for one in found]

    alone = [scores((task,))[0] for task in range(count)]
    affinity = np.zeros((count, count))
    for first in range(count):
        for second in range(first + 1, count):
            together = scores((first, second))
            affinity[second, first] = together[0] - alone[first]
            affinity[first, second] = together[1] - alone[second]
    return affinity


def _array(values: Any) -> np.ndarray:
    """Return an array of what may be a tensor, on any device."""
    import sys

    torch = sys.modules.get("torch")
    if torch is not None and isinstance(values, torch.Tensor):
        values = values.detach().cpu()
        return values.numpy() if values.dtype == torch.bool else values.double().numpy()
    return np.asarray(values)
