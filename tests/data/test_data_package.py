"""The package as a whole: imports nothing heavy by itself, its examples are true, real data sets are read."""

import doctest
import importlib
import pkgutil
import subprocess
import sys
from pathlib import Path

import pytest

import graft.data
from graft.data import check, few_shot, infer_task, read, split

SHARED = Path(__file__).parents[3] / "shared" / "data"


def real(name):
    if not (SHARED / name).exists():
        pytest.skip(f"the real data set {name} is not at {SHARED}")
    return SHARED / name


def test_the_package_imports_what_is_asked_for_and_nothing_heavy():
    code = (
        "import sys, graft.data; assert 'numpy' not in sys.modules;"
        "from graft.data import Domain, Task, read, split, check, few_shot, decode_image, content_hash;"
        "heavy = {'torch', 'PIL', 'pyarrow', 'pandas', 'polars', 'sklearn', 'scipy', 'rich'} & set(sys.modules);"
        "assert not heavy, heavy"
    )
    subprocess.run([sys.executable, "-c", code], check=True)


def test_every_public_name_is_there():
    assert set(graft.data.__all__) == set(graft.data._HOME)
    for name in graft.data.__all__:
        assert getattr(graft.data, name) is not None
    with pytest.raises(AttributeError, match="nothing_of_the_sort"):
        _ = graft.data.nothing_of_the_sort


@pytest.mark.parametrize(
    "name", sorted(module.name for module in pkgutil.iter_modules(graft.data.__path__) if not module.ispkg)
)
def test_the_examples_are_true(name):
    assert doctest.testmod(importlib.import_module(f"graft.data.{name}")).failed == 0


def test_photos_in_a_folder_per_class():
    modality, domain = read(real("caltech101_20x40"))
    task = infer_task(domain.labels)
    assert (modality, domain.size, len(task.classes)) == ("image", 800, 20)
    assert list(task.classes) == sorted(task.classes)
    few, rest = few_shot(domain, 5, random_state=0)
    assert (few.size, rest.size) == (100, 700)
    assert [len(set(part.labels)) for part in split(domain).values()] == [20, 20]


def test_photos_are_examined_and_sound():
    report = check(real("pacs_34") / "photo")
    assert (report.modality, report.examples, report.harmful) == ("image", 238, False)


def test_messages_with_given_splits():
    modality, domain = read(real("banking77"))
    assert (modality, domain.size, len(infer_task(domain.labels).classes)) == ("text", 13083, 77)
    assert (domain.split("train").size, domain.split("test").size) == (10003, 3080)
    # The published files hold some messages twice, a few of them on both sides.
    assert check(domain).problems[0].kind == "duplicate text across splits"


def test_a_table_of_measurements():
    modality, domain = read(real("wine_quality") / "winequality-red.csv", labels="quality")
    assert (modality, domain.inputs.shape, domain.labels.dtype.kind) == ("features", (1599, 11), "i")
