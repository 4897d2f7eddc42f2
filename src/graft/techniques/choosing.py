"""What held-out examples choose: which of the weights of a training is served, or the probe, and its calibration."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from scipy.special import expit, softmax

from graft.heads.calibration import fit_temperature
from graft.metrics import Evaluation
from graft.techniques.guard import Verdict, judge
from graft.techniques.material import Material
from graft.techniques.network_training import Run
from graft.techniques.objectives import HEAD
from graft.techniques.technique import evaluate
from graft.training import Numbers, Processes, forward_all, greedy_soup, mix, put

PROBE, TUNED = "probe", "fine-tuned"
_AVERAGED_WITH = (0.25, 0.5, 0.75)


@dataclass(frozen=True, eq=False)
class Choice:
    """What was chosen.

    Parameters
    ----------
    served : str
        The candidate: ``"probe"``, ``"fine-tuned"``, or a share of the way there, such as ``"0.5 fine-tuned"``.
    share : float
        That share; 0 for the probe.
    tuned : dict of str to tensor
        The trained weights: the average of the best checkpoints.
    soup : list of int
        The steps of those checkpoints.
    outputs : tensor of shape (m, outputs)
        Of what is served, for the held-out examples.
    verdict : Verdict or None
        The comparison with the probe; None where there is none.
    """

    served: str
    share: float
    tuned: dict[str, torch.Tensor]
    soup: list[int]
    outputs: torch.Tensor
    verdict: Verdict | None


def choose(
    material: Material,
    run: Run,
    held: np.ndarray,
    *,
    probe: bool,
    guard: bool,
    adapters: bool,
    bfloat16: bool,
    goes_far: bool,
    random_state: int | None,
) -> Choice:
    """Return what the held-out examples speak for; of several processes (``torchrun``), what the main one finds.

    Parameters
    ----------
    material : Material
        All examples.
    run : Run
        The training on those that are not held out. Its network is left with the weights that were tried last.
    held : array of bool (n,)
        Which are held out.
    probe : bool
        Compare with the head of the frozen network.
    guard : bool
        Let the probe, or an average with the weights of the start, be served; False: the trained weights in any case.
    adapters : bool
        Whether adapters were trained: no weights that could be averaged over checkpoints.
    bfloat16 : bool
        Compute in bfloat16 where that is safe.
    goes_far : bool
        Whether the weights end far from where they started: averages of both then lie where neither was, and are served
        only where they are better than the trained weights by more than noise.
    random_state : int or None
        For the heads that are fitted.
    """
    learned, watched = material.examples(~held), material.examples(held)
    # The last digits differ from machine to machine, and could let each serve another model.
    processes = Processes(material.backbone.device)

    def score_of(weights: Mapping[str, torch.Tensor]) -> float:
        put(run.network, weights)
        found = run.objective.score(run.network, learned, watched, bfloat16=bfloat16)["score"]
        return float(processes.told(float(found)))

    def outputs_of(weights: Mapping[str, torch.Tensor]) -> torch.Tensor:
        put(run.network, weights)
        features, outputs = forward_all(watched, run.network, bfloat16=bfloat16)
        if run.objective.trains_head:
            return outputs[HEAD]
        known, _ = forward_all(learned, run.network, bfloat16=bfloat16)
        both = np.empty((len(held), features.shape[1]), np.float32)
        both[held], both[~held] = features, known
        head = material.head("auto", both, ~held, random_state)
        return material.head_outputs(head, both[held])

    tuned, soup = greedy_soup(run.done.snapshots[:1] if adapters else run.done.snapshots, score_of)
    titles = {_title(share): share for share in ((1.0, *_AVERAGED_WITH) if guard and probe else (1.0,))}
    outputs = {title: outputs_of(towards(run, tuned, share)) for title, share in titles.items()}
    if not probe:
        processes.share([outputs[TUNED]])
        return Choice(TUNED, 1.0, tuned, soup, outputs[TUNED], None)
    outputs[PROBE] = material.head_outputs(material.probe(~held, random_state), material.found.features[held])
    groups = None if material.found.groups is None else material.found.groups[held]
    always = None if guard else TUNED
    processes.share(outputs.values())
    favourite = TUNED if goes_far else None
    verdict = judge(
        material.goal, outputs, watched.targets, baseline=PROBE, served=always, favourite=favourite, groups=groups
    )
    verdict = Verdict(**processes.told(verdict.to_dict()))
    served = verdict.chosen
    return Choice(served, titles.get(served, 0.0), tuned, soup, outputs[served], verdict)


def towards(run: Run, tuned: Mapping[str, torch.Tensor], share: float) -> dict[str, torch.Tensor]:
    """Return weights a share of the way from where the training started to where it came.

    Of an adapter's two factors only the second moves, which starts at zero: their product is then moved by the share.
    """
    return {
        name: values if ".lora_A." in name else mix({name: run.start[name]}, {name: values}, share)[name]
        for name, values in tuned.items()
    }


def calibrated(material: Material, outputs: torch.Tensor, held: np.ndarray) -> tuple[Evaluation, Any]:
    """Return the evaluation of outputs for the held-out examples, calibrated on them, and the temperatures."""
    task, labels = material.found.task, material.found.labels[held]
    groups = None if material.found.groups is None else material.found.groups[held]
    logits = outputs.double().numpy()
    if isinstance(material.goal, Numbers):
        values = logits * material.goal.scale + material.goal.location
        return evaluate(task, labels, values[:, 0] if labels.ndim == 1 else values, None, groups=groups), 1.0
    targets = material.goal.targets(material.found.targets[held]).numpy()
    if task.kind == "multilabel":
        temperature = np.ones(logits.shape[1])
        for place in range(logits.shape[1]):
            known = np.isfinite(targets[:, place])
            if known.any():
                both = np.stack([-logits[known, place] / 2, logits[known, place] / 2], axis=1)
                temperature[place] = fit_temperature(both, targets[known, place].astype(int), np.ones(known.sum()))
        return evaluate(task, labels, logits > 0, expit(logits / temperature), groups=groups), temperature
    single = fit_temperature(logits, targets.argmax(axis=1), np.ones(len(logits)))
    classes = np.asarray(task.classes)
    found = classes[logits.argmax(axis=1)]
    return evaluate(task, labels, found, softmax(logits / single, axis=1), groups=groups), single


def _title(share: float) -> str:
    return TUNED if share == 1 else f"{share:g} {TUNED}"
