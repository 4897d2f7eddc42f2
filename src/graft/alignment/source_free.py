"""SHOT: a network is adapted to a target domain without the source examples, its head kept as it is."""

from __future__ import annotations

import torch
from torch.nn import functional

from graft._checks import integer, number
from graft.alignment.tensors import at_least_float32, checked, product, softmax_entropy
from graft.errors import RequestError


def information_maximization(logits: torch.Tensor) -> torch.Tensor:
    r"""Return the mean entropy of predictions less the entropy of their mean: sure of each, diverse over all.

    .. math:: \ell = \frac{1}{n} \sum_i H(p_i) - H\Bigl(\frac{1}{n} \sum_i p_i\Bigr)

    the negative of the mutual information of examples and predicted classes.

    Parameters
    ----------
    logits : tensor of shape (n, K)
        Of target examples; p is their softmax. The batch should be large enough to hold most classes.

    Returns
    -------
    tensor of shape ()
        In [-log K, 0], in nats.

    Raises
    ------
    RequestError
        If there are no examples.

    References
    ----------
    Liang, Hu and Feng (2020), Do We Really Need to Access the Source Data? (SHOT), section 3.

    Examples
    --------
    >>> import torch
    >>> from graft.alignment import information_maximization
    >>> information_maximization(torch.tensor([[99.0, 0.0], [0.0, 99.0]]))
    tensor(-0.6931)
    """
    logits = checked("logits", logits)
    log_mean = functional.log_softmax(logits, dim=1).logsumexp(dim=0)
    mean = log_mean - log_mean.logsumexp(dim=0)
    return softmax_entropy(logits).mean() + (mean.exp() * mean).sum()


def centroid_labels(features: torch.Tensor, logits: torch.Tensor, *, rounds: int = 2) -> torch.Tensor:
    r"""Return pseudo-labels: the class whose centroid has the direction of an example's features.

    .. math:: c_k = \frac{\sum_i p_{ik} x_i}{\sum_i p_{ik}}, \qquad \hat y_i = \arg\max_k \cos(x_i, c_k)

    then again with :math:`1[\hat y_i = k]` in the place of :math:`p_{ik}`. As in the authors' code a one is appended to
    the features, which are scaled to length one. A class without an example keeps the centroid that it had.

    Parameters
    ----------
    features : tensor of shape (n, d)
        Of all target examples, not of a batch alone.
    logits : tensor of shape (n, K)
        Of the same examples; p is their softmax.
    rounds : int
        How often labels are found; the paper's is 2.

    Returns
    -------
    tensor of int (n,)
        Without a gradient.

    Raises
    ------
    RequestError
        If shapes do not agree.

    References
    ----------
    Liang, Hu and Feng (2020), Do We Really Need to Access the Source Data? (SHOT), section 3.

    Examples
    --------
    >>> import torch
    >>> from graft.alignment import centroid_labels
    >>> features = torch.tensor([[5.0, 0.0], [4.0, 0.1], [0.0, 5.0], [0.2, 4.0]])
    >>> centroid_labels(features, torch.tensor([[2.0, 0.0], [0.0, 0.1], [0.0, 2.0], [0.0, 1.0]]))
    tensor([0, 0, 1, 1])
    """
    integer("rounds", rounds, low=1)
    features, logits = checked("features", features.detach()), checked("logits", logits.detach())
    if len(features) != len(logits):
        raise RequestError(
            "logits",
            expected=f"{len(features)} rows, one for each row of the features",
            found=str(len(logits)),
            remedy="Pass the head's outputs for those features.",
        )
    # Scaled before the one is appended, or very large features would make it vanish in rounding, very small ones all.
    unit = functional.normalize(torch.cat([features, torch.ones_like(features[:, :1])], dim=1), dim=1)
    share = logits.softmax(dim=1).to(unit)
    labels, centroids = torch.zeros(len(unit), dtype=torch.long, device=unit.device), None
    for _ in range(rounds):
        mass = share.sum(dim=0)
        means = product(share.T, unit) / mass.clamp(min=torch.finfo(mass.dtype).tiny)[:, None]
        # Less than rounding leaves of a class is no centroid.
        there = (mass > torch.finfo(mass.dtype).eps)[:, None]
        centroids = means if centroids is None else torch.where(there, means, centroids)
        labels = product(unit, functional.normalize(centroids, dim=1).T).argmax(dim=1)
        share = functional.one_hot(labels, logits.shape[1]).to(unit)
    return labels


def shot_loss(
    logits: torch.Tensor, pseudo_labels: torch.Tensor | None = None, *, pseudo_weight: float = 0.3
) -> torch.Tensor:
    r"""Return the loss of SHOT: information maximisation, and cross-entropy with pseudo-labels.

    .. math:: \ell = \ell_{IM} - \frac{\beta}{n} \sum_i \log p_{i \hat y_i}

    It is minimised for the features alone: the head that the source was learnt with stays as it is.

    Parameters
    ----------
    logits : tensor of shape (n, K)
        Of a batch of target examples.
    pseudo_labels : tensor of int (n,), optional
        From `centroid_labels` over the whole target, found anew every epoch; an example's known class where it has one.
        None: without that term.
    pseudo_weight : float
        β ≥ 0; 0.3 in the paper, 0.1 for digits.

    Returns
    -------
    tensor of shape ()
        In float32, or float64 where the logits are.

    Raises
    ------
    RequestError
        If shapes do not agree or the weight is negative.

    References
    ----------
    Liang, Hu and Feng (2020), Do We Really Need to Access the Source Data? (SHOT), section 3.
    """
    weight = number("pseudo_weight", pseudo_weight, low=0)
    found = information_maximization(logits)
    if pseudo_labels is None:
        return found
    if pseudo_labels.shape != (len(logits),):
        raise RequestError(
            "pseudo_labels",
            expected=f"shape ({len(logits)},)",
            found=f"{tuple(pseudo_labels.shape)}",
            remedy="Pass the rows of the labels that the batch is of.",
        )
    return found + weight * functional.cross_entropy(at_least_float32(logits), pseudo_labels.long())
