"""How one input becomes what a network reads: plain data that is stored with a model and enters every feature key."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass, fields
from typing import Any

from graft._checks import one_of
from graft.errors import RequestError

# The version of the decode path. It is part of every key: change it when the pixels of a decoded image change.
IMAGE_DECODER = "jpeg-turbo/resize-u8-antialias/1"
TEXT_DECODER = "tokenizer/1"

INTERPOLATIONS = ("bilinear", "bicubic")
CROP_MODES = ("center", "squash")


@dataclass(frozen=True)
class ImagePreprocessing:
    """From a picture to pixels of the network's input size.

    The shorter side is resized to ``round-down(size / crop)`` with antialiasing in 8-bit arithmetic, the centre is cut
    out, and the network's first step maps pixels p in 0..255 to (p / 255 - mean) / std per channel.

    Parameters
    ----------
    size : tuple of (int, int)
        Height and width of the network's input in pixels.
    mean, std : tuple of (float, float, float)
        Per-channel mean and standard deviation, in units of the full scale.
    interpolation : str
        ``"bilinear"`` or ``"bicubic"``.
    crop : float
        The fraction of the resized image's side that the centre cut keeps, in (0, 1].
    crop_mode : str
        ``"center"`` keeps the aspect ratio and cuts; ``"squash"`` resizes both sides, then cuts.
    decoder : str
        The decode path and its version: two paths may differ by a grey level, so features of one never pass for
        features of the other.

    Examples
    --------
    >>> from graft.backbones import ImagePreprocessing
    >>> plan = ImagePreprocessing(size=(224, 224), mean=(0.5, 0.5, 0.5), std=(0.5, 0.5, 0.5), crop=0.875)
    >>> ImagePreprocessing.from_dict(plan.to_dict()) == plan
    True
    """

    size: tuple[int, int] = (224, 224)
    mean: tuple[float, float, float] = (0.485, 0.456, 0.406)
    std: tuple[float, float, float] = (0.229, 0.224, 0.225)
    interpolation: str = "bicubic"
    crop: float = 0.875
    crop_mode: str = "center"
    decoder: str = IMAGE_DECODER

    def __post_init__(self) -> None:
        one_of("interpolation", self.interpolation, INTERPOLATIONS)
        one_of("crop_mode", self.crop_mode, CROP_MODES)
        if not 0 < self.crop <= 1 or min(self.size) < 1:
            raise RequestError(
                "preprocessing",
                expected="a crop fraction in (0, 1] and an input size of at least one pixel",
                found=f"crop={self.crop}, size={self.size}",
                remedy="Take the values from the network's own configuration.",
            )

    @property
    def resized(self) -> tuple[int, int]:
        """Height and width, in pixels, of the image from which the centre is cut (of its shorter side when centred)."""
        return int(self.size[0] / self.crop), int(self.size[1] / self.crop)

    def to_dict(self) -> dict[str, Any]:
        """Return the values as plain data for JSON."""
        return {"kind": "image", **_plain(asdict(self))}

    @classmethod
    def from_dict(cls, values: Mapping[str, Any]) -> ImagePreprocessing:
        """Return the preprocessing that `to_dict` described.

        Raises
        ------
        RequestError
            If a value is missing, unknown or of another kind.
        """
        return cls(**_known(cls, "image", values))


@dataclass(frozen=True)
class TextPreprocessing:
    """From a text to token ids.

    Parameters
    ----------
    max_tokens : int
        Longer texts are cut to this many tokens, special tokens included.
    lower_case : bool
        Lower the case before tokenizing (where the tokenizer does not do it itself).
    prompt : str
        Put before every text, as some encoders were trained.
    tokenizer : str
        SHA-256 of the tokenizer's files: another vocabulary is another network.
    decoder : str
        The version of the path from text to tokens.
    """

    max_tokens: int = 256
    lower_case: bool = False
    prompt: str = ""
    tokenizer: str = ""
    decoder: str = TEXT_DECODER

    def to_dict(self) -> dict[str, Any]:
        """Return the values as plain data for JSON."""
        return {"kind": "text", **_plain(asdict(self))}

    @classmethod
    def from_dict(cls, values: Mapping[str, Any]) -> TextPreprocessing:
        """Return the preprocessing that `to_dict` described.

        Raises
        ------
        RequestError
            If a value is missing, unknown or of another kind.
        """
        return cls(**_known(cls, "text", values))


@dataclass(frozen=True)
class FeaturePreprocessing:
    """Feature vectors are taken as they are."""

    decoder: str = "none"

    def to_dict(self) -> dict[str, Any]:
        """Return the values as plain data for JSON."""
        return {"kind": "features", **_plain(asdict(self))}

    @classmethod
    def from_dict(cls, values: Mapping[str, Any]) -> FeaturePreprocessing:
        """Return the preprocessing that `to_dict` described.

        Raises
        ------
        RequestError
            If a value is missing, unknown or of another kind.
        """
        return cls(**_known(cls, "features", values))


Preprocessing = ImagePreprocessing | TextPreprocessing | FeaturePreprocessing


def preprocessing_from_dict(values: Mapping[str, Any]) -> Preprocessing:
    """Return the preprocessing of any kind from its plain data.

    Raises
    ------
    RequestError
        If the data describes no preprocessing that this version knows.
    """
    kinds: dict[str, Any] = {"image": ImagePreprocessing, "text": TextPreprocessing, "features": FeaturePreprocessing}
    return kinds[one_of("preprocessing kind", values.get("kind"), kinds)].from_dict(values)


def _plain(values: dict[str, Any]) -> dict[str, Any]:
    return {key: list(value) if isinstance(value, tuple) else value for key, value in values.items()}


def _known(cls: type, kind: str, values: Mapping[str, Any]) -> dict[str, Any]:
    names = {field.name for field in fields(cls)}
    given = set(values) - {"kind"}
    if values.get("kind") != kind or given != names:
        raise RequestError(
            "preprocessing",
            expected=f"kind {kind!r} with {', '.join(sorted(names))}",
            found=f"kind {values.get('kind')!r} with {', '.join(sorted(given))}",
            remedy="Use the file that this version of Graft wrote, or save the model again.",
        )
    return {key: tuple(values[key]) if isinstance(values[key], list) else values[key] for key in names}
