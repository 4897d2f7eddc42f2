"""`content_hash`: equal content, equal digest; anything else, another."""

import io
import itertools
import os

import numpy as np
import pytest
import scipy.sparse
from PIL import Image

from graft.data import content, content_hash, image_bytes
from graft.errors import DataError


def test_a_file_its_copy_and_its_bytes_are_the_same_and_an_edit_is_not(tmp_path):
    first, second = tmp_path / "a.png", tmp_path / "b.png"
    Image.new("RGB", (5, 4), "red").save(first)
    second.write_bytes(first.read_bytes())
    digest = content_hash(first)
    assert len(digest) == 16
    assert (
        digest == content_hash(str(first)) == content_hash(second) == content_hash(first.read_bytes(), modality="image")
    )
    assert image_bytes(first) == first.read_bytes()
    second.write_bytes(first.read_bytes() + b"\0")
    assert content_hash(second) != digest


def test_a_file_that_did_not_change_is_read_once_and_one_that_did_again(tmp_path, monkeypatch):
    path = tmp_path / "a.jpg"
    path.write_bytes(b"first")
    opened = []
    plain = open

    def watched(name, *rest):
        opened.append(name)
        return plain(name, *rest)

    monkeypatch.setattr("builtins.open", watched)
    monkeypatch.setattr(content, "_SETTLED", 10**18)
    young = content_hash(path)
    assert content_hash(path) == young
    assert len(opened) == 2  # changed a moment ago: never remembered
    monkeypatch.setattr(content, "_SETTLED", -(10**18))
    opened.clear()
    assert content_hash(path) == content_hash(str(path)) == young
    assert len(opened) == 1
    times = path.stat()
    while path.stat().st_ctime_ns == times.st_ctime_ns:  # until the clock of the file system has moved on
        with plain(path, "r+b") as file:
            file.write(b"other")  # as long as before, in the same place
        os.utime(path, ns=(times.st_atime_ns, times.st_mtime_ns))  # and as old
    assert path.stat().st_size == times.st_size
    assert path.stat().st_mtime_ns == times.st_mtime_ns
    assert content_hash(path) != young
    path.unlink()
    with pytest.raises(DataError, match="no such file"):
        content_hash(path)


def test_a_full_memory_of_digests_starts_anew(tmp_path, monkeypatch):
    monkeypatch.setattr(content, "_SETTLED", -(10**18))
    monkeypatch.setattr(content, "_MOST_REMEMBERED", 3)
    paths = [tmp_path / f"{number}.jpg" for number in range(8)]
    for number, path in enumerate(paths):
        path.write_bytes(bytes([number]))
    digests = [content_hash(path) for path in paths]
    assert len(set(digests)) == 8
    assert [content_hash(path) for path in paths] == digests
    assert len(content._remembered) <= 3


def test_different_contents_never_share_a_digest():
    import torch

    square = np.arange(12, dtype=np.uint8).reshape(3, 4)
    exif = Image.Exif()
    exif[0x0112] = 6
    stream = io.BytesIO()
    Image.fromarray(square).save(stream, "PNG", exif=exif)
    palette = Image.fromarray(square).convert("P")
    other = palette.copy()
    other.putpalette(list(reversed(palette.getpalette())))
    inputs = [
        "a",
        "b",
        "",
        "a ",
        b"a",
        square,
        square.T,
        square.astype(np.int16),
        square.reshape(4, 3),
        square.astype(float),
        np.zeros(3),
        np.zeros(4),
        np.zeros(3, dtype=np.float32),
        np.zeros((3, 1)),
        Image.fromarray(square),
        Image.open(stream),
        palette,
        other,
        torch.zeros(3),
        torch.zeros(3, dtype=torch.bfloat16),
        torch.zeros(3, 1),
        scipy.sparse.csr_matrix([[0, 1, 0]]),
        scipy.sparse.csr_matrix([[1, 0, 0]]),
        scipy.sparse.csr_matrix([[0, 1, 0, 0]]),
    ]
    digests = [content_hash(value) for value in inputs]
    for (i, one), (j, two) in itertools.combinations(enumerate(digests), 2):
        assert one != two, (inputs[i], inputs[j])


def test_the_layout_in_memory_does_not_matter():
    square = np.random.default_rng(0).random((4, 6))
    assert content_hash(np.asfortranarray(square)) == content_hash(square)
    assert content_hash(np.repeat(square, 2, axis=1)[:, ::2]) == content_hash(square)
    explicit = scipy.sparse.csr_matrix((np.array([2.0, 0.0]), np.array([1, 2]), np.array([0, 2])), shape=(1, 4))
    assert content_hash(explicit) == content_hash(scipy.sparse.csr_matrix([[0.0, 2.0, 0.0, 0.0]]))


def test_modalities_do_not_collide():
    row = np.arange(4.0)
    assert content_hash(row, modality="features") != content_hash(row, modality="image")
    assert content_hash("a.jpg", modality="text") == content_hash("a.jpg")  # no such file: a text
    with pytest.raises(DataError, match="no such file"):
        content_hash("a.jpg", modality="image")


def test_unicode_that_is_not_valid_is_still_content():
    assert content_hash("\ud800") != content_hash("\ud801")
