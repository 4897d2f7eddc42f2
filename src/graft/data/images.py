"""`decode_image`: anything that holds one image, as eight-bit RGB. The reference that faster decoders are held to."""

from __future__ import annotations

import io
import os
import stat
import struct
from typing import TYPE_CHECKING, Any

import numpy as np

from graft.data.content import content_hash as content_hash
from graft.data.content import image_bytes as image_bytes
from graft.data.formats import named_format, signed_format
from graft.errors import DataError

if TYPE_CHECKING:
    from PIL import Image

MAX_PIXELS = 89_478_485
"""Largest image that is decoded by default, in pixels: 256 MiB as RGB, the bound from which Pillow warns."""

# Named, because Pillow's full list holds formats that start other programs (EPS runs Ghostscript) or hold no photos.
# A TGA has no signature, so it is tried only where nothing else fits.
_FORMATS = ("JPEG", "PNG", "GIF", "WEBP", "BMP", "DIB", "TIFF", "PPM", "JPEG2000", "AVIF", "TGA")

_ORIENTATION_TAG = 0x0112


def decode_image(source: Any, *, max_pixels: int = MAX_PIXELS) -> Image.Image:
    """Return the image in `source` upright, in RGB, eight bits a channel.

    The EXIF orientation is applied. Transparent pixels are laid on white. Sixteen-bit channels are scaled,
    ``round(value * 255 / 65535)``, not clipped. CMYK becomes RGB without a colour profile. Of an animation or a
    multi-page file the first picture is taken.

    Parameters
    ----------
    source : path, bytes, PIL image, or array
        An encoded image (a path or its bytes), a PIL image, or pixels: an array (height, width) or
        (height, width, channels) with 1, 2 (grey and alpha), 3 or 4 (RGB and alpha) channels, or, as PyTorch orders
        them, (channels, height, width) with 1, 3 or 4; integers in [0, 255], ``uint16``, booleans, or floats in [0, 1].
    max_pixels : int
        The largest width times height that is decoded. It is compared with the header before a decoder runs.

    Raises
    ------
    DataError
        If there is no such file, it is empty, truncated or no image, or larger than `max_pixels`; if an array has
        another shape or range. The subject is the file's name.

    Examples
    --------
    >>> import numpy as np
    >>> from graft.data import decode_image
    >>> decode_image(np.full((2, 3), 65535, dtype=np.uint16)).getpixel((0, 0))
    (255, 255, 255)
    """
    from PIL import Image

    if isinstance(source, (str, os.PathLike)):
        path = os.fspath(source)
        try:
            if not stat.S_ISREG(os.stat(path).st_mode):
                raise _unreadable(path, "no regular file", "Name an image file.")
            with open(path, "rb") as stream:
                return _decode_stream(stream, path, max_pixels)
        except DataError:
            raise
        except (OSError, ValueError) as error:  # a ValueError: a path with a null character
            reason = "no such file" if isinstance(error, FileNotFoundError) else f"{error}"
            raise _unreadable(str(path), reason, "Check the path and the permissions.") from error
    if isinstance(source, (bytes, bytearray, memoryview)):
        return _decode_stream(io.BytesIO(source), "image", max_pixels)
    if isinstance(source, Image.Image):
        name = str(getattr(source, "filename", "") or "image")
        _check_size(source.size, name, max_pixels)
        return _decoded(source, name)
    if isinstance(source, dict) and ("bytes" in source or "path" in source):  # how Hugging Face stores an image
        held = source.get("bytes")
        return decode_image(held if held is not None else source.get("path"), max_pixels=max_pixels)
    return _from_array(source, max_pixels)


def _decode_stream(stream: Any, name: str, max_pixels: int) -> Image.Image:
    """Decode an open file after its signature and its header have been looked at."""
    from PIL import Image

    header = stream.read(32)
    stream.seek(0)
    if not header:
        raise _unreadable(name, "an empty file (0 bytes)", "Fetch or export the file again.")
    if signed_format(header) is None and named_format(name) != "TGA":
        raise _unreadable(name, "bytes of no known image format", "Export it as JPEG or PNG, or remove it.")
    size = _early_size(header)
    if size is not None:
        _check_size(size, name, max_pixels)
    try:
        image = Image.open(stream, formats=_FORMATS)
    except (Image.DecompressionBombError, Image.DecompressionBombWarning) as error:  # warnings may be made errors
        raise _too_large(name, str(error), max_pixels) from error
    except Exception as error:  # broken headers surface as any of a dozen types
        raise _unreadable(name, f"a broken header ({_reason(error)})", "Fetch or export the file again.") from error
    _check_size(image.size, name, max_pixels)
    return _decoded(image, name)


def _early_size(header: bytes) -> tuple[int, int] | None:
    """Return (width, height) where the first 32 bytes state it: Pillow allocates a WebP's canvas on opening it."""
    kind = signed_format(header)
    if len(header) < 32:
        return None
    if kind == "PNG":
        return struct.unpack(">II", header[16:24])
    if kind == "GIF":
        return struct.unpack("<HH", header[6:10])
    if kind == "BMP" and struct.unpack("<I", header[14:18])[0] >= 40:
        width, height = struct.unpack("<ii", header[18:26])
        return abs(width), abs(height)
    if kind == "WEBP" and header[12:16] == b"VP8X":
        return 1 + int.from_bytes(header[24:27], "little"), 1 + int.from_bytes(header[27:30], "little")
    if kind == "WEBP" and header[12:16] == b"VP8L":
        packed = int.from_bytes(header[21:25], "little")
        return 1 + (packed & 0x3FFF), 1 + (packed >> 14 & 0x3FFF)
    if kind == "WEBP" and header[12:16] == b"VP8 ":
        width, height = struct.unpack("<HH", header[26:30])
        return width & 0x3FFF, height & 0x3FFF
    return None


def _decoded(image: Image.Image, name: str) -> Image.Image:
    """Decode a checked image, turn it upright and convert it."""
    try:
        image.load()
        upright = _upright(image)
        return _to_rgb(upright, name)
    except DataError:
        raise
    except Exception as error:  # decoders raise OSError, SyntaxError, struct.error, zlib.error, ...
        reason = _reason(error)
        kind = (
            "a truncated file" if "truncated" in reason or "unexpected end" in reason.lower() else "broken image data"
        )
        raise _unreadable(name, f"{kind} ({reason})", "Fetch or export the file again, or remove it.") from error


def _upright(image: Image.Image) -> Image.Image:
    """Apply the EXIF orientation; broken EXIF data means none."""
    from PIL import Image

    try:
        orientation = image.getexif().get(_ORIENTATION_TAG, 1)
    except Exception:  # a camera's broken EXIF block says nothing about the pixels
        return image
    method = {
        2: Image.Transpose.FLIP_LEFT_RIGHT,
        3: Image.Transpose.ROTATE_180,
        4: Image.Transpose.FLIP_TOP_BOTTOM,
        5: Image.Transpose.TRANSPOSE,
        6: Image.Transpose.ROTATE_270,
        7: Image.Transpose.TRANSVERSE,
        8: Image.Transpose.ROTATE_90,
    }.get(orientation)
    return image if method is None else image.transpose(method)


def _to_rgb(image: Image.Image, name: str) -> Image.Image:
    """Convert any of Pillow's modes."""
    from PIL import Image

    if image.mode.startswith("I;") or image.mode in ("I", "F"):
        values, key = np.asarray(image), image.info.get("transparency")
        grey = _scaled_grey(values, image, name)
        if isinstance(key, int):
            grey = np.where(values == key, np.uint8(255), grey)
        return Image.fromarray(grey).convert("RGB")
    if image.has_transparency_data:
        if image.mode == "La":
            image = image.convert("LA")
        rgba = image.convert("RGBA")
        return Image.alpha_composite(Image.new("RGBA", rgba.size, "white"), rgba).convert("RGB")
    if image.mode == "LAB":
        from PIL import ImageCms

        lab = ImageCms.createProfile("LAB")
        converted = ImageCms.profileToProfile(image, lab, ImageCms.createProfile("sRGB"), outputMode="RGB")
        return converted if converted is not None else image
    return image if image.mode == "RGB" else image.convert("RGB")


def _scaled_grey(values: np.ndarray, image: Image.Image, name: str) -> np.ndarray:
    """Scale one wide channel to eight bits by the full range that its file states, or else that its values imply."""
    tags = getattr(image, "tag_v2", None) or {}  # TIFF only: 258 bits per sample, 262 what zero means
    if image.mode.startswith("I;"):
        top = float(2 ** tags.get(258, (16,))[0] - 1)
    else:
        if not np.isfinite(values).all():
            raise _unreadable(name, "pixels that are not finite", "Export it as 8- or 16-bit PNG.")
        peak = float(values.max(initial=0))
        # Mode I is also how Pillow holds 16-bit PPM, and mode F has no range of its own.
        small = 1.0 if image.mode == "F" else 255.0
        top = next((bound for bound in (small, 255.0, 65535.0) if peak <= bound), float(2**31 - 1))
        if image.mode == "I" and image.format in ("PPM", "PNG"):
            top = 65535.0
    grey = np.rint(np.clip(values.astype(np.float64), 0, top) * (255.0 / top)).astype(np.uint8)
    return 255 - grey if tags.get(262) == 0 else grey


def _from_array(source: Any, max_pixels: int) -> Image.Image:
    """Convert an array or a tensor of pixels."""
    from PIL import Image

    channels_first = type(source).__module__.split(".")[0] == "torch"
    if channels_first:
        source = source.detach().cpu()
        source = source.float() if source.is_floating_point() else source
    pixels = np.asarray(source)
    if pixels.ndim == 3:
        first, last = pixels.shape[0] in (1, 3, 4), pixels.shape[2] in (1, 2, 3, 4)
        if first and (channels_first or not last):
            pixels = np.moveaxis(pixels, 0, 2)
    if pixels.ndim not in (2, 3) or (pixels.ndim == 3 and pixels.shape[2] not in (1, 2, 3, 4)) or pixels.size == 0:
        raise DataError(
            "image",
            expected="a path, the bytes of an image file, a PIL image, or an array (height, width[, channels])",
            found=f"{type(source).__name__} of shape {pixels.shape}" if pixels.dtype != object else repr(source)[:60],
            remedy="Pass one image at a time, with 1 to 4 channels.",
        )
    _check_size((pixels.shape[1], pixels.shape[0]), "image", max_pixels)
    pixels = np.ascontiguousarray(_eight_bit(pixels))
    if pixels.ndim == 3 and pixels.shape[2] == 1:
        pixels = pixels[:, :, 0]
    return _to_rgb(Image.fromarray(pixels), "image")


def _eight_bit(pixels: np.ndarray) -> np.ndarray:
    """Scale pixels of any numeric type to ``uint8``."""
    kind = pixels.dtype.kind
    if pixels.dtype == np.uint8:
        return pixels
    if kind == "b":
        return pixels.astype(np.uint8) * np.uint8(255)
    if pixels.dtype == np.uint16:
        return np.rint(pixels * (255.0 / 65535.0)).astype(np.uint8)
    if kind in "iuf":
        low, high = pixels.min(), pixels.max()
        top = 1 if kind == "f" else 255
        # Resampled floats overshoot by a rounding error; anything beyond that is another scale. NaN fails both.
        slack = 1e-3 if kind == "f" else 0
        if low >= -slack and high <= top + slack:
            return np.rint(np.clip(pixels.astype(np.float64), 0, top) * (255 / top)).astype(np.uint8)
        found = f"{pixels.dtype} values from {low} to {high}"
    else:
        found = f"values of type {pixels.dtype}"
    raise DataError(
        "image",
        expected="integers in [0, 255], uint16, booleans, or floats in [0, 1]",
        found=found,
        remedy="Rescale the pixels, for instance with (pixels / pixels.max()).clip(0, 1).",
    )


def _check_size(size: tuple[int, int], name: str, max_pixels: int) -> None:
    width, height = size
    if width * height > max_pixels:
        raise _too_large(name, f"{width} x {height} = {width * height:,} pixels", max_pixels)


def _too_large(name: str, found: str, max_pixels: int) -> DataError:
    return DataError(
        name,
        expected=f"an image of at most {max_pixels:,} pixels",
        found=found,
        remedy="Shrink the image, or raise max_pixels if you trust the file.",
    )


def _unreadable(name: str, found: str, remedy: str) -> DataError:
    return DataError(name, expected="a readable image file", found=found, remedy=remedy)


def _reason(error: BaseException) -> str:
    """Return an error's message on one line, without addresses of Python objects."""
    text = " ".join(str(error).split()) or type(error).__name__
    return text if " object at 0x" not in text else type(error).__name__
