"""From a picture to the pixels of a network's input: one decode path, the same bits whatever the batch or thread."""

from __future__ import annotations

import io
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

if TYPE_CHECKING:
    import torch

    from graft.backbones.preprocessing import ImagePreprocessing

# An EXIF block stands among the first segments of a JPEG file.
_EXIF_REACH = 65_536
# Larger pictures take the general path, which knows the bound against decompression bombs.
_FAST_PIXELS = 64_000_000


def read_pixels(source: Any) -> torch.Tensor:
    """Decode one picture to its 8-bit colours in its own size.

    Ordinary JPEG data is decoded by libjpeg-turbo without going through PIL; everything else by
    `graft.data.images.decode_image`, which knows orientation, palettes, CMYK, 16 bits and transparency.

    Parameters
    ----------
    source : path, bytes, PIL image or array
        The picture.

    Returns
    -------
    tensor of shape (3, height, width), uint8, its memory ordered by pixel

    Raises
    ------
    DataError
        If it is no picture that can be decoded.
    """
    import torch

    data = _encoded(source)
    pixels = None if data is None else _decode_jpeg(data)
    if pixels is None:
        from graft.data.images import decode_image

        pixels = np.array(decode_image(source if data is None else data))
    return torch.from_numpy(pixels).permute(2, 0, 1)


def fit_pixels(pixels: torch.Tensor, plan: ImagePreprocessing) -> torch.Tensor:
    """Resize and cut decoded pixels to the network's input size.

    Parameters
    ----------
    pixels : tensor of shape (3, height, width), uint8
        The picture.
    plan : ImagePreprocessing
        The input size, the fraction that the centre cut keeps, the interpolation.

    Returns
    -------
    tensor of shape (3, plan.size[0], plan.size[1]), uint8
    """
    height, width = int(pixels.shape[1]), int(pixels.shape[2])
    high, wide = plan.resized
    if plan.crop_mode == "center":
        # One side fits, the other is at least as long; truncation as in torchvision's Resize, which timm's networks
        # were evaluated with. A square input of side s has its shorter side resized to s / crop.
        if high == wide:
            short = high
            wide, high = (short, short * height // width) if width <= height else (short * width // height, short)
        else:
            scale = max(high / height, wide / width)
            high, wide = max(high, round(height * scale)), max(wide, round(width * scale))
    resized = resize_pixels(pixels, (high, wide), plan.interpolation)
    return _cut_centre(resized, plan.size)


def resize_pixels(pixels: torch.Tensor, size: tuple[int, int], interpolation: str) -> torch.Tensor:
    """Resize with antialiasing in 8-bit arithmetic, as Pillow's resize of the same name does.

    Within one grey level of it where the aspect ratio is kept. Bicubic differs by up to three levels, in one value of
    five thousand, where Pillow resizes the columns before the rows of a tall picture that is squashed.
    """
    from torch.nn.functional import interpolate

    if tuple(pixels.shape[1:]) == size:
        return pixels
    if size[0] < pixels.shape[1] and size[1] > pixels.shape[2]:
        # Pillow shortens the columns before it widens the rows; torch would do the rows first and round otherwise.
        pixels = resize_pixels(pixels, (size[0], int(pixels.shape[2])), interpolation)
    return interpolate(pixels[None], size=size, mode=interpolation, antialias=True, align_corners=False)[0]


def _cut_centre(pixels: torch.Tensor, size: tuple[int, int]) -> torch.Tensor:
    top = round((pixels.shape[1] - size[0]) / 2)
    left = round((pixels.shape[2] - size[1]) / 2)
    return pixels[:, top : top + size[0], left : left + size[1]]


def _encoded(source: Any) -> bytes | None:
    """Return the bytes of a picture that is still encoded, or None for one that is decoded or cannot be opened."""
    if isinstance(source, bytes | bytearray | memoryview):
        return bytes(source)
    if isinstance(source, str | Path):
        try:
            return Path(source).read_bytes()
        except OSError:
            return None  # decode_image says why
    return None


def _decode_jpeg(data: bytes) -> np.ndarray | None:
    """Decode ordinary JPEG data to (height, width, 3); None for what needs the general path or is damaged."""
    if data[:3] != b"\xff\xd8\xff":
        return None
    import simplejpeg

    try:
        height, width, colorspace, _ = simplejpeg.decode_jpeg_header(data)
        if colorspace not in ("YCbCr", "Gray", "RGB") or height * width > _FAST_PIXELS:
            return None
        if _orientation(data) != 1:
            return None
        return simplejpeg.decode_jpeg(data, colorspace="RGB", fastdct=False, fastupsample=False)
    except ValueError:
        return None


def _orientation(data: bytes) -> int:
    """Return the EXIF orientation, 1 to 8 (1: upright); the header is parsed only where there is an EXIF block."""
    if data.find(b"Exif\0\0", 0, _EXIF_REACH) < 0:
        return 1
    from PIL import ExifTags, Image

    try:
        with Image.open(io.BytesIO(data)) as image:
            return int(image.getexif().get(ExifTags.Base.Orientation, 1))
    except (OSError, ValueError, SyntaxError, TypeError):
        return 0  # the general path decides
