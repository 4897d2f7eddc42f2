"""From names and paths to networks, and what is said where there is none."""

import dataclasses
import json
import pickle
import socket
import time

import numpy as np
import pytest
import torch
from safetensors.torch import save_file
from sklearn.datasets import load_sample_images

from graft.backbones import available, catalogue, load_backbone
from graft.backbones.catalogue import OFFLINE
from graft.backbones.efficientnet_lite import to_timm
from graft.backbones.torchvision_repair import import_torchvision
from graft.backbones.weights import read_weights, state_hash
from graft.errors import BackboneError, MissingDependencyError, RequestError

PALACE, DAISY = 698, 985


def timm_network(name, **options):
    import_torchvision()
    import timm

    torch.manual_seed(0)
    return timm.create_model(name, pretrained=False, **options).eval()


@pytest.fixture(scope="module")
def small():
    return timm_network("resnet10t", num_classes=3)


def test_efficientnet_lite0_tells_a_palace_from_a_daisy():
    """The conversion is right: the network's own ImageNet classes of scikit-learn's two photos."""
    backbone = load_backbone("efficientnet_lite0")
    whole = timm_network("tf_efficientnet_lite0")
    state = to_timm(read_weights(OFFLINE["efficientnet_lite0"].verified_path()), whole)
    features = torch.from_numpy(backbone.embed(load_sample_images().images, store=False, precision="float32"))
    logits = features @ state["classifier.weight"].T + state["classifier.bias"]
    assert logits.argmax(1).tolist() == [PALACE, DAISY]
    # Trained with smoothed labels, the network is modest: what counts is the distance to the next class.
    best, second = logits.softmax(1).topk(2).values.T
    assert (best > 1.5 * second).all()


@pytest.mark.parametrize("name", OFFLINE)
def test_the_catalogue_states_what_is_true(name):
    entry, backbone = OFFLINE[name], load_backbone(name)
    assert (entry.modality, entry.feature_dim, entry.parameters, entry.license) == (
        backbone.modality,
        backbone.feature_dim,
        backbone.parameters,
        backbone.license,
    )
    assert load_backbone(name).weights_hash == backbone.weights_hash


def test_an_offline_network_is_read_once_and_stays_as_it_was():
    network = load_backbone("minilm")
    before = state_hash(network.module.state_dict())
    assert load_backbone("minilm") is network
    assert load_backbone("minilm", layer=-2) is not network
    network.with_output(layer=-1).embed(["a text"], store=False)
    trunk = network.copy_module()
    with torch.no_grad():
        next(trunk.parameters()).add_(1)
    assert state_hash(load_backbone("minilm").module.state_dict()) == before


def test_other_weights_under_a_known_name_are_refused(monkeypatch):
    load_backbone("efficientnet_lite0")  # also where the right ones are in memory
    forged = dataclasses.replace(OFFLINE["efficientnet_lite0"], sha256="0" * 64)
    monkeypatch.setitem(catalogue.OFFLINE, "efficientnet_lite0", forged)
    with pytest.raises(BackboneError, match="SHA-256 0000000000000000"):
        load_backbone("efficientnet_lite0")


def test_a_package_that_is_not_installed_is_named(monkeypatch):
    absent = dataclasses.replace(OFFLINE["minilm"], distribution="graft-no-such-package")
    monkeypatch.setitem(catalogue.OFFLINE, "minilm", absent)
    with pytest.raises(MissingDependencyError, match=r"pip install 'graft-learn\[offline\]'"):
        load_backbone("minilm")
    assert "minilm" not in [one.name for one in available()]


@pytest.mark.parametrize(
    ("name", "suggestion"),
    [("efficientnet_lite", "efficientnet_lite0"), ("minilmm", "minilm"), ("resnet188", "resnet18")],
)
def test_a_typo_gets_the_nearest_name(name, suggestion):
    with pytest.raises(RequestError, match=f"Did you mean '{suggestion}'"):
        load_backbone(name)


@pytest.mark.parametrize("value", [3, ["minilm"], b"minilm"])
def test_something_else_is_refused(value):
    with pytest.raises(RequestError, match="backbone"):
        load_backbone(value)


@pytest.mark.parametrize("name", ["resnet18", "timm/resnet18", "sentence-transformers/paraphrase-MiniLM-L3-v2"])
def test_a_network_that_cannot_be_had_is_said_at_once(name, monkeypatch, tmp_path):
    from huggingface_hub import constants

    monkeypatch.setattr(constants, "HF_HUB_CACHE", str(tmp_path))
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")

    def waits(*_given):
        pytest.fail("it waits, or asks the network")

    monkeypatch.setattr(time, "sleep", waits)
    monkeypatch.setattr(socket.socket, "connect", waits)
    with pytest.raises(BackboneError) as caught:
        load_backbone(name)
    assert "hf download" in caught.value.remedy
    assert "HF_HUB_OFFLINE" in caught.value.found


def test_a_hub_out_of_reach_is_one_message(monkeypatch, tmp_path):
    from huggingface_hub import HfApi, constants

    asked = []

    def unreachable(self, repository, **options):
        asked.append(repository)
        raise ConnectionError("Name or service not known")

    monkeypatch.setattr(constants, "HF_HUB_CACHE", str(tmp_path))
    monkeypatch.delenv("HF_HUB_OFFLINE", raising=False)
    monkeypatch.delenv("TRANSFORMERS_OFFLINE", raising=False)
    monkeypatch.setattr(HfApi, "model_info", unreachable)
    with pytest.raises(BackboneError, match="out of reach"):
        load_backbone("resnet18")
    assert len(asked) == 1


def hub_cache(root, repository, files):
    """Lay out a repository as huggingface_hub does."""
    commit = "a" * 40
    folder = root / f"models--{repository.replace('/', '--')}"
    (folder / "refs").mkdir(parents=True)
    (folder / "refs" / "main").write_text(commit)
    snapshot = folder / "snapshots" / commit
    snapshot.mkdir(parents=True)
    for name, write in files.items():
        write(snapshot / name)
    return commit


def test_the_hub_cache_is_used_and_listed(monkeypatch, tmp_path, small):
    import_torchvision()
    import timm
    from huggingface_hub import constants, file_download

    monkeypatch.setattr(constants, "HF_HUB_CACHE", str(tmp_path))
    monkeypatch.setattr(file_download.constants, "HF_HUB_CACHE", str(tmp_path))
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    repository = timm.get_pretrained_cfg("resnet10t").hf_hub_id
    config = {"architecture": "resnet10t", "num_features": 512, "pretrained_cfg": {"license": "apache-2.0"}}
    whole = timm_network("resnet10t")
    commit = hub_cache(
        tmp_path,
        repository,
        {
            "model.safetensors": lambda path: save_file(whole.state_dict(), path),
            "config.json": lambda path: path.write_text(json.dumps(config)),
        },
    )
    backbone = load_backbone("resnet10t")
    assert backbone.revision == commit
    assert torch.equal(backbone.module.network.conv1[0].weight, whole.conv1[0].weight)
    listed = {one.name: one for one in available()}[repository]
    assert (listed.modality, listed.feature_dim, listed.license, listed.source) == (
        "image",
        512,
        "apache-2.0",
        "hub cache",
    )
    assert listed.parameters == sum(tensor.numel() for tensor in whole.state_dict().values())


@pytest.mark.parametrize("suffix", [".safetensors", ".pth"])
def test_a_file_of_weights(tmp_path, suffix):
    whole = timm_network("resnet10t")
    path = tmp_path / f"resnet10t{suffix}"
    if suffix == ".pth":
        torch.save({"state_dict": {f"module.{name}": value for name, value in whole.state_dict().items()}}, path)
    else:
        save_file(whole.state_dict(), path)
    backbone = load_backbone(path)
    assert torch.equal(backbone.module.network.conv1[0].weight, whole.conv1[0].weight)
    moved = path.rename(tmp_path / f"best{suffix}")
    with pytest.raises(RequestError, match="architecture"):
        load_backbone(moved)
    assert load_backbone(moved, architecture="resnet10t").weights_hash == backbone.weights_hash
    with pytest.raises(BackboneError, match="do not fit"):
        load_backbone(moved, architecture="resnet18")


class Payload:
    def __reduce__(self):
        return (open, ("payload-ran", "w"))


@pytest.mark.filterwarnings("ignore:Detected pickle protocol")
def test_a_file_that_would_run_code_is_refused(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    for name, write in (
        ("resnet10t.pth", lambda path: torch.save({"state_dict": Payload()}, path)),
        ("resnet18.pth", lambda path: path.write_bytes(pickle.dumps(Payload()))),
        ("resnet34.safetensors", lambda path: path.write_bytes(pickle.dumps(Payload()))),
    ):
        write(tmp_path / name)
        with pytest.raises(BackboneError, match="run code"):
            load_backbone(tmp_path / name)
    assert not (tmp_path / "payload-ran").exists()


def test_missing_and_empty_files(tmp_path):
    with pytest.raises(BackboneError, match="no such file"):
        load_backbone(tmp_path / "resnet18.safetensors")
    (tmp_path / "resnet18.pth").write_bytes(b"")
    with pytest.raises(BackboneError):
        load_backbone(tmp_path / "resnet18.pth")
    with pytest.raises(BackboneError, match=r"config\.json"):
        load_backbone(tmp_path)


def test_a_folder_that_timm_wrote(tmp_path):
    whole = timm_network("resnet10t")
    save_file(whole.state_dict(), tmp_path / "model.safetensors")
    stated = {"input_size": [3, 96, 96], "mean": [0.1, 0.2, 0.3], "std": [0.5, 0.5, 0.5], "crop_pct": 0.95}
    stated |= {"interpolation": "bilinear", "license": "mit", "num_classes": 1000}
    (tmp_path / "config.json").write_text(json.dumps({"architecture": "resnet10t", "pretrained_cfg": stated}))
    backbone = load_backbone(tmp_path)
    plan = backbone.preprocessing
    assert (plan.size, plan.mean, plan.crop, plan.interpolation) == ((96, 96), (0.1, 0.2, 0.3), 0.95, "bilinear")
    assert backbone.license == "mit"
    assert torch.equal(backbone.module.network.conv1[0].weight, whole.conv1[0].weight)


def test_random_weights_are_seeded_and_leave_the_callers_seed_alone():
    torch.manual_seed(5)
    expected = torch.rand(1)
    torch.manual_seed(5)
    one = load_backbone("resnet10t", pretrained=False, random_state=1)
    assert torch.rand(1) == expected
    assert load_backbone("resnet10t", pretrained=False, random_state=1).weights_hash == one.weights_hash
    assert load_backbone("resnet10t", pretrained=False, random_state=2).weights_hash != one.weights_hash
    lite = load_backbone("efficientnet_lite0", pretrained=False)
    assert lite.weights_hash != load_backbone("efficientnet_lite0").weights_hash
    assert lite.feature_dim == 1280


def test_the_device_is_checked():
    assert load_backbone("resnet10t", pretrained=False, device="cpu").device.type == "cpu"
    with pytest.raises(RequestError, match="device"):
        load_backbone("resnet10t", pretrained=False, device="abacus")


def test_the_hash_sees_names_shapes_types_and_bytes():
    base = {"a": torch.arange(6.0), "b": torch.ones(2)}
    reference = state_hash(base)
    assert state_hash({"b": base["b"].clone(), "a": base["a"].clone()}) == reference
    changed = [
        {"c": base["a"], "b": base["b"]},
        {"a": base["a"].reshape(2, 3), "b": base["b"]},
        {"a": base["a"].double(), "b": base["b"]},
        {"a": base["a"] + 1e-6, "b": base["b"]},
        {"a": base["a"]},
    ]
    assert len({reference, *(state_hash(state) for state in changed)}) == 6
    grid = torch.arange(12.0).reshape(3, 4)
    assert state_hash({"a": grid.T.contiguous().T}) == state_hash({"a": grid})
    assert state_hash({"a": torch.tensor(np.float32(1.0)).bfloat16()})
