"""All names used by the scripts of research/ exist, as the scripts run rarely."""

from __future__ import annotations

import ast
import importlib
import sys
import warnings
from collections.abc import Iterator
from pathlib import Path
from types import ModuleType

import pytest

REPOSITORY = Path(__file__).resolve().parents[3]
SCRIPTS = {
    ".".join(file.relative_to(REPOSITORY).with_suffix("").parts): file
    for file in sorted((REPOSITORY / "research").rglob("*.py"))
    if file.name != "__init__.py"
}


@pytest.fixture(scope="module")
def failures():
    """Why scripts could not be imported, and the module that is missing, by script."""
    found, loaded = {}, {*sys.modules}
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        for name, file in SCRIPTS.items():
            try:
                assert Path(importlib.import_module(name).__file__) == file
            except Exception as failed:  # noqa: BLE001
                missing_module = failed.name if isinstance(failed, ModuleNotFoundError) else None
                found[name] = f"{type(failed).__name__}: {failed}", missing_module
    for name in SCRIPTS.keys() & {*sys.modules} - loaded:
        del sys.modules[name]
    return found


def test_every_script_can_be_imported(failures):
    """Except where a package is not installed that is not of this project."""
    own = {"lesionlens", "research", "tests", None}
    broken = {
        name: message
        for name, (message, missing) in failures.items()
        if (missing and missing.split(".")[0]) in own
    }
    assert not broken


def test_what_scripts_take_from_the_package_is_there():
    """Also inside functions, and in programs in strings, which an import does not reach."""
    missing = {
        name: [gone for tree in programs(script.read_text()) for gone in missing_in(tree)]
        for name, script in SCRIPTS.items()
    }
    assert not {name: gone for name, gone in missing.items() if gone}


def test_scripts_that_can_be_run_read_their_command_line():
    """So that --help prints the description and runs nothing."""
    texts = {name: script.read_text() for name, script in SCRIPTS.items()}
    assert [name for name, text in texts.items() if "__main__" in text]
    assert not [
        name
        for name, text in texts.items()
        if "__main__" in text and ".parse_args(" not in text and "typer.run(" not in text
    ]


def test_a_name_that_is_gone_is_found():
    text = (
        "from lesionlens.network.synth import tumour\n"
        "def late():\n    from lesionlens.base.grid import Gird\n    return tumour.plan_leisons\n"
        "patch.object(tumour, 'misure', None)\n"
        "CHILD = 'from lesionlens.base import lables'\n"
    )
    assert [name for tree in programs(text) for name in missing_in(tree)] == [
        "lesionlens.base.grid.Gird",
        "tumour.misure",
        "tumour.plan_leisons",
        "lesionlens.base.lables",
    ]


def programs(text: str) -> Iterator[ast.Module]:
    """Yield the syntax trees of a script and of the programs in its strings."""
    tree = ast.parse(text)
    yield tree
    for node in ast.walk(tree):
        if isinstance(node, ast.Constant) and "from lesionlens" in str(node.value):
            try:
                yield ast.parse(str(node.value))
            except SyntaxError:
                continue  # prose, or part of a program


def missing_in(tree: ast.Module) -> list[str]:
    """Return the names of the package that a program uses and that do not exist."""
    missing, modules = [], {}
    for node in ast.walk(tree):
        if isinstance(node, ast.ImportFrom) and (node.module or "").startswith("lesionlens"):
            for alias in node.names:
                found = attribute_of(node.module or "", alias.name)
                if found is None:
                    missing.append(f"{node.module}.{alias.name}")
                elif isinstance(found, ModuleType):
                    modules[alias.asname or alias.name] = found
    for owner, name in (pair for node in ast.walk(tree) for pair in uses_of(node)):
        module = modules.get(owner)
        if module is not None and attribute_of(module.__name__, name) is None:
            missing.append(f"{owner}.{name}")
    return missing


def uses_of(node: ast.AST) -> Iterator[tuple[str, str]]:
    """Yield the attribute of a node: `owner.name`, or `"name"` of `patch.object(owner, "name")`."""
    match node:
        case ast.Attribute(value=ast.Name(id=owner), attr=name):
            yield owner, name
        case ast.Call(
            func=ast.Attribute(attr="object"), args=[ast.Name(id=owner), ast.Constant(name), *_]
        ):
            yield owner, str(name)


def attribute_of(module: str, name: str) -> object | None:
    """Return the object that `from module import name` would import, or None."""
    try:
        return getattr(importlib.import_module(module), name)
    except AttributeError:
        pass
    try:
        return importlib.import_module(f"{module}.{name}")
    except ModuleNotFoundError:
        return None
