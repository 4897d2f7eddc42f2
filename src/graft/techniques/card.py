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
    front = _front(config, _TAGS.get((backbone["modality"], task["kind"])))
    network = _network(backbone)
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
        if adaptation is not None:
            which = "examples of the source" if config.get("training") is None else "held-out examples of the source"
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
            f"{training['served']}."
            + (" Views were not mirrored." if (training.get("mirroring") or {}).get("mirrored") is False else ""),
            "",
            "![training curve](training.svg)",
            "",
        ]
    return "\n".join([*front, "", *body, *_use(config)])


def multi_task_card(config: Mapping[str, Any]) -> str:
    """Return the card of a run of several tasks as Markdown; `config` is that of its run."""
    network = _network(config["backbone"])
    body = [f"# {config['technique']} on {network}", "", f"- backbone: {network}"]
    body += [f"- groups: {'; '.join(' + '.join(group) for group in config['groups'])}"]
    body += [f"- seconds: {config['seconds']['total']:.1f}", ""]
    body += ["| task | kind | classes | metric | value | interval |", "|---|---|---|---|---|---|"]
    for task in config["tasks"]:
        found = config["validation"].get(task["name"])
        name = "rmse" if task["kind"] == "regression" else "accuracy"
        figures = ["", "", ""]
        if found is not None:
            one = found["metrics"][name]
            interval = "" if one["low"] is None else f"{one['low']:.4f} to {one['high']:.4f}"
            figures = [METRIC_TITLES.get(name, name), f"{one['value']:.4f}", interval]
        body.append(f"| {' | '.join([task['name'], task['kind'], str(len(task['classes']) or ''), *figures])} |")
    body += ["", "Measured on held-out parts of the training examples.", ""]
    if config["verdict"] is not None:
        body += ["| task | alone | together | verdict | served |", "|---|---|---|---|---|"]
        for one in config["verdict"]["tasks"]:
            pair = [f"{one[name]:.4f}" if one[name] is not None else "" for name in ("alone", "together")]
            body.append(f"| {' | '.join([one['task'], *pair, one['verdict'], one['served']])} |")
        body.append("")
    return "\n".join([*_front(config, None), "", *body, *_use(config)])


def _front(config: Mapping[str, Any], tag: str | None) -> list[str]:
    """Return the front matter for machines."""
    front = ["---", "library_name: graft", "tags:", "- transfer-learning", f"- {config['technique']}"]
    if tag is not None:
        front.append(f"pipeline_tag: {tag}")
    if config["backbone"]["modality"] != "features":
        front.append(f"base_model: {config['backbone']['name']}")
    return [*front, "---"]


def _network(backbone: Mapping[str, Any]) -> str:
    return "feature vectors, no network" if backbone["modality"] == "features" else f"`{backbone['name']}`"


def _use(config: Mapping[str, Any]) -> list[str]:
    """Return how the run is used, and what made it."""
    made = ", ".join(f"{name} {number}" for name, number in config["versions"].items())
    return [
        "```python",
        "import graft",
        "",
        'model = graft.load("path/to/this/folder")',
        "model.predict(inputs)",
        "```",
        "",
        f"Made with {made}.",
        "",
    ]


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
