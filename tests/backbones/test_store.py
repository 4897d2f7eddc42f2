"""The feature store: what decides a key, what survives, and two processes at once."""

import dataclasses
import errno
import hashlib
import os
import subprocess
import sys
import textwrap
import time
import warnings

import numpy as np
import pytest

from graft.backbones import FeatureStore, shard
from graft.backbones.store import Space, default_root, open_store

SPACE = Space("net", "0" * 64, "{}", None, None, "float32", "plain", 4)


def keys(*names):
    return [hashlib.blake2b(str(name).encode(), digest_size=16).digest() for name in names]


def rows(count, seed=0, width=4):
    return np.random.default_rng(seed).normal(size=(count, width)).astype(np.float32)


@pytest.fixture
def store(tmp_path):
    return FeatureStore(tmp_path / "store")


def shards(store):
    return sorted(store.root.rglob("*.features"))


def test_what_is_written_is_read_by_any_store(store):
    features = rows(50)
    store.write(SPACE, keys(*range(50)), features)
    for reader in (store, FeatureStore(store.root)):
        found, read = reader.read(SPACE, keys(*range(60)))
        assert found.tolist() == [True] * 50 + [False] * 10
        assert np.array_equal(read[:50], features)
        assert not read[50:].any()
        order = np.random.default_rng(1).permutation(50)
        assert np.array_equal(reader.read(SPACE, keys(*order))[1], features[order])


def test_several_writes_are_one_set(store):
    for part in range(5):
        store.write(SPACE, keys(*range(part * 10, part * 10 + 10)), rows(10, seed=part))
    found, read = store.read(SPACE, keys(*range(50)))
    assert found.all()
    assert np.array_equal(read, np.concatenate([rows(10, seed=part) for part in range(5)]))


def test_the_same_key_twice_is_one_row(store):
    store.write(SPACE, keys("a", "b", "a"), np.array([[1] * 4, [2] * 4, [1] * 4], np.float32))
    found, read = store.read(SPACE, keys("a", "a", "b"))
    assert found.all()
    assert read[:, 0].tolist() == [1, 1, 2]
    assert store.entries()[0].rows == 2


@pytest.mark.parametrize(
    "change",
    [
        {"weights": "1" * 64},
        {"preprocessing": '{"crop": 1}'},
        {"layer": ("blocks.1",)},
        {"pooling": "gem"},
        {"precision": "bfloat16"},
        {"view": "crop seed 0 number 1"},
        {"feature_dim": 5},
    ],
    ids=lambda change: next(iter(change)),
)
def test_every_part_of_a_space_changes_its_key(store, change):
    other = dataclasses.replace(SPACE, **change)
    assert other.key != SPACE.key
    store.write(SPACE, keys("a"), rows(1))
    assert not store.read(other, keys("a"))[0].any()


def test_the_name_of_a_network_does_not_change_the_key():
    assert dataclasses.replace(SPACE, network="other").key == SPACE.key


def test_names_are_safe_on_any_file_system(store):
    store.write(SPACE, keys("a"), rows(1))
    for path in store.root.rglob("*"):
        assert not set(path.name) & set('<>:"/\\|?*')
        assert path.name == path.name.rstrip(". ")
        assert len(path.name) < 60


@pytest.mark.parametrize("damage", ["cut", "empty", "magic", "keys", "features", "longer"])
def test_a_damaged_shard_is_as_if_it_were_not_there(store, damage):
    store.write(SPACE, keys("a", "b"), rows(2))
    path = shards(store)[0]
    data = bytearray(path.read_bytes())
    if damage == "cut":
        data = data[:-3]
    elif damage == "empty":
        data = bytearray()
    elif damage == "longer":
        data += b"x"
    else:
        data[{"magic": 0, "keys": 70, "features": len(data) - 2}[damage]] ^= 0xFF
    path.write_bytes(data)
    fresh = FeatureStore(store.root)
    found, read = fresh.read(SPACE, keys("a", "b"))
    assert not found.any()
    assert not read.any()
    fresh.write(SPACE, keys("a"), rows(1, seed=9))
    assert np.array_equal(fresh.read(SPACE, keys("a"))[1], rows(1, seed=9))


def test_a_shard_that_another_process_removed_is_a_miss(store):
    store.write(SPACE, keys("a"), rows(1))
    assert store.read(SPACE, keys("a"))[0].all()
    shards(store)[0].unlink()
    assert not store.read(SPACE, keys("a"))[0].any()


def test_a_write_that_was_cut_off_leaves_nothing(store, monkeypatch):
    def interrupted(_source, _target):
        raise KeyboardInterrupt

    monkeypatch.setattr(shard.os, "replace", interrupted)
    with pytest.raises(KeyboardInterrupt):
        shard.write_shard(store.root / "x.features", keys("a"), rows(1)) if store.root.mkdir() is None else None
    assert list(store.root.iterdir()) == []


def test_a_full_disk_is_said_once_and_work_goes_on(store, monkeypatch):
    def full(*_arguments):
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    monkeypatch.setattr("graft.backbones.store.write_shard", full)
    with pytest.warns(UserWarning, match="No space left"):
        store.write(SPACE, keys("a"), rows(1))
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        store.write(SPACE, keys("b"), rows(1))
    assert not store.read(SPACE, keys("a", "b"))[0].any()


def test_a_folder_that_cannot_be_made_is_said(tmp_path):
    (tmp_path / "file").write_text("")
    blocked = FeatureStore(tmp_path / "file" / "store")
    with pytest.warns(UserWarning, match="GRAFT_STORE"):
        blocked.write(SPACE, keys("a"), rows(1))
    assert blocked.entries() == []
    assert blocked.size == 0


def test_the_least_recently_used_go_first(tmp_path):
    one_shard = 64 + 100 * (16 + 4 * 4)
    store = FeatureStore(tmp_path, max_bytes=3 * one_shard)
    now = time.time()
    for part in range(3):
        store.write(SPACE, keys(*range(part * 100, part * 100 + 100)), rows(100, seed=part))
        newest = max(shards(store), key=lambda path: path.stat().st_mtime_ns)
        os.utime(newest, (now - 1000 + part, now - 1000 + part))
    assert store.size == 3 * one_shard
    store.read(SPACE, keys(*range(100)))  # the oldest is used again
    store.write(SPACE, keys(*range(300, 400)), rows(100, seed=3))
    assert store.size <= 3 * one_shard
    held = [FeatureStore(tmp_path).read(SPACE, keys(part * 100))[0][0] for part in range(4)]
    assert held == [True, False, True, True]


def test_many_small_shards_become_one(store):
    for part in range(40):
        store.write(SPACE, keys(part, part + 1000), rows(2, seed=part))
    assert len(shards(store)) < 40
    found, read = FeatureStore(store.root).read(SPACE, keys(*range(40)))
    assert found.all()
    assert np.array_equal(read, np.stack([rows(2, seed=part)[0] for part in range(40)]))


def test_entries_and_clear(store):
    other = dataclasses.replace(SPACE, network="other", weights="2" * 64)
    store.write(SPACE, keys(*range(5)), rows(5))
    store.write(other, keys(*range(3)), rows(3))
    listed = {entry.network: entry for entry in store.entries()}
    assert (listed["net"].rows, listed["other"].rows) == (5, 3)
    assert sum(entry.bytes for entry in listed.values()) == store.size > 0
    assert store.clear(network="net") > 0
    assert [entry.network for entry in store.entries()] == ["other"]
    store.clear()
    assert store.size == 0
    assert store.entries() == []
    assert not store.read(other, keys(0))[0].any()


def test_where_the_store_lies(monkeypatch, tmp_path):
    monkeypatch.setenv("GRAFT_STORE", str(tmp_path / "mine"))
    assert default_root() == tmp_path / "mine"
    monkeypatch.delenv("GRAFT_STORE")
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    if os.name != "nt":
        assert default_root() == tmp_path / "cache" / "graft" / "store"
    assert open_store(False) is None
    assert open_store(tmp_path).root == tmp_path.resolve()
    one = FeatureStore(tmp_path)
    assert open_store(one) is one


WRITER = """
import sys, hashlib, numpy as np
from graft.backbones import FeatureStore
from graft.backbones.store import Space
who, root = int(sys.argv[1]), sys.argv[2]
store = FeatureStore(root)
space = Space("net", "0" * 64, "{}", None, None, "float32", "plain", 4)
def key(i): return hashlib.blake2b(str(i).encode(), digest_size=16).digest()
for turn in range(60):
    ids = [turn * 20 + i for i in range(20)]
    if turn % 2 == who or turn % 5 == 0:
        store.write(space, [key(i) for i in ids], np.array([[i] * 4 for i in ids], np.float32))
    asked = list(range(1200))
    found, values = store.read(space, [key(i) for i in asked])
    assert (values[found, 0] == np.flatnonzero(found)).all(), "foreign or torn features"
    mine = [i for i in asked if i // 20 <= turn and ((i // 20) % 2 == who or (i // 20) % 5 == 0)]
    assert found[mine].all(), "lost what was written"
"""


def test_two_processes_at_once(tmp_path):
    """Both write, read and merge; neither ever reads what belongs to another key, nor loses what it wrote."""
    workers = [
        subprocess.Popen(
            [sys.executable, "-c", textwrap.dedent(WRITER), str(who), str(tmp_path)], stderr=subprocess.PIPE, text=True
        )
        for who in range(2)
    ]
    for worker in workers:
        _, errors = worker.communicate(timeout=600)
        assert worker.returncode == 0, errors
    found, values = FeatureStore(tmp_path).read(SPACE, keys(*range(1200)))
    assert found.all()
    assert np.array_equal(values[:, 0], np.arange(1200))
    assert not list(tmp_path.rglob("*.tmp"))
