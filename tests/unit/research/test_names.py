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


@pytest.mark.parametrize("name", SCRIPTS)
def test_a_script_can_be_imported(name, failures):
    message, missing_module = failures.get(name, ("", None))
    if missing_module and missing_module.split(".")[0] not in {"lesionlens", "research", "tests"}:
        pytest.skip(f"{missing_module} is not installed")
    assert not message


@pytest.mark.parametrize("script", SCRIPTS.values(), ids=SCRIPTS)
def test_what_a_script_takes_from_the_package_is_there(script):
    """Also inside functions, and in programs in strings, which an import does not reach."""
    missing = [name for tree in programs(script.read_text()) for name in missing_in(tree)]
    assert not missing


@pytest.mark.parametrize("script", SCRIPTS.values(), ids=SCRIPTS)
def test_a_script_that_can_be_run_reads_its_command_line(script):
    """So that --help prints its description and runs nothing."""
    text = script.read_text()
    assert "__main__" not in text or ".parse_args(" in text or "typer.run(" in text


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
