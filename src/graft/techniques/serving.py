"""From a training to what predicts: a backbone, and a head for its features."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
import torch

from graft.backbones import Backbone
from graft.backbones.adapters import adapter_names, adapter_state
from graft.techniques.material import Material
from graft.techniques.network_training import Run
from graft.techniques.objectives import HEAD
from graft.training import put


def serve(
    material: Material,
    run: Run,
    weights: Mapping[str, torch.Tensor] | None,
    *,
    known: np.ndarray,
    temperature: Any,
    keep_adapters: bool,
    random_state: int | None,
) -> tuple[Backbone, Any]:
    """Return the backbone and the fitted head of trained weights, or those of the probe.

    Parameters
    ----------
    material : Material
        All examples.
    run : Run
        The training. Its network is left with the weights.
    weights : mapping of str to tensor, or None
        Those that predict; None: the frozen network with the probe, which needs no held-out examples.
    known : array of bool (n,)
        The examples that a head which is fitted here may learn from.
    temperature : float or array (outputs,)
        By which the logits of a trained head are divided.
    keep_adapters : bool
        Let the backbone have adapters beside it, where some were trained, so that they can be saved alone.
    random_state : int or None
        For the heads that are fitted.
    """
    if weights is None:
        return material.backbone, material.probe(known, random_state)
    put(run.network, weights)
    backbone, features = tuned(material, run, keep_adapters=keep_adapters)
    if not run.objective.trains_head:
        return backbone, material.head("auto", features, known, random_state)
    head = material.trained_head(run.network.heads[HEAD], temperature)
    return backbone, head.fit(features, material.found.targets)


def tuned(material: Material, run: Run, *, keep_adapters: bool = False) -> tuple[Backbone, np.ndarray]:
    """Return the backbone of a training as its network stands, and its features (n, d) of all examples."""
    backbone = material.backbone.with_module(run.plain_trunk())
    if keep_adapters and adapter_names(run.trunk):
        backbone.adapters = adapter_state(run.trunk)
    return backbone, backbone.embed(material.inputs, store=False)
