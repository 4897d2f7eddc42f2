"""Which parameters of a network are trained, and in which step."""

from __future__ import annotations

from collections.abc import Callable, Sequence

from torch import nn

from graft._checks import integer, one_of
from graft.alignment import normalization_parameters
from graft.backbones import LayerGroup
from graft.training.network import normalisation_and_bias

PARTS = ("all", "gradual", "biases", "normalizations")
# With gradual unfreezing, the fraction of all steps by which every group is trained.
_UNFROZEN_BY = 0.5

Trained = Callable[[int], frozenset[str]]


def trained_parts(part: str | int, network: nn.Module, groups: Sequence[LayerGroup], steps: int) -> Trained:
    """Return what is trained in each step, as names of parameters of a `Network`. Its heads always are.

    Parameters
    ----------
    part : str or int
        ``"all"``: every layer. A number k: the last k layer groups (0: none, the heads alone). ``"gradual"``: the last
        group first, one more after every equal share of the first half of the training, all of them in the second.
        ``"biases"``: biases, and scales and shifts of normalisations. ``"normalizations"``: these alone.
    network : Network
        Trunk and heads.
    groups : sequence of LayerGroup
        Those of the trunk, from input to output.
    steps : int
        All steps of the training.

    Raises
    ------
    RequestError
        If there is no such part, or ``"normalizations"`` are asked for where there are none.

    References
    ----------
    Howard and Ruder (2018), Universal Language Model Fine-tuning, section 3.3 (gradual unfreezing).
    Ben Zaken, Goldberg and Ravfogel (2022), BitFit (biases alone).
    Frankle, Schwab and Morcos (2021), Training BatchNorm and Only BatchNorm.
    """
    heads = frozenset(name for name, _ in network.named_parameters() if name.startswith("heads."))
    names = [frozenset(f"trunk.{name}" for name in group.parameter_names) for group in groups]
    last = [frozenset().union(heads, *names[place:]) for place in range(len(names) + 1)]
    if isinstance(part, int) and not isinstance(part, bool):
        chosen = last[len(names) - integer("train", part, low=0, high=len(names))]
        return lambda _step: chosen
    one_of("train", part, PARTS)
    if part == "all":
        return lambda _step: last[0]
    if part == "biases":
        small = heads | normalisation_and_bias(network)
        return lambda _step: small
    if part == "normalizations":
        scales = heads | frozenset(normalization_parameters(network))
        return lambda _step: scales
    half = max(1.0, _UNFROZEN_BY * steps)
    return lambda step: last[max(0, len(names) - 1 - int(step * len(names) / half))]


def depth_of(groups: Sequence[LayerGroup]) -> dict[str, int]:
    """Return the depth of each parameter of the trunk, 0 next to the input, by its name in a `Network`."""
    return {f"trunk.{name}": depth for depth, group in enumerate(groups) for name in group.parameter_names}
