"""The model card of a saved run, in the Hugging Face style: a front matter for machines, a page for people."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from graft.metrics import METRIC_TITLES

_TAGS = {
    ("image", "classification"): "image-classification",
    ("image", "multilabel"): "image-classification",
    ("text", "classification"): "text-classification",
    ("text", "multilabel"): "text-classification",
    ("features", "classification"): "tabular-classification",
    ("features", "multilabel"): "tabular-classification",
    ("features", "regression"): "tabular-regression",
}


def model_card(config: Mapping[str, Any]) -> str:
    """Return the card of a run as Markdown.

    Parameters
    ----------
    config : mapping
        The run's configuration, as `graft.techniques.saving.save` makes it.
    """
    backbone, task, validation = config["backbone"], config["task"], config["validation"]
    front = ["---", "library_name: graft", "tags:", "- transfer-learning", f"- {config['technique']}"]
    if (tag := _TAGS.get((backbone["modality"], task["kind"]))) is not None:
        front.append(f"pipeline_tag: {tag}")
    if backbone["modality"] != "features":
        front.append(f"base_model: {backbone['name']}")
    front.append("---")
    network = "feature vectors, no network" if backbone["modality"] == "features" else f"`{backbone['name']}`"
    facts = [
        f"- technique: {config['technique']}",
        f"- backbone: {network}" + (f", weights `{backbone['weights_hash'][:16]}`" if backbone["weights_hash"] else ""),
        f"- head: {config['head'].get('$estimator', 'unknown')}",
        f"- task: {task['kind']}" + (f", {len(task['classes'])} classes" if task["classes"] else ""),
        f"- seconds: {config['seconds']['total']:.1f}",
    ]
    if task["classes"]:
        shown = ", ".join(f"`{label}`" for label in task["classes"][:20])
        facts.append(f"- classes: {shown}" + (" and more" if len(task["classes"]) > 20 else ""))
    if config["left_out"] or config["unlabelled"]:
        facts.append(f"- left out: {len(config['left_out'])} unreadable, {config['unlabelled']} without a label")
    adaptation = config.get("adaptation")
    body = [f"# {config['technique']} on {network}", "", *facts, ""]
    if adaptation is not None:
        body += [*_adaptation_lines(adaptation), ""]
    if validation is None:
        body += ["No validation: no examples were held out.", ""]
    else:
        how = "Cross-validated" if config.get("training") is None else "Measured"
        which = "training examples" if config.get("training") is None else "held-out examples, which also chose it"
        if config.get("training") is not None and config.get("adaptation") is not None:
            which = "held-out examples of the source"
        which = "source examples (the target's labels are not known)" if adaptation is not None else which
        body += [f"{how} on {validation['examples']} {which}, with 95 % intervals:", ""]
        body += ["| metric | value | interval |", "|---|---|---|"]
        for name, estimate in validation["metrics"].items():
            low, high = estimate["low"], estimate["high"]
            interval = "" if low is None else f"{low:.4f} to {high:.4f}"
            value = "" if estimate["value"] is None else f"{estimate['value']:.4f}"
            body.append(f"| {METRIC_TITLES.get(name, name)} | {value} | {interval} |")
        body.append("")
    if config.get("training") is not None:
        training = config["training"]
        body += [
            f"Trained {training['steps']} steps, {training['trained_parameters']:,} parameters; served: "
            f"{training['served']}.",
            "",
            "![training curve](training.svg)",
            "",
        ]
    body += [
        "```python",
        "import graft",
        "",
        'model = graft.load("path/to/this/folder")',
        "model.predict(inputs)",
        "```",
    ]
    made = ", ".join(f"{name} {number}" for name, number in config["versions"].items())
    return "\n".join([*front, "", *body, "", f"Made with {made}.", ""])


def _adaptation_lines(adaptation: Mapping[str, Any]) -> list[str]:
    """Return what is to be said of the adaptation to the target domain."""
    shift, goal = adaptation["shift"], adaptation["target"]
    lines = [
        f"Adapted by `{adaptation['method']}` to a target of {goal['examples']} examples, {goal['labelled']} of them "
        f"labelled. Domains: {shift['hint']} (a classifier tells them apart with an AUC of {shift['auc']['auc']:.2f}).",
    ]
    if "tournament" in adaptation:
        lines += ["", adaptation["tournament"]["reason"]]
        lines += [f"\n**Warning:** {warning}" for warning in adaptation["tournament"]["warnings"]]
    return lines
