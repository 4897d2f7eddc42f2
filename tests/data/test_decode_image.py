"""`decode_image`: every mode, every orientation, every kind of source; nothing harmful gets to a decoder."""

import io
import os
import struct
import zlib

import numpy as np
import pytest
from PIL import Image

from graft.data import MAX_PIXELS, decode_image
from graft.errors import DataError


def pattern(height=6, width=9, seed=0):
    """Random pixels: no symmetry that would hide a wrong orientation."""
    return np.random.default_rng(seed).integers(0, 256, (height, width, 3), dtype=np.uint8)


def encoded(image, kind, **options):
    stream = io.BytesIO()
    image.save(stream, kind, **options)
    return stream.getvalue()


def pixels(source, **options):
    image = decode_image(source, **options)
    assert image.mode == "RGB"
    return np.asarray(image)


def test_a_path_its_bytes_the_pil_image_and_the_array_give_the_same_pixels(tmp_path):
    truth = pattern()
    path = tmp_path / "x.png"
    Image.fromarray(truth).save(path)
    for source in (
        str(path),
        path,
        path.read_bytes(),
        bytearray(path.read_bytes()),
        memoryview(path.read_bytes()),
        Image.open(path),
        truth,
        {"bytes": path.read_bytes(), "path": None},
        {"bytes": None, "path": str(path)},
    ):
        np.testing.assert_array_equal(pixels(source), truth)


def test_arrays_of_every_type_and_layout_agree():
    import torch

    truth = pattern()
    sources = [
        truth.astype(np.int64),
        truth.astype(np.uint16) * 257,
        truth / 255.0,
        (truth / 255.0).astype(np.float32),
        np.moveaxis(truth, 2, 0),
        np.asfortranarray(truth),
        torch.from_numpy(truth).permute(2, 0, 1),
        torch.from_numpy(truth).permute(2, 0, 1) / 255.0,
        torch.from_numpy(truth),
    ]
    for source in sources:
        np.testing.assert_array_equal(pixels(source), truth)
    coarse = pixels((torch.from_numpy(truth).permute(2, 0, 1) / 255.0).bfloat16()).astype(int)
    assert np.abs(coarse - truth).max() <= 1  # bfloat16 keeps 8 significant bits


def test_a_small_tensor_is_read_channels_first_and_a_small_array_channels_last():
    import torch

    ambiguous = np.random.default_rng(1).integers(0, 256, (3, 5, 3), dtype=np.uint8)
    np.testing.assert_array_equal(pixels(ambiguous), ambiguous)
    np.testing.assert_array_equal(pixels(torch.from_numpy(ambiguous)), np.moveaxis(ambiguous, 0, 2))


@pytest.mark.parametrize("shape", [(4, 5), (4, 5, 1), (1, 4, 5)])
def test_grey_arrays_repeat_their_channel(shape):
    grey = np.random.default_rng(2).integers(0, 256, (4, 5), dtype=np.uint8)
    np.testing.assert_array_equal(pixels(grey.reshape(shape)), np.repeat(grey[:, :, None], 3, axis=2))


def test_booleans_are_black_and_white():
    np.testing.assert_array_equal(pixels(np.array([[True, False]]))[0, :, 0], [255, 0])


@pytest.mark.parametrize(
    "bad",
    [
        np.zeros((2, 3, 5)),
        np.zeros(4),
        np.zeros((0, 3)),
        np.full((2, 2), 300),
        np.full((2, 2), 255.0),
        np.full((2, 2), np.nan),
        np.full((2, 2), -0.5),
        np.array([["a"]]),
        None,
        7,
        object(),
        [1, 2, 3],
    ],
)
def test_arrays_that_are_no_image_are_refused(bad):
    with pytest.raises(DataError, match="expected"):
        decode_image(bad)


@pytest.mark.parametrize("kind", ["JPEG", "PNG", "WEBP", "TIFF"])
@pytest.mark.parametrize("orientation", range(1, 9))
def test_every_exif_orientation_comes_out_upright(kind, orientation):
    upright = np.kron(pattern(4, 6), np.ones((16, 16, 1), dtype=np.uint8))  # blocks survive JPEG
    # What a camera stores, so that the viewer's operation (TIFF 6.0, tag 274) brings back `upright`.
    stored = {
        1: upright,
        2: upright[:, ::-1],
        3: upright[::-1, ::-1],
        4: upright[::-1],
        5: upright.transpose(1, 0, 2),
        6: np.rot90(upright, 1),
        7: upright[::-1, ::-1].transpose(1, 0, 2),
        8: np.rot90(upright, -1),
    }[orientation]
    exif = Image.Exif()
    exif[0x0112] = orientation
    options = {"quality": 95, "subsampling": 0} if kind == "JPEG" else {"lossless": True} if kind == "WEBP" else {}
    data = encoded(Image.fromarray(np.ascontiguousarray(stored)), kind, exif=exif, **options)
    for source in (data, Image.open(io.BytesIO(data))):
        found = pixels(source).astype(int)
        assert found.shape == upright.shape
        assert np.abs(found - upright).mean() < (6 if kind == "JPEG" else 1e-9)


@pytest.mark.filterwarnings("ignore:Corrupt EXIF")
def test_broken_exif_is_no_orientation():
    data = encoded(Image.fromarray(pattern()), "JPEG", exif=b"Exif\x00\x00II*\x00\xff\xff\xff\x7f\x01")
    assert pixels(data).shape == (6, 9, 3)


def test_sixteen_bit_grey_png_is_scaled_and_not_clipped():
    wide = np.random.default_rng(3).integers(0, 65536, (5, 7), dtype=np.uint16)
    data = encoded(Image.fromarray(wide), "PNG")
    expected = np.rint(wide * (255 / 65535)).astype(np.uint8)
    np.testing.assert_array_equal(pixels(data)[:, :, 1], expected)
    np.testing.assert_array_equal(pixels(wide)[:, :, 1], expected)
    tiff = encoded(Image.fromarray(wide), "TIFF")
    np.testing.assert_array_equal(pixels(tiff)[:, :, 1], expected)
    pgm = b"P5 7 5 65535\n" + wide.astype(">u2").tobytes()
    np.testing.assert_array_equal(pixels(pgm)[:, :, 1], expected)


def png(width, height, depth, colour, rows, extra=b""):
    """Write a PNG by its specification, for depths that Pillow does not write."""

    def chunk(name, data):
        return struct.pack(">I", len(data)) + name + data + struct.pack(">I", zlib.crc32(name + data))

    header = struct.pack(">IIBBBBB", width, height, depth, colour, 0, 0, 0)
    scan = b"".join(b"\0" + row for row in rows)
    return (
        b"\x89PNG\r\n\x1a\n"
        + chunk(b"IHDR", header)
        + extra
        + chunk(b"IDAT", zlib.compress(scan))
        + chunk(b"IEND", b"")
    )


def test_sixteen_bit_colour_and_alpha_png():
    wide = np.random.default_rng(4).integers(0, 65536, (3, 4, 3), dtype=np.uint16)
    data = png(4, 3, 16, 2, [row.astype(">u2").tobytes() for row in wide])
    assert np.abs(pixels(data).astype(int) - np.rint(wide / 257)).max() <= 1
    four = np.dstack([wide, np.full((3, 4), 65535, np.uint16)])
    four[0, 0, 3] = 0
    found = pixels(png(4, 3, 16, 6, [row.astype(">u2").tobytes() for row in four])).astype(int)
    np.testing.assert_array_equal(found[0, 0], 255)
    assert np.abs(found[1:] - np.rint(wide[1:] / 257)).max() <= 1


def test_transparent_value_of_a_sixteen_bit_grey_png_is_white():
    wide = np.array([[1000, 30000]], dtype=">u2")
    transparent = struct.pack(">I", 2) + b"tRNS" + b"\x03\xe8" + struct.pack(">I", zlib.crc32(b"tRNS\x03\xe8"))
    found = pixels(png(2, 1, 16, 0, [wide.tobytes()], transparent))
    assert found[0, 0, 0] == 255
    assert found[0, 1, 0] == round(30000 / 257)


@pytest.mark.parametrize("bits", [1, 2, 4])
def test_narrow_grey_png_uses_the_whole_range(bits):
    top = 2**bits - 1
    data = png(8 // bits, 1, bits, 0, [bytes([top << (8 - bits)])])
    assert pixels(data)[0, 0, 0] == 255
    assert pixels(data)[0, 1, 0] == 0


def test_float_tiff_uses_the_range_of_its_values():
    values = np.array([[0.0, 0.5, 1.0]], dtype=np.float32)
    np.testing.assert_array_equal(pixels(encoded(Image.fromarray(values), "TIFF"))[0, :, 0], [0, 128, 255])
    with pytest.raises(DataError, match="not finite"):
        decode_image(encoded(Image.fromarray(np.array([[np.nan, 1.0]], dtype=np.float32)), "TIFF"))


def test_cmyk_jpeg_has_its_colours():
    colours = {(255, 0, 0): "red", (0, 0, 255): "blue", (255, 255, 255): "white", (0, 0, 0): "black"}
    for colour in colours:
        data = encoded(Image.new("RGB", (16, 16), colour).convert("CMYK"), "JPEG", quality=95)
        assert Image.open(io.BytesIO(data)).mode == "CMYK"
        assert np.abs(pixels(data).astype(int) - colour).max() <= 4


def test_palette_and_its_transparency():
    image = Image.new("P", (3, 1))
    image.putpalette([255, 0, 0, 0, 255, 0, 0, 0, 255])
    image.putdata([0, 1, 2])
    np.testing.assert_array_equal(pixels(encoded(image, "PNG"))[0], [[255, 0, 0], [0, 255, 0], [0, 0, 255]])
    for kind in ("PNG", "GIF"):
        data = encoded(image, kind, transparency=1)
        np.testing.assert_array_equal(pixels(data)[0], [[255, 0, 0], [255, 255, 255], [0, 0, 255]])
    graded = encoded(image, "PNG", transparency=bytes([255, 0, 128]))
    np.testing.assert_array_equal(pixels(graded)[0], [[255, 0, 0], [255, 255, 255], [127, 127, 255]])


def test_alpha_is_laid_on_white():
    rgba = np.zeros((1, 3, 4), dtype=np.uint8)
    rgba[0, :, 3] = [0, 128, 255]
    for source in (
        encoded(Image.fromarray(rgba), "PNG"),
        Image.fromarray(rgba),
        rgba,
        rgba[:, :, [0, 3]],
        encoded(Image.fromarray(rgba).convert("LA"), "PNG"),
    ):
        np.testing.assert_array_equal(pixels(source)[0, :, 0], [255, 127, 0])
    premultiplied = Image.fromarray(rgba).convert("RGBa")
    np.testing.assert_array_equal(pixels(premultiplied)[0, :, 0], [255, 127, 0])


MODES = "1 L LA La P PA RGB RGBA RGBX RGBa CMYK YCbCr LAB HSV I I;16 I;16B F"


@pytest.mark.parametrize("mode", MODES.split(" "))
def test_every_pillow_mode_is_converted(mode):
    assert pixels(Image.new(mode, (4, 3))).shape == (3, 4, 3)


def test_lab_is_converted_through_its_profile():
    white = Image.new("LAB", (1, 1), (255, 128, 128))
    assert np.abs(pixels(white).astype(int) - 255).max() <= 2


@pytest.mark.parametrize("kind", ["GIF", "TIFF", "WEBP", "PNG"])
def test_the_first_picture_of_an_animation_is_taken(kind):
    first, second = Image.new("RGB", (4, 4), "red"), Image.new("RGB", (4, 4), "blue")
    options = {"lossless": True} if kind == "WEBP" else {}
    data = encoded(first, kind, save_all=True, append_images=[second], **options)
    np.testing.assert_array_equal(pixels(data)[0, 0], [255, 0, 0])


@pytest.mark.parametrize("kind", ["JPEG", "PNG", "GIF", "WEBP", "BMP", "TIFF", "PPM", "JPEG2000", "AVIF", "TGA"])
def test_every_format_is_read(kind, tmp_path):
    from PIL import features

    if kind == "AVIF" and not features.check("avif"):
        pytest.skip("this Pillow was built without AVIF")
    suffix = {"JPEG2000": "jp2"}.get(kind, kind.lower())
    path = tmp_path / f"x.{suffix}"
    Image.new("RGB", (8, 6), (200, 100, 50)).save(path, kind)
    assert np.abs(pixels(path).astype(int) - [200, 100, 50]).max() <= 8


def bomb(kind, width, height):
    """The header of an enormous image, by the formats' specifications."""
    if kind == "png":
        return png(width, height, 8, 2, [b""])
    if kind == "bmp":
        return (
            b"BM"
            + struct.pack("<IHHIIiiHHIIiiII", 100, 0, 0, 54, 40, width, height, 1, 24, 0, 0, 0, 0, 0, 0)
            + bytes(9)
        )
    if kind == "gif":
        return b"GIF89a" + struct.pack("<HHBBB", width, height, 0, 0, 0) + b"," + bytes(40)
    if kind == "webp":
        body = (
            b"VP8X"
            + struct.pack("<I", 10)
            + bytes(4)
            + (width - 1).to_bytes(3, "little")
            + (height - 1).to_bytes(3, "little")
        )
        return b"RIFF" + struct.pack("<I", 4 + len(body)) + b"WEBP" + body + bytes(8)
    data = bytearray(encoded(Image.new("RGB", (8, 8)), "JPEG"))
    frame = data.index(b"\xff\xc0")
    data[frame + 5 : frame + 9] = struct.pack(">HH", height, width)
    return bytes(data)


@pytest.mark.parametrize(
    ("kind", "size"),
    [
        ("png", (100_000, 100_000)),
        ("png", (2**31 - 1, 2**31 - 1)),
        ("bmp", (30_000, 30_000)),
        ("gif", (60_000, 60_000)),
        ("webp", (16_384 * 4, 16_384 * 4)),
        ("jpeg", (65_000, 65_000)),
        ("jpeg", (11_000, 11_000)),
        ("png", (9_473, 9_473)),
    ],
)
@pytest.mark.filterwarnings("ignore::PIL.Image.DecompressionBombWarning")
def test_a_decompression_bomb_is_refused_before_a_decoder_runs(kind, size, tmp_path, monkeypatch):
    from PIL import ImageFile

    def decoder(*args, **kwargs):
        raise AssertionError("a decoder ran")

    monkeypatch.setattr(ImageFile.ImageFile, "load", decoder)
    path = tmp_path / f"bomb.{kind}"
    path.write_bytes(bomb(kind, *size))
    with pytest.raises(DataError, match="pixels") as caught:
        decode_image(path)
    assert caught.value.subject == str(path)


def test_the_pixel_bound_is_inclusive_and_covers_every_source():
    square = np.zeros((10, 10, 3), dtype=np.uint8)
    for source in (
        square,
        Image.fromarray(square),
        encoded(Image.fromarray(square), "PNG"),
        encoded(Image.fromarray(square), "WEBP"),
    ):
        assert decode_image(source, max_pixels=100).size == (10, 10)
        with pytest.raises(DataError, match="at most 99 pixels"):
            decode_image(source, max_pixels=99)
    assert MAX_PIXELS == Image.MAX_IMAGE_PIXELS


@pytest.mark.parametrize("kind", ["JPEG", "PNG", "WEBP", "GIF", "TIFF", "BMP"])
def test_a_truncated_file_is_an_error_and_names_the_file(kind, tmp_path):
    data = encoded(Image.fromarray(pattern(64, 64)), kind)
    path = tmp_path / f"cut.{kind.lower()}"
    for share in (0.3, 0.6, 0.9):
        path.write_bytes(data[: int(len(data) * share)])
        with pytest.raises(DataError) as caught:
            decode_image(path)
        assert caught.value.subject == str(path)


def test_files_that_are_no_image_say_what_they_are(tmp_path):
    (tmp_path / "empty.jpg").touch()
    (tmp_path / "text.jpg").write_text("not an image at all")
    (tmp_path / "folder.jpg").mkdir()
    os.mkfifo(tmp_path / "pipe.jpg")  # opening it would wait for ever
    expected = {
        "empty": "empty file",
        "text": "no known image format",
        "folder": "no regular file",
        "pipe": "no regular file",
        "none": "no such file",
    }
    for name, reason in expected.items():
        with pytest.raises(DataError, match=reason):
            decode_image(tmp_path / f"{name}.jpg")
    with pytest.raises(DataError, match="null"):
        decode_image("a\0.jpg")


def test_postscript_is_not_handed_to_another_program(tmp_path):
    path = tmp_path / "x.png"
    path.write_bytes(b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 10 10\n%%EOF\n")
    with pytest.raises(DataError, match="no known image format"):
        decode_image(path)


@pytest.mark.filterwarnings("ignore")
def test_no_bytes_can_raise_anything_but_a_data_error():
    rng = np.random.default_rng(5)
    seeds = [
        encoded(Image.fromarray(pattern(24, 24)), kind)
        for kind in ("JPEG", "PNG", "WEBP", "GIF", "TIFF", "BMP", "PPM", "JPEG2000", "TGA")
    ]
    outcomes = {"image": 0, "error": 0}
    for trial in range(600):
        data = bytearray(seeds[trial % len(seeds)])
        for _ in range(int(rng.integers(1, 12))):
            data[int(rng.integers(0, len(data)))] = int(rng.integers(0, 256))
        if trial % 3 == 0:
            data = data[: int(rng.integers(0, len(data)))]
        if trial % 10 == 0:
            data = bytearray(rng.bytes(int(rng.integers(0, 200))))
        try:
            decode_image(bytes(data), max_pixels=1_000_000)
            outcomes["image"] += 1
        except DataError:
            outcomes["error"] += 1
    assert min(outcomes.values()) > 20


def test_the_users_image_is_left_as_it_was():
    image = Image.fromarray(np.zeros((2, 3, 4), dtype=np.uint8))
    decode_image(image)
    assert (image.mode, image.size) == ("RGBA", (3, 2))
