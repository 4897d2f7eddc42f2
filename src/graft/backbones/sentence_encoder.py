"""Read a sentence encoder's folder: the transformer, and the pooling and tail that its ``modules.json`` states."""

from __future__ import annotations

import json
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from torch import nn

from graft.backbones.catalogue import card_license
from graft.backbones.preprocessing import TextPreprocessing
from graft.backbones.text_backbone import TextBackbone, UnitLength
from graft.backbones.torchvision_repair import import_torchvision
from graft.backbones.weights import file_sha256, read_weights
from graft.errors import BackboneError

# The switches of older 1_Pooling/config.json files, in the order in which sentence-transformers concatenates them.
_POOLING_SWITCHES = {
    "pooling_mode_cls_token": "cls",
    "pooling_mode_max_tokens": "max",
    "pooling_mode_mean_tokens": "mean",
    "pooling_mode_mean_sqrt_len_tokens": "mean_sqrt_len",
    "pooling_mode_weightedmean_tokens": "weightedmean",
    "pooling_mode_lasttoken": "lasttoken",
}
_ACTIVATIONS = {"Tanh": nn.Tanh, "Identity": nn.Identity, "ReLU": nn.ReLU, "GELU": nn.GELU, "Sigmoid": nn.Sigmoid}
# One of these holds the vocabulary; the first that is there is taken.
_TOKENIZER_FILES = (
    "tokenizer.json",
    "sentencepiece.bpe.model",
    "spiece.model",
    "tokenizer.model",
    "vocab.txt",
    "vocab.json",
)


@dataclass(frozen=True)
class _Plan:
    """What ``modules.json`` states."""

    transformer: Path
    pooling: tuple[str, ...]
    tail: nn.Module


def read_sentence_encoder(
    folder: Path, *, name: str, license: str = "", revision: str = "", pretrained: bool = True
) -> TextBackbone:
    """Return the backbone in a folder that sentence-transformers or transformers wrote.

    A folder without ``modules.json`` holds a plain transformer: its tokens are averaged, as sentence-transformers
    does with it.

    Raises
    ------
    BackboneError
        If the folder holds no encoder, or one with parts that are unknown.
    """
    import_torchvision()
    import transformers

    plan = _plan(folder)
    settings = _read_json(plan.transformer / "sentence_bert_config.json")
    try:
        tokenizer = transformers.AutoTokenizer.from_pretrained(plan.transformer, local_files_only=True)
        config = transformers.AutoConfig.from_pretrained(plan.transformer, local_files_only=True)
        if pretrained:
            with _quiet():
                encoder: Any = transformers.AutoModel.from_pretrained(
                    plan.transformer, local_files_only=True, dtype="float32", weights_only=True
                )
        else:
            encoder = transformers.AutoModel.from_config(config)
    except (OSError, ValueError, RuntimeError, KeyError, ImportError) as error:
        first = str(error).strip().splitlines()[0][:200] if str(error).strip() else type(error).__name__
        raise BackboneError(
            f"backbone {name!r}",
            expected=f"a transformer with its tokenizer in {plan.transformer}",
            found=f"what transformers cannot load ({first})",
            remedy="Check that the folder is complete: config.json, the tokenizer's files, model.safetensors.",
        ) from error
    limit = settings.get("max_seq_length")
    if limit is None:
        limit = min(getattr(config, "max_position_embeddings", 512), tokenizer.model_max_length)
    prompts = _read_json(folder / "config_sentence_transformers.json")
    default = prompts.get("default_prompt_name")
    vocabulary = _tokenizer_hash(plan.transformer)
    if not vocabulary:
        # transformers would make an empty tokenizer, to which every word is unknown.
        raise _unknown(plan.transformer, f"no vocabulary ({', '.join(_TOKENIZER_FILES)})")
    preprocessing = TextPreprocessing(
        max_tokens=int(limit),
        lower_case=bool(settings.get("do_lower_case", False)),
        prompt=prompts.get("prompts", {}).get(default, "") if default else "",
        tokenizer=vocabulary,
    )
    return TextBackbone(
        name,
        encoder,
        tokenizer,
        preprocessing,
        own_pooling=plan.pooling,
        tail=plan.tail,
        license=license or card_license(folder / "README.md"),
        revision=revision,
    )


@contextmanager
def _quiet() -> Iterator[None]:
    """Keep transformers' own progress bar off standard error; the caller's setting is restored."""
    from transformers.utils import logging

    shown = logging.is_progress_bar_enabled()
    logging.disable_progress_bar()
    try:
        yield
    finally:
        if shown:
            logging.enable_progress_bar()


def _plan(folder: Path) -> _Plan:
    if not (folder / "modules.json").is_file():
        return _Plan(folder, ("mean",), nn.Identity())
    transformer: Path | None = None
    pooling: tuple[str, ...] = ()
    tail: list[nn.Module] = []
    for entry in _read_json(folder / "modules.json", default=[]):
        kind = str(entry["type"]).rsplit(".", 1)[-1]
        path = folder / entry["path"]
        if kind == "Transformer":
            transformer = path
        elif kind == "Pooling":
            if not (path / "config.json").is_file():
                raise _unknown(folder, f"no {entry['path']}/config.json, which states the pooling")
            pooling = _pooling(_read_json(path / "config.json"))
        elif kind == "Normalize":
            tail.append(UnitLength())
        elif kind == "Dense":
            tail.append(_dense(path))
        elif kind == "Dropout":
            continue  # does nothing in evaluation
        else:
            raise _unknown(folder, kind)
    if transformer is None or not pooling:
        raise _unknown(folder, "no Transformer followed by Pooling")
    return _Plan(transformer, pooling, tail[0] if len(tail) == 1 else nn.Sequential(*tail))


def _pooling(config: dict[str, Any]) -> tuple[str, ...]:
    stated = config.get("pooling_mode")
    if isinstance(stated, str):
        return (stated,)
    if isinstance(stated, list) and stated:
        return tuple(stated)
    return tuple(name for switch, name in _POOLING_SWITCHES.items() if config.get(switch)) or ("mean",)


def _dense(path: Path) -> nn.Module:
    config = _read_json(path / "config.json")
    activation = str(config.get("activation_function", "torch.nn.modules.activation.Tanh")).rsplit(".", 1)[-1]
    if activation not in _ACTIVATIONS:
        raise _unknown(path, f"the activation {activation}")
    linear = nn.Linear(config["in_features"], config["out_features"], bias=config.get("bias", True))
    file = next((path / one for one in ("model.safetensors", "pytorch_model.bin") if (path / one).is_file()), None)
    if file is None:
        raise _unknown(path, "no weights of the Dense module")
    linear.load_state_dict({name.removeprefix("linear."): value for name, value in read_weights(file).items()})
    return nn.Sequential(linear, _ACTIVATIONS[activation]())


def _unknown(folder: Path, found: str) -> BackboneError:
    return BackboneError(
        str(folder),
        expected="a sentence encoder of Transformer, Pooling, Dense and Normalize modules",
        found=found,
        remedy="Wrap the network in module_backbone(...), or embed with its own library and pass the features.",
    )


def _tokenizer_hash(folder: Path) -> str:
    present = [folder / name for name in _TOKENIZER_FILES if (folder / name).is_file()]
    return file_sha256(present[0]) if present else ""


def _read_json(path: Path, default: Any = None) -> Any:
    if not path.is_file():
        return {} if default is None else default
    try:
        return json.loads(path.read_text(encoding="utf-8"))
    except ValueError as error:
        raise BackboneError(
            str(path), expected="a JSON file", found=f"what cannot be parsed ({error})", remedy="Download it again."
        ) from error
