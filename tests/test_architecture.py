"""The floors of the house: a module imports only from floors below its own."""

import ast
from pathlib import Path

import pytest

SOURCE = Path(__file__).parent.parent / "src" / "graft"

FLOORS = {
    0: {"errors", "_checks", "_progress", "_runtime"},
    1: {"data", "heads", "metrics", "importance", "alignment", "balancing", "sharing", "regularization", "persistence"},
    2: {"backbones"},
    3: {"training"},
    4: {"techniques"},
    5: {"evaluation", "export"},
    6: {"reports"},
    7: {"cli", "__main__"},
}
# Siblings that may import each other: importer -> imported.
SIBLINGS = {("heads", "metrics"), ("_checks", "errors"), ("_runtime", "errors"), ("__main__", "cli")}
FLOOR_OF = {name: floor for floor, names in FLOORS.items() for name in names}
# What several techniques share; the techniques themselves never import each other.
SHARED_BY_TECHNIQUES = {
    "technique",
    "kept_heads",
    "labelled",
    "holding_out",
    "material",
    "phases",
    "settings",
    "objectives",
    "regularizers",
    "network_training",
    "guard",
    "mirroring",
    "choosing",
    "serving",
    "saving",
    "card",
    "curve",
}
SAYS_NOTHING = {"utils", "util", "common", "base", "helpers", "helper", "misc"}

MODULES = sorted(SOURCE.rglob("*.py"))


def place(path: Path) -> str:
    """The first part of a module's name below graft."""
    return path.relative_to(SOURCE).parts[0].removesuffix(".py")


def imports(path: Path) -> list[str]:
    """The modules of graft that a file names in its imports, also those inside functions."""
    found = []
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            found += [alias.name for alias in node.names]
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{path}: imports are absolute"
            found += [node.module] + [f"{node.module}.{alias.name}" for alias in node.names]
    return [name for name in found if name and name.startswith("graft.")]


def forbidden(importer: str, imported: str) -> bool:
    if imported == importer or (importer, imported) in SIBLINGS:
        return False
    return FLOOR_OF[imported] >= FLOOR_OF[importer]


@pytest.mark.parametrize("path", [p for p in MODULES if p.parent != SOURCE or p.stem != "__init__"], ids=str)
def test_imports_point_downwards(path):
    wrong = {
        name for name in imports(path) if name.split(".")[1] in FLOOR_OF and forbidden(place(path), name.split(".")[1])
    }
    assert not wrong, f"{path.relative_to(SOURCE)} imports from its own floor or from above"


def test_every_package_has_a_floor():
    assert {place(path) for path in MODULES} - {"__init__"} <= set(FLOOR_OF)


def test_the_rule_itself_refuses_what_it_must():
    assert forbidden("backbones", "techniques")
    assert forbidden("data", "backbones")
    assert forbidden("data", "heads")
    assert not forbidden("techniques", "heads")
    assert not forbidden("heads", "metrics")


def test_techniques_do_not_import_each_other():
    techniques = {path.stem for path in (SOURCE / "techniques").glob("*.py")} - SHARED_BY_TECHNIQUES
    for path in (SOURCE / "techniques").glob("*.py"):
        if path.stem in {"__init__", "loading"}:
            continue
        others = {name.split(".")[2] for name in imports(path) if name.startswith("graft.techniques.")}
        assert not (others & techniques) - {path.stem}, path.stem


def test_nothing_imports_the_command_line():
    for path in MODULES:
        if place(path) not in {"cli", "__main__"}:
            assert not any(name.split(".")[1] == "cli" for name in imports(path)), path


def test_modules_are_named_after_what_they_hold():
    assert not [path for path in MODULES if path.stem in SAYS_NOTHING]


def test_nothing_unpickles():
    """A file that a user hands in is never given to a loader that can run code."""
    for path in MODULES:
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            if isinstance(node, ast.Import):
                assert not {alias.name for alias in node.names} & {"pickle", "joblib", "dill", "cloudpickle"}, path
            if not (isinstance(node, ast.Call) and isinstance(node.func, ast.Attribute)):
                continue
            options = {keyword.arg: keyword.value for keyword in node.keywords}
            called = ast.unparse(node.func)
            if called == "torch.load":
                assert ast.unparse(options["weights_only"]) == "True", path
            if called in {"np.load", "numpy.load"}:
                assert "allow_pickle" not in options or ast.unparse(options["allow_pickle"]) == "False", path
            assert called not in {"torch.export.load", "torch.package.PackageImporter"}, path
