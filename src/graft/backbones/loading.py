"""`load_backbone`: from a name or a path to a pretrained network."""

from __future__ import annotations

from functools import lru_cache
from pathlib import Path
from typing import TYPE_CHECKING, Any

from graft import _runtime
from graft._checks import did_you_mean
from graft.backbones.backbone import Backbone, Layer
from graft.backbones.catalogue import OFFLINE, OfflineNetwork
from graft.backbones.hub import cached_file, commit_of, obtain
from graft.backbones.preprocessing import ImagePreprocessing
from graft.backbones.saved import backbone_of_run, is_run
from graft.backbones.torchvision_repair import import_torchvision
from graft.backbones.weights import WEIGHT_SUFFIXES, load_into, read_weights
from graft.errors import BackboneError, RequestError

if TYPE_CHECKING:
    import torch

_TIMM_FILES = ("config.json", "model.safetensors")
_TEXT_FILES = ("*.json", "*.txt", "*.model", "*.safetensors", "README.md", "*/config.json", "*/model.safetensors")


def load_backbone(
    name: str | Path | Backbone | None,
    *,
    layer: Layer = None,
    pooling: str | None = None,
    image_size: int | tuple[int, int] | None = None,
    pretrained: bool = True,
    architecture: str | None = None,
    device: str | None = None,
    random_state: int = 0,
) -> Backbone:
    """Return a pretrained network by its name or path.

    Parameters
    ----------
    name : str, Path, Backbone or None
        ``"efficientnet_lite0"`` or ``"minilm"`` (installed as packages, no hub needed); a timm name, with or without
        ``timm/`` before it; the hub id of a sentence encoder; a local folder that timm, transformers or
        sentence-transformers wrote; the folder of a saved run, for the network that was fitted there; a file of
        weights (with `architecture`). None: the identity, for feature vectors.
        A backbone is returned as it is, or with another output or input size.
    layer : int, str, or sequence of them, optional
        Take the features from these layers (names in ``backbone.layers`` or indices) instead of the network's output.
    pooling : str, optional
        How positions or tokens become one vector, instead of the network's own way; see `Backbone.with_output`.
    image_size : int or tuple of (int, int), optional
        For images: the network's input size in pixels instead of its own (the side of a square, or height and width).
        The time grows with the number of pixels. Convolutional networks keep their weights; the position embeddings
        of vision transformers are resampled, so that their weights, and with them `weights_hash`, are others.
    pretrained : bool
        False: random weights of the same architecture, the honest baseline; not for a backbone, which has its weights.
    architecture : str, optional
        The timm architecture that a file of weights belongs to; by default the file's own name up to the first dot.
    device : str, optional
        ``"cpu"``, ``"cuda"``, ``"cuda:1"``, ``"mps"``; by default the best one here. A backbone stays where it is.
    random_state : int
        Seeds random weights.

    Raises
    ------
    RequestError
        If there is no such network (the nearest name is suggested), if it cannot read images of `image_size`, or if
        random weights are asked for of one that has its own.
    BackboneError
        If its weights can be had neither here nor from the hub, or are not what they claim to be.
    MissingDependencyError
        If the package of an offline network is not installed.

    Examples
    --------
    >>> from graft.backbones import load_backbone
    >>> backbone = load_backbone("efficientnet_lite0")
    >>> backbone.modality, backbone.feature_dim, backbone.license
    ('image', 1280, 'apache-2.0')
    >>> load_backbone("efficientnet_lite0", layer=[-2, -1], pooling="gem").feature_dim
    432
    >>> load_backbone("efficientnet_lite0", image_size=128).preprocessing.size
    (128, 128)
    """
    if name is None:
        from graft.backbones.feature_backbone import FeatureBackbone

        backbone: Backbone = FeatureBackbone()
    elif isinstance(name, Backbone):
        if not pretrained:
            raise RequestError(
                "pretrained",
                expected="a network's name beside pretrained=False",
                found="a network that has its weights already",
                remedy="Pass its name.",
            )
        backbone = name
    elif isinstance(name, str | Path):
        where = _runtime.device(device)
        if pretrained and name in OFFLINE:
            OFFLINE[str(name)].verified_path()  # whatever is in memory already: another file is refused
            backbone = _in_memory(OFFLINE[str(name)], where)
        else:
            backbone = _resolve(str(name), pretrained, architecture, random_state)
            backbone.module.to(where)  # made a moment ago, shared with nobody
    else:
        raise RequestError(
            "backbone",
            expected="a name, a path, a Backbone or None",
            found=type(name).__name__,
            remedy="Wrap a network of your own with graft.backbones.module_backbone.",
        )
    if image_size is not None:
        backbone = _sized(backbone, image_size)
    return backbone if layer is None and pooling is None else backbone.with_output(layer=layer, pooling=pooling)


@lru_cache(maxsize=2)
def _in_memory(network: OfflineNetwork, where: torch.device) -> Backbone:
    """Return the pretrained network, read once: nothing that a backbone is asked for changes it."""
    backbone = _offline(network, True, 0)
    backbone.module.to(where)
    return backbone


def _sized(backbone: Backbone, size: int | tuple[int, int]) -> Backbone:
    from graft.backbones.image_backbone import ImageBackbone

    if not isinstance(backbone, ImageBackbone):
        own = backbone.modality == "image"
        raise RequestError(
            "image_size",
            expected="the name of an image network" if own else f"none, because {backbone.name} reads no images",
            found=repr(size),
            remedy="State the size in the preprocessing of module_backbone." if own else "Leave it out.",
        )
    return backbone.with_image_size(size)


def _resolve(name: str, pretrained: bool, architecture: str | None, seed: int) -> Backbone:
    if name == "identity":
        from graft.backbones.feature_backbone import FeatureBackbone

        return FeatureBackbone()
    if name in OFFLINE:
        return _offline(OFFLINE[name], pretrained, seed)
    path = Path(name).expanduser()
    if path.is_dir() and is_run(path):
        found = backbone_of_run(path)
        return found if pretrained else _resolve(found.name, False, architecture, seed)
    if path.is_dir():
        return _folder(path, name, pretrained, seed)
    if path.suffix in WEIGHT_SUFFIXES:
        return _file(path, name, architecture, seed)
    import_torchvision()
    import timm

    name = name.removeprefix("hf-hub:")  # as timm writes it
    bare = name.removeprefix("timm/")
    if "/" not in bare and timm.is_model(bare):
        return _timm(bare, name, pretrained, seed)
    if "/" in name and not name.startswith(("timm/", ".", "/", "~")):
        return _hub_repository(name, pretrained, seed)
    listed = did_you_mean(bare, timm.list_models(), otherwise="`graft backbones` lists what can be used here.")
    raise RequestError(
        "backbone",
        expected="a network of timm, the hub id of a network, a local folder or a file of weights",
        found=repr(name),
        remedy=did_you_mean(bare, OFFLINE, otherwise=listed),
    )


def _offline(network: OfflineNetwork, pretrained: bool, seed: int) -> Backbone:
    if network.modality == "text":
        from graft.backbones.sentence_encoder import read_sentence_encoder

        folder = network.verified_path().parent
        return read_sentence_encoder(folder, name=network.name, license=network.license, pretrained=pretrained)
    from graft.backbones.efficientnet_lite import INPUT, to_timm
    from graft.backbones.image_backbone import ImageBackbone

    module = _create(network.architecture, seed)
    if pretrained:
        state = to_timm(read_weights(network.verified_path()), _create(network.architecture, seed, classes=1000))
        wanted = module.state_dict()
        load_into(module, {key: state[key] for key in wanted}, source=f"backbone {network.name!r}")
    return ImageBackbone(network.name, module, INPUT, license=network.license)


def network_with_classifier(name: str) -> Any:
    """Return timm's network of that name with its pretrained classifier; None where there is none to be had."""
    import_torchvision()
    import timm

    if name in OFFLINE:
        from graft.backbones.efficientnet_lite import to_timm

        network = OFFLINE[name]
        if network.modality != "image":
            return None
        made = _create(network.architecture, 0, classes=1000)
        load_into(made, to_timm(read_weights(network.verified_path()), made), source=f"backbone {name!r}")
        return made
    bare = name.removeprefix("timm/")
    settings = timm.get_pretrained_cfg(bare) if "/" not in bare and timm.is_model(bare) else None
    stated = {} if settings is None else settings.to_dict()
    repository, classes = stated.get("hf_hub_id") or "", stated.get("num_classes") or 0
    if not repository or not classes:
        return None
    repository = repository if "/" in repository else f"timm/{repository}"
    folder = obtain(repository, _TIMM_FILES, asked=name)
    return _create(bare, 0, file=_weights_file(folder, name), classes=classes)


def _timm(model: str, name: str, pretrained: bool, seed: int) -> Backbone:
    import timm

    settings = timm.get_pretrained_cfg(model)
    stated = {} if settings is None else settings.to_dict()
    repository = stated.get("hf_hub_id") or ""
    if not pretrained:
        return _image(name, _create(model, seed), stated)
    if not repository:
        raise BackboneError(
            f"backbone {name!r}",
            expected="an architecture with published weights",
            found="none of that name",
            remedy="Choose one of timm.list_pretrained(), or pass pretrained=False for random weights.",
        )
    repository = repository if "/" in repository else f"timm/{repository}"
    folder = obtain(repository, _TIMM_FILES, asked=name)
    return _image(name, _create(model, seed, file=_weights_file(folder, name)), stated, folder)


def _folder(path: Path, name: str, pretrained: bool, seed: int) -> Backbone:
    import json

    config = path / "config.json"
    if (path / "modules.json").is_file() or (config.is_file() and "model_type" in json.loads(config.read_text())):
        from graft.backbones.sentence_encoder import read_sentence_encoder

        return read_sentence_encoder(path, name=name, revision=commit_of(config), pretrained=pretrained)
    stated = json.loads(config.read_text()) if config.is_file() else {}
    if "architecture" not in stated:
        raise BackboneError(
            f"backbone {name!r}",
            expected="a folder with config.json and weights, written by timm, transformers or sentence-transformers",
            found="a folder without them",
            remedy="Pass the folder that holds config.json.",
        )
    import_torchvision()
    file = _weights_file(path, name) if pretrained else None
    return _image(name, _create(stated["architecture"], seed, file=file), stated.get("pretrained_cfg", stated), path)


def _file(path: Path, name: str, architecture: str | None, seed: int) -> Backbone:
    if not path.is_file():
        raise BackboneError(
            f"backbone {name!r}", expected="a file of weights", found="no such file", remedy="Check the path."
        )
    import_torchvision()
    import timm

    model = architecture or path.name.split(".")[0]
    if not timm.is_model(model):
        raise RequestError(
            "architecture",
            expected=f"the timm architecture that the weights in {path.name} belong to",
            found=repr(model),
            remedy=did_you_mean(
                model,
                timm.list_models(),
                otherwise="Call the file after it, such as resnet18.pth.",
            ),
        )
    settings = timm.get_pretrained_cfg(model)
    return _image(name, _create(model, seed, file=path), {} if settings is None else settings.to_dict())


def _hub_repository(name: str, pretrained: bool, seed: int) -> Backbone:
    held = cached_file(name, "config.json")
    folder = held.parent if held is not None else obtain(name, _TEXT_FILES, asked=name)
    if pretrained:
        folder = obtain(name, _TEXT_FILES, asked=name)
    return _folder(folder, name, pretrained, seed)


def _weights_file(folder: Path, name: str) -> Path:
    for candidate in ("model.safetensors", "pytorch_model.bin"):
        if (folder / candidate).is_file():
            return folder / candidate
    raise BackboneError(
        f"backbone {name!r}",
        expected=f"model.safetensors in {folder}",
        found="no file of weights",
        remedy="Download the repository again.",
    )


def _create(model: str, seed: int, *, file: Path | None = None, classes: int = 0) -> Any:
    """Make a timm network, from a file of weights or with random ones; the caller's random state is left alone."""
    import_torchvision()
    import timm
    import torch

    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        if file is None:
            return timm.create_model(model, pretrained=False, num_classes=classes)
        read_weights(file)  # the message for a damaged file is ours
        try:
            return timm.create_model(
                model, pretrained=True, num_classes=classes, pretrained_cfg_overlay={"file": str(file)}
            )
        except (RuntimeError, KeyError) as error:
            first = str(error).strip().splitlines()[0][:200]
            raise BackboneError(
                str(file),
                expected=f"the weights of {model}",
                found=f"tensors that do not fit it ({first})",
                remedy="Name the architecture that these weights belong to.",
            ) from error


def _image(name: str, module: Any, stated: dict[str, Any], folder: Path | None = None) -> Backbone:
    from graft.backbones.image_backbone import ImageBackbone

    size = stated.get("test_input_size") or stated.get("input_size") or (3, 224, 224)
    if stated.get("fixed_input_size") or not stated.get("test_input_size"):
        size = stated.get("input_size") or size
    interpolation = stated.get("interpolation") or "bicubic"
    mode = stated.get("crop_mode") or "center"
    preprocessing = ImagePreprocessing(
        size=(int(size[1]), int(size[2])),
        mean=tuple(stated.get("mean") or (0.485, 0.456, 0.406)),
        std=tuple(stated.get("std") or (0.229, 0.224, 0.225)),
        interpolation=interpolation if interpolation in ("bilinear", "bicubic") else "bicubic",
        crop=float(stated.get("crop_pct") or 0.875),
        crop_mode="squash" if mode == "squash" else "center",
    )
    revision = "" if folder is None else commit_of(folder / "config.json")
    license = stated.get("license") or ""
    return ImageBackbone(name, module, preprocessing, license=str(license), revision=revision)
