"""From a map or a sequence of vectors to one vector per example."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import torch

IMAGE_POOLINGS = ("avg", "max", "gem", "cls", "cls+avg")
TEXT_POOLINGS = ("mean", "cls", "max", "mean_sqrt_len", "weightedmean", "lasttoken")

# The exponent of generalized-mean pooling that its authors start from (Radenović et al. 2019, section 3.2).
GEM_POWER = 3.0
_GEM_FLOOR = 1e-6


def pool_patches(patches: torch.Tensor, prefix: torch.Tensor | None, pooling: str) -> torch.Tensor:
    """Pool the positions of an image.

    Parameters
    ----------
    patches : tensor of shape (n, positions, channels)
        The vectors at the places of the image.
    prefix : tensor of shape (n, tokens, channels) or None
        The class token first, then registers, where the network has them.
    pooling : str
        ``"avg"``: the mean over positions. ``"max"``: the largest value of each channel. ``"gem"``: the generalized
        mean (mean over positions of max(x, 1e-6)^3)^(1/3) (Radenović, Tolias and Chum 2019, equation 3).
        ``"cls"``: the class token. ``"cls+avg"``: class token and mean, side by side (2 * channels values).

    Returns
    -------
    tensor of shape (n, channels) or (n, 2 * channels)
    """
    import torch

    if pooling == "avg":
        return patches.mean(dim=1)
    if pooling == "max":
        return patches.amax(dim=1)
    if pooling == "gem":
        # Powers of small numbers leave the range of bfloat16's precision: the sum is taken in float32.
        powered = patches.float().clamp(min=_GEM_FLOOR).pow(GEM_POWER)
        return powered.mean(dim=1).pow(1.0 / GEM_POWER).to(patches.dtype)
    assert prefix is not None  # "cls" was refused earlier for networks without a class token
    token = prefix[:, 0]
    return token if pooling == "cls" else torch.cat([token, patches.mean(dim=1)], dim=1)


def pool_tokens(tokens: torch.Tensor, mask: torch.Tensor, pooling: str) -> torch.Tensor:
    """Pool the tokens of a text, the padding left out.

    Parameters
    ----------
    tokens : tensor of shape (n, length, channels)
        The vectors of the tokens.
    mask : tensor of shape (n, length)
        1 at a token, 0 at padding.
    pooling : str
        ``"mean"``; ``"mean_sqrt_len"``: the sum divided by the square root of the number of tokens;
        ``"weightedmean"``: the mean weighted by position 1, 2, …; ``"max"``; ``"cls"``: the first token;
        ``"lasttoken"``: the last one that is not padding.

    Returns
    -------
    tensor of shape (n, channels)
    """
    import torch

    if pooling == "cls":
        # The first real token, also where a tokenizer pads on the left.
        first = mask.to(torch.int64).argmax(dim=1)
        return tokens[torch.arange(tokens.shape[0], device=tokens.device), first]
    if pooling == "lasttoken":
        positions = torch.arange(mask.shape[1], device=mask.device)
        last = (mask.to(torch.int64) * positions).argmax(dim=1)
        return tokens[torch.arange(tokens.shape[0], device=tokens.device), last]
    real = mask.unsqueeze(-1)
    if pooling == "max":
        return tokens.masked_fill(real == 0, -torch.inf).amax(dim=1)
    # Sums over many tokens are taken in float32 whatever the network computes in.
    weight = real.float()
    if pooling == "weightedmean":
        weight = weight * torch.arange(1, mask.shape[1] + 1, device=mask.device, dtype=torch.float32)[None, :, None]
    total = (tokens.float() * weight).sum(dim=1)
    count = weight.sum(dim=1).clamp(min=1e-9)
    return (total / (count.sqrt() if pooling == "mean_sqrt_len" else count)).to(tokens.dtype)
