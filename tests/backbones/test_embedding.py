"""From inputs to features: order, batches, views, failures, the store, and interruption."""

import io
import shutil

import numpy as np
import pytest
import torch
from PIL import Image
from torch import nn

from graft.backbones import (
    FeatureStore,
    ImagePreprocessing,
    embed,
    iter_embed,
    load_backbone,
    module_backbone,
)
from graft.errors import DataError, RequestError, UnreadableInputsError

PLAN = ImagePreprocessing(size=(32, 32))


def network(seed=0):
    torch.manual_seed(seed)
    return nn.Sequential(nn.Conv2d(3, 8, 3, stride=2), nn.BatchNorm2d(8), nn.ReLU(), nn.Conv2d(8, 16, 3))


@pytest.fixture(scope="module")
def backbone():
    return module_backbone(network(), preprocessing=PLAN)


@pytest.fixture(scope="module")
def minilm():
    return load_backbone("minilm")


def picture(seed):
    rng = np.random.default_rng(seed)
    small = Image.fromarray(rng.integers(0, 256, (6, 8, 3), dtype=np.uint8))
    return small.resize((64, 48), Image.Resampling.BICUBIC)


@pytest.fixture(scope="module")
def files(tmp_path_factory):
    folder = tmp_path_factory.mktemp("pictures")
    for number in range(40):
        suffix, options = (("png", {}), ("jpg", {"quality": 90}))[number % 2]
        picture(number).save(folder / f"{number:02d}.{suffix}", **options)
    return sorted(folder.iterdir())


def counted(backbone, monkeypatch):
    """Return a list that collects how many inputs go through the network."""
    from graft.backbones.lanes import Lanes

    seen = []
    original = Lanes._forward

    def forward(self, batch):
        seen.append(len(batch) if isinstance(batch, torch.Tensor) else len(batch["input_ids"]))
        return original(self, batch)

    monkeypatch.setattr(Lanes, "_forward", forward)
    return seen


def test_rows_are_the_features_of_their_inputs(backbone, files):
    result = embed(backbone, files, store=False, precision="float32")
    assert result.rows.tolist() == list(range(40))
    for row in (0, 7, 39):
        alone = backbone.forward_features(backbone.collate(backbone.read([files[row]])))[0].numpy()
        assert np.allclose(result.features[row], alone, atol=1e-4)


@pytest.mark.parametrize("batch_size", [1, 3, 64])
@pytest.mark.parametrize("precision", ["float32", "bfloat16"])
def test_features_do_not_depend_on_the_batch(backbone, files, batch_size, precision):
    reference = embed(backbone, files, store=False, precision=precision).features
    other = embed(backbone, files[::-1], store=False, precision=precision, batch_size=batch_size).features[::-1]
    scale = np.abs(reference).max()
    assert np.abs(reference - other).max() <= (1e-5 if precision == "float32" else 2e-2) * scale


def test_decoded_pixels_do_not_depend_on_the_batch(backbone, files):
    together = backbone.read(files)
    assert all(torch.equal(one, backbone.read([path])[0]) for one, path in zip(together, files, strict=True))


def test_every_kind_of_input(backbone, files):
    wanted = backbone.embed(files[:4], store=False)
    png = [path for path in files if path.suffix == ".png"][:4]
    wanted = backbone.embed(png, store=False)
    stack = np.stack([np.asarray(Image.open(path)) for path in png])
    for inputs in (
        [str(path) for path in png],
        tuple(png),
        np.array([str(path) for path in png]),
        np.array(png, dtype=object),
        [path.read_bytes() for path in png],
        [Image.open(path) for path in png],
        stack,
    ):
        assert np.allclose(backbone.embed(inputs, store=False), wanted, atol=1e-5)


def test_series_and_columns(minilm):
    import pandas as pd
    import polars as pl

    texts = ["one", "two", "three"]
    wanted = minilm.embed(texts, store=False)
    for inputs in (pd.Series(texts, index=[7, 3, 5]), pl.Series(texts), np.array(texts, dtype=object)):
        assert np.allclose(minilm.embed(inputs, store=False), wanted, atol=1e-5)


def test_texts_come_back_in_order(minilm):
    rng = np.random.default_rng(0)
    words = ["ant", "bee", "cat", "dog", "elk", "fox", "gnu", "hen"]
    texts = [" ".join(rng.choice(words, rng.integers(1, 60))) for _ in range(120)]
    together = embed(minilm, texts, store=False, precision="float32").features
    alone = np.concatenate([minilm.embed([text], store=False, precision="float32") for text in texts[:20]])
    assert np.abs(together[:20] - alone).max() < 1e-5
    sevens = embed(minilm, texts, store=False, batch_size=7, precision="float32").features
    assert np.allclose(sevens, together, atol=1e-5)


@pytest.mark.parametrize("kind", ["images", "texts"])
def test_automatic_precision_agrees_with_float32(backbone, minilm, files, kind):
    one, inputs = (backbone, files) if kind == "images" else (minilm, ["a text", "another", "and a third one"])
    exact = embed(one, inputs, store=False, precision="float32").features
    found = embed(one, inputs, store=False, precision="auto").features
    cosine = (exact * found).sum(1) / np.linalg.norm(exact, axis=1) / np.linalg.norm(found, axis=1)
    assert cosine.mean() > 0.999


def test_parts_are_the_whole(minilm, monkeypatch):
    monkeypatch.setattr("graft.backbones.embedding._WINDOW", {"image": 7, "text": 7, "features": 7})
    texts = [f"text number {number}" for number in range(24)]
    texts[10] = None
    parts = list(iter_embed(minilm, texts, store=False))
    assert [len(part.rows) for part in parts] == [7, 6, 7, 3]
    whole = embed(minilm, texts, store=False, strict=False)
    assert np.array_equal(np.concatenate([part.rows for part in parts]), whole.rows)
    assert np.allclose(np.concatenate([part.features for part in parts]), whole.features, atol=2e-3)
    assert whole.failures == ((10, "None", "not a text but NoneType"),)


def test_bad_files_are_listed(backbone, files, tmp_path):
    for path in files[:5]:
        shutil.copy(path, tmp_path)
    good = sorted(tmp_path.iterdir())
    empty, cut = tmp_path / "empty.jpg", tmp_path / "cut.png"
    empty.write_bytes(b"")
    cut.write_bytes(good[0].read_bytes()[:60])
    inputs = [empty, *good, tmp_path / "absent.jpg", cut]
    for store in (False, tmp_path / "store", tmp_path / "store"):
        result = embed(backbone, inputs, store=store, strict=False)
        assert result.rows.tolist() == [1, 2, 3, 4, 5]
        assert [row for row, _, _ in result.failures] == [0, 6, 7]
        assert result.failures[0][1] == str(empty)
        assert "0 bytes" in result.failures[0][2]
        assert "no such file" in result.failures[1][2]
        assert np.allclose(result.features, backbone.embed(good, store=False), atol=1e-5)
        with pytest.raises(UnreadableInputsError) as caught:
            embed(backbone, inputs, store=store)
        assert len(caught.value.failures) == 3
        assert "strict=False" in caught.value.remedy
    with pytest.raises(UnreadableInputsError) as caught:
        embed(backbone, [empty, cut], store=False)
    assert "strict" not in caught.value.remedy  # nothing would be left


def test_nothing_readable_is_no_crash(backbone, tmp_path):
    result = embed(backbone, [tmp_path / "a.jpg", tmp_path / "b.jpg"], store=False, strict=False)
    assert result.features.shape == (0, 16)
    assert len(result.failures) == 2


@pytest.mark.parametrize(
    ("options", "inputs", "error"),
    [
        ({"precision": "float8"}, ["a"], RequestError),
        ({"batch_size": 0}, ["a"], RequestError),
        ({"views": 0}, ["a"], RequestError),
        ({"views": 2}, ["a"], RequestError),
        ({}, [], DataError),
        ({}, "a text alone", RequestError),
    ],
)
def test_what_cannot_be_used_is_said(minilm, options, inputs, error):
    with pytest.raises(error):
        embed(minilm, inputs, store=False, **options)


def test_views_are_seeded_by_content_and_kept(backbone, files, tmp_path, monkeypatch):
    result = embed(backbone, files[:6], views=3, store=tmp_path, precision="float32")
    assert result.features.shape == (6, 3, 16)
    plain = embed(backbone, files[:6], store=False, precision="float32").features
    assert np.allclose(result.features[:, 0], plain, atol=1e-5)
    assert not np.allclose(result.features[:, 1], result.features[:, 2])
    seen = counted(backbone, monkeypatch)
    again = embed(backbone, files[5::-1], views=3, store=tmp_path, precision="float32")
    assert np.array_equal(again.features, result.features[::-1])
    fewer = embed(backbone, files[:6], views=2, store=tmp_path, precision="float32")
    assert np.array_equal(fewer.features, result.features[:, :2])
    single = embed(backbone, files[:6], store=tmp_path, precision="float32").features
    assert np.array_equal(single, result.features[:, 0])
    assert sum(seen) == 0
    other = embed(backbone, files[:6], views=2, random_state=1, store=tmp_path, precision="float32")
    assert np.allclose(other.features[:, 0], plain, atol=1e-5)
    assert not np.allclose(other.features[:, 1], result.features[:, 1])
    alone = embed(backbone, files[3:4], views=3, store=False, precision="float32")
    assert np.allclose(alone.features[0], result.features[3], atol=1e-5)


def test_nothing_is_computed_twice(backbone, files, tmp_path, monkeypatch):
    seen = counted(backbone, monkeypatch)
    store = FeatureStore(tmp_path / "store")
    first = embed(backbone, files[:30], store=store)
    assert sum(seen) == 30
    again = embed(backbone, files[10:40], store=store)
    assert sum(seen) == 40
    assert np.array_equal(first.features[10:], again.features[:20])
    moved = tmp_path / "moved.png"
    shutil.copy(files[0], moved)
    assert np.array_equal(embed(backbone, [moved], store=store).features[0], first.features[0])
    as_bytes = embed(backbone, [files[0].read_bytes()], store=store)
    assert np.array_equal(as_bytes.features[0], first.features[0])
    assert sum(seen) == 40


def test_whatever_decides_features_changes_the_key(files, tmp_path, monkeypatch):
    store = FeatureStore(tmp_path / "store")
    path = tmp_path / "one.png"
    shutil.copy(files[0], path)
    base = module_backbone(network(), preprocessing=PLAN)
    seen = counted(base, monkeypatch)

    def computes(backbone, **options):
        before = sum(seen)
        embed(backbone, [path], store=store, **{"precision": "float32", **options})
        return sum(seen) > before

    assert computes(base)
    assert not computes(base)
    assert not computes(module_backbone(network(), preprocessing=PLAN, name="another name"))
    assert computes(module_backbone(network(seed=1), preprocessing=PLAN))  # weights
    coarse = ImagePreprocessing(size=(32, 32), interpolation="bilinear")
    assert computes(module_backbone(network(), preprocessing=coarse))  # preprocessing
    assert computes(base.with_output(layer="1"))  # layer
    assert computes(base.with_output(pooling="max"))  # pooling
    assert computes(base, precision="bfloat16")  # precision
    picture(99).save(path)
    assert computes(base)  # the file's content
    assert not computes(base)


def test_texts_are_found_again(minilm, tmp_path, monkeypatch):
    seen = counted(minilm, monkeypatch)
    texts = ["one", "two", "one", "three"]
    first = embed(minilm, texts, store=tmp_path)
    again = embed(minilm, ["three", "one"], store=tmp_path)
    assert np.array_equal(again.features, first.features[[3, 0]])
    assert sum(seen) == 4


def test_an_interrupted_embedding_resumes(backbone, files, tmp_path, monkeypatch):
    from graft.backbones.lanes import Lanes

    done = []
    original = Lanes._forward

    def interrupted(self, batch):
        if len(done) == 6:
            raise KeyboardInterrupt
        done.append(len(batch))
        return original(self, batch)

    # Two lanes have four batches under way: the seventh is begun when some of the six before it have come.
    monkeypatch.setattr("graft._runtime.cores", lambda: 2)
    monkeypatch.setattr(Lanes, "_forward", interrupted)
    with pytest.raises(KeyboardInterrupt):
        embed(backbone, files, store=tmp_path, batch_size=2)
    monkeypatch.setattr(Lanes, "_forward", original)
    threads = torch.get_num_threads()
    seen = counted(backbone, monkeypatch)
    result = embed(backbone, files, store=tmp_path, batch_size=2)
    assert 0 < sum(seen) < len(files)
    assert np.allclose(result.features, embed(backbone, files, store=False).features, rtol=0.02, atol=0.02)
    assert torch.get_num_threads() == threads


def test_a_full_disk_does_not_stop_the_work(backbone, files, tmp_path, monkeypatch):
    def full(*_arguments):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("graft.backbones.store.write_shard", full)
    with pytest.warns(UserWarning, match="No space left") as caught:
        result = embed(backbone, files, store=tmp_path)
    assert len([one for one in caught if "No space" in str(one.message)]) == 1
    assert len(result.rows) == len(files)


def test_threads_are_put_back(backbone, files):
    before = torch.get_num_threads()
    embed(backbone, files, store=False, batch_size=4)
    assert torch.get_num_threads() == before
    parts = iter_embed(backbone, files, store=False, batch_size=4)
    next(parts)
    parts.close()
    assert torch.get_num_threads() == before


def test_one_broken_vector_is_left_out():
    from scipy import sparse

    identity = load_backbone(None)
    table = np.ones((4, 3))
    table[2, 1] = np.nan
    for inputs in (table, sparse.csr_matrix(table)):
        result = embed(identity, inputs, strict=False)
        assert result.rows.tolist() == [0, 1, 3]
        assert result.failures == ((2, "row 2", "NaN or infinite values"),)
        with pytest.raises(UnreadableInputsError):
            embed(identity, inputs)
    for wrong in (np.ones(3), np.array([["a"]]), np.ones((2, 2, 2))):
        with pytest.raises(DataError):
            embed(identity, wrong)


def test_memory_does_not_grow_with_the_number_of_inputs(backbone, monkeypatch):
    """At no time are more inputs decoded and waiting than a few batches."""
    import threading

    from graft.backbones.lanes import Lanes

    alive, most, lock = set(), [], threading.Lock()
    original = Lanes._compute

    def compute(self, rows, sources, items):
        with lock:
            alive.update(rows)
            most.append(len(alive))
        result = original(self, rows, sources, items)
        with lock:
            alive.difference_update(rows)
        return result

    monkeypatch.setattr(Lanes, "_compute", compute)
    image = np.asarray(picture(0))
    embed(backbone, [image] * 400, store=False, batch_size=4)
    assert max(most) <= 4 * 16


def test_a_progress_bar_counts_every_input(backbone, files, monkeypatch):
    from contextlib import contextmanager

    totals = []

    @contextmanager
    def bar(_description, total, unit, *, enabled):
        counts = []
        yield counts.append
        totals.append((total, unit, sum(counts), enabled))

    monkeypatch.setattr("graft.backbones.embedding.progress_bar", bar)
    embed(backbone, [*files, "absent.jpg"], store=False, strict=False, progress=True)
    assert totals == [(41, "photos", 41, True)]


def test_animated_and_transparent_pictures_are_read(backbone):
    frames = [Image.new("P", (20, 20), color) for color in (1, 2)]
    stream = io.BytesIO()
    frames[0].save(stream, "GIF", save_all=True, append_images=frames[1:])
    clear = Image.new("RGBA", (20, 20), (255, 0, 0, 0))
    assert backbone.embed([stream.getvalue(), clear], store=False).shape == (2, 16)
