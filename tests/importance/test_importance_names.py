"""The package's names are what they should be, whatever was imported before."""

import importlib
import pkgutil
from types import ModuleType

import pytest

from graft import importance


@pytest.mark.parametrize("name", importance.__all__)
def test_no_module_hides_a_public_name(name):
    for module in pkgutil.iter_modules(importance.__path__):
        importlib.import_module(f"graft.importance.{module.name}")
    found = getattr(importance, name)
    assert not isinstance(found, ModuleType)
    if name in {"DENSITY_RATIOS", "LABEL_SHIFTS"}:
        assert all(callable(importance.method(key)) for key in found)
    else:
        assert callable(found)
        assert found.__name__ == name


def test_methods_are_public_under_their_own_names():
    for key in importance.DENSITY_RATIOS | importance.LABEL_SHIFTS:
        function = importance.method(key)
        assert getattr(importance, function.__name__) is function
