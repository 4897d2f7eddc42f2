"""The public names, and what it costs to import them."""

import json
import subprocess
import sys

import pytest

import graft


def test_the_names_are_all_there_and_documented():
    for name in graft.__all__:
        assert getattr(graft, name) is not None, name
        assert getattr(graft, name).__doc__, name


def test_an_unknown_name_is_an_attribute_error():
    with pytest.raises(AttributeError, match="nothing_of_the_kind"):
        _ = graft.nothing_of_the_kind


@pytest.mark.parametrize("statement", ["import graft", "import graft.cli"])
def test_importing_loads_no_heavy_library(statement):
    code = f"import sys, json; {statement}; print(json.dumps(sorted(m for m in sys.modules if '.' not in m)))"
    loaded = set(json.loads(subprocess.run([sys.executable, "-c", code], capture_output=True, check=True).stdout))
    assert "graft" in loaded
    heavy = {
        "numpy",
        "torch",
        "timm",
        "transformers",
        "torchvision",
        "sklearn",
        "scipy",
        "pyarrow",
        "PIL",
        "pandas",
        "matplotlib",
    }
    assert not loaded & heavy
