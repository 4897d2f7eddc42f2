"""Sentence encoders: held to sentence-transformers."""

import json
import shutil

import numpy as np
import pytest
import torch

from graft.backbones import load_backbone
from graft.backbones.catalogue import OFFLINE
from graft.errors import BackboneError

TEXTS = [
    "The cat sat on the mat.",
    "",
    "a",
    "An unusually long text. " * 80,
    "Zürich, naïve café — 日本語",
    "  white   space \n and tabs\t",
]


@pytest.fixture(scope="module")
def folder():
    return OFFLINE["minilm"].verified_path().parent


def peer(path):
    from graft.backbones.torchvision_repair import import_torchvision

    import_torchvision()
    from sentence_transformers import SentenceTransformer

    return SentenceTransformer(str(path), device="cpu", local_files_only=True)


def test_features_are_those_of_sentence_transformers(folder):
    ours = load_backbone("minilm").embed(TEXTS, precision="float32", store=False)
    assert np.abs(ours - peer(folder).encode(TEXTS)).max() < 1e-5


POOLINGS = {
    "cls": {"pooling_mode_cls_token": True, "pooling_mode_mean_tokens": False},
    "max": {"pooling_mode_max_tokens": True, "pooling_mode_mean_tokens": False},
    "mean_sqrt_len": {"pooling_mode_mean_sqrt_len_tokens": True, "pooling_mode_mean_tokens": False},
    "cls and mean": {"pooling_mode_cls_token": True, "pooling_mode_mean_tokens": True},
}


@pytest.mark.parametrize("kind", POOLINGS)
@pytest.mark.parametrize("tail", ["", "normalize", "dense"])
def test_what_the_folder_states_is_what_is_done(folder, tmp_path, kind, tail):
    path = tmp_path / "encoder"
    shutil.copytree(folder, path)
    width = 768 if kind == "cls and mean" else 384
    config = {"word_embedding_dimension": 384, **POOLINGS[kind]}
    (path / "1_Pooling" / "config.json").write_text(json.dumps(config))
    settings = {"max_seq_length": 12, "do_lower_case": True}
    (path / "sentence_bert_config.json").write_text(json.dumps(settings))
    modules = json.loads((path / "modules.json").read_text())[:2]
    kinds = {"normalize": ["Normalize"], "dense": ["Dense", "Normalize"], "": []}[tail]
    for place, one in enumerate(kinds, start=2):
        modules.append(
            {"idx": place, "name": str(place), "path": f"{place}_{one}", "type": f"sentence_transformers.models.{one}"}
        )
        (path / f"{place}_{one}").mkdir()
    (path / "modules.json").write_text(json.dumps(modules))
    if tail == "dense":
        from safetensors.torch import save_file

        torch.manual_seed(0)
        facts = {"in_features": width, "out_features": 16, "bias": True}
        facts["activation_function"] = "torch.nn.modules.activation.Tanh"
        (path / "2_Dense" / "config.json").write_text(json.dumps(facts))
        tensors = {"linear.weight": torch.randn(16, width) / 8, "linear.bias": torch.randn(16)}
        save_file(tensors, path / "2_Dense" / "model.safetensors")
    backbone = load_backbone(path)
    ours = backbone.embed(TEXTS, precision="float32", store=False)
    assert ours.shape[1] == (16 if tail == "dense" else width)
    assert np.abs(ours - peer(path).encode(TEXTS)).max() < 1e-5
    assert backbone.preprocessing.max_tokens == 12


def test_a_plain_transformer_is_averaged(folder, tmp_path):
    for name in ("config.json", "model.safetensors", "tokenizer.json", "tokenizer_config.json"):
        shutil.copy(folder / name, tmp_path / name)
    backbone = load_backbone(tmp_path)
    ours = backbone.embed(TEXTS[:3], precision="float32", store=False)
    unit = ours / np.linalg.norm(ours, axis=1, keepdims=True)
    assert np.abs(unit - load_backbone("minilm").embed(TEXTS[:3], precision="float32", store=False)).max() < 1e-5


def test_a_prompt_stands_before_every_text(folder, tmp_path):
    path = tmp_path / "encoder"
    shutil.copytree(folder, path)
    facts = {"prompts": {"query": "query: "}, "default_prompt_name": "query"}
    (path / "config_sentence_transformers.json").write_text(json.dumps(facts))
    prompted = load_backbone(path)
    plain = load_backbone("minilm")
    ours = prompted.embed(["weather"], precision="float32", store=False)
    assert np.allclose(ours, plain.embed(["query: weather"], precision="float32", store=False), atol=1e-6)
    assert np.abs(ours - peer(path).encode(["weather"])).max() < 1e-5
    assert prompted.preprocessing != plain.preprocessing


@pytest.mark.parametrize("damage", ["unknown module", "no pooling file", "no weights", "broken json", "no tokenizer"])
def test_a_folder_that_cannot_be_used_is_said(folder, tmp_path, damage):
    path = tmp_path / "encoder"
    shutil.copytree(folder, path)
    if damage == "unknown module":
        modules = json.loads((path / "modules.json").read_text())
        modules[2]["type"] = "sentence_transformers.models.LSTM"
        (path / "modules.json").write_text(json.dumps(modules))
    elif damage == "no pooling file":
        (path / "1_Pooling" / "config.json").unlink()
    elif damage == "no weights":
        (path / "model.safetensors").unlink()
    elif damage == "broken json":
        (path / "modules.json").write_text("[{")
    else:
        for name in ("tokenizer.json", "vocab.txt", "tokenizer_config.json", "special_tokens_map.json"):
            (path / name).unlink()
    with pytest.raises(BackboneError):
        load_backbone(path)


def test_layers_are_the_hidden_states(folder):
    from transformers import AutoModel

    backbone = load_backbone("minilm")
    batch = backbone.collate(backbone.read(TEXTS[:3]))
    encoder = AutoModel.from_pretrained(folder).eval()
    with torch.inference_mode():
        states = encoder(**batch, output_hidden_states=True).hidden_states
    for index in (0, 3, 6):
        ours = backbone.with_output(layer=index, pooling="cls").forward_features(batch)
        assert torch.allclose(ours, states[index][:, 0], atol=1e-5)


def test_what_is_no_text_is_left_out():
    backbone = load_backbone("minilm")
    reasons = [getattr(item, "reason", None) for item in backbone.read(["a", None, 3.5, b"x"])]
    assert reasons == [None, "not a text but NoneType", "not a text but float", "not a text but bytes"]
