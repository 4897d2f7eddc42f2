"""Folders of images: what the names of files and folders say, and nothing more."""

import builtins
import os

import pytest

from graft.data import read, read_images
from graft.errors import DataError, RequestError


def tree(root, *names):
    """Create empty files, which no reading may open."""
    for name in names:
        path = root / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.touch()
    return root


def facts(domain, root):
    """(path below root, label, split) of each example."""
    paths = [os.path.relpath(path, root) for path in domain.inputs]
    labels = [None] * domain.size if domain.labels is None else domain.labels.tolist()
    splits = [None] * domain.size if domain.splits is None else domain.splits.tolist()
    return list(zip(paths, labels, splits, strict=True))


def test_a_folder_is_a_class_and_deeper_folders_only_arrange_it(tmp_path):
    root = tree(tmp_path, "dog/2.png", "cat/b.jpg", "cat/a.JPEG", "dog/more/3.webp", "dog/more/deep/1.gif")
    domain = read_images(root)
    assert facts(domain, root) == [
        ("cat/a.JPEG", "cat", None), ("cat/b.jpg", "cat", None), ("dog/2.png", "dog", None),
        ("dog/more/3.webp", "dog", None), ("dog/more/deep/1.gif", "dog", None),
    ]  # fmt: skip
    assert domain.name == tmp_path.name
    assert all(type(path) is str for path in domain.inputs)


@pytest.mark.parametrize("validation", ["val", "valid", "validation", "Val", "dev"])
def test_split_folders_are_given_splits(tmp_path, validation):
    root = tree(tmp_path, "train/a/1.jpg", f"{validation}/b/2.jpg", "test/a/3.jpg")
    assert sorted(facts(read_images(root), root), key=lambda row: row[2]) == [
        ("test/a/3.jpg", "a", "test"), ("train/a/1.jpg", "a", "train"), (f"{validation}/b/2.jpg", "b", "val"),
    ]  # fmt: skip


def test_images_in_no_class_folder_have_no_label(tmp_path):
    flat = tree(tmp_path / "flat", "b.jpg", "a.jpg")
    assert read_images(flat).labels is None
    assert facts(read_images(flat), flat) == [("a.jpg", None, None), ("b.jpg", None, None)]
    mixed = tree(tmp_path / "mixed", "x.jpg", "cat/a.jpg")
    assert facts(read_images(mixed), mixed) == [("x.jpg", None, None), ("cat/a.jpg", "cat", None)]
    unlabelled_test = tree(tmp_path / "kaggle", "train/cat/a.jpg", "test/1.jpg")
    assert facts(read_images(unlabelled_test), unlabelled_test) == [
        ("test/1.jpg", None, "test"),
        ("train/cat/a.jpg", "cat", "train"),
    ]
    assert read_images(mixed, labels=[]).labels is None


def test_a_class_may_be_called_train(tmp_path):
    root = tree(tmp_path, "car/1.jpg", "plane/2.jpg", "train/3.jpg")
    assert [label for _, label, _ in facts(read_images(root), root)] == ["car", "plane", "train"]
    assert read_images(root).splits is None


def test_split_folders_among_others_are_refused(tmp_path):
    root = tree(tmp_path, "train/a/1.jpg", "test/a/2.jpg", "extra/3.jpg")
    with pytest.raises(DataError, match=r"'test', 'train' beside 'extra'|'train', 'test' beside 'extra'"):
        read_images(root)


@pytest.mark.parametrize("splits", [False, True])
def test_what_is_no_image_is_passed_over_and_counted_once(tmp_path, splits):
    place = tmp_path / "train" if splits else tmp_path
    others = [
        "notes.txt",
        ".DS_Store",
        ".hidden/1.jpg",
        "cat/.2.jpg",
        "cat/Thumbs.db",
        "cat/a.heic",
        "__MACOSX/cat/a.jpg",
    ]
    tree(place, "cat/a.jpg", "dog/b.jpg", *others)
    (place / "empty").mkdir()
    tree(tmp_path, "README.md")
    domain = read_images(tmp_path)
    assert domain.size == 2
    names = ["notes.txt", ".DS_Store", ".hidden", "cat/.2.jpg", "cat/Thumbs.db", "cat/a.heic", "__MACOSX", "empty"]
    expected = ["README.md", *(f"train/{name}" if splits else name for name in names)]
    found = [os.path.relpath(path, tmp_path) for path in domain.skipped]
    assert sorted(found) == sorted(expected)
    assert domain.take([0]).skipped == ()


def test_links_are_followed_but_not_in_circles(tmp_path):
    root = tree(tmp_path / "data", "cat/a.jpg")
    tree(tmp_path / "elsewhere", "b.jpg")
    (root / "dog").symlink_to(tmp_path / "elsewhere", target_is_directory=True)
    (root / "cat" / "again").symlink_to(root / "cat", target_is_directory=True)
    assert [label for _, label, _ in facts(read_images(root), root)] == ["cat", "dog"]


def test_nothing_is_opened(tmp_path, monkeypatch):
    root = tree(tmp_path, "a/1.jpg", "b/2.jpg")
    monkeypatch.setattr(builtins, "open", lambda *args, **kwargs: pytest.fail("a file was opened"))
    assert read_images(root).size == 2


def test_read_recognises_a_folder_and_a_single_image(tmp_path):
    tree(tmp_path, "a/1.jpg")
    assert read(tmp_path)[0] == "image"
    modality, domain = read(tmp_path / "a" / "1.jpg")
    assert (modality, domain.inputs.tolist(), domain.labels) == ("image", [str(tmp_path / "a" / "1.jpg")], None)


def test_folders_without_images_are_refused(tmp_path):
    (tmp_path / "pictures").mkdir()
    with pytest.raises(DataError, match="empty folder"):
        read_images(tmp_path / "pictures")
    with pytest.raises(DataError, match=r"nothing there.*Did you mean 'pictures'"):
        read_images(tmp_path / "pictrues")
    tree(tmp_path / "pictures", "notes.txt")
    with pytest.raises(DataError, match="none among 1 entries"):
        read(tmp_path / "pictures")
    tree(tmp_path, "images/a/1.jpg")
    with pytest.raises(RequestError, match="labels"):
        read_images(tmp_path / "images", labels="species")


def test_a_folder_that_cannot_be_listed_is_named(tmp_path, monkeypatch):
    root = tree(tmp_path, "a/1.jpg", "b/2.jpg")
    scandir = os.scandir

    def refuse(path):
        if str(path).endswith("b"):
            raise PermissionError(13, "Permission denied")
        return scandir(path)

    monkeypatch.setattr(os, "scandir", refuse)
    with pytest.raises(DataError, match="Permission denied") as caught:
        read_images(root)
    assert caught.value.subject == str(root / "b")
