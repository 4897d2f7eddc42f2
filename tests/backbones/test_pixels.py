"""The decode path: held to Pillow's, and to the transform of timm."""

import io

import numpy as np
import pytest
import torch
from PIL import ExifTags, Image
from sklearn.datasets import load_sample_images

from graft.backbones import ImagePreprocessing
from graft.backbones.backbone import Views
from graft.backbones.image_backbone import read_image
from graft.backbones.image_views import random_view
from graft.backbones.pixels import fit_pixels, read_pixels, resize_pixels
from graft.data.images import decode_image
from graft.errors import DataError


@pytest.fixture(scope="module")
def photo():
    return Image.fromarray(load_sample_images().images[0])  # 640 x 427


def encoded(image, format="JPEG", **options):
    stream = io.BytesIO()
    image.save(stream, format, **options)
    return stream.getvalue()


@pytest.mark.parametrize("subsampling", [0, 1, 2])
@pytest.mark.parametrize("progressive", [False, True])
def test_jpeg_data_decode_to_the_pixels_of_pillow(photo, subsampling, progressive):
    data = encoded(photo, subsampling=subsampling, progressive=progressive)
    ours = read_pixels(data).permute(1, 2, 0).numpy().astype(int)
    assert np.abs(ours - np.asarray(decode_image(data)).astype(int)).max() <= 1


@pytest.mark.parametrize("orientation", range(1, 9))
def test_orientation_is_applied(photo, orientation):
    exif = Image.Exif()
    exif[ExifTags.Base.Orientation] = orientation
    data = encoded(photo, exif=exif)
    ours = read_pixels(data).permute(1, 2, 0).numpy().astype(int)
    upright = np.asarray(decode_image(data)).astype(int)
    assert ours.shape == upright.shape
    assert np.abs(ours - upright).max() <= 1


@pytest.mark.parametrize("mode", ["L", "CMYK"])
def test_other_colours_take_the_same_pixels(photo, mode):
    data = encoded(photo.convert(mode))
    ours = read_pixels(data).permute(1, 2, 0).numpy().astype(int)
    assert np.abs(ours - np.asarray(decode_image(data)).astype(int)).max() <= 1


def test_every_kind_of_source_gives_the_same_pixels(photo, tmp_path):
    path = tmp_path / "photo.png"
    photo.save(path)
    expected = np.asarray(photo)
    for source in (path, str(path), path.read_bytes(), photo, expected):
        assert np.array_equal(read_pixels(source).permute(1, 2, 0).numpy(), expected)


def test_damaged_files_are_data_errors(photo, tmp_path):
    data = encoded(photo)
    for name, content in (("cut", data[: len(data) // 3]), ("empty", b""), ("text", b"not a picture")):
        path = tmp_path / f"{name}.jpg"
        path.write_bytes(content)
        with pytest.raises(DataError):
            read_pixels(path)
    with pytest.raises(DataError):
        read_pixels(tmp_path / "absent.jpg")


@pytest.mark.parametrize("interpolation", ["bilinear", "bicubic"])
@pytest.mark.parametrize("size", [(128, 192), (57, 33), (500, 700), (427, 30), (30, 640)])
def test_resizing_is_within_one_grey_level_of_pillow(photo, interpolation, size):
    ours = resize_pixels(read_pixels(photo), size, interpolation).permute(1, 2, 0).numpy().astype(int)
    method = {"bilinear": Image.Resampling.BILINEAR, "bicubic": Image.Resampling.BICUBIC}[interpolation]
    theirs = np.asarray(photo.resize(size[::-1], method)).astype(int)
    difference = np.abs(ours - theirs)
    # Where bicubic enlarges, a level more in a pixel of a million: overshoot multiplies the rounding between passes.
    assert difference.max() <= 1 + (interpolation == "bicubic" and size > (427, 640))
    assert (difference > 1).mean() < 1e-5


@pytest.mark.parametrize("interpolation", ["bilinear", "bicubic"])
@pytest.mark.parametrize("crop_mode", ["center", "squash"])
@pytest.mark.parametrize("crop", [0.875, 0.9, 1.0])
@pytest.mark.parametrize("turned", [False, True])
def test_preprocessing_is_that_of_timm(photo, interpolation, crop_mode, crop, turned):
    from graft.backbones.torchvision_repair import import_torchvision

    import_torchvision()
    from timm.data import create_transform

    picture = photo.transpose(Image.Transpose.ROTATE_90) if turned else photo
    plan = ImagePreprocessing(size=(224, 224), interpolation=interpolation, crop=crop, crop_mode=crop_mode)
    transform = create_transform(
        (3, 224, 224), interpolation=interpolation, crop_pct=crop, crop_mode=crop_mode, mean=(0, 0, 0), std=(1, 1, 1)
    )
    theirs = (transform(picture) * 255).round().numpy()
    ours = fit_pixels(read_pixels(picture), plan).numpy().astype(float)
    assert ours.shape == theirs.shape
    difference = np.abs(ours - theirs)
    # Pillow resizes some tall pictures columns first: where both sides change unequally, bicubic's overshoot is then
    # rounded elsewhere.
    other_order = interpolation == "bicubic" and crop_mode == "squash" and turned
    assert difference.max() <= (3 if other_order else 1)
    assert (difference > 1).mean() < 2e-4


def test_an_input_of_another_shape_is_filled():
    tall = torch.randint(0, 256, (3, 300, 90), dtype=torch.uint8)
    assert fit_pixels(tall, ImagePreprocessing(size=(64, 128))).shape == (3, 64, 128)
    assert fit_pixels(tall[:, :5, :7], ImagePreprocessing(size=(64, 64))).shape == (3, 64, 64)
    assert fit_pixels(tall[:, :1, :1], ImagePreprocessing(size=(32, 32))).shape == (3, 32, 32)


def test_what_is_mirrored_changes_nothing_else(photo):
    plan = ImagePreprocessing(size=(64, 64))

    def view(mirror, number):
        return read_image(photo, plan, Views((number,), mirror=mirror))

    assert torch.equal(view("random", 0), view("never", 0))
    for number in range(9):
        turned = view("never", number).flip(2)
        assert torch.equal(view("always", number), turned)
        assert any(torch.equal(view("random", number), one) for one in (turned, turned.flip(2)))
    assert 8 < sum(torch.equal(view("random", number), view("never", number)) for number in range(1, 33)) < 24


@pytest.mark.parametrize("magnitude", [0.0, 6.0])
def test_views_depend_on_seed_content_and_number_alone(photo, magnitude):
    pixels, plan = read_pixels(photo), ImagePreprocessing(size=(64, 64))

    def view(seed, key, number, source=pixels):
        return random_view(source, plan, Views(seed=seed, magnitude=magnitude), key, number)

    one = view(0, b"key", 1)
    assert torch.equal(one, view(0, b"key", 1))
    for seed, key, number in ((1, b"key", 1), (0, b"other", 1), (0, b"key", 2)):
        assert not torch.equal(one, view(seed, key, number))
    assert one.shape == (3, 64, 64)
    for size in ((1, 1), (2, 400), (400, 2)):
        assert view(0, b"k", 1, torch.zeros(3, *size, dtype=torch.uint8)).shape == (3, 64, 64)
